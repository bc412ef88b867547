//! Sessions against a TPM: what they authorize, what they hide, when they end.

use anyhow::Result;
use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use testkit::bus::{Interposer, Scripted, command_code, forward, refusal, response_code};
use testkit::swtpm::Kind;
use tests::tpm::{
    RANDOM, activate, client, create, create_join_key, ek_kind, high_branches, hmac_session, load,
    persistent_ek, policy_secret, read_public, satisfy, sign, start, way,
};
use tpm2::commands::{
    Command, GetCapability, GetRandom, PolicyGetDigest, PolicyOr, StartAuthSession,
};
use tpm2::crypto::{HashAlg, make_credential, object_name};
use tpm2::endorsement::{EkPublicKey, ek_public_key};
use tpm2::object::Loaded;
use tpm2::session::{Auth, Encryption, SaltKey};
use tpm2::template::policy;
use tpm2::transport::{Record, Recording, Transport};
use tpm2::types::*;
use tpm2::{Fault, Tpm};
use verifier::JoinKey;

/// A TPM of each kind of endorsement key that sessions can be salted to.
const SALTS: [(Kind, &str); 3] =
    [(Kind::RsaAndP384, "rsa2048"), (Kind::RsaAndP384, "p384"), (Kind::P256, "p256")];

/// An authorization value with a zero in it and zeros behind it: only the latter do not count.
const AWKWARD: [u8; 6] = [0x70, 0x00, 0x73, 0x73, 0x00, 0x00];

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_session_salted_to_each_ek_proves_and_hides_answers() -> Result<()> {
    for (kind, name) in SALTS {
        let swtpm = start(kind)?;
        let recording = Recording::default();
        let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
        let ek = persistent_ek(&mut tpm, name)?;
        let salt = ek.salt_key()?;
        for session_type in [SessionType::HMAC, SessionType::POLICY] {
            for encryption in [Encryption::On, Encryption::Off] {
                let mut session = tpm.start_salted_session(session_type, &salt, encryption)?;
                if session_type == SessionType::POLICY && encryption == Encryption::Off {
                    continue; // It cannot ride.
                }
                // Nonces roll: a second and a third command prove that both sides roll them alike.
                for _ in 0..3 {
                    let answer = tpm.secured(&mut session).run(&RANDOM, [])?;
                    let random = answer.random_bytes.octets().to_vec();
                    assert_eq!(random.len(), 32);
                    let bus = recording.exchanges();
                    let seen = contains(&bus.last().unwrap().response, &random);
                    assert_eq!(seen, encryption == Encryption::Off, "{name} {session_type:?}");
                }
                tpm.flush(session.handle().handle())?;
            }
            tpm.flush_all()?;
        }
    }
    Ok(())
}

#[test]
fn a_session_salted_to_a_key_that_is_not_at_the_handle_never_works() -> Result<()> {
    for (kind, name) in SALTS {
        let swtpm = start(kind)?;
        let foreign =
            start(if kind == Kind::P256 { Kind::P256NotPersistent } else { Kind::P384Only })?;
        let mut tpm = client(&swtpm)?;
        let ek = persistent_ek(&mut tpm, name)?;
        // A key of the same kind from another TPM, or one that was never in a TPM.
        let modulus = unknown_ek_modulus();
        let mut other_tpm = client(&foreign)?;
        let other = match name {
            "p256" => tpm2::endorsement::create(
                &mut other_tpm,
                ek_kind(name),
                None,
                tpm2::endorsement::Passwords::NONE,
            )?
            .expect("no key was expected"),
            "p384" => persistent_ek(&mut other_tpm, name)?,
            _ => {
                let public = ek_kind(name).public(EkPublicKey::Rsa(&modulus))?;
                Loaded::new(ek.handle(), &public)?
            }
        };
        assert_ne!(other.public()?, ek.public()?);
        let salt = SaltKey::new(ek.handle(), other.public()?)?;
        match tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On) {
            Ok(mut session) => {
                let error = tpm.secured(&mut session).run(&RANDOM, []).unwrap_err();
                assert!(matches!(error.fault(), Fault::Refused(_) | Fault::Forged), "{error}");
            }
            Err(error) => assert!(matches!(error.fault(), Fault::Refused(_)), "{error}"),
        }
    }
    Ok(())
}

/// The product of two primes of 1024 bits is not needed: that the number is odd and long is enough.
fn unknown_ek_modulus() -> [u8; 256] {
    let mut modulus = [0xc5; 256];
    modulus[255] = 0x01;
    modulus
}

#[test]
fn an_authorization_value_with_zeros_in_it_and_behind_it_is_proven() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::new(&AWKWARD)?, data: SensitiveData::EMPTY };
    let key = load(&mut tpm, &create(Hierarchy::Owner, JoinKey::template(&[1; 32]), sensitive))?;
    let digest = [0x11; 32];
    let command = sign(key, &digest);

    let mut session = hmac_session(&mut tpm)?;
    for right in [&AWKWARD[..], &AWKWARD[..5], &AWKWARD[..4]] {
        tpm.run(&command, [session.auth(right)])?;
        tpm.run(&command, [Auth::password(right)])?;
    }
    for wrong in [&AWKWARD[..1], &AWKWARD[..2], &AWKWARD[..3], b"", b"p\0ss\0\0\x01", b"pss"] {
        let error = tpm.run(&command, [session.auth(wrong)]).unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{wrong:02x?}: {error}");
        let error = tpm.run(&command, [Auth::password(wrong)]).unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{wrong:02x?}: {error}");
    }
    tpm.run(&command, [session.auth(&AWKWARD)])?;

    // Where the session that authorizes also encrypts, the value is part of the cipher's key: with another one the TPM
    // would sign another digest than the one that was meant.
    let public = tpm.run(&read_public(key.handle()), [])?.out_public.0;
    let Some(EkPublicKey::Ecc(x, y)) = ek_public_key(&public) else { panic!("no curve") };
    let verifier = VerifyingKey::from_sec1_bytes(&[&[4][..], x, y].concat())?;
    let ek = persistent_ek(&mut tpm, "p384")?;
    let salt = ek.salt_key()?;
    for value in [&AWKWARD[..], &AWKWARD[..4]] {
        let mut salted = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
        let answer = tpm.run(&command, [salted.session().auth(value)])?;
        verifier.verify_prehash(&digest, &ecdsa(&answer.signature)?)?;
        let answer = tpm.secured(&mut salted).run(&command, [Auth::password(value)])?;
        verifier.verify_prehash(&digest, &ecdsa(&answer.signature)?)?;
        let answer = tpm.secured(&mut salted).run(&command, [session.auth(value)])?;
        verifier.verify_prehash(&digest, &ecdsa(&answer.signature)?)?;
        tpm.flush(salted.handle().handle())?;
    }
    Ok(())
}

fn ecdsa(signature: &Signature<'_>) -> Result<p256::ecdsa::Signature> {
    let Signature::Ecdsa(signature) = signature else { panic!("{signature:?}") };
    let padded = |number: EccParameter<'_>| {
        let mut octets = [0; 32];
        octets[32 - number.octets().len()..].copy_from_slice(number.octets());
        octets
    };
    Ok(p256::ecdsa::Signature::from_scalars(padded(signature.r), padded(signature.s))?)
}

#[test]
fn neither_password_nor_authorization_value_stays_in_the_clear_under_a_session() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let value = b"an authorization value";
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::new(value)?, data: SensitiveData::EMPTY };
    let command = create(Hierarchy::Owner, JoinKey::template(&[1; 32]), sensitive);
    let ek = persistent_ek(&mut tpm, "p384")?;
    let salt = ek.salt_key()?;
    let mut session = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
    let answer = tpm.secured(&mut session).run(&command, [Auth::EMPTY])?;
    let key = answer.object_handle.named(object_name(&answer.out_public.0)?);
    tpm.run(&sign(key, &[1; 32]), [session.session().auth(value)])?;
    let in_clear = |recording: &Recording| {
        recording.exchanges().iter().any(|exchange| contains(&exchange.command, value))
    };
    assert!(!in_clear(&recording));
    tpm.run(&sign(key, &[1; 32]), [Auth::password(value)])?;
    assert!(in_clear(&recording), "a check that can fail");
    Ok(())
}

fn digest_of<T: Transport>(tpm: &mut Tpm<T>, session: SessionHandle) -> Result<DigestBuf> {
    let answer = tpm.run(&PolicyGetDigest { policy_session: session }, [])?;
    Ok(DigestBuf::new(answer.policy_digest.octets()).expect("a digest"))
}

#[test]
fn each_ek_is_used_by_its_policy_and_only_by_it() -> Result<()> {
    for (kind, name) in SALTS {
        let swtpm = start(kind)?;
        let mut tpm = client(&swtpm)?;
        let ek = persistent_ek(&mut tpm, name)?;
        let (public, object) = (ek.public()?, ek.salt_key()?.object());
        let answer = tpm.run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
        let join_name = object_name(&answer.out_public.0)?;
        let key = answer.object_handle.named(join_name);
        let hash = HashAlg::try_from(public.name_alg)?;
        let credential = make_credential(&public, &join_name, &[0x5a; 32])?;
        let command = activate(key, object, &credential);

        let mut session = tpm.start_session(SessionType::POLICY, hash)?;
        let error = tpm.run(&command, [Auth::EMPTY, session.auth(b"")]).unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::POLICY_FAIL), "{name}: {error}");
        if name == "p384" {
            tpm.run(&policy_secret(session.handle()), [Auth::EMPTY])?;
            assert_eq!(digest_of(&mut tpm, session.handle())?.octets(), policy::A_SHA384);
            let error = tpm.run(&command, [Auth::EMPTY, session.auth(b"")]).unwrap_err();
            assert_eq!(error.refusal(), Some(ResponseCode::POLICY_FAIL), "half of it: {error}");
            let branches = high_branches();
            let or = PolicyOr {
                policy_session: session.handle(),
                p_hash_list: tpm2::wire::List::new(&branches),
            };
            tpm.run(&or, [])?;
            assert_eq!(digest_of(&mut tpm, session.handle())?.octets(), policy::B_SHA384);
        } else {
            satisfy(&mut tpm, ek_kind(name), session.handle())?;
        }
        let answer = tpm.run(&command, [Auth::EMPTY, session.auth(b"")])?;
        assert_eq!(answer.cert_info.octets(), [0x5a; 32]);
        // Its use has reset the policy.
        let error = tpm.run(&command, [Auth::EMPTY, session.auth(b"")]).unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::POLICY_FAIL), "{name}: {error}");

        let by_password = tpm.run(&command, [Auth::EMPTY, Auth::EMPTY]).map(|_| ());
        if ek_kind(name).has_user_with_auth() {
            by_password?;
        } else {
            let error = by_password.unwrap_err();
            assert_eq!(error.refusal(), Some(ResponseCode::AUTH_UNAVAILABLE), "{name}: {error}");
        }
    }
    Ok(())
}

#[test]
fn a_policy_session_of_another_hash_than_the_eks_is_refused() -> Result<()> {
    let swtpm = start(Kind::P384Only)?;
    let mut tpm = client(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "p384")?;
    let answer = tpm.run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
    let name = object_name(&answer.out_public.0)?;
    let key = answer.object_handle.named(name);
    let credential = make_credential(&ek.public()?, &name, &[1; 32])?;
    let mut session = tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?;
    tpm.run(&policy_secret(session.handle()), [Auth::EMPTY])?;
    let command = activate(key, ek.salt_key()?.object(), &credential);
    let error = tpm.run(&command, [Auth::EMPTY, session.auth(b"")]).unwrap_err();
    assert!(matches!(error.fault(), Fault::Refused(ResponseCode(0xa9d))), "{error}");
    Ok(())
}

/// Whether the command succeeds or is refused. The compiler ensures that the session is not used again.
#[test]
fn the_last_use_of_a_session_ends_it() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::from(b"secret"), data: SensitiveData::EMPTY };
    let key = load(&mut tpm, &create(Hierarchy::Owner, JoinKey::template(&[1; 32]), sensitive))?;
    let command = sign(key, &[1; 32]);
    let ek = persistent_ek(&mut tpm, "p384")?;
    let salt = ek.salt_key()?;
    for right in [true, false] {
        let secret: &[u8] = if right { b"secret" } else { b"wrong" };
        let plain = hmac_session(&mut tpm)?;
        assert_eq!(tpm.run(&command, [plain.last_auth(secret)]).is_ok(), right);
        assert_eq!(loaded_sessions(&mut tpm)?, 0);
        let salted = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
        assert_eq!(tpm.run(&command, [salted.last_auth(secret)]).is_ok(), right);
        assert_eq!(loaded_sessions(&mut tpm)?, 0);
    }
    assert_eq!(
        flushes(&recording).len(),
        2,
        "after the refusals; else they are gone by themselves"
    );
    Ok(())
}

fn loaded_sessions<T: Transport>(tpm: &mut Tpm<T>) -> Result<usize> {
    let ask = GetCapability {
        capability: Capability::HANDLES,
        property: 0x0200_0000,
        property_count: 64,
    };
    match tpm.run(&ask, [])?.capability_data {
        CapabilityData::Handles(handles) => Ok(handles.len()),
        other => panic!("{other:?}"),
    }
}

fn flushes(recording: &Recording) -> Vec<Vec<u8>> {
    let code = tpm2::commands::FlushContext::INFO.code;
    let flush = |command: &Vec<u8>| command_code(command) == code;
    recording.exchanges().into_iter().map(|exchange| exchange.command).filter(flush).collect()
}

#[test]
fn a_session_that_a_command_ended_is_not_flushed_again() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let session = hmac_session(&mut tpm)?;
    let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
    tpm.run(&sign(key, &[1; 32]), [session.last_auth(b"")])?;
    drop(tpm);
    let flushed = flushes(&recording);
    assert_eq!(flushed.len(), 1);
    assert!(flushed[0].ends_with(&key.handle().0.to_be_bytes()));
    assert!(recording.exchanges().iter().all(|e| response_code(&e.response).0 == 0));
    Ok(())
}

/// Part 1 §19.6.5: where one session authorizes and another one encrypts, the nonces of the second enter the HMAC of the
/// first, so that the second cannot be taken away.
#[test]
fn the_nonces_of_an_encrypting_session_enter_the_hmac_of_the_first() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "p384")?;
    let salt = ek.salt_key()?;
    let mut first = hmac_session(&mut tpm)?;
    for kind in [SessionType::HMAC, SessionType::POLICY] {
        let mut rider = tpm.start_salted_session(kind, &salt, Encryption::On)?;
        // Both directions are encrypted: TPM2_CreatePrimary takes and gives a sized first parameter.
        let answer = tpm.secured(&mut rider).run(&create_join_key(&[1; 32]), [first.auth(b"")])?;
        let key = answer.object_handle.named(object_name(&answer.out_public.0)?);
        // One direction: TPM2_Sign takes one and gives none.
        tpm.secured(&mut rider).run(&sign(key, &[1; 32]), [first.auth(b"")])?;
        // The other direction: PolicySecret takes a nonce, answers a timeout; NV_Read only answers one.
        let public = tpm
            .run(
                &tpm2::commands::NvReadPublic { nv_index: NvIndex::unnamed(Handle(0x01c0_0002)) },
                [],
            )?
            .nv_public
            .0;
        let nv_index = NvIndex::named(public.index, tpm2::crypto::nv_name(&public)?);
        let read = tpm2::commands::NvRead {
            auth_handle: NvAuth::Index(nv_index),
            nv_index,
            size: 8,
            offset: 0,
        };
        tpm.secured(&mut rider).run(&read, [first.auth(b"")])?;
        tpm.flush(key.handle())?;
        tpm.flush(rider.handle().handle())?;
    }
    Ok(())
}

#[test]
fn three_sessions_at_once_open_a_credential() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let ek = persistent_ek(&mut tpm, "rsa2048")?;
    let salt = ek.salt_key()?;
    let answer = tpm.run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
    let name = object_name(&answer.out_public.0)?;
    let key = answer.object_handle.named(name);
    let secret = [0x5a; 32];
    let credential = make_credential(&ek.public()?, &name, &secret)?;
    let command = activate(key, salt.object(), &credential);
    let first = hmac_session(&mut tpm)?;
    let second = tpm.start_salted_session(SessionType::POLICY, &salt, Encryption::Off)?;
    let mut third = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
    tpm.run(&policy_secret(second.handle()), [Auth::EMPTY])?;
    let auths = [first.last_auth(b""), second.last_auth(b"")];
    let answer = tpm.secured(&mut third).run(&command, auths)?;
    assert_eq!(answer.cert_info.octets(), secret);
    assert!(!recording.exchanges().iter().any(|e| contains(&e.response, &secret)));
    Ok(())
}

#[test]
fn an_entity_without_a_name_is_not_used_under_a_session() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
    let mut session = hmac_session(&mut tpm)?;
    let nameless = Object::unnamed(key.handle());
    let before = recording.exchanges().len();
    let error = tpm.run(&sign(nameless, &[1; 32]), [session.auth(b"")]).unwrap_err();
    assert!(matches!(error.fault(), Fault::Unnamed), "{error}");
    assert_eq!(recording.exchanges().len(), before, "nothing was sent");
    tpm.run(&sign(nameless, &[1; 32]), [Auth::EMPTY])?;
    tpm.run(&sign(key, &[1; 32]), [session.auth(b"")])?;
    Ok(())
}

#[test]
fn a_handle_that_holds_another_object_than_its_name_says_is_refused_under_a_session() -> Result<()>
{
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let mine = load(&mut tpm, &create_join_key(&[1; 32]))?;
    let theirs = load(&mut tpm, &create_join_key(&[2; 32]))?;
    let name = mine.name().expect("computed by load");
    let swapped = Object::named(theirs.handle(), name);
    let mut session = hmac_session(&mut tpm)?;
    let error = tpm.run(&sign(swapped, &[1; 32]), [session.auth(b"")]).unwrap_err();
    assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{error}");
    Ok(())
}

#[test]
fn a_session_handle_of_another_kind_is_no_session() -> Result<()> {
    for handle in [0x8000_0000_u32, 0x8100_0001, 0x0100_0000, 0x4000_0007, 0x0000_0001, 0xffff_ffff]
    {
        let mut answer = vec![0x80, 0x01, 0, 0, 0, 48, 0, 0, 0, 0];
        answer.extend(handle.to_be_bytes());
        answer.extend([0, 32]);
        answer.extend([7; 32]);
        let mut tpm = Tpm::new(Scripted::new([answer]));
        let error = tpm.start_session(SessionType::HMAC, HashAlg::Sha256).unwrap_err();
        assert_eq!(error.command(), StartAuthSession::INFO.code);
        assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    }
    Ok(())
}

/// An attacker who cannot make an HMAC can say no instead, or repeat an old answer; he is not believed.
#[test]
fn an_old_answer_is_not_taken_for_a_new_one() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut old = None;
    let code = GetRandom::INFO.code;
    let way = Interposer::new(way(&swtpm)?, move |command, tpm| {
        let answer = forward(tpm, command)?;
        if command_code(command) != code {
            return Ok(answer);
        }
        Ok(old.get_or_insert(answer).clone())
    });
    let mut tpm = Tpm::new(way);
    let ek = persistent_ek(&mut tpm, "p384")?;
    let mut session =
        tpm.start_salted_session(SessionType::HMAC, &ek.salt_key()?, Encryption::On)?;
    tpm.secured(&mut session).run(&RANDOM, [])?;
    let error = tpm.secured(&mut session).run(&RANDOM, []).unwrap_err();
    assert!(matches!(error.fault(), Fault::Forged), "{error}");
    Ok(())
}

#[test]
fn an_answer_without_its_authorizations_is_refused() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let code = GetRandom::INFO.code;
    let way = Interposer::new(way(&swtpm)?, move |command, tpm| {
        let answer = forward(tpm, command)?;
        if command_code(command) != code {
            return Ok(answer);
        }
        // What the TPM would say to the same command without sessions.
        let mut bare = vec![0x80, 0x01, 0, 0, 0, 44, 0, 0, 0, 0, 0, 32];
        bare.extend([0x41; 32]);
        Ok(bare)
    });
    let mut tpm = Tpm::new(way);
    let ek = persistent_ek(&mut tpm, "p384")?;
    let mut session =
        tpm.start_salted_session(SessionType::HMAC, &ek.salt_key()?, Encryption::On)?;
    let error = tpm.secured(&mut session).run(&RANDOM, []).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    // And one that lies about its tag.
    let mut lie = vec![0x80, 0x02, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 34, 0, 32];
    lie.extend([0x41; 32]);
    let mut tpm = Tpm::new(Scripted::new([lie, refusal(ResponseCode::FAILURE)]));
    let error = tpm.run(&RANDOM, []).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    Ok(())
}
