//! authority check

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::write;

use crate::config::{LoadError, Settings, Start};
use crate::issue::ClusterName;
use crate::public_names::PublicNames;
use crate::resource::Timestamp;

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
    let public_names = PublicNames::load(settings.public.clone())?;
    if let Some(warning) = public_names.warnings(Clock::system().now()).into_iter().next() {
        let advice = "see the log of the ACME client, and renew the certificate";
        return Err(Failure::new(Exit::Config, warning, advice));
    }
    let mut public: String = public_names
        .expiries()
        .into_iter()
        .map(|(name, end)| format!("Public   {name}, certificate until {}\n", Timestamp(end)))
        .collect();
    if public.is_empty() {
        public = "Public   none\n".to_owned();
    }
    let diag = settings.diag_addr.map_or_else(|| "none".to_owned(), |addr| addr.to_string());
    let warning = settings.cluster_name.as_ref().and_then(ClusterName::warning);
    let warning = warning.map(|warning| format!("Warning  {warning}\n")).unwrap_or_default();
    write(format!(
        "{} is valid\nData     {}\nListen   {}\n{public}Cluster  {cluster}\nDiag     {diag}\n{warning}",
        file.display(),
        settings.data_dir.display(),
        settings.listen,
    ))
}
