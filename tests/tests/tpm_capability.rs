//! Lists of what a TPM has, which it gives in pieces.

use std::io;

use anyhow::{Context as _, Result};
use testkit::swtpm::Kind;
use tests::tpm::{Way, client, start, way};
use tpm2::commands::{COMMANDS, Command, GetCapability, frame};
use tpm2::crypto::HashAlg;
use tpm2::transport::Transport;
use tpm2::types::{Alg, Curve, Entity, HandleKind, Property, SessionType};
use tpm2::{Tpm, capability};

/// Asks for at most three values at a time.
struct Pieces(Way);

impl Transport for Pieces {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let mut command = command.to_vec();
        let code = frame::Question::split(&command).ok().map(|question| question.code);
        if code == Some(GetCapability::INFO.code) {
            let count = command.len() - 4;
            let asked = command[count..].try_into().expect("four bytes");
            let asked = u32::from_be_bytes(asked).min(3);
            command[count..].copy_from_slice(&asked.to_be_bytes());
        }
        self.0.exchange(&command, response)
    }
}

#[test]
fn lists_that_come_in_pieces_are_whole() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let properties = capability::properties(&mut tpm)?;
    let algorithms = capability::algorithms(&mut tpm)?;
    let curves = capability::curves(&mut tpm)?;
    let commands = capability::commands(&mut tpm)?;
    let persistent = capability::handles(&mut tpm, HandleKind::PERSISTENT)?;
    drop(tpm);
    let mut tpm = Tpm::new(Pieces(way(&swtpm)?));
    assert_eq!(capability::properties(&mut tpm)?, properties);
    assert_eq!(capability::algorithms(&mut tpm)?, algorithms);
    assert_eq!(capability::curves(&mut tpm)?, curves);
    assert_eq!(capability::commands(&mut tpm)?, commands);
    assert_eq!(capability::handles(&mut tpm, HandleKind::PERSISTENT)?, persistent);

    let has = |property| properties.iter().find(|tagged| tagged.property == property);
    let manufacturer = has(Property::MANUFACTURER).context("a manufacturer")?.value;
    assert_eq!(manufacturer.to_be_bytes(), *b"IBM\0");
    assert_eq!(capability::property(&mut tpm, Property::MANUFACTURER)?, Some(manufacturer));
    assert_eq!(capability::property(&mut tpm, Property(0x1ff))?, None);
    assert!(has(Property::PERMANENT).is_some(), "what changes is there too");
    assert!(algorithms.iter().any(|one| one.alg == Alg::SHA384));
    assert!(curves.contains(&Curve::NIST_P384) && commands.len() > COMMANDS.len() / 2);
    assert!(persistent.len() > 1, "{persistent:?}");
    Ok(())
}

#[test]
fn sessions_of_both_kinds_are_listed_as_loaded() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = Tpm::new(Pieces(way(&swtpm)?));
    let mut loaded = Vec::new();
    for kind in [SessionType::POLICY, SessionType::HMAC, SessionType::TRIAL] {
        loaded.push(tpm.start_session(kind, HashAlg::Sha256)?.handle().handle());
    }
    let mut listed = capability::handles(&mut tpm, HandleKind::HMAC_SESSION)?;
    listed.sort();
    loaded.sort();
    assert_eq!(listed, loaded);
    assert_eq!(capability::handles(&mut tpm, HandleKind::POLICY_SESSION)?, []);
    Ok(())
}
