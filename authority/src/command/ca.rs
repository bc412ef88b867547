//! authority ca

use host::exit::{Exit, Failure};
use host::output::write;
use proto::v1::change_ca_request::Step as WireStep;
use proto::v1::export_request::Document;
use proto::v1::{Ca as WireCa, ChangeCaRequest, ExportRequest, ListCasRequest};
use serde_json::json;

use super::client::{Operator, connect, refused};
use super::table::{table, to_seconds};
use crate::cli::ca::{Ca, Export, Prepare, Status, Step, Types};
use crate::cli::{DataDir, ListFormat};
use crate::issue::CaType;

pub(super) async fn run(command: Ca) -> Result<(), Failure> {
    match command {
        Ca::Status(what) => status(what).await,
        Ca::Prepare(Prepare { data, types }) => {
            change(&data, types, WireStep::Prepare, false).await
        }
        Ca::Rotate(Prepare { data, types }) => change(&data, types, WireStep::Rotate, false).await,
        Ca::Activate(what) => step(what, WireStep::Activate).await,
        Ca::Retire(what) => step(what, WireStep::Retire).await,
        Ca::Taint(Prepare { data, types }) => change(&data, types, WireStep::Taint, false).await,
        Ca::Revoke(what) => step(what, WireStep::Revoke).await,
        Ca::Export(what) => export(what).await,
    }
}

async fn step(step: Step, which: WireStep) -> Result<(), Failure> {
    let Step { data, types, force, yes } = step;
    // Without --yes the refusal names those who are cut off.
    let changed = change(&data, types, which, force && yes).await;
    match changed {
        Err(failure) if force && !yes && failure.exit == Exit::Refused => {
            let advice = "run `authority ca status`; add --yes if it only has to wait for hosts or certificates";
            Err(Failure { advice: advice.to_owned(), ..failure })
        }
        changed => changed,
    }
}

async fn change(data: &DataDir, types: Types, step: WireStep, force: bool) -> Result<(), Failure> {
    let types = types.all().iter().map(|one| one.as_str().to_owned()).collect();
    let mut authority = connect(data).await?;
    let request = ChangeCaRequest { types, step: step.into(), force };
    let changed = authority.change_ca(request).await.map_err(|cause| match cause.code() {
        tonic::Code::InvalidArgument => {
            let advice = "run `authority ca status`";
            Failure::new(Exit::Refused, cause.message(), advice)
        }
        _ => refused(&cause),
    })?;
    let changed = changed.into_inner();
    let changes = changed.changes.into_iter();
    let changes = changes.map(|one| format!("{} {}: {}\n", one.r#type, one.step, one.key_id));
    let left = changed.left.into_iter().map(|why| format!("left as it is: {why}\n"));
    write(changes.chain(left).collect::<String>())
}

async fn listed(authority: &mut Operator) -> Result<Vec<WireCa>, Failure> {
    let listed = authority.list_cas(ListCasRequest {}).await.map_err(|cause| refused(&cause))?;
    Ok(listed.into_inner().cas)
}

async fn status(status: Status) -> Result<(), Failure> {
    let cas = listed(&mut connect(&status.data).await?).await?;
    if status.format == ListFormat::Json {
        let all = cas.iter().map(|ca| {
            json!({
                "type": ca.r#type, "key_id": ca.key_id, "state": ca.state, "since": ca.since,
                "not_after": ca.not_after, "rotating": ca.rotating,
                "authorities_behind": ca.authorities_behind,
                "instances_behind": ca.instances_behind, "instances": ca.instances,
            })
        });
        return write(format!("{:#}\n", serde_json::Value::from_iter(all)));
    }
    let row = |ca: &WireCa| {
        let state = if ca.rotating { format!("{}, rotating", ca.state) } else { ca.state.clone() };
        let (since, not_after) = (to_seconds(&ca.since), to_seconds(&ca.not_after));
        [ca.r#type.clone(), state, since, not_after, ca.key_id.clone()]
    };
    let rows: Vec<_> = cas.iter().map(row).collect();
    let mut text = table(["Type", "State", "Since", "Expires", "Key"], &rows);
    for ca in cas.iter().filter(|ca| !ca.behind.is_empty()) {
        text.push_str(&format!("{}: {}\n", ca.r#type, host::terminal::replace(&ca.behind, '?')));
    }
    write(text)
}

async fn export(export: Export) -> Result<(), Failure> {
    let mut authority = connect(&export.data).await?;
    let types = export.types.all();
    let [ca_type] = types[..] else {
        let advice = "give one of x509, ssh, ssh_host and jwt";
        return Err(Failure::new(Exit::Usage, "public keys of one type at a time", advice));
    };
    if ca_type == CaType::Jwt {
        let request = ExportRequest { document: Document::Jwks.into() };
        let jwks = authority.export(request).await.map_err(|cause| refused(&cause))?;
        return write(jwks.into_inner().content);
    }
    let cas = listed(&mut authority).await?;
    let wanted = cas.into_iter().filter(|ca| ca.r#type == ca_type.as_str());
    write(wanted.map(|ca| ca.public_key).collect::<String>())
}
