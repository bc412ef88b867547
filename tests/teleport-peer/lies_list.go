package main

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

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

// forged is evidence of a software AK whose challenge the host can open.
func forged(name, text string, ak softAK, what string) *lie {
	l := both(name, mustRefuse, "init", denied, text, what)
	l.soft, l.Solves = &ak, true
	return l
}

// made is evidence of an AK that a TPM makes, and can be challenged with.
func made(name, code, text string, template akTemplate, what string) *lie {
	l := both(name, mustRefuse, "init", code, text, what)
	l.raw, l.Solves = &rawAK{ek: "rsa", template: template}, true
	return l.needing("tpm")
}

// lies returns all lies, in the order in which a join would meet the checks.
func lies() []*lie {
	var all []*lie
	for _, group := range [][]*lie{
		honestLies(), requestLies(), ekLies(), forgedLies(), tpmLies(), solutionLies(),
		orderLies(), keyLies(), expiryLies(), identityLies(),
	} {
		all = append(all, group...)
	}
	return all
}

// honestLies must be accepted: they show that it is the lie that is refused elsewhere.
func honestLies() []*lie {
	software := both("none-software", mustAccept, "solution", "OK", "",
		"no lie: an honest join with the software EK that the token allows").needing("soft-ek")
	software.soft, software.Solves = &softAK{}, true
	raw := both("none-raw", mustAccept, "solution", "OK", "",
		"no lie: an honest join with an AK that this program made command by command").needing("tpm")
	raw.raw, raw.Solves = &rawAK{ek: "rsa"}, true
	return []*lie{
		both("none", mustAccept, "solution", "OK", "", "no lie: an honest join"),
		software,
		raw,
		both("unknown-fields", mustAccept, "solution", "OK", "",
			"an unknown field in every message, however deep").edited(addUnknownFields),
		both("no-version", mustAccept, "solution", "OK", "", "no version in the metadata").
			with(func(l *liar, _ *attempt) error { l.versionOnce(""); return nil }),
		both("old-version", mustEither, "solution", "OK", "", "a very old version in the metadata").
			with(func(l *liar, _ *attempt) error { l.versionOnce("1.0.0"); return nil }),
		onlyNew("no-join-method", mustAccept, "solution", "OK", "", "no join method in ClientInit").
			with(func(_ *liar, a *attempt) error { a.joinMethod = nil; return nil }),
	}
}

// requestLies are about token, role and method.
func requestLies() []*lie {
	return []*lie{
		both("token-empty", mustRefuse, "init", invalid, "missing parameter Token", "an empty token").
			newAnswers(invalid, "validating ClientInit message").
			with(func(_ *liar, a *attempt) error { a.token = ""; return nil }),
		both("token-unknown", mustRefuse, "init", denied, "token expired or not found", "a token that does not exist").
			with(func(_ *liar, a *attempt) error { a.token = "no-such-token"; return nil }),
		both("token-of-others", mustRefuse, "solution", denied,
			"validated tpm attributes did not match any allow rules", "a token that allows other TPMs only").
			needing("other-token").
			with(func(l *liar, a *attempt) error { a.token = l.otherToken; return nil }),
		both("role-node", mustRefuse, "init", invalid, "missing parameter HostID", "the role Node").
			newAnswers(invalid, "can not join the cluster, the token does not allow role").
			with(func(_ *liar, a *attempt) error { a.role = "Node"; return nil }),
		both("role-node-with-host-id", mustRefuse, "init", invalid, "the token does not allow", "the role Node, and a host ID").
			newAnswers(invalid, "can not join the cluster, the token does not allow role").
			with(func(_ *liar, a *attempt) error { a.role = "Node"; return nil }).
			alsoEdited(func(m *authpb.RegisterUsingTPMMethodInitialRequest) {
				m.JoinRequest.HostID = "0b4ad9a5-6a1c-4f7a-9a3e-6f7d3f1d2c11"
			}, nil),
		both("role-admin", mustRefuse, "init", invalid, "missing parameter HostID", "the role Admin").
			newAnswers(invalid, "can not join the cluster, the token does not allow role").
			with(func(_ *liar, a *attempt) error { a.role = "Admin"; return nil }),
		onlyNew("role-empty", mustRefuse, "client_init", invalid, "validating ClientInit message", "no role").
			with(func(_ *liar, a *attempt) error { a.role = ""; return nil }),
		onlyNew("join-method-mismatch", mustRefuse, "client_init", invalid,
			"provision token only supports method", "another join method than the token's").
			with(func(_ *liar, a *attempt) error { method := "iam"; a.joinMethod = &method; return nil }),
		onlyNew("proxy-parameters", mustRefuse, "client_init", denied,
			"client set ProxySuppliedParameters but did not authenticate as a proxy", "the parameters that a proxy supplies").
			edited(clientInit(func(init *joinpb.ClientInit) {
				init.ProxySuppliedParameters = &joinpb.ClientInit_ProxySuppliedParams{
					RemoteAddr: "192.0.2.1:1", ClientVersion: "18.5.0",
				}
			})),
		onlyNew("forwarded-by-proxy", mustRefuse, "client_init", invalid, "", "forwarded_by_proxy alone").
			edited(clientInit(func(init *joinpb.ClientInit) { init.ForwardedByProxy = true })),
		legacyOnly(both("claims-instance", mustEither, "solution", "OK", "",
			"a bot instance, a generation and a remote address that only a proxy may set; they must change nothing")).
			edited(legacyRequest(func(m *authpb.RegisterUsingTPMMethodInitialRequest) {
				m.JoinRequest.BotInstanceID = claimedInstance
				m.JoinRequest.PreviousBotInstanceID = claimedInstance
				m.JoinRequest.BotGeneration = 41
				m.JoinRequest.RemoteAddr = "192.0.2.1:1"
			})),
	}
}

const claimedInstance = "11111111-2222-4333-8444-555555555555"

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

// ekLies are about the EK.
func ekLies() []*lie {
	noEK := func(m *authpb.RegisterUsingTPMMethodInitialRequest) { m.Ek = nil }
	emptyKey := func(m *authpb.RegisterUsingTPMMethodInitialRequest) {
		m.Ek = &authpb.RegisterUsingTPMMethodInitialRequest_EkKey{EkKey: []byte{}}
	}
	return []*lie{
		both("ek-missing", mustRefuse, "init", denied,
			"validating TPM: at least one of EKCert or EKKey must be provided", "neither EK certificate nor EK key").
			alsoEdited(noEK, func(m *joinpb.TPMInit) { m.Ek = nil }),
		both("ek-empty", mustRefuse, "init", denied,
			"either EK cert or EK key must be provided", "an EK key of no bytes").
			alsoEdited(emptyKey, func(m *joinpb.TPMInit) { m.Ek = &joinpb.TPMInit_EkKey{EkKey: []byte{}} }),
		both("ek-both", mustEither, "solution", "OK", "",
			"both EK certificate and EK key of the same TPM on the wire: the last one counts").
			alsoEdited(appendEKKey, appendNewEKKey).keepingKey(),
		both("ek-key-not-der", mustRefuse, "init", denied, "parsing EK key", "an EK key that is not DER").
			changed(func(_ *liar, e *evidence) error {
				e.ekCert, e.ekKey = nil, []byte("not DER")
				return nil
			}),
		both("ek-cert-not-der", mustRefuse, "init", denied, "parsing EK cert", "an EK certificate that is not DER").
			changed(func(_ *liar, e *evidence) error { e.ekCert = []byte("not DER"); return nil }),
		both("ek-software", mustRefuse, "solution", denied, "validating TPM",
			"the AK of a TPM with a new software EK").
			changed(func(_ *liar, e *evidence) (err error) {
				key, err := newBotKey("legacy")
				if err != nil {
					return err
				}
				e.ekCert, e.ekKey = nil, key.tlsDER
				return guessing(e)
			}),
		both("ek-of-other-tpm", mustRefuse, "solution", denied, "validating TPM",
			"the AK of one TPM with the EK of another that is allowed").needing("other-tpm").
			with(func(l *liar, a *attempt) error {
				return crossed(l, a, l.tpm, l.otherTPM)
			}),
		both("ak-of-other-tpm", mustRefuse, "solution", denied, "validating TPM",
			"the EK of an allowed TPM with the AK of another").needing("other-tpm").
			with(func(l *liar, a *attempt) error {
				return crossed(l, a, l.otherTPM, l.tpm)
			}),
		both("ak-software", mustRefuse, "solution", denied, "invalid credential activation solution",
			"the EK of an allowed TPM with an AK made of software, faultless in every field").
			needing("tpm").with(softwareAK),
		both("ek-cert-self-made", mustEither, "solution", "OK", "",
			"a self-made certificate of the real EK with the serial of the real one: Teleport takes it where the token has no CAs and the rule matches").
			changed(selfMadeCertificate),
	}
}

// guessing answers a challenge that cannot be opened.
func guessing(e *evidence) error {
	e.activate = func([]byte, []byte) ([]byte, error) { return make([]byte, 32), nil }
	return nil
}

// crossed takes the AK from one TPM and the EK from another.
func crossed(l *liar, a *attempt, ak, ek string) error {
	other, err := goAttestation(ek, "rsa")
	if err != nil {
		return err
	}
	other.close()
	a.attest = func() (*evidence, error) {
		e, err := goAttestation(ak, l.akAlg)
		if err != nil {
			return nil, err
		}
		e.ekCert, e.ekKey = other.ekCert, other.ekKey
		return e, guessing(e)
	}
	return nil
}

// keepingKey remembers the EK key beside the certificate.
func (l *lie) keepingKey() *lie {
	before := l.apply
	return l.with(func(who *liar, a *attempt) error {
		attest := a.attest
		a.attest = func() (*evidence, error) {
			e, err := attest()
			if err == nil && e.ekCert == nil {
				err = errors.New("the TPM has no EK certificate")
			}
			return e, err
		}
		return before(who, a)
	})
}

// appendEKKey puts the key behind the certificate on the wire, as no Go client can: the field is
// carried as an unknown one of the same number.
func appendEKKey(m *authpb.RegisterUsingTPMMethodInitialRequest) {
	m.ProtoReflect().SetUnknown(ekKeyField(3, m.GetEkCert()))
}

func appendNewEKKey(m *joinpb.TPMInit) {
	m.ProtoReflect().SetUnknown(ekKeyField(7, m.GetEkCert()))
}

func ekKeyField(number protowire.Number, ekCert []byte) protoreflect.RawFields {
	e := evidence{ekCert: ekCert}
	key, _ := e.certificateKey()
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), key)
}

// selfMadeCertificate replaces the EK certificate by one of a new CA with the same serial number.
func selfMadeCertificate(_ *liar, e *evidence) error {
	if e.ekCert == nil {
		return errors.New("the TPM has no EK certificate")
	}
	real, err := x509.ParseCertificate(e.ekCert)
	if err != nil {
		return err
	}
	issuer, err := newSigner("EK CA", "self-made")
	if err != nil {
		return err
	}
	e.ekCert, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: real.SerialNumber,
		Subject:      pkix.Name{CommonName: "TPM"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageKeyEncipherment,
	}, issuer.certificate, real.PublicKey, issuer.key)
	return err
}

// forgedLies break one check of the evidence each.
func forgedLies() []*lie {
	const limited = "provided key is not limited to attestation"
	return []*lie{
		forged("wrong-magic", "magic", softAK{magic: 0xff544348},
			"an attestation that no TPM generated"),
		forged("wrong-attest-type", "", softAK{attestType: attestCertify},
			"an attestation of another type"),
		forged("not-fixed-tpm", "AK is exportable", softAK{template: akTemplate{clear: attrFixedTPM}},
			"an AK without fixedTPM"),
		forged("not-restricted", limited, softAK{template: akTemplate{clear: attrRestricted}},
			"an AK without restricted"),
		forged("not-fixed-parent", limited, softAK{template: akTemplate{clear: attrFixedParent}},
			"an AK without fixedParent"),
		forged("imported", limited, softAK{template: akTemplate{clear: attrSensitiveDataOrigin}},
			"an AK without sensitiveDataOrigin"),
		forged("decrypts", "", softAK{template: akTemplate{set: attrDecrypt}},
			"an AK with decrypt set beside sign; Teleport does not look at it").accepted(),
		forged("does-not-sign", "", softAK{template: akTemplate{clear: attrSign}},
			"an AK without sign; Teleport does not look at it").accepted(),
		forged("creation-hash-of-other-data", "attestation refers to different public key",
			softAK{creationOfElse: true}, "an attestation with the creation hash of other data"),
		forged("name-of-other-key", "creation attestation refers to a different key",
			softAK{nameOfElse: true}, "an attestation of another key"),
		forged("signed-by-other-key", "verify attestation",
			softAK{signedByElse: true}, "an attestation that another key signed"),
		forged("signature-too-short", "signature is too short to be valid",
			softAK{shortSignature: true}, "a signature of 4 bytes"),
		forged("ak-1024", "attestation key too small", softAK{template: akTemplate{bits: 1024}},
			"an AK of 1024 bits"),
		forged("ak-sha1-name", "", softAK{template: akTemplate{nameAlg: algSHA1}},
			"an AK whose name algorithm is SHA-1; go-attestation makes the challenge with it").accepted(),
		forged("ak-pss", "verify attestation", softAK{template: akTemplate{pss: true}},
			"an AK of the scheme RSAPSS"),
		forged("ak-ecc-off-curve", "", softAK{template: akTemplate{ecc: true}, offCurve: true},
			"an ECC AK whose point is not on the curve"),
		forged("trailing-public", "", softAK{trailing: []byte{0, 0}},
			"bytes after the public area, and not in the Name; Teleport ignores them").accepted(),
		forged("trailing-attestation", "verify attestation", softAK{trailingAttest: []byte{0}},
			"a byte after the attestation, and not signed"),
		forged("trailing-creation-data", "attestation refers to different public key", softAK{trailingData: []byte{0}},
			"a byte after the creation data, and not hashed"),
		forged("trailing-signature", "", softAK{trailingSig: []byte{0}},
			"a byte after the signature").accepted(),
	}
}

// accepted says that Teleport has no such check: the challenge is all that would stop the host, and
// the host of this lie can open it. A stricter authority refuses.
func (l *lie) accepted() *lie {
	l.Teleport.Legacy, l.Teleport.New = &answer{"OK", ""}, &answer{"OK", ""}
	l.After = "solution"
	return l
}

// tpmLies are about real keys of a real TPM, which opens the challenge for them.
func tpmLies() []*lie {
	const limited = "provided key is not limited to attestation"
	loaded := both("tpm-loaded-software-key", mustRefuse, "init", denied, "AK is exportable",
		"a key made of software and loaded into the TPM").needing("tpm").with(loadedSoftwareKey)
	loaded.Solves = true
	return []*lie{
		made("tpm-not-restricted", denied, limited, akTemplate{clear: attrRestricted},
			"a TPM's key that signs anything, so that its holder can forge attestations"),
		made("tpm-exportable", denied, "AK is exportable", akTemplate{clear: attrFixedTPM | attrFixedParent},
			"a TPM's key that may be duplicated to elsewhere"),
		loaded,
		made("tpm-ak-pss", denied, "verify attestation", akTemplate{pss: true},
			"a TPM's AK of the scheme RSAPSS; Teleport verifies PKCS#1 v1.5 only").orAccepted(),
		made("tpm-ak-sha1-name", denied, "validating TPM", akTemplate{nameAlg: algSHA1},
			"a TPM's AK whose name algorithm is SHA-1; the EK cannot open the challenge").orGuessed(),
	}
}

func (l *lie) orAccepted() *lie { l.Must = mustEither; return l }

// orGuessed answers with a guess where the TPM cannot open the challenge.
func (l *lie) orGuessed() *lie {
	l.Solves, l.After = false, "solution"
	return l.changed(func(_ *liar, e *evidence) error { return guessing(e) })
}

// solutionLies answer the challenge wrongly.
func solutionLies() []*lie {
	solving := func(name, text, what string, solution func([]byte) []byte) *lie {
		return both(name, mustRefuse, "solution", denied, text, what).
			with(func(_ *liar, a *attempt) error {
				solve := a.solve
				a.solve = func(e *evidence, blob, secret []byte) ([]byte, error) {
					correct, err := solve(e, blob, secret)
					if err != nil {
						return nil, errNotTold{err}
					}
					return solution(correct), nil
				}
				return nil
			})
	}
	const wrong = "invalid credential activation solution"
	last := func(s []byte) []byte { s[len(s)-1] ^= 1; return s }
	return []*lie{
		solving("solution-wrong", wrong, "a solution with one bit changed", last),
		solving("solution-empty", wrong, "a solution of no bytes", func([]byte) []byte { return nil }),
		solving("solution-cut", wrong, "all of the solution but its last byte",
			func(s []byte) []byte { return s[:len(s)-1] }),
		solving("solution-longer", wrong, "the solution and one byte more",
			func(s []byte) []byte { return append(s, 0) }),
		both("solution-of-other-join", mustRefuse, "solution", denied, wrong,
			"the solution of another join of the same TPM").with(replaySolution),
	}
}

// replaySolution keeps the solution of an honest join and sends it in the next.
func replaySolution(l *liar, a *attempt) error {
	var old []byte
	first := l.honestAttempt()
	first.attest = a.attest
	first.solve = func(e *evidence, blob, secret []byte) (solution []byte, err error) {
		old, err = e.activate(blob, secret)
		return old, err
	}
	connection, err := l.anonymous()
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = l.joinOn(l.current, connection, first)
	first.close()
	if err != nil {
		return err
	}
	a.solve = func(*evidence, []byte, []byte) ([]byte, error) { return bytes.Clone(old), nil }
	return nil
}

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
	field := protowire.AppendTag(nil, 4242, protowire.BytesType)
	m.SetUnknown(append(m.GetUnknown(), protowire.AppendBytes(field, []byte("from the future"))...))
	m.Range(func(descriptor protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if descriptor.Message() != nil && !descriptor.IsList() && !descriptor.IsMap() {
			addUnknown(value.Message())
		}
		return true
	})
}

// keyLies are about the public keys to certify.
func keyLies() []*lie {
	return []*lie{
		both("tls-key-unparsable", mustRefuse, "solution", unknown, "", "a TLS key that cannot be parsed").
			with(func(_ *liar, a *attempt) error {
				return withKey(a, func(key *botKey) {
					key.tlsDER, key.tlsPEM = []byte("no key"), []byte("no key")
				})
			}),
		both("ssh-key-unparsable", mustRefuse, "solution", unknown, "", "an SSH key that cannot be parsed").
			with(func(_ *liar, a *attempt) error {
				return withKey(a, func(key *botKey) {
					key.sshWire, key.sshLine = []byte("no key"), []byte("no key")
				})
			}),
		both("keys-differ", mustEither, "solution", "OK", "",
			"different keys for TLS and SSH; Teleport certifies both, and this client takes the TLS key's").
			with(func(_ *liar, a *attempt) error {
				other, err := newBotKey("balanced-v1")
				if err != nil {
					return err
				}
				return withKey(a, func(key *botKey) {
					key.sshWire, key.sshLine = other.sshWire, other.sshLine
				})
			}),
		both("key-ed25519", mustEither, "solution", "OK", "", "a key of an algorithm that no suite has").
			with(func(_ *liar, a *attempt) error { a.newKey = ed25519Key; return nil }),
		both("key-rsa-1024", mustEither, "solution", "OK", "", "an RSA key of 1024 bits").
			with(func(_ *liar, a *attempt) error { a.newKey = shortRSAKey; return nil }),
	}
}

// withKey changes the keys that the host sends.
func withKey(a *attempt, change func(*botKey)) error {
	a.newKey = func(suite string) (*botKey, error) {
		key, err := newBotKey(suite)
		if err == nil {
			change(key)
		}
		return key, err
	}
	return nil
}

// expiryLies are about the lifetime that the host asks for.
func expiryLies() []*lie {
	at := func(name, must, what string, expires *timestamppb.Timestamp) *lie {
		return both(name, must, "solution", "OK", "", what).
			with(func(_ *liar, a *attempt) error { a.expires = expires; return nil })
	}
	return []*lie{
		at("expires-absent", mustAccept, "no expiry: the server's default counts", nil),
		at("expires-far", mustAccept, "an expiry in 100 years: it is cut", timestamppb.New(time.Now().AddDate(100, 0, 0))),
		at("expires-past", mustEither, "an expiry an hour ago", timestamppb.New(time.Now().Add(-time.Hour))),
		at("expires-malformed", mustEither, "an expiry that is no time",
			&timestamppb.Timestamp{Seconds: 1 << 60, Nanos: -5}),
	}
}

// identityLies use a client certificate for what it does not say.
func identityLies() []*lie {
	rejoin := func(name, needs, what string, change func(l *liar, a *attempt) error) *lie {
		l := both(name, mustEither, "solution", "OK", "", what).needing(needs)
		l.run = func(who *liar, service string) error { return who.rejoinAs(service, change) }
		return l
	}
	stranger := both("rejoin-with-stranger-certificate", mustRefuse, "init", "Unavailable", "",
		"a re-join with a certificate that another CA signed").needing("auth-server")
	stranger.run = rejoinWithStranger
	return []*lie{
		rejoin("rejoin-from-other-tpm", "other-tpm",
			"a re-join with the client certificate of another host: Teleport keeps the certificate's instance; an authority that ties instances to TPMs must not",
			func(l *liar, a *attempt) error {
				a.attest = func() (*evidence, error) { return goAttestation(l.otherTPM, l.akAlg) }
				return nil
			}),
		rejoin("rejoin-for-other-bot", "bot-token",
			"a re-join with the token of another bot: it begins an instance of that bot, or is refused",
			func(l *liar, a *attempt) error { a.token = l.botToken; return nil }),
		rejoin("rejoin-with-old-generation", "auth-server",
			"a second re-join with the first certificate: for the method tpm, Teleport only logs the generation",
			func(l *liar, _ *attempt) error { return l.rejoinOnce() }),
		stranger,
	}
}
