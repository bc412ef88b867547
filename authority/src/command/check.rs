//! authority check

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::write;

use crate::cluster::{Cluster, records_left_behind};
use crate::config::{LoadError, Settings, Start, StoreSettings};
use crate::data_directory::DataDirectory;
use crate::issue::{ClusterName, IssuerUrl, JwtSettings};
use crate::public_names::PublicNames;
use crate::resource::Timestamp;
use crate::store::PostgresStore;

pub(super) async fn check(start: Start) -> Result<(), Failure> {
    let Some(file) = &start.config else {
        return Err(Failure::new(
            Exit::Usage,
            "no configuration file given",
            "pass -c FILE, or set AUTHORITY_CONFIG",
        ));
    };
    let settings = match Settings::new(&start) {
        Ok(settings) => settings,
        Err(LoadError::Unreadable(failure)) => return Err(failure),
        Err(LoadError::Unusable(findings)) => {
            write(findings.to_string())?;
            return Err(findings.failure(""));
        }
    };
    let JwtSettings { algorithm, issuer } = &settings.jwt;
    algorithm.check_supported().map_err(|cause| {
        let advice = "set `jwt.algorithm: ES256`, or run the authority on another machine";
        Failure::new(Exit::Config, format!("`jwt.algorithm: {algorithm}`: {cause}"), advice)
    })?;
    let cluster = settings.cluster_name.as_ref().map_or("the host's name", |name| name.as_str());
    let public_names = PublicNames::of(&settings)?;
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
    let endpoint = settings.bundle_endpoint.as_ref();
    let endpoint =
        endpoint.map_or_else(|| "none".to_owned(), |endpoint| endpoint.listen.to_string());
    let issuer_shown = issuer.as_ref().map_or("the trust domain", |issuer| issuer.as_str());
    let warnings = [
        settings.cluster_name.as_ref().and_then(ClusterName::warning),
        issuer.as_ref().and_then(IssuerUrl::warning),
    ];
    let warnings = warnings.into_iter().flatten().map(|warning| format!("Warning  {warning}\n"));
    let warnings: String = warnings.collect();
    let keys = match Cluster::has_key_files(&DataDirectory::new(&settings.data_dir)) {
        Ok(true) => {
            "Keys     in files of an older version: the next start moves them into the store\n"
        }
        // Whoever checks the configuration may not be the authority's user.
        Ok(false) | Err(_) => "",
    };
    let store = store(&settings).await;
    write(format!(
        "{} is valid\nData     {}\nListen   {}\n{public}Cluster  {cluster}\n\
         JWTs     {algorithm}, issuer {issuer_shown}\n{store}{keys}Bundle   {endpoint}\nDiag     {diag}\n{warnings}",
        file.display(),
        settings.data_dir.display(),
        settings.listen,
    ))
}

/// Which store it is, and what the server of a database says of what it has acknowledged.
async fn store(settings: &Settings) -> String {
    let mut text = format!("Store    {}\n", settings.store);
    if let StoreSettings::Postgresql(database) = &settings.store {
        match PostgresStore::durability(database).await {
            Ok(durability) => {
                text.push_str(&format!("Standby  {}\n", durability.failover()));
                for danger in durability.dangers() {
                    text.push_str(&format!("Warning  {danger}\n"));
                }
            }
            Err(cause) => text.push_str(&format!("Warning  {cause}\n")),
        }
        let directory = DataDirectory::new(&settings.data_dir);
        if let Some(warning) = records_left_behind(&directory).await {
            text.push_str(&format!("Warning  {warning}\n"));
        }
    }
    text
}
