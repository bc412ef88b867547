//! Answers that nothing protects, cut and changed in every way: refused, or harmless.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result};
use testkit::bus::{Interposer, Scripted, changed};
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{
    RANDOM, activate, client, create_join_key, persistent_ek, policy_secret, read_public, sign,
    start, way,
};
use tpm2::commands::{
    Authorized, FlushContext, GetCapability, LoadExternal, NvRead, NvReadPublic, PcrRead,
    PolicyGetDigest, PolicyOr, SelfTest, Shutdown, Start, StartAuthSession,
};
use tpm2::crypto::{HashAlg, make_credential, object_name};
use tpm2::endorsement::{self, Passwords};
use tpm2::session::Auth;
use tpm2::template::policy;
use tpm2::transport::{Record, Recording};
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b};
use tpm2::{Fault, Tpm};
use verifier::JoinKey;

const SECRET: [u8; 32] = [0x5a; 32];

/// Runs one command against a TPM, and then against every corruption of its true answer.
struct Corruption {
    recording: Recording,
    tpm: Tpm<Record<tests::tpm::Way>>,
    /// Answers that differed from the truth and were believed, of commands that nothing protects.
    believed: BTreeMap<&'static str, usize>,
    refused: usize,
}

impl Corruption {
    fn new(swtpm: &Swtpm) -> Result<Self> {
        let recording = Recording::default();
        let tpm = Tpm::new(Record::new(way(swtpm)?, recording.clone()));
        Ok(Self { recording, tpm, believed: BTreeMap::new(), refused: 0 })
    }

    /// `show` says what a caller would see of an answer, all of it.
    fn of<C: Authorized<N>, const N: usize>(
        &mut self,
        command: &C,
        show: impl Fn(&C::Response<'_>) -> String,
    ) -> Result<()> {
        let name = C::INFO.name;
        self.tpm.run(command, [const { Auth::EMPTY }; N])?;
        let truth = self.recording.exchanges().pop().context("nothing recorded")?.response;
        let against = |answer: Vec<u8>| {
            let mut tpm = Tpm::new(Scripted::new([answer]));
            tpm.run(command, [const { Auth::EMPTY }; N]).map(|answer| show(&answer))
        };
        against(truth.clone()).with_context(|| format!("{name}: the truth"))?;
        for len in 0..truth.len() {
            let error = against(truth[..len].to_vec()).unwrap_err();
            assert!(matches!(error.fault(), Fault::Malformed(_)), "{name}, {len} octets: {error}");
            // The same, by someone who also corrects the size.
            if len >= 10 {
                let mut shorter = truth[..len].to_vec();
                shorter[2..6].copy_from_slice(&u32::try_from(len)?.to_be_bytes());
                let error = against(shorter).unwrap_err();
                assert!(matches!(error.fault(), Fault::Malformed(_)), "{name}, {len}: {error}");
            }
        }
        for extra in [1, 100] {
            let mut longer = truth.clone();
            longer.resize(truth.len() + extra, 0);
            against(longer.clone()).unwrap_err();
            longer[2..6].copy_from_slice(&u32::try_from(truth.len() + extra)?.to_be_bytes());
            against(longer).unwrap_err();
        }
        for (at, answer) in changed(&truth) {
            match against(answer) {
                Ok(_) => {
                    assert!(at >= 10, "{name}: octet {at} of the header");
                    *self.believed.entry(name).or_default() += 1;
                }
                Err(error) => {
                    assert!(
                        matches!(error.fault(), Fault::Malformed(_) | Fault::Refused(_)),
                        "{name}, octet {at}: {error}"
                    );
                    self.refused += 1;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn every_truncation_and_one_octet_change_of_every_unprotected_answer_is_refused_or_harmless()
-> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut run = Corruption::new(&swtpm)?;
    let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
    run.of(&NvReadPublic { nv_index }, |a| format!("{a:?}"))?;
    let auth_handle = NvAuth::Index(nv_index);
    run.of(&NvRead { auth_handle, nv_index, size: 64, offset: 0 }, |a| format!("{a:?}"))?;
    run.of(&read_public(Handle(0x8101_0001)), |a| format!("{a:?}"))?;
    run.of(&read_public(Handle(0x8101_0016)), |a| format!("{a:?}"))?;
    run.of(&RANDOM, |a| format!("{a:?}"))?;
    run.of(&SelfTest { full_test: false }, |a| format!("{a:?}"))?;
    for (capability, property) in [
        (Capability::ALGS, 0),
        (Capability::HANDLES, 0x8100_0000),
        (Capability::COMMANDS, 0x100),
        (Capability::PCRS, 0),
        (Capability::TPM_PROPERTIES, 0x100),
        (Capability::ECC_CURVES, 0),
        (Capability::PP_COMMANDS, 0x100),
        (Capability::AUDIT_COMMANDS, 0x100),
    ] {
        run.of(&GetCapability { capability, property, property_count: 5 }, |a| format!("{a:?}"))?;
    }
    let pcrs = [PcrSelection::new(Alg::SHA256, &[3, 0, 0])?];
    run.of(&PcrRead { pcr_selection_in: List::new(&pcrs) }, |a| format!("{a:?}"))?;

    let start = StartAuthSession {
        tpm_key: None,
        bind: None,
        nonce_caller: Nonce::from(&[7; 32]),
        encrypted_salt: EncryptedSecret::EMPTY,
        session_type: SessionType::POLICY,
        symmetric: SymDef::Null,
        auth_hash: Alg::SHA256,
    };
    run.of(&start, |a| format!("{a:?}"))?;
    let session = run.tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?.handle();
    run.of(&policy_secret(session), |a| format!("{a:?}"))?;
    let branches = [&policy::A_SHA256, &policy::C_SHA256].map(|d| Digest::new(d).expect("fits"));
    let or = PolicyOr { policy_session: session, p_hash_list: List::new(&branches) };
    run.of(&or, |a| format!("{a:?}"))?;
    run.of(&PolicyGetDigest { policy_session: session }, |a| format!("{a:?}"))?;

    run.of(&create_join_key(&[1; 32]), |a| format!("{a:?}"))?;
    run.tpm.flush_all()?;
    let public = Tpm2b(software_key());
    let load = LoadExternal { in_private: None, in_public: public, hierarchy: Hierarchy::Null };
    run.of(&load, |a| format!("{a:?}"))?;
    run.tpm.flush_all()?;

    let ek = persistent_ek(&mut run.tpm, "p384")?;
    let answer = run.tpm.run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
    let name = object_name(&answer.out_public.0)?;
    let key = answer.object_handle.named(name);
    run.of(&sign(key, &[1; 32]), |a| format!("{a:?}"))?;
    let credential = make_credential(&ek.public()?, &name, &SECRET)?;
    run.of(&activate(key, ek.salt_key()?.object(), &credential), |a| format!("{a:?}"))?;
    run.of(&FlushContext { flush_handle: key.handle() }, |a| format!("{a:?}"))?;
    run.of(&Shutdown { shutdown_type: Startup::CLEAR }, |a| format!("{a:?}"))?;
    run.tpm.run(&Start { startup_type: Startup::CLEAR }, []).unwrap_err();
    assert!(run.refused > 1000, "{}", run.refused);
    // What is believed is content: a digest, a number, a name. Where it matters a session protects it, see above.
    assert!(run.believed.contains_key("TPM2_GetRandom"));
    assert!(!run.believed.contains_key("TPM2_FlushContext"));
    Ok(())
}

/// A public area that no TPM made: the base point of P-256.
fn software_key() -> Public<'static> {
    static X: [u8; 32] = [
        0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40,
        0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98,
        0xc2, 0x96,
    ];
    static Y: [u8; 32] = [
        0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e,
        0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf,
        0x51, 0xf5,
    ];
    let mut public = JoinKey::template(&X);
    public.attributes =
        ObjectAttributes::USER_WITH_AUTH.with(ObjectAttributes::SIGN).with(ObjectAttributes::NO_DA);
    let Id::Ecc(ref mut ecc) = public.id else { unreachable!("a join key is on a curve") };
    ecc.unique = EccPoint {
        x: EccParameter::new(&X).expect("32 octets"),
        y: EccParameter::new(&Y).expect("32 octets"),
    };
    public
}

#[test]
fn sizes_that_an_answer_only_claims_are_not_allocated_nor_read() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let _ = tpm.run(&RANDOM, [])?;
    // 65535 bytes of random, 2^32 - 1 handles, a parameter area of 2^32 - 1 bytes: none of them there.
    let random = vec![0x80, 0x01, 0, 0, 0, 14, 0, 0, 0, 0, 0xff, 0xff, 1, 2];
    let error = Tpm::new(Scripted::new([random])).run(&RANDOM, []).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    let mut handles = vec![0x80, 0x01, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    handles.extend([0xff; 4]);
    let ask =
        GetCapability { capability: Capability::HANDLES, property: 0, property_count: u32::MAX };
    let error = Tpm::new(Scripted::new([handles])).run(&ask, []).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    let mut area = vec![0x80, 0x02, 0, 0, 0, 14, 0, 0, 0, 0];
    area.extend([0xff; 4]);
    let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
    let read = NvRead { auth_handle: NvAuth::Owner, nv_index, size: 8, offset: 0 };
    let error = Tpm::new(Scripted::new([area])).run(&read, [Auth::EMPTY]).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    Ok(())
}

#[test]
fn nv_memory_that_is_not_read_as_asked_for_is_refused_and_is_not_read_for_ever() -> Result<()> {
    let nv_answer = |content: &[u8]| -> Vec<u8> {
        let size = u16::try_from(content.len()).expect("short").to_be_bytes();
        let parameters = [&size[..], content].concat();
        let len = u32::try_from(10 + 4 + parameters.len() + 5).expect("short").to_be_bytes();
        let parameters_len = u32::try_from(parameters.len()).expect("short").to_be_bytes();
        [&[0x80, 0x02][..], &len, &[0; 4], &parameters_len, &parameters, &[0, 0, 1, 0, 0]].concat()
    };
    for given in [&[][..], &[0x30], &[0x30; 767], &[0x30; 769], &[0x30; 2048]] {
        let bus = Interposer::new(Scripted::new([]), |_, _| Ok(nv_answer(given)));
        let mut tpm = Tpm::new(bus);
        let error = endorsement::read(&mut tpm, Handle(0x01c0_0004), Passwords::NONE).unwrap_err();
        assert!(matches!(error.fault(), Fault::Malformed(_)), "{} octets: {error}", given.len());
    }
    // As many as it was asked for, and no end in sight.
    let asked = Rc::new(Cell::new(0));
    let counter = asked.clone();
    let bus = Interposer::new(Scripted::new([]), move |command: &[u8], _| {
        counter.set(counter.get() + 1);
        let size = u16::from_be_bytes([command[31], command[32]]);
        Ok(nv_answer(&vec![0x30; usize::from(size)]))
    });
    let mut tpm = Tpm::new(bus);
    let content =
        endorsement::read(&mut tpm, Handle(0x01c0_0004), Passwords::NONE)?.context("nothing")?;
    assert_eq!((content.len(), asked.get()), (8192, 11));
    Ok(())
}
