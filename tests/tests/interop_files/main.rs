//! The files of services in the hands of those for whom they are written: nginx, PostgreSQL, OpenSSH, OpenSSL.

mod cluster;
mod nginx;
mod openssh;
mod postgresql;
mod rotation;
mod tpm_key;
mod workload_identity;

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::Duration;

/// A daemon that ends with the test, and whatever it started with it.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command) -> Self {
        Self(command.process_group(0).spawn().unwrap())
    }

    /// Waits until something is as it should be, or the daemon has ended.
    fn until(&mut self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..600 {
            if is_so() {
                return;
            }
            let ended = self.0.try_wait().unwrap();
            assert!(ended.is_none(), "{what}: it ended ({ended:?})");
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{what}: not after 30 s");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = run("kill", &["-TERM", "--", &format!("-{}", self.0.id())]);
        let _ = self.0.wait();
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A free port.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The path of a server program, which may not be in PATH. `None`, with a message, if it is not installed.
fn server(name: &str) -> Option<PathBuf> {
    let mut directories: Vec<PathBuf> = ["/usr/sbin", "/usr/bin"].map(PathBuf::from).into();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    directories.extend(versions.map(|version| version.path().join("bin")));
    let found = directories.iter().map(|directory| directory.join(name)).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: {name} is not installed; `cargo xtask setup` installs it");
    }
    found
}

fn is_root(what: &str) -> bool {
    let root = succeed("id", &["-u"]).trim() == "0";
    if !root {
        println!("skipped: {what} needs root");
    }
    root
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
