//! Public names: certificates from files, which are read again when they change.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use authority::config::{KeypairFiles, Public};

use super::command::Place;
use super::harness::{Harness, run};
use super::port::{curl, s_client, s_client_at, s_client_with};

/// A certificate for a public name, beside its key. Clients have it in the place of the system's roots.
fn public_certificate(dir: &Path) -> KeypairFiles {
    let files =
        KeypairFiles { cert_file: dir.join("fullchain.pem"), key_file: dir.join("privkey.pem") };
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]);
    openssl.args(["ec_paramgen_curve:P-256", "-subj", "/CN=public", "-addext"]);
    openssl.arg("subjectAltName=DNS:endorse.example.com").arg("-out").arg(&files.cert_file);
    run(openssl.arg("-keyout").arg(&files.key_file));
    files
}

#[tokio::test]
async fn public_name_has_the_certificate_of_its_files_and_is_told_to_clients() {
    let dir = tempfile::tempdir().unwrap();
    let files = public_certificate(dir.path());
    let harness = Harness::with_public(Public {
        addrs: vec!["endorse.example.com:443".parse().unwrap()],
        keypairs: vec![files.clone()],
    })
    .await;
    let (roots, name) = (|| files.cert_file.clone(), "endorse.example.com");
    s_client_with(&harness, roots(), name).await.unwrap();
    // The internal names keep the certificate of the cluster.
    s_client(&harness, "teleport.cluster.local").await.unwrap();
    let said = s_client(&harness, name).await.unwrap_err();
    assert!(said.contains("self-signed certificate"), "{said}");
    let (_, found) = curl(&harness, &["--http2"], "/webapi/find").await;
    assert_eq!(found["proxy"]["ssh"]["public_addr"], "endorse.example.com:443");
    let metric = "endorse_public_certificate_not_after_seconds{name=\"endorse.example.com\"} ";
    assert!(harness.authority.metrics_text().contains(metric));

    // The next certificate.
    let old = dir.path().join("old.pem");
    fs::copy(&files.cert_file, &old).unwrap();
    public_certificate(dir.path());
    s_client_with(&harness, roots(), name).await.unwrap_err();
    harness.authority.reload_certificates();
    s_client_with(&harness, roots(), name).await.unwrap();
    s_client_with(&harness, old, name).await.unwrap_err();
}

#[test]
fn program_checks_and_serves_a_public_name_and_reads_its_certificate_again_at_sighup() {
    let place = Place::new();
    let files = public_certificate(place.0.path());
    let file = place.0.path().join("authority.yaml");
    let yaml = format!(
        "cluster_name: one.example\npublic_addr: endorse.example.com:443\nhttps_keypairs:\n\
         - cert_file: {}\n  key_file: {}\n",
        files.cert_file.display(),
        files.key_file.display()
    );
    fs::write(&file, &yaml).unwrap();
    let config = ["-c", file.to_str().unwrap()];
    let (code, said, _) = place.run(&[&["check"], config.as_slice()].concat());
    assert_eq!(code, 0);
    assert!(said.contains("Public   endorse.example.com, certificate until 20"), "{said}");

    let authority = place.start_with(&config, &[], 4);
    assert!(authority.said.contains(&"Public   endorse.example.com:443".to_owned()));
    let name = "endorse.example.com";
    s_client_at(&authority.address, &files.cert_file, name).unwrap();
    public_certificate(place.0.path());
    authority.signal("-HUP");
    let mut tries = 0;
    while let Err(said) = s_client_at(&authority.address, &files.cert_file, name) {
        tries += 1;
        assert!(tries < 500, "{said}");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(authority.terminate(), Some(0));

    fs::write(&files.key_file, "").unwrap();
    for verb in ["check", "start"] {
        let (code, _, said) = place.run(&[&[verb], config.as_slice()].concat());
        assert_eq!(code, 78, "{verb}: {said}");
        assert!(said.contains("privkey.pem"), "{verb}: {said}");
    }
    let long = format!("cluster_name: {}\n", "a".repeat(32));
    fs::write(&file, long).unwrap();
    let (code, said, _) = place.run(&[&["check"], config.as_slice()].concat());
    assert!(code == 0 && said.contains("Warning  the cluster's name is longer than 31"), "{said}");
}
