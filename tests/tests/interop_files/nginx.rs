//! nginx serves with the files of an `x509` service, and takes up new ones without a failed request.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use agent::config::{Reload, ReloadAction, Signal};

use super::cluster::Cluster;
use super::{Daemon, free_port, server, text};

/// How who answers is verified.
#[derive(Clone, Copy)]
pub(crate) enum Check {
    /// By its CA. A bot's certificate names a bot, no host.
    Chain,
    /// By its name, `localhost`, too.
    Name,
}

/// Requests a page and verifies the server. Returns its certificate on success.
pub(crate) fn request(port: u16, bundle: &Path, check: Check) -> Result<String, String> {
    let name: &[&str] = match check {
        Check::Chain => &[],
        Check::Name => &["-verify_hostname", "localhost"],
    };
    let address = format!("127.0.0.1:{port}");
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-servername", "localhost", "-ign_eof"])
        .args(["-verify_return_error", "-CAfile", text(bundle)])
        .args(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who has refused us reads nothing: that shows below.
    let _ = client.stdin.take().unwrap().write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || !said.contains("200 OK") || !said.contains("page served") {
        return Err(format!("{said}\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(said.split_once("-----BEGIN").unwrap().1.split_once("-----END").unwrap().0.to_owned())
}

/// A server on this port with a certificate's `.pem` and `.key`, and all else in `directory`: its `nginx.pid` too.
pub(crate) fn configuration(directory: &Path, certificate: &str, port: u16) -> String {
    let at = |name: &str| text(&directory.join(name)).to_owned();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", at(kind)))
        .concat();
    format!(
        "daemon off; error_log stderr notice; pid {};\nevents {{}}\nhttp {{ access_log off;\n\
         {temporary}server {{ listen 127.0.0.1:{port} ssl; ssl_session_cache off;\n\
         ssl_certificate {certificate}.pem; ssl_certificate_key {certificate}.key;\n\
         default_type text/plain; return 200 \"page served\"; }} }}\n",
        at("nginx.pid")
    )
}

#[test]
fn nginx_takes_up_new_files_without_a_failed_request() {
    let Some(nginx) = server("nginx") else { return };
    let cluster = Cluster::new();
    let directory = cluster.directory("tls", &[]);
    directory.lock().unwrap().write(&cluster.x509("one")).unwrap();
    let [config, pid_file, tls] = ["nginx.conf", "nginx.pid", "tls"].map(|n| cluster.path(n));
    let (port, bundle) = (free_port(), tls.join("bundle.pem"));
    let certificate = format!("{}/svid", text(&tls));
    fs::write(&config, configuration(&cluster.path(""), &certificate, port)).unwrap();
    let mut daemon = Daemon::start(Command::new(nginx).args(["-c", text(&config)]));
    daemon.until("nginx answers", || request(port, &bundle, Check::Name).is_ok());

    let reload = Reload {
        action: ReloadAction::Signal { signal: Signal::Hup, pid_file },
        timeout: Duration::from_secs(5),
        sshd: None,
    };
    let (done, requests) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut served = vec![request(port, &bundle, Check::Name).unwrap()];
    thread::scope(|scope| {
        let clients = [(); 2].map(|()| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    request(port, &bundle, Check::Name)?;
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), String>(())
            })
        });
        for round in 0..8 {
            directory.lock().unwrap().write(&cluster.x509(&format!("round-{round}"))).unwrap();
            agent::deliver::reload::run(&reload).unwrap();
            let is_new = |serial: &String| !served.contains(serial);
            daemon.until("the new certificate is served", || {
                request(port, &bundle, Check::Name).is_ok_and(|serial| is_new(&serial))
            });
            served.push(request(port, &bundle, Check::Name).unwrap());
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap().unwrap();
        }
    });
    assert!(requests.into_inner() > 8);
    let other = Cluster::new();
    request(port, &other.path("ca.pem"), Check::Name).unwrap_err();
}
