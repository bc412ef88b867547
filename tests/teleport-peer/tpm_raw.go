package main

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// rawAK is an AK that go-attestation cannot make, or one that goes with an ECC EK.
type rawAK struct {
	ek       string // rsa or ecc
	template akTemplate
}

// rawEvidence attests with a TPM, one command at a time, and leaves nothing behind in it.
func rawEvidence(address string, wanted rawAK) (*evidence, error) {
	e, r, ek, err := openRaw(address, wanted.ek)
	if err != nil {
		return nil, err
	}
	ak, err := r.makeAK(e, wanted.template)
	if err != nil {
		e.close()
		return nil, err
	}
	e.activate = func(blob, secret []byte) ([]byte, error) { return r.activate(ak, ek, blob, secret) }
	return e, nil
}

// openRaw opens a TPM, makes its EK and describes it in new evidence.
func openRaw(address, alg string) (*evidence, *rawTPM, tpm2.NamedHandle, error) {
	var none tpm2.NamedHandle
	channel, err := openTPM(address)
	if err != nil {
		return nil, nil, none, err
	}
	r := &rawTPM{channel: channel, tpm: transport.FromReadWriter(channel)}
	template, index := tpm2.RSAEKTemplate, uint32(0x01C00002)
	if alg == "ecc" {
		template, index = tpm2.ECCEKTemplate, 0x01C0000A
	}
	ek, err := r.primary(tpm2.TPMRHEndorsement, template)
	if err != nil {
		r.close()
		return nil, nil, none, fmt.Errorf("EK CreatePrimary: %w", err)
	}
	e := &evidence{close: r.close, commands: func() int { return channel.commands }}
	if err := r.describeEK(e, ek, index); err != nil {
		r.close()
		return nil, nil, none, err
	}
	return e, r, tpm2.NamedHandle{Handle: ek.ObjectHandle, Name: ek.Name}, nil
}

// rawTPM makes keys in a TPM and flushes them when it is closed.
type rawTPM struct {
	channel *tpmChannel
	tpm     transport.TPM
	loaded  []tpm2.TPMHandle
}

func (r *rawTPM) close() {
	for _, handle := range r.loaded {
		tpm2.FlushContext{FlushHandle: handle}.Execute(r.tpm)
	}
	r.channel.Close()
}

func (r *rawTPM) primary(hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) (*tpm2.CreatePrimaryResponse, error) {
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template),
	}.Execute(r.tpm)
	if err == nil {
		r.loaded = append(r.loaded, made.ObjectHandle)
	}
	return made, err
}

// describeEK takes the EK's certificate where the TPM has the one of this key, else the key.
func (r *rawTPM) describeEK(e *evidence, ek *tpm2.CreatePrimaryResponse, index uint32) error {
	public, err := ek.OutPublic.Contents()
	if err != nil {
		return err
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		return err
	}
	if e.ekKey, err = x509.MarshalPKIXPublicKey(key); err != nil {
		return err
	}
	certificate, err := attest.ParseEKCertificate(r.readNV(index))
	if err != nil {
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(certificate.PublicKey)
	if err == nil && string(der) == string(e.ekKey) {
		e.ekCert, e.ekKey = certificate.Raw, nil
	}
	return nil
}

// readNV returns the content of an NV index, or nothing if it cannot be read.
func (r *rawTPM) readNV(index uint32) []byte {
	handle := tpm2.TPMHandle(index)
	found, err := tpm2.NVReadPublic{NVIndex: handle}.Execute(r.tpm)
	if err != nil {
		return nil
	}
	public, err := found.NVPublic.Contents()
	if err != nil {
		return nil
	}
	named := tpm2.NamedHandle{Handle: handle, Name: found.NVName}
	var content []byte
	for len(content) < int(public.DataSize) {
		part, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: handle, Name: found.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    named,
			Size:       uint16(min(512, int(public.DataSize)-len(content))),
			Offset:     uint16(len(content)),
		}.Execute(r.tpm)
		if err != nil || len(part.Data.Buffer) == 0 {
			return nil
		}
		content = append(content, part.Data.Buffer...)
	}
	return content
}

// makeAK creates an AK under the storage key and lets it certify its own creation.
func (r *rawTPM) makeAK(e *evidence, template akTemplate) (tpm2.NamedHandle, error) {
	var none tpm2.NamedHandle
	parent, err := r.primary(tpm2.TPMRHOwner, tpm2.ECCSRKTemplate)
	if err != nil {
		return none, fmt.Errorf("SRK CreatePrimary: %w", err)
	}
	named := tpm2.NamedHandle{Handle: parent.ObjectHandle, Name: parent.Name}
	made, err := tpm2.Create{
		ParentHandle: named,
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](template.template()),
	}.Execute(r.tpm)
	if err != nil {
		return none, fmt.Errorf("AK Create: %w", err)
	}
	loaded, err := tpm2.Load{
		ParentHandle: named, InPrivate: made.OutPrivate, InPublic: made.OutPublic,
	}.Execute(r.tpm)
	if err != nil {
		return none, fmt.Errorf("AK Load: %w", err)
	}
	r.loaded = append(r.loaded, loaded.ObjectHandle)
	ak := tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}
	certified, err := tpm2.CertifyCreation{
		SignHandle:     tpm2.AuthHandle{Handle: ak.Handle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle:   ak,
		CreationHash:   made.CreationHash,
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		CreationTicket: made.CreationTicket,
	}.Execute(r.tpm)
	if err != nil {
		return none, fmt.Errorf("AK CertifyCreation: %w", err)
	}
	e.public = made.OutPublic.Bytes()
	e.createData = made.CreationData.Bytes()
	e.createAttestation = certified.CertifyInfo.Bytes()
	e.createSignature = tpm2.Marshal(certified.Signature)
	return ak, nil
}

func (r *rawTPM) activate(ak, ek tpm2.NamedHandle, blob, secret []byte) ([]byte, error) {
	if len(blob) < 2 || len(secret) < 2 {
		return nil, errors.New("challenge without length")
	}
	policy := tpm2.Policy(tpm2.TPMAlgSHA256, 16,
		func(tpm transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicySecret{
				AuthHandle: tpm2.AuthHandle{
					Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil),
				},
				PolicySession: session,
			}.Execute(tpm)
			return err
		})
	answer, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: ak.Handle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: ek.Handle, Name: ek.Name, Auth: policy},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob[2:]},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: secret[2:]},
	}.Execute(r.tpm)
	if err != nil {
		return nil, err
	}
	return answer.CertInfo.Buffer, nil
}
