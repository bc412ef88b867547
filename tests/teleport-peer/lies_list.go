package main

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/joinpb"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

const (
	denied  = "PermissionDenied"
	invalid = "InvalidArgument"
	unknown = "Unknown"
)

// both makes a lie that each service answers alike.
func both(name, must, after, code, text, what string) *lie {
	l := &lie{Name: name, What: what, Must: must, After: after, Services: []string{"legacy", "new"}}
	l.Teleport.Legacy, l.Teleport.New = &answer{code, text}, &answer{code, text}
	return l
}

func onlyNew(name, must, after, code, text, what string) *lie {
	l := both(name, must, after, code, text, what)
	l.Services, l.Teleport.Legacy = []string{"new"}, nil
	return l
}

// newAnswers sets what the new service answers where it differs.
func (l *lie) newAnswers(code, text string) *lie {
	l.Teleport.New = &answer{code, text}
	return l
}

func (l *lie) needing(flag string) *lie { l.Needs = flag; return l }

func (l *lie) with(apply func(l *liar, a *attempt) error) *lie { l.apply = apply; return l }

// edited changes each message that goes out.
func (l *lie) edited(edit func(message proto.Message) []proto.Message) *lie {
	return l.with(func(_ *liar, a *attempt) error {
		a.edit = edit
		return nil
	})
}

// lies returns all lies, in the order in which a join would meet the checks.
func lies() []*lie {
	var all []*lie
	for _, group := range [][]*lie{
		honestLies(), requestLies(), ekLies(), forgedLies(), tpmLies(), solutionLies(),
		orderLies(), bytesLies(), shapeLies(), keyLies(), expiryLies(), identityLies(),
	} {
		all = append(all, group...)
	}
	return all
}

func legacyOnly(l *lie) *lie {
	l.Services, l.Teleport.New = []string{"legacy"}, nil
	return l
}

// clientInit edits the first message of the new service.
func clientInit(change func(*joinpb.ClientInit)) func(proto.Message) []proto.Message {
	return func(message proto.Message) []proto.Message {
		if request, ok := message.(*joinpb.JoinRequest); ok && request.GetClientInit() != nil {
			change(request.GetClientInit())
		}
		return []proto.Message{message}
	}
}

// legacyRequest edits the first message of the legacy service.
func legacyRequest(change func(*authpb.RegisterUsingTPMMethodInitialRequest)) func(proto.Message) []proto.Message {
	return func(message proto.Message) []proto.Message {
		if request, ok := message.(*authpb.RegisterUsingTPMMethodRequest); ok && request.GetInit() != nil {
			change(request.GetInit())
		}
		return []proto.Message{message}
	}
}

// tpmInit edits the evidence of the new service.
func tpmInit(change func(*joinpb.TPMInit)) func(proto.Message) []proto.Message {
	return func(message proto.Message) []proto.Message {
		if request, ok := message.(*joinpb.JoinRequest); ok && request.GetTpmInit() != nil {
			change(request.GetTpmInit())
		}
		return []proto.Message{message}
	}
}

// alsoEdited edits the init of both services in addition to what the lie changes already.
func (l *lie) alsoEdited(legacy func(*authpb.RegisterUsingTPMMethodInitialRequest), newer func(*joinpb.TPMInit)) *lie {
	before := l.apply
	return l.with(func(who *liar, a *attempt) error {
		if before != nil {
			if err := before(who, a); err != nil {
				return err
			}
		}
		a.edit = func(message proto.Message) []proto.Message {
			if legacy != nil {
				message = legacyRequest(legacy)(message)[0]
			}
			if newer != nil {
				message = tpmInit(newer)(message)[0]
			}
			return []proto.Message{message}
		}
		return nil
	})
}

// changed edits what the TPM made before it goes out.
func (l *lie) changed(change func(l *liar, e *evidence) error) *lie {
	return l.with(func(who *liar, a *attempt) error {
		attest := a.attest
		a.attest = func() (*evidence, error) {
			e, err := attest()
			if err != nil {
				return nil, err
			}
			return e, change(who, e)
		}
		return nil
	})
}
