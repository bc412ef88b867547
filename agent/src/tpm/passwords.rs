//! The passwords of the TPM's hierarchies, each in a file that only the agent's user can read.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use host::bounded;
use host::exit::{Exit, Failure};
use tpm2::Fault;
use tpm2::endorsement;
use tpm2::types::{CommandCode, ResponseCode, SecretBuf, Subject};
use zeroize::Zeroizing;

use crate::tpm::failure;
use crate::trusted;

/// TPM2B_AUTH is at most as long as the longest digest. Part 2 §10.4.5.
const MAX_PASSWORD: usize = 64;

/// Where the passwords are.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct PasswordFiles {
    /// File with the password of the TPM's owner hierarchy; only the agent's user may have access
    #[arg(
        id = "owner_password_file",
        long = "owner-password-file",
        value_name = "FILE",
        env = "AGENT_OWNER_PASSWORD_FILE"
    )]
    pub owner: Option<PathBuf>,
    /// File with the password of the TPM's endorsement hierarchy; only the agent's user may have access
    #[arg(
        id = "endorsement_password_file",
        long = "endorsement-password-file",
        value_name = "FILE",
        env = "AGENT_ENDORSEMENT_PASSWORD_FILE"
    )]
    pub endorsement: Option<PathBuf>,
}

impl PasswordFiles {
    /// Reads what is there.
    ///
    /// # Errors
    /// A file cannot be read, others can read it, or it holds no password.
    pub fn read(&self) -> Result<Passwords, Failure> {
        let read = |path: &Option<PathBuf>| match path {
            Some(path) => password(path),
            None => Ok(nothing()),
        };
        Ok(Passwords { owner: read(&self.owner)?, endorsement: read(&self.endorsement)? })
    }
}

/// The passwords of the hierarchies; empty by default.
#[derive(Clone, Debug)]
pub struct Passwords {
    owner: SecretBuf,
    endorsement: SecretBuf,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { owner: nothing(), endorsement: nothing() }
    }
}

impl Passwords {
    /// As the TPM stack wants them.
    #[must_use]
    pub fn as_tpm(&self) -> endorsement::Passwords<'_> {
        endorsement::Passwords {
            owner: self.owner.expose(),
            endorsement: self.endorsement.expose(),
        }
    }

    /// The endorsement hierarchy's.
    pub(crate) fn endorsement(&self) -> &SecretBuf {
        &self.endorsement
    }

    /// Explains a TPM error, in terms of passwords if it is about one.
    pub(crate) fn explain<E: Error + 'static>(&self, error: tpm2::Error<E>) -> Failure {
        let is_about_password =
            matches!(error.refusal(), Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL));
        let (hierarchy, password) = match error.command() {
            _ if !is_about_password => return failure::command(error),
            CommandCode::CREATE_PRIMARY | CommandCode::POLICY_SECRET => {
                ("endorsement", &self.endorsement)
            }
            CommandCode::NV_READ => ("owner", &self.owner),
            _ => return failure::command(error),
        };
        explain_password(hierarchy, password, &error)
    }

    /// The same for an error of a command that the owner hierarchy authorizes.
    pub(crate) fn explain_owner<E: Error + 'static>(&self, error: tpm2::Error<E>) -> Failure {
        match error.refusal() {
            Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL) => {
                explain_password("owner", &self.owner, &error)
            }
            _ => failure::command(error),
        }
    }
}

/// Explains a refusal of the password of a hierarchy.
fn explain_password<E: Error + 'static>(
    hierarchy: &str,
    password: &SecretBuf,
    error: &tpm2::Error<E>,
) -> Failure {
    let option = format!("--{hierarchy}-password-file");
    if password.expose().is_empty() {
        if is_about_another_session(error) {
            return spoiled(error);
        }
        return Failure::new(
            Exit::Permission,
            format!("the TPM's {hierarchy} hierarchy has a password"),
            format!(
                "give the file that contains it: {option}, or {hierarchy}_password_file in \
                 the section tpm of the configuration"
            ),
        );
    }
    Failure::new(
        Exit::Permission,
        format!("wrong password for the TPM's {hierarchy} hierarchy"),
        format!(
            "check the file given with {option}; the attempt does not count towards the TPM's lockout"
        ),
    )
}

/// Whether the TPM refuses a session beside the first, which authorizes the hierarchy.
fn is_about_another_session<E>(error: &tpm2::Error<E>) -> bool {
    let Fault::Refused(code) = error.fault() else { return false };
    matches!(code.subject(), Subject::Session(session) if session > 1)
}

/// The TPM computed another HMAC for the session than the agent.
fn spoiled<E>(error: &tpm2::Error<E>) -> Failure {
    Failure::new(
        Exit::Data,
        format!("{}: the TPM refuses the HMAC of the session", error.command()),
        "check that this is the TPM of the stored identity; if it is, an attacker modifies its bus",
    )
}

fn nothing() -> SecretBuf {
    SecretBuf::new(&[]).expect("nothing fits")
}

/// A password from its file: all of it but the end of its line, and but the byte order mark that editors put first.
pub(crate) fn password(path: &Path) -> Result<SecretBuf, Failure> {
    let wrong = |exit, what: &str, advice: &str| {
        Failure::new(exit, format!("the password in {}: {what}", path.display()), advice)
    };
    let file = bounded::open_regular(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::InvalidInput => {
            wrong(Exit::Config, &cause.to_string(), "give a file that contains only the password")
        }
        _ => io_failure(path, &cause),
    })?;
    let metadata = file.metadata().map_err(|cause| io_failure(path, &cause))?;
    let ours = [rustix::process::geteuid().as_raw(), 0];
    if !ours.contains(&metadata.uid()) {
        let advice = "chown it to the agent's user or to root";
        return Err(wrong(Exit::Permission, "the file belongs to another user", advice));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(wrong(Exit::Permission, "other users can read the file", "chmod 600 it"));
    }
    trusted::check(path)?;
    match line(file).map_err(|cause| io_failure(path, &cause))? {
        Some(password) => Ok(password),
        None => Err(wrong(
            Exit::Config,
            "the password must be 1 to 64 bytes",
            "write it to the file as is; a trailing newline is ignored",
        )),
    }
}

/// UTF-8's, U+FEFF.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// What a file holds without byte order mark and end of line; `None` if that is nothing, or too much.
fn line(mut file: File) -> io::Result<Option<SecretBuf>> {
    let mut bytes = Zeroizing::new([0; BYTE_ORDER_MARK.len() + MAX_PASSWORD + 3]);
    let mut len = 0_usize;
    while let Some(free @ [_, ..]) = bytes.get_mut(len..) {
        match file.read(free)? {
            0 => break,
            more => len = len.saturating_add(more),
        }
    }
    let text = bytes.get(..len).unwrap_or_default();
    let text = text.strip_prefix(&BYTE_ORDER_MARK).unwrap_or(text);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Ok(SecretBuf::new(text).filter(|password| !password.expose().is_empty()))
}

fn io_failure(path: &Path, cause: &io::Error) -> Failure {
    Failure::io(cause, format!("the password in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What a file of this content and mode is read as.
    fn read(content: &[u8], mode: u32) -> Result<Vec<u8>, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let files = PasswordFiles { endorsement: Some(path), ..PasswordFiles::default() };
        let passwords = files.read()?;
        assert!(passwords.as_tpm().owner.is_empty());
        Ok(passwords.as_tpm().endorsement.to_vec())
    }

    #[test]
    fn one_end_of_line_is_not_part_of_it() {
        for (content, password) in [
            (&b"secret"[..], &b"secret"[..]),
            (b"secret\n", b"secret"),
            (b"secret\r\n", b"secret"),
            (b"two\nlines\n\n", b"two\nlines\n"),
            (b" spaces ", b" spaces "),
            (&[7; 64], &[7; 64]),
            (&[&[7; 64][..], b"\r\n"].concat(), &[7; 64]),
        ] {
            assert_eq!(read(content, 0o600).unwrap(), password);
            assert_eq!(read(content, 0o400).unwrap(), password);
        }
    }

    #[test]
    fn byte_order_mark_is_not_part_of_the_password() {
        for (content, password) in [
            (b"\xef\xbb\xbfsecret\r\n".to_vec(), &b"secret"[..]),
            ([&b"\xef\xbb\xbf"[..], &[7; 64], b"\r\n"].concat(), &[7; 64]),
            (b"secret\xef\xbb\xbf".to_vec(), b"secret\xef\xbb\xbf"),
        ] {
            assert_eq!(read(&content, 0o600).unwrap(), password);
        }
        let long = [&b"\xef\xbb\xbf"[..], &[b'x'; 65]].concat();
        for content in [&b"\xef\xbb\xbf"[..], b"\xef\xbb\xbf\n", &long] {
            assert_eq!(read(content, 0o600).unwrap_err().exit, Exit::Config);
        }
    }

    #[test]
    fn invalid_password_is_refused_without_showing_it() {
        for content in [&b""[..], b"\n", b"\r\n", &[b'x'; 65], &[b'x'; 100_000]] {
            let failure = read(content, 0o600).unwrap_err();
            assert_eq!(failure.exit, Exit::Config);
            assert!(failure.message.contains("1 to 64 bytes"), "{failure}");
            assert!(!failure.to_string().contains("xx"), "{failure}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o620, 0o610, 0o601, 0o777] {
            let failure = read(b"secret", mode).unwrap_err();
            assert_eq!(failure.exit, Exit::Permission);
            assert!(!failure.to_string().contains("secret"), "{failure}");
        }
    }

    #[test]
    fn a_directory_a_pipe_and_nothing_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status();
        assert!(made.unwrap().success());
        assert!(password(directory.path()).unwrap_err().message.contains("not a regular file"));
        assert!(password(&pipe).unwrap_err().message.contains("not a regular file"));
        assert_eq!(password(&directory.path().join("absent")).unwrap_err().exit, Exit::Io);
    }

    #[test]
    fn password_file_of_another_user_is_refused() {
        if rustix::process::geteuid().is_root() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("password");
            fs::write(&path, "secret").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            let failure = password(&path).unwrap_err();
            assert!(failure.message.contains("another user"), "{failure}");
        }
    }

    #[test]
    fn only_the_first_session_is_about_a_password() {
        let explain = |code: u32| {
            let fault = Fault::Refused(ResponseCode(code));
            let error: tpm2::Error = tpm2::Error::new(CommandCode::CREATE_PRIMARY, fault);
            Passwords::default().explain(error)
        };
        // TPM_RC_AUTH_FAIL and TPM_RC_BAD_AUTH, of session 1.
        for code in [0x98e, 0x9a2] {
            let failure = explain(code);
            assert_eq!(failure.exit, Exit::Permission);
            assert!(failure.message.contains("has a password"), "{failure}");
        }
        // Of session 2.
        for code in [0xa8e, 0xaa2] {
            let failure = explain(code);
            assert_eq!(failure.exit, Exit::Data);
            assert!(failure.message.contains("the HMAC of the session"), "{failure}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let passwords = Passwords {
            owner: SecretBuf::new(b"one").unwrap(),
            endorsement: SecretBuf::new(b"two").unwrap(),
        };
        let text = format!("{passwords:?} {:?}", passwords.as_tpm());
        assert!(!text.contains("one") && !text.contains("two"), "{text}");
        assert!(!text.contains("111"), "{text}");
    }
}
