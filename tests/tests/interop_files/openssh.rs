//! `ssh -F DIRECTORY/ssh_config HOST` logs in to an sshd that trusts the cluster's SSH authority.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use super::cluster::Cluster;
use super::{Daemon, free_port, is_root, run, server, succeed, text};

fn log_in(directory: &Path, port: u16) -> Output {
    let config = directory.join("ssh_config");
    run(
        "ssh",
        &[
            "-F",
            text(&config),
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-p",
            &port.to_string(),
            "root@localhost",
            "echo",
            "logged in",
        ],
    )
}

#[test]
fn ssh_logs_in_with_the_files_of_identity() {
    if !is_root("an sshd") {
        return;
    }
    let Some(sshd) = server("sshd") else { return };
    fs::create_dir_all("/run/sshd").unwrap();
    let cluster = Cluster::new();
    let [host, ca, config, principals, other] =
        ["host", "ssh", "sshd_config", "principals", "other"].map(|name| cluster.path(name));
    for key in [&host, &other] {
        succeed("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", text(key)]);
    }
    let public = cluster.path("host.pub");
    let names = "localhost,db.c.example";
    succeed("ssh-keygen", &["-q", "-s", text(&ca), "-I", "h", "-h", "-n", names, text(&public)]);
    fs::write(&principals, "bot-x\n").unwrap();
    let port = free_port();
    let written = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {host}\nHostCertificate {host}-cert.pub\n\
         TrustedUserCAKeys {ca}.pub\nAuthorizedPrincipalsFile {principals}\nStrictModes no\n\
         AuthenticationMethods publickey\nPermitRootLogin yes\nUsePAM no\nPidFile none\n",
        host = text(&host),
        ca = text(&ca),
        principals = text(&principals)
    );
    fs::write(&config, written).unwrap();
    let mut daemon = Daemon::start(Command::new(sshd).args(["-D", "-e", "-f", text(&config)]));
    daemon.until("sshd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());

    let directory = cluster.directory("id", &[]);
    for _ in 0..2 {
        let set = cluster.identity("bot-x", "ssh", directory.path());
        directory.lock().unwrap().write(&set).unwrap();
        let output = log_in(directory.path(), port);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(output.stdout, b"logged in\n");
    }
    for (principal, authority) in [("bot-y", "ssh"), ("bot-x", "other")] {
        let set = cluster.identity(principal, authority, directory.path());
        directory.lock().unwrap().write(&set).unwrap();
        let output = log_in(directory.path(), port);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Permission denied"), "{principal} of {authority}: {said}");
    }
}
