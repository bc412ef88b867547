//! The endpoint that serves the SPIFFE bundle, and the keys that JWTs are verified by.

use std::net::SocketAddr;
use std::path::PathBuf;

use host::config::finding::Source;
use host::config::section::{Keys, Section};

use super::document::listener;
use super::public::KeypairFiles;

pub(super) const BUNDLE_ENDPOINT: Keys = Keys {
    of: "bundle_endpoint",
    known: &[
        ("listen", "address and port to listen on"),
        (
            "profile",
            "`https_web`: with the certificate of a public CA; `https_spiffe`: with an X.509-SVID of the cluster, for the SPIFFE ID \
             `spiffe://CLUSTER/endorse/authority`",
        ),
        (
            "cert_file",
            "certificate chain for `https_web`, leaf first, PEM; it is read again when it changes",
        ),
        ("key_file", "key of that certificate, PEM"),
    ],
    refused: &[],
};

/// Where the public keys of the cluster are served over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleEndpoint {
    /// Address and port.
    pub listen: SocketAddr,
    /// What it proves itself by.
    pub profile: BundleProfile,
}

/// The profiles of SPIFFE Federation, section 5.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleProfile {
    /// A certificate of a public CA.
    HttpsWeb(KeypairFiles),
    /// An X.509-SVID of the cluster.
    HttpsSpiffe,
}

/// Whether a profile is that with certificate files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProfileName {
    HttpsWeb,
    HttpsSpiffe,
}

const PROFILES: [(&str, ProfileName); 2] =
    [("https_web", ProfileName::HttpsWeb), ("https_spiffe", ProfileName::HttpsSpiffe)];

pub(super) fn endpoint(top: &Section<'_>, source: &Source<'_>) -> Option<BundleEndpoint> {
    let node = top.node("bundle_endpoint")?;
    let section = Section::open(node, &BUNDLE_ENDPOINT, source)?;
    let missing = |key: &str, advice: &str| {
        if section.node(key).is_none() && !section.meant(key) {
            source.error(Some(&node.range), format!("`{key}` is missing"), advice);
        }
    };
    missing("listen", "add `listen`, such as 0.0.0.0:8443");
    missing("profile", "add `profile: https_web` or `profile: https_spiffe`");
    let listen = section.parse("listen", listener).value();
    let profile = section.word("profile", &PROFILES).value();
    let file = |key: &str| section.text(key).map(PathBuf::from).value();
    let (cert_file, key_file) = (file("cert_file"), file("key_file"));
    let profile = match profile? {
        ProfileName::HttpsWeb => {
            missing("cert_file", "`https_web` needs `cert_file` and `key_file`");
            missing("key_file", "`https_web` needs `cert_file` and `key_file`");
            let (cert_file, key_file) = (cert_file?, key_file?);
            BundleProfile::HttpsWeb(KeypairFiles { cert_file, key_file })
        }
        ProfileName::HttpsSpiffe => {
            for key in ["cert_file", "key_file"] {
                if section.node(key).is_some() {
                    let advice = "remove it: the authority issues the certificate itself";
                    let message = format!("`{key}` is only for `https_web`");
                    source.error(section.key(key), message, advice);
                }
            }
            BundleProfile::HttpsSpiffe
        }
    };
    Some(BundleEndpoint { listen: listen?, profile })
}
