//! authority export

use host::exit::Failure;
use host::output::write;
use proto::v1::ExportRequest;
use proto::v1::export_request::Document;

use super::client::{connect, refused};
use crate::cli::{Export, ExportDocument};

pub(super) async fn export(export: Export) -> Result<(), Failure> {
    let mut authority = connect(&export.data).await?;
    let document = match export.document {
        ExportDocument::SpiffeBundle => Document::SpiffeBundle,
        ExportDocument::Jwks => Document::Jwks,
        ExportDocument::OpenidConfiguration => Document::OpenidConfiguration,
    };
    let request = ExportRequest { document: document.into() };
    let exported = authority.export(request).await.map_err(|cause| refused(&cause))?;
    write(exported.into_inner().content)
}
