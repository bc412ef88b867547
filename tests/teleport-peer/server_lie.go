package main

import (
	"crypto"
	"time"

	"golang.org/x/crypto/ssh"
)

// serverLies are the lies of --server-lie.
var serverLies = []string{
	// About the server.
	"other-pin", "server-certificate-of-other-ca", "server-certificate-expired", "server-certificate-for-other-name",
	"upgraded-certificate-for-other-name",
	// About the ceremony.
	"unknown-suite", "other-method", "result-before-init", "result-before-challenge", "challenge-for-other-key",
	"corrupt-challenge", "challenge-without-length", "empty-challenge", "oversized-challenge", "second-challenge",
	"more-messages",
	// About what it issues.
	"no-certificates", "no-ca-certificates", "oversized-certificates", "ssh-key-for-certificate",
	"tls-certificate-for-other-key", "ssh-certificate-for-other-key", "expired-certificates", "other-ca",
	"issuer-without-organization", "no-common-name", "no-roles", "no-principals", "empty-principal",
	"malformed-traits", "malformed-generation", "malformed-join-attributes",
	"new-instance-at-rejoin", "generation-stays",
}

// lieAboutCAs changes the CAs and the server's certificate before the server starts.
func (s *server) lieAboutCAs() (err error) {
	ca, inside := s.ca, []string{clusterLocal, "*." + clusterLocal, "localhost"}
	switch s.lie {
	case "other-ca":
		// Certificates come from a CA that the client is not given.
		ca.userSigner, err = newSigner(s.cluster, "stranger")
	case "issuer-without-organization":
		ca.userSigner, err = newSigner("", "nameless")
	case "server-certificate-of-other-ca":
		ca.hostTLS, err = ca.web.serverCertificate(inside, time.Hour)
	case "server-certificate-expired":
		ca.hostTLS, err = ca.host.serverCertificate(inside, -time.Second)
	case "server-certificate-for-other-name":
		ca.hostTLS, err = ca.host.serverCertificate([]string{"localhost"}, time.Hour)
	}
	return err
}

// lieAboutBot changes what a bot's certificates say.
func (s *server) lieAboutBot(signed *subject) {
	replace := func(oid, value string) { signed.replaced = [2]string{oid, value} }
	switch s.lie {
	case "expired-certificates":
		signed.notBefore, signed.notAfter = signed.notBefore.Add(-2*time.Hour), signed.notBefore.Add(-time.Hour)
	case "no-common-name":
		signed.user = ""
	case "no-roles":
		signed.roles = nil
	case "no-principals":
		signed.principals = nil
	case "empty-principal":
		signed.principals = append(signed.principals, "")
	case "malformed-traits":
		replace(oidPostalCode, "no JSON")
	case "malformed-generation":
		replace(oidGeneration, "one")
	case "malformed-join-attributes":
		replace(oidJoinAttributes, "no JSON")
	}
}

// lieAboutKeys certifies a key that is not the client's.
func (s *server) lieAboutKeys(tlsKey crypto.PublicKey, sshKey ssh.PublicKey) (crypto.PublicKey, ssh.PublicKey, error) {
	stranger, err := newBotKey("balanced-v1")
	if err != nil {
		return nil, nil, err
	}
	switch s.lie {
	case "tls-certificate-for-other-key":
		tlsKey = stranger.signer.Public()
	case "ssh-certificate-for-other-key":
		sshKey, err = ssh.NewPublicKey(stranger.signer.Public())
	}
	return tlsKey, sshKey, err
}
