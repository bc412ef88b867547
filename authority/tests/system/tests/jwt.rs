//! JWT-SVIDs, and what the software of receivers makes of them and of the published keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use authority::config::{BundleEndpoint, BundleProfile};
use authority::issue::{JwtAlgorithm, JwtKey, JwtSettings, Keys, Ring, jwks, spiffe_bundle};
use base64ct::{Base64UrlUnpadded, Encoding};
use proto::v1::identity_selector::By;
use proto::v1::{
    GetTrustBundleRequest, IdentitySelector, IssueJwtSvidsRequest, JwtSvid, TrustBundle,
};
use serde_json::Value;
use testkit::{target_directory, workspace};
use tonic::Code;

use super::harness::Harness;
use super::workload::{client, workload};

/// The harness's cluster and bot.
const ID: &str = "spiffe://test.example/bot/my-bot";

fn to(audiences: &[&str]) -> IssueJwtSvidsRequest {
    IssueJwtSvidsRequest {
        audiences: audiences.iter().map(|one| (*one).to_owned()).collect(),
        service: "api".into(),
        ..IssueJwtSvidsRequest::default()
    }
}

/// A joined host's JWT, and the trust bundle.
async fn issued(harness: &Harness, request: IssueJwtSvidsRequest) -> (JwtSvid, TrustBundle) {
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let mut client = client(&wire);
    let answer = client.issue_jwt_svids(request).await.unwrap().into_inner();
    let bundle = client.get_trust_bundle(GetTrustBundleRequest {}).await.unwrap().into_inner();
    let [svid] = answer.svids.as_slice() else { panic!("{answer:?}") };
    (svid.clone(), bundle)
}

#[tokio::test]
async fn jwt_of_the_bots_own_id_is_recorded_by_its_number_and_never_shown() {
    let harness = Harness::new().await;
    let (svid, bundle) = issued(&harness, to(&["vault", "api://x"])).await;
    assert_eq!((svid.spiffe_id.as_str(), svid.name.as_str()), (ID, ""));
    assert_eq!(svid.expires - svid.issued, 300);
    assert!(svid.issued <= harness.authority.clock.now().unix_timestamp());
    let [key] = bundle.jwt_authorities.as_slice() else { panic!("{bundle:?}") };
    assert_eq!((key.algorithm.as_str(), bundle.sequence), ("ES256", 1));
    let keys = harness.authority.issuer.keyring().keys();
    assert_eq!(key.key_id, keys.jwt.active().public().key_id());
    assert_eq!(key.public_key, keys.jwt.active().public().to_spki().unwrap());

    let line = harness.assert_last("workload.jwt_svid", None);
    assert_eq!(line["audiences"], serde_json::json!(["vault", "api://x"]));
    assert_eq!(line["service"], "api");
    let recorded = &line["svids"][0];
    assert_eq!(recorded["spiffe_id"], ID);
    assert_eq!(recorded["jti"].as_str().unwrap().len(), 36);
    let (_, signature) = svid.token.rsplit_once('.').unwrap();
    assert!(harness.audit().iter().all(|line| !line.to_string().contains(signature)));
    assert!(
        harness.authority.metrics_text().contains("endorse_jwt_svids_total{result=\"granted\"} 1")
    );
}

#[tokio::test]
async fn unusable_requests_are_refused() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let long = "x".repeat(513);
    for audiences in [&[][..], &[""], &["a\n"], &[&long], &["a"; 33]] {
        let refused = client(&wire).issue_jwt_svids(to(audiences)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{audiences:?}: {refused}");
    }
    let by = Some(By::SpiffeId("spiffe://test.example/other".into()));
    let selected = IssueJwtSvidsRequest { selector: Some(IdentitySelector { by }), ..to(&["a"]) };
    let other = "spiffe://test.example/bot/other".to_owned();
    let restricted = IssueJwtSvidsRequest { spiffe_id: other, ..to(&["a"]) };
    for request in [selected, restricted] {
        let refused = client(&wire).issue_jwt_svids(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        harness.assert_last("workload.jwt_svid", Some("workload_identity_refused"));
    }
    let same = IssueJwtSvidsRequest { spiffe_id: ID.to_owned(), ..to(&["a"]) };
    client(&wire).issue_jwt_svids(same).await.unwrap();
    harness
        .create(
            "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: bot-my-bot}}\n",
        )
        .await;
    let refused = client(&wire).issue_jwt_svids(to(&["a"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test]
async fn workload_identity_says_what_its_jwts_say_and_who_may_have_them() {
    let harness = Harness::new().await;
    harness
        .create(
            "kind: workload_identity\nversion: v1\nmetadata: {name: web, labels: {env: prod}}\nspec:\n  \
             bots: {names: [my-bot]}\n  rules: {allow: [{conditions: [{attribute: workload.unix.uid, eq: {value: '33'}}]}]}\n  \
             spiffe:\n    id: /site/{{ user.bot_name }}\n    hint: the site\n    \
             jwt: {maximum_ttl: 2m, extra_claims: {team: '{{ user.bot_name }}', level: 3}}\n",
        )
        .await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let selector = || Some(IdentitySelector { by: Some(By::Name("web".into())) });
    let request = |uid| IssueJwtSvidsRequest {
        selector: selector(),
        workload: workload(uid),
        ttl_seconds: 3600,
        ..to(&["a"])
    };
    let answer = client(&wire).issue_jwt_svids(request(33)).await.unwrap().into_inner();
    let [svid] = answer.svids.as_slice() else { panic!("{answer:?}") };
    let id = "spiffe://test.example/site/my-bot";
    assert_eq!(
        (svid.name.as_str(), svid.hint.as_str(), svid.spiffe_id.as_str()),
        ("web", "the site", id)
    );
    assert_eq!(svid.expires - svid.issued, 120);
    let claims = Base64UrlUnpadded::decode_vec(svid.token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["team"], &claims["level"]), (&"my-bot".into(), &3.into()));
    assert_eq!((&claims["sub"], &claims["aud"]), (&id.into(), &serde_json::json!(["a"])));
    let line = harness.assert_last("workload.jwt_svid", None);
    assert_eq!(line["svids"][0]["workload_identity"], "web");
    assert_eq!(line["workload"]["workload.unix.uid"], "33");

    let restricted = IssueJwtSvidsRequest { spiffe_id: ID.to_owned(), ..request(33) };
    for request in [request(34), restricted] {
        let refused = client(&wire).issue_jwt_svids(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        harness.assert_last("workload.jwt_svid", Some("workload_identity_refused"));
    }
}

#[tokio::test]
async fn next_key_signs_after_an_hour_and_the_last_one_is_published_until_its_tokens_expired() {
    let algorithm = JwtAlgorithm::Rs256;
    let harness = Harness::with_jwt(JwtSettings { algorithm, issuer: None }).await;
    let (authority, now) = (&harness.authority, harness.authority.clock.now());
    let keyring = authority.issuer.keyring();
    // As if the configuration had said ES256 until now.
    let old = JwtKey::generate(JwtAlgorithm::Es256).unwrap();
    let keys = Keys { jwt: Ring::new(old, now), ..Keys::clone(&keyring.keys()) };
    keyring.replace(keys).unwrap();
    for (hours, count, signs, sequence) in
        [(0, 2, "ES256", 3), (2, 2, "RS256", 4), (26, 2, "RS256", 4), (28, 1, "RS256", 5)]
    {
        harness.go_on(hours * 3600).await;
        authority.maintain_keys().await;
        let keys = keyring.keys();
        assert_eq!(keys.jwt.active().public().algorithm().as_str(), signs, "{hours}");
        assert_eq!((keys.jwt.trusted().count(), keys.sequence), (count, sequence), "{hours}");
    }
}

/// Programs with the libraries of receivers: of Go, and of Python.
struct Receivers {
    go: PathBuf,
    python: PathBuf,
    script: PathBuf,
}

impl Receivers {
    /// Builds them, once. `None`, with a message, if this machine has no Go or no Python, or cannot get the libraries.
    fn built() -> Option<&'static Self> {
        static BUILT: OnceLock<Option<Receivers>> = OnceLock::new();
        BUILT.get_or_init(Self::build).as_ref()
    }

    fn build() -> Option<Self> {
        let source = workspace().join("tests/jwt-receivers");
        let target = target_directory().join("jwt-receivers");
        fs::create_dir_all(&target).unwrap();
        let go = target.join("receivers");
        let build = Command::new("go").args(["build", "-o"]).arg(&go).current_dir(&source).output();
        let venv = target.join("venv");
        let python = venv.join("bin/python");
        let requirements = source.join("requirements.txt");
        let install = || {
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            run(Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(&requirements))
        };
        match build.map(|output| check(&output)).and_then(|built| Ok((built, install()?))) {
            Ok((Ok(_), _)) => Some(Self { go, python, script: source.join("receivers.py") }),
            Ok((Err(cause), _)) => skip(&cause),
            Err(cause) => skip(&cause.to_string()),
        }
    }

    fn go(&self, arguments: &[&str]) -> Result<Value, String> {
        answer(Command::new(&self.go).args(arguments))
    }

    fn python(&self, arguments: &[&str]) -> Result<Value, String> {
        answer(Command::new(&self.python).arg(&self.script).args(arguments))
    }
}

fn skip(why: &str) -> Option<Receivers> {
    eprintln!("skipped: the receivers of tests/jwt-receivers cannot be built here: {why}");
    None
}

fn run(command: &mut Command) -> std::io::Result<String> {
    check(&command.output()?).map_err(std::io::Error::other)
}

fn check(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn answer(command: &mut Command) -> Result<Value, String> {
    let said = check(&command.output().unwrap())?;
    serde_json::from_str(&said).map_err(|cause| cause.to_string())
}

/// A file that a receiver reads.
fn file(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn tokens_verify_with_the_libraries_of_receivers_and_forged_ones_do_not() {
    let Some(receivers) = Receivers::built() else { return };
    for (algorithm, issuer) in
        [(JwtAlgorithm::Es256, None), (JwtAlgorithm::Rs256, Some("https://oidc.example.com/a"))]
    {
        let issuer_url = issuer.map(|url| url.parse().unwrap());
        let harness = Harness::with_jwt(JwtSettings { algorithm, issuer: issuer_url }).await;
        let (svid, bundle) = issued(&harness, to(&["vault", "other"])).await;
        assert_eq!(bundle.jwt_authorities[0].algorithm, algorithm.as_str());
        let issuer = issuer.unwrap_or("spiffe://test.example");
        let (keys, dir) = (harness.authority.issuer.keyring().keys(), harness.dir.path());
        let set = file(dir, "jwks.json", &jwks(&keys).unwrap());
        let spiffe = file(dir, "bundle.json", &spiffe_bundle(&keys).unwrap());
        let token = file(dir, "token", &svid.token);
        let by_go = receivers.go(&["jwks", &set, &token, "vault", issuer]).unwrap();
        let by_python = receivers.python(&["jwks", &set, &token, "vault", issuer]).unwrap();
        assert_eq!((&by_go["subject"], &by_python["subject"]), (&ID.into(), &ID.into()));
        let by_go = receivers.go(&["bundle", &spiffe, &token, "other", "test.example"]).unwrap();
        let expected =
            serde_json::json!({"subject": ID, "sequence": 1, "hint": 300, "x509": 1, "jwt": 1});
        assert_eq!(by_go, expected);
        // This library takes a set of JWT keys alone for a bundle.
        let by_python =
            receivers.python(&["bundle", &set, &token, "other", "test.example"]).unwrap();
        assert_eq!(by_python["subject"], ID);

        let (input, signature) = svid.token.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        let forged = format!("{input}.{first}{}", &signature[1..]);
        let forged = file(dir, "forged", &forged);
        for (token, audience, issuer) in [
            (&token, "elsewhere", issuer),
            (&token, "vault", "https://another.example"),
            (&forged, "vault", issuer),
        ] {
            receivers.go(&["jwks", &set, token, audience, issuer]).unwrap_err();
            receivers.python(&["jwks", &set, token, audience, issuer]).unwrap_err();
        }
        receivers.go(&["bundle", &spiffe, &forged, "vault", "test.example"]).unwrap_err();
        let said =
            receivers.python(&["bundle", &set, &forged, "vault", "test.example"]).unwrap_err();
        assert!(said.contains("InvalidTokenError"), "{said}");
    }
}

#[tokio::test]
async fn expired_token_is_refused_by_the_libraries_of_receivers() {
    let Some(receivers) = Receivers::built() else { return };
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    // The libraries go by the system's clock.
    harness.ahead.store(-600, Ordering::SeqCst);
    let issued = client(&wire).issue_jwt_svids(to(&["vault"])).await.unwrap().into_inner();
    let (keys, dir) = (harness.authority.issuer.keyring().keys(), harness.dir.path());
    let set = file(dir, "jwks.json", &jwks(&keys).unwrap());
    let token = file(dir, "token", &issued.svids[0].token);
    let arguments = ["jwks", &set, &token, "vault", "spiffe://test.example"];
    let said = receivers.go(&arguments).unwrap_err();
    assert!(said.contains("expired"), "{said}");
    let said = receivers.python(&arguments).unwrap_err();
    assert!(said.contains("ExpiredSignatureError"), "{said}");
}

#[tokio::test]
async fn go_spiffe_fetches_the_bundle_by_https_spiffe() {
    let Some(receivers) = Receivers::built() else { return };
    let harness = Harness::with_endpoint(BundleEndpoint {
        listen: "127.0.0.1:0".parse().unwrap(),
        profile: BundleProfile::HttpsSpiffe,
    })
    .await;
    let url = format!("https://{}/", harness.bundle_address.unwrap());
    let keys = harness.authority.issuer.keyring().keys();
    let known = file(harness.dir.path(), "known.json", &spiffe_bundle(&keys).unwrap());
    let fetch = |id: &'static str| {
        let (url, known) = (url.clone(), known.clone());
        tokio::task::spawn_blocking(move || {
            receivers.go(&["federate", &known, &url, "test.example", id])
        })
    };
    let fetched = fetch("spiffe://test.example/endorse/authority").await.unwrap().unwrap();
    assert_eq!(
        (&fetched["x509"], &fetched["jwt"], &fetched["sequence"]),
        (&1.into(), &1.into(), &1.into())
    );
    fetch("spiffe://test.example/bot/my-bot").await.unwrap().unwrap_err();
}
