//! The authority away, clocks that are wrong, sleep.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::programs;
use tests::world::World;

use super::{HALF_LIFE, holds, joined, not_joined, not_renewed, sees, switched_on};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_authority_is_away_for_three_lifetimes() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, before) = joined(&swtpm)?;
    let instance = host.stored()?["instance"].clone();
    host.world.stop()?;
    host.world.pass(HALF_LIFE)?;
    sees(&host, not_renewed("cannot reach the authority at", "check that it runs"))?;
    host.world.pass(3 * HOUR)?;
    sees(&host, not_joined("cannot reach the authority at", "check that it runs"))?;
    host.until_logged("WARN  not joined", host.count("WARN  not joined") + 1)?;
    ensure!(host.status()?.contains("(expired: join again)"), "{}", host.status()?);
    host.world.start(&[])?;
    host.wait_healthy()?;
    ensure!(host.count("INFO  joined name=identity") == 2, "{}", host.log());
    ensure!(host.stored()?["instance"] != instance, "a host that joins again is a new instance");
    holds(&swtpm, &before)
}

#[test]
fn a_clock_that_is_wrong_by_a_year_either_way() -> Result<()> {
    const YEAR: i64 = 365 * 24 * 3600;
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    let instance = host.stored()?["instance"].clone();
    for (wrong, what) in [(YEAR, "has expired"), (-YEAR, "is not valid yet")] {
        host.world.set_wrong(wrong)?;
        sees(&host, not_joined(what, "compare the clocks of both machines"))?;
        ensure!(host.log().contains("by this host's clock, the certificate of"), "{}", host.log());
        let renewed = host.count("INFO  renewed name=identity");
        host.world.set_wrong(0)?;
        host.until_logged("INFO  renewed name=identity", renewed + 1)?;
        host.wait_healthy()?;
    }
    ensure!(host.stored()?["instance"] == instance, "the identity was good all the time");
    holds(&swtpm, &before)
}

/// To a process, sleep is that it does not run while time passes.
#[test]
fn identity_that_expired_during_sleep_is_replaced() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    host.signal("STOP")?;
    host.world.pass(10 * HOUR)?;
    host.signal("CONT")?;
    host.until_logged("INFO  joined name=identity", 2)?;
    host.wait_healthy()?;
    ensure!(!host.log().contains("WARN"), "{}", host.log());
    holds(&swtpm, &before)
}

/// Seconds from now to a time before 1970.
const BEFORE_1970: i64 = -60 * 365 * 24 * 3600;

#[test]
fn running_authority_outlasts_a_clock_before_1970() -> Result<()> {
    let swtpm = switched_on()?;
    let mut world = World::with_clocks(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    // The first request to a process is the one that counts.
    world.stop()?;
    world.start(&[])?;
    world.set_authority_wrong(BEFORE_1970)?;
    let said = world.join(&swtpm.tcti(), "t", "storage")?;
    ensure!(said.err.contains("error: "), "{said:?}");
    world.set_authority_wrong(0)?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    // A panic ends the program as it is shipped, and not the one that is tested.
    ensure!(!world.log()?.contains("panicked"), "{}", world.log()?);
    Ok(())
}

#[test]
fn running_agent_outlasts_a_clock_before_1970() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    host.world.set_wrong(BEFORE_1970)?;
    let diag = host.readyz()?;
    ensure!(diag.0 == 503 || diag.0 == 200, "{diag:?}");
    host.world.set_wrong(0)?;
    host.signal("USR1")?;
    host.wait_healthy()?;
    ensure!(!host.log().contains("panicked"), "{}", host.log());
    holds(&swtpm, &before)
}
