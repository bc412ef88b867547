//! The keys of the configuration file, for its documentation.

use host::config::section::{KeySection, Keys};

use super::{destination, document, onboarding, reload, service, tpm};

/// All sections and keys that the agent supports.
#[must_use]
pub fn reference() -> Vec<KeySection> {
    const SECTIONS: [(&str, &Keys); 9] = [
        ("", &document::TOP),
        ("onboarding", &onboarding::ONBOARDING),
        ("tpm", &tpm::TPM),
        ("storage", &destination::STORAGE),
        ("services[] of type identity", &service::IDENTITY),
        ("services[] of type x509", &service::X509),
        ("services[].destination", &destination::DIRECTORY),
        ("services[].destination.readers[]", &destination::READER),
        ("services[].reload", &reload::RELOAD),
    ];
    SECTIONS.iter().map(|(path, keys)| KeySection { path, keys: keys.known }).collect()
}
