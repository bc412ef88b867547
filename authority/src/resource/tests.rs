use super::*;

const BOT: &str = "kind: bot
version: v1
metadata:
  name: example
spec:
  roles: []
";

const TOKEN: &str = r#"kind: token
version: v2
metadata:
  name: my-bot-token
spec:
  roles: [Bot]
  join_method: tpm
  bot_name: my-bot
  tpm:
    # the TPM must match one rule: all fields set in a rule must match
    allow:
      - description: "example-server-100"
        ek_public_hash: "6C5AADA1C5ABEE6D869369A0CAE3B3B9E9A9F0A1B2C3D4E5F60718293A4B5C6D"
        ek_certificate_serial: "00:5E:cd:5f:8e"
"#;

/// A CA of the tests, made once with `openssl req -x509 -newkey ec -pkeyopt
/// ec_paramgen_curve:P-256`.
const CA: &str = "-----BEGIN CERTIFICATE-----
MIIBgzCCASmgAwIBAgIUQCW4CNCn2CMpZTaMrsR7yYjBqS8wCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLU29tZSBUUE0gQ0EwIBcNMjYxMTIyMTQ0MjUwWhgPMjEyNjEw
MjkxNDQyNTBaMBYxFDASBgNVBAMMC1NvbWUgVFBNIENBMFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEDDsjC65O6VfoVpTnjWaBkNdoT7I3MSc/xu4HWFDTV9VPelpa
prcd570QZhiVclykZC5/pNsJ2H12f/E1E6VD1KNTMFEwHQYDVR0OBBYEFDl3q0VZ
MBZ+x6CBkmKAYz4Uy9lmMB8GA1UdIwQYMBaAFDl3q0VZMBZ+x6CBkmKAYz4Uy9lm
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgDl/vsvQJj/Qnl8Ak
f5r1bHHdsGbU0qT1i/Wst/pAVCgCIQCFz5evXw9v2zpfTnVY79oTsod794RNNXNM
UYK2S11o6w==
-----END CERTIFICATE-----
";

fn one(yaml: &str) -> Result<Resource, DocumentError> {
    let mut all = read(yaml)?;
    assert_eq!(all.len(), 1);
    Ok(all.remove(0))
}

fn fault(yaml: &str) -> String {
    read(yaml).unwrap_err().to_string()
}

/// The token of the guide with one line replaced.
fn with(line: &str, other: &str) -> String {
    assert_eq!(TOKEN.matches(line).count(), 1, "{line}");
    TOKEN.replace(line, other)
}

#[test]
fn the_guide_is_read_as_it_stands() {
    let Resource::Bot(bot) = one(BOT).unwrap() else { panic!("not a bot") };
    assert_eq!(bot.metadata, Metadata::named("example".parse().unwrap()));
    assert_eq!(bot.spec, BotSpec::default());

    let Resource::Token(token) = one(TOKEN).unwrap() else { panic!("not a token") };
    assert_eq!(token.spec.roles, [SystemRole::Bot]);
    assert_eq!(token.spec.bot_name.as_ref().unwrap().as_str(), "my-bot");
    let rule = &token.spec.tpm.as_ref().unwrap().allow[0];
    let hash = "6c5aada1c5abee6d869369a0cae3b3b9e9a9f0a1b2c3d4e5f60718293a4b5c6d";
    assert_eq!(rule.ek_public_hash.as_ref().unwrap().as_str(), hash);
    assert_eq!(rule.ek_certificate_serial.as_ref().unwrap().as_str(), "5e:cd:5f:8e");
}

#[test]
fn a_stream_of_documents_is_read_in_order_and_faults_keep_its_lines() {
    let stream = format!("# a comment\n---\n{BOT}---\n{TOKEN}---\n# the end\n");
    let names: Vec<_> = read(&stream).unwrap().iter().map(|r| r.name().to_string()).collect();
    assert_eq!(names, ["example", "my-bot-token"]);

    let line = stream.lines().position(|l| l.contains("join_method")).unwrap() + 1;
    let broken = stream.replace("join_method: tpm", "join_metod: tpm");
    let fault = fault(&broken);
    assert!(fault.starts_with(&format!("line {line}: ")), "{fault}");
    assert!(fault.contains("join_metod"), "{fault}");
}

#[test]
fn unknown_fields_wrong_types_and_bad_values_are_refused_with_their_line() {
    let cases = [
        (with("version: v2", "version: v3"), 2, "v3"),
        (with("version: v2", "version: v2\nextra: 1"), 3, "extra"),
        (with("  name: my-bot-token", "  name: [a]"), 4, ""),
        (with("  name: my-bot-token", "  name: my-bot-token\n  owner: me"), 5, "owner"),
        (with("  name: my-bot-token", "  name: \"../x\""), 4, "is not a valid name"),
        (with("  name: my-bot-token", "  name: 12"), 4, "quot"),
        (with("  roles: [Bot]", "  roles: Bot"), 6, ""),
        (with("  roles: [Bot]", "  roles: [\"a b\"]"), 6, "a b"),
        (with("  roles: [Bot]", "  roles: [Bot]\n  roles: [Bot]"), 7, "roles"),
        (with("join_method: tpm", "join_method: token"), 7, "unknown join method \"token\""),
        (with("    allow:", "    alow:"), 11, "alow"),
        (with("      - description:", "      - descriptio:"), 12, "descriptio"),
        (with("ek_public_hash: \"6C5A", "ek_public_hash: \"6C5"), 13, "ek_public_hash"),
        (with("ek_public_hash: \"6C5A", "ek_public_hash: \"ZC5A"), 13, "ek_public_hash"),
        (with("\"00:5E:cd:5f:8e\"", "\"5e:cd:5f:8\""), 14, "ek_certificate_serial"),
        (
            with("\"00:5E:cd:5f:8e\"", "12:34:56:10"),
            14,
            "write ek_certificate_serial: \"12:34:56:10\"",
        ),
        (
            with("\"00:5E:cd:5f:8e\"", "\"01\"\n        ek_certificate_issuer: ' '"),
            15,
            "_issuer: not a",
        ),
        (with("\"00:5E:cd:5f:8e\"", "1234"), 14, "write ek_certificate_serial: \"1234\""),
    ];
    for (yaml, line, says) in cases {
        let fault = read(&yaml).unwrap_err();
        assert_eq!(fault.line, line, "{fault}\n{yaml}");
        assert!(fault.message.contains(says), "{fault}");
        assert_eq!(fault.message.lines().count(), 1, "{fault}");
    }
}

#[test]
fn contradicting_fields_are_refused_with_teleports_messages() {
    let serial_only = with(
        "        ek_public_hash: \
         \"6C5AADA1C5ABEE6D869369A0CAE3B3B9E9A9F0A1B2C3D4E5F60718293A4B5C6D\"\n",
        "",
    );
    let cas = |pem: &str| {
        let indented: String = pem.lines().map(|line| format!("          {line}\n")).collect();
        serial_only.replace(
            "    allow:",
            &format!("    ekcert_allowed_cas:\n      - |\n{indented}    allow:"),
        )
    };
    let cases = [
        (with("  roles: [Bot]", "  roles: []"), "provisioning token is missing roles"),
        (with("  bot_name: my-bot\n", ""), "token with role \"Bot\" must set bot_name"),
        (with("[Bot]", "[Node]"), "can only set bot_name on token with role \"Bot\""),
        (
            TOKEN[..TOKEN.find("  tpm:").unwrap()].to_owned(),
            "spec.tpm: must be configured for the join method \"tpm\"",
        ),
        (
            format!("{}    allow: []\n", &TOKEN[..TOKEN.find("    #").unwrap()]),
            "spec.tpm: failed validation: allow: at least one rule must be set",
        ),
        (
            format!("{}    allow: [{{description: x}}]\n", &TOKEN[..TOKEN.find("    #").unwrap()]),
            "spec.tpm: failed validation: allow[0]: at least one of \
             ['ek_public_hash', 'ek_certificate_serial'] must be set",
        ),
        (
            with(
                "        ek_certificate_serial: \"00:5E:cd:5f:8e\"\n",
                "        ek_certificate_issuer: CN=Some TPM CA\n",
            ),
            "spec.tpm: failed validation: allow[0]: ek_certificate_issuer must be accompanied",
        ),
        (
            serial_only.clone(),
            "spec.tpm: failed validation: allow[0]: ek_certificate_serial must be accompanied",
        ),
        (
            with("    allow:", "    ekcert_without_purpose: accepted\n    allow:"),
            "spec.tpm: failed validation: ekcert_without_purpose must be accompanied by",
        ),
        (cas("what"), "spec.tpm: failed validation: ekcert_allowed_cas[0]: no pem block found"),
        (cas(&CA.replacen("MII", "MIJ", 1)), "ekcert_allowed_cas[0]: parsing certificate: "),
        (
            cas(&CA.replace("CERTIFICATE", "PUBLIC KEY")),
            "ekcert_allowed_cas[0]: pem block is not 'CERTIFICATE' type",
        ),
    ];
    // The line of the field that the message names, if it is there.
    let lines = [1, 1, 1, 5, 10, 10, 12, 12, 9, 13, 13, 13];
    for ((yaml, says), line) in cases.into_iter().zip(lines) {
        let fault = read(&yaml).unwrap_err();
        assert!(fault.message.contains(says), "{fault}\n{yaml}");
        assert_eq!(fault.line, line, "{fault}\n{yaml}");
    }
    assert!(fault(&format!("{BOT}---\n{BOT}")).starts_with("line 8: duplicate bot \"example\""));
    assert!(fault("").contains("no resource"));
    assert!(fault("--- \n# nothing\n").contains("no resource"));
    assert!(fault("kind: user\nversion: v2\n").starts_with("line 1: kind must be"));
    assert!(fault("kind: role\nversion: v6\n").contains("the roles of a bot are names"));
    assert!(fault("version: v2\n").contains("kind must be"));
    assert!(fault("[1, 2]\n").starts_with("line 1: "));
    assert!(fault("kind: bot\n...\nkind: bot\n").starts_with("line "));
}

/// The token of the guide with an entry of `ekcert_allowed_cas` for each of these.
fn with_cas(entries: &[&str]) -> String {
    let mut cas = "    ekcert_allowed_cas:\n".to_owned();
    for pem in entries {
        cas.push_str("      - |\n");
        pem.lines().for_each(|line| cas.push_str(&format!("          {line}\n")));
    }
    with("    allow:\n", &format!("{cas}    allow:\n"))
}

#[test]
fn unreadable_ca_is_named_and_left_out_only_on_request() {
    let bad = CA.replacen("MII", "MIJ", 1);
    let bundle = [CA, &bad, CA].concat();
    let yaml = with_cas(&[CA, &bundle, &bad]);
    let says = "spec.tpm: failed validation: ekcert_allowed_cas[1]: parsing certificate: \
                block 2 at line 12";
    assert!(fault(&yaml).contains(says), "{}", fault(&yaml));
    assert!(fault(&yaml).contains("--skip-unreadable"), "{}", fault(&yaml));

    let mut skipped = Vec::new();
    let read = read_with(&yaml, Unreadable::Skip(&mut skipped)).unwrap().remove(0);
    let Resource::Token(token) = &read else { panic!("not a token") };
    let tpm = token.spec.tpm.as_ref().unwrap();
    assert_eq!(tpm.ekcert_allowed_cas, [CA.to_owned(), [CA, CA].concat()]);
    assert_eq!(one(&to_yaml(&read).unwrap()).unwrap(), read);
    let [first, second] = &skipped[..] else { panic!("{skipped:?}") };
    let begins = "token \"my-bot-token\": ekcert_allowed_cas[1]: block 2 at line 12";
    assert!(first.starts_with(begins), "{first}");
    assert!(second.contains("ekcert_allowed_cas[2]: block 1 at line 1"), "{second}");

    // Without any CA the token would demand no certificate at all.
    let mut skipped = Vec::new();
    let fault = read_with(&with_cas(&[&bad]), Unreadable::Skip(&mut skipped)).unwrap_err();
    let says =
        "all certificates in ekcert_allowed_cas are malformed: ekcert_allowed_cas[0]: block 1";
    assert!(fault.message.contains(says), "{fault}");
}

#[test]
fn documents_as_teleport_prints_them_are_read() {
    let metadata = |name: &str| {
        format!(
            "metadata:\n  description: null\n  expires: null\n  id: 1700000000000000001\n  \
             labels: null\n  name: {name}\n  namespace: default\n  \
             revision: 5a0d4b6c-4b3e-4c6e-9f0e-0a8a2f6f7f11\n"
        )
    };
    let bot = format!(
        "kind: bot\n{}scope: \"\"\nspec:\n  delegation: null\n  max_session_ttl:\n    \
         seconds: 43200\n  roles:\n  - access\n  traits: null\nstatus:\n  role_name: bot-example\n  \
         user_name: bot-example\nsub_kind: \"\"\nversion: v1\n",
        metadata("example")
    );
    let Resource::Bot(bot) = one(&bot).unwrap() else { panic!("not a bot") };
    assert_eq!(bot.spec.max_session_ttl.unwrap().to_string(), "12h0m0s");
    assert_eq!((bot.spec.roles.len(), bot.spec.traits.len()), (1, 0));

    let token = format!(
        "kind: token\n{}spec:\n  allow: []\n  aws_iid_ttl: 0s\n  bot_name: example\n  \
         github: null\n  join_method: tpm\n  roles: [bot, RelayServer]\n  suggested_labels:\n    \
         env: [prod]\n  suggested_agent_matcher_labels: {{}}\n  tpm:\n    allow:\n    - \
         description: null\n      ek_certificate_serial: null\n      ek_public_hash: {}\n    \
         ekcert_allowed_cas: null\nstatus: null\nversion: v2\n",
        metadata("t"),
        "ab".repeat(32)
    );
    let resource = one(&token).unwrap();
    let Resource::Token(token) = &resource else { panic!("not a token") };
    let other = SystemRole::Other("RelayServer".to_owned());
    assert_eq!(token.spec.roles, [SystemRole::Bot, other]);
    let written = to_yaml(&resource).unwrap();
    assert_eq!(one(&written).unwrap(), resource);
    assert!(!written.contains("revision") && written.contains("RelayServer"), "{written}");

    // As a template leaves a field that it has nothing for: it is not set.
    let empty = "- ek_certificate_serial: ''\n        ek_public_hash";
    let token = one(&written.replace("- ek_public_hash", empty));
    assert_eq!(token.unwrap(), resource);
    let token = written.replace(&"ab".repeat(32), "''");
    assert!(one(&token).unwrap_err().to_string().contains("must be set"), "{token}");

    let lock = format!(
        "kind: lock\n{}spec:\n  created_at: \"2026-01-01T00:00:00Z\"\n  created_by: admin\n  \
         expires: null\n  message: null\n  target:\n    login: \"\"\n    user: bot-example\n\
         version: v2\n",
        metadata("l")
    );
    one(&lock).unwrap();
}

#[test]
fn fields_of_teleports_that_are_not_served_are_refused_by_name_and_line() {
    for (yaml, line, says) in [
        (
            with("join_method: tpm", "join_method: tpm\n  github: {allow: []}"),
            8,
            "github: this Teleport field",
        ),
        (
            with("join_method: tpm", "join_method: tpm\n  allow: [{aws_account: x}]"),
            8,
            "allow: this Teleport field",
        ),
        (
            with("join_method: tpm", "join_method: tpm\n  aws_iid_ttl: 5m"),
            8,
            "aws_iid_ttl: this Teleport field",
        ),
        (with("version: v2", "version: v2\nscope: /x"), 3, "scope: this Teleport field"),
        (with("version: v2", "version: v2\nsub_kind: x"), 3, "sub_kind: this Teleport field"),
        (
            BOT.replace("roles: []", "roles: []\n  delegation: {a: 1}"),
            7,
            "delegation: this Teleport field",
        ),
        (BOT.replace("roles: []", "roles: []\n  max_session_ttl: {seconds: 1}"), 7, "{seconds: 1"),
        (BOT.replace("roles: []", "roles: []\n  max_session_ttl: {hours: 1}"), 7, "hours"),
        // Fields that neither has are refused as before.
        (with("  name: my-bot-token", "  name: my-bot-token\n  revison: x"), 5, "revison"),
    ] {
        let fault = read(&yaml).unwrap_err();
        assert!(fault.message.contains(says), "{fault}\n{yaml}");
        assert_eq!(fault.line, line, "{fault}\n{yaml}");
    }
}

#[test]
fn bots_keep_all_that_their_documents_say() {
    let yaml = r#"kind: bot
version: v1
metadata:
  name: example
  description: 'a: b'
  labels: {env: "yes", "n": "7"}
  expires: 2030-01-31T12:00:00Z
spec:
  roles: [access, "dev ops"]
  max_session_ttl: 90m
  traits:
    - {name: logins, values: [root]}
    - {name: none, values: []}
    - {name: logins, values: ["1"]}
"#;
    let Resource::Bot(bot) = one(yaml).unwrap() else { panic!("not a bot") };
    assert_eq!(bot.spec.max_session_ttl.unwrap().duration().as_secs(), 5400);
    assert_eq!(
        bot.spec.traits,
        [Trait { name: "logins".into(), values: vec!["root".into(), "1".into()] }]
    );
    assert_eq!(bot.metadata.labels["env"], "yes");
    let expires = bot.metadata.expires.unwrap().0;
    assert!(!bot.metadata.expired(expires - time::Duration::SECOND));
    assert!(bot.metadata.expired(expires));

    for ttl in ["0s", "59s", "169h", "12", "h", "1d", "-1h", "", "99999999999999999999h", "1h "] {
        let yaml =
            BOT.replace("  roles: []", &format!("  roles: []\n  max_session_ttl: \"{ttl}\""));
        let fault = read(&yaml).unwrap_err();
        assert!(fault.line == 7 && fault.message.contains("a duration from 1m to 168h"), "{fault}");
    }
    assert!(
        fault(&BOT.replace("[]", "['']"))
            .contains("line 6: spec.roles: must not contain empty strings")
    );
    assert!(fault(&BOT.replace("[]", "[a, b, a]")).contains("duplicate a"));
    assert!(fault(&BOT.replace("example", &"x".repeat(61))).contains("at most 60"));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let pem = CA.replace('\n', "\n          ");
    let cas = format!("    ekcert_allowed_cas:\n      - |\n          {pem}\n    allow:");
    let labels = r#"  labels: {"on": "no", x: "1e3", "y": ' #', z: "0x10", d: "2020-01-01"}"#;
    let description = r#"  description: "two\nlines: \u0007 \u2028""#;
    let metadata = format!("  name: my-bot-token\n{labels}\n{description}\n");
    let token = with("    allow:", &cas)
        .replace("    allow:", "    ekcert_without_purpose: accepted\n    allow:")
        .replace(
            "\"00:5E:cd:5f:8e\"",
            "\"12:34:56:10\"\n        ek_certificate_issuer: 'C=DE, CN=a: #b'",
        )
        .replace("  name: my-bot-token\n", &metadata);
    for yaml in [BOT.to_owned(), token] {
        let resource = one(&yaml).unwrap();
        let written = to_yaml(&resource).unwrap();
        assert_eq!(one(&written).unwrap(), resource, "{written}");
        let json = serde_json::to_string_pretty(&resource).unwrap();
        assert_eq!(one(&json).unwrap(), resource, "{json}");
    }
}

#[test]
fn every_truncation_of_a_stream_is_refused_or_read_never_a_panic() {
    let stream = format!("{BOT}---\n{TOKEN}");
    for end in 0..stream.len() {
        let _ = read(&stream[..end]);
        let mut changed = stream.clone().into_bytes();
        changed[end] ^= 0x15;
        if let Ok(text) = std::str::from_utf8(&changed) {
            let _ = read(text);
        }
    }
}

#[test]
fn array_of_json_is_read_as_its_elements_with_their_lines() {
    let bot = |name: &str| {
        format!(
            r#"{{"kind": "bot", "version": "v1",
 "metadata": {{"name": "{name}", "description": "a ], b \"}}, [{{"}}, "spec": {{"roles": []}}}}"#
        )
    };
    let names = |stream: &str| {
        let resources = read(stream).map_err(|cause| cause.to_string())?;
        Ok::<_, String>(resources.iter().map(|one| one.name().to_string()).collect::<Vec<_>>())
    };
    let array = format!("[\n{},\n{}\n]\n", bot("a"), bot("b"));
    assert_eq!(names(&array), Ok(vec!["a".into(), "b".into()]));
    assert_eq!(names(&format!("--- {array}---\n{}", bot("c"))).map(|all| all.len()), Ok(3));
    let wrong = array.replace("\"name\": \"b\"", "\"nmae\": \"b\"");
    assert!(names(&wrong).unwrap_err().starts_with("line 5: "), "{:?}", names(&wrong));
    let twice = format!("[{0},{0}]", bot("a"));
    assert!(names(&twice).unwrap_err().contains("duplicate bot"));
    for wrong in ["[]", "[ , ]", "[", "[}", &array[..array.len() - 3], &format!("{array} x")] {
        names(wrong).unwrap_err();
    }
}
