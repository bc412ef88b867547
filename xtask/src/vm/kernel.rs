//! A kernel for guests: the distribution's, downloaded and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{output, target_directory};

/// Names the kernel of the day; its flavour for clouds boots in half the time of the full one.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// What disks and networking need, in the order in which it has to be loaded. TPM drivers are built
/// in.
const MODULES: [&str; 9] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
];

/// The list of modules that are part of the image.
const BUILT_IN: &str = "modules.builtin";

/// A kernel and the modules that a guest loads, in order.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The image.
    pub image: PathBuf,
    /// Names and contents.
    pub modules: Vec<(String, Vec<u8>)>,
}

impl Kernel {
    /// The distribution's kernel, from the target directory or else downloaded into it.
    pub fn find() -> Result<Self> {
        let home = target_directory().join("vm/kernels");
        fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
        let package = match package_of_the_day() {
            Ok(package) => package,
            // Without package lists, use an older one.
            Err(error) => newest(&home)?.ok_or(error)?,
        };
        let directory = home.join(&package);
        if Self::read(&directory).is_err() {
            // It may be from a time when less was needed.
            let _ = fs::remove_dir_all(&directory);
            eprintln!("Downloading a kernel for guests: apt-get download {package}");
            let draft = home.join(format!("draft-{}", std::process::id()));
            let made = download(&package, &draft)
                .and_then(|()| fs::rename(&draft, &directory).context("naming the kernel"));
            let _ = fs::remove_dir_all(&draft);
            made?;
        }
        Self::read(&directory)
    }

    fn read(directory: &Path) -> Result<Self> {
        let mut files = Vec::new();
        walk(directory, &mut files)?;
        let named = |path: &&PathBuf, name: &str| {
            path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name))
        };
        let image = files.iter().find(|path| named(path, "vmlinuz-")).context("no vmlinuz")?;
        let list = files.iter().find(|path| named(path, BUILT_IN)).context(BUILT_IN)?;
        let built_in = fs::read_to_string(list)?;
        let mut modules = Vec::new();
        for (number, name) in MODULES.iter().enumerate() {
            match files.iter().find(|path| named(path, &format!("{name}.ko"))) {
                Some(path) => modules.push((format!("{number}-{name}.ko"), module(path)?)),
                // What is built in needs no loading.
                None => ensure!(built_in.contains(&format!("/{name}.ko")), "no module {name}"),
            }
        }
        Ok(Self { image: image.clone(), modules })
    }
}

fn package_of_the_day() -> Result<String> {
    let mut apt = Command::new("apt-cache");
    let text = output(apt.args(["depends", META_PACKAGE]).env("LC_ALL", "C"))?;
    let package = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let rest = package.with_context(|| {
        format!("the package lists do not know {META_PACKAGE}; `apt-get update` fetches them")
    })?;
    Ok(format!("linux-image-{rest}"))
}

/// The kernel downloaded last.
fn newest(home: &Path) -> Result<Option<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("linux-image-") {
            names.push((entry.metadata()?.modified()?, name));
        }
    }
    Ok(names.into_iter().max().map(|(_, name)| name))
}

/// Has apt fetch the package, and check it, and takes out the few files that a guest needs.
fn download(package: &str, draft: &Path) -> Result<()> {
    fs::create_dir_all(draft)?;
    let mut apt = Command::new("apt-get");
    // As root, apt fetches as a user of its own, who cannot write here.
    apt.args(["--quiet", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(draft);
    output(&mut apt).context("downloading a kernel")?;
    let entries = fs::read_dir(draft)?.collect::<Result<Vec<_>, _>>()?;
    let deb = entries
        .iter()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let deb = deb.context("apt-get downloaded nothing")?;
    let mut unpack =
        Command::new("dpkg").arg("--fsys-tarfile").arg(&deb).stdout(Stdio::piped()).spawn()?;
    let archive = unpack.stdout.take().context("no pipe")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--wildcards", "*/vmlinuz-*", &format!("*/{BUILT_IN}")]);
    tar.args(MODULES.map(|name| format!("*/{name}.ko*"))).stdin(archive).current_dir(draft);
    // Members that are not there are built in: what counts is the image.
    let output = tar.output().context("cannot run tar")?;
    let unpacked = unpack.wait()?;
    fs::remove_file(&deb)?;
    if let Err(error) = Kernel::read(draft) {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{package} cannot be used ({unpacked}): {error:#}: {said}");
    }
    Ok(())
}

/// A module as the guest loads it. Newer distributions compress them.
fn module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(path).output();
    let output = output.context("cannot run xz")?;
    ensure!(output.status.success(), "{} cannot be decompressed", path.display());
    Ok(output.stdout)
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?
    {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
