//! authority status

use host::exit::Failure;
use host::output::write;
use proto::v1::StatusRequest;

use super::client::{connect, refused};
use crate::cli::DataDir;

pub(super) async fn status(data: DataDir) -> Result<(), Failure> {
    let mut authority = connect(&data).await?;
    let status = authority.status(StatusRequest {}).await.map_err(|cause| refused(&cause))?;
    let status = status.into_inner();
    let mut text = format!("Cluster  {}\nVersion  {}\n", status.cluster, status.version);
    for pin in status.ca_pins {
        text.push_str(&format!("CA pin   {pin}\n"));
    }
    for warning in status.warnings {
        text.push_str(&format!("Warning  {warning}\n"));
    }
    write(text)
}
