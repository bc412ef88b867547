//! `cargo xtask vm`: the agent as it is shipped, on a kernel's own `/dev/tpmrm0`, in a virtual
//! machine, against an authority on the host.

mod authority;
mod initramfs;
mod kernel;
mod machine;
mod report;
mod scenarios;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use self::authority::Authority;
pub use self::initramfs::Archive;
pub use self::kernel::Kernel;
pub use self::machine::{Machine, Payload, Run};
pub use self::report::{Report, Step};
pub use self::scenarios::{SCENARIOS, Scenario};
use crate::child::Scratch;
use crate::setup::{self, Action, Purpose};
use crate::swtpm::{Factory, Handles, Maker, Swtpm};
use crate::{cargo, musl, target_folder};

/// The most that one guest may take, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(300);
const STEPS: &[u8] = include_bytes!("scripts/steps.sh");

/// Runs the scenarios, or the one of this name.
pub fn run(only: Option<&str>) -> Result<()> {
    let chosen: Vec<_> =
        SCENARIOS.iter().filter(|scenario| only.is_none_or(|name| name == scenario.name)).collect();
    let names = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    ensure!(!chosen.is_empty(), "no such scenario; there are {}", names());
    setup::run(Purpose::Vm, Action::Install)?;
    let agent = fs::read(musl::build()?)?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "authority"]);
    ensure!(build.stdin(Stdio::null()).status()?.success(), "the authority does not build");
    let machine = Machine::new()?;

    let mut failed = Vec::new();
    for scenario in chosen {
        let started = Instant::now();
        let result = play(scenario, &machine, &agent);
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("vm: {}: well, {seconds:.1} s", scenario.name),
            Err(error) => {
                println!("vm: {}: FAILED, {seconds:.1} s\n{error:#}", scenario.name);
                failed.push(scenario.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("vm failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Our own programs, on the host: the agent is the same file as in the guest.
fn program(name: &str) -> PathBuf {
    target_folder().join(if name == "agent" { "static" } else { "debug" }).join(name)
}

/// A scenario in the guest, and what it left behind.
#[derive(Debug)]
pub struct Played {
    /// What the payload said.
    pub report: Report,
    /// The TPM afterwards, outside of the guest.
    pub tpm: Swtpm,
    /// The authority that the guest talked to.
    pub authority: Authority,
}

impl Played {
    /// Runs our own program on the host, with the guest's TPM.
    pub fn agent(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program("agent"));
        command.args(arguments).args(["--tpm", &self.tpm.tcti()]).stdin(Stdio::null());
        let output = command.output().context("cannot run agent")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "agent on the host: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn play(scenario: &Scenario, machine: &Machine, agent: &[u8]) -> Result<()> {
    let made = Factory::shared().tpm(Maker::Vendor, scenario.tpm)?;
    let scratch = Scratch::new("endorse-vm-tpm")?;
    let name = "tpm2-00.permall";
    fs::copy(made.state().join(name), scratch.path().join(name)).context("copying the TPM")?;
    let new = Swtpm::start(made.state())?;
    let before = new.handles()?;
    let authority = Authority::start(&new)?;
    drop(new);

    let settings = format!(
        "AUTHORITY=10.0.2.2:{}\nTOKEN={}\nPIN={}\n{}\n",
        authority.port(),
        authority::TOKEN,
        authority.pin(),
        scenario.settings
    );
    let files =
        [("run.sh", scenario.script), ("steps.sh", STEPS), ("settings.sh", settings.as_bytes())];
    let payload = Payload { files: &files, programs: &[("agent", agent)] };
    let run = machine.run(scratch.path(), &payload, PATIENCE)?;
    ensure!(run.status == 0, "the script ended with {}:\n{}", run.status, run.output);

    let report = Report::read(&run.output)?;
    let tpm = Swtpm::start(scratch.path())?;
    left_behind(&report, &before, &tpm.handles()?)?;
    let played = Played { report, tpm, authority };
    (scenario.check)(&played).with_context(|| format!("it said:\n{}", played.report.text()))
}

/// The TPM holds what it left the factory with. What power-off clears was asked for in the guest.
fn left_behind(report: &Report, before: &Handles, after: &Handles) -> Result<()> {
    ensure!(before == after, "the TPM held {before:x?}, and holds {after:x?}");
    let said = report.well("handles")?;
    for kind in ["02", "03", "80"] {
        // moreData, capability; count
        let none = format!("{kind}: 00000000 00000000\n");
        ensure!(said.contains(&none), "the TPM still holds handles of type {kind}:\n{said}");
    }
    Ok(())
}
