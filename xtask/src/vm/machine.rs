//! A virtual machine with a TPM: QEMU with swtpm behind its TIS interface.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::child::{Guarded, Scratch};
use testkit::program::program;

use super::bus::Bus;
use super::initramfs::Archive;
use super::kernel::Kernel;
use crate::elf::Needs;

const INIT: &[u8] = include_bytes!("scripts/init.sh");
const INIT_FROM_DISK: &[u8] = include_bytes!("scripts/disk.sh");
const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\n\
    stranger:x:1000:1000::/tmp:/bin/sh\n\
    member:x:1001:1001::/tmp:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nstranger:x:1000:\nmember:x:1001:\ntss:x:114:member\n";
/// On a busy host an emulated timer may be so late that the kernel believes it does not work.
const ARGUMENTS: &str = "console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on nokaslr \
                         mitigations=off cryptomgr.notests=1 no_timer_check";
/// No hardware virtualization: it is not to be had everywhere, and this is fast enough.
const MACHINE: [&str; 12] = [
    "-machine",
    "q35",
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "max",
    "-smp",
    "1",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
];
/// What the guest writes on its console when the payload has ended.
const EXIT: &str = "VMEXIT:";

/// Guests of one kind: kernel and file system are there, the payload comes with each run.
#[derive(Debug)]
pub struct Machine {
    kernel: PathBuf,
    base: Vec<u8>,
    /// An image with a system, which each run has for itself.
    disk: Option<PathBuf>,
}

/// What a guest runs.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    /// The files in `/payload`; `run.sh` is what is run.
    pub files: &'a [(&'a str, &'a [u8])],
    /// The programs in `/payload`.
    pub programs: &'a [(&'a str, &'a [u8])],
}

/// How a run went.
#[derive(Debug)]
pub struct Run {
    /// The payload's exit status.
    pub status: i32,
    /// What it wrote to stdout and stderr.
    pub output: String,
}

impl Machine {
    /// A machine with the distribution's kernel, and a shell.
    pub fn new() -> Result<Self> {
        Self::with(INIT, None)
    }

    /// A machine that goes on from the system on this disk; the payload is run once that is up, also
    /// after it has restarted.
    pub fn from_disk(image: PathBuf) -> Result<Self> {
        Self::with(INIT_FROM_DISK, Some(image))
    }

    fn with(init: &[u8], disk: Option<PathBuf>) -> Result<Self> {
        let kernel = Kernel::find()?;
        let busybox = program("busybox").context("busybox not found")?;
        let needs = Needs::of(&busybox)?;
        ensure!(needs.is_nothing(), "{} is not static: {needs:?}", busybox.display());
        let mut base = Archive::default();
        for directory in ["bin", "etc", "modules", "payload", "root"] {
            base.directory(directory)?;
        }
        base.program("init", init)?;
        base.program("bin/busybox", &fs::read(busybox)?)?;
        base.file("etc/passwd", PASSWD)?;
        base.file("etc/group", GROUP)?;
        for (name, content) in &kernel.modules {
            base.file(&format!("modules/{name}"), content)?;
        }
        Ok(Self { kernel: kernel.image, base: base.finish()?, disk })
    }

    /// Boots with this TPM, runs the payload and switches off. All of it ends within `timeout`, and
    /// with this process.
    pub fn run(&self, tpm: &Bus, payload: &Payload<'_>, timeout: Duration) -> Result<Run> {
        let scratch = Scratch::new("endorse-vm")?;
        let home = scratch.path();
        let image = home.join("initramfs");
        let (console, output) = (home.join("console"), home.join("output"));
        fs::write(&image, [self.base.as_slice(), &archive(payload)?].concat())?;

        let mut machine = Command::new("qemu-system-x86_64");
        machine.args(MACHINE);
        match &self.disk {
            None => machine.args(["-m", "256", "-no-reboot"]),
            Some(disk) => {
                let drive = format!("if=virtio,format=raw,snapshot=on,file={}", disk.display());
                machine.args(["-m", "768", "-drive", &drive])
            }
        };
        machine.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&image);
        machine.args(["-append", ARGUMENTS]);
        machine.args(["-serial", &format!("file:{}", console.display())]);
        machine.args(["-serial", &format!("file:{}", output.display())]);
        machine.args(["-chardev", &format!("socket,id=chrtpm,path={}", tpm.socket().display())]);
        machine.args(["-tpmdev", "emulator,id=tpm0,chardev=chrtpm"]);
        machine.args(["-device", "tpm-tis,tpmdev=tpm0"]);
        machine.args(["-nic", "user,model=virtio-net-pci,ipv6=off"]);
        let log = home.join("qemu.log");
        machine.stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut guest = Guarded::spawn(&mut machine, Some(home))?;

        let deadline = Instant::now() + timeout;
        let ended = loop {
            if let Some(status) = guest.exited()? {
                break Some(status);
            }
            if Instant::now() > deadline {
                break None;
            }
            thread::sleep(Duration::from_millis(20));
        };
        let read = |path: &Path| {
            fs::read(path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        let (console, output) = (read(&console), read(&output));
        // Another program may have started the line, such as a login prompt.
        let status = console.lines().find_map(|line| line.split_once(EXIT)?.1.trim().parse().ok());
        match (ended, status) {
            (Some(_), Some(status)) => Ok(Run { status, output }),
            (Some(ended), None) => bail!(
                "the guest ended ({ended}) and not its payload:\n{}\n{console}\n{output}",
                read(&log)
            ),
            (None, _) => {
                bail!("the guest runs on after {} s:\n{console}\n{output}", timeout.as_secs())
            }
        }
    }
}

fn archive(payload: &Payload<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (name, content) in payload.files {
        archive.file(&format!("payload/{name}"), content)?;
    }
    for (name, content) in payload.programs {
        archive.program(&format!("payload/{name}"), content)?;
    }
    archive.finish()
}
