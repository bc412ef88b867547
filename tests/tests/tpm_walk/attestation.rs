//! Part 3 §18, §19 and §21: what a TPM attests, ephemeral keys, the audit of commands.

use anyhow::{Result, ensure};
use tests::tpm::persistent_ek;
use tpm2::commands::*;
use tpm2::session::Encryption;
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b, Unmarshal};

use crate::props;
use crate::stage::{Act, EMPTY, Scene, Stage, octets};

pub const ACTS: &[Act] = &[Act {
    name: "attestation",
    scenes: &[
        Scene { title: "an object certified", play: certify },
        Scene { title: "a creation certified", play: certify_creation },
        Scene { title: "PCRs quoted", play: quote },
        Scene { title: "the time attested", play: time },
        Scene { title: "an audit session attested", play: session_audit },
        Scene { title: "commands under audit, and their digest attested", play: command_audit },
        Scene { title: "an X.509 certificate made with the TPM's help", play: certify_x509 },
        Scene { title: "the first half of an anonymous signature", play: commit },
        Scene { title: "an ephemeral key", play: ephemeral },
    ],
}];

const NONCE: &[u8] = b"a nonce of the asker";

/// What was attested, which must answer the nonce.
fn attested(data: AttestData<'_>) -> Result<Attested<'_>> {
    let attest = Attest::from_bytes(data.octets())?;
    ensure!(attest.extra_data.octets() == NONCE, "another nonce");
    Ok(attest.attested)
}

fn certify(stage: &mut Stage<'_>) -> Result<()> {
    let object = stage.key(props::signer())?;
    let attester = stage.key(props::attester())?;
    for sign_handle in [Some(attester), None] {
        let command = Certify {
            object_handle: object,
            sign_handle,
            qualifying_data: Data::new(NONCE)?,
            in_scheme: AsymScheme::Null,
        };
        let answer = stage.run(&command, [EMPTY, EMPTY])?;
        let Attested::Certify(info) = attested(answer.certify_info)? else {
            anyhow::bail!("{answer:?}");
        };
        ensure!(Some(info.name.octets()) == object.name().as_ref().map(NameBuf::octets));
        ensure!(sign_handle.is_none() == (answer.signature == Signature::Null));
    }
    Ok(())
}

fn certify_creation(stage: &mut Stage<'_>) -> Result<()> {
    let attester = stage.key(props::attester())?;
    let command = tests::tpm::create(Hierarchy::Owner, props::signer(), SensitiveCreate::EMPTY);
    let answer = stage.run(&command, [EMPTY])?;
    let object = answer.object_handle.named(tpm2::crypto::object_name(&answer.out_public.0)?);
    let hash = answer.creation_hash.octets().to_vec();
    let ticket = octets(&answer.creation_ticket)?;
    let command = CertifyCreation {
        sign_handle: Some(attester),
        object_handle: object,
        qualifying_data: Data::new(NONCE)?,
        creation_hash: Digest::new(&hash)?,
        in_scheme: AsymScheme::Null,
        creation_ticket: Ticket::from_bytes(&ticket)?,
    };
    let answer = stage.run(&command, [EMPTY])?;
    ensure!(matches!(attested(answer.certify_info)?, Attested::Creation(_)), "{answer:?}");
    Ok(())
}

fn quote(stage: &mut Stage<'_>) -> Result<()> {
    let attester = stage.key(props::attester())?;
    let pcrs = [PcrSelection::new(Alg::SHA256, &[0xff, 0, 0])?];
    let command = Quote {
        sign_handle: Some(attester),
        qualifying_data: Data::new(NONCE)?,
        in_scheme: AsymScheme::Null,
        pcrselect: List::new(&pcrs),
    };
    let answer = stage.run(&command, [EMPTY])?;
    let Attested::Quote(info) = attested(answer.quoted)? else { anyhow::bail!("{answer:?}") };
    ensure!(info.pcr_digest.octets().len() == 32, "{info:?}");
    Ok(())
}

fn time(stage: &mut Stage<'_>) -> Result<()> {
    let attester = stage.key(props::attester())?;
    let command = GetTime {
        privacy_admin_handle: Endorsement,
        sign_handle: Some(attester),
        qualifying_data: Data::new(NONCE)?,
        in_scheme: AsymScheme::Null,
    };
    let answer = stage.run(&command, [EMPTY, EMPTY])?;
    ensure!(matches!(attested(answer.time_info)?, Attested::Time(_)), "{answer:?}");
    Ok(())
}

fn session_audit(stage: &mut Stage<'_>) -> Result<()> {
    let attester = stage.key(props::attester())?;
    let ek = persistent_ek(stage.bare(), "p384")?;
    let mut audit =
        stage.bare().start_salted_session(SessionType::HMAC, &ek.salt_key()?, Encryption::Off)?;
    stage.bare().secured(&mut audit).run(&ReadClock {}, [])?;
    let command = GetSessionAuditDigest {
        privacy_admin_handle: Endorsement,
        sign_handle: Some(attester),
        session_handle: audit.handle(),
        qualifying_data: Data::new(NONCE)?,
        in_scheme: AsymScheme::Null,
    };
    let answer = stage.run(&command, [EMPTY, EMPTY])?;
    let Attested::SessionAudit(info) = attested(answer.audit_info)? else {
        anyhow::bail!("{answer:?}")
    };
    ensure!(info.session_digest.octets().len() == 48, "{info:?}");
    Ok(())
}

fn command_audit(stage: &mut Stage<'_>) -> Result<()> {
    let attester = stage.key(props::attester())?;
    let codes = [GetRandom::INFO.code];
    let on = SetCommandCodeAuditStatus {
        auth: Provision::Owner,
        audit_alg: Alg::NULL,
        set_list: List::new(&codes),
        clear_list: List::new(&[]),
    };
    stage.run(&on, [EMPTY])?;
    stage.run(&tests::tpm::RANDOM, [])?;
    let command = GetCommandAuditDigest {
        privacy_handle: Endorsement,
        sign_handle: Some(attester),
        qualifying_data: Data::new(NONCE)?,
        in_scheme: AsymScheme::Null,
    };
    let answer = stage.run(&command, [EMPTY, EMPTY])?;
    let Attested::CommandAudit(info) = attested(answer.audit_info)? else {
        anyhow::bail!("{answer:?}")
    };
    ensure!(!info.audit_digest.octets().is_empty(), "{info:?}");
    let off =
        SetCommandCodeAuditStatus { set_list: List::new(&[]), clear_list: List::new(&codes), ..on };
    stage.run(&off, [EMPTY])?;
    Ok(())
}

/// Issuer, validity, subject and extensions; the TPM adds version, serial number, algorithm and key.
fn certify_x509(stage: &mut Stage<'_>) -> Result<()> {
    let key = Public {
        attributes: props::signer().attributes.with(ObjectAttributes::X509_SIGN),
        ..props::signer()
    };
    let key = stage.key(key)?;
    let partial = partial_certificate();
    let command = CertifyX509 {
        object_handle: key,
        sign_handle: key,
        reserved: Data::EMPTY,
        in_scheme: AsymScheme::Null,
        partial_certificate: MaxBuffer::new(&partial)?,
    };
    let answer = stage.run(&command, [EMPTY, EMPTY])?;
    ensure!(answer.tbs_digest.octets().len() == 32, "{answer:?}");
    ensure!(matches!(answer.signature, Signature::Ecdsa(_)), "{answer:?}");
    Ok(())
}

fn partial_certificate() -> Vec<u8> {
    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let len = u8::try_from(content.len()).expect("short");
        assert!(len < 0x80);
        [&[tag, len], &content[..]].concat()
    }
    let common_name = der(0x30, &[&[0x06, 3, 0x55, 4, 3], &der(0x0c, &[b"x"])]);
    let name = der(0x30, &[&der(0x31, &[&common_name])]);
    let moment = |text: &[u8]| der(0x18, &[text]);
    let validity = der(0x30, &[&moment(b"20260101000000Z"), &moment(b"99991231235959Z")]);
    // digitalSignature
    let key_usage = der(0x04, &[&[0x03, 2, 7, 0x80]]);
    let extension = der(0x30, &[&[0x06, 3, 0x55, 0x1d, 0x0f], &[0x01, 1, 0xff], &key_usage]);
    let extensions = der(0xa3, &[&der(0x30, &[&extension])]);
    der(0x30, &[&name, &validity, &name, &extensions])
}

fn commit(stage: &mut Stage<'_>) -> Result<()> {
    let scheme = AsymScheme::Ecdaa(EcdaaScheme { hash: Alg::SHA256, count: 0 });
    let public = props::ecc(props::signer().attributes, SymDefObject::Null, scheme);
    let sign_handle = stage.key(public)?;
    let none = EccPoint { x: EccParameter::EMPTY, y: EccParameter::EMPTY };
    let command =
        Commit { sign_handle, p1: Tpm2b(none), s2: SensitiveData::EMPTY, y2: EccParameter::EMPTY };
    let answer = stage.run(&command, [EMPTY])?;
    ensure!(!octets(&answer.e)?.is_empty(), "{answer:?}");
    Ok(())
}

fn ephemeral(stage: &mut Stage<'_>) -> Result<()> {
    let answer = stage.run(&EcEphemeral { curve_id: Curve::NIST_P256 }, [])?;
    ensure!(answer.q.0.x.octets().len() == 32, "{answer:?}");
    Ok(())
}
