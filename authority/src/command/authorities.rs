//! authority authorities

use host::exit::Failure;
use host::output::{warn, write};
use proto::v1::authority::State;
use proto::v1::{AddAuthorityRequest, Authority, ListAuthoritiesRequest, RemoveAuthorityRequest};
use serde_json::json;

use super::client::{connect, refused};
use super::table::table;
use crate::cli::ListFormat;
use crate::cli::authorities::{Add, Authorities, Ls, Request, Rm};
use crate::data_directory::DataDirectory;
use crate::keyring::Own;

pub(super) async fn run(command: Authorities) -> Result<(), Failure> {
    match command {
        Authorities::Request(what) => request(what),
        Authorities::Add(what) => add(what).await,
        Authorities::Ls(what) => ls(what).await,
        Authorities::Rm(what) => rm(what).await,
    }
}

/// Needs neither a store nor a running authority.
fn request(request: Request) -> Result<(), Failure> {
    let directory = DataDirectory::new(&request.data.data_dir);
    let own = Own::of(&directory, &directory.lock()?)?;
    let line = own.request(request.name).to_line().map_err(Failure::bug)?;
    write(format!("{line}\n"))
}

async fn add(add: Add) -> Result<(), Failure> {
    let mut authority = connect(&add.data).await?;
    let request = AddAuthorityRequest { request: add.request };
    let added = authority.add_authority(request).await.map_err(|cause| refused(&cause))?;
    let added = added.into_inner();
    write(format!("authority {} ({}) can use the CA keys: start it\n", added.name, added.id))
}

async fn ls(ls: Ls) -> Result<(), Failure> {
    let mut authority = connect(&ls.data).await?;
    let listed = authority.list_authorities(ListAuthoritiesRequest {}).await;
    let listed = listed.map_err(|cause| refused(&cause))?.into_inner();
    if ls.format == ListFormat::Json {
        let all = listed.authorities.iter().map(|authority| {
            json!({
                "id": authority.id, "name": authority.name, "state": state(authority),
                "seen": authority.seen, "version": authority.version,
                "address": authority.address, "keyring": authority.keyring,
            })
        });
        let all = serde_json::Value::from_iter(all);
        return write(format!("{all:#}\n"));
    }
    let row = |one: &Authority| {
        let keyring = match one.keyring {
            0 => String::new(),
            revision if revision == listed.keyring => "current".to_owned(),
            revision => format!("{revision} of {}", listed.keyring),
        };
        [&one.name, &one.id, state(one), &one.seen, &one.version, &one.address, &keyring]
            .map(ToOwned::to_owned)
    };
    let rows: Vec<_> = listed.authorities.iter().map(row).collect();
    write(table(["Name", "ID", "State", "Seen", "Version", "Address", "Keyring"], &rows))
}

async fn rm(rm: Rm) -> Result<(), Failure> {
    let mut authority = connect(&rm.data).await?;
    let request = RemoveAuthorityRequest { authority: rm.authority };
    let removed = authority.remove_authority(request).await.map_err(|cause| refused(&cause))?;
    write(format!("authority {} removed\n", removed.into_inner().name))?;
    warn("it has known the CA keys: if it may be in the wrong hands, replace the CAs");
    Ok(())
}

/// The state of an authority, as people read it.
pub(super) fn state(authority: &Authority) -> &'static str {
    match authority.state() {
        State::Live => "live",
        State::Missing => "missing",
        State::Removed => "removed",
        State::Unspecified => "unknown",
    }
}
