//! authority create

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use proto::v1::CreateRequest;
use proto::v1::create_request::IfExists;
use proto::v1::create_response::change::What;

use super::client::{connect, refused};
use super::{print, warn};
use crate::cli::Create;
use crate::exit::{Exit, Failure};

/// More than any operator writes.
const MAX_FILE: u64 = 2 * 1024 * 1024;

pub(super) async fn create(create: Create) -> Result<(), Failure> {
    let mut authority = connect(&create.data).await?;
    let if_exists = if create.force { IfExists::Replace } else { IfExists::Refuse };
    for path in &create.files {
        let request = CreateRequest { yaml: read(path)?, if_exists: if_exists.into() };
        let response = authority.create(request).await.map_err(|cause| {
            let failure = refused(&cause);
            Failure { message: format!("{}: {}", shown(path), failure.message), ..failure }
        })?;
        let response = response.into_inner();
        for change in response.changes {
            let what = match change.what() {
                What::Replaced => "replaced",
                What::Created | What::Unspecified => "created",
            };
            print(format!("{} {:?} has been {what}\n", change.kind, change.name))?;
        }
        response.warnings.iter().for_each(|warning| warn(warning));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |cause: io::Error| Failure::io(&cause, format!("cannot read {}", shown(path)));
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    let bad = |what: String| Failure::new(Exit::Data, what, "nothing was changed");
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad(format!("{} is longer than {MAX_FILE} bytes", shown(path))));
    }
    String::from_utf8(bytes).map_err(|cause| {
        let valid = cause.as_bytes().get(..cause.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        bad(format!("{}: line {line}: not UTF-8", shown(path)))
    })
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "stdin".into() } else { path.display().to_string() }
}
