package main

import (
	"crypto/x509"
	"fmt"
	"time"
)

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
