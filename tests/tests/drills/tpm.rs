//! The TPM cleared, replaced, locked out, busy, gone.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::bus::{forward, refusal};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use testkit::tap::Tap;
use tests::tpm::{lock_out, way};
use tpm2::types::ResponseCode;

use super::{HALF_LIFE, holds, joined, joined_at, not_joined, not_renewed, sees, switched_on};

const HOUR: Duration = Duration::from_secs(3600);

/// TPM2_Clear takes the persistent EK and leaves the seed that it and the join key are made from.
#[test]
fn cleared_tpm_needs_nothing() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start_tcp()?;
    let (host, before) = joined(&swtpm)?;
    swtpm.tool("tpm2_clear", &["-c", "platform"])?;
    let cleared = swtpm.handles()?;
    ensure!(cleared.persistent.is_empty() && !before.persistent.is_empty(), "{cleared:x?}");
    host.world.pass(HALF_LIFE)?;
    host.until_logged("INFO  issued name=web", 2)?;
    host.world.pass(2 * HOUR)?;
    host.until_logged("INFO  issued name=web", 3)?;
    host.wait_healthy()?;
    ensure!(
        host.count("INFO  renewed name=identity") == 1
            && host.count("INFO  joined name=identity") == 2
    );
    ensure!(!host.log().contains("WARN"), "{}", host.log());
    holds(&swtpm, &cleared)
}

/// Puts another TPM where this one was.
fn replaced(swtpm: Swtpm, state: &Path) -> Result<Swtpm> {
    const STATE: &str = "tpm2-00.permall";
    let off = swtpm.power_off();
    fs::copy(state.join(STATE), off.state().join(STATE))?;
    off.power_on()
}

#[test]
fn replaced_tpm_is_reported() -> Result<()> {
    let makes = |number| Factory::shared().unit(Maker::Vendor, Kind::RsaAndP384, number);
    let (one, another) = (makes(0)?, makes(1)?);
    let swtpm = one.start()?;
    let (mut host, before) = joined(&swtpm)?;
    let swtpm = replaced(swtpm, another.state())?;
    let others = swtpm.handles()?;
    host.world.pass(HALF_LIFE)?;
    let key = "this TPM created a different join key than the stored identity's";
    sees(&host, not_renewed(key, "join again if the TPM was replaced"))?;
    host.world.pass(HOUR)?;
    let other = not_joined(
        "this TPM is not the one of the stored identity",
        "if the TPM was replaced, remove the old storage and join again",
    );
    sees(&host, other)?;
    holds(&swtpm, &others)?;

    // The one that it had comes back.
    let swtpm = replaced(swtpm, one.state())?;
    host.wait_healthy()?;
    holds(&swtpm, &before)?;

    // The other is to stay: as the advice says.
    let swtpm = replaced(swtpm, another.state())?;
    host.world.pass(2 * HOUR)?;
    sees(&host, other)?;
    host.signal("TERM")?;
    ensure!(host.ended()?.success());
    fs::remove_dir_all(host.path("bot"))?;
    host.world.allow("t", &host.world.rule(&swtpm.tcti())?, &[])?;
    host.start()?;
    host.wait_healthy()?;
    holds(&swtpm, &others)
}

/// None of the agent's keys has a password that could be guessed.
#[test]
fn locked_out_tpm_is_used_without_passwords() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    lock_out(&swtpm)?;
    host.world.pass(HALF_LIFE)?;
    host.until_logged("INFO  issued name=web", 2)?;
    host.world.pass(2 * HOUR)?;
    host.until_logged("INFO  issued name=web", 3)?;
    host.wait_healthy()?;
    ensure!(
        host.count("INFO  renewed name=identity") == 1
            && host.count("INFO  joined name=identity") == 2
    );
    ensure!(!host.log().contains("WARN"), "{}", host.log());
    holds(&swtpm, &before)
}

#[test]
fn tpm_that_is_gone_and_comes_back_is_used_again() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    let socket = swtpm.tcti().trim_start_matches("swtpm:path=").to_owned();
    let off = swtpm.power_off();
    host.world.pass(HALF_LIFE)?;
    sees(&host, not_renewed("Connection refused", "start swtpm"))?;
    fs::remove_file(&socket)?;
    sees(&host, not_renewed("No such file or directory", "start swtpm"))?;
    let swtpm = off.power_on()?;
    host.wait_healthy()?;
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    holds(&swtpm, &before)
}

/// It stays busy for longer than a client retries.
#[test]
fn busy_tpm_is_tried_again() -> Result<()> {
    let swtpm = switched_on()?;
    let busy = Arc::new(AtomicBool::new(false));
    let tap = {
        let busy = Arc::clone(&busy);
        Tap::with(&swtpm, move |command, tpm| match busy.load(Ordering::SeqCst) {
            true => Ok(refusal(ResponseCode::RETRY)),
            false => forward(tpm, command),
        })?
    };
    let (host, before) = joined_at(&tap.tcti(), &swtpm)?;
    busy.store(true, Ordering::SeqCst);
    host.world.pass(HALF_LIFE)?;
    sees(&host, not_renewed("TPM2_CreatePrimary: TPM_RC_RETRY", "wait until it has finished"))?;
    busy.store(false, Ordering::SeqCst);
    host.wait_healthy()?;
    holds(&swtpm, &before)
}

/// A TPM without resource manager serves one at a time: the agent waits for its turn, and says so.
#[test]
fn tpm_that_another_program_holds_is_waited_for() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    let other = way(&swtpm)?;
    host.world.pass(HALF_LIFE)?;
    host.until_logged("INFO  the TPM is creating a key; some chips take half a minute", 1)?;
    drop(other);
    host.until_logged("INFO  renewed name=identity", 1)?;
    host.wait_healthy()?;
    holds(&swtpm, &before)
}
