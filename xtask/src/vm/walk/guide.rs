//! The project's own guide, with a restart of the machine.

use anyhow::{Result, ensure};

use super::Walk;
use crate::vm::{Guest, Report};

pub(super) const WALK: Walk =
    Walk { name: "guide", script: include_bytes!("../scripts/guide.sh"), refused: &[], check };

fn check(report: &Report, _: &Guest) -> Result<()> {
    for name in ["status", "status-again"] {
        let said = report.success(name)?;
        for words in ["active (running)", "in place: identity"] {
            ensure!(said.contains(words), "{name} does not say {words:?}:\n{said}");
        }
    }
    for name in ["verify", "verify-authority", "failed"] {
        let said = report.success(name)?;
        ensure!(said.is_empty(), "{name}:\n{said}");
    }
    let hosts = report.success("hosts")?;
    ensure!(hosts.contains(" vm "), "the host's name is not known:\n{hosts}");
    let watchdog = report.success("watchdog")?;
    ensure!(watchdog.contains("WatchdogUSec=5min"), "no watchdog:\n{watchdog}");
    Ok(())
}
