//! Checks that reload hooks can be run and directories written, before the first certificates are issued.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use host::config::finding::{Finding, Severity};
use host::exit::Failure;
use rustix::fs::{Access, access};

use super::elf;
use super::settings::HOOK_PATH;
use super::settings::{Destination, ReloadAction, Service, Settings, Storage};
use crate::file_access;
use crate::trusted;

/// How much of the first line of a script the kernel reads.
const MAX_SHEBANG: usize = 255;

/// Faults of the hooks and directories of all services on this host.
pub(crate) fn findings(settings: &Settings) -> Vec<Finding> {
    let storage = match settings.storage.clone() {
        Storage::Directory(directory) => in_time(directory.path.display().to_string(), move || {
            not_a_directory("storage", &directory.path).into_iter().collect()
        }),
        Storage::Memory => Vec::new(),
    };
    let services = settings.services.iter().cloned().flat_map(|service| {
        in_time(format!("the files of {}", service.name), move || of_service(&service))
    });
    storage.into_iter().chain(services).collect()
}

/// What `look` finds, or that the files of this name hang.
fn in_time(name: String, look: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Vec<Finding> {
    let found = file_access::limited(name, move || Ok(look()));
    found.unwrap_or_else(|failure| vec![finding(Severity::Error, failure.message, &failure.advice)])
}

fn of_service(service: &Service) -> Vec<Finding> {
    let name = &service.name;
    let directory = match &service.destination {
        Destination::Directory { directory, .. } => {
            not_a_directory(&format!("the destination of {name}"), &directory.path)
        }
        Destination::Memory => None,
    };
    let hook = service.reload.as_ref().and_then(|reload| of_hook(name.as_str(), &reload.action));
    directory.into_iter().chain(hook).collect()
}

fn of_hook(service: &str, action: &ReloadAction) -> Option<Finding> {
    let whose = |what: String| format!("the reload hook of {service}: {what}");
    match action {
        ReloadAction::Command { program, arguments } => of_command(program, arguments)
            .map(|(severity, what, advice)| finding(severity, whose(what), &advice)),
        ReloadAction::SystemdUnit(_) => of_program("systemctl")
            .map(|(severity, what, advice)| finding(severity, whose(what), &advice)),
        ReloadAction::Signal { pid_file, .. } => {
            let is_link = fs::symlink_metadata(pid_file).is_ok_and(|found| found.is_symlink());
            is_link.then(|| {
                let what = whose(format!("{} is a symbolic link", pid_file.display()));
                finding(Severity::Error, what, "give the path of the link's target")
            })
        }
    }
}

/// As [`of_program`]; of `env` also for the program that it runs.
fn of_command(program: &str, arguments: &[String]) -> Option<(Severity, String, String)> {
    let behind = || {
        let program = behind_env(program, arguments.iter().map(String::as_str))?;
        of_program(program)
    };
    of_program(program).or_else(behind)
}

/// The program that `env` runs; none if `env` has options or sets the search path.
fn behind_env<'a>(program: &str, arguments: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if Path::new(program).file_name() != Some("env".as_ref()) {
        return None;
    }
    for argument in arguments {
        match argument.split_once('=') {
            Some(("PATH", _)) => return None,
            Some(_) => {}
            None => return Some(argument).filter(|argument| !argument.starts_with('-')),
        }
    }
    None
}

/// Why a program cannot be run, with advice.
fn of_program(program: &str) -> Option<(Severity, String, String)> {
    let error = |what: String, advice: &str| Some((Severity::Error, what, advice.to_owned()));
    let Some(path) = find(program) else {
        return error(
            format!("{program} does not exist"),
            &format!("install it, or give its path; the search path is {}", HOOK_PATH),
        );
    };
    let shown = path.display();
    let Ok(metadata) = fs::metadata(&path) else {
        return error(format!("{shown} does not exist"), "");
    };
    if !metadata.is_file() {
        return error(format!("{shown} is not a regular file"), "give a program");
    }
    if !can_execute(&path) {
        return error(format!("{shown} cannot be executed"), &format!("chmod +x {shown}"));
    }
    match of_content(&path) {
        Err(cause) => return error(format!("{shown}: {cause}"), ""),
        Ok(Some((what, advice))) => return error(format!("{shown} {what}"), &advice),
        Ok(None) => {}
    }
    let Failure { message, advice, .. } = trusted::check(&path).err()?;
    Some((Severity::Warning, message, advice))
}

/// Faults in the content of a program.
fn of_content(path: &Path) -> std::io::Result<Option<(String, String)>> {
    let file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(MAX_SHEBANG as u64).read_to_end(&mut head)?;
    if head.starts_with(elf::MAGIC) {
        let fault = elf::fault(&file)?;
        return Ok(fault.map(|fault| (fault.to_string(), fault.advice().into())));
    }
    let Some(line) = head.strip_prefix(b"#!") else {
        let advice = "start it with the interpreter's path, as in #!/bin/sh";
        return Ok(Some(("does not start with an interpreter line".into(), advice.into())));
    };
    Ok(of_interpreter_line(line))
}

/// What is wrong with a script's first line, behind its `#!`.
fn of_interpreter_line(line: &[u8]) -> Option<(String, String)> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        let advice = "convert it to Unix line endings: sed -i 's/\\r$//'";
        return Some((
            "has an interpreter line with a Windows line ending (CRLF)".into(),
            advice.into(),
        ));
    }
    let text = String::from_utf8_lossy(line);
    let interpreter = text.split_ascii_whitespace().next().unwrap_or_default();
    let path = Path::new(interpreter);
    if interpreter.is_empty() || !path.is_file() || !can_execute(path) {
        let what = format!("needs the interpreter {interpreter:?}, which cannot be run");
        return Some((what, "install it, or correct the interpreter line".into()));
    }
    // The kernel passes the rest of the line as one argument.
    let rest = text.trim_start().strip_prefix(interpreter)?.trim();
    let program = behind_env(interpreter, std::iter::once(rest).filter(|rest| !rest.is_empty()))?;
    find(program).is_none_or(|path| !can_execute(&path)).then(|| {
        let what = format!("needs the interpreter {program:?}, which cannot be run");
        (what, format!("install it in one of {HOOK_PATH}, or correct the interpreter line"))
    })
}

/// Where a program is that is run with our `PATH`, from the root of the file system.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(Path::new("/").join(program));
    }
    let directories = HOOK_PATH.split(':').map(|directory| Path::new(directory).join(program));
    let there: Vec<PathBuf> = directories.filter(|path| path.is_file()).collect();
    there.iter().find(|path| can_execute(path)).or(there.first()).cloned()
}

fn can_execute(path: &Path) -> bool {
    let path = CString::new(path.as_os_str().as_bytes()).ok();
    path.is_some_and(|path: CString| {
        let path: &CStr = &path;
        access(path, Access::EXEC_OK).is_ok()
    })
}

fn not_a_directory(whose: &str, path: &Path) -> Option<Finding> {
    let metadata = fs::metadata(path).ok()?;
    (!metadata.is_dir()).then(|| {
        let what = format!("{whose}: {} is not a directory", path.display());
        finding(Severity::Error, what, "choose another path")
    })
}

fn finding(severity: Severity, message: String, advice: &str) -> Finding {
    let advice = Some(advice.to_owned()).filter(|advice| !advice.is_empty());
    Finding { severity, location: None, message, advice }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(directory: &Path, content: &str, mode: u32) -> String {
        let path = directory.join("hook");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    #[test]
    fn hooks_that_cannot_be_run_are_found() {
        let outer = tempfile::tempdir().unwrap();
        let at = outer.path();
        for (content, mode, words) in [
            ("#!/bin/sh\n", 0o755, None),
            ("#! /bin/sh -e\nx", 0o700, None),
            ("#!/bin/sh\n", 0o644, Some("cannot be executed")),
            ("#!/bin/sh\r\ntrue\r\n", 0o755, Some("CRLF")),
            ("#!/no/such/sh\n", 0o755, Some("\"/no/such/sh\", which cannot be run")),
            ("#!/tmp\n", 0o755, Some("cannot be run")),
            ("#!\n", 0o755, Some("cannot be run")),
            ("#!/usr/bin/env sh\n", 0o755, None),
            ("#!/usr/bin/env -S sh -e\n", 0o755, None),
            ("#!/usr/bin/env no-such-program\n", 0o755, Some("\"no-such-program\", which")),
            ("#!/usr/bin/env sh -e\n", 0o755, Some("\"sh -e\", which cannot be run")),
            ("\x7fELF", 0o755, Some("damaged")),
            ("true\n", 0o755, Some("interpreter line")),
            ("", 0o755, Some("interpreter line")),
        ] {
            let found = of_program(&script(at, content, mode));
            match (words, found) {
                (None, found) => assert_eq!(found, None, "{content:?}"),
                (Some(words), Some((severity, what, _))) => {
                    assert!(severity == Severity::Error && what.contains(words), "{what}");
                }
                (Some(words), None) => panic!("{content:?} is not found to have {words}"),
            }
        }
        assert!(of_program("/no/such/program").unwrap().1.contains("does not exist"));
        assert!(of_program("no-such-program").unwrap().2.contains("/usr/bin"));
        assert!(of_program(&at.display().to_string()).unwrap().1.contains("is not a regular file"));
        assert_eq!(of_program("sh"), None);
        assert_eq!(of_program("/bin/sh"), None);
        let open = of_program(&script(at, "#!/bin/sh\n", 0o777)).unwrap();
        assert!(
            open.0 == Severity::Warning && open.1.contains("other users can write to"),
            "{open:?}"
        );
    }

    #[test]
    fn program_that_env_would_run_is_looked_for() {
        for (arguments, words) in [
            (&["sh"][..], None),
            (&["no-such-program"], Some("no-such-program does not exist")),
            (&["A=b", "/no/such/program", "x"], Some("/no/such/program does not exist")),
            (&["PATH=/opt", "no-such-program"], None),
            (&["-u", "A", "no-such-program"], None),
            (&[], None),
        ] {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            let found = of_command("env", &arguments).map(|(_, what, _)| what);
            assert_eq!(found.as_deref(), words, "{arguments:?}");
        }
    }

    #[test]
    fn files_in_the_place_of_directories_and_links_to_pid_files_are_found() {
        let outer = tempfile::tempdir().unwrap();
        assert!(not_a_directory("storage", Path::new("/etc/passwd")).is_some());
        assert!(not_a_directory("storage", Path::new("/dev/null")).is_some());
        assert!(not_a_directory("storage", outer.path()).is_none());
        assert!(not_a_directory("storage", &outer.path().join("absent")).is_none());
        let pid_file = outer.path().join("pid");
        std::os::unix::fs::symlink("other", &pid_file).unwrap();
        let action = ReloadAction::Signal { signal: crate::config::Signal::Hup, pid_file };
        assert!(of_hook("web", &action).unwrap().message.contains("is a symbolic link"));
    }
}
