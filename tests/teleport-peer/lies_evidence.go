package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/joinpb"
)

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
		both("ek-key-ed25519", mustRefuse, "init", denied, "generating credential activation challenge",
			"an EK key that cannot decrypt").
			changed(func(_ *liar, e *evidence) error {
				key, err := ed25519Key("")
				if err == nil {
					e.ekCert, e.ekKey = nil, key.tlsDER
				}
				return err
			}),
		both("ek-cert-padded", mustEither, "solution", "OK", "",
			"the EK certificate as some TPMs store it: with a header of 5 bytes before, and padding after it").
			changed(func(_ *liar, e *evidence) error {
				if e.ekCert == nil {
					return errors.New("the TPM has no EK certificate")
				}
				header := append([]byte{0x10, 0x01, 0x00}, u16(uint16(len(e.ekCert)))...)
				e.ekCert = append(append(header, e.ekCert...), make([]byte, 64)...)
				return nil
			}),
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
	return field(number, key)
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
		forged("under-other-parent", "", softAK{underOther: true},
			"an attestation whose signer is under another parent than the creation data say; Teleport does not look at it").accepted(),
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

// certificateKey is the EK key inside the EK certificate, as PKIX DER.
func (e *evidence) certificateKey() ([]byte, error) {
	certificate, err := attest.ParseEKCertificate(e.ekCert)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(certificate.PublicKey)
}

// loadedSoftwareKey is evidence of a key that was made outside and loaded into a TPM, which opens
// the challenge for it: only its attributes tell that the private key is known elsewhere.
func loadedSoftwareKey(l *liar, a *attempt) error {
	outside := softAK{template: akTemplate{
		clear: attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin | attrRestricted,
	}}
	a.attest = func() (*evidence, error) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		forged, err := outside.evidenceOf(key, nil)
		if err != nil {
			return nil, err
		}
		e, r, ek, err := openRaw(l.tpm, "rsa")
		if err != nil {
			return nil, err
		}
		ak, err := r.loadExternal(forged.public, key)
		if err != nil {
			e.close()
			return nil, err
		}
		e.public, e.createData = forged.public, forged.createData
		e.createAttestation, e.createSignature = forged.createAttestation, forged.createSignature
		e.activate = func(blob, secret []byte) ([]byte, error) { return r.activate(ak, ek, blob, secret) }
		return e, nil
	}
	return nil
}

// loadExternal loads both parts of a key that was made outside.
func (r *rawTPM) loadExternal(public []byte, key *rsa.PrivateKey) (tpm2.NamedHandle, error) {
	loaded, err := tpm2.LoadExternal{
		InPrivate: tpm2.New2B(tpm2.TPMTSensitive{
			SensitiveType: tpm2.TPMAlgRSA,
			Sensitive: tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgRSA,
				&tpm2.TPM2BPrivateKeyRSA{Buffer: key.Primes[0].Bytes()}),
		}),
		InPublic:  tpm2.BytesAs2B[tpm2.TPMTPublic](public),
		Hierarchy: tpm2.TPMRHNull,
	}.Execute(r.tpm)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("LoadExternal: %w", err)
	}
	r.loaded = append(r.loaded, loaded.ObjectHandle)
	return tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, nil
}

// softwareAK is a software AK beside the EK of a real TPM.
func softwareAK(l *liar, a *attempt) error {
	if l.tpm == "" {
		return errors.New("pass --tpm")
	}
	a.attest = func() (*evidence, error) {
		alone := &liar{client: &client{tpm: l.tpm}}
		return alone.softLie(softAK{})
	}
	return nil
}
