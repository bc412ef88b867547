//! SIGKILL at any moment, under a reader who looks all the time.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use agent::config::{Acls, Directory as Place, Symlinks};
use agent::deliver::destination::Directory;
use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Handles, Swtpm};
use tests::host::{Host, WEB, is_whole};
use tests::programs;
use tests::world::{World, names};

use super::switched_on;

/// How often it is killed.
const KILLS: u32 = 25;

/// Renews as fast as it can, is killed somewhere in it, and starts again: without help, and no reader of its files
/// ever sees two that do not belong together. (Sets by the ten thousand are written and killed beside the code that
/// writes them; this is the same with all that is around it.)
#[test]
fn a_daemon_that_is_killed_again_and_again() -> Result<()> {
    let swtpm = switched_on()?;
    let before = swtpm.handles()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    host.start()?;
    host.wait_healthy()?;
    let (done, looks) = (AtomicBool::new(false), AtomicU32::new(0));
    let seen = host.world.path("seen");
    fs::create_dir(&seen)?;
    let service = host.path(WEB);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                look(&service, &seen).context("what a reader sees")?;
                looks.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
        let tormented = torment(&mut host, swtpm, &before, || reader.is_finished());
        done.store(true, Ordering::Relaxed);
        let read = reader.join().unwrap_or_else(|_| anyhow::bail!("the reader panics"));
        tormented.and(read)
    })?;
    println!("{KILLS} kills, {} renewals, {looks:?} looks", host.count("renewed name=identity"));
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    ensure!(host.count(" WARN ") == 0, "it needs help: {}", host.log());
    ensure!(looks.into_inner() > KILLS);
    Ok(())
}

/// One look: all files of one set, which other users cannot read.
fn look(service: &Path, seen: &Path) -> Result<()> {
    let place = Place { path: service.into(), symlinks: Symlinks::Secure, acls: Acls::Off };
    let set = Directory::new(place, Vec::new()).read().map_err(anyhow::Error::new)?;
    for (name, content) in set.context("no files")?.iter() {
        fs::write(seen.join(name), content)?;
    }
    is_whole(seen)?;
    for entry in fs::read_dir(service)? {
        let directory = entry?.path();
        for path in
            names(&directory).iter().map(|name| directory.join(name)).chain([directory.clone()])
        {
            // What is old goes while it is being looked at.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let open = !metadata.is_symlink() && metadata.mode() & 0o077 != 0;
            ensure!(!open, "others can read {}", path.display());
        }
    }
    Ok(())
}

fn torment(
    host: &mut Host,
    mut swtpm: Swtpm,
    before: &Handles,
    is_over: impl Fn() -> bool,
) -> Result<()> {
    for kill in 0..KILLS {
        ensure!(!is_over(), "the reader has seen something");
        host.signal("USR1")?;
        // Somewhere in a renewal and what comes with it: some fifty milliseconds.
        thread::sleep(Duration::from_millis(u64::from(kill * 7 % 60)));
        host.kill()?;
        // What a killed client has loaded, a resource manager would take out; here that is a reset.
        swtpm = swtpm.power_cycle()?;
        let placed = host.count("all credentials are valid");
        host.start()?;
        host.until_logged("all credentials are valid", placed + 1)?;
        host.wait_healthy()?;
        ensure!(swtpm.handles()? == *before, "left behind in the TPM");
    }
    Ok(())
}
