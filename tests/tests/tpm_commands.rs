//! The table of commands, laid against a TPM: what it says of its commands, and what it does when they are sent.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use tests::bus::{command_code, response_code};
use tests::tpm::{
    RANDOM, activate, client, create_join_key, hmac_session, load, persistent_ek, policy_secret,
    sign, start, way,
};
use tpm2::commands::*;
use tpm2::crypto::{make_credential, nv_name, object_name};
use tpm2::session::{Auth, Encryption, Salted};
use tpm2::transport::{Exchange, Record, Recording, Transport};
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b};
use tpm2::{Error, Fault, Tpm};
use xtask::swtpm::{Kind, Swtpm};
use xtask::table;

#[test]
fn the_table_and_a_live_tpm_agree_in_every_handle() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let comparison = table::compare(&mut client(&swtpm)?)?;
    assert!(comparison.different.is_empty(), "{comparison}");
    assert!(comparison.alike.len() > 100, "{comparison}");
    for newer in NEWER {
        assert!(comparison.absent.iter().any(|info| info.name == newer), "{newer} is there");
    }
    Ok(())
}

/// What libtpms does not have yet, of the policies.
const NEWER: [&str; 3] =
    ["TPM2_PolicyCapability", "TPM2_PolicyParameters", "TPM2_PolicyTransportSPDM"];

#[test]
fn every_command_runs() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    every_command(&swtpm, &recording, Riding::Nothing)?;
    assert_eq!(succeeded(&recording.exchanges()), all(|_| true));
    Ok(())
}

#[test]
fn every_command_that_can_have_sessions_runs_under_an_extra_one() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    every_command(&swtpm, &recording, Riding::HmacSession)?;
    let under_one: Vec<_> = recording
        .exchanges()
        .into_iter()
        .filter(|exchange| rides(&exchange.command) && response_code(&exchange.response).0 == 0)
        .collect();
    assert_eq!(succeeded(&under_one), all(|info| info.sessions));
    for Exchange { command, response } in under_one {
        let info = tpm2::commands::by_code(command_code(&command)).context("unknown")?;
        let handles = usize::from(info.response.handle.is_some()) * 4;
        let size = response[10 + handles..14 + handles].try_into()?;
        let parameters = u32::from_be_bytes(size) as usize;
        assert!(14 + handles + parameters < response.len(), "{}: no authorizations", info.name);
    }
    Ok(())
}

#[test]
fn a_command_without_room_for_sessions_is_not_sent_under_one() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let mut session = salted(&mut tpm, SessionType::HMAC, Encryption::On)?;
    let before = recording.exchanges().len();
    let flush = FlushContext { flush_handle: session.handle().handle() };
    let refused = tpm.secured(&mut session).run(&flush, []).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Unprotectable), "{refused}");
    let again = Start { startup_type: Startup::CLEAR };
    let refused = tpm.secured(&mut session).run(&again, []).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Unprotectable), "{refused}");
    assert_eq!(recording.exchanges().len(), before);
    Ok(())
}

#[test]
fn a_policy_session_that_could_do_nothing_does_not_ride() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let mut clear = salted(&mut tpm, SessionType::POLICY, Encryption::Off)?;
    let before = recording.exchanges().len();
    let refused = tpm.secured(&mut clear).run(&RANDOM, []).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Unprotectable), "{refused}");
    assert_eq!(recording.exchanges().len(), before);
    let mut cipher = salted(&mut tpm, SessionType::POLICY, Encryption::On)?;
    tpm.secured(&mut cipher).run(&RANDOM, [])?;
    let test = SelfTest { full_test: false };
    let refused = tpm.secured(&mut cipher).run(&test, []).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Unprotectable), "{refused}");
    Ok(())
}

#[test]
fn every_refusal_names_command_code_and_culprit() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let said = |error: Error| error.to_string();
    let absent = NvIndex::unnamed(Handle(0x01c0_0002));
    assert_eq!(
        said(tpm.run(&NvReadPublic { nv_index: absent }, []).unwrap_err()),
        "TPM2_NV_ReadPublic: TPM_RC_HANDLE (0x18b), handle 1 (nv_index): nothing is at this handle"
    );
    let by_owner = NvRead { auth_handle: NvAuth::Owner, nv_index: absent, size: 1, offset: 0 };
    assert_eq!(
        said(tpm.run(&by_owner, [Auth::EMPTY]).unwrap_err()),
        "TPM2_NV_Read: TPM_RC_HANDLE (0x28b), handle 2 (nv_index): nothing is at this handle"
    );
    let mut wrong = tpm2::template::join_key(&[0; 32]);
    wrong.attributes = wrong.attributes.with(ObjectAttributes::RESTRICTED);
    wrong.attributes = wrong.attributes.with(ObjectAttributes::DECRYPT);
    let command = tests::tpm::create(Hierarchy::Owner, wrong, SensitiveCreate::EMPTY);
    let error = said(tpm.run(&command, [Auth::EMPTY]).unwrap_err());
    assert_eq!(
        error,
        "TPM2_CreatePrimary: TPM_RC_ATTRIBUTES (0x2c2), parameter 2 (in_public): inconsistent attributes"
    );
    let again = said(tpm.run(&Start { startup_type: Startup::CLEAR }, []).unwrap_err());
    assert!(again.starts_with("TPM2_Startup: TPM_RC_INITIALIZE (0x100)"), "{again}");
    let password = Auth::password(b"wrong");
    let error = said(tpm.run(&create_join_key(&[0; 32]), [password]).unwrap_err());
    assert!(error.starts_with("TPM2_CreatePrimary: TPM_RC_BAD_AUTH (0x9a2), session 1"), "{error}");
    Ok(())
}

/// Whether a session rides along on every command that can have one.
#[derive(Clone, Copy, PartialEq)]
enum Riding {
    Nothing,
    HmacSession,
}

/// Runs every command of the table at least once, and expects each to succeed.
fn every_command(swtpm: &Swtpm, recording: &Recording, riding: Riding) -> Result<()> {
    let mut tpm = Tpm::new(Record::new(way(swtpm)?, recording.clone()));
    let mut extra = match riding {
        Riding::Nothing => None,
        Riding::HmacSession => Some(salted(&mut tpm, SessionType::HMAC, Encryption::On)?),
    };
    let extra = &mut extra;
    reads(&mut tpm, extra)?;
    loads(&mut tpm, extra)?;
    activates(&mut tpm, extra)?;
    starts_a_session(&mut tpm, extra)?;
    policies_of_authorities(&mut tpm, extra)?;
    policies_of_states_and_uses(&mut tpm, extra)?;
    run(&mut tpm, extra, &Shutdown { shutdown_type: Startup::CLEAR }, [])?;
    tpm.flush_all()?;
    drop(tpm);
    reset(swtpm)?;
    let mut tpm = Tpm::new(Record::new(way(swtpm)?, recording.clone()));
    tpm.run(&Start { startup_type: Startup::CLEAR }, [])?;
    Ok(())
}

fn reads<T: Transport>(tpm: &mut Tpm<T>, extra: &mut Option<Salted>) -> Result<()> {
    run(tpm, extra, &SelfTest { full_test: false }, [])?;
    let ask = GetCapability {
        capability: Capability::TPM_PROPERTIES,
        property: Property::MANUFACTURER.0,
        property_count: 1,
    };
    let answer = run(tpm, extra, &ask, [])?;
    let CapabilityData::TpmProperties(properties) = answer.capability_data else {
        panic!("{answer:?}");
    };
    let manufacturer = properties.iter().next().context("no property")?;
    assert_eq!(
        manufacturer,
        TaggedProperty { property: Property::MANUFACTURER, value: 0x49424d00 }
    );
    assert_eq!(run(tpm, extra, &RANDOM, [])?.random_bytes.octets().len(), 32);

    let pcrs = [PcrSelection::new(Alg::SHA256, &[0x81, 0, 0])?];
    let answer = run(tpm, extra, &PcrRead { pcr_selection_in: List::new(&pcrs) }, [])?;
    assert_eq!(answer.pcr_selection_out, List::new(&pcrs));
    assert_eq!(answer.pcr_values.iter().count(), 2);

    let unnamed = NvIndex::unnamed(Handle(0x01c0_0002));
    let answer = run(tpm, extra, &NvReadPublic { nv_index: unnamed }, []);
    let nv_index = match answer {
        Ok(answer) => named(&answer)?,
        // Under a session the Name comes first, and where should it come from but from the TPM.
        Err(error) if matches!(error.fault(), Fault::Unnamed) => {
            let nv_index = named(&tpm.run(&NvReadPublic { nv_index: unnamed }, [])?)?;
            run(tpm, extra, &NvReadPublic { nv_index }, [])?;
            nv_index
        }
        Err(error) => return Err(error.into()),
    };
    let read = NvRead { auth_handle: NvAuth::Index(nv_index), nv_index, size: 16, offset: 0 };
    assert!(run(tpm, extra, &read, [Auth::EMPTY])?.data.octets().starts_with(&[0x30, 0x82]));
    Ok(())
}

fn named(answer: &tpm2::commands::NvReadPublicResponse<'_>) -> Result<NvIndex> {
    let name = nv_name(&answer.nv_public.0)?;
    assert_eq!(answer.nv_name.octets(), name.octets());
    Ok(NvIndex::named(answer.nv_public.0.index, name))
}

/// The software key of the activation vectors: its public area and its scalar.
fn loads<T: Transport>(tpm: &mut Tpm<T>, extra: &mut Option<Salted>) -> Result<()> {
    let scalar = hex("c1ed4034358a0d257556eef800d9b924c875f2a929a747b00e09e76a6c598ee1");
    let octets =
        hex("0023000b0004004000000010001000030010002042ddc4b51370d78803a77f2cba1b2373a216d6af6f6d\
         af1145244968c9b8dea900207109a21c9789427f35f40eec8fb7d3a997adb9dd9ebda9bd91b2db66aae05630");
    let public = <Public<'_> as tpm2::wire::Unmarshal<'_>>::from_bytes(&octets)?;
    let name = object_name(&public)?;
    let private = Some(Tpm2b(Sensitive::of(SensitiveSecret::Ecc(PrivateKeyEcc::new(&scalar)?))));
    for in_private in [None, private] {
        let load =
            LoadExternal { in_private, in_public: Tpm2b(public), hierarchy: Hierarchy::Null };
        let answer = run(tpm, extra, &load, [])?;
        assert_eq!(answer.name.octets(), name.octets());
        let key = answer.object_handle.named(name);
        let answer = run(tpm, extra, &tpm2::commands::ReadPublic { object_handle: key }, [])?;
        assert_eq!(answer.out_public.0, public);
        assert_eq!(answer.name.octets(), name.octets());
        if in_private.is_some() {
            let scheme = AsymScheme::Ecdsa(HashScheme { hash: Alg::SHA256 });
            let command = tpm2::commands::Sign { in_scheme: scheme, ..sign(key, &[1; 32]) };
            let answer = run(tpm, extra, &command, [Auth::EMPTY])?;
            assert!(matches!(answer.signature, Signature::Ecdsa(_)));
        }
        tpm.flush(key.handle())?;
    }
    Ok(())
}

fn activates<T: Transport>(tpm: &mut Tpm<T>, extra: &mut Option<Salted>) -> Result<()> {
    let ek = persistent_ek(tpm, "rsa2048")?;
    let answer = run(tpm, extra, &create_join_key(&[3; 32]), [Auth::EMPTY])?;
    let name = object_name(&answer.out_public.0)?;
    let key = answer.object_handle.named(name);
    let mut policy = tpm.start_session(SessionType::POLICY, tpm2::crypto::HashAlg::Sha256)?;
    run(tpm, extra, &policy_secret(policy.handle()), [Auth::EMPTY])?;
    let digest = PolicyGetDigest { policy_session: policy.handle() };
    let answer = run(tpm, extra, &digest, [])?;
    assert_eq!(answer.policy_digest.octets(), tpm2::template::policy::A_SHA256);
    let credential = make_credential(&ek.public()?, &name, &[0x5a; 32])?;
    let command = activate(key, ek.salt_key()?.object(), &credential);
    let answer = run(tpm, extra, &command, [Auth::EMPTY, policy.auth(b"")])?;
    assert_eq!(answer.cert_info.octets(), [0x5a; 32]);
    // An HMAC session before the one that rides, so that the nonces of the latter enter its HMAC.
    let mut first = hmac_session(tpm)?;
    run(tpm, extra, &sign(key, &[2; 32]), [first.auth(b"")])?;
    tpm.flush(first.handle().handle())?;

    let branches = [&tpm2::template::policy::A_SHA256, &[9; 32]].map(|d| Digest::new(d).unwrap());
    run(tpm, extra, &policy_secret(policy.handle()), [Auth::EMPTY])?;
    let or = PolicyOr { policy_session: policy.handle(), p_hash_list: List::new(&branches) };
    run(tpm, extra, &or, [])?;
    tpm.flush(policy.handle().handle())?;
    tpm.flush(key.handle())?;
    Ok(())
}

fn starts_a_session<T: Transport>(tpm: &mut Tpm<T>, extra: &mut Option<Salted>) -> Result<()> {
    let command = StartAuthSession {
        tpm_key: None,
        bind: None,
        nonce_caller: Nonce::new(&[7; 16])?,
        encrypted_salt: EncryptedSecret::EMPTY,
        session_type: SessionType::TRIAL,
        symmetric: SymDef::Null,
        auth_hash: Alg::SHA256,
    };
    let answer = run(tpm, extra, &command, [])?;
    assert_eq!(answer.nonce_tpm.octets().len(), 16);
    let handle = answer.session_handle.handle();
    tpm.flush(handle)?;
    Ok(())
}

/// In a trial session, where nothing needs to be so, but for the ticket, which is verified.
fn policies_of_authorities<T: Transport>(
    tpm: &mut Tpm<T>,
    extra: &mut Option<Salted>,
) -> Result<()> {
    let policy = tpm.start_session(SessionType::POLICY, tpm2::crypto::HashAlg::Sha256)?;
    let policy_session = policy.handle();
    let secret = PolicySecret { expiration: -600, ..policy_secret(policy_session) };
    let answer = run(tpm, extra, &secret, [Auth::EMPTY])?;
    let timeout = answer.timeout.octets().to_vec();
    let (ticket, hmac) = (answer.policy_ticket, answer.policy_ticket.digest.octets().to_vec());
    let (tag, hierarchy) = (ticket.tag, ticket.hierarchy);
    let endorsement = Handle::ENDORSEMENT.as_name();
    let again = PolicyTicket {
        policy_session,
        timeout: Timeout::new(&timeout)?,
        cp_hash_a: Digest::EMPTY,
        policy_ref: Nonce::EMPTY,
        auth_name: Name::new(endorsement.octets())?,
        ticket: Ticket { tag, hierarchy, digest: Digest::new(&hmac)? },
    };
    run(tpm, extra, &again, [])?;
    run(tpm, extra, &PolicyRestart { session_handle: policy_session }, [])?;
    tpm.flush(policy_session.handle())?;

    let trial = tpm.start_session(SessionType::TRIAL, tpm2::crypto::HashAlg::Sha256)?;
    let policy_session = trial.handle();
    let key = load(tpm, &create_join_key(&[3; 32]))?;
    let rs = EccParameter::new(&[7; 32])?;
    let signed = PolicySigned {
        auth_object: key,
        policy_session,
        nonce_tpm: Nonce::EMPTY,
        cp_hash_a: Digest::EMPTY,
        policy_ref: Nonce::EMPTY,
        expiration: 0,
        auth: Signature::Ecdsa(EccSignature { hash: Alg::SHA256, r: rs, s: rs }),
    };
    run(tpm, extra, &signed, [])?;
    let name = key.name().context("a Name")?;
    let check_ticket = VerifiedTicket {
        hierarchy: Handle::NULL,
        verified: Verified::Signature,
        hmac: Digest::EMPTY,
    };
    let authorize = PolicyAuthorize {
        policy_session,
        approved_policy: Digest::new(&[7; 32])?,
        policy_ref: Nonce::EMPTY,
        key_sign: Name::new(name.octets())?,
        check_ticket,
    };
    run(tpm, extra, &authorize, [])?;
    tpm.flush(policy_session.handle())?;
    Ok(tpm.flush(key.handle())?)
}

fn policies_of_states_and_uses<T: Transport>(
    tpm: &mut Tpm<T>,
    extra: &mut Option<Salted>,
) -> Result<()> {
    let trial = tpm.start_session(SessionType::TRIAL, tpm2::crypto::HashAlg::Sha256)?;
    let policy_session = trial.handle();
    let unnamed = NvIndex::unnamed(Handle(0x01c0_0002));
    let nv_index = named(&tpm.run(&NvReadPublic { nv_index: unnamed }, [])?)?;
    let auth_handle = NvAuth::Index(nv_index);
    let (operand_b, offset, operation) = (Digest::new(&[7; 8])?, 8, Comparison::EQ);
    let nv = PolicyNv { auth_handle, nv_index, policy_session, operand_b, offset, operation };
    run(tpm, extra, &nv, [Auth::EMPTY])?;
    let by_index = PolicyAuthorizeNv { auth_handle, nv_index, policy_session };
    run(tpm, extra, &by_index, [Auth::EMPTY])?;
    let timer = PolicyCounterTimer { policy_session, operand_b, offset, operation };
    run(tpm, extra, &timer, [])?;
    let pcrs = [PcrSelection::new(Alg::SHA256, &[0x81, 0, 0])?];
    let pcr = PolicyPcr { policy_session, pcr_digest: Digest::EMPTY, pcrs: List::new(&pcrs) };
    run(tpm, extra, &pcr, [])?;
    run(tpm, extra, &PolicyLocality { policy_session, locality: Locality::THREE }, [])?;
    run(tpm, extra, &PolicyPhysicalPresence { policy_session }, [])?;
    run(tpm, extra, &PolicyNvWritten { policy_session, written_set: true }, [])?;
    run(tpm, extra, &PolicyAuthValue { policy_session }, [])?;
    run(tpm, extra, &PolicyPassword { policy_session }, [])?;
    let code = Sign::INFO.code;
    run(tpm, extra, &PolicyCommandCode { policy_session, code }, [])?;
    let digest = Digest::new(&[7; 32])?;
    let restart = PolicyRestart { session_handle: policy_session };
    run(tpm, extra, &PolicyCpHash { policy_session, cp_hash_a: digest }, [])?;
    run(tpm, extra, &restart, [])?;
    run(tpm, extra, &PolicyNameHash { policy_session, name_hash: digest }, [])?;
    run(tpm, extra, &restart, [])?;
    run(tpm, extra, &PolicyTemplate { policy_session, template_hash: digest }, [])?;
    run(tpm, extra, &restart, [])?;
    let name = Name::new(&[7; 34])?;
    let select = PolicyDuplicationSelect {
        policy_session,
        object_name: name,
        new_parent_name: name,
        include_object: true,
    };
    run(tpm, extra, &select, [])?;
    Ok(tpm.flush(policy_session.handle())?)
}

fn run<'t, T: Transport, C: Authorized<N>, const N: usize>(
    tpm: &'t mut Tpm<T>,
    extra: &'t mut Option<Salted>,
    command: &C,
    auths: [Auth<'_>; N],
) -> Result<<C as Command>::Response<'t>, Error> {
    match extra {
        Some(session) => tpm.secured(session).run(command, auths),
        None => tpm.run(command, auths),
    }
}

fn salted<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: SessionType,
    encryption: Encryption,
) -> Result<Salted> {
    let ek = persistent_ek(tpm, "p384")?;
    Ok(tpm.start_salted_session(kind, &ek.salt_key()?, encryption)?)
}

/// Whether the last authorization of a command is a loaded HMAC session.
fn rides(command: &[u8]) -> bool {
    let Some(info) = tpm2::commands::by_code(command_code(command)) else { return false };
    let auths = 10 + 4 * info.handles.len();
    if !command.starts_with(&[0x80, 0x02]) {
        return false;
    }
    let size = u32::from_be_bytes(command[auths..auths + 4].try_into().unwrap()) as usize;
    let mut area = &command[auths + 4..auths + 4 + size];
    let mut last = 0;
    while let [kind, _, _, _, high, low, rest @ ..] = area {
        last = *kind;
        let rest = &rest[usize::from(u16::from_be_bytes([*high, *low])) + 1..];
        area = &rest[2 + usize::from(u16::from_be_bytes([rest[0], rest[1]]))..];
    }
    last == 0x02
}

fn succeeded(exchanges: &[Exchange]) -> BTreeSet<CommandCode> {
    let succeeded = |exchange: &&Exchange| response_code(&exchange.response).0 == 0;
    exchanges.iter().filter(succeeded).map(|exchange| command_code(&exchange.command)).collect()
}

/// The commands that [`every_command`] runs.
fn all(which: impl Fn(&CommandInfo) -> bool) -> BTreeSet<CommandCode> {
    const OTHERS: [u32; 16] = [
        0x131, 0x143, 0x144, 0x145, 0x147, 0x14e, 0x15d, 0x165, 0x167, 0x169, 0x173, 0x176, 0x17a,
        0x17b, 0x17e, 0x189,
    ];
    let policy = |info: &CommandInfo| {
        info.name.starts_with("TPM2_Policy")
            && !info.name.starts_with("TPM2_Policy_")
            && !NEWER.contains(&info.name)
    };
    let run = COMMANDS.iter().filter(|info| policy(info) || OTHERS.contains(&info.code.0));
    run.filter(|info| which(info)).map(|info| info.code).collect()
}

/// TPM Reset by swtpm's control channel: CMD_STOP, CMD_INIT. The TPM then waits for TPM2_Startup.
fn reset(swtpm: &Swtpm) -> Result<()> {
    let tcti = swtpm.tcti();
    let data = tcti.strip_prefix("swtpm:path=").context("not on a unix socket")?;
    let control = std::path::Path::new(data).with_file_name("ctl.sock");
    let mut control = UnixStream::connect(control)?;
    for command in [&[0, 0, 0, 0x0e][..], &[0, 0, 0, 2, 0, 0, 0, 0]] {
        control.write_all(command)?;
        let mut result = [0xff; 4];
        control.read_exact(&mut result)?;
        assert_eq!(result, [0; 4]);
    }
    Ok(())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
