//! Services of the types `x509` and `workload-identity-jwt`.

use std::collections::BTreeMap;

use super::{over, refused, with};
use crate::config::{
    KeyRotation, Overrides, PlainService, Selector, ServiceKind, WorkloadIdentity, X509Files,
    labels,
};

fn kind(service: &str) -> ServiceKind {
    with(&format!("services: [{{destination: /d, {service}}}]")).services[0].kind.clone()
}

fn messages(service: &str) -> String {
    refused(&format!("services: [{{destination: /d, {service}}}]")).to_string()
}

#[test]
fn workload_identity_is_selected_by_name_or_labels() {
    let labels = [("env", &["prod", "test"][..]), ("app", &["web"])];
    let labels = labels
        .map(|(key, values)| (key.to_owned(), values.iter().map(ToString::to_string).collect()));
    let labels = Selector::Labels(BTreeMap::from(labels));
    for (text, selector, hint) in [
        ("", Selector::Own, None),
        ("selector: {name: web}", Selector::Name("web".into()), None),
        ("selector: {labels: {env: [prod, test], app: web}}", labels.clone(), None),
        ("selector: {labels: {env: [prod, test], app: web}}, hint: in", labels, Some("in".into())),
    ] {
        let identity = WorkloadIdentity { selector, hint };
        let files = X509Files::Tbot;
        let key_rotation = KeyRotation::Always;
        let x509 = ServiceKind::X509 { files, identity: identity.clone(), key_rotation };
        assert_eq!(kind(&format!("type: workload-identity-x509, {text}")), x509);
        let audiences = vec!["a".into(), "https://b/".into()];
        let jwt = ServiceKind::Jwt { audiences, identity };
        let text = format!("type: workload-identity-jwt, audiences: [a, 'https://b/'], {text}");
        assert_eq!(kind(&text), jwt);
    }
}

#[test]
fn format_names_the_files_and_key_stores_are_refused_with_what_to_use() {
    for (format, expected) in [
        ("tbot", X509Files::Tbot),
        ("svid", X509Files::Tbot),
        ("spiffe-helper", X509Files::SpiffeHelper),
        ("kubernetes", X509Files::Kubernetes),
        ("tls", X509Files::Kubernetes),
        ("nginx", X509Files::Nginx),
    ] {
        let ServiceKind::X509 { files, .. } = kind(&format!("type: x509, format: {format}")) else {
            panic!("not x509")
        };
        assert_eq!(files, expected);
    }
    for (format, what) in [("pkcs12", "PKCS #12"), ("P12", "PKCS #12"), ("jks", "JKS")] {
        let message = messages(&format!("type: x509, format: {format}"));
        assert!(message.contains(&format!("{what} is not written: ")), "{message}");
        assert!(message.contains("openssl pkcs12 -export -in svid.pem"), "{message}");
    }
    assert!(messages("type: x509, format: ngnix").contains("nginx"));
}

#[test]
fn what_has_no_meaning_for_the_service_is_refused() {
    for (service, reason) in [
        ("type: x509, hint: a", "nothing for `hint` to choose from"),
        ("type: x509, hint: a, selector: {name: b}", "nothing for `hint` to choose from"),
        ("type: x509, selector: {}", "a selector needs either `name` or `labels`"),
        ("type: x509, audiences: [a]", "belongs to services of type workload-identity-jwt"),
        ("type: workload-identity-jwt", "`audiences` must be a list of 1 to 32 names"),
        ("type: workload-identity-jwt, audiences: []", "must be a list of 1 to 32 names"),
        ("type: workload-identity-jwt, audiences: ['']", "`audiences` is empty"),
        ("type: workload-identity-jwt, audiences: [a], key: tpm", "the service has no key"),
        ("type: workload-identity-jwt, audiences: [a], format: tbot", "the file is `jwt_svid`"),
        ("type: workload-identity-jwt, audience: a", "write `audiences`, a list"),
        ("type: x509, key: tpm, key_rotation: never", "no effect on a key in the TPM"),
        ("type: x509, key_rotation: sometimes", "not one of always, never"),
        ("type: identity, selector: {name: a}", "belongs to services of type x509"),
    ] {
        let messages = messages(service);
        assert!(messages.contains(reason), "{service}: {messages}");
    }
    let many = format!("type: workload-identity-jwt, audiences: [{}]", "a, ".repeat(33));
    assert!(messages(&many).contains("must be a list of 1 to 32 names"));
    let plain: Result<PlainService, _> = "workload-identity-jwt=/d".parse();
    assert!(plain.unwrap_err().contains("a JWT needs audiences"));
}

#[test]
fn labels_of_the_command_line_are_pairs() {
    let read = labels("a=b, c=d=e,a=f").unwrap();
    let expected = [("a", vec!["b", "f"]), ("c", vec!["d=e"])];
    let expected = expected
        .map(|(key, values)| (key.to_owned(), values.into_iter().map(str::to_owned).collect()));
    assert_eq!(read, BTreeMap::from(expected));
    for wrong in ["", "a", "a=", "=b", "a=b,", "a=b,,c=d"] {
        labels(wrong).unwrap_err();
    }
    // What is not in a file is checked too.
    let services = vec!["workload-identity-x509=/d".parse().unwrap()];
    let settings = over(super::LEAST, &Overrides { services, ..Overrides::default() });
    assert_eq!(settings.services[0].name.as_str(), "x509-output-1");
}
