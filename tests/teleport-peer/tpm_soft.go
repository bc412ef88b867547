package main

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/google/go-tpm/tpm2"
)

// TPM_GENERATED, TPM_ST and TPM_RH_OWNER (Part 2, 6.2, 6.9 and 7.4).
const (
	generatedMagic = 0xff544347
	attestCreation = 0x801A
	attestCertify  = 0x8017
	ownerHierarchy = 0x40000001
)

// softAK is the evidence of a TPM made of software. Its zero value is honest in every field; each
// other field breaks one thing and keeps everything else consistent.
type softAK struct {
	template       akTemplate
	magic          uint32
	attestType     uint16
	creationOfElse bool // the attested creation hash is that of other data
	nameOfElse     bool // the attested Name is that of another key
	signedByElse   bool
	underOther     bool // the Qualified Name of the signer is not under the parent of the creation data
	shortSignature bool
	offCurve       bool   // the point of an ECC key is not on the curve
	trailing       []byte // after the public area, and part of nothing else
	trailingData   []byte // after the creation data, and not hashed
	trailingAttest []byte // after the attestation, and not signed
	trailingSig    []byte // after the signature
}

// softEvidence attests with the software EK in the file at path, which it makes if absent.
func softEvidence(path string, wanted softAK) (*evidence, error) {
	ek, err := softEK(path)
	if err != nil {
		return nil, err
	}
	e, err := wanted.evidence(ek)
	if err != nil {
		return nil, err
	}
	e.ekKey, err = x509.MarshalPKIXPublicKey(ek.Public())
	return e, err
}

func softEK(path string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newSoftEK(path)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: not PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if key, ok := parsed.(*rsa.PrivateKey); ok {
		return key, nil
	}
	return nil, fmt.Errorf("%s: not an RSA key", path)
}

func newSoftEK(path string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(path, pemOf("PRIVATE KEY", der), 0o600)
}

// evidence is made with a new AK. ek opens the challenge; without one nothing does.
func (s softAK) evidence(ek *rsa.PrivateKey) (*evidence, error) {
	ak, err := s.template.newKey()
	if err != nil {
		return nil, err
	}
	return s.evidenceOf(ak, ek)
}

func (s softAK) evidenceOf(ak crypto.Signer, ek *rsa.PrivateKey) (*evidence, error) {
	public := s.template.publicOf(ak.Public())
	if s.offCurve {
		public[len(public)-1] ^= 1
	}
	createData := s.creationData()
	attestation := s.attestation(public, createData)
	signature, err := s.sign(ak, attestation)
	if err != nil {
		return nil, err
	}
	name := s.template.name(public)
	return &evidence{
		public:            append(public, s.trailing...),
		createData:        append(createData, s.trailingData...),
		createAttestation: append(attestation, s.trailingAttest...),
		createSignature:   append(signature, s.trailingSig...),
		activate: func(blob, secret []byte) ([]byte, error) {
			if ek == nil {
				return nil, errors.New("no TPM holds this AK")
			}
			return softActivate(ek, s.template.hash(), name, blob, secret)
		},
		close: func() {},
	}, nil
}

// softParent is the storage key that the AK claims to be under, by its Name; it is a primary of the
// owner's hierarchy.
type softParent struct{ name, qualifiedName []byte }

func newSoftParent() softParent {
	name := sha256.Sum256([]byte("storage key of a software TPM"))
	parent := softParent{name: append(u16(algSHA256), name[:]...)}
	parent.qualifiedName = akTemplate{}.qualifiedName(u32(ownerHierarchy), parent.name)
	return parent
}

// qualifiedName binds a Name to the Qualified Name of its parent (Part 1, 16).
func (t akTemplate) qualifiedName(parent, name []byte) []byte {
	return append(u16(t.hashAlg()), t.digest(append(bytes.Clone(parent), name...))...)
}

// creationData is a TPMS_CREATION_DATA for a key under the storage key.
func (s softAK) creationData() []byte {
	parent := newSoftParent()
	out := u32(0) // no PCR
	out = append(out, tpm2b(s.template.digest(nil))...)
	out = append(out, 1) // locality zero
	out = append(out, u16(algSHA256)...)
	out = append(out, tpm2b(parent.name)...)
	out = append(out, tpm2b(parent.qualifiedName)...)
	return append(out, tpm2b(nil)...)
}

// attestation is a TPMS_ATTEST about the creation of the AK.
func (s softAK) attestation(public, createData []byte) []byte {
	own := public
	magic, kind := uint32(generatedMagic), uint16(attestCreation)
	if s.magic != 0 {
		magic = s.magic
	}
	if s.attestType != 0 {
		kind = s.attestType
	}
	if s.nameOfElse {
		public = append(bytes.Clone(public), 0)
	}
	if s.creationOfElse {
		createData = append([]byte("else"), createData...)
	}
	signer := s.template.qualifiedName(newSoftParent().qualifiedName, s.template.name(own))
	if s.underOther {
		signer = s.template.qualifiedName(u32(ownerHierarchy), s.template.name(own))
	}
	out := append(u32(magic), u16(kind)...)
	out = append(out, tpm2b(signer)...)
	out = append(out, tpm2b(nil)...)
	clock := make([]byte, 17) // clock, resetCount, restartCount, safe
	clock[16] = 1
	out = append(out, clock...)
	out = append(out, make([]byte, 8)...) // firmwareVersion
	out = append(out, tpm2b(s.template.name(public))...)
	return append(out, tpm2b(s.template.digest(createData))...)
}

// sign makes the TPMT_SIGNATURE.
func (s softAK) sign(ak crypto.Signer, attestation []byte) ([]byte, error) {
	if s.shortSignature {
		return append(u16(algRSASSA), u16(algSHA256)...), nil
	}
	signer := ak
	if s.signedByElse {
		var err error
		if signer, err = s.template.newKey(); err != nil {
			return nil, err
		}
	}
	digest := sha256.Sum256(attestation)
	if key, ok := signer.(*ecdsa.PrivateKey); ok {
		r, t, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			return nil, err
		}
		out := append(u16(algECDSA), u16(algSHA256)...)
		out = append(out, tpm2b(r.FillBytes(make([]byte, 32)))...)
		return append(out, tpm2b(t.FillBytes(make([]byte, 32)))...), nil
	}
	scheme := uint16(algRSASSA)
	var options crypto.SignerOpts = crypto.SHA256
	if s.template.pss {
		scheme = algRSAPSS
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	signature, err := signer.Sign(rand.Reader, digest[:], options)
	if err != nil {
		return nil, err
	}
	return append(append(u16(scheme), u16(algSHA256)...), tpm2b(signature)...), nil
}

// softActivate does in software what TPM2_ActivateCredential does with an RSA EK.
func softActivate(ek *rsa.PrivateKey, hash crypto.Hash, name, blob, secret []byte) ([]byte, error) {
	problem := errors.New("challenge is malformed or made for another key")
	blob, rest, ok := cutTPM2B(blob)
	secret, rest2, ok2 := cutTPM2B(secret)
	if !ok || !ok2 || len(rest)+len(rest2) > 0 {
		return nil, problem
	}
	mac, encrypted, ok := cutTPM2B(blob)
	if !ok {
		return nil, problem
	}
	seed, err := rsa.DecryptOAEP(hash.New(), nil, ek, secret, []byte("IDENTITY\x00"))
	if err != nil {
		return nil, problem
	}
	integrity := hmac.New(hash.New, tpm2.KDFa(hash, seed, "INTEGRITY", nil, nil, hash.Size()*8))
	integrity.Write(encrypted)
	integrity.Write(name)
	if !hmac.Equal(integrity.Sum(nil), mac) {
		return nil, problem
	}
	block, err := aes.NewCipher(tpm2.KDFa(hash, seed, "STORAGE", name, nil, 128))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(encrypted))
	cipher.NewCFBDecrypter(block, make([]byte, 16)).XORKeyStream(plain, encrypted)
	credential, rest, ok := cutTPM2B(plain)
	if !ok || len(rest) > 0 {
		return nil, problem
	}
	return credential, nil
}

// cutTPM2B takes a buffer with its length off the front.
func cutTPM2B(data []byte) (buffer, rest []byte, ok bool) {
	if len(data) < 2 {
		return nil, nil, false
	}
	size := int(data[0])<<8 | int(data[1])
	if len(data) < 2+size {
		return nil, nil, false
	}
	return data[2 : 2+size], data[2+size:], true
}
