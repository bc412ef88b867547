//! authority status

use host::exit::Failure;
use host::output::write;
use proto::v1::StatusRequest;

use super::authorities::state;
use super::client::{connect, refused};
use crate::cli::DataDir;
use crate::keyring::NO_RECOVERY_KEY;

pub(super) async fn status(data: DataDir) -> Result<(), Failure> {
    let mut authority = connect(&data).await?;
    let status = authority.status(StatusRequest {}).await.map_err(|cause| refused(&cause))?;
    let status = status.into_inner();
    let mut text = format!("Cluster  {}\nVersion  {}\n", status.cluster, status.version);
    if !status.cryptography.is_empty() {
        text.push_str(&format!("Crypto   {}\n", status.cryptography));
    }
    for pin in status.ca_pins {
        text.push_str(&format!("CA pin   {pin}\n"));
    }
    for one in &status.authorities {
        let seen = if one.seen.is_empty() { "never" } else { &one.seen };
        text.push_str(&format!("Member   {} {}, seen {seen}\n", one.name, state(one)));
    }
    text.push_str(&match status.recovery_since.as_str() {
        "" => format!("Recovery none: {NO_RECOVERY_KEY}\n"),
        since => format!("Recovery key set at {since}\n"),
    });
    text.push_str(&match status.last_backup.as_str() {
        "" => "Backup   none: run `authority backup`\n".to_owned(),
        made => format!("Backup   last made at {made}\n"),
    });
    for warning in status.warnings {
        text.push_str(&format!("Warning  {warning}\n"));
    }
    write(text)
}
