//! Identities and trust bundles as Envoy's secrets.

use prost::Message;
use proto::envoy::Any;
use proto::envoy::core::data_source::Specifier;
use proto::envoy::core::node::UserAgentVersionType;
use proto::envoy::core::{DataSource, Node, TypedExtensionConfig};
use proto::envoy::tls::secret::Type;
use proto::envoy::tls::spiffe_cert_validator_config::TrustDomain;
use proto::envoy::tls::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate,
};
use proto::spiffe::value::Kind;
use tonic::Status;
use x509_cert::der::pem::{LineEnding, encode_string};

use crate::config::SdsNames;
use crate::credential::svid::{Bundle, KeyedSvid};
use crate::workload_api::Identities;

/// The type of what is served.
pub(super) const SECRET_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// The last version of Envoy without the validator.
const WITHOUT_VALIDATOR: (u32, u32) = (1, 17);

/// What an Envoy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Empty: everything.
    resources: Vec<String>,
    names: SdsNames,
    /// Whether this Envoy has the validator.
    has_validator: bool,
}

impl Wanted {
    /// The request of a node, whose metadata can rename the defaults.
    pub(super) fn new(mut resources: Vec<String>, names: &SdsNames, node: Option<&Node>) -> Self {
        resources.sort();
        resources.dedup();
        let mut names = names.clone();
        for (key, name) in [
            ("default_svid_name", &mut names.default_svid),
            ("default_bundle_name", &mut names.default_bundle),
            ("default_all_bundles_name", &mut names.default_all_bundles),
        ] {
            if let Some(Kind::StringValue(stated)) = metadata(node, key) {
                stated.clone_into(name);
            }
        }
        match metadata(node, "disable_spiffe_cert_validation") {
            Some(Kind::BoolValue(stated)) => names.disable_spiffe_cert_validation = *stated,
            Some(Kind::StringValue(stated)) => {
                names.disable_spiffe_cert_validation = stated == "true";
            }
            _ => {}
        }
        Self { resources, names, has_validator: has_validator(node) }
    }

    /// The secrets, in the order of their names.
    ///
    /// # Errors
    /// A name is of nothing that the caller may have.
    pub(super) fn secrets(&self, identities: &Identities) -> Result<Vec<Any>, Status> {
        if self.resources.is_empty() {
            let domain = format!("spiffe://{}", identities.bundle.trust_domain);
            let ids = identities.svids.iter().map(|keyed| keyed.svid.spiffe_id.as_str());
            let names = ids.chain([domain.as_str()]);
            return names.map(|name| self.secret(name, identities)).collect();
        }
        self.resources.iter().map(|name| self.secret(name, identities)).collect()
    }

    fn secret(&self, name: &str, identities: &Identities) -> Result<Any, Status> {
        let names = &self.names;
        let of_name = |keyed: &&std::sync::Arc<KeyedSvid>| keyed.svid.spiffe_id == name;
        let bundle = &identities.bundle;
        let content = if let Some(keyed) = identities.svids.iter().find(of_name) {
            certificate(keyed)?
        } else if name == names.default_svid {
            let first = identities.svids.first();
            certificate(first.ok_or_else(|| Status::permission_denied("no identity issued"))?)?
        } else if name.strip_prefix("spiffe://") == Some(&bundle.trust_domain)
            || name == names.default_bundle
        {
            self.validation(bundle)?
        } else if name == names.default_all_bundles {
            if !self.uses_validator() {
                let text = format!(
                    "{name:?} needs Envoy's SPIFFE validator, which is switched off or missing"
                );
                return Err(Status::internal(text));
            }
            self.validation(bundle)?
        } else {
            let name: String = name.chars().take(256).collect();
            return Err(Status::invalid_argument(format!(
                "workload is not authorized for the requested identities [{name:?}]"
            )));
        };
        let secret = Secret { name: name.to_owned(), r#type: Some(content) };
        Ok(Any { type_url: SECRET_TYPE.to_owned(), value: secret.encode_to_vec() })
    }

    fn uses_validator(&self) -> bool {
        self.has_validator && !self.names.disable_spiffe_cert_validation
    }

    fn validation(&self, bundle: &Bundle) -> Result<Type, Status> {
        let cas = inline(pems(&bundle.x509)?);
        if !self.uses_validator() {
            return Ok(Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(cas),
                custom_validator_config: None,
            }));
        }
        let name = bundle.trust_domain.clone();
        let trust_domains = vec![TrustDomain { name, trust_bundle: Some(cas) }];
        let config = SpiffeCertValidatorConfig { trust_domains };
        let typed_config =
            Some(Any { type_url: VALIDATOR_TYPE.to_owned(), value: config.encode_to_vec() });
        Ok(Type::ValidationContext(CertificateValidationContext {
            trusted_ca: None,
            custom_validator_config: Some(TypedExtensionConfig {
                name: VALIDATOR.to_owned(),
                typed_config,
            }),
        }))
    }
}

fn certificate(keyed: &KeyedSvid) -> Result<Type, Status> {
    Ok(Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(inline(pems(&keyed.svid.certificates)?)),
        private_key: Some(inline(pem("PRIVATE KEY", &keyed.key)?)),
    }))
}

fn inline(content: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(content.into_bytes())) }
}

fn pems(certificates: &[Vec<u8>]) -> Result<String, Status> {
    certificates.iter().map(|der| pem("CERTIFICATE", der)).collect()
}

fn pem(label: &str, der: &[u8]) -> Result<String, Status> {
    encode_string(label, LineEnding::LF, der).map_err(|error| Status::internal(error.to_string()))
}

fn metadata<'n>(node: Option<&'n Node>, key: &str) -> Option<&'n Kind> {
    node?.metadata.as_ref()?.fields.get(key)?.kind.as_ref()
}

/// Without a version, a node is of this time.
fn has_validator(node: Option<&Node>) -> bool {
    let version = match node.and_then(|node| node.user_agent_version_type.as_ref()) {
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build.version,
        _ => None,
    };
    version.is_none_or(|version| (version.major_number, version.minor_number) > WITHOUT_VALIDATOR)
}
