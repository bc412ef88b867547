//! Reload hooks that succeed, fail and hang.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{geteuid, test_kill_process};

use super::*;

fn shell(script: &str, timeout: Duration) -> Result<Reloaded, Failure> {
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    let action = ReloadAction::Command { program: "sh".into(), arguments };
    run(&Reload { action, timeout, sshd: None })
}

fn hang_up(pid_file: PathBuf) -> Result<Reloaded, Failure> {
    let action = ReloadAction::Signal { signal: Signal::Hup, pid_file };
    run(&Reload { action, timeout: Duration::from_secs(1), sshd: None })
}

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_command_is_run_without_shell_or_environment() {
    let action = ReloadAction::Command { program: "env".into(), arguments: vec![] };
    let done = run(&Reload { action, timeout: LONG, sshd: None }).unwrap();
    assert_eq!(done.output.lines().count(), 2, "{done}");
    assert!(done.output.contains(&format!("PATH={HOOK_PATH}")), "{done}");
    let action = ReloadAction::Command {
        program: "/bin/echo".into(),
        arguments: vec!["$HOME; exit 1".into(), "*".into()],
    };
    let done = run(&Reload { action, timeout: LONG, sshd: None }).unwrap();
    assert_eq!(done.output, "$HOME; exit 1 *");
}

#[test]
fn a_failure_says_what_the_program_said() {
    let failure = shell("echo syntax is bad >&2; exit 3", LONG).unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert_eq!(failure.message, "sh failed (exit status: 3): syntax is bad");
    let failure = shell("kill -9 $$", LONG).unwrap_err();
    assert!(failure.message.contains("signal: 9"), "{failure}");
    let action = ReloadAction::Command { program: "/no/such/program".into(), arguments: vec![] };
    let failure = run(&Reload { action, timeout: LONG, sshd: None }).unwrap_err();
    assert!(failure.message.starts_with("cannot run /no/such/program: "), "{failure}");
}

#[test]
fn of_much_output_the_end_is_kept() {
    let done = shell("yes long | head -c 1000000; echo end", LONG).unwrap();
    assert!(done.output.len() <= MAX_OUTPUT && done.output.len() > MAX_OUTPUT / 2);
    assert!(done.output.ends_with("\nend"), "{done}");
}

#[test]
fn hook_that_times_out_is_killed_with_its_children() {
    let scripts = [
        "sleep 60 & echo $! $$; wait",
        "trap '' TERM; sleep 60 & echo $! $$; wait; wait; sleep 60",
    ];
    for script in scripts {
        let failure = shell(script, SHORT).unwrap_err();
        assert!(failure.message.starts_with("sh took more than 0.3 s and was killed"), "{failure}");
        let (_, said) = failure.message.rsplit_once(": ").unwrap();
        for pid in said.split(' ') {
            let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
            // The process that inherits it has to reap it first.
            let gone = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
                test_kill_process(pid).is_err() || state.is_ok_and(|state| state.contains(") Z "))
            });
            assert!(gone, "{pid:?} lives");
        }
    }
}

#[test]
fn background_process_of_a_hook_does_not_block_the_agent() {
    let done = shell("sleep 20 & echo done", Duration::from_secs(10)).unwrap();
    assert_eq!(done.output, "done");
}

#[test]
fn a_signal_reaches_the_process_of_the_file_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    // A shell cannot trap what was ignored before it began, as it is below nohup.
    let mut daemon = Command::new("env")
        .args(["--default-signal=HUP", "sh", "-c"])
        .arg("trap 'echo done; exit 0' HUP; echo ready; while :; do sleep 0.05; done")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");

    for text in ["", "x", "-1", "0", "1 2", "99999999999"] {
        fs::write(&file, text).unwrap();
        assert_eq!(hang_up(file.clone()).unwrap_err().exit, Exit::Data, "{text:?}");
    }
    fs::write(&file, std::process::id().to_string()).unwrap();
    assert_eq!(hang_up(file.clone()).unwrap_err().exit, Exit::Config);

    fs::write(&file, format!("{}\n/var/lib/more\n", daemon.id())).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    assert_eq!(hang_up(file.clone()).unwrap_err().exit, Exit::Permission);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let link = directory.path().join("link");
    symlink(&file, &link).unwrap();
    hang_up(link).unwrap_err();
    if geteuid().is_root() {
        chown(&file, Some(65534), None).unwrap();
        assert_eq!(hang_up(file.clone()).unwrap_err().exit, Exit::Permission);
        chown(&file, Some(0), None).unwrap();
    }
    assert!(daemon.try_wait().unwrap().is_none(), "nothing so far was for it");

    let done = hang_up(file.clone()).unwrap();
    assert!(done.to_string().starts_with("sent Hup to process "), "{done}");
    assert_eq!(lines.next().unwrap().unwrap(), "done");
    assert!(daemon.wait().unwrap().success());
    let failure = hang_up(file).unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.message.starts_with("no process has the ID "), "{failure}");
    assert_eq!(hang_up(directory.path().join("none")).unwrap_err().exit, Exit::Io);
}

#[test]
fn a_unit_is_a_unit() {
    for unit in ["nginx", "nginx.service", "pg@14-main.service", "dev-x\\x2dy.mount"] {
        check_unit(unit).unwrap();
    }
    for unit in ["", "a b", "a;b", "../x", "a/b", "*"] {
        check_unit(unit).unwrap_err();
    }
}
