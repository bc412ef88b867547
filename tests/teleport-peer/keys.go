package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/ssh"

	"teleport-peer/wire/authpb"
)

// botKey is the one key that a bot uses for TLS and for SSH.
type botKey struct {
	signer  crypto.Signer
	tlsDER  []byte // PKIX
	tlsPEM  []byte
	sshWire []byte
	sshLine []byte // authorized_keys
}

// newBotKey makes a key of the algorithm that the suite asks for.
func newBotKey(suite string) (*botKey, error) {
	var signer crypto.Signer
	var err error
	switch suite {
	case "", "legacy":
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	case "balanced-v1", "fips-v1", "hsm-v1":
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		err = fmt.Errorf("unknown signature algorithm suite %q", suite)
	}
	if err != nil {
		return nil, err
	}
	return botKeyOf(signer)
}

func botKeyOf(signer crypto.Signer) (*botKey, error) {
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	public, err := ssh.NewPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	return &botKey{
		signer:  signer,
		tlsDER:  der,
		tlsPEM:  pemOf("PUBLIC KEY", der),
		sshWire: public.Marshal(),
		sshLine: ssh.MarshalAuthorizedKey(public),
	}, nil
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func keyAlgorithm(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ecdsa-" + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "ed25519"
	default:
		return fmt.Sprintf("%T", key)
	}
}

// suiteNames are the texts of the suites in the order of their enum numbers.
var suiteNames = []string{"", "legacy", "balanced-v1", "fips-v1", "hsm-v1"}

// suiteText reads a suite as clients do: its short text or the name of the enum.
func suiteText(text string) (string, error) {
	for number, name := range suiteNames {
		if text == name || text == authpb.SignatureAlgorithmSuite(number).String() {
			return name, nil
		}
	}
	return "", fmt.Errorf("unknown signature algorithm suite %q", text)
}

func suiteOfNumber(number authpb.SignatureAlgorithmSuite) string {
	if int(number) < len(suiteNames) && number >= 0 {
		return suiteNames[number]
	}
	return fmt.Sprintf("number %d", number)
}
