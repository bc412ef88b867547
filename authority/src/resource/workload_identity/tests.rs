use super::rules::Rule;
use super::*;
use crate::resource::{Bot, BotSpec, DocumentError, Labels, Resource, read, to_yaml};

const FULL: &str = r#"kind: workload_identity
version: v1
metadata:
  name: web
  labels: {env: prod}
spec:
  bots: {names: [edge], labels: {site: berlin}}
  rules:
    allow:
    - conditions:
      - attribute: workload.unix.uid
        eq: {value: "33"}
      - attribute: workload.systemd.service
        in: {values: [nginx.service, caddy.service]}
    deny:
    - conditions:
      - {attribute: workload.unix.binary_path, not_eq: {value: /usr/sbin/nginx}}
  spiffe:
    id: /site/{{ user.bot_name }}/web
    hint: web
    x509:
      dns_sans: ["{{ user.bot_name }}.example.org"]
      maximum_ttl: 2h
      subject_template: {common_name: "{{ user.bot_name }}", organization: ""}
    jwt: {maximum_ttl: 5m, extra_claims: {team: web, uid: "{{ workload.unix.uid }}", nested: [1, {a: true}]}}
  ssh: {host: {principals: ["{{ user.bot_name }}.example.org"]}}
"#;

fn identity(yaml: &str) -> Result<WorkloadIdentity, DocumentError> {
    match read(yaml)?.pop() {
        Some(Resource::WorkloadIdentity(identity)) => Ok(*identity),
        other => panic!("{other:?}"),
    }
}

fn known(attributes: &[(&str, &str)]) -> Attributes {
    let mut all = Attributes::default();
    attributes.iter().for_each(|(name, value)| all.set(name, value));
    all
}

fn bot(name: &str, labels: &[(&str, &str)]) -> Bot {
    let labels: Labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    Bot::new(Metadata { labels, ..Metadata::named(name.parse().unwrap()) }, BotSpec::default())
}

#[test]
fn a_document_is_read_printed_and_read_again() {
    let read_first = identity(FULL).unwrap();
    let printed = to_yaml(&read_first).unwrap();
    assert_eq!(identity(&printed).unwrap(), read_first, "{printed}");
    let json = serde_json::to_string(&read_first).unwrap();
    let stored = Resource::from_json(Kind::WorkloadIdentity, &json).unwrap();
    assert_eq!(stored, Resource::WorkloadIdentity(Box::new(read_first)));
}

/// With the fields that Teleport fills in, and without what is ours.
#[test]
fn the_form_that_teleport_prints_is_taken() {
    let yaml = r#"kind: workload_identity
metadata:
  id: 1
  name: web
  namespace: default
  revision: 0b5a4c3e
spec:
  rules:
    allow:
    - conditions:
      - attribute: join.meta.join_token_name
        eq: {value: edge}
      expression: ""
  spiffe:
    hint: ""
    id: /web
    jwt: {}
    x509:
      dns_sans: null
      subject_template: null
status: {}
sub_kind: ""
version: v1
"#;
    let identity = identity(yaml).unwrap();
    assert_eq!(identity.spec.rules.allow.len(), 1);
    assert!(identity.spec.bots.is_empty());
    assert!(identity.warnings("c")[0].starts_with("spec.bots selects no bot"));
}

#[test]
fn what_is_not_supported_is_refused_by_its_name_with_advice() {
    let rule = |attribute: &str| format!("{{attribute: {attribute}, eq: {{value: a}}}}");
    let with = |condition: &str| {
        format!(
            "kind: workload_identity\nversion: v1\nmetadata: {{name: a}}\nspec:\n  rules: {{allow: \
             [{{conditions: [{condition}]}}]}}\n  spiffe: {{id: /a}}\n"
        )
    };
    let plain = |spec: &str| {
        format!("kind: workload_identity\nversion: v1\nmetadata: {{name: a}}\nspec: {spec}\n")
    };
    for (yaml, part) in [
        (
            plain("{spiffe: {id: /a}, rules: {allow: [{expression: 'a == b'}]}}"),
            "write the rule as conditions",
        ),
        (with(&rule("join.gitlab.sub")), "hosts join by their TPM"),
        (with(&rule("workload.docker.container.name")), "workload.container.id"),
        (with(&rule("workload.kubernetes.namespace")), "workload.kubernetes.pod_uid"),
        (with(&rule("workload.unix.shoe_size")), "is not the name of an attribute"),
        (with("{attribute: workload.unix.uid}"), "exactly one of eq, not_eq, in and not_in"),
        (with("{attribute: workload.unix.uid, eq: {value: a}, in: {values: [a]}}"), "exactly one"),
        (with("{attribute: workload.unix.uid, eq: {value: ''}}"), "none of them empty"),
        (with("{attribute: workload.unix.uid, in: {values: []}}"), "must have values"),
        (with("{attribute: workload.unix.uid, eq: {value: 33}}"), "quote it"),
        (with(""), "a rule must have conditions"),
        (plain("{}"), "spiffe or ssh must be set"),
        (plain("{spiffe: {id: a}}"), "must begin with /"),
        (plain("{spiffe: {id: 'spiffe://c/a'}}"), "write the path alone"),
        (plain("{spiffe: {id: /a/}}"), "spec.spiffe.id"),
        (plain("{spiffe: {id: //a}}"), "spec.spiffe.id"),
        (plain("{spiffe: {id: /a/../b}}"), "must not be a segment"),
        (plain("{spiffe: {id: /a%41}}"), "must not be a segment"),
        (plain("{spiffe: {id: /endorse/authority}}"), "those of the authority itself"),
        (plain("{spiffe: {id: '/{{ user.bot_name }}/'}}"), "spec.spiffe.id"),
        (
            plain("{spiffe: {id: '/{{ strings.upper(user.bot_name) }}'}}"),
            "functions are not supported",
        ),
        (plain("{spiffe: {id: /a, x509: {dns_sans: ['*.a']}}}"), "spec.spiffe.x509.dns_sans"),
        (plain("{spiffe: {id: /a, x509: {dns_sans: [A.b]}}}"), "not a valid DNS name"),
        (plain("{spiffe: {id: /a, x509: {maximum_ttl: 1s}}}"), "a duration from 1m to 168h"),
        (plain("{spiffe: {id: /a, jwt: {extra_claims: {sub: b}}}}"), "sub is set by the authority"),
        (plain("{spiffe: {id: /a, wit: {}}}"), "wit"),
        (plain("{ssh: {host: {principals: []}}}"), "at least one"),
        (plain("{ssh: {host: {principals: ['*.a']}}}"), "not a valid name of a host"),
        (plain("{ssh: {host: {principals: [Web]}}}"), "not a valid name of a host"),
    ] {
        let fault = identity(&yaml).unwrap_err();
        assert!(fault.message.contains(part), "{fault}\n{yaml}");
    }
    let long = format!("{{spiffe: {{id: /{}}}}}", "a".repeat(2048));
    assert!(identity(&plain(&long)).unwrap_err().message.contains("more than 2048 bytes"));
}

#[test]
fn bots_are_selected_by_name_or_by_all_labels() {
    let selects = |yaml: &str, bot: &Bot| {
        let selector: BotSelector = serde_json::from_str(yaml).unwrap();
        selector.selects(bot)
    };
    let (edge, berlin) = (bot("edge", &[]), bot("x", &[("site", "berlin"), ("env", "prod")]));
    assert!(selects(r#"{"names": ["edge"], "labels": {"site": "berlin"}}"#, &edge));
    assert!(selects(r#"{"names": ["edge"], "labels": {"site": "berlin"}}"#, &berlin));
    assert!(!selects(r#"{"labels": {"site": "berlin", "env": "test"}}"#, &berlin));
    assert!(selects(r#"{"labels": {"site": "*"}}"#, &berlin));
    assert!(!selects(r#"{"labels": {"site": "*"}}"#, &edge));
    assert!(selects(r#"{"labels": {"*": "*"}}"#, &edge));
    assert!(!selects(r#"{"labels": {"*": "x"}}"#, &edge));
    assert!(!selects("{}", &edge));
}

#[test]
fn conditions_need_the_attribute_and_deny_wins() {
    let rules = &identity(FULL).unwrap().spec.rules;
    let sound = [
        ("workload.unix.uid", "33"),
        ("workload.systemd.service", "nginx.service"),
        ("workload.unix.binary_path", "/usr/sbin/nginx"),
    ];
    rules.check(&known(&sound)).unwrap();
    assert!(rules.check(&known(&sound[..1])).unwrap_err().contains("allow"));
    assert!(rules.check(&known(&[])).unwrap_err().contains("allow"));
    let mut other = sound;
    other[1].1 = "sshd.service";
    assert!(rules.check(&known(&other)).unwrap_err().contains("allow"));
    let mut other = sound;
    other[2].1 = "/tmp/nginx";
    assert!(rules.check(&known(&other)).unwrap_err().contains("deny"));
    // An absent attribute satisfies no condition, also none that it should not be something.
    for operator in [r#"{"not_eq": {"value": "1"}}"#, r#"{"not_in": {"values": ["1"]}}"#] {
        let mut condition: serde_json::Value = serde_json::from_str(operator).unwrap();
        condition["attribute"] = "workload.unix.gid".into();
        let rules: Rules =
            serde_json::from_value(serde_json::json!({"allow": [{"conditions": [condition]}]}))
                .unwrap();
        rules.check(&known(&[("workload.unix.gid", "2")])).unwrap();
        rules.check(&known(&[("workload.unix.gid", "1")])).unwrap_err();
        rules.check(&known(&[("workload.unix.uid", "2")])).unwrap_err();
    }
    // Of several values, one is enough, and none may be excluded.
    let mut groups = Attributes::default();
    groups.set_all("workload.unix.supplementary_gids", ["4", "27"]);
    for (operator, allowed) in [
        (r#"{"eq": {"value": "27"}}"#, true),
        (r#"{"in": {"values": ["1", "4"]}}"#, true),
        (r#"{"not_eq": {"value": "27"}}"#, false),
        (r#"{"not_in": {"values": ["1", "4"]}}"#, false),
        (r#"{"not_in": {"values": ["1"]}}"#, true),
    ] {
        let mut condition: serde_json::Value = serde_json::from_str(operator).unwrap();
        condition["attribute"] = "workload.unix.supplementary_gids".into();
        let rule: Rule =
            serde_json::from_value(serde_json::json!({"conditions": [condition]})).unwrap();
        let rules = Rules { allow: vec![rule], deny: Vec::new() };
        assert_eq!(rules.check(&groups).is_ok(), allowed, "{operator}");
    }
}

/// Also where the document is the second one, or in JSON.
#[test]
fn faults_of_templates_have_the_line_of_their_field() {
    let spec = "spec:
  spiffe:
    id: /web
    hint: web
    x509:
      dns_sans:
        - a.example.org
        - b.example.org
      subject_template:
        common_name: web
        organization: here
  ssh:
    host:
      principals:
        - a.example.org
        - b.example.org
";
    let head = "kind: workload_identity\nversion: v1\nmetadata: {name: web}\n";
    let (long, hint) = ("a".repeat(65), "h".repeat(1025));
    for (right, wrong, line) in [
        ("id: /web", "id: /a//b", 6),
        ("hint: web", &*format!("hint: {hint}"), 7),
        ("- b.example.org\n      subject", "- 'b_'\n      subject", 11),
        ("common_name: web", &*format!("common_name: {long}"), 13),
        ("organization: here", &*format!("organization: {long}"), 14),
        (
            "        - a.example.org\n        - b.example.org\n",
            "        - A\n        - b.example.org\n",
            18,
        ),
    ] {
        let at = spec.rfind(right).unwrap();
        let spec = format!("{}{wrong}{}", &spec[..at], &spec[at + right.len()..]);
        let whole = format!("{head}{spec}");
        let fault = read(&whole).unwrap_err();
        assert_eq!(fault.line, line, "{fault}\n{whole}");
        let second = format!("{FULL}---\n{whole}");
        let before = FULL.lines().count() as u64 + 1;
        assert_eq!(read(&second).unwrap_err().line, line + before, "{second}");
    }
    let json = r#"{"kind": "workload_identity", "version": "v1", "metadata": {"name": "a"},
"spec": {"spiffe": {
"id": "/a/"}}}"#;
    assert_eq!(read(json).unwrap_err().line, 3);
}

#[test]
fn a_value_that_is_no_legal_segment_is_refused_and_never_repaired() {
    let spec = identity(FULL).unwrap().spec.spiffe.unwrap();
    let id = |name: &str| spec.spiffe_id("c", &known(&[("user.bot_name", name)]));
    assert_eq!(id("edge").unwrap().as_str(), "spiffe://c/site/edge/web");
    for wrong in [".", "..", "a/b", "a%41", "a b", "ä", "a?b", "/", "a//b"] {
        assert!(matches!(id(wrong), Err(RenderError::Invalid(_))), "{wrong}");
    }
    assert!(matches!(id(""), Err(RenderError::Absent(_))));
    assert!(id(&"a".repeat(2048)).is_err());
    let dns = |name: &str| spec.x509.dns_names(&known(&[("user.bot_name", name)]));
    assert_eq!(dns("edge").unwrap()[0].as_str(), "edge.example.org");
    for wrong in ["Edge", "a_b", "*", "a..b", "-a"] {
        assert!(matches!(dns(wrong), Err(RenderError::Invalid(_))), "{wrong}");
    }
    let subject = |name: &str| spec.x509.subject(&known(&[("user.bot_name", name)]));
    assert_eq!(subject("edge").unwrap().common_name.as_deref(), Some("edge"));
    assert_eq!(subject("edge").unwrap().organization, None);
    assert!(subject(&"a".repeat(65)).is_err());
    assert!(subject("a\nb").is_err());
}

#[test]
fn claims_are_rendered_in_texts_only() {
    let spec = identity(FULL).unwrap().spec.spiffe.unwrap();
    let claims = spec.jwt.extra_claims.render(&known(&[("workload.unix.uid", "33")])).unwrap();
    let claims = serde_json::Value::Object(claims);
    assert_eq!(claims, serde_json::json!({"team": "web", "uid": "33", "nested": [1, {"a": true}]}));
    assert!(spec.jwt.extra_claims.render(&known(&[])).is_err());
}

#[test]
fn a_subject_too_long_for_google_is_warned_of() {
    let with = |id: &str| {
        let yaml = format!(
            "kind: workload_identity\nversion: v1\nmetadata: {{name: a}}\nspec: {{bots: {{names: [a]}}, \
             spiffe: {{id: {id}}}}}\n"
        );
        identity(&yaml).unwrap().warnings("c")
    };
    let fits = format!("/{}", "a".repeat(127 - "spiffe://c/".len()));
    assert!(with(&fits).is_empty());
    assert!(with(&format!("{fits}a"))[0].contains("at least 128 characters"));
}
