//! authority create

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use host::exit::{Exit, Failure};
use host::output::{warn, write};
use proto::v1::CreateRequest;
use proto::v1::create_request::IfExists;
use proto::v1::create_response::change::What;

use super::client::{connect, refused};
use crate::cli::Create;
use crate::resource::{self, Invalid, Kind, Resource, Unreadable};

/// Limits in bytes of one file and of all files of a command.
const MAX_FILE: u64 = 2 * 1024 * 1024;
const MAX_FILES: usize = 3 * 1024 * 1024;

/// All files are one request, and so one transaction: nothing is stored, or everything.
pub(super) async fn create(create: Create) -> Result<(), Failure> {
    let yaml = read_all(&create)?;
    let mut authority = connect(&create.data).await?;
    let if_exists = if create.force { IfExists::Replace } else { IfExists::Refuse };
    let request = CreateRequest { yaml, if_exists: if_exists.into() };
    let response = authority.create(request).await.map_err(|cause| {
        let failure = refused(&cause);
        let files: Vec<_> = create.files.iter().map(|path| shown(path)).collect();
        Failure { message: format!("{}: {}", files.join(", "), failure.message), ..failure }
    })?;
    let response = response.into_inner();
    let mut done = String::new();
    for change in response.changes {
        let what = match change.what() {
            What::Replaced => "replaced",
            What::Created | What::Unspecified => "created",
        };
        done.push_str(&format!("{} {:?} has been {what}\n", change.kind, change.name));
    }
    response.warnings.iter().for_each(|warning| warn(warning));
    write(done)
}

/// The files as one stream of documents, each of which is checked: only here it is known which line
/// of which file is wrong.
fn read_all(create: &Create) -> Result<String, Failure> {
    let bad = |what: String| Failure::new(Exit::Data, what, "correct it; nothing was changed");
    let mut seen: HashMap<(Kind, String), &Path> = HashMap::new();
    let mut stream = String::new();
    for path in &create.files {
        let text = read(path)?;
        let name = shown(path);
        let mut skipped = Vec::new();
        let unreadable = match create.skip_unreadable {
            true => Unreadable::Skip(&mut skipped),
            false => Unreadable::Refuse,
        };
        let resources = resource::read_with(&text, unreadable)
            .map_err(|cause| bad(format!("{name}: {cause}")))?;
        skipped.iter().for_each(|what| warn(&format!("{name}: {what}; skipped")));
        let text = match skipped[..] {
            [] => text,
            _ => written(&resources).map_err(|cause| bad(format!("{name}: {cause}")))?,
        };
        for resource in resources {
            let (kind, resource) = (resource.kind(), resource.name().to_string());
            if let Some(other) = seen.insert((kind, resource.clone()), path) {
                let other = shown(other);
                return Err(bad(format!("{name}: {kind} {resource:?} is already in {other}")));
            }
        }
        if !stream.is_empty() {
            stream.push_str("\n---\n");
        }
        stream.push_str(text.strip_prefix('\u{feff}').unwrap_or(&text));
        if stream.len() > MAX_FILES {
            return Err(bad(format!("the files are longer than {MAX_FILES} bytes in total")));
        }
    }
    Ok(stream)
}

/// Resources as one stream again, without what was left out of them.
fn written(resources: &[Resource]) -> Result<String, Invalid> {
    let documents: Result<Vec<_>, _> = resources.iter().map(resource::to_yaml).collect();
    Ok(documents?.join("\n---\n"))
}

/// A file or stdin, not longer than [`MAX_FILE`].
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let failed = |cause: io::Error| {
        let failure = Failure::io(&cause, format!("cannot read {}", shown(path)));
        if cause.kind() == io::ErrorKind::IsADirectory {
            return Failure {
                advice: "name the files in it; nothing was changed".into(),
                ..failure
            };
        }
        Failure { advice: format!("{}; nothing was changed", failure.advice), ..failure }
    };
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    let bad = |what: String| Failure::new(Exit::Data, what, "check the file; nothing was changed");
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
