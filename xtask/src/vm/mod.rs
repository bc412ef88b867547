//! `cargo xtask vm`: the agent as it is shipped, on a kernel's own `/dev/tpmrm0`, in a virtual
//! machine, against an authority on the host.

mod authority;
mod bus;
mod debian;
mod desk;
mod initramfs;
mod kernel;
mod machine;
mod play;
mod report;
mod scenarios;
pub mod walk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Handles, Kind, Maker, Manufactured, Swtpm};

pub use self::authority::{Authority, TOKEN};
pub use self::bus::{Bus, Listener};
pub use self::desk::Desk;
pub use self::initramfs::Archive;
pub use self::kernel::Kernel;
pub use self::machine::{Machine, Payload, Run};
pub use self::report::{Report, Step};
pub use self::scenarios::{SCENARIOS, Scenario};
use crate::setup::{self, Action, Purpose};
use crate::{cargo, musl, target_directory};

/// The most that one guest may take, on a machine that does other things too.
const MACHINE_TIMEOUT: Duration = Duration::from_secs(600);
const STEPS: &[u8] = include_bytes!("scripts/steps.sh");

/// Runs the scenarios, or those of these names.
pub fn run(only: &[String]) -> Result<()> {
    let chosen = play::chosen(&SCENARIOS, only)?;
    setup::run(Purpose::Vm, Action::Install)?;
    let agent = fs::read(musl::build()?)?;
    let mut build = cargo();
    build.args(["build", "--package", "authority"]);
    ensure!(build.stdin(Stdio::null()).status()?.success(), "the authority does not build");
    let machine = Machine::new()?;
    play::play_all("vm", &chosen, |scenario| play(scenario, &machine, &agent))
}

/// Our own programs, on the host: the agent is the same file as in the guest.
fn program(name: &str) -> PathBuf {
    target_directory().join(if name == "agent" { "static" } else { "debug" }).join(name)
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

/// A TPM as a guest gets it, and what it held before.
#[derive(Debug)]
struct Guest {
    state: Scratch,
    made: Manufactured,
    before: Handles,
}

impl Guest {
    fn new(kind: Kind) -> Result<Self> {
        let made = Factory::shared().tpm(Maker::Vendor, kind)?;
        let state = Scratch::new("endorse-vm-tpm")?;
        let name = "tpm2-00.permall";
        fs::copy(made.state().join(name), state.path().join(name)).context("copying the TPM")?;
        let before = made.start()?.handles()?;
        Ok(Self { state, made, before })
    }

    fn state(&self) -> &Path {
        self.state.path()
    }

    /// Sees that the TPM holds what it left the factory with, and returns it. What power-off clears
    /// was asked for in the guest.
    fn left_behind(&self, report: &Report) -> Result<Swtpm> {
        let tpm = Swtpm::start(self.state())?;
        let (before, after) = (&self.before, tpm.handles()?);
        ensure!(*before == after, "the TPM held {before:x?}, and holds {after:x?}");
        scenarios::nothing_loaded(report.success("handles")?)?;
        Ok(tpm)
    }
}

fn play(scenario: &Scenario, machine: &Machine, agent: &[u8]) -> Result<()> {
    let guest = Guest::new(scenario.tpm)?;
    let authority = Authority::start(&guest.made.start()?)?;
    let bus = Bus::start(guest.state())?;
    let desk = Desk::open(bus.listener())?;
    let settings = format!(
        "AUTHORITY=10.0.2.2:{}\nTOKEN={}\nPIN={}\nDESK={}\n{}\n",
        authority.port(),
        TOKEN,
        authority.pin(),
        desk.port(),
        scenario.settings
    );
    let files =
        [("run.sh", scenario.script), ("steps.sh", STEPS), ("settings.sh", settings.as_bytes())];
    let mut programs = vec![("agent", agent.to_owned())];
    for name in scenario.examples {
        programs.push((name, fs::read(musl::example(name)?)?));
    }
    let programs: Vec<_> = programs.iter().map(|(name, content)| (*name, &content[..])).collect();
    let payload = Payload { files: &files, programs: &programs };
    let run = machine.run(&bus, &payload, MACHINE_TIMEOUT)?;
    drop(bus);
    fs::write(target_directory().join(format!("vm/{}.log", scenario.name)), &run.output)?;
    ensure!(run.status == 0, "the script ended with {}:\n{}", run.status, run.output);

    let report = Report::read(&run.output)?;
    let tpm = guest.left_behind(&report).with_context(|| report.text().to_owned())?;
    let played = Played { report, tpm, authority };
    (scenario.check)(&played).with_context(|| format!("it said:\n{}", played.report.text()))
}
