//! Credentials for workloads.

use std::process::Command;

use authority::resource::Kind;
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use proto::v1::identity_selector::By;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::workload_service_client::WorkloadServiceClient;
use proto::v1::{
    GetTrustBundleRequest, IdentitySelector, IssueSshHostRequest, IssueX509SvidsRequest,
    LabelValues, Labels, Unix, WhoAmIRequest, WorkloadAttributes,
};
use testkit::simulated::{Wire, identity};
use tonic::Code;
use tonic::transport::Channel;

use super::harness::{Harness, author, run};
use super::issue;

/// A workload whose agent has attested this user.
pub(crate) fn workload(uid: u32) -> Option<WorkloadAttributes> {
    let unix = Unix { pid: 7, uid, gid: uid, ..Unix::default() };
    Some(WorkloadAttributes { unix: Some(unix), ..WorkloadAttributes::default() })
}

/// X.509-SVIDs for a key, with its proof on this connection.
pub(crate) fn request(
    key: &SigningKey,
    wire: &Wire,
    by: Option<By>,
    workload: Option<WorkloadAttributes>,
) -> IssueX509SvidsRequest {
    let proof = issue::request(key, &wire.exporter);
    IssueX509SvidsRequest {
        selector: Some(IdentitySelector { by }),
        workload,
        public_key: proof.public_key,
        signature: proof.signature,
        service: "api".into(),
        ..IssueX509SvidsRequest::default()
    }
}

pub(crate) fn client(wire: &Wire) -> WorkloadServiceClient<Channel> {
    WorkloadServiceClient::new(wire.channel.clone())
}

#[tokio::test]
async fn without_selector_the_svid_has_the_bots_own_id() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let key = SigningKey::generate();
    let wish =
        IssueX509SvidsRequest { ttl_seconds: 600, ..request(&key, &wire, None, workload(33)) };
    let answer = client(&wire).issue_x509_svids(wish).await.unwrap().into_inner();
    let [svid] = answer.svids.as_slice() else { panic!("{answer:?}") };
    assert_eq!(svid.spiffe_id, "spiffe://test.example/bot/my-bot");
    assert_eq!((svid.name.as_str(), svid.not_after - svid.not_before), ("", 660));
    let bundle = answer.bundle.unwrap();
    assert_eq!(bundle.trust_domain, "test.example");
    assert_eq!(bundle.x509_authorities, [harness.ca().to_vec()]);
    let asked = client(&wire).get_trust_bundle(GetTrustBundleRequest {}).await.unwrap();
    assert_eq!(asked.into_inner(), bundle);

    let line = harness.assert_last("workload.x509_svid", None);
    assert_eq!((&line["code"], &line["service"]), (&"EN004I".into(), &"api".into()));
    assert_eq!(line["workload"]["workload.unix.uid"], "33");
    assert_eq!(line["svids"][0]["spiffe_id"], svid.spiffe_id);
    let instance = harness.instance().await;
    let recorded = &instance.status.services["api"];
    assert_eq!(line["svids"][0]["certificate_serial"], recorded.certificate_serial.as_str());
    assert_eq!(recorded.expires.0.unix_timestamp(), svid.not_after);

    // It is no identity of a bot instance.
    let issued =
        proto::v1::IssuedCredentials { certificates: svid.certificates.clone(), ..held.clone() };
    let service = harness.wire_as(Some(identity(&key, &issued))).await;
    let mut own = IdentityServiceClient::new(service.channel.clone());
    let status = own.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let again = request(&key, &service, None, None);
    let status = client(&service).issue_x509_svids(again).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    harness.assert_last("workload.x509_svid", Some("certificate_invalid"));
}

#[tokio::test]
async fn only_the_instance_itself_gets_svids_and_bundles() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let key = SigningKey::generate();

    let stranger = harness.wire().await;
    let status = client(&stranger).get_trust_bundle(GetTrustBundleRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    harness.assert_last("workload.trust_bundle", Some("certificate_missing"));
    let wish = request(&key, &stranger, None, None);
    let status = client(&stranger).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    harness.assert_last("workload.x509_svid", Some("certificate_missing"));

    let issued = IdentityServiceClient::new(wire.channel.clone())
        .issue(issue::request(&key, &wire.exporter))
        .await
        .unwrap()
        .into_inner();
    let service = harness.wire_as(Some(identity(&key, &issued))).await;
    let status = client(&service).get_trust_bundle(GetTrustBundleRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let wish = request(&key, &service, None, None);
    let status = client(&service).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("workload.x509_svid", Some("certificate_of_service"));

    // The signature is of another connection.
    let wish = request(&key, &service, None, None);
    let status = client(&wire).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("workload.x509_svid", Some("key_unproven"));
    // A software key, claimed to be in the TPM.
    let wish = IssueX509SvidsRequest { key_in_tpm: true, ..request(&key, &wire, None, None) };
    let status = client(&wire).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("workload.x509_svid", Some("key_residency_unproven"));
    let wish = request(&key, &wire, Some(By::Name("web".into())), None);
    let status = client(&wire).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("workload.x509_svid", Some("workload_identity_refused"));
}

const WEB: &str = r#"kind: workload_identity
version: v1
metadata: {name: web, labels: {env: prod}}
spec:
  bots: {names: [my-bot]}
  rules:
    allow:
    - conditions: [{attribute: workload.unix.uid, eq: {value: "33"}}]
  spiffe:
    id: /site/{{ user.bot_name }}/web
    hint: public
    x509:
      dns_sans: ["{{ user.bot_name }}.example.org"]
      maximum_ttl: 30m
      subject_template: {common_name: "{{ user.bot_name }}", organizational_unit: web}
"#;

/// Another one, for the same label.
const DB: &str = r#"kind: workload_identity
version: v1
metadata: {name: db, labels: {env: prod, tier: data}}
spec:
  bots: {labels: {"*": "*"}}
  spiffe: {id: "/db/{{ workload.unix.uid }}"}
"#;

fn labels(all: &[(&str, &[&str])]) -> Option<By> {
    let values =
        |values: &[&str]| LabelValues { values: values.iter().map(|v| (*v).into()).collect() };
    let labels = all.iter().map(|(name, all)| ((*name).to_owned(), values(all))).collect();
    Some(By::Labels(Labels { labels }))
}

fn name(name: &str) -> Option<By> {
    Some(By::Name(name.into()))
}

fn spiffe_id(id: &str) -> Option<By> {
    Some(By::SpiffeId(id.into()))
}

/// The SPIFFE IDs that a workload gets, or the reason in the audit log.
async fn ids(
    harness: &Harness,
    wire: &Wire,
    by: Option<By>,
    workload: Option<WorkloadAttributes>,
) -> Result<Vec<String>, String> {
    let wish = request(&SigningKey::generate(), wire, by, workload);
    match client(wire).issue_x509_svids(wish).await {
        Ok(answer) => Ok(answer.into_inner().svids.into_iter().map(|one| one.spiffe_id).collect()),
        Err(status) => {
            assert_eq!(status.code(), Code::PermissionDenied, "{status}");
            let line = harness.assert_last("workload.x509_svid", Some("workload_identity_refused"));
            Err(line["reason"].as_str().unwrap().to_owned())
        }
    }
}

#[tokio::test]
async fn workloads_get_the_identities_that_bots_and_rules_allow() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    harness.create(WEB).await;
    harness.create(DB).await;
    let get = async |by: Option<By>, uid: Option<u32>| {
        ids(&harness, &wire, by, uid.and_then(workload)).await
    };
    let (web, db) = ("spiffe://test.example/site/my-bot/web", "spiffe://test.example/db/33");
    assert_eq!(get(name("web"), Some(33)).await.unwrap(), [web]);
    assert_eq!(
        get(name("web"), Some(34)).await.unwrap_err(),
        "web: no rule of spec.rules.allow matches"
    );
    assert_eq!(
        get(name("web"), None).await.unwrap_err(),
        "web: no rule of spec.rules.allow matches"
    );
    assert_eq!(
        get(name("none"), Some(33)).await.unwrap_err(),
        "the workload identity none does not exist"
    );
    let prod = || labels(&[("env", &["prod", "test"])]);
    assert_eq!(get(prod(), Some(33)).await.unwrap(), [db, web], "in the order of the names");
    assert_eq!(get(prod(), Some(34)).await.unwrap(), ["spiffe://test.example/db/34"]);
    assert!(get(prod(), None).await.unwrap_err().contains("workload.unix.uid is not known"));
    assert_eq!(get(labels(&[("env", &["prod"]), ("tier", &["*"])]), Some(33)).await.unwrap(), [db]);
    assert_eq!(get(labels(&[("*", &["*"])]), Some(33)).await.unwrap(), [db, web]);
    assert_eq!(
        get(labels(&[("env", &["test"])]), Some(33)).await.unwrap_err(),
        "no workload identity matches"
    );
    assert_eq!(get(spiffe_id(web), Some(33)).await.unwrap(), [web]);
    get(spiffe_id(web), Some(34)).await.unwrap_err();
    let own = "spiffe://test.example/bot/my-bot";
    assert_eq!(get(spiffe_id(own), Some(34)).await.unwrap(), [own]);
    for malformed in [labels(&[]), spiffe_id("spiffe://test.example"), name("a/b")] {
        let wish = request(&SigningKey::generate(), &wire, malformed, None);
        let status = client(&wire).issue_x509_svids(wish).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }

    // Another bot's, and one that has expired.
    harness.create(&WEB.replace("names: [my-bot]", "names: [other]")).await;
    assert_eq!(
        get(name("web"), Some(33)).await.unwrap_err(),
        "web: spec.bots does not select the bot"
    );
    harness.create(&WEB.replace("metadata: {", "metadata: {expires: 2020-01-01T00:00:00Z, ")).await;
    assert_eq!(get(name("web"), Some(33)).await.unwrap_err(), "web: it has expired");
    harness.authority.records.remove(Kind::WorkloadIdentity, "web", author()).await.unwrap();
    get(name("web"), Some(33)).await.unwrap_err();
}

/// By OpenSSL, as the X509-SVID specification has it.
#[tokio::test]
async fn an_svid_is_as_specified() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    harness.create(WEB).await;
    harness.create(DB).await;
    let wish = IssueX509SvidsRequest {
        ttl_seconds: 3600,
        ..request(&SigningKey::generate(), &wire, labels(&[("env", &["prod"])]), workload(33))
    };
    let answer = client(&wire).issue_x509_svids(wish).await.unwrap().into_inner();
    let [db, web] = answer.svids.as_slice() else { panic!("{answer:?}") };
    assert_eq!((web.name.as_str(), web.hint.as_str()), ("web", "public"));
    assert_eq!(web.not_after - web.not_before, 1800 + 180, "maximum_ttl");
    let text = |der: &[u8]| {
        let file = harness.dir.path().join("svid.der");
        std::fs::write(&file, der).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-inform", "DER", "-noout", "-subject", "-ext"]);
        openssl
            .arg("subjectAltName,keyUsage,extendedKeyUsage,basicConstraints")
            .arg("-in")
            .arg(file);
        String::from_utf8(run(&mut openssl)).unwrap()
    };
    let shown = text(&web.certificates[0]);
    for part in [
        "subject=OU = web, CN = my-bot",
        "URI:spiffe://test.example/site/my-bot/web, DNS:my-bot.example.org",
        "X509v3 Key Usage: critical\n    Digital Signature\n",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        "CA:FALSE",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    // Without a subject, the subjectAltName is critical (RFC 5280 section 4.2.1.6).
    let shown = text(&db.certificates[0]);
    for part in [
        "subject=\n",
        "X509v3 Subject Alternative Name: critical\n    URI:spiffe://test.example/db/33\n",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let line = harness.assert_last("workload.x509_svid", None);
    let named = [&line["svids"][0]["workload_identity"], &line["svids"][1]["workload_identity"]];
    assert_eq!(named, ["db", "web"]);
}

/// The grant states what it read: an identity that is removed between its decision and its write is not issued.
#[tokio::test]
async fn an_identity_that_is_removed_meanwhile_is_not_issued() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    harness.create(WEB).await;
    harness.meanwhile.set(Box::new(|records| {
        Box::pin(async move {
            records.remove(Kind::WorkloadIdentity, "web", author()).await.unwrap();
        })
    }));
    let reason = ids(&harness, &wire, name("web"), workload(33)).await.unwrap_err();
    assert_eq!(reason, "the workload identity web does not exist");
    assert!(harness.meanwhile.happened());
}

const SSH: &str = r#"kind: workload_identity
version: v1
metadata: {name: sshd}
spec:
  bots: {names: [my-bot]}
  ssh: {host: {principals: ["{{ user.bot_name }}", "{{ user.bot_name }}.example.org"], maximum_ttl: 30m}}
"#;

/// A key of another program, in the wire format of SSH.
fn ssh_key(harness: &Harness, name: &str, options: &[&str]) -> (std::path::PathBuf, Vec<u8>) {
    let path = harness.dir.path().join(name);
    run(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", "", "-f"]).arg(&path).args(options));
    let line = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    let wire = ssh_key::PublicKey::from_openssh(&line).unwrap().to_bytes().unwrap();
    (path, wire)
}

fn host_request(public_key: Vec<u8>, principals: &[&str]) -> IssueSshHostRequest {
    IssueSshHostRequest {
        public_key,
        principals: principals.iter().map(|name| (*name).to_owned()).collect(),
        service: "sshd".into(),
        ..IssueSshHostRequest::default()
    }
}

/// By ssh-keygen, for each kind of key.
#[tokio::test]
async fn ssh_host_certificates_have_exactly_the_names_that_were_asked_for() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    harness.create(SSH).await;
    for (name, options, shown) in [
        (
            "p256",
            ["-t", "ecdsa", "-b", "256"].as_slice(),
            "ecdsa-sha2-nistp256-cert-v01@openssh.com host",
        ),
        ("p384", &["-t", "ecdsa", "-b", "384"], "ecdsa-sha2-nistp384-cert-v01@openssh.com host"),
        ("ed25519", &["-t", "ed25519"], "ssh-ed25519-cert-v01@openssh.com host"),
        ("rsa", &["-t", "rsa", "-b", "3072"], "ssh-rsa-cert-v01@openssh.com host"),
    ] {
        let (path, key) = ssh_key(&harness, name, options);
        let wish = host_request(key, &["my-bot.example.org", "my-bot", "my-bot"]);
        let issued = client(&wire).issue_ssh_host(wish).await.unwrap().into_inner();
        assert_eq!(issued.not_after - issued.not_before, 1800 + 180, "maximum_ttl");
        let file = path.with_extension("cert");
        std::fs::write(&file, &issued.certificate).unwrap();
        let text = run(Command::new("ssh-keygen").arg("-Lf").arg(&file));
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(shown), "{text}");
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let tail = lines.iter().position(|line| *line == "Principals:").unwrap();
        let expected = [
            "Principals:",
            "my-bot.example.org",
            "my-bot",
            "Critical Options: (none)",
            "Extensions: (none)",
        ];
        assert_eq!(lines[tail..], expected, "{text}");
        let bundle = issued.bundle.unwrap();
        let ca = ssh_key::PublicKey::from_openssh(&bundle.ssh_host_cas[0]).unwrap();
        assert!(text.contains(&ca.fingerprint(ssh_key::HashAlg::Sha256).to_string()), "{text}");
        let line = harness.assert_last("workload.ssh_host", None);
        assert_eq!(line["principals"], serde_json::json!(["my-bot.example.org", "my-bot"]));
        assert_eq!(
            line["certificate_serial"],
            harness.instance().await.status.services["sshd"].certificate_serial.as_str()
        );
    }
}

#[tokio::test]
async fn ssh_host_names_that_no_identity_allows_are_refused() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let (_, key) = ssh_key(&harness, "key", &["-t", "ed25519"]);
    let refused = async |wish: IssueSshHostRequest| {
        let status = client(&wire).issue_ssh_host(wish).await.unwrap_err();
        let line = harness.audit().pop().unwrap();
        assert_eq!(line["event"], "workload.ssh_host");
        (status.code(), line["refusal"].as_str().unwrap().to_owned())
    };
    let denied = (Code::PermissionDenied, "workload_identity_refused".to_owned());
    assert_eq!(refused(host_request(key.clone(), &["my-bot"])).await, denied, "without identities");
    harness.create(SSH).await;
    harness.create(DB).await;
    client(&wire).issue_ssh_host(host_request(key.clone(), &["my-bot"])).await.unwrap();
    for names in [["my-bot", "other"], ["my-bot.example.org", "my-bot.example.net"]] {
        assert_eq!(refused(host_request(key.clone(), &names)).await, denied, "{names:?}");
    }
    let by = |by| IssueSshHostRequest {
        selector: Some(IdentitySelector { by }),
        ..host_request(key.clone(), &["my-bot"])
    };
    client(&wire).issue_ssh_host(by(name("sshd"))).await.unwrap();
    assert_eq!(refused(by(name("db"))).await, denied);
    let malformed = (Code::InvalidArgument, "malformed".to_owned());
    for names in [[].as_slice(), &[""], &["*"], &["My-Bot"], &["my-bot,other"]] {
        assert_eq!(refused(host_request(key.clone(), names)).await, malformed, "{names:?}");
    }
    let key_malformed = (Code::InvalidArgument, "key_malformed".to_owned());
    let (_, weak) = ssh_key(&harness, "weak", &["-t", "rsa", "-b", "1024"]);
    let (_, p521) = ssh_key(&harness, "p521", &["-t", "ecdsa", "-b", "521"]);
    for key in [vec![], vec![0x30], key[..40].to_vec(), weak, p521] {
        assert_eq!(refused(host_request(key, &["my-bot"])).await, key_malformed);
    }
    // A key that is said to sign must sign.
    let proof = issue::request(&SigningKey::generate(), &wire.exporter);
    let proven = IssueSshHostRequest {
        signature: proof.signature.clone(),
        ..host_request(proof.public_key, &["my-bot"])
    };
    client(&wire).issue_ssh_host(proven.clone()).await.unwrap();
    // A key that is said to be in the TPM must have been proven to be.
    let residency_unproven = (Code::PermissionDenied, "key_residency_unproven".to_owned());
    for named in [proven.clone(), host_request(key, &["my-bot"])] {
        let claimed = IssueSshHostRequest { key_in_tpm: true, ..named };
        assert_eq!(refused(claimed).await, residency_unproven);
    }
    let other = issue::request(&SigningKey::generate(), &wire.exporter);
    let unproven = IssueSshHostRequest { public_key: other.public_key, ..proven };
    assert_eq!(refused(unproven).await, (Code::PermissionDenied, "key_unproven".to_owned()));
}

/// OpenSSH's own server with the certificate, and its client, which trusts the CA alone.
#[tokio::test]
async fn ssh_accepts_a_server_by_its_host_certificate_and_only_under_its_names() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    harness.create(SSH).await;
    let (host_key, wire_key) = ssh_key(&harness, "host", &["-t", "ed25519"]);
    let issued = client(&wire)
        .issue_ssh_host(host_request(wire_key, &["my-bot"]))
        .await
        .unwrap()
        .into_inner();
    let file = |name: &str, text: String| {
        let path = harness.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate = file("host-cert.pub", format!("{}\n", issued.certificate));
    let ca = issued.bundle.unwrap().ssh_host_cas[0].clone();
    let known = file("known_hosts", format!("@cert-authority * {ca}\n"));
    let sshd = format!(
        "HostKey {}\nHostCertificate {}\nUsePAM no\nStrictModes no\nPidFile none\n",
        host_key.display(),
        certificate.display()
    );
    let sshd = file("sshd_config", sshd);
    let log_in = |alias: &str| {
        // sshd -i speaks on its standard input and output, so no port is needed.
        let proxy = format!("ProxyCommand=/usr/sbin/sshd -i -f {}", sshd.display());
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]);
        ssh.args(["-o", "GlobalKnownHostsFile=none", "-o", "PreferredAuthentications=none", "-v"]);
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        ssh.args(["-o", &format!("HostKeyAlias={alias}"), "-o", &proxy, "nobody@my-bot", "true"]);
        String::from_utf8(ssh.output().unwrap().stderr).unwrap()
    };
    let accepted = log_in("my-bot");
    assert!(
        accepted.contains("is known and matches the ED25519-CERT host certificate"),
        "{accepted}"
    );
    assert!(accepted.contains("Permission denied"), "{accepted}");
    let refused = log_in("other");
    assert!(refused.contains("name is not a listed principal"), "{refused}");
    assert!(refused.contains("Host key verification failed"), "{refused}");
}
