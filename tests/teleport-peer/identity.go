package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// certificates are what a join or GenerateUserCerts returned, in the forms of the legacy service.
type certificates struct {
	ssh    []byte   // authorized_keys line
	tls    []byte   // PEM
	tlsCAs [][]byte // PEM each
	sshCAs [][]byte // authorized_keys lines
}

// identity is a set of certificates that passed the checks of a client, with their key.
type identity struct {
	certificates
	key   *botKey
	leaf  *x509.Certificate
	pool  *x509.CertPool
	facts identityFacts
}

// The attribute types of a bot certificate's subject.
const (
	oidRenewable      = "1.3.9999.1.13"
	oidGeneration     = "1.3.9999.1.14"
	oidNoReissue      = "1.3.9999.2.9"
	oidPreviousExpiry = "1.3.9999.2.12"
	oidBotName        = "1.3.9999.2.18"
	oidInstance       = "1.3.9999.2.20"
	oidJoinAttributes = "1.3.9999.2.21"
	oidPostalCode     = "2.5.4.17"
)

// acceptIdentity makes the checks that tbot makes after a join. Each failure names its check.
func acceptIdentity(key *botKey, c certificates) (*identity, error) {
	id := &identity{certificates: c, key: key, pool: x509.NewCertPool()}
	if err := id.acceptSSH(); err != nil {
		return nil, fmt.Errorf("SSH certificate: %w", err)
	}
	if err := id.acceptTLS(); err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	if err := id.acceptSubject(); err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	id.checkSignatures()
	return id, nil
}

func (id *identity) acceptSSH() error {
	if len(id.ssh) == 0 {
		return errors.New("missing")
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(id.ssh)
	if err != nil {
		return fmt.Errorf("not an authorized_keys line: %w", err)
	}
	certificate, ok := public.(*ssh.Certificate)
	if !ok {
		return fmt.Errorf("a key of type %s, not a certificate", public.Type())
	}
	if !bytes.Equal(certificate.Key.Marshal(), id.key.sshWire) {
		return errors.New("made for another key")
	}
	if len(certificate.ValidPrincipals) == 0 {
		return errors.New("no principals")
	}
	for _, principal := range certificate.ValidPrincipals {
		if principal == "" {
			return errors.New("an empty principal")
		}
	}
	f := &id.facts
	f.SSHKeyID, f.SSHPrincipals, f.SSHExtensions =
		certificate.KeyId, certificate.ValidPrincipals, certificate.Extensions
	f.SSHNotBefore = time.Unix(int64(certificate.ValidAfter), 0).UTC()
	f.SSHNotAfter = time.Unix(int64(certificate.ValidBefore), 0).UTC()
	f.SSHCAs = len(id.sshCAs)
	for _, line := range id.sshCAs {
		ca, _, _, _, err := ssh.ParseAuthorizedKey(line)
		if err != nil {
			return fmt.Errorf("CA key is not an authorized_keys line: %w", err)
		}
		if bytes.Equal(ca.Marshal(), certificate.SignatureKey.Marshal()) {
			checker := ssh.CertChecker{}
			f.SSHVerified = checker.CheckCert(certificate.ValidPrincipals[0], certificate) == nil
		}
	}
	return nil
}

func (id *identity) acceptTLS() error {
	leaf, err := parseCertificatePEM(id.tls)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	if err != nil || !bytes.Equal(der, id.key.tlsDER) {
		return errors.New("made for another key")
	}
	if len(id.tlsCAs) == 0 {
		return errors.New("no CA certificates returned")
	}
	for i, text := range id.tlsCAs {
		ca, err := parseCertificatePEM(text)
		if err != nil {
			return fmt.Errorf("CA certificate %d: %w", i, err)
		}
		id.pool.AddCert(ca)
		id.facts.TLSCAs = append(id.facts.TLSCAs, ca.Subject.String())
	}
	id.leaf = leaf
	return nil
}

func (id *identity) acceptSubject() error {
	leaf, f := id.leaf, &id.facts
	if len(leaf.Issuer.Organization) == 0 || leaf.Issuer.Organization[0] == "" {
		return errors.New("certificate missing CA organization")
	}
	f.Cluster = leaf.Issuer.Organization[0]
	f.User, f.Roles = leaf.Subject.CommonName, leaf.Subject.Organization
	if f.User == "" {
		return errors.New("no common name")
	}
	if len(f.Roles) == 0 || f.Roles[0] == "" {
		return errors.New("no role in the organization")
	}
	f.Subject = map[string][]string{}
	for _, name := range leaf.Subject.Names {
		value, ok := name.Value.(string)
		if !ok {
			return fmt.Errorf("subject attribute %s is not a string", name.Type)
		}
		if err := f.acceptAttribute(name.Type.String(), value); err != nil {
			return fmt.Errorf("subject attribute %s: %w", name.Type, err)
		}
	}
	f.Key = keyAlgorithm(leaf.PublicKey)
	f.NotBefore, f.NotAfter = leaf.NotBefore, leaf.NotAfter
	f.ExtKeyUsage = leaf.ExtKeyUsage
	return nil
}

func (f *identityFacts) acceptAttribute(oid, value string) (err error) {
	f.Subject[oid] = append(f.Subject[oid], value)
	switch oid {
	case oidRenewable:
		f.Renewable = value == "true"
	case oidGeneration:
		f.Generation, err = strconv.Atoi(value)
	case oidPreviousExpiry:
		_, err = time.Parse(time.RFC3339, value)
	case oidBotName:
		f.Bot = value
	case oidInstance:
		f.Instance = value
	case oidJoinAttributes:
		var object map[string]any
		err = json.Unmarshal([]byte(value), &object)
		f.JoinAttributes = json.RawMessage(value)
	case oidPostalCode:
		var traits map[string][]string
		err = json.Unmarshal([]byte(value), &traits)
	}
	if err != nil {
		f.JoinAttributes = nil
	}
	return err
}

// checkSignatures records what tbot does not check: whether the certificate chains to the CAs.
func (id *identity) checkSignatures() {
	_, err := id.leaf.Verify(x509.VerifyOptions{
		Roots:     id.pool,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	id.facts.ChainVerified = err == nil
}

func (id *identity) tlsCertificate() tls.Certificate {
	return tls.Certificate{
		Certificate: [][]byte{id.leaf.Raw},
		PrivateKey:  crypto.PrivateKey(id.key.signer),
		Leaf:        id.leaf,
	}
}

// readIdentity takes what write left, as a bot that is started again.
func readIdentity(dir, token string) (*identity, error) {
	files := map[string][]byte{}
	for _, name := range []string{"key", "key-cert.pub", "tlscert", "tlscacerts", "sshcacerts", "tokenhash"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = content
	}
	if string(files["tokenhash"]) != tokenHash(token) {
		return nil, errors.New("the stored identity is of another token")
	}
	block, _ := pem.Decode(files["key"])
	if block == nil {
		return nil, errors.New("stored key is not PEM")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("stored key cannot sign")
	}
	key, err := botKeyOf(signer)
	if err != nil {
		return nil, err
	}
	return acceptIdentity(key, certificates{
		ssh: files["key-cert.pub"], tls: files["tlscert"],
		tlsCAs: split(files["tlscacerts"]), sshCAs: split(files["sshcacerts"]),
	})
}

// split takes a file apart that a bot joined with dollar signs.
func split(content []byte) [][]byte {
	if len(content) == 0 {
		return nil
	}
	return bytes.Split(content, []byte("$"))
}

// tokenHash tells whether a stored identity belongs to a token.
func tokenHash(token string) string {
	hash := sha256.Sum256([]byte(token))
	return hex.EncodeToString(hash[:])
}

// write leaves the files of a bot's storage directory.
func (id *identity) write(dir, token string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(id.key.signer)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"key":          pemOf("PRIVATE KEY", pkcs8),
		"key.pub":      id.key.sshLine,
		"key-cert.pub": id.ssh,
		"tlscert":      id.tls,
		"tlscacerts":   bytes.Join(id.tlsCAs, []byte("$")),
		"sshcacerts":   bytes.Join(id.sshCAs, []byte("$")),
		"tokenhash":    []byte(tokenHash(token)),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// parseCertificatePEM reads the first block, as clients do.
func parseCertificatePEM(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}
