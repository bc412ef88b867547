package main

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/joinpb"
)

// orderLies send another message than the one whose turn it is.
func orderLies() []*lie {
	legacySolution := func() proto.Message {
		return &authpb.RegisterUsingTPMMethodRequest{
			Payload: &authpb.RegisterUsingTPMMethodRequest_ChallengeResponse{
				ChallengeResponse: &authpb.RegisterUsingTPMMethodChallengeResponse{Solution: make([]byte, 32)},
			},
		}
	}
	return []*lie{
		both("solution-first", mustRefuse, "init", invalid, "expected non-nil Init payload",
			"a solution in place of the first message").
			newAnswers(invalid, "expected client to send message of type").
			edited(func(m proto.Message) []proto.Message {
				if isFirst(m) {
					return []proto.Message{sameService(m, legacySolution(), newSolution(make([]byte, 32)))}
				}
				return []proto.Message{m}
			}),
		both("init-twice", mustRefuse, "solution", denied, "expected non-nil ChallengeResponse payload",
			"the evidence again in place of the solution").
			newAnswers(denied, "expected client to send message of type").
			with(repeatInit),
		both("empty-message", mustRefuse, "init", invalid, "expected non-nil Init payload",
			"a message without payload in place of the first").
			newAnswers(invalid, "").
			edited(func(m proto.Message) []proto.Message {
				if isFirst(m) {
					return []proto.Message{sameService(m, &authpb.RegisterUsingTPMMethodRequest{}, &joinpb.JoinRequest{})}
				}
				return []proto.Message{m}
			}),
		onlyNew("giving-up-first", mustRefuse, "client_init", unknown, "client gave up on join attempt", "giving_up in place of the evidence").
			edited(func(m proto.Message) []proto.Message {
				if m.(*joinpb.JoinRequest).GetTpmInit() != nil {
					return []proto.Message{newGivingUp("changed my mind")}
				}
				return []proto.Message{m}
			}),
		onlyNew("giving-up", mustRefuse, "solution", denied, "client gave up on join attempt", "giving_up in place of the solution").
			edited(func(m proto.Message) []proto.Message {
				if m.(*joinpb.JoinRequest).GetSolution() != nil {
					return []proto.Message{newGivingUp("activation failed")}
				}
				return []proto.Message{m}
			}),
		onlyNew("token-init", mustRefuse, "init", invalid, "expected client to send message of type",
			"the first message of another join method").
			edited(func(m proto.Message) []proto.Message {
				if m.(*joinpb.JoinRequest).GetTpmInit() != nil {
					return []proto.Message{&joinpb.JoinRequest{
						Payload: &joinpb.JoinRequest_TokenInit{TokenInit: &joinpb.TokenInit{Secret: "secret"}},
					}}
				}
				return []proto.Message{m}
			}),
	}
}

// isSolution tells whether a message is the last of the host.
func isSolution(m proto.Message) bool {
	switch m := m.(type) {
	case *authpb.RegisterUsingTPMMethodRequest:
		return m.GetChallengeResponse() != nil
	case *joinpb.JoinRequest:
		return m.GetSolution() != nil
	}
	return false
}

// raw is a message of these bytes, whatever they are: unknown fields go out as they are.
func raw(like proto.Message, content []byte) []proto.Message {
	m := like.ProtoReflect().New()
	m.SetUnknown(content)
	return []proto.Message{m.Interface()}
}

// field is a length-delimited field.
func field(number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// bytesLies are messages that are no messages. The facts do not say what Teleport answers.
func bytesLies() []*lie {
	first := func(name, what string, legacy, newer []byte) *lie {
		l := both(name, mustRefuse, "init", "", "", what).edited(func(m proto.Message) []proto.Message {
			if !isFirst(m) {
				return []proto.Message{m}
			}
			if _, ok := m.(*joinpb.JoinRequest); ok {
				return raw(m, newer)
			}
			return raw(m, legacy)
		})
		l.Teleport.Legacy, l.Teleport.New = nil, nil
		return l
	}
	notText := []byte{0xff, 0xfe}
	return []*lie{
		first("malformed-message", "a field that is longer than its message",
			[]byte{0x0a, 0xff, 0x7f, 0}, []byte{0x0a, 0xff, 0x7f, 0}),
		first("malformed-text", "a token that is not UTF-8",
			field(1, field(1, append(field(3, []byte(roleBot)), field(4, notText)...))),
			field(1, append(field(2, notText), field(3, []byte(roleBot))...))),
		both("hang-up", mustRefuse, "solution", denied, "validating TPM", "the end of the stream in place of the solution").
			edited(func(m proto.Message) []proto.Message {
				if isSolution(m) {
					return nil
				}
				return []proto.Message{m}
			}),
		both("message-after-solution", mustEither, "solution", "OK", "", "the solution twice").
			edited(func(m proto.Message) []proto.Message {
				if isSolution(m) {
					return []proto.Message{m, m}
				}
				return []proto.Message{m}
			}),
	}
}

// shapeLies leave parts of a message out, or make it too large.
func shapeLies() []*lie {
	return []*lie{
		legacyOnly(both("no-join-request", mustRefuse, "init", invalid,
			"expected JoinRequest in RegisterUsingTPMMethodRequest_Init, got nil", "evidence without a request")).
			edited(legacyRequest(func(m *authpb.RegisterUsingTPMMethodInitialRequest) { m.JoinRequest = nil })),
		both("no-attestation", mustRefuse, "init", denied, "validating TPM", "no attestation parameters").
			alsoEdited(
				func(m *authpb.RegisterUsingTPMMethodInitialRequest) { m.AttestationParams = nil },
				func(m *joinpb.TPMInit) {
					m.Public, m.CreateData, m.CreateAttestation, m.CreateSignature = nil, nil, nil, nil
				}),
		onlyNew("no-client-params", mustRefuse, "init", invalid, "", "evidence without client_params").
			edited(tpmInit(func(m *joinpb.TPMInit) { m.ClientParams = nil })),
		onlyNew("host-params", mustRefuse, "solution", invalid, "BotParams is required to join as a Bot",
			"host_params in place of bot_params").
			edited(tpmInit(func(m *joinpb.TPMInit) {
				bot := m.ClientParams.GetBotParams()
				m.ClientParams.Payload = &joinpb.ClientParams_HostParams{
					HostParams: &joinpb.HostParams{PublicKeys: bot.PublicKeys, HostName: "host"},
				}
			})),
		both("oversized", mustRefuse, "init", "ResourceExhausted", "", "evidence of more than 4 MiB").
			changed(func(_ *liar, e *evidence) error {
				e.createData = append(bytes.Clone(e.createData), make([]byte, 5<<20)...)
				return nil
			}),
		both("large", mustRefuse, "init", denied, "validating TPM", "a signature of 1 MiB").
			changed(func(_ *liar, e *evidence) error {
				e.createSignature = append(bytes.Clone(e.createSignature), make([]byte, 1<<20)...)
				e.createSignature[4], e.createSignature[5] = 0xff, 0xff
				return nil
			}),
	}
}

func isFirst(m proto.Message) bool {
	switch m := m.(type) {
	case *authpb.RegisterUsingTPMMethodRequest:
		return m.GetInit() != nil
	case *joinpb.JoinRequest:
		return m.GetClientInit() != nil
	}
	return false
}

// sameService picks the message of the service that m belongs to.
func sameService(m, legacy, newer proto.Message) proto.Message {
	if _, ok := m.(*authpb.RegisterUsingTPMMethodRequest); ok {
		return legacy
	}
	return newer
}

// repeatInit sends the evidence in place of the solution.
func repeatInit(_ *liar, a *attempt) error {
	var init proto.Message
	a.edit = func(m proto.Message) []proto.Message {
		switch message := m.(type) {
		case *authpb.RegisterUsingTPMMethodRequest:
			if message.GetChallengeResponse() != nil {
				m = init
			}
		case *joinpb.JoinRequest:
			if message.GetSolution() != nil {
				m = init
			}
		}
		init = m
		return []proto.Message{m}
	}
	return nil
}

// addUnknownFields adds a field of a high number to a message and to each one inside it.
func addUnknownFields(message proto.Message) []proto.Message {
	message = proto.Clone(message)
	addUnknown(message.ProtoReflect())
	return []proto.Message{message}
}

func addUnknown(m protoreflect.Message) {
	m.SetUnknown(append(m.GetUnknown(), field(4242, []byte("from the future"))...))
	m.Range(func(descriptor protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if descriptor.Message() != nil && !descriptor.IsList() && !descriptor.IsMap() {
			addUnknown(value.Message())
		}
		return true
	})
}
