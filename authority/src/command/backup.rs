//! authority backup

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::write;
use proto::v1::BackupRequest;
use serde_json::json;
use tempfile::NamedTempFile;
use tracing::warn;

use super::client::{connect, refused};
use super::place::{Place, failure};
use crate::audit::Author;
use crate::backup::Producer;
use crate::backup::file::{Checked, Writer};
use crate::backup::stream::{Header, Part, Parts};
use crate::cli::{Backup, DataDir, ListFormat};
use crate::config::{Settings, StoreSettings};
use crate::data_directory::DataDirectory;
use crate::keyring::{BackedUp, NO_RECOVERY_KEY};
use crate::resource::Timestamp;
use crate::store::{Records, StoreError, Summary};

pub(super) async fn backup(backup: Backup) -> Result<(), Failure> {
    let settings = backup.of.settings()?;
    let directory = DataDirectory::new(&settings.data_dir);
    let is_there = match settings.store {
        StoreSettings::Embedded => directory.cluster().is_dir(),
        StoreSettings::Postgresql(_) => directory.path().is_dir(),
    };
    if !is_there {
        return Err(Failure::new(
            Exit::Data,
            format!("{} is not the data directory of an authority", directory.path().display()),
            "give the authority's data directory with --data-dir, or its configuration with -c",
        ));
    }
    let mut output = Output::new(&backup.to)?;
    match directory.lock() {
        Ok(lock) => {
            let id = directory.store_id(&lock)?;
            of_stopped(&mut output, &settings, &directory, &id).await?;
        }
        Err(failure) if failure.exit == Exit::Unavailable => {
            of_running(&mut output, &settings).await?;
        }
        Err(failure) => return Err(failure),
    }
    let Written { header, summary, has_recovery_key } = output.finish()?;
    if !has_recovery_key {
        warn!(
            "no recovery key: the backup is of no use without the wrapping key of an authority; {NO_RECOVERY_KEY}"
        );
    }
    let (file, made) = (backup.to.display(), header.made);
    match backup.format {
        ListFormat::Text => write(format!("backup of {made} written to {file}\n{summary}")),
        ListFormat::Json => {
            let report = json!({
                "file": file.to_string(), "made": made, "recovery_key": has_recovery_key, "backed_up": summary,
            });
            write(format!("{report:#}\n"))
        }
    }
}

async fn of_running(output: &mut Output<'_>, settings: &Settings) -> Result<(), Failure> {
    let mut authority = connect(&DataDir { data_dir: settings.data_dir.clone() }).await?;
    let stream = authority.backup(BackupRequest {}).await.map_err(|cause| refused(&cause))?;
    let mut stream = stream.into_inner();
    while let Some(piece) = stream.message().await.map_err(|cause| refused(&cause))? {
        output.add(&piece.content)?;
    }
    Ok(())
}

async fn of_stopped(
    output: &mut Output<'_>,
    settings: &Settings,
    directory: &DataDirectory,
    id: &str,
) -> Result<(), Failure> {
    let place = match &settings.store {
        StoreSettings::Embedded => Place::existing_file(&directory.database())?,
        StoreSettings::Postgresql(database) => Place::beside_others(database, id).await?,
    };
    let failed = |cause: StoreError| failure(&place.shown, &cause);
    let now = Clock::system().now();
    let made = Timestamp(now);
    let snapshot = place.store.snapshot().await.map_err(failed)?;
    let mut producer = Producer::new(snapshot, made).await.map_err(failed)?;
    while let Some(part) = producer.next().await.map_err(failed)? {
        output.add(&part.encode().map_err(Failure::bug)?)?;
    }
    let records = Records::new(Arc::clone(&place.store)).logging_as(id);
    records.backed_up(made, Author::of_command(now)).await.map_err(failed)
}

/// The file, under another name until it is complete.
struct Output<'p> {
    path: &'p Path,
    writer: Writer<NamedTempFile>,
    parts: Parts,
    keyring: BackedUp,
    header: Option<Header>,
    summary: Option<Summary>,
}

/// A backup that is complete.
struct Written {
    header: Header,
    summary: Summary,
    has_recovery_key: bool,
}

impl<'p> Output<'p> {
    fn new(path: &'p Path) -> Result<Self, Failure> {
        if path.try_exists().is_ok_and(|exists| exists) {
            let message = format!("{} exists", path.display());
            return Err(Failure::new(Exit::Refused, message, "give the name of a new file"));
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".endorse-backup-")
            .tempfile_in(directory.unwrap_or(Path::new(".")))
            .map_err(|cause| {
                Failure::io(&cause, format_args!("cannot create {}", path.display()))
            })?;
        Ok(Self {
            path,
            writer: Writer::new(file).map_err(|cause| unwritten(path, &cause))?,
            parts: Parts::default(),
            keyring: BackedUp::default(),
            header: None,
            summary: None,
        })
    }

    /// Adds bytes of the backup, and checks them.
    fn add(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.parts.push(bytes);
        while let Some(part) = self.parts.next_part().map_err(Failure::bug)? {
            match part {
                Part::Header(header) => self.header = Some(header),
                Part::End(summary) => self.summary = Some(summary),
                Part::Records(table, page) => self.keyring.add(table, &page),
            }
        }
        self.writer.write(bytes).map_err(|cause| unwritten(self.path, &cause))
    }

    /// Gives the file its name, once it is on the disk and was read again.
    fn finish(self) -> Result<Written, Failure> {
        let Self { path, writer, parts, keyring, header, summary } = self;
        let incomplete = || {
            let message = "the authority did not send the whole backup";
            Failure::new(Exit::Unavailable, message, "check its log, and repeat the command")
        };
        parts.finish().map_err(|_| incomplete())?;
        let (header, summary) = header.zip(summary).ok_or_else(incomplete)?;
        let has_recovery_key = keyring.has_recovery_key().map_err(|cause| {
            let message = format!("the backup would be of no use: {cause}");
            Failure::new(Exit::Data, message, "start the authority first")
        })?;
        let failed = |cause: io::Error| unwritten(path, &cause);
        let mut file = writer.finish().map_err(failed)?;
        file.flush().and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        Checked::open(file.as_file_mut())
            .map_err(|cause| failed(io::Error::other(cause.to_string())))?;
        file.persist_noclobber(path).map_err(|error| failed(error.error))?;
        Ok(Written { header, summary, has_recovery_key })
    }
}

fn unwritten(path: &Path, cause: &io::Error) -> Failure {
    Failure::io(cause, format_args!("cannot write {}", path.display()))
}
