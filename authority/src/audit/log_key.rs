//! The key of the log in the data directory.

use host::exit::{Exit, Failure};

use super::checkpoint::{LogKey, Origin};
use crate::data_directory::{DataDirectory, Lock, read_private, replace_private};

/// The key that the heads of the log of this authority are signed with, made at the first use. Writes its public part beside it.
///
/// # Errors
/// It cannot be read or made, or is damaged.
pub(crate) fn log_key(
    directory: &DataDirectory,
    _lock: &Lock,
    origin: Origin,
) -> Result<LogKey, Failure> {
    let (path, public) = (directory.log_key(), directory.log_public_key());
    let shown = path.display();
    let key = match path.try_exists() {
        Ok(true) => LogKey::from_pem(origin, &read_private(&path)?).map_err(|cause| {
            let advice =
                "restore it from a backup, or remove it: heads are signed with a new key then";
            Failure::new(Exit::Data, format!("{shown}: {cause}"), advice)
        })?,
        Ok(false) => {
            let key = LogKey::generate(origin).map_err(Failure::bug)?;
            let pem = key.to_pem().map_err(Failure::bug)?;
            replace_private(&path, pem.as_bytes())
                .map_err(|cause| Failure::io(&cause, format!("cannot create {shown}")))?;
            key
        }
        Err(cause) => return Err(Failure::io(&cause, format!("cannot read {shown}"))),
    };
    let line = format!("{}\n", key.public());
    replace_private(&public, line.as_bytes())
        .map_err(|cause| Failure::io(&cause, format!("cannot create {}", public.display())))?;
    Ok(key)
}
