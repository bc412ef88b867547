//! authority check

use host::exit::{Exit, Failure};
use host::output::write;

use crate::config::{LoadError, Settings, Start};

pub(super) fn check(start: &Start) -> Result<(), Failure> {
    let Some(file) = &start.config else {
        return Err(Failure::new(
            Exit::Usage,
            "no configuration file given",
            "pass -c FILE, or set AUTHORITY_CONFIG",
        ));
    };
    let settings = match Settings::new(start) {
        Ok(settings) => settings,
        Err(LoadError::Unreadable(failure)) => return Err(failure),
        Err(LoadError::Unusable(findings)) => {
            write(findings.to_string())?;
            return Err(findings.failure(""));
        }
    };
    let cluster = settings.cluster_name.as_ref().map_or("the host's name", |name| name.as_str());
    let diag = settings.diag_addr.map_or_else(|| "none".to_owned(), |addr| addr.to_string());
    write(format!(
        "{} is valid\nData     {}\nListen   {}\nCluster  {cluster}\nDiag     {diag}\n",
        file.display(),
        settings.data_dir.display(),
        settings.listen,
    ))
}
