//! Policies: what their digests are, by this crate without a TPM, by a TPM, and by tpm2-tools.

mod tools;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use testkit::child::Scratch;
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{Way, client, create_join_key, load, start, start_tcp};
use tpm2::Tpm;
use tpm2::commands::*;
use tpm2::crypto::{
    HashAlg, PolicyDigest, PolicyError, nv_name, object_name, random, signed_authorization,
};
use tpm2::session::Auth;
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b};

const HASHES: [HashAlg; 4] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

fn octets(len: usize) -> Vec<u8> {
    let mut octets = vec![0; len];
    random(&mut octets).expect("randomness");
    octets
}

fn number() -> u16 {
    octets(2).iter().fold(0, |number, octet| number << 8 | u16::from(*octet))
}

fn digest_buf(hash: HashAlg) -> DigestBuf {
    DigestBuf::new(&octets(hash.digest_len())).expect("as long as a digest")
}

fn name_buf() -> NameBuf {
    NameBuf::concat(&[&[0x00, 0x0b], &octets(32)]).expect("34 octets")
}

/// A trial session, and beside it what its digest should be.
struct Trial<'t> {
    tpm: &'t mut Tpm<Way>,
    session: SessionHandle,
    hash: HashAlg,
    commands: BTreeSet<&'static str>,
}

impl<'t> Trial<'t> {
    fn new(tpm: &'t mut Tpm<Way>, hash: HashAlg) -> Result<Self> {
        let session = tpm.start_session(SessionType::TRIAL, hash)?.handle();
        Ok(Self { tpm, session, hash, commands: BTreeSet::new() })
    }

    /// Every policy is tried on an empty session and on one that has a history.
    fn same<C: Authorized<N>, const N: usize>(
        &mut self,
        command: &C,
        policy: impl Fn(PolicyDigest) -> PolicyDigest,
    ) -> Result<()> {
        let name = C::INFO.name;
        for history in [false, true] {
            self.tpm.run(&PolicyRestart { session_handle: self.session }, [])?;
            let mut before = PolicyDigest::new(self.hash);
            if history {
                let locality = Locality(octets(1)[0] & 0x1f).with(Locality::ZERO);
                self.tpm.run(&PolicyLocality { policy_session: self.session, locality }, [])?;
                before = before.locality(locality);
            }
            self.tpm.run(command, [const { Auth::EMPTY }; N]).with_context(|| name)?;
            let expected = policy(before);
            assert_ne!(expected, before);
            let answer = self.tpm.run(&PolicyGetDigest { policy_session: self.session }, [])?;
            assert_eq!(answer.policy_digest.octets(), expected.octets(), "{name} {:?}", self.hash);
        }
        self.commands.insert(name);
        Ok(())
    }
}

/// The certificate of an EK, an index that is there on every TPM of this kind.
fn index(tpm: &mut Tpm<Way>) -> Result<NvIndex> {
    let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
    let public = tpm.run(&NvReadPublic { nv_index }, [])?.nv_public.0;
    Ok(NvIndex::named(public.index, nv_name(&public)?))
}

#[test]
fn every_policy_has_the_digest_that_a_trial_session_has() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
    let nv_index = index(&mut tpm)?;
    for hash in HASHES {
        let mut trial = Trial::new(&mut tpm, hash)?;
        authorities(&mut trial, key)?;
        states(&mut trial, nv_index)?;
        uses(&mut trial)?;
        assert_eq!(trial.commands, in_trial_sessions(), "every one that this TPM has");
        let session = trial.session;
        tpm.flush(session.handle())?;
    }
    Ok(())
}

/// The policy commands of the table without those that extend no digest, that a trial session refuses (`TPM2_PolicyTicket`)
/// or that this TPM is too old for.
fn in_trial_sessions() -> BTreeSet<&'static str> {
    const NOT: [&str; 6] = [
        "TPM2_PolicyCapability",
        "TPM2_PolicyGetDigest",
        "TPM2_PolicyParameters",
        "TPM2_PolicyRestart",
        "TPM2_PolicyTicket",
        "TPM2_PolicyTransportSPDM",
    ];
    let policies = COMMANDS.iter().map(|info| info.name);
    policies
        .filter(|name| name.starts_with("TPM2_Policy") && !name.starts_with("TPM2_Policy_"))
        .filter(|name| !NOT.contains(name))
        .collect()
}

/// A signer approves.
fn authorities(trial: &mut Trial<'_>, key: Object) -> Result<()> {
    let policy_session = trial.session;
    let name = key.name().context("a Name")?;
    let (reference, approved) = (octets(20), octets(trial.hash.digest_len()));
    let policy_ref = Nonce::new(&reference)?;
    let endorsement = Handle::ENDORSEMENT.as_name();
    let secret = PolicySecret {
        auth_handle: Hierarchy::Endorsement.into(),
        policy_session,
        nonce_tpm: Nonce::EMPTY,
        cp_hash_a: Digest::EMPTY,
        policy_ref,
        expiration: 0,
    };
    trial.same(&secret, |policy| policy.secret(&endorsement, &reference))?;
    let without = PolicySecret { policy_ref: Nonce::EMPTY, ..secret };
    trial.same(&without, |policy| policy.secret(&endorsement, b""))?;
    let of_a_key = PolicySecret { auth_handle: key.into(), ..secret };
    trial.same(&of_a_key, |policy| policy.secret(&name, &reference))?;
    let (r, s) = (octets(32), octets(32));
    let signed = PolicySigned {
        auth_object: key,
        policy_session,
        nonce_tpm: Nonce::EMPTY,
        cp_hash_a: Digest::EMPTY,
        policy_ref,
        expiration: 0,
        auth: Signature::Ecdsa(EccSignature {
            hash: Alg::SHA256,
            r: EccParameter::new(&r)?,
            s: EccParameter::new(&s)?,
        }),
    };
    trial.same(&signed, |policy| policy.signed(&name, &reference))?;
    let authorize = PolicyAuthorize {
        policy_session,
        approved_policy: Digest::new(&approved)?,
        policy_ref,
        key_sign: Name::new(name.octets())?,
        check_ticket: VerifiedTicket {
            hierarchy: Handle::OWNER,
            verified: Verified::Signature,
            hmac: Digest::new(&approved)?,
        },
    };
    trial.same(&authorize, |policy| policy.authorize(&name, &reference))?;
    for branches in 2..=8 {
        let branches: Vec<_> = (0..branches).map(|_| octets(trial.hash.digest_len())).collect();
        let digests: Vec<_> =
            branches.iter().map(|branch| Digest::new(branch)).collect::<Result<_, _>>()?;
        let known: Vec<_> = branches
            .iter()
            .map(|branch| PolicyDigest::known(trial.hash, branch))
            .collect::<Result<_, _>>()?;
        let or = PolicyOr { policy_session, p_hash_list: List::new(&digests) };
        trial.same(&or, |_| known[0].or(&known[1..]).expect("at most eight"))?;
    }
    Ok(())
}

/// The machine is in some state.
fn states(trial: &mut Trial<'_>, nv_index: NvIndex) -> Result<()> {
    let policy_session = trial.session;
    let index_name = nv_index.name().context("a Name")?;
    let (operand, offset) = (octets(8), number() % 16); // It must lie within a TPMS_TIME_INFO.
    let operand_b = Digest::new(&operand)?;
    for operation in (0..=0x0b).map(Comparison) {
        let auth_handle = NvAuth::Index(nv_index);
        let nv = PolicyNv { auth_handle, nv_index, policy_session, operand_b, offset, operation };
        trial.same(&nv, |policy| policy.nv(&index_name, &operand, offset, operation))?;
        let timer = PolicyCounterTimer { policy_session, operand_b, offset, operation };
        trial.same(&timer, |policy| policy.counter_timer(&operand, offset, operation))?;
    }
    let by_index =
        PolicyAuthorizeNv { auth_handle: NvAuth::Index(nv_index), nv_index, policy_session };
    trial.same(&by_index, |policy| policy.authorize_nv(&index_name))?;

    let select = [octets(3), octets(3)];
    let pcrs =
        [PcrSelection::new(Alg::SHA1, &select[0])?, PcrSelection::new(Alg::SHA256, &select[1])?];
    let pcr_digest = digest_buf(trial.hash);
    let command = PolicyPcr {
        policy_session,
        pcr_digest: Digest::new(pcr_digest.octets())?,
        pcrs: List::new(&pcrs),
    };
    trial.same(&command, |policy| policy.pcr(&command.pcrs, &pcr_digest).expect("it fits"))?;
    let locality = Locality(octets(1)[0] | 0x20);
    let session = trial.session;
    trial.tpm.run(&PolicyRestart { session_handle: session }, [])?;
    trial.tpm.run(&PolicyLocality { policy_session, locality }, [])?;
    let answer = trial.tpm.run(&PolicyGetDigest { policy_session }, [])?;
    let extended = PolicyDigest::new(trial.hash).locality(locality);
    assert_eq!(answer.policy_digest.octets(), extended.octets(), "{locality:?}");
    let locality = Locality::ZERO.with(Locality::THREE);
    let again = PolicyLocality { policy_session, locality };
    // Of a history of other localities nothing might be left.
    trial.tpm.run(&PolicyRestart { session_handle: session }, [])?;
    trial.tpm.run(&again, [])?;
    trial.tpm.run(&again, [])?;
    let answer = trial.tpm.run(&PolicyGetDigest { policy_session }, [])?;
    let twice = PolicyDigest::new(trial.hash).locality(locality).locality(locality);
    assert_eq!(answer.policy_digest.octets(), twice.octets());
    trial.commands.insert("TPM2_PolicyLocality");
    let presence = PolicyPhysicalPresence { policy_session };
    trial.same(&presence, PolicyDigest::physical_presence)?;
    let written = PolicyNvWritten { policy_session, written_set: true };
    trial.same(&written, PolicyDigest::nv_written)?;
    let not_written = PolicyNvWritten { policy_session, written_set: false };
    trial.same(&not_written, PolicyDigest::nv_not_written)
}

/// It is used for something.
fn uses(trial: &mut Trial<'_>) -> Result<()> {
    let policy_session = trial.session;
    let digest = digest_buf(trial.hash);
    let sent = Digest::new(digest.octets())?;
    trial.same(&PolicyAuthValue { policy_session }, PolicyDigest::auth_value)?;
    trial.same(&PolicyPassword { policy_session }, PolicyDigest::password)?;
    let code = ActivateCredential::INFO.code;
    trial.same(&PolicyCommandCode { policy_session, code }, |it| it.command_code(code))?;
    let cp_hash = PolicyCpHash { policy_session, cp_hash_a: sent };
    trial.same(&cp_hash, |policy| policy.cp_hash(&digest))?;
    let name_hash = PolicyNameHash { policy_session, name_hash: sent };
    trial.same(&name_hash, |policy| policy.name_hash(&digest))?;
    let template = PolicyTemplate { policy_session, template_hash: sent };
    trial.same(&template, |policy| policy.template(&digest))?;
    let (object, parent) = (name_buf(), name_buf());
    let select = PolicyDuplicationSelect {
        policy_session,
        object_name: Name::new(object.octets())?,
        new_parent_name: Name::new(parent.octets())?,
        include_object: true,
    };
    trial.same(&select, |policy| policy.duplication_select(Some(&object), &parent))?;
    let any = PolicyDuplicationSelect { include_object: false, ..select };
    trial.same(&any, |policy| policy.duplication_select(None, &parent))
}

/// What no TPM here has: Part 3 §23.23 to §23.25 and §32.4 by the letter, over bytes that are put together here.
#[test]
fn the_newest_policies_are_hashed_as_part_3_says() -> Result<()> {
    for hash in HASHES {
        let before = PolicyDigest::new(hash).auth_value();
        let (digest, operand, offset) = (digest_buf(hash), octets(8), number());
        let (one, other, third) = (name_buf(), name_buf(), name_buf());
        let after = |code: u32, rest: &[u8]| {
            hash.digest(&[before.octets(), &code.to_be_bytes(), rest]).octets().to_vec()
        };
        let property = Property::MANUFACTURER.0;
        let arguments =
            [&operand[..], &offset.to_be_bytes(), &[0x00, 0x0a], &[0, 0, 0, 6], &[0, 0, 1, 5]]
                .concat();
        let arguments = hash.digest(&[&arguments]);
        let capability = before.capability(
            &operand,
            offset,
            Comparison::BITSET,
            Capability::TPM_PROPERTIES,
            property,
        );
        assert_eq!(capability.octets(), after(0x19b, arguments.octets()));
        assert_eq!(before.parameters(&digest).octets(), after(0x19c, digest.octets()));
        let keys = |octets: &[&[u8]]| hash.digest(&[&octets.concat()]).octets().to_vec();
        let (a, b) = (one.octets(), other.octets());
        for (requester, tpm, expected) in [
            (Some(&one), Some(&other), keys(&[&[0, 34], a, &[0, 34], b])),
            (Some(&one), None, keys(&[&[0, 34], a, &[0, 0]])),
            (None, Some(&other), keys(&[&[0, 0], &[0, 34], b])),
            (None, None, Vec::new()),
        ] {
            let policy = before.transport_spdm(requester, tpm);
            assert_eq!(policy.octets(), after(0x1a1, &expected));
        }
        let with = before.ac_send_select(Some(&one), &other, &third);
        assert_eq!(with.octets(), after(0x196, &[a, b, third.octets(), &[1]].concat()));
        let without = before.ac_send_select(None, &other, &third);
        assert_eq!(without.octets(), after(0x196, &[b, third.octets(), &[0]].concat()));
    }
    Ok(())
}

#[test]
fn impossible_policies_are_refused() {
    let (a, b) = (PolicyDigest::new(HashAlg::Sha256), PolicyDigest::new(HashAlg::Sha384));
    assert_eq!(a.or(&[]), Err(PolicyError::Branches(1)));
    assert_eq!(a.or(&[a; 8]), Err(PolicyError::Branches(9)));
    assert!(a.or(&[a; 7]).is_ok());
    assert_eq!(a.or(&[a, b]), Err(PolicyError::OtherHash));
    for len in [0, 20, 31, 33, 48, 64, 65] {
        let known = PolicyDigest::known(HashAlg::Sha256, &vec![7; len]);
        assert_eq!(known, Err(PolicyError::OtherHash), "{len}");
    }
    let many = [0xff; 32];
    let banks = [PcrSelection::new(Alg::SHA256, &many).expect("32 octets"); 30];
    let digest = DigestBuf::EMPTY;
    assert_eq!(a.pcr(&List::new(&banks), &digest), Err(PolicyError::TooLarge));
}

/// A software key of which a TPM knows the public part.
fn signer(tpm: &mut Tpm<Way>) -> Result<(SigningKey, Object)> {
    let key = SigningKey::from_slice(&[octets(31), vec![1]].concat())?;
    let point = key.verifying_key().to_sec1_point(false);
    let coordinate = |range| EccParameter::new(&point.as_bytes()[range]);
    let public = Public {
        name_alg: Alg::SHA256,
        attributes: ObjectAttributes::SIGN.with(ObjectAttributes::USER_WITH_AUTH),
        auth_policy: Digest::EMPTY,
        id: Id::Ecc(EccPublic {
            symmetric: SymDefObject::Null,
            scheme: AsymScheme::Null,
            curve: Curve::NIST_P256,
            kdf: KdfScheme::Null,
            unique: EccPoint { x: coordinate(1..33)?, y: coordinate(33..65)? },
        }),
    };
    let command =
        LoadExternal { in_private: None, in_public: Tpm2b(public), hierarchy: Hierarchy::Owner };
    let loaded = tpm.run(&command, [])?.object_handle;
    Ok((key, loaded.named(object_name(&public)?)))
}

/// In a policy session the TPM verifies what is signed over what this side computes, and its ticket takes the place of a
/// second signature: the digest is the same both ways.
#[test]
fn a_signed_authorization_and_its_ticket_make_the_same_policy() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let (key, object) = signer(&mut tpm)?;
    let name = object.name().context("a Name")?;
    let (reference, cp_hash) = (octets(16), octets(32));
    let expected = PolicyDigest::new(HashAlg::Sha256).signed(&name, &reference);

    let start = StartAuthSession {
        tpm_key: None,
        bind: None,
        nonce_caller: Nonce::from(&[7; 16]),
        encrypted_salt: EncryptedSecret::EMPTY,
        session_type: SessionType::POLICY,
        symmetric: SymDef::Null,
        auth_hash: Alg::SHA256,
    };
    let answer = tpm.run(&start, [])?;
    let (session, nonce) = (answer.session_handle, answer.nonce_tpm.octets().to_vec());
    let to_sign = signed_authorization(HashAlg::Sha256, &nonce, -600, &cp_hash, &reference);
    let signature: p256::ecdsa::Signature = key.sign_prehash(to_sign.octets())?;
    let (r, s) = (signature.r().to_bytes(), signature.s().to_bytes());
    let signed = PolicySigned {
        auth_object: object,
        policy_session: session,
        nonce_tpm: Nonce::new(&nonce)?,
        cp_hash_a: Digest::new(&cp_hash)?,
        policy_ref: Nonce::new(&reference)?,
        expiration: -600,
        auth: Signature::Ecdsa(EccSignature {
            hash: Alg::SHA256,
            r: EccParameter::new(&r)?,
            s: EccParameter::new(&s)?,
        }),
    };
    for other in [
        PolicySigned { expiration: -601, ..signed },
        PolicySigned { policy_ref: Nonce::EMPTY, ..signed },
    ] {
        let error = tpm.run(&other, []).unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::SIGNATURE), "{error}");
    }
    // Replayed in another session, whose nonce it does not cover.
    let other = tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?;
    let (policy_session, nonce_tpm) = (other.handle(), other.nonce_tpm());
    let error = tpm.run(&PolicySigned { policy_session, nonce_tpm, ..signed }, []).unwrap_err();
    assert_eq!(error.refusal(), Some(ResponseCode::SIGNATURE), "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("is a replay")), "{error:?}");
    let answer = tpm.run(&signed, [])?;
    let timeout = answer.timeout.octets().to_vec();
    let (hierarchy, hmac) =
        (answer.policy_ticket.hierarchy, answer.policy_ticket.digest.octets().to_vec());
    assert!(!hmac.is_empty(), "a ticket, since the expiration is negative");
    assert_eq!(reached(&mut tpm, session)?, expected.octets());

    let second = tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?.handle();
    let ticket = PolicyTicket {
        policy_session: second,
        timeout: Timeout::new(&timeout)?,
        cp_hash_a: Digest::new(&cp_hash)?,
        policy_ref: Nonce::new(&reference)?,
        auth_name: Name::new(name.octets())?,
        ticket: Ticket { tag: Structure::AUTH_SIGNED, hierarchy, digest: Digest::new(&hmac)? },
    };
    tpm.run(&ticket, [])?;
    assert_eq!(reached(&mut tpm, second)?, expected.octets());
    Ok(())
}

fn reached(tpm: &mut Tpm<Way>, policy_session: SessionHandle) -> Result<Vec<u8>> {
    let answer = tpm.run(&PolicyGetDigest { policy_session }, [])?;
    Ok(answer.policy_digest.octets().to_vec())
}
