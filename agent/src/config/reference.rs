//! The keys of the configuration file, for its documentation.

use host::config::section::{KeySection, Keys};

use super::{
    destination, document, onboarding, reload, service, ssh, tpm, workload_api, workload_identity,
};

/// All sections and keys that the agent supports.
#[must_use]
pub fn reference() -> Vec<KeySection> {
    const SECTIONS: [(&str, &Keys); 21] = [
        ("", &document::TOP),
        ("onboarding", &onboarding::ONBOARDING),
        ("tpm", &tpm::TPM),
        ("storage", &destination::STORAGE),
        ("services[] of type identity", &service::IDENTITY),
        ("services[] of type x509", &workload_identity::X509),
        ("services[] of type workload-identity-jwt", &workload_identity::JWT),
        ("services[] of type ssh-agent", &ssh::SSH_AGENT),
        ("services[] of type ssh_host", &ssh::SSH_HOST),
        ("services[].destination", &destination::DIRECTORY),
        ("services[].destination.readers[]", &destination::READER),
        ("services[].reload", &reload::RELOAD),
        ("services[].reload.sshd", &reload::SSHD),
        ("services[] of type workload-identity-api", &workload_api::WORKLOAD_API),
        ("services[] of type spiffe-workload-api", &workload_api::SPIFFE_WORKLOAD_API),
        ("services[].selector", &workload_api::SELECTOR),
        ("services[].svids[]", &workload_api::OFFER),
        ("services[].rules[]", &workload_api::RULE),
        ("services[].rules[].unix", &workload_api::UNIX_RULE),
        ("services[].rules[].systemd", &workload_api::SYSTEMD_RULE),
        ("services[].sds", &workload_api::SDS_NAMES),
    ];
    SECTIONS.iter().map(|(path, keys)| KeySection { path, keys: keys.known }).collect()
}
