package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/google/go-attestation/attest"
)

// evidence is what a host sends to prove which TPM it has, and the means to answer the challenge.
type evidence struct {
	public            []byte // TPMT_PUBLIC
	createData        []byte // TPMS_CREATION_DATA
	createAttestation []byte // TPMS_ATTEST
	createSignature   []byte // TPMT_SIGNATURE
	ekCert            []byte // X.509, DER
	ekKey             []byte // PKIX, DER
	activate          func(credentialBlob, secret []byte) ([]byte, error)
	close             func()
	commands          func() int
}

// goAttestation attests as tbot does: with go-attestation, a new AK, and the first EK.
func goAttestation(tpmAddress, akAlg string) (*evidence, error) {
	channel, err := openTPM(tpmAddress)
	if err != nil {
		return nil, err
	}
	tpm, err := attest.OpenTPM(&attest.OpenConfig{CommandChannel: channel})
	if err != nil {
		channel.Close()
		return nil, err
	}
	e, err := attestWith(tpm, akAlg)
	if err != nil {
		tpm.Close()
		return nil, err
	}
	e.commands = func() int { return channel.commands }
	return e, nil
}

func attestWith(tpm *attest.TPM, akAlg string) (*evidence, error) {
	eks, err := tpm.EKs()
	if err != nil {
		return nil, fmt.Errorf("querying EKs: %w", err)
	}
	if len(eks) == 0 {
		return nil, errors.New("no endorsement keys found in tpm")
	}
	config := &attest.AKConfig{Algorithm: attest.RSA}
	if akAlg == "ecc" {
		config.Algorithm = attest.ECDSA
	}
	ak, err := tpm.NewAK(config)
	if err != nil {
		return nil, fmt.Errorf("creating ak: %w", err)
	}
	parameters := ak.AttestationParameters()
	e := &evidence{
		public:            parameters.Public,
		createData:        parameters.CreateData,
		createAttestation: parameters.CreateAttestation,
		createSignature:   parameters.CreateSignature,
	}
	if eks[0].Certificate != nil {
		e.ekCert = eks[0].Certificate.Raw
	} else if e.ekKey, err = x509.MarshalPKIXPublicKey(eks[0].Public); err != nil {
		return nil, err
	}
	e.activate = func(blob, secret []byte) ([]byte, error) {
		return ak.ActivateCredential(tpm, attest.EncryptedCredential{Credential: blob, Secret: secret})
	}
	// tbot leaves the AK to the kernel's resource manager, which a raw socket does not have.
	e.close = func() { ak.Close(tpm); tpm.Close() }
	return e, nil
}

// ekFacts are what the allow rules of a token look at.
type ekFacts struct {
	Hash      string `json:"ek_public_hash"`
	Serial    string `json:"ek_certificate_serial,omitempty"`
	Algorithm string `json:"ek_algorithm,omitempty"`
}

func (e *evidence) ekFacts() (ekFacts, error) {
	spki := e.ekKey
	var facts ekFacts
	if e.ekCert != nil {
		certificate, err := attest.ParseEKCertificate(e.ekCert)
		if err != nil {
			return facts, err
		}
		facts.Serial = serialText(certificate.SerialNumber)
		if spki, err = x509.MarshalPKIXPublicKey(certificate.PublicKey); err != nil {
			return facts, err
		}
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return facts, err
	}
	hash := sha256.Sum256(spki)
	facts.Hash = hex.EncodeToString(hash[:])
	facts.Algorithm = keyAlgorithm(key)
	return facts, nil
}

// serialText writes a serial number as tokens have it: bytes in lower-case hexadecimal, joined by
// colons, without a sign byte.
func serialText(serial *big.Int) string {
	digits := serial.Text(16)
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	var parts []string
	for i := 0; i < len(digits); i += 2 {
		parts = append(parts, digits[i:i+2])
	}
	return strings.Join(parts, ":")
}
