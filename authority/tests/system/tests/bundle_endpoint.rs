//! The public keys of the cluster over HTTPS, and as an operator exports them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::command::{Place, Running};
use super::harness::run;

const NAME: &str = "oidc.example.com";

/// The files of a certificate for NAME: certificate and key.
fn certificate(place: &Place, algorithm: &[&str]) -> (PathBuf, PathBuf) {
    let files = ["fullchain.pem", "privkey.pem"].map(|name| place.0.path().join(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-subj", "/CN=x", "-newkey"]).args(algorithm);
    openssl.args(["-addext", &format!("subjectAltName=DNS:{NAME}"), "-out"]).arg(&files[0]);
    run(openssl.arg("-keyout").arg(&files[1]));
    files.into()
}

/// A configuration file.
fn configured(place: &Place, yaml: &str) -> String {
    let file = place.0.path().join("authority.yaml");
    fs::write(&file, format!("cluster_name: one.example\n{yaml}")).unwrap();
    file.to_str().unwrap().to_owned()
}

fn start(place: &Place, yaml: &str) -> (Running, String) {
    let authority = place.start_with(&["-c", &configured(place, yaml)], &[], 4);
    let line = authority.said.iter().find_map(|line| line.strip_prefix("Bundle   https://"));
    let address = line.unwrap_or_else(|| panic!("{:?}", authority.said)).trim_end_matches('/');
    let address = address.to_owned();
    (authority, address)
}

/// Head and body of the answer to a request for a path.
fn curl(address: &str, roots: &Path, flags: &[&str], path: &str) -> (String, String) {
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sSi", "--cacert"]).arg(roots).args(flags).arg("--resolve");
    curl.arg(format!("{NAME}:{port}:{host}")).arg(format!("https://{NAME}:{port}{path}"));
    let said = String::from_utf8(run(&mut curl)).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[test]
fn documents_are_served_below_the_issuer_and_exported_alike() {
    let place = Place::new();
    // An RSA key serves as well, where the processor can.
    let (cert, key) = certificate(&place, &["rsa:2048"]);
    let yaml = format!(
        "jwt: {{issuer: \"https://{NAME}/a\"}}\nbundle_endpoint:\n  listen: 127.0.0.1:0\n  profile: https_web\n  \
         cert_file: {}\n  key_file: {}\n",
        cert.display(),
        key.display()
    );
    let (authority, address) = start(&place, &yaml);
    let get = |path: &str| curl(&address, &cert, &[], path);
    for (path, document) in [
        ("/", "spiffe-bundle"),
        ("/a/keys", "jwks"),
        ("/a/.well-known/openid-configuration", "openid-configuration"),
    ] {
        let (head, body) = get(path);
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        for header in [
            "content-type: application/json",
            "cache-control: no-cache",
            "access-control-allow-origin: *",
        ] {
            assert!(head.lines().any(|line| line == header), "{header}: {head}");
        }
        let (code, exported, _) = place.run(&["export", document]);
        assert_eq!((code, &exported), (0, &body));
        let (head, body) = curl(&address, &cert, &["-I"], path);
        assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
    }
    let keys: Value = serde_json::from_str(&get("/a/keys").1).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let discovery: Value =
        serde_json::from_str(&get("/a/.well-known/openid-configuration").1).unwrap();
    assert_eq!(discovery["jwks_uri"], format!("https://{NAME}/a/keys"));

    for path in ["/keys", "/a", "/a/", "/.well-known/openid-configuration", "/a/keys/", "/b/keys"] {
        assert!(get(path).0.starts_with("http/1.1 404"), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (head, _) = curl(&address, &cert, &["-X", method], "/");
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
    }
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn own_certificate_of_the_endpoint_is_an_x509_svid() {
    let place = Place::new();
    let (authority, address) =
        start(&place, "bundle_endpoint: {listen: \"127.0.0.1:0\", profile: https_spiffe}\n");
    // The bundle itself says who may serve it.
    let (code, bundle, _) = place.run(&["export"]);
    assert_eq!(code, 0);
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    let ca = bundle["keys"][0]["x5c"][0].as_str().unwrap();
    let roots = place.0.path().join("ca.pem");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{ca}\n-----END CERTIFICATE-----\n");
    fs::write(&roots, pem).unwrap();
    run(Command::new("openssl").args(["x509", "-noout", "-in"]).arg(&roots));
    let script = format!(
        "openssl s_client -connect {address} -CAfile {} -verify_return_error </dev/null | openssl x509 -noout -ext \
         subjectAltName,keyUsage,extendedKeyUsage,basicConstraints",
        roots.display()
    );
    let said = String::from_utf8(run(Command::new("sh").args(["-c", &script]))).unwrap();
    let names: Vec<_> = said.lines().map(str::trim).filter(|line| line.contains(':')).collect();
    assert!(names.contains(&"URI:spiffe://one.example/endorse/authority"), "{said}");
    for part in ["CA:FALSE", "Digital Signature", "TLS Web Server Authentication"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(said.matches("URI:").count() + said.matches("DNS:").count(), 1);
    // Without an issuer there is nothing to discover.
    let (code, _, error) = place.run(&["export", "openid-configuration"]);
    assert!(code != 0 && error.contains("jwt.issuer"), "{error}");
    let status = run(Command::new("curl")
        .args(["-sko", "/dev/null", "-w", "%{http_code}"])
        .arg(format!("https://{address}/.well-known/openid-configuration")));
    assert_eq!(status, b"404");
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn endpoint_presents_a_new_certificate_of_its_files_at_sighup() {
    let place = Place::new();
    let p256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let (cert, key) = certificate(&place, p256);
    let yaml = format!(
        "bundle_endpoint: {{listen: \"127.0.0.1:0\", profile: https_web, cert_file: {}, key_file: {}}}\n",
        cert.display(),
        key.display()
    );
    let (code, said, _) = place.run(&["check", "-c", &configured(&place, &yaml)]);
    assert!(code == 0 && said.contains("Public   bundle_endpoint, certificate until 20"), "{said}");
    let (authority, address) = start(&place, &yaml);
    assert!(curl(&address, &cert, &[], "/").0.starts_with("http/1.1 200"));
    certificate(&place, p256);
    authority.signal("-HUP");
    let reach = || {
        let (host, port) = address.rsplit_once(':').unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-so", "/dev/null", "--cacert"]).arg(&cert).arg("--resolve");
        curl.arg(format!("{NAME}:{port}:{host}")).arg(format!("https://{NAME}:{port}/keys"));
        curl.status().unwrap().success()
    };
    // It reads the files by itself too; the number of tries is a deadline.
    assert!((0..2000).any(|_| reach()), "the old certificate is still served");
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn endpoint_that_cannot_be_served_is_refused_with_the_reason() {
    let place = Place::new();
    let check = |yaml: &str| place.run(&["check", "-c", &configured(&place, yaml)]);
    for (yaml, why) in [
        ("{profile: https_spiffe}", "`listen` is missing"),
        ("{listen: \"127.0.0.1:0\"}", "`profile` is missing"),
        ("{listen: \"127.0.0.1:0\", profile: https}", "https_web"),
        ("{listen: \"127.0.0.1:0\", profile: https_web}", "`cert_file` is missing"),
        (
            "{listen: \"127.0.0.1:0\", profile: https_spiffe, key_file: /a}",
            "`key_file` is only for `https_web`",
        ),
        (
            "{listen: \"127.0.0.1:0\", profile: https_web, cert_file: /none, key_file: /none}",
            "cannot use /none",
        ),
    ] {
        let (code, said, error) = check(&format!("bundle_endpoint: {yaml}\n"));
        assert!(code != 0 && format!("{said}{error}").contains(why), "{yaml}: {said}{error}");
    }
}
