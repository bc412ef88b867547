package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"
)

// versionOnce sends another version in the metadata of this lie.
func (l *liar) versionOnce(version string) { l.version = version }

// certificateKey is the EK key inside the EK certificate, as PKIX DER.
func (e *evidence) certificateKey() ([]byte, error) {
	certificate, err := attest.ParseEKCertificate(e.ekCert)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(certificate.PublicKey)
}

func ed25519Key(string) (*botKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return botKeyOf(key)
}

func shortRSAKey(string) (*botKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		return nil, err
	}
	return botKeyOf(key)
}

// rejoinAs joins, and then again over mutual TLS with an attempt that change made dishonest. The
// note says what became of the instance.
func (l *liar) rejoinAs(service string, change func(l *liar, a *attempt) error) error {
	id, err := l.joinAgain(service, nil, nil)
	if err != nil {
		return errNotTold{err}
	}
	l.held = id
	next, err := l.joinAgain(service, id, change)
	if err != nil {
		return err
	}
	l.accepted = &next.facts
	l.note = fmt.Sprintf("instance kept: %t, generation %d, bot %s",
		next.facts.Instance == id.facts.Instance, next.facts.Generation, next.facts.Bot)
	return nil
}

// rejoinOnce uses the certificate that the host holds honestly.
func (l *liar) rejoinOnce() error {
	_, err := l.joinAgain(l.current, l.held, nil)
	return err
}

// joinAgain joins with this TPM: over mutual TLS if there is an identity.
func (l *liar) joinAgain(service string, id *identity, change func(l *liar, a *attempt) error) (*identity, error) {
	a := l.honestAttempt()
	defer a.close()
	a.attest = func() (*evidence, error) { return goAttestation(l.tpm, l.akAlg) }
	if change != nil {
		if err := change(l, a); err != nil {
			return nil, errNotTold{err}
		}
	}
	var connection *link
	var err error
	if id == nil {
		connection, err = l.anonymous()
	} else {
		connection, err = l.connectIdentity(l.authServer, id)
	}
	if err != nil {
		return nil, errNotTold{err}
	}
	defer connection.Close()
	return l.joinOn(service, connection, a)
}

// rejoinWithStranger joins with a client certificate of a CA that the authority does not know.
func rejoinWithStranger(l *liar, service string) error {
	stranger, err := newClusterCA("example.test", "localhost")
	if err != nil {
		return errNotTold{err}
	}
	key, err := newBotKey("balanced-v1")
	if err != nil {
		return errNotTold{err}
	}
	der, err := stranger.issueTLS(subject{
		user: "bot-test", roles: []string{"bot-test"}, bot: "test", instance: claimedInstance, generation: 1,
		notBefore: time.Now().Add(-backdate), notAfter: time.Now().Add(time.Hour),
	}, key.signer.Public())
	if err != nil {
		return errNotTold{err}
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return errNotTold{err}
	}
	id := &identity{leaf: leaf, key: key}
	config := l.identityTLS(id)
	config.InsecureSkipVerify = true
	connection, err := l.connect("identity", l.authServer, config, dialTCP)
	if err != nil {
		return errNotTold{err}
	}
	defer connection.Close()
	a := l.honestAttempt()
	a.attest = func() (*evidence, error) { return goAttestation(l.tpm, l.akAlg) }
	defer a.close()
	return l.joinAs(service, connection, a)
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
