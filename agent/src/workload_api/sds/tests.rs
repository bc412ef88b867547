use prost::Message;
use proto::envoy::core::data_source::Specifier;
use proto::envoy::core::node::UserAgentVersionType;
use proto::envoy::core::{BuildVersion, DataSource, Node, SemanticVersion};
use proto::envoy::discovery::{DiscoveryRequest, DiscoveryResponse};
use proto::envoy::rpc::Status as Error;
use proto::envoy::tls::secret::Type;
use proto::envoy::tls::{CertificateValidationContext, Secret, SpiffeCertValidatorConfig};
use proto::spiffe::{Struct, Value, value::Kind};
use tonic::Code;

use super::conversation::{Conversation, Reply};
use super::secrets::SECRET_TYPE;
use crate::config::SdsNames;
use crate::workload_api::tests::identities;

fn asks(names: &[&str]) -> DiscoveryRequest {
    let resource_names = names.iter().map(ToString::to_string).collect();
    DiscoveryRequest { resource_names, type_url: SECRET_TYPE.into(), ..Default::default() }
}

fn conversation() -> Conversation {
    Conversation::new(&SdsNames::default())
}

fn sent(reply: Reply) -> DiscoveryResponse {
    match reply {
        Reply::Send(response) => response,
        other => panic!("{other:?}"),
    }
}

fn secrets(response: &DiscoveryResponse) -> Vec<Secret> {
    response.resources.iter().map(|any| Secret::decode(any.value.as_slice()).unwrap()).collect()
}

fn names(response: &DiscoveryResponse) -> Vec<String> {
    secrets(response).into_iter().map(|secret| secret.name).collect()
}

fn text(data: Option<&DataSource>) -> String {
    let Some(Specifier::InlineBytes(bytes)) = data.and_then(|data| data.specifier.clone()) else {
        panic!("no data")
    };
    String::from_utf8(bytes).unwrap()
}

#[test]
fn first_request_is_served_whatever_its_nonce_and_acknowledgements_are_not_answered() {
    let (mut conversation, had) = (conversation(), identities(&["a"], 4));
    let old = DiscoveryRequest {
        response_nonce: "of an earlier stream".into(),
        version_info: "7".into(),
        ..asks(&["default", "ROOTCA"])
    };
    let first = sent(conversation.request(old, &had).unwrap());
    assert_eq!(names(&first), ["ROOTCA", "default"]);
    let answer = |of: &DiscoveryResponse, names: &[&str]| DiscoveryRequest {
        response_nonce: of.nonce.clone(),
        version_info: of.version_info.clone(),
        ..asks(names)
    };
    let ack = answer(&first, &["ROOTCA", "default"]);
    assert_eq!(conversation.request(ack, &had).unwrap(), Reply::Nothing);
    // The same content again is no change.
    assert_eq!(conversation.changed(&had).unwrap(), Reply::Nothing);
    let new = identities(&["a"], 9);
    let second = sent(conversation.changed(&new).unwrap());
    assert_ne!((&first.version_info, &first.nonce), (&second.version_info, &second.nonce));
    // Stale: it crossed the second response.
    let stale = answer(&first, &["ALL"]);
    assert_eq!(conversation.request(stale, &new).unwrap(), Reply::Nothing);
    let detail = Error { code: 3, message: "bad \u{1b}[31m".into() };
    let nack =
        DiscoveryRequest { error_detail: Some(detail), ..answer(&second, &["default", "ROOTCA"]) };
    let Reply::Rejected(why) = conversation.request(nack, &new).unwrap() else { panic!() };
    assert!(why.starts_with("bad ") && !why.contains('\u{1b}'));
    assert_eq!(conversation.changed(&new).unwrap(), Reply::Nothing);
    let third = sent(conversation.request(answer(&second, &["ROOTCA"]), &new).unwrap());
    assert_eq!(names(&third), ["ROOTCA"]);
}

#[test]
fn every_name_has_its_content() {
    let had = identities(&["a", "b"], 4);
    let all = sent(conversation().request(asks(&[]), &had).unwrap());
    assert_eq!(names(&all), ["spiffe://td/a", "spiffe://td/b", "spiffe://td"]);
    let first = sent(conversation().request(asks(&["default"]), &had).unwrap());
    let Some(Type::TlsCertificate(certificate)) = secrets(&first).remove(0).r#type else {
        panic!()
    };
    assert_eq!(
        text(certificate.certificate_chain.as_ref()).matches("BEGIN CERTIFICATE").count(),
        2
    );
    assert!(text(certificate.private_key.as_ref()).starts_with("-----BEGIN PRIVATE KEY-----"));
    for name in ["spiffe://td", "ROOTCA", "ALL"] {
        let response = sent(conversation().request(asks(&[name]), &had).unwrap());
        let config = validator(&response).unwrap();
        let [domain] = config.trust_domains.as_slice() else { panic!() };
        assert_eq!(domain.name, "td");
        assert_eq!(text(domain.trust_bundle.as_ref()).matches("BEGIN CERTIFICATE").count(), 2);
    }
    for wrong in ["spiffe://td/c", "spiffe://other", "", "rootca"] {
        let refused = conversation().request(asks(&["default", wrong]), &had).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong}");
        assert!(refused.message().contains("not authorized"));
    }
    let other = DiscoveryRequest { type_url: "type.googleapis.com/x".into(), ..asks(&[]) };
    assert_eq!(conversation().request(other, &had).unwrap_err().code(), Code::InvalidArgument);
}

/// The validator's configuration; `None` if the CAs are there without it.
fn validator(response: &DiscoveryResponse) -> Option<SpiffeCertValidatorConfig> {
    let Some(Type::ValidationContext(context)) = secrets(response).remove(0).r#type else {
        panic!()
    };
    let CertificateValidationContext { trusted_ca, custom_validator_config } = context;
    assert_ne!(trusted_ca.is_some(), custom_validator_config.is_some());
    let config = custom_validator_config?;
    assert_eq!(config.name, "envoy.tls.cert_validator.spiffe");
    Some(SpiffeCertValidatorConfig::decode(config.typed_config?.value.as_slice()).unwrap())
}

#[test]
fn node_of_the_first_request_decides_about_validator_and_names() {
    let had = identities(&["a"], 4);
    let node = |fields: &[(&str, Kind)], version: Option<(u32, u32)>| {
        let fields =
            fields.iter().map(|(key, kind)| (key.to_string(), Value { kind: Some(kind.clone()) }));
        let version = version.map(|(major_number, minor_number)| {
            let version = Some(SemanticVersion { major_number, minor_number, patch: 0 });
            UserAgentVersionType::UserAgentBuildVersion(BuildVersion { version })
        });
        let metadata = Some(Struct { fields: fields.collect() });
        Some(Node { metadata, user_agent_version_type: version, ..Default::default() })
    };
    for (node, has_validator) in [
        (None, true),
        (node(&[], Some((1, 17))), false),
        (node(&[], Some((1, 18))), true),
        (node(&[("disable_spiffe_cert_validation", Kind::BoolValue(true))], None), false),
        (
            node(&[("disable_spiffe_cert_validation", Kind::StringValue("true".into()))], None),
            false,
        ),
    ] {
        let mut conversation = conversation();
        let first = sent(
            conversation.request(DiscoveryRequest { node, ..asks(&["ROOTCA"]) }, &had).unwrap(),
        );
        assert_eq!(validator(&first).is_some(), has_validator);
        // Later requests have no node.
        let later = DiscoveryRequest { response_nonce: first.nonce, ..asks(&["spiffe://td"]) };
        let later = sent(conversation.request(later, &had).unwrap());
        assert_eq!(validator(&later).is_some(), has_validator);
        if !has_validator {
            let all = DiscoveryRequest { response_nonce: later.nonce, ..asks(&["ALL"]) };
            assert_eq!(conversation.request(all, &had).unwrap_err().code(), Code::Internal);
        }
    }
    let renamed = node(&[("default_svid_name", Kind::StringValue("mine".into()))], None);
    let request = DiscoveryRequest { node: renamed, ..asks(&["mine"]) };
    assert_eq!(names(&sent(conversation().request(request, &had).unwrap())), ["mine"]);
}

#[test]
fn identity_that_goes_ends_the_stream() {
    let mut conversation = conversation();
    sent(conversation.request(asks(&["spiffe://td/a"]), &identities(&["a"], 4)).unwrap());
    let gone = conversation.changed(&identities(&["b"], 4)).unwrap_err();
    assert_eq!(gone.code(), Code::InvalidArgument);
}
