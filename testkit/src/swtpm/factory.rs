//! Where software TPMs come from: a manufacturer's EK CA, and TPMs that leave the factory with what
//! the EK credential profile lets a manufacturer put in.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use base16ct::lower::encode_string as hex;

use super::{Swtpm, copy_state};
use crate::program::program;
use crate::workspace::target_directory;

/// What a factory runs.
const PROGRAMS: [&str; 5] = ["swtpm", "swtpm_setup", "swtpm_localca", "certtool", "openssl"];

/// Raised when the generated TPMs change, so that older ones are not reused.
const EDITION: &str = "v1";
const SPECIFICATION: [&str; 12] = [
    "--tpm-spec-family",
    "2.0",
    "--tpm-spec-level",
    "0",
    "--tpm-spec-revision",
    "164",
    "--tpm-manufacturer",
    "id:00001014",
    "--tpm-model",
    "swtpm",
    "--tpm-version",
    "id:20191023",
];

const RSA_EK: u32 = 0x8101_0001;
const RSA_CERTIFICATE: u32 = 0x01C0_0002;
const P256_EK: u32 = 0x8101_000A;
const P256_CERTIFICATE: u32 = 0x01C0_000A;

/// Who makes a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The one whose CA tests trust.
    Vendor,
    /// Another one, whose CAs have the same names and other keys.
    Namesake,
}

/// What a TPM leaves the factory with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RSA-2048 (certificate 0x01c00002, key 0x81010001) and P-384 (0x01c00016, 0x81010016).
    RsaAndP384,
    /// The same, but the RSA key is not persistent.
    RsaNotPersistent,
    /// P-384 alone: certificate 0x01c00016, key 0x81010016.
    P384Only,
    /// P-256 alone: certificate 0x01c0000a, key 0x8101000a.
    P256,
    /// The certificate 0x01c0000a alone; the key has to be created.
    P256NotPersistent,
    /// Neither certificates nor persistent keys.
    NoCertificates,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 6] = [
        Self::RsaAndP384,
        Self::RsaNotPersistent,
        Self::P384Only,
        Self::P256,
        Self::P256NotPersistent,
        Self::NoCertificates,
    ];
}

/// Makes TPMs, each once per machine, and keeps them in the target directory. Any number of processes
/// may ask at once.
#[derive(Clone, Debug)]
pub struct Factory {
    home: PathBuf,
}

/// The CA of a manufacturer: a self-signed root and the intermediate that signs EK certificates.
#[derive(Clone, Debug)]
pub struct Ca {
    home: PathBuf,
    root_pem: String,
    issuer_pem: String,
}

/// A TPM as it left the factory. It is never modified: users work on a copy.
#[derive(Clone, Debug)]
pub struct Manufactured {
    state: PathBuf,
    ca: Ca,
}

impl Factory {
    /// The factory in the target directory, shared by all that runs on this machine.
    pub fn shared() -> Self {
        Self::at(target_directory().join("tpms"))
    }

    /// A factory that keeps what it makes under `home`.
    pub fn at(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into().join(EDITION) }
    }

    /// A TPM of this kind; always the same one.
    pub fn tpm(&self, maker: Maker, kind: Kind) -> Result<Manufactured> {
        self.unit(maker, kind, 0)
    }

    /// One of many TPMs of this kind; each number is a TPM with keys of its own.
    pub fn unit(&self, maker: Maker, kind: Kind, number: u16) -> Result<Manufactured> {
        let ca = self.ca(maker)?;
        let state = self.home.join(format!("{maker:?}-{kind:?}-{number}"));
        self.make(&state, |draft| manufacture(draft, &ca, kind, number))
            .with_context(|| format!("making a TPM ({maker:?}, {kind:?})"))?;
        Ok(Manufactured { state, ca })
    }

    /// The CA of this manufacturer.
    pub fn ca(&self, maker: Maker) -> Result<Ca> {
        let home = self.home.join(format!("{maker:?}-CA"));
        self.make(&home, found_ca).with_context(|| format!("making the EK CA of {maker:?}"))?;
        let read = |name: &str| {
            let path = home.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let root_pem = read("swtpm-localca-rootca-cert.pem")?;
        let issuer_pem = read("issuercert.pem")?;
        Ok(Ca { home, root_pem, issuer_pem })
    }

    /// Fills a draft and gives it its name when it is whole. One at a time: the CA counts its
    /// serial numbers.
    fn make(&self, place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if place.is_dir() {
            return Ok(());
        }
        let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| program(name).is_none()).collect();
        ensure!(
            missing.is_empty(),
            "{} not found; `cargo xtask setup` installs it",
            missing.join(", ")
        );
        fs::create_dir_all(&self.home)
            .with_context(|| format!("making {}", self.home.display()))?;
        let _locked = self.lock()?;
        if place.is_dir() {
            return Ok(());
        }
        let draft = self.home.join("draft");
        if draft.exists() {
            fs::remove_dir_all(&draft).context("removing an unfinished draft")?;
        }
        fs::create_dir(&draft)?;
        fill(&draft)?;
        fs::rename(&draft, place).with_context(|| format!("naming {}", place.display()))
    }

    fn lock(&self) -> Result<File> {
        let path = self.home.join("lock");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        file.lock().with_context(|| format!("locking {}", path.display()))?;
        Ok(file)
    }
}

impl Ca {
    /// The self-signed root, PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The intermediate that signs EK certificates, PEM.
    pub fn issuer_pem(&self) -> &str {
        &self.issuer_pem
    }
}

impl Manufactured {
    /// The directory with its state.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Who signed its EK certificates.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Switches on a copy of it, on a Unix socket.
    pub fn start(&self) -> Result<Swtpm> {
        Swtpm::start(&self.state)
    }

    /// As [`Self::start`], with physical presence asserted.
    pub fn start_attended(&self) -> Result<Swtpm> {
        Swtpm::start_attended(&self.state)
    }

    /// Switches on a copy of it, on TCP, where tpm2-tools can talk to it too.
    pub fn start_tcp(&self) -> Result<Swtpm> {
        Swtpm::start_tcp(&self.state)
    }
}

/// Makes swtpm_localca create its CA, with a certificate for a key that is not used: the base point
/// of P-256.
fn found_ca(draft: &Path) -> Result<()> {
    let base = "x=6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296,\
                y=4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5,id=secp256r1";
    configure(draft, draft)?;
    certify(draft, draft, base, "unused")?;
    for leftover in ["ek.cert", "swtpm-localca.conf", "swtpm-localca.options", "swtpm_setup.conf"] {
        fs::remove_file(draft.join(leftover)).with_context(|| format!("removing {leftover}"))?;
    }
    Ok(())
}

fn manufacture(draft: &Path, ca: &Ca, kind: Kind, number: u16) -> Result<()> {
    let work = draft.join("work");
    fs::create_dir(&work)?;
    configure(&work, &ca.home)?;
    let name = format!("endorse-{kind:?}-{number}").to_lowercase();
    set_up(draft, &work, kind, &name)?;
    let tpm = Swtpm::start(draft)?;
    match kind {
        Kind::RsaAndP384 => {}
        Kind::RsaNotPersistent => tpm.bare()?.evict_control(RSA_EK, RSA_EK)?,
        Kind::P384Only => {
            tpm.bare()?.evict_control(RSA_EK, RSA_EK)?;
            tpm.bare()?.undefine(RSA_CERTIFICATE)?;
        }
        Kind::P256 | Kind::P256NotPersistent => {
            let ek = tpm.bare()?.create_p256_ek()?;
            let point = format!("x={},y={},id=secp256r1", hex(&ek.x), hex(&ek.y));
            certify(&work, &work, &point, &name)?;
            tpm.bare()?.provision(P256_CERTIFICATE, &fs::read(work.join("ek.cert"))?)?;
            if kind == Kind::P256 {
                tpm.bare()?.evict_control(ek.handle, P256_EK)?;
            }
            tpm.bare()?.flush(ek.handle)?;
        }
        Kind::NoCertificates => {}
    }
    let finished = tpm.power_off();
    copy_state(&finished.state(), draft)?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// swtpm_setup makes the state; keys and certificates only of the kinds that it knows.
fn set_up(state: &Path, work: &Path, kind: Kind, name: &str) -> Result<()> {
    let mut command = Command::new("swtpm_setup");
    command.arg("--tpm2").arg("--tpm-state").arg(format!("dir://{}", state.display()));
    command.arg("--config").arg(work.join("swtpm_setup.conf"));
    command.args(["--pcr-banks", "sha1,sha256", "--vmid", name, "--overwrite"]);
    if matches!(kind, Kind::RsaAndP384 | Kind::RsaNotPersistent | Kind::P384Only) {
        command.args(["--createek", "--create-ek-cert", "--lock-nvram"]);
    }
    // As root it would otherwise become the user tss, who cannot write here.
    if fs::metadata("/proc/self")?.uid() == 0 {
        command.args(["--runas", "root"]);
    }
    run(&mut command)
}

/// Writes the three configuration files of swtpm's tools into `work`, for the CA in `ca`.
fn configure(work: &Path, ca: &Path) -> Result<()> {
    let absolute = |path: &Path| -> Result<String> {
        let path = std::path::absolute(path)?;
        let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        Ok(text.to_owned())
    };
    let (work_text, ca) = (absolute(work)?, absolute(ca)?);
    let tool = program("swtpm_localca").context("swtpm_localca not found")?;
    let write = |name: &str, text: String| {
        fs::write(work.join(name), text).with_context(|| format!("writing {name}"))
    };
    write(
        "swtpm-localca.conf",
        format!(
            "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\n\
             certserial = {ca}/certserial\n"
        ),
    )?;
    write(
        "swtpm-localca.options",
        "--platform-manufacturer Endorse\n--platform-version 1.0\n--platform-model Test\n".into(),
    )?;
    write(
        "swtpm_setup.conf",
        format!(
            "create_certs_tool = {}\ncreate_certs_tool_config = {work_text}/swtpm-localca.conf\n\
             create_certs_tool_options = {work_text}/swtpm-localca.options\n\
             active_pcr_banks = sha256\n",
            tool.display()
        ),
    )
}

/// Has the CA sign an EK certificate, `ek.cert` in the directory `into`.
fn certify(work: &Path, into: &Path, key: &str, name: &str) -> Result<()> {
    let mut command = Command::new("swtpm_localca");
    command.args(["--type", "ek", "--tpm2", "--ek", key, "--vmid", name]).args(SPECIFICATION);
    command.arg("--dir").arg(into);
    command.arg("--configfile").arg(work.join("swtpm-localca.conf"));
    command.arg("--optsfile").arg(work.join("swtpm-localca.options"));
    run(&mut command)
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
