//! authority audit

mod export;
mod ls;
mod source;
mod verify;

use host::exit::Failure;

use crate::cli::Audit;

pub(super) async fn run(audit: Audit) -> Result<(), Failure> {
    match audit {
        Audit::Ls(ls) => ls::ls(&ls).await,
        Audit::Show(show) => export::show(show).await,
        Audit::Verify(verify) => verify::verify(verify).await,
        Audit::Export(export) => export::export(export).await,
    }
}
