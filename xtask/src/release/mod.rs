//! `cargo xtask release`: packages, archive, checksums and lists of ingredients, `dist` in the target
//! directory. Made twice from one commit they are the same, byte for byte, if the compilers
//! are.

mod deb;
mod sbom;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::elf::Needs;
use crate::setup::{self, Action, Purpose};
use crate::{cargo, musl, output, target_directory, workspace};

const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/@"),
    ("zsh", "usr/share/zsh/vendor-completions/_@"),
    ("fish", "usr/share/fish/vendor_completions.d/@.fish"),
];

/// What is shipped, and how it is linked.
struct Product {
    /// The program, and the crate that it is made from.
    name: &'static str,
    /// The platform that it is built for.
    platform: &'static str,
    program: PathBuf,
}

/// Builds and packs everything, and shows it.
pub fn run() -> Result<()> {
    for path in make()? {
        println!("{}  {} bytes", path.display(), fs::metadata(&path)?.len());
    }
    Ok(())
}

/// Builds and packs everything, and returns where it is.
pub fn make() -> Result<Vec<PathBuf>> {
    setup::run(Purpose::Release, Action::Install)?;
    let products = [
        // Runs on any host, whatever that has in the way of libraries.
        Product { name: "agent", platform: musl::TARGET, program: musl::build()? },
        // Works on many threads, where musl's allocator is slow; libc's fixes come from the
        // distribution.
        Product { name: "authority", platform: GLIBC, program: authority()? },
    ];
    let release = Release::begin()?;
    let mut shown = Vec::new();
    for product in &products {
        let tree = release.work.join(product.name);
        release.fill(product, &tree)?;
        shown.push(deb::build(&release, product, &tree)?);
        shown.push(release.sbom(product)?);
    }
    shown.push(release.archive(&products)?);
    shown.push(release.checksums(&shown)?);
    fs::remove_dir_all(&release.work)?;
    Ok(shown)
}

const GLIBC: &str = "x86_64-unknown-linux-gnu";

fn authority() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--release", "--package", "authority", "--target", GLIBC]);
    let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
    ensure!(status.success(), "the authority does not build ({status})");
    Ok(target_directory().join(GLIBC).join("release/authority"))
}

/// A release in the making.
struct Release {
    /// Where the results go.
    directory: PathBuf,
    /// Where the packages' file trees are.
    work: PathBuf,
    version: String,
    /// Seconds since 1970: when the last commit was made.
    epoch: String,
}

impl Release {
    fn begin() -> Result<Self> {
        let directory = target_directory().join("dist");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        let work = directory.join("work");
        fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
        let directory = directory.canonicalize()?;
        let work = directory.join("work");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut git = Command::new("git");
        git.args(["log", "-1", "--format=%ct"]).current_dir(workspace());
        // Outside of a checkout: the newest thing that a source archive has.
        let epoch = output(&mut git).or_else(|_| {
            output(Command::new("stat").args(["-c", "%Y"]).arg(workspace().join("Cargo.lock")))
        })?;
        Ok(Self { directory, work, version, epoch: epoch.trim().to_owned() })
    }

    /// The last commit's time as `date` writes it.
    fn date(&self, format: &str) -> Result<String> {
        let mut date = Command::new("date");
        date.args(["--utc", "--date", &format!("@{}", self.epoch), format]).env("LC_ALL", "C");
        Ok(output(&mut date)?.trim().to_owned())
    }

    /// The file tree of a package, without what only the packager needs.
    fn fill(&self, product: &Product, tree: &Path) -> Result<()> {
        let name = product.name;
        let package = format!("endorse-{name}");
        let run = |arguments: &[&str]| output(Command::new(&product.program).args(arguments));
        let doc = format!("usr/share/doc/{package}");
        write(&tree.join(format!("usr/bin/{name}")), &fs::read(&product.program)?, Mode::Program)?;

        let unit = run(&["install", "systemd", "--program", &format!("/usr/bin/{name}")])?;
        let units = tree.join("usr/lib/systemd/system");
        write(&units.join(format!("{package}.service")), unit.as_bytes(), Mode::File)?;
        let sysusers = tree.join(format!("usr/lib/sysusers.d/{package}.conf"));
        write(&sysusers, deb::sysusers(name)?.as_bytes(), Mode::File)?;
        for (shell, place) in SHELLS {
            let script = run(&["completions", shell])?;
            write(&tree.join(place.replace('@', name)), script.as_bytes(), Mode::File)?;
        }
        for (page, text) in pages(product)? {
            let path = tree.join(format!("usr/share/man/man1/{page}.1"));
            write(&path, text.as_bytes(), Mode::File)?;
            gzip(&path)?;
        }
        let filled = |text: &str| {
            Ok::<_, anyhow::Error>(
                text.replace("@PACKAGE@", &package)
                    .replace("@VERSION@", &self.version)
                    .replace("@DATE@", &self.date("+%a, %d %b %Y %H:%M:%S +0000")?),
            )
        };
        let copyright = filled(include_str!("data/copyright"))?;
        write(&tree.join(&doc).join("copyright"), copyright.as_bytes(), Mode::File)?;
        let changelog = tree.join(&doc).join("changelog");
        write(&changelog, filled(include_str!("data/changelog"))?.as_bytes(), Mode::File)?;
        gzip(&changelog)?;
        let sbom = sbom::of(self, product)?;
        write(&tree.join(&doc).join(format!("{package}.cdx.json")), sbom.as_bytes(), Mode::File)
    }

    /// The list of ingredients on its own.
    fn sbom(&self, product: &Product) -> Result<PathBuf> {
        let path =
            self.directory.join(format!("endorse-{}-{}.cdx.json", product.name, self.version));
        write(&path, sbom::of(self, product)?.as_bytes(), Mode::File)?;
        Ok(path)
    }

    /// Everything in one archive, for hosts without packages.
    fn archive(&self, products: &[Product]) -> Result<PathBuf> {
        let name = format!("endorse-{}-x86_64-linux", self.version);
        let inside = self.work.join(&name);
        for product in products {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(self.work.join(product.name).join("usr")).arg(&inside);
            fs::create_dir_all(&inside)?;
            output(&mut copy)?;
        }
        let files = [
            "README.md",
            "LICENSE",
            "CHANGELOG.md",
            "docs/hosts.md",
            "docs/workloads.md",
            "docs/authority.md",
            "docs/troubleshooting.md",
            "docs/upgrading.md",
            "docs/configuration.md",
        ];
        for file in files {
            let content = fs::read(workspace().join(file)).with_context(|| file.to_owned())?;
            let name = Path::new(file).file_name().unwrap_or(OsStr::new(file));
            write(&inside.join(name), &content, Mode::File)?;
        }
        let path = self.directory.join(format!("{name}.tar"));
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"]);
        tar.args([format!("--mtime=@{}", self.epoch), "--exclude=DEBIAN".to_owned()]);
        tar.arg("-cf").arg(&path).arg("-C").arg(&self.work).arg(&name);
        output(&mut tar)?;
        gzip(&path)?;
        Ok(path.with_extension("tar.gz"))
    }

    fn checksums(&self, files: &[PathBuf]) -> Result<PathBuf> {
        let mut sum = Command::new("sha256sum");
        sum.args(files.iter().filter_map(|path| path.file_name())).current_dir(&self.directory);
        let path = self.directory.join("SHA256SUMS");
        write(&path, output(&mut sum)?.as_bytes(), Mode::File)?;
        Ok(path)
    }
}

/// The manual pages: of the program, and of its verbs where they have their own.
fn pages(product: &Product) -> Result<Vec<(String, String)>> {
    let name = product.name;
    let run = |arguments: &[&str]| output(Command::new(&product.program).args(arguments));
    let mut pages = vec![(name.to_owned(), run(&["man"])?)];
    if name == "agent" {
        for verb in verbs(&run(&["--help"])?) {
            pages.push((format!("{name}-{verb}"), run(&["man", &verb])?));
        }
    }
    Ok(pages)
}

/// The verbs that a help text lists.
fn verbs(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect()
}

/// What a file of a package may be used for.
#[derive(Clone, Copy)]
enum Mode {
    File,
    Program,
}

fn write(path: &Path, content: &[u8], mode: Mode) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let directory = path.parent().context("a path")?;
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    fs::write(path, content).with_context(|| format!("writing {}", path.display()))?;
    let mode = match mode {
        Mode::File => 0o644,
        Mode::Program => 0o755,
    };
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn gzip(path: &Path) -> Result<()> {
    output(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(path)).map(drop)
}

/// The packages that a program needs: of libraries that it is linked to, the distribution's names.
fn depends(program: &Path) -> Result<String> {
    let needs = Needs::of(program)?;
    let mut packages = vec!["passwd".to_owned()];
    for library in &needs.libraries {
        match library.as_str() {
            "libgcc_s.so.1" => packages.push("libgcc-s1".to_owned()),
            "libc.so.6" => {
                let minor = needs.glibc_minor.context("a libc without a version")?;
                packages.push(format!("libc6 (>= 2.{minor})"));
            }
            // Parts of libc6.
            "libm.so.6" | "ld-linux-x86-64.so.2" => {}
            other => anyhow::bail!("{} needs {other}, of no package", program.display()),
        }
    }
    packages.sort();
    Ok(packages.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_found_in_a_help_text() {
        let help = "About\n\nUsage: agent <COMMAND>\n\nCommands:\n  identify  Show the TPM: what\n            \
                    an operator needs\n  join      Prove\n  help      Print\n\nOptions:\n  -h, --help\n";
        assert_eq!(verbs(help), ["identify", "join"]);
    }

    #[test]
    fn a_program_depends_on_what_it_is_linked_to() {
        let said = depends(&std::env::current_exe().unwrap()).unwrap();
        assert!(said.starts_with("libc6 (>= 2."), "{said}");
    }
}
