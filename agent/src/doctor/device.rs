//! What the kernel says of a TPM, and whether we may use it. sysfs: Documentation/ABI/stable/sysfs-class-tpm.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use host::exit::{Exit, Failure};
use rustix::process::{geteuid, getgroups};
use tpm2::transport::Tcti;

use super::{Check, Topic};
use crate::tpm::failure::use_another_device;

const NONE_ADVICE: &str = "enable it in the firmware settings (it may be called fTPM, PTT or Security Device); in a \
     virtual machine or a container, give it one";

/// Whether there is a TPM 2.0 behind this path.
pub(super) fn examine(root: &Path, path: &Path) -> Check {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return absent(root, path),
        Err(cause) => return Check::fail(Topic::Device, Failure::io(&cause, path.display())),
    };
    if !metadata.file_type().is_char_device() {
        let message = format!("{} is not a device", path.display());
        let advice = "give the path of a TPM's device, such as device:/dev/tpmrm0";
        return Check::fail(Topic::Device, Failure::new(Exit::Config, message, advice));
    }
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let managed = name.starts_with("tpmrm");
    let class = root.join("sys/class/tpm").join(name.replace("tpmrm", "tpm"));
    if major(&class).as_deref() == Some("1") {
        return Check::fail(Topic::Device, old(path));
    }
    let driver = driver(&class).map(|driver| format!(", driver {driver}")).unwrap_or_default();
    if managed {
        let through = "through the kernel's resource manager";
        Check::ok(Topic::Device, format!("{}{driver}, {through}", path.display()))
    } else {
        Check::warn(
            Topic::Device,
            format!("{}{driver}, which only one program can use at a time", path.display()),
            "use device:/dev/tpmrm0, which programs can share",
        )
    }
}

/// Why there is no such device.
fn absent(root: &Path, path: &Path) -> Check {
    let fail = |message: String, advice: &str| {
        Check::fail(Topic::Device, Failure::new(Exit::Io, message, advice))
    };
    let mut tpms: Vec<_> = fs::read_dir(root.join("sys/class/tpm"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    tpms.sort();
    let Some(class) = tpms.first() else {
        // Where the firmware tells of a TPM 2.0: TCG ACPI specification.
        return if root.join("sys/firmware/acpi/tables/TPM2").exists() {
            fail(
                format!(
                    "no {}: the firmware reports a TPM 2.0, but no driver is bound to it",
                    path.display()
                ),
                "run `modprobe tpm_crb` or `modprobe tpm_tis`, and check `dmesg | grep -i tpm`",
            )
        } else {
            fail(format!("no {}: the kernel has found no TPM", path.display()), NONE_ADVICE)
        };
    };
    let name = class.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match (major(class).as_deref(), driver(class)) {
        (Some("1"), _) => Check::fail(Topic::Device, old(class)),
        (_, driver) => {
            let driver = driver.unwrap_or_else(|| "unknown".into());
            let advice = use_another_device(path);
            fail(
                format!("no {}, but the kernel has {name} (driver {driver})", path.display()),
                advice.as_deref().unwrap_or(
                    "pass the device to the container; outside containers, check that udev runs",
                ),
            )
        }
    }
}

fn old(path: &Path) -> Failure {
    Failure::new(
        Exit::Io,
        format!("{} is a TPM 1.2; a TPM 2.0 is required", path.display()),
        "switch it to 2.0 in the firmware settings, if it supports that",
    )
}

/// `tpm_version_major`, which kernels have from 5.6 on.
fn major(class: &Path) -> Option<String> {
    let text = fs::read_to_string(class.join("tpm_version_major")).ok()?;
    Some(text.trim().to_owned())
}

fn driver(class: &Path) -> Option<String> {
    let link = fs::read_link(class.join("device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// It could be opened.
pub(super) fn opened(root: &Path, address: &Tcti) -> Check {
    match address {
        Tcti::Device(path) => Check::ok(
            Topic::Access,
            format!("user {1} can open {0}", path.display(), user(root, geteuid().as_raw())),
        ),
        address => Check::ok(Topic::Access, format!("{address} is reachable")),
    }
}

/// It could not.
pub(super) fn refused(root: &Path, address: &Tcti, failure: Failure) -> Check {
    let detailed = match (address, failure.exit) {
        (Tcti::Device(path), Exit::Permission) => permission(root, path),
        (Tcti::Device(path), Exit::Busy) => holder(root, path),
        _ => None,
    };
    Check::fail(Topic::Access, detailed.unwrap_or(failure))
}

fn permission(root: &Path, path: &Path) -> Option<Failure> {
    let metadata = fs::metadata(path).ok()?;
    let (owner, group) = (user(root, metadata.uid()), name(root, "group", metadata.gid()));
    let (us, mode) = (user(root, geteuid().as_raw()), metadata.mode() & 0o777);
    let groups = getgroups().unwrap_or_default();
    let groups: Vec<_> = groups.iter().map(|id| name(root, "group", id.as_raw())).collect();
    let message = format!(
        "{} belongs to {owner}:{group} with mode {mode:04o}, and user {us} (groups: {}) has no access",
        path.display(),
        groups.join(" ")
    );
    let advice = if metadata.gid() != 0 && mode & 0o060 == 0o060 {
        format!(
            "run usermod -aG {group} {us} and log in again; a systemd unit needs SupplementaryGroups={group}, as `agent install systemd` writes it"
        )
    } else {
        "run as root, or give the group tss access with `agent install udev --write`".to_owned()
    };
    Some(Failure::new(Exit::Permission, message, advice))
}

/// Who has the device open, as far as we may see it.
fn holder(root: &Path, path: &Path) -> Option<Failure> {
    let (id, name) = fs::read_dir(root.join("proc")).ok()?.flatten().find_map(|process| {
        let directory = process.path();
        let holds = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|at| at == path);
        fs::read_dir(directory.join("fd")).ok()?.flatten().any(holds).then(|| {
            let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
            (process.file_name().to_string_lossy().into_owned(), name.trim().to_owned())
        })
    })?;
    Some(Failure::new(
        Exit::Busy,
        format!("{} is in use by process {id} ({name})", path.display()),
        "stop that program, or use device:/dev/tpmrm0, which programs can share",
    ))
}

fn user(root: &Path, id: u32) -> String {
    name(root, "passwd", id)
}

/// The name of a user or group, or else its number. passwd(5), group(5): name:password:id:...
fn name(root: &Path, file: &str, id: u32) -> String {
    let text = fs::read_to_string(root.join("etc").join(file)).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::Verdict;
    use super::*;

    /// A root with a TPM of this version as the kernel shows it.
    fn root(version: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        if let Some(version) = version {
            let class = root.path().join("sys/class/tpm/tpm0");
            fs::create_dir_all(class.join("device")).unwrap();
            fs::write(class.join("tpm_version_major"), format!("{version}\n")).unwrap();
            symlink("../../bus/drivers/tpm_crb", class.join("device/driver")).unwrap();
        }
        root
    }

    #[test]
    fn missing_device_is_explained_as_far_as_the_kernel_knows() {
        let none = root(None);
        let path = Path::new("/dev/absent/tpmrm0");
        let check = examine(none.path(), path);
        assert!(check.finding.ends_with("the kernel has found no TPM"), "{}", check.finding);
        let tables = none.path().join("sys/firmware/acpi/tables");
        fs::create_dir_all(&tables).unwrap();
        fs::write(tables.join("TPM2"), "").unwrap();
        assert!(examine(none.path(), path).advice.unwrap().contains("modprobe"));
        let hidden = examine(root(Some("2")).path(), path);
        assert!(
            hidden.finding.contains("the kernel has tpm0 (driver tpm_crb)"),
            "{}",
            hidden.finding
        );
        let old = examine(root(Some("1")).path(), path);
        assert!(old.finding.contains("TPM 1.2"), "{}", old.finding);
        for check in [check, hidden, old] {
            assert_eq!((check.verdict, check.exit), (Verdict::Fail, Some(Exit::Io)));
        }
    }

    #[test]
    fn user_without_access_learns_which_group_has_it() {
        let root = root(None);
        fs::create_dir(root.path().join("etc")).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let group = metadata.gid();
        fs::write(root.path().join("etc/group"), format!("other:x:4711:\ntss:x:{group}:\n"))
            .unwrap();
        let us = geteuid().as_raw();
        fs::write(root.path().join("etc/passwd"), format!("jo:x:{us}:{group}::/:/bin/sh\n"))
            .unwrap();
        let failure = permission(root.path(), file.path()).unwrap();
        assert!(
            failure.message.contains("belongs to jo:tss with mode 0600, and user jo"),
            "{failure}"
        );
        assert_eq!(failure.exit, Exit::Permission);
        assert!(failure.advice.contains("agent install udev --write"), "{failure}");
    }

    #[test]
    fn process_that_holds_the_device_is_named() {
        let root = root(None);
        let process = root.path().join("proc/4711");
        fs::create_dir_all(process.join("fd")).unwrap();
        fs::write(process.join("comm"), "tpm2-abrmd\n").unwrap();
        symlink("/dev/tpm0", process.join("fd/5")).unwrap();
        let failure = holder(root.path(), Path::new("/dev/tpm0")).unwrap();
        assert!(failure.message.contains("in use by process 4711 (tpm2-abrmd)"), "{failure}");
        assert!(holder(root.path(), Path::new("/dev/tpm1")).is_none());
    }
}
