//! authority check

use host::exit::{Exit, Failure};
use host::output::write;

use crate::config::Settings;
use crate::config::Start;

pub(super) fn check(start: &Start) -> Result<(), Failure> {
    let Some(file) = &start.config else {
        return Err(Failure::new(
            Exit::Usage,
            "no configuration file given",
            "pass -c FILE, or set AUTHORITY_CONFIG",
        ));
    };
    let settings = Settings::new(start)?;
    let cluster = settings.cluster_name.as_ref().map_or("the host's name", |name| name.as_str());
    let diag = settings.diag_addr.map_or_else(|| "none".to_owned(), |addr| addr.to_string());
    write(format!(
        "{} is valid\nData     {}\nListen   {}\nCluster  {cluster}\nDiag     {diag}\n",
        file.display(),
        settings.data_dir.display(),
        settings.listen,
    ))
}
