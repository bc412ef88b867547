//! File systems that do not answer: what is on others goes on, and the daemon ends when it is asked to.

use std::fs::File;
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
            ensure!(std::fs::read_to_string(&mounts)?.contains("hung "), "it is not mounted");
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
    let what = "did not finish within 60 seconds";
    reported(&host, Trouble { of: "web", event: "not issued", what, advice: ADVICE })?;
    // Nothing waits for it again.
    host.signal("USR1")?;
    host.until_logged("renewed name=identity", 2)?;
    host.until_logged("not issued name=web", 2)?;
    hung.ends(&host, WEB)?;
    host.until_logged("issued name=web", 4)?;
    host.wait_healthy()?;
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
    let what = "did not finish within 60 seconds";
    reported(&host, Trouble { of: IDENTITY, event: "not renewed", what, advice: ADVICE })?;
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
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
