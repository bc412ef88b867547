package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
)

// What must come of a lie.
const (
	mustRefuse = "refused"
	mustAccept = "accepted"
	mustEither = "either" // nobody is harmed, and the facts do not say what Teleport does
)

// answer is what Teleport answers to a lie.
type answer struct {
	// Code is the gRPC code; OK if Teleport accepts.
	Code string `json:"code"`
	// Text is in the message of the status.
	Text string `json:"text"`
}

// lie is one thing that a hostile host says, everything else being honest.
type lie struct {
	Name string `json:"name"`
	What string `json:"what"`
	Must string `json:"must"`
	// After is the last message of the host before the answer: client_init, init or solution.
	After string `json:"after"`
	// Solves says that the host can open the challenge, so that only the broken check stops it.
	Solves bool `json:"solves"`
	// Needs names a flag without which the lie cannot be told.
	Needs string `json:"needs,omitempty"`
	// Services are the services that it can be told to.
	Services []string `json:"services"`
	Teleport struct {
		Legacy *answer `json:"legacy,omitempty"`
		New    *answer `json:"new,omitempty"`
	} `json:"teleport"`

	soft  *softAK                             // evidence of a software AK
	raw   *rawAK                              // evidence of a TPM's unusual AK
	apply func(l *liar, a *attempt) error     // any other change of the attempt
	run   func(l *liar, service string) error // a lie that takes more than one join
}

// liar tells lies to an authority.
type liar struct {
	*client
	otherTPM   string
	otherToken string
	botToken   string
	current    string // the service that is lied to
	note       string // what else came of the lie
	accepted   *identityFacts
	held       *identity // what a first join of this lie got
}

// lieFlag holds the flags of lying.
type lieFlag struct {
	name       string
	list       bool
	otherTPM   string
	otherToken string
	botToken   string
}

func lieFlags(set *flag.FlagSet) *lieFlag {
	f := &lieFlag{}
	set.StringVar(&f.name, "lie", "", "tell a lie, or all; to both services, or the one of --service")
	set.BoolVar(&f.list, "list-lies", false, "print the lies and what must come of them")
	set.StringVar(&f.otherTPM, "other-tpm", "", "a second TPM, for lies about whose evidence it is")
	set.StringVar(&f.otherToken, "other-token", "", "a token that exists, but does not allow this TPM")
	set.StringVar(&f.botToken, "bot-token", "", "a token of another bot that allows this TPM")
	return f
}

func (f *lieFlag) printList(out io.Writer) int {
	for _, l := range lies() {
		if err := writeJSON(out, l); err != nil {
			return 1
		}
	}
	return 0
}

// verdict is what came of one lie at one service.
type verdict struct {
	Lie        string  `json:"lie"`
	Service    string  `json:"service"`
	Must       string  `json:"must"`
	Outcome    string  `json:"outcome"` // accepted, refused, skipped or failed (before it was told)
	OK         bool    `json:"ok"`
	Code       string  `json:"code,omitempty"`
	Message    string  `json:"message,omitempty"`
	Challenged bool    `json:"challenged"`
	Solves     bool    `json:"solves"`
	Teleport   *answer `json:"teleport"`
	AsTeleport bool    `json:"as_teleport"`
	Note       string  `json:"note,omitempty"`
	// Identity is what the host got, if it was accepted.
	Identity *identityFacts `json:"identity,omitempty"`
}

// run tells the lies that were asked for and prints a verdict for each. It returns 1 if any came
// out otherwise than it must.
func (f *lieFlag) run(c *client, out io.Writer) int {
	l := &liar{client: c, otherTPM: f.otherTPM, otherToken: f.otherToken, botToken: f.botToken}
	services := []string{"legacy", "new"}
	if c.service != "" {
		services = []string{c.service}
	}
	verdicts := []verdict{}
	code := 0
	for _, one := range lies() {
		if f.name != "all" && f.name != one.Name {
			continue
		}
		for _, service := range services {
			if !one.appliesTo(service) {
				continue
			}
			v := l.tell(one, service)
			if !v.OK && v.Outcome != "skipped" {
				code = 1
			}
			verdicts = append(verdicts, v)
		}
	}
	if len(verdicts) == 0 {
		fmt.Fprintf(out, "unknown lie %q\n", f.name)
		return 2
	}
	writeJSON(out, verdicts)
	return code
}

func (l *lie) appliesTo(service string) bool {
	for _, s := range l.Services {
		if s == service {
			return true
		}
	}
	return false
}

// errNotTold marks what kept a host from lying.
type errNotTold struct{ error }

func (l *liar) tell(one *lie, service string) verdict {
	v := verdict{Lie: one.Name, Service: service, Must: one.Must, Solves: one.Solves}
	v.Teleport = one.Teleport.Legacy
	if service == "new" {
		v.Teleport = one.Teleport.New
	}
	if l.lacks(one.Needs) {
		v.Outcome, v.Message = "skipped", "pass --"+one.Needs
		return v
	}
	honestVersion := l.version
	defer func() { l.version = honestVersion }()
	l.current, l.note, l.accepted = service, "", nil
	a := l.honestAttempt()
	err := l.attemptLie(one, service, a)
	a.close()
	v.Challenged, v.Note, v.Identity = a.challenged, l.note, l.accepted
	var notTold errNotTold
	switch {
	case err == nil:
		v.Outcome, v.Code = "accepted", "OK"
	case errors.As(err, &notTold):
		v.Outcome, v.Message = "failed", err.Error()
	default:
		v.Outcome, v.Code, v.Message = "refused", codeOf(err), err.Error()
	}
	v.OK = v.Outcome == one.Must || one.Must == mustEither && v.Outcome != "failed"
	if v.Teleport != nil {
		v.AsTeleport = v.Code == v.Teleport.Code && contains(v.Message, v.Teleport.Text)
	}
	return v
}

func (l *liar) lacks(flag string) bool {
	switch flag {
	case "other-tpm":
		return l.otherTPM == "" || l.tpm == "" || l.authServer == ""
	case "auth-server":
		return l.authServer == "" || l.tpm == ""
	case "other-token":
		return l.otherToken == ""
	case "bot-token":
		return l.botToken == "" || l.tpm == "" || l.authServer == ""
	case "soft-ek":
		return l.softEK == ""
	case "tpm":
		return l.tpm == ""
	}
	return false
}

// attemptLie changes an honest attempt as the lie says and makes it.
func (l *liar) attemptLie(one *lie, service string, a *attempt) error {
	if one.soft != nil {
		a.attest = func() (*evidence, error) { return l.softLie(*one.soft) }
	} else if one.raw != nil {
		a.attest = func() (*evidence, error) { return l.rawLie(*one.raw) }
	} else if l.tpm != "" {
		// Lies that are not about the kind of key come from a real TPM where there is one.
		a.attest = func() (*evidence, error) { return goAttestation(l.tpm, l.akAlg) }
	}
	if one.apply != nil {
		if err := one.apply(l, a); err != nil {
			return errNotTold{err}
		}
	}
	attest := a.attest
	a.attest = func() (*evidence, error) {
		e, err := attest()
		if err != nil {
			err = errNotTold{err}
		}
		return e, err
	}
	if one.run != nil {
		return one.run(l, service)
	}
	connection, err := l.anonymous()
	if err != nil {
		return errNotTold{err}
	}
	defer connection.Close()
	return l.joinAs(service, connection, a)
}

// eccLie makes the AK of a lie an ECC one if that was asked for and the lie is not about RSA.
func (l *liar) eccLie(template akTemplate) akTemplate {
	template.ecc = template.ecc || l.akAlg == "ecc" && template.bits == 0 && !template.pss
	return template
}

func (l *liar) rawLie(ak rawAK) (*evidence, error) {
	ak.template = l.eccLie(ak.template)
	return rawEvidence(l.tpm, ak)
}

// softLie is a software AK with the software EK that the authority allows, or else with the TPM's
// EK, whose challenges nobody can open.
func (l *liar) softLie(ak softAK) (*evidence, error) {
	ak.template = l.eccLie(ak.template)
	if l.softEK != "" {
		return softEvidence(l.softEK, ak)
	}
	honest, err := goAttestation(l.tpm, "rsa")
	if err != nil {
		return nil, err
	}
	honest.close()
	e, err := ak.evidence(nil)
	if err != nil {
		return nil, err
	}
	e.ekCert, e.ekKey = honest.ekCert, honest.ekKey
	e.activate = func([]byte, []byte) ([]byte, error) { return make([]byte, 32), nil }
	return e, nil
}

// anonymous is a connection without client certificate.
func (l *liar) anonymous() (*link, error) {
	ctx := context.Background()
	if l.proxy != "" {
		return l.connectProxy(l.proxy)
	}
	return l.connectAuth(ctx, l.authServer)
}

func (l *liar) joinAs(service string, connection *link, a *attempt) error {
	id, err := l.joinOn(service, connection, a)
	if err == nil {
		l.accepted = &id.facts
	}
	return err
}

// joinOn joins through one service, with the key of the newer suites.
func (l *liar) joinOn(service string, connection *link, a *attempt) (*identity, error) {
	ctx := context.Background()
	if service == "legacy" {
		return l.joinLegacy(ctx, connection, a, "balanced-v1")
	}
	return l.joinNew(ctx, connection, a)
}
