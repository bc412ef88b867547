//! authority edit

use std::io::Write;
use std::path::Path;
use std::process::Command;

use host::exit::{Exit, Failure};
use host::output::write;
use tempfile::NamedTempFile;

use super::client::connect;
use super::get::document;
use super::{bots, create, resources};
use crate::cli::{Edit, Format};
use crate::resource::{self, Resource};

/// The variables that name an editor, in the order in which they count.
const VARIABLES: [&str; 3] = ["TELEPORT_EDITOR", "VISUAL", "EDITOR"];

pub(super) async fn edit(edit: Edit) -> Result<(), Failure> {
    let mut authority = connect(&edit.data).await?;
    let (kind, name) = (edit.which.kind, edit.which.some.words());
    let was = resources::one(&mut authority, kind, name).await?;
    let file = file_of(&was)?;
    let edited = changed(file.path(), &was);
    let written = match edited {
        Ok(None) => return write(format!("{kind} {name:?} was not changed\n")),
        Ok(Some(edited)) => bots::put(&mut authority, &edited, &was).await,
        Err(failure) => Err(failure),
    };
    written.map_err(|failure| keep(file, failure))
}

/// A file for the editor, for this user only.
fn file_of(resource: &Resource) -> Result<NamedTempFile, Failure> {
    let text = document(resource, Format::Yaml)?;
    let prefix = format!("{}-{}-", resource.kind(), resource.name());
    let file = tempfile::Builder::new().prefix(&prefix).suffix(".yaml").tempfile();
    let file = file.and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file));
    file.map_err(|cause| Failure::io(&cause, "cannot write a temporary file"))
}

/// What the operator made of the resource; `None` if nothing.
fn changed(path: &Path, was: &Resource) -> Result<Option<Resource>, Failure> {
    run_editor(path)?;
    let text = create::read(path)?;
    let bad = |what: String| Failure::new(Exit::Data, what, "correct it; nothing was changed");
    let edited = resource::read(&text).map_err(|cause| bad(cause.to_string()))?;
    match <[Resource; 1]>::try_from(edited) {
        Ok([edited]) if edited.kind() == was.kind() && edited.name() == was.name() => {
            Ok((edited != *was).then_some(edited))
        }
        _ => Err(bad(format!("the file must hold {} {:?} alone", was.kind(), was.name().as_str()))),
    }
}

/// The variable may hold arguments too, so a shell splits it.
fn run_editor(path: &Path) -> Result<(), Failure> {
    let set = VARIABLES.iter().filter_map(std::env::var_os).find(|editor| !editor.is_empty());
    let editor = set.unwrap_or_else(|| "vi".into());
    let shell = "eval \"$EDITOR_COMMAND\" '\"$1\"'";
    let status = Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(path)
        .env("EDITOR_COMMAND", &editor)
        .status()
        .map_err(|cause| Failure::io(&cause, "cannot run the editor"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Io,
        format!("the editor {} failed: {status}", editor.to_string_lossy()),
        "set TELEPORT_EDITOR or EDITOR to an editor that is installed; nothing was changed",
    ))
}

/// Keeps what the operator wrote.
fn keep(file: NamedTempFile, failure: Failure) -> Failure {
    match file.keep() {
        Ok((_, path)) => {
            let advice =
                format!("{}; the edited document is in {}", failure.advice, path.display());
            Failure { advice, ..failure }
        }
        Err(_) => failure,
    }
}
