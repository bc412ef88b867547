//! Sessions of every kind against a TPM: salted, bound, both and neither; each cipher; one cipher for each way; audit;
//! what policies ask of authorization values.

use anyhow::{Context, Result};
use testkit::swtpm::Kind;
use tests::tpm::{
    RANDOM, Way, client, create, hmac_session, load, persistent_ek, sign, start, way,
};
use tpm2::commands::{
    Command, Hash, PolicyAuthValue, PolicyCommandCode, PolicyCpHash, PolicyNameHash,
    PolicyPassword, PolicyRestart, SetPrimaryPolicy, Sign,
};
use tpm2::crypto::{HashAlg, PolicyDigest};
use tpm2::object::create_primary;
use tpm2::session::{
    Audit, Auth, Cipher, Direction, Encryption, NewSession, Session, cp_hash, name_hash,
};
use tpm2::transport::{Record, Recording, Transport};
use tpm2::types::*;
use tpm2::{Fault, Protection, Tpm};
use verifier::JoinKey;

const VALUE: &[u8] = b"an authorization value\0\0";
const CIPHERS: [Cipher; 4] = [Cipher::Aes128, Cipher::Aes192, Cipher::Aes256, Cipher::Xor];

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn recorded(swtpm: &testkit::swtpm::Swtpm) -> Result<(Tpm<Record<Way>>, Recording)> {
    let recording = Recording::default();
    Ok((Tpm::new(Record::new(way(swtpm)?, recording.clone())), recording))
}

/// A signing key with an authorization value, and maybe a policy.
fn key<T: Transport>(tpm: &mut Tpm<T>, unique: u8, policy: Digest<'_>) -> Result<Object> {
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::new(VALUE)?, data: SensitiveData::EMPTY };
    let unique = [unique; 32];
    let public = Public { auth_policy: policy, ..JoinKey::template(&unique) };
    load(tpm, &create(Hierarchy::Owner, public, sensitive))
}

/// What is shared with the TPM at the start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shared {
    Salt,
    Bind,
    Both,
    Nothing,
}

/// A key is created and signs under the session, which encrypts what can be, both ways; then it only rides.
#[test]
fn whatever_is_shared_and_whatever_the_cipher_both_sides_understand_each_other() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let (mut tpm, recording) = recorded(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "rsa2048")?;
    let salt = ek.salt_key()?;
    let entity = key(&mut tpm, 1, Digest::EMPTY)?;
    let digest = [0x5a; 32];
    for hash in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha512] {
        for cipher in CIPHERS {
            for shared in [Shared::Salt, Shared::Bind, Shared::Both, Shared::Nothing] {
                let plan = NewSession::hmac(hash).encrypting(cipher);
                let started = match shared {
                    Shared::Salt => tpm.start(&plan.salted(&salt)).map(Kept::Salted),
                    Shared::Both => {
                        tpm.start(&plan.salted(&salt).bound(entity, VALUE)).map(Kept::Salted)
                    }
                    Shared::Bind => tpm.start(&plan.bound(entity, VALUE)).map(Kept::Plain),
                    Shared::Nothing => tpm.start(&plan).map(Kept::Plain),
                };
                if cipher == Cipher::Aes192 {
                    let error =
                        started.err().context("libtpms has it now: test it as the others")?;
                    assert_eq!(error.refusal(), Some(ResponseCode::VALUE), "{error}");
                    continue;
                }
                let mut kept =
                    started.with_context(|| format!("{hash:?} {cipher:?} {shared:?}"))?;
                let session = kept.session();
                for _ in 0..2 {
                    let sign = sign(entity, &digest);
                    tpm.run(&sign, [session.auth(VALUE)])
                        .with_context(|| format!("{hash:?} {cipher:?} {shared:?}"))?;
                    let last = recording.exchanges().pop().context("an exchange")?;
                    assert!(!contains(&last.command, &digest), "{cipher:?} {shared:?}");
                    let answer = tpm.run_with(&RANDOM, [], [session.ride()])?;
                    let random = answer.random_bytes.octets().to_vec();
                    let last = recording.exchanges().pop().context("an exchange")?;
                    assert!(!contains(&last.response, &random), "{cipher:?} {shared:?}");
                }
                let wrong = tpm.run(&sign(entity, &digest), [session.auth(b"another")]);
                let error = wrong.unwrap_err();
                assert!(matches!(error.fault(), Fault::Refused(_)), "{error}");
                tpm.flush(session.handle().handle())?;
            }
        }
    }
    Ok(())
}

enum Kept {
    Plain(Session),
    Salted(tpm2::session::Salted),
}

impl Kept {
    fn session(&mut self) -> &mut Session {
        match self {
            Self::Plain(session) => session,
            Self::Salted(session) => session.session(),
        }
    }
}

/// Part 1 §19.6.12: of the entity that it is bound to, the value is not proven again; of another it is, even if it is
/// the same.
#[test]
fn a_bound_session_authorizes_its_entity_and_others() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let (mine, other) = (key(&mut tpm, 1, Digest::EMPTY)?, key(&mut tpm, 2, Digest::EMPTY)?);
    for bound_with in [VALUE, VALUE.strip_suffix(b"\0\0").context("zeros")?] {
        let mut session = tpm.start(&NewSession::hmac(HashAlg::Sha256).bound(mine, bound_with))?;
        for entity in [mine, other, mine] {
            tpm.run(&sign(entity, &[1; 32]), [session.auth(VALUE)])?;
            let error = tpm.run(&sign(entity, &[1; 32]), [session.auth(b"no")]).unwrap_err();
            assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{error}");
        }
        tpm.flush(session.handle().handle())?;
    }
    // The key of a session that was bound with a wrong value is another than the TPM's.
    let mut session = tpm.start(&NewSession::hmac(HashAlg::Sha256).bound(mine, b"wrong"))?;
    for entity in [mine, other] {
        let error = tpm.run(&sign(entity, &[1; 32]), [session.auth(VALUE)]).unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{error}");
    }
    let nameless = Object::unnamed(mine.handle());
    let error = tpm.start(&NewSession::hmac(HashAlg::Sha256).bound(nameless, VALUE)).unwrap_err();
    assert!(matches!(error.fault(), Fault::Unnamed), "{error}");
    Ok(())
}

/// One session hides the command and another one the answer, beside a third that authorizes: the nonces of both enter its
/// HMAC. Part 1 §19.6.5.
#[test]
fn commands_and_answers_are_hidden_by_sessions_of_their_own() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let (mut tpm, recording) = recorded(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "p384")?;
    let salt = ek.salt_key()?;
    let plan = NewSession::hmac(HashAlg::Sha384).salted(&salt);
    let mut there = tpm.start(&plan.encrypting(Cipher::Aes256))?;
    let mut back = tpm.start(&plan.encrypting(Cipher::Xor))?;
    let mut first = hmac_session(&mut tpm)?;
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::new(VALUE)?, data: SensitiveData::EMPTY };
    let unique = [9; 32];
    let command = create(Hierarchy::Owner, JoinKey::template(&unique), sensitive);
    for authorized in [true, false] {
        for swapped in [false, true] {
            let there = there.session().ride().encrypting(Direction::Command);
            let back = back.session().ride().encrypting(Direction::Answer);
            let riders = if swapped { [back, there] } else { [there, back] };
            let auth = if authorized { first.auth(b"") } else { Auth::EMPTY };
            let answer = tpm.run_with(&command, [auth], riders)?;
            let Id::Ecc(public) = answer.out_public.0.id else { panic!("no elliptic curve") };
            let x = public.unique.x.octets().to_vec();
            let created = answer.object_handle.handle();
            let last = recording.exchanges().pop().context("an exchange")?;
            assert!(!contains(&last.command, &VALUE[..8]) && !contains(&last.response, &x));
            tpm.flush(created)?;
        }
    }
    // Alone each hides its own half only.
    let answer = tpm.run_with(
        &command,
        [Auth::EMPTY],
        [there.session().ride().encrypting(Direction::Command)],
    )?;
    let created = answer.object_handle.handle();
    let Id::Ecc(public) = answer.out_public.0.id else { panic!("no elliptic curve") };
    let x = public.unique.x.octets().to_vec();
    let last = recording.exchanges().pop().context("an exchange")?;
    assert!(!contains(&last.command, &VALUE[..8]) && contains(&last.response, &x));
    tpm.flush(created)?;
    let answer = tpm.run_with(
        &command,
        [Auth::EMPTY],
        [back.session().ride().encrypting(Direction::Answer)],
    )?;
    let created = answer.object_handle.handle();
    let last = recording.exchanges().pop().context("an exchange")?;
    assert!(contains(&last.command, &VALUE[..8]) && !contains(&last.response, &x));
    tpm.flush(created)?;
    Ok(())
}

/// The client has seen what the policy asks for; the caller only says the value.
#[test]
fn policy_decides_how_the_authorization_value_is_proven() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let (mut tpm, recording) = recorded(&swtpm)?;
    let digest = PolicyDigest::new(HashAlg::Sha256).command_code(Sign::INFO.code).auth_value();
    let entity = key(&mut tpm, 1, digest.digest())?;
    let command = sign(entity, &[1; 32]);
    let in_clear = |recording: &Recording| {
        contains(&recording.exchanges().last().expect("an exchange").command, &VALUE[..8])
    };
    let mut session = tpm.start(&NewSession::policy(HashAlg::Sha256))?;
    let policy_session = session.handle();
    let code = PolicyCommandCode { policy_session, code: Sign::INFO.code };
    for password in [false, true, false] {
        for value in [&b"wrong"[..], VALUE] {
            tpm.run(&PolicyRestart { session_handle: policy_session }, [])?;
            tpm.run(&code, [])?;
            if password {
                tpm.run(&PolicyPassword { policy_session }, [])?;
            } else {
                tpm.run(&PolicyAuthValue { policy_session }, [])?;
            }
            let done = tpm.run(&command, [session.auth(value)]).map(|_| ());
            assert_eq!(in_clear(&recording), password && value == VALUE);
            match done {
                Ok(()) => assert_eq!(value, VALUE),
                Err(error) => {
                    assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{error}");
                    assert_ne!(value, VALUE);
                }
            }
        }
        // Its use has put the policy back, and with it what it asks for.
        let error = tpm.run(&command, [session.auth(VALUE)]).unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::POLICY_FAIL), "{error}");
        assert!(!in_clear(&recording));
    }
    Ok(())
}

/// A session with a key proves an authorization value by it, and hides with both; a password beside it would leave the
/// answer without proof, and is not sent.
#[test]
fn a_policy_session_with_a_key_proves_the_value_and_never_shows_it() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let (mut tpm, recording) = recorded(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "rsa2048")?;
    let salt = ek.salt_key()?;
    let digest = PolicyDigest::new(HashAlg::Sha256).auth_value();
    let entity = key(&mut tpm, 1, digest.digest())?;
    let plan = NewSession::policy(HashAlg::Sha256).salted(&salt);
    for plan in [plan, plan.encrypting(Cipher::Aes128), plan.encrypting(Cipher::Xor)] {
        for plan in [plan, plan.bound(entity, VALUE)] {
            let mut session = tpm.start(&plan)?;
            let policy_session = session.handle();
            tpm.run(&PolicyAuthValue { policy_session }, [])?;
            tpm.run(&sign(entity, &[1; 32]), [session.session().auth(VALUE)])?;
            tpm.run(&PolicyPassword { policy_session }, [])?;
            let sent = recording.exchanges().len();
            let refused = tpm.run(&sign(entity, &[1; 32]), [session.session().auth(VALUE)]);
            assert!(matches!(refused.unwrap_err().fault(), Fault::Unprotectable(_)));
            let refused = tpm.secured(&mut session).run(&RANDOM, []);
            assert!(matches!(refused.unwrap_err().fault(), Fault::Unprotectable(_)));
            assert_eq!(recording.exchanges().len(), sent, "nothing was sent");
            tpm.flush(policy_session.handle())?;
        }
    }
    Ok(())
}

#[test]
fn useless_session_is_refused_before_sending() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let (mut tpm, recording) = recorded(&swtpm)?;
    let entity = key(&mut tpm, 1, Digest::EMPTY)?;
    let mut trial = tpm.start(&NewSession::trial(HashAlg::Sha256))?;
    let mut policy = tpm.start(&NewSession::policy(HashAlg::Sha256))?;
    let mut hmac = tpm.start(&NewSession::hmac(HashAlg::Sha256))?;
    let sent = recording.exchanges().len();
    let command = sign(entity, &[1; 32]);
    let mut beside = |rider: Auth<'_>| {
        tpm.run_with(&command, [Auth::password(VALUE)], [rider]).map(drop).unwrap_err()
    };
    for (error, reason) in [
        (beside(Auth::EMPTY), Protection::Password),
        (beside(trial.ride().audited(Audit::Extend)), Protection::NotHmac),
        (beside(policy.ride()), Protection::Idle),
        (beside(hmac.ride().audited(Audit::Never)), Protection::Idle),
        (tpm.run(&command, [trial.auth(VALUE)]).unwrap_err(), Protection::Trial),
    ] {
        assert!(
            matches!(error.fault(), Fault::Unprotectable(given) if *given == reason),
            "{error}"
        );
    }
    assert_eq!(recording.exchanges().len(), sent);
    Ok(())
}

/// The TPM executes under auditExclusive only what nothing came before, and says how it is.
#[test]
fn an_exclusive_audit_ends_with_the_command_of_another() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let entity = key(&mut tpm, 1, Digest::EMPTY)?;
    let command = sign(entity, &[1; 32]);
    let mut session = hmac_session(&mut tpm)?;
    assert_eq!(session.audit_digest(), None);
    tpm.run(&command, [session.auth(VALUE).audited(Audit::Extend)])?;
    assert!(session.is_exclusive());
    assert!(session.audit_digest().is_some());
    tpm.run(&command, [session.auth(VALUE).audited(Audit::Exclusive)])?;
    assert!(session.is_exclusive());
    tpm.run(&RANDOM, [])?;
    let refused = tpm.run(&command, [session.auth(VALUE).audited(Audit::Exclusive)]).unwrap_err();
    assert_eq!(refused.refusal(), Some(ResponseCode::EXCLUSIVE), "{refused}");
    tpm.run(&command, [session.auth(VALUE).audited(Audit::Extend)])?;
    assert!(!session.is_exclusive());
    tpm.run(&command, [session.auth(VALUE).audited(Audit::Reset)])?;
    assert!(session.is_exclusive());
    tpm.run(&command, [session.auth(VALUE).audited(Audit::Exclusive)])?;
    Ok(())
}

/// Part 1 §19.6.12: once it audits, a session is bound no longer.
#[test]
fn a_session_that_audits_proves_the_value_of_its_entity_again() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let entity = key(&mut tpm, 1, Digest::EMPTY)?;
    let mut session = tpm.start(&NewSession::hmac(HashAlg::Sha256).bound(entity, VALUE))?;
    let command = sign(entity, &[1; 32]);
    tpm.run(&command, [session.auth(VALUE)])?;
    tpm.run(&command, [session.auth(VALUE).audited(Audit::Extend)])?;
    tpm.run(&command, [session.auth(VALUE)])?;
    tpm.run_with(&RANDOM, [], [session.ride()])?;
    tpm.run(&command, [session.auth(VALUE)])?;
    Ok(())
}

/// The digests of a command that this side computes are those that the TPM computes when the command comes.
#[test]
fn a_policy_for_one_command_takes_that_one_only() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let hash = HashAlg::Sha384;
    let (one, other) = ([1; 32], [2; 32]);
    let right = create(Hierarchy::Owner, JoinKey::template(&one), SensitiveCreate::EMPTY);
    let wrong = create(Hierarchy::Owner, JoinKey::template(&other), SensitiveCreate::EMPTY);
    let (cp_hash, name_hash) = (cp_hash(hash, &right)?, name_hash(hash, &right)?);
    let by_cp_hash = PolicyDigest::new(hash).cp_hash(&cp_hash);
    let by_name_hash = PolicyDigest::new(hash).name_hash(&name_hash);
    for (policy, takes_both) in [(by_cp_hash, false), (by_name_hash, true)] {
        let set = SetPrimaryPolicy {
            auth_handle: HierarchyPolicy::Owner,
            auth_policy: policy.digest(),
            hash_alg: hash.alg(),
        };
        tpm.run(&set, [Auth::EMPTY])?;
        let mut session = tpm.start(&NewSession::policy(hash))?;
        let policy_session = session.handle();
        for (command, taken) in [(&right, true), (&wrong, takes_both)] {
            if takes_both {
                let name_hash = Digest::new(name_hash.octets())?;
                tpm.run(&PolicyNameHash { policy_session, name_hash }, [])?;
            } else {
                let cp_hash_a = Digest::new(cp_hash.octets())?;
                tpm.run(&PolicyCpHash { policy_session, cp_hash_a }, [])?;
            }
            let done = tpm.run(command, [session.auth(b"")]);
            match done.map(|answer| answer.object_handle.handle()) {
                Ok(created) if taken => tpm.flush(created)?,
                Ok(_) => panic!("another command than the policy's"),
                Err(error) => {
                    assert!(!taken, "{error}");
                    assert_eq!(error.refusal(), Some(ResponseCode::POLICY_FAIL), "{error}");
                }
            }
        }
        tpm.flush(policy_session.handle())?;
    }
    Ok(())
}

/// The authorizing session has no secret in common with the TPM: an eavesdropper could decrypt with it.
#[test]
fn a_salted_session_encrypts_even_where_a_weaker_one_authorizes() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let (mut tpm, recording) = recorded(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "rsa2048")?;
    let salt = ek.salt_key()?;
    let plan = NewSession::hmac(HashAlg::Sha256);
    let mut weak = tpm.start(&plan.encrypting(Cipher::Xor))?;
    let mut salted = tpm.start(&plan.salted(&salt).encrypting(Cipher::Aes128))?;
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::new(VALUE)?, data: SensitiveData::EMPTY };
    let command = create(Hierarchy::Owner, JoinKey::template(&[1; 32]), sensitive);
    tpm.secured(&mut salted).run(&command, [weak.auth(b"")])?;
    let sent = recording.exchanges().pop().context("an exchange")?.command;
    // Header, handle and size; each session is its handle, a nonce and an HMAC of 32 bytes, and the attributes between.
    let attributes = [18 + 4 + 34, 18 + 73 + 4 + 34].map(|at| SessionAttributes(sent[at]));
    let both = SessionAttributes::DECRYPT.with(SessionAttributes::ENCRYPT);
    let lasts = SessionAttributes::CONTINUE_SESSION;
    assert_eq!(attributes, [lasts, lasts.with(both)]);
    Ok(())
}

/// The nonces of others are in the HMAC of the first session that authorizes, which is missing here. Part 1 §19.6.5.
#[test]
fn several_sessions_ride_on_a_command_that_nothing_authorizes() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "rsa2048")?;
    let salt = ek.salt_key()?;
    let plan = NewSession::hmac(HashAlg::Sha256).salted(&salt);
    let mut audit = tpm.start(&plan)?;
    let [mut there, mut back] =
        [tpm.start(&plan.encrypting(Cipher::Aes128))?, tpm.start(&plan.encrypting(Cipher::Xor))?];
    let audits = || Audit::Extend;
    tpm.run_with(&RANDOM, [], [audit.session().ride().audited(audits()), back.session().ride()])?;
    tpm.run_with(&RANDOM, [], [back.session().ride(), audit.session().ride().audited(audits())])?;
    let hash =
        Hash { data: MaxBuffer::from(b"data"), hash_alg: Alg::SHA256, hierarchy: Hierarchy::Null };
    let riders = [
        there.session().ride().encrypting(Direction::Command),
        back.session().ride().encrypting(Direction::Answer),
    ];
    tpm.run_with(&hash, [], riders)?;
    Ok(())
}

/// A key that decrypts, without a cipher and with this scheme.
fn decryption_key(scheme: AsymScheme) -> Public<'static> {
    let attributes = ObjectAttributes::FIXED_TPM
        .with(ObjectAttributes::FIXED_PARENT)
        .with(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
        .with(ObjectAttributes::USER_WITH_AUTH)
        .with(ObjectAttributes::DECRYPT);
    let id = Id::Rsa(RsaPublic {
        symmetric: SymDefObject::Null,
        scheme,
        key_bits: 2048,
        exponent: 0,
        unique: PublicKeyRsa::EMPTY,
    });
    Public { name_alg: Alg::SHA256, attributes, auth_policy: Digest::EMPTY, id }
}

#[test]
fn salt_goes_by_the_hash_of_the_keys_own_scheme_and_a_missing_cipher_is_the_callers_fault()
-> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let (mut tpm, recording) = recorded(&swtpm)?;
    let oaep = |hash| AsymScheme::Oaep(HashScheme { hash });
    for scheme in
        [AsymScheme::Null, oaep(Alg::SHA256), oaep(Alg::SHA384), oaep(Alg::SHA1), AsymScheme::Rsaes]
    {
        let template = decryption_key(scheme);
        let (owner, auth) = (Hierarchy::Owner, Auth::password(&[]));
        let made = create_primary(&mut tpm, owner, auth, &template, SensitiveCreate::EMPTY)?;
        let (key, salt) = (made.0.handle(), made.0.salt_key()?);
        let before = recording.exchanges().len();
        let encrypting = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On);
        let error = encrypting.err().context("a cipher")?;
        assert!(matches!(error.fault(), Fault::Unsupported("symmetric cipher")), "{error}");
        assert_eq!(recording.exchanges().len(), before, "something was sent");
        let plan = NewSession::hmac(HashAlg::Sha256).encrypting(Cipher::Aes128).salted(&salt);
        match (scheme, tpm.start(&plan)) {
            (AsymScheme::Rsaes, refused) => {
                let error = refused.err().context("RSAES")?;
                assert!(matches!(error.fault(), Fault::Salt(_)), "{error}");
                assert_eq!(recording.exchanges().len(), before, "something was sent");
            }
            (_, started) => {
                let mut session = started.with_context(|| format!("{scheme:?}"))?;
                tpm.run_with(&RANDOM, [], [session.session().ride()])?;
                tpm.flush(session.handle().handle())?;
            }
        }
        tpm.flush(key)?;
    }
    Ok(())
}

#[test]
fn a_session_that_cannot_be_bound_is_not_started() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let (mut tpm, recording) = recorded(&swtpm)?;
    let nameless = Object::unnamed(Handle(0x8100_0001));
    let refused = tpm.start(&NewSession::hmac(HashAlg::Sha256).bound(nameless, VALUE));
    assert!(matches!(refused.unwrap_err().fault(), Fault::Unnamed));
    assert!(recording.exchanges().is_empty(), "nothing was sent");
    Ok(())
}
