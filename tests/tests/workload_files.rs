//! Services that have a workload identity, in files: JWTs, and X.509-SVIDs by name, labels and hint, seen from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use serde_json::Value;
use testkit::swtpm::Kind;
use tests::host::{Host, Trouble, until};
use tests::programs;
use tests::tpm::start;
use tests::world::{BOT, CLUSTER, World, names, run};

/// Workload identities of one environment, which differ in their hints.
fn identity(name: &str, hint: &str) -> String {
    format!(
        "kind: workload_identity\nversion: v1\nmetadata: {{name: {name}, labels: {{env: prod, app: {name}}}}}\nspec:\n  \
         bots: {{names: [{BOT}]}}\n  spiffe: {{id: \"/apps/{name}\", hint: {hint}, x509: {{dns_sans: [{name}.example]}}}}\n"
    )
}

/// A world with the workload identities web and db.
fn world() -> Result<World> {
    let world = World::new(programs!())?;
    world.create(&format!("{}---\n{}", identity("web", "outside"), identity("db", "inside")))?;
    Ok(world)
}

fn id(name: &str) -> String {
    format!("spiffe://{CLUSTER}/apps/{name}")
}

/// What `openssl x509` shows of a certificate.
fn shown(certificate: &Path) -> Result<String> {
    run("openssl", &["x509", "-in", &certificate.display().to_string(), "-noout", "-text"])
}

fn decoded(part: &str) -> Result<Vec<u8>> {
    Ok(Base64UrlUnpadded::decode_vec(part)?)
}

/// The claims of a token that a key of this JWK Set has signed by ES256.
fn verified(token: &str, jwks: &str) -> Result<Value> {
    let (message, signature) = token.rsplit_once('.').context("no signature")?;
    let (header, claims) = message.split_once('.').context("no claims")?;
    let header: Value = serde_json::from_slice(&decoded(header)?)?;
    ensure!(header["alg"] == "ES256", "{header}");
    let jwks: Value = serde_json::from_str(jwks)?;
    let key = jwks["keys"]
        .as_array()
        .and_then(|keys| keys.iter().find(|key| key["kid"] == header["kid"]));
    let key = key.with_context(|| format!("no key {} in {jwks}", header["kid"]))?;
    let coordinate = |name: &str| decoded(key[name].as_str().unwrap_or_default());
    let point = [&[4], &coordinate("x")?[..], &coordinate("y")?[..]].concat();
    let signature = Signature::from_slice(&decoded(signature)?)?;
    VerifyingKey::from_sec1_bytes(&point)?.verify(message.as_bytes(), &signature)?;
    Ok(serde_json::from_slice(&decoded(claims)?)?)
}

#[test]
fn jwt_of_a_service_verifies_by_the_published_keys_and_is_renewed() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let mut host = Host::new(world()?, &swtpm.tcti())?;
    let place = host.path("vault");
    let at = place.display();
    host.configure(&format!(
        "  - {{type: workload-identity-jwt, name: vault, audiences: [vault, 'https://v/'], selector: {{name: web}},\n     \
         credential_ttl: 10m, renewal_interval: 5m, destination: {at}}}\n  \
         - {{type: workload-identity-jwt, name: own, audiences: [x], destination: {}}}\n",
        host.path("own").display()
    ))?;
    host.start()?;
    host.wait_healthy()?;
    let jwks = host.world.authority(&["export", "jwks"])?.success()?;
    let token = |name: &str| -> Result<String> {
        Ok(fs::read_to_string(host.path(name).join("jwt_svid"))?)
    };
    let first = token("vault")?;
    let claims = verified(&first, &jwks)?;
    assert_eq!(claims["sub"], id("web"));
    assert_eq!(claims["aud"], serde_json::json!(["vault", "https://v/"]));
    let lifetime = claims["exp"].as_i64().zip(claims["iat"].as_i64());
    assert_eq!(lifetime.map(|(exp, iat)| exp - iat), Some(600));
    assert_eq!(verified(&token("own")?, &jwks)?["sub"], format!("spiffe://{CLUSTER}/bot/{BOT}"));
    assert_eq!(names(&place.join("..data")), ["jwt_svid"]);
    let mode = fs::metadata(place.join("jwt_svid"))?.permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "a bearer token is its reader's");

    // What is valid is kept by a restart, and renewed when that is asked for.
    host.signal("TERM")?;
    host.ended()?;
    host.start()?;
    host.wait_healthy()?;
    assert_eq!(fs::read_to_string(place.join("jwt_svid"))?, first);
    host.signal("USR1")?;
    let second = until(|| {
        let second = fs::read_to_string(place.join("jwt_svid"))?;
        ensure!(second != first, "not renewed: {}", host.log());
        Ok(second)
    })?;
    assert_eq!(verified(&second, &jwks)?["sub"], id("web"));
    Ok(())
}

#[test]
fn x509_of_a_service_is_selected_by_name_labels_and_hint() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let mut host = Host::new(world()?, &swtpm.tcti())?;
    let service = |name: &str, more: &str| {
        format!(
            "  - {{type: x509, name: {name}, destination: {}, {more}}}\n",
            host.path(name).display()
        )
    };
    let more = [
        service("n", "selector: {name: web}, format: nginx"),
        service("l", "selector: {labels: {app: [db, other]}}, format: kubernetes"),
        service("h", "selector: {labels: {env: prod}}, hint: inside, format: spiffe-helper"),
        service("t", "selector: {name: db}, key: tpm"),
    ];
    host.configure(&more.concat())?;
    host.start()?;
    host.wait_healthy()?;
    for (service, [certificate, key, cas], identity) in [
        ("n", ["fullchain.pem", "privkey.pem", "ca.pem"], "web"),
        ("l", ["tls.crt", "tls.key", "ca.crt"], "db"),
        ("h", ["svid.pem", "svid_key.pem", "svid_bundle.pem"], "db"),
        ("t", ["svid.pem", "svid.key", "bundle.pem"], "db"),
    ] {
        let place = host.path(service);
        let path = |name: &str| place.join(name).display().to_string();
        run("openssl", &["verify", "-CAfile", &path(cas), &path(certificate)])?;
        let text = shown(&place.join(certificate))?;
        for name in [format!("URI:{}", id(identity)), format!("DNS:{identity}.example")] {
            ensure!(text.contains(&name), "{service}: no {name} in {text}");
        }
        let in_tpm = text.contains("Policy: 2.23.133.11.1.2");
        assert_eq!(in_tpm, service == "t", "{service}: {text}");
        let pem = fs::read_to_string(place.join(key))?;
        assert_eq!(pem.starts_with("-----BEGIN TSS2 PRIVATE KEY-----"), in_tpm, "{service}: {pem}");
    }
    // The audit log follows what was granted.
    let located = until(|| {
        let audit = fs::read_to_string(host.world.path("data/audit.jsonl"))?;
        let is_meant =
            |line: &&str| line.contains("workload.x509_svid") && line.contains("\"service\":\"t\"");
        let line = audit.lines().find(is_meant).context("no event")?;
        Ok(serde_json::from_str::<Value>(line)?["key_location"].clone())
    })?;
    assert_eq!(located, "tpm");
    Ok(())
}

#[test]
fn key_that_is_not_rotated_outlives_renewals_and_restarts_but_no_change_of_its_file() -> Result<()>
{
    let swtpm = start(Kind::P256)?;
    let mut host = Host::new(world()?, &swtpm.tcti())?;
    let place = host.path("pinned");
    host.configure(&format!(
        "  - {{type: x509, name: pinned, key_rotation: never, destination: {}}}\n",
        place.display()
    ))?;
    host.start()?;
    host.wait_healthy()?;
    let read = |name: &str| Ok::<_, anyhow::Error>(fs::read_to_string(place.join(name))?);
    let (key, mut certificate) = (read("svid.key")?, read("svid.pem")?);
    for restarts in [false, true] {
        if restarts {
            host.signal("TERM")?;
            host.ended()?;
            host.start()?;
            host.wait_healthy()?;
        }
        host.signal("USR1")?;
        certificate = until(|| {
            let next = read("svid.pem")?;
            ensure!(next != certificate, "not renewed: {}", host.log());
            Ok(next)
        })?;
        assert_eq!(read("svid.key")?, key);
    }
    // A key that somebody has put there is not certified.
    host.signal("TERM")?;
    host.ended()?;
    let other = place.join("..data").join("svid.key");
    fs::write(
        &other,
        run("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "group:P-256"])?,
    )?;
    let planted = fs::read_to_string(&other)?;
    host.start()?;
    let replaced = until(|| {
        let now = read("svid.key")?;
        ensure!(now != planted, "not replaced: {}", host.log());
        Ok(now)
    })?;
    ensure!(replaced != key, "the former key is nowhere any more");
    Ok(())
}

#[test]
fn several_workload_identities_or_none_are_reported_and_nothing_is_written() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let mut host = Host::new(world()?, &swtpm.tcti())?;
    let service = |name: &str, more: &str| {
        format!(
            "  - {{type: x509, name: {name}, destination: {}, {more}}}\n",
            host.path(name).display()
        )
    };
    let more = [
        service("several", "selector: {labels: {env: prod}}"),
        service("no-hint", "selector: {labels: {env: prod}}, hint: north"),
        service("nobody", "selector: {name: mail}"),
    ];
    host.configure(&more.concat())?;
    host.start()?;
    let both = format!("{} (hint \"inside\"), {} (hint \"outside\")", id("db"), id("web"));
    for (service, what, advice) in [
        (
            "several",
            format!("2 workload identities match: {both}"),
            "write the `name` of one of them",
        ),
        ("no-hint", format!("no workload identity with this hint matches, only {both}"), "`hint`"),
        ("nobody", "refused".to_owned(), ""),
    ] {
        let what = what.as_str();
        host.sees(Trouble { of: service, event: "not issued", what, advice })?;
        ensure!(!host.path(service).join("..data").exists(), "{service} has files");
    }
    Ok(())
}
