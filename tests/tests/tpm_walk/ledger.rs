//! What was done with success, as the wire shows it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use testkit::bus::{command_code, response_code};
use tpm2::commands::{CommandInfo, by_code};
use tpm2::transport::Exchange;
use tpm2::types::{
    CommandCode, Handle, HandleKind, Nonce, ResponseCode, SessionAttributes, Structure,
};
use tpm2::wire::Reader;

/// One way in which a command can have succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Without any session beyond its authorizations.
    Alone,
    /// Authorized by an HMAC or a policy session, if it needs authorization.
    Authorization,
    /// With an HMAC session that does not authorize it.
    Session,
    /// With such a session that encrypts all that can be.
    Cipher,
    /// With such a session that audits.
    Audit,
}

/// Which commands succeeded in which ways.
#[derive(Default)]
pub struct Ledger(BTreeMap<CommandCode, BTreeSet<Way>>);

impl Ledger {
    /// Enters an exchange.
    pub fn enter(&mut self, exchange: &Exchange) -> Result<()> {
        let code = command_code(&exchange.command);
        if response_code(&exchange.response) != ResponseCode::SUCCESS {
            return Ok(());
        }
        let info = by_code(code).with_context(|| format!("{code} is not in the table"))?;
        let sessions = sessions(info, &exchange.command)?;
        let ways = self.0.entry(code).or_default();
        let (authorizations, riders) = sessions.split_at(info.authorizations.min(sessions.len()));
        if authorizations.iter().any(|(handle, _)| *handle != Handle::PASSWORD) {
            ways.insert(Way::Authorization);
        }
        if riders.is_empty() {
            ways.insert(Way::Alone);
        }
        for (handle, attributes) in riders {
            ensure!(handle.kind() == HandleKind::HMAC_SESSION, "{handle:?} rides along");
            ways.insert(Way::Session);
            if attributes.contains(SessionAttributes::AUDIT) {
                ways.insert(Way::Audit);
            }
            let encrypts = encryption(info);
            if encrypts != SessionAttributes::NONE && attributes.contains(encrypts) {
                ways.insert(Way::Cipher);
            }
        }
        Ok(())
    }

    /// Whether a command succeeded in a way.
    pub fn has(&self, code: CommandCode, way: Way) -> bool {
        self.0.get(&code).is_some_and(|ways| ways.contains(&way))
    }
}

/// What a session can encrypt of a command and its answer.
pub fn encryption(info: &CommandInfo) -> SessionAttributes {
    let mut encrypts = SessionAttributes::NONE;
    if info.first_parameter_sized {
        encrypts = encrypts.with(SessionAttributes::DECRYPT);
    }
    if info.response.first_parameter_sized {
        encrypts = encrypts.with(SessionAttributes::ENCRYPT);
    }
    encrypts
}

/// The sessions of a command, those that authorize first.
fn sessions(info: &CommandInfo, command: &[u8]) -> Result<Vec<(Handle, SessionAttributes)>> {
    let mut reader = Reader::new(command);
    let tag: Structure = reader.read("tag")?;
    reader.take(8)?;
    reader.take(4 * info.handles.len())?;
    let mut sessions = Vec::new();
    if tag == Structure::NO_SESSIONS {
        return Ok(sessions);
    }
    let size: u32 = reader.read("authorizationSize")?;
    let mut area = reader.sub(usize::try_from(size)?)?;
    while !area.peek().is_empty() {
        let handle: Handle = area.read("session")?;
        area.read::<Nonce<'_>>("nonce")?;
        sessions.push((handle, area.read("attributes")?));
        area.read::<Nonce<'_>>("hmac")?;
    }
    Ok(sessions)
}
