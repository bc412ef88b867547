package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	"encoding/binary"
)

// TPM_ALG_ID (TPM 2.0 Part 2, 6.3).
const (
	algRSA    = 0x0001
	algSHA1   = 0x0004
	algSHA256 = 0x000B
	algNull   = 0x0010
	algRSASSA = 0x0014
	algRSAPSS = 0x0016
	algECDSA  = 0x0018
	algECC    = 0x0023
)

// TPMA_OBJECT (Part 2, 8.3).
const (
	attrFixedTPM            = 0x00002
	attrFixedParent         = 0x00010
	attrSensitiveDataOrigin = 0x00020
	attrUserWithAuth        = 0x00040
	attrNoDA                = 0x00400
	attrRestricted          = 0x10000
	attrDecrypt             = 0x20000
	attrSign                = 0x40000

	attrsOfAK = attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin | attrUserWithAuth |
		attrNoDA | attrRestricted | attrSign
)

const eccNistP256 = 0x0003

// akTemplate describes an AK; its zero value is go-attestation's.
type akTemplate struct {
	ecc     bool
	bits    int
	nameAlg uint16
	pss     bool
	set     uint32
	clear   uint32
}

func (t akTemplate) keyBits() int {
	if t.bits == 0 {
		return 2048
	}
	return t.bits
}

func (t akTemplate) hashAlg() uint16 {
	if t.nameAlg == 0 {
		return algSHA256
	}
	return t.nameAlg
}

func (t akTemplate) hash() crypto.Hash {
	if t.hashAlg() == algSHA1 {
		return crypto.SHA1
	}
	return crypto.SHA256
}

func (t akTemplate) digest(data []byte) []byte {
	h := t.hash().New()
	h.Write(data)
	return h.Sum(nil)
}

// name is the Name of an object: its name algorithm and the digest of its public area.
func (t akTemplate) name(public []byte) []byte {
	return append(u16(t.hashAlg()), t.digest(public)...)
}

// template is the TPMT_PUBLIC of an AK to make.
func (t akTemplate) template() []byte {
	if t.ecc {
		return t.public(append(tpm2b(nil), tpm2b(nil)...))
	}
	return t.public(tpm2b(nil))
}

// publicOf is the TPMT_PUBLIC of a key.
func (t akTemplate) publicOf(key crypto.PublicKey) []byte {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return t.public(tpm2b(key.N.Bytes()))
	case *ecdsa.PublicKey:
		x, y := make([]byte, 32), make([]byte, 32)
		key.X.FillBytes(x)
		key.Y.FillBytes(y)
		return t.public(append(tpm2b(x), tpm2b(y)...))
	default:
		return nil
	}
}

// newKey makes a key outside of a TPM.
func (t akTemplate) newKey() (crypto.Signer, error) {
	if t.ecc {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, t.keyBits())
}

// public is a TPMT_PUBLIC that ends with unique.
func (t akTemplate) public(unique []byte) []byte {
	keyType, scheme := uint16(algRSA), uint16(algRSASSA)
	if t.pss {
		scheme = algRSAPSS
	}
	if t.ecc {
		keyType, scheme = algECC, algECDSA
	}
	out := append(u16(keyType), u16(t.hashAlg())...)
	out = append(out, u32((attrsOfAK|t.set)&^t.clear)...)
	out = append(out, tpm2b(nil)...) // authPolicy
	out = append(out, u16(algNull)...)
	out = append(out, u16(scheme)...)
	out = append(out, u16(algSHA256)...)
	if t.ecc {
		out = append(out, u16(eccNistP256)...)
		out = append(out, u16(algNull)...) // KDF
		return append(out, unique...)
	}
	out = append(out, u16(uint16(t.keyBits()))...)
	out = append(out, u32(0)...) // exponent 65537
	return append(out, unique...)
}

func u16(value uint16) []byte { return binary.BigEndian.AppendUint16(nil, value) }
func u32(value uint32) []byte { return binary.BigEndian.AppendUint32(nil, value) }

// tpm2b puts the length in front of a buffer.
func tpm2b(buffer []byte) []byte { return append(u16(uint16(len(buffer))), buffer...) }
