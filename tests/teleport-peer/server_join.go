package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-attestation/attest"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// caller is who makes a call, by its client certificate.
type caller struct {
	authenticated bool
	facts         identityFacts
}

// callerOf reads the verified client certificate of a connection.
func callerOf(ctx context.Context) (caller, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, nil
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return caller{}, nil
	}
	id := &identity{leaf: info.State.PeerCertificates[0]}
	if err := id.acceptSubject(); err != nil {
		return caller{}, accessDenied("client certificate: %v", err)
	}
	return caller{true, id.facts}, nil
}

// claim is what a host sends to prove its TPM; nil means that a field was not set.
type claim struct {
	ekCert, ekKey []byte
	hasCert       bool
	hasKey        bool
	parameters    attest.AttestationParameters
}

// challengeFunc sends a challenge to the host and returns its solution.
type challengeFunc func(blob, secret []byte) (solution []byte, err error)

// validateTPM checks a claim as Teleport does, with go-attestation. What it returns on success are
// the facts that the rules decide on.
func (s *server) validateTPM(c claim, roots *x509.CertPool, challenge challengeFunc) (ekFacts, bool, error) {
	facts, ek, verified, err := c.checkEK(roots)
	if err != nil {
		return facts, verified, accessDenied("validating TPM: %v", err)
	}
	blob, secret, wanted, err := s.makeChallenge(c, ek)
	if err != nil {
		return facts, verified, accessDenied("validating TPM: generating credential activation challenge: %v", err)
	}
	details := fields{"ek": facts, "credential_blob": len(blob), "secret": len(secret)}
	if ak, err := attest.ParseAKPublic(c.parameters.Public); err == nil {
		details["ak"] = keyAlgorithm(ak.Public)
	}
	s.log("challenge", details)
	solution, err := challenge(blob, secret)
	s.log("solution", fields{"bytes": len(solution), "correct": bytes.Equal(solution, wanted)})
	if err != nil {
		return facts, verified, accessDenied("validating TPM: asking client to perform credential activation: %s", statusText(err))
	}
	if subtle.ConstantTimeCompare(solution, wanted) != 1 {
		return facts, verified, accessDenied("validating TPM: invalid credential activation solution")
	}
	return facts, verified, nil
}

func statusText(err error) string {
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}

// checkEK finds out which EK the host claims. A certificate wins over a key.
func (c claim) checkEK(roots *x509.CertPool) (facts ekFacts, ek crypto.PublicKey, verified bool, err error) {
	if !c.hasCert && !c.hasKey {
		return facts, nil, false, errors.New("at least one of EKCert or EKKey must be provided")
	}
	var certificate *x509.Certificate
	switch {
	case len(c.ekCert) > 0:
		if certificate, err = attest.ParseEKCertificate(c.ekCert); err != nil {
			return facts, nil, false, fmt.Errorf("parsing EK cert: %w", err)
		}
		ek, facts.Serial = certificate.PublicKey, serialText(certificate.SerialNumber)
	case len(c.ekKey) > 0:
		if ek, err = x509.ParsePKIXPublicKey(c.ekKey); err != nil {
			return facts, nil, false, fmt.Errorf("parsing EK key: %w", err)
		}
	default:
		return facts, nil, false, errors.New("either EK cert or EK key must be provided")
	}
	spki, err := x509.MarshalPKIXPublicKey(ek)
	if err != nil {
		return facts, nil, false, fmt.Errorf("hashing EK: %w", err)
	}
	hash := sha256.Sum256(spki)
	facts.Hash = hex.EncodeToString(hash[:])
	facts.Algorithm = keyAlgorithm(ek)
	if roots == nil {
		return facts, ek, false, nil
	}
	if certificate == nil {
		return facts, ek, false, errors.New("tpm did not provide an EKCert to validate against allowed CAs")
	}
	if err := verifyEKCertificate(certificate, roots); err != nil {
		return facts, ek, false, err
	}
	return facts, ek, true, nil
}

// verifyEKCertificate takes the CAs as roots without intermediates. The critical subject
// alternative name of EK certificates, a directory name, is nothing that Go handles.
func verifyEKCertificate(certificate *x509.Certificate, roots *x509.CertPool) error {
	var unhandled []int
	for i, oid := range certificate.UnhandledCriticalExtensions {
		if !oid.Equal(oidOf("2.5.29.17")) {
			unhandled = append(unhandled, i)
		}
	}
	if len(unhandled) == 0 {
		certificate.UnhandledCriticalExtensions = nil
	}
	_, err := certificate.Verify(x509.VerifyOptions{
		Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("verifying EK cert: %w", err)
	}
	return nil
}

// makeChallenge checks the AK and makes a challenge for it and the EK.
func (s *server) makeChallenge(c claim, ek crypto.PublicKey) (blob, secret, wanted []byte, err error) {
	if s.requireAK == "rsa" && bytes.HasPrefix(c.parameters.Public, u16(algECC)) {
		return nil, nil, nil, errors.New("public key of alg 0x454343 not supported")
	}
	if s.lie == "challenge-for-other-key" {
		stranger, err := newBotKey("legacy")
		if err != nil {
			return nil, nil, nil, err
		}
		ek = stranger.signer.Public()
	}
	activation := attest.ActivationParameters{EK: ek, AK: c.parameters}
	wanted, credential, err := activation.Generate()
	if err != nil {
		return nil, nil, nil, err
	}
	blob, secret = credential.Credential, credential.Secret
	switch s.lie {
	case "corrupt-challenge":
		blob = bytes.Clone(blob)
		blob[len(blob)-1] ^= 1
	case "challenge-without-length":
		blob, secret = blob[2:], secret[2:]
	case "empty-challenge":
		blob, secret = nil, nil
	case "oversized-challenge":
		blob = append(bytes.Clone(blob), make([]byte, 3<<20)...)
	}
	return blob, secret, wanted, nil
}

// joinRequest is a join whose TPM was validated: what the certificates are made of.
type joinRequest struct {
	token    *tokenSpec
	caller   caller
	facts    ekFacts
	verified bool
	tls      crypto.PublicKey
	ssh      ssh.PublicKey
	expires  *time.Time
	service  string
}

// issue makes the certificates of a bot that may join.
func (s *server) issue(r joinRequest) (tlsDER []byte, sshCert *ssh.Certificate, err error) {
	bot := r.token.Spec.BotName
	instance, generation, err := s.nextInstance(bot, r.caller)
	if err != nil {
		return nil, nil, err
	}
	notBefore, notAfter := s.lifetime(r.expires)
	signed := subject{
		user: "bot-" + bot, roles: []string{"bot-" + bot}, bot: bot,
		instance: instance, generation: generation, principals: []string{internalJoin},
		attributes: joinAttributes(r), notBefore: notBefore, notAfter: notAfter,
	}
	s.lieAboutBot(&signed)
	tlsKey, sshKey, err := s.lieAboutKeys(r.tls, r.ssh)
	if err != nil {
		return nil, nil, err
	}
	if tlsDER, err = s.ca.issueTLS(signed, tlsKey); err != nil {
		return nil, nil, err
	}
	sshCert, err = s.ca.issueSSH(signed, sshKey)
	s.log("issued", fields{
		"service": r.service, "bot": bot, "instance": instance, "generation": generation,
		"not_after": notAfter.UTC(), "tls_key": keyAlgorithm(tlsKey),
		"ek": r.facts, "ek_cert_verified": r.verified, "renewal": r.caller.authenticated,
	})
	return tlsDER, sshCert, err
}

func joinAttributes(r joinRequest) any {
	tpm := map[string]any{"ek_pub_hash": r.facts.Hash}
	if r.facts.Serial != "" {
		tpm["ek_cert_serial"] = r.facts.Serial
	}
	if r.verified {
		tpm["ek_cert_verified"] = true
	}
	return map[string]any{
		"meta": map[string]string{"join_token_name": r.token.Metadata.Name, "join_method": methodTPM},
		"tpm":  tpm,
	}
}

// lifetime cuts what a client asks for to what the server gives.
func (s *server) lifetime(wanted *time.Time) (notBefore, notAfter time.Time) {
	now := time.Now()
	lifetime := min(time.Hour, s.maxTTL)
	if wanted != nil {
		lifetime = min(wanted.Sub(now), s.maxTTL)
	}
	return now.Add(-backdate), now.Add(lifetime)
}

// nextInstance continues the instance of the client certificate, or begins one. A generation that
// differs from the stored one is no error for the method tpm.
func (s *server) nextInstance(bot string, who caller) (string, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lie == "new-instance-at-rejoin" || !who.authenticated || who.facts.Bot != bot || who.facts.Instance == "" {
		raw := make([]byte, 16)
		if _, err := rand.Read(raw); err != nil {
			return "", 0, err
		}
		raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
		instance := fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
		s.instances[instance] = &botInstance{bot, 1}
		return instance, 1, nil
	}
	presented := who.facts.Generation
	if presented == 0 {
		return "", 0, accessDenied("a current identity generation must be provided")
	}
	known := s.instances[who.facts.Instance]
	if known == nil {
		return "", 0, accessDenied("renewable cert generation mismatch: stored=0, presented=%d", presented)
	}
	known.generation = presented + 1
	if s.lie == "generation-stays" {
		known.generation = presented
	}
	return who.facts.Instance, known.generation, nil
}

// clientVersion returns the version in the metadata; only exactly one value counts.
func clientVersion(ctx context.Context) string {
	incoming, _ := metadata.FromIncomingContext(ctx)
	if values := incoming.Get("version"); len(values) == 1 {
		return values[0]
	}
	return ""
}

func (s *server) checkClientVersion(ctx context.Context) error {
	text := clientVersion(ctx)
	if text == "" || s.minVersion == "" {
		return nil
	}
	least, err := parseSemver(s.minVersion)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if version, err := parseSemver(text); err != nil || version.less(least) {
		return accessDenied("client version is unsupported, minimum supported version is %s", s.minVersion)
	}
	return nil
}

func (s *server) checkEnterprise() error {
	if s.enterprise == "off" {
		return accessDenied("tpm joining: this feature requires Teleport Enterprise")
	}
	return nil
}

// parseKeys reads the keys to certify; ssh.Parse* has read one of them already.
func parseKeys(tlsDER []byte, sshKey ssh.PublicKey, sshErr error) (crypto.PublicKey, ssh.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(tlsDER)
	if err != nil {
		return nil, nil, status.Errorf(codes.Unknown, "parsing public TLS key: %v", err)
	}
	if sshErr != nil {
		return nil, nil, status.Errorf(codes.Unknown, "parsing public SSH key: %v", sshErr)
	}
	return key, sshKey, nil
}
