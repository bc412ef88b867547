//! File systems that do not answer: what is on others goes on, and the daemon ends when it is asked to.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use tests::world::Said;

use super::*;

/// A FUSE file system whose server does nothing: any access waits until the server's process ends. Mounted over $1.
const MOUNT: &str = "exec 9<>/dev/fuse && \
    mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 hung \"$1\" && exec sleep 600";

/// The access has a minute, and is begun within another.
const REPORTED: Duration = Duration::from_secs(150);

fn may_hang(directory: &Path) -> bool {
    let may = tests::host::may_mount(directory) && File::open("/dev/fuse").is_ok();
    if !may {
        println!("skipped: no FUSE file system can be mounted here");
    }
    may
}

/// The server of a file system that hangs, in the place of a daemon's directory.
struct Hung(Child);

impl Hung {
    fn over(host: &Host, directory: &str) -> Result<Self> {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &host.id()?.to_string(), "sh", "-c", MOUNT, "sh"]);
        let server = command.arg(host.path(directory)).spawn()?;
        let mounts = format!("/proc/{}/mounts", host.id()?);
        tests::host::until(|| {
            ensure!(fs::read_to_string(&mounts)?.contains("hung "), "it is not mounted");
            Ok(())
        })?;
        Ok(Self(server))
    }

    fn ends(mut self, host: &Host, directory: &str) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &host.id()?.to_string(), "umount"]);
        Said::by(command.arg(host.path(directory)))?.success().map(drop)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn reported(host: &Host, trouble: Trouble<'_>) -> Result<()> {
    let deadline = Instant::now() + REPORTED;
    while let Err(error) = host.sees(trouble) {
        ensure!(Instant::now() < deadline, error);
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn started(swtpm: &Swtpm) -> Result<Option<Host>> {
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    if !may_hang(&host.world.path("")) {
        return Ok(None);
    }
    host.start_after("true")?;
    host.wait_healthy()?;
    Ok(Some(host))
}

const ADVICE: &str = "check that the file system responds";

#[test]
fn destination_that_hangs_is_reported_and_delays_nothing_else() -> Result<()> {
    let swtpm = switched_on()?;
    let Some(mut host) = started(&swtpm)? else { return Ok(()) };
    let hung = Hung::over(&host, WEB)?;
    host.signal("USR1")?;
    host.until_logged("renewed name=identity", 1)?;
    let what = "did not finish within";
    reported(&host, Trouble { of: "web", event: "not issued", what, advice: ADVICE })?;
    // It delays nothing any more.
    host.signal("USR1")?;
    host.until_logged("renewed name=identity", 2)?;
    hung.ends(&host, WEB)?;
    host.signal("USR1")?;
    host.wait_healthy()?;
    host.web_is_whole()?;
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    Ok(())
}

#[test]
fn storage_that_hangs_is_reported_and_does_not_keep_the_daemon_from_ending() -> Result<()> {
    let swtpm = switched_on()?;
    let Some(mut host) = started(&swtpm)? else { return Ok(()) };
    let _hung = Hung::over(&host, "bot")?;
    host.signal("USR1")?;
    let what = "did not finish within";
    reported(&host, Trouble { of: IDENTITY, event: "not stored", what, advice: ADVICE })?;
    // In the namespace of the daemon, where the storage hangs.
    let agent = host.world.agent_command(&["status", "--storage"]);
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &host.id()?.to_string()]);
    command.arg(agent.get_program()).args(agent.get_args()).arg(host.path("bot"));
    let status = Said::by(&mut command)?;
    ensure!(status.failure(75)?[0].contains(what), "{status:?}");
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &host.id()?.to_string()]);
    command.arg(agent.get_program()).args(["doctor", "-c"]).arg(host.world.path("tbot.yaml"));
    let report = Said::by(&mut command)?;
    ensure!(report.code != Some(0) && report.out.contains(what), "{report:?}");
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    Ok(())
}

/// Services are issued over the connection of the renewal, but not with a certificate that has expired since.
#[test]
fn storage_that_hangs_until_the_old_certificate_expires_costs_no_identity() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::with_clocks(programs!())?, &swtpm.tcti())?;
    if !may_hang(&host.world.path("")) {
        return Ok(());
    }
    host.start_after("true")?;
    host.wait_healthy()?;
    let hung = Hung::over(&host, "bot")?;
    host.world.pass(HALF_LIFE)?;
    // Renewed, and waiting for the storage.
    thread::sleep(Duration::from_secs(10));
    host.world.pass(HALF_LIFE + Duration::from_secs(60))?;
    let what = "did not finish within";
    reported(&host, Trouble { of: IDENTITY, event: "not stored", what, advice: ADVICE })?;
    host.until_logged("INFO  issued name=web", 2)?;
    hung.ends(&host, "bot")?;
    host.wait_healthy()?;
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    Ok(())
}

#[test]
fn sigterm_ends_a_daemon_in_the_middle_of_a_write_that_hangs() -> Result<()> {
    let swtpm = switched_on()?;
    let Some(mut host) = started(&swtpm)? else { return Ok(()) };
    let _hung = Hung::over(&host, WEB)?;
    host.signal("USR1")?;
    host.until_logged("renewed name=identity", 1)?;
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    Ok(())
}

/// Only a join needs the token; the passwords are in other files, if there are any.
#[test]
fn token_that_hangs_is_reported_and_delays_no_renewal() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    if !may_hang(&host.world.path("")) {
        return Ok(());
    }
    let directory = host.path("secret");
    fs::create_dir_all(&directory)?;
    let file = directory.join("token");
    fs::write(&file, "t\n")?;
    let config = host.world.path("tbot.yaml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace("token: t\n", &format!("token: {}\n", file.display())))?;
    host.start_after("true")?;
    host.wait_healthy()?;
    let _hung = Hung::over(&host, "secret")?;
    for renewals in 1..3 {
        host.signal("USR1")?;
        host.until_logged("renewed name=identity", renewals)?;
        host.until_logged("issued name=web", renewals + 1)?;
    }
    let what = "did not finish within";
    let event = "the files cannot be checked";
    reported(&host, Trouble { of: IDENTITY, event, what, advice: ADVICE })?;
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    Ok(())
}

#[test]
fn sigterm_ends_a_daemon_whose_pid_file_hangs_at_the_start() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    if !may_hang(&host.world.path("")) {
        return Ok(());
    }
    // The file system's server, which ends by itself, and the daemon with its pid file there: its last argument.
    const START: &str = "mkdir run && exec 9<>/dev/fuse && \
        mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 hung run && \
        { sleep 60 & } && exec 9>&- && set -- \"$1\" \"$2\" \"$3\" \"$4\" \"$5\" run/pid";
    host.start_after(START)?;
    let tasks = format!("/proc/{}/task", host.id()?);
    tests::host::until(|| {
        let names = fs::read_dir(&tasks)?
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let mut names = names.into_iter();
        ensure!(names.any(|name| name == "files\n"), "it does not wait for files");
        Ok(())
    })?;
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    Ok(())
}
