//! The CA certificates that the system trusts, for servers with a public name. As with Go and OpenSSL, `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name the places; if neither is set, those of the distributions are tried.
//!
//! A store has entries that cannot be used, so those are passed over. Fewer CAs are trusted then, never more.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use host::bounded;
use host::exit::{Exit, Failure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tls::Roots;

use crate::trusted;

/// One PEM file with all CAs: Debian and Arch, Fedora, openSUSE, RHEL, Alpine.
const FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A PEM file for each CA.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Bytes of a file. Distributions have 200 to 500 KiB.
const MAX_FILE: u64 = 2 * 1024 * 1024;

/// Entries of a directory. A CA has two or three, its file and links by its hash.
const MAX_ENTRIES: usize = 4096;

/// CAs in all. Distributions have 120 to 450.
const MAX_CAS: usize = 1024;

/// The CAs that the system trusts, at least one.
#[derive(Clone, Debug)]
pub struct SystemRoots {
    /// The CAs.
    pub roots: Roots,
    /// The files and directories that they are from.
    places: Vec<PathBuf>,
    /// What could not be used, and why.
    pub passed_over: Vec<String>,
    /// Places that the operator has named, and that have no CA certificate, and why.
    pub without: Vec<String>,
}

impl fmt::Display for SystemRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.places.iter().map(|path| path.display().to_string()).collect();
        let count = self.roots.len();
        let noun = if count == 1 { "CA" } else { "CAs" };
        write!(f, "the system's {count} {noun} in {}", places.join(" and "))
    }
}

impl SystemRoots {
    /// Reads the places that the environment names, or else those of the distributions.
    ///
    /// # Errors
    /// There is no CA certificate, or too many.
    pub(crate) fn read() -> Result<Self, Failure> {
        Places::new(env::var_os("SSL_CERT_FILE"), env::var_os("SSL_CERT_DIR")).read()
    }
}

/// Where CA certificates may be.
struct Places {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Whether the operator has named them: then all count, not the first that has certificates.
    are_named: bool,
}

impl Places {
    /// Those in the values of `SSL_CERT_FILE` and `SSL_CERT_DIR`; an empty variable counts as none.
    fn new(file: Option<OsString>, directories: Option<OsString>) -> Self {
        let file = file.filter(|file| !file.is_empty());
        let directories = directories.filter(|directories| !directories.is_empty());
        if file.is_none() && directories.is_none() {
            let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
            return Self {
                files: paths(&FILES),
                directories: paths(&DIRECTORIES),
                are_named: false,
            };
        }
        let split = |list: &OsString| env::split_paths(list).collect::<Vec<_>>();
        let directories = directories.as_ref().map(split).unwrap_or_default();
        Self { files: file.into_iter().map(PathBuf::from).collect(), directories, are_named: true }
    }

    fn read(&self) -> Result<SystemRoots, Failure> {
        let mut store = Store::default();
        for file in &self.files {
            store.add_place(file, Store::add_file)?;
            if !store.certificates.is_empty() {
                break;
            }
        }
        for directory in &self.directories {
            if self.are_named || store.certificates.is_empty() {
                store.add_place(directory, Store::add_directory)?;
            }
        }
        if store.certificates.is_empty() {
            return Err(self.none(&store));
        }
        let roots = store.certificates.iter().map(|der| CertificateDer::from(der.as_slice()));
        let roots = Roots::new(roots);
        let Store { places, passed_over, without, .. } = store;
        let without = if self.are_named { without } else { Vec::new() };
        Ok(SystemRoots { roots, places, passed_over, without })
    }

    fn none(&self, store: &Store) -> Failure {
        let why = match (self.are_named, store.passed_over.as_slice()) {
            (true, []) => "none is where SSL_CERT_FILE and SSL_CERT_DIR say".to_owned(),
            (true, passed_over) => {
                format!("SSL_CERT_FILE and SSL_CERT_DIR: {}", passed_over.join("; "))
            }
            (false, _) => "none of the usual places has one".to_owned(),
        };
        let failure = Failure::new(
            Exit::Config,
            format!("there is no CA certificate to verify the server with: {why}"),
            "install the package ca-certificates, name a PEM file in SSL_CERT_FILE, or configure \
             `ca_pins` or `ca_path`",
        );
        Failure { cause: store.passed_over.join("; "), ..failure }
    }
}

/// What was found so far.
#[derive(Default)]
struct Store {
    /// Each once: links give a file several names.
    certificates: BTreeSet<Vec<u8>>,
    /// Where some were found.
    places: Vec<PathBuf>,
    /// Where none was found, and why.
    without: Vec<String>,
    passed_over: Vec<String>,
}

impl Store {
    /// Adds what is at a place, and records whether it has certificates.
    fn add_place(
        &mut self,
        path: &Path,
        add: fn(&mut Self, &Path) -> usize,
    ) -> Result<(), Failure> {
        let before = self.passed_over.len();
        if add(self, path) > 0 {
            self.places.push(path.to_owned());
        } else {
            let why = self.passed_over.get(before).cloned();
            self.without.push(why.unwrap_or_else(|| format!("{}: it is empty", path.display())));
        }
        if self.certificates.len() <= MAX_CAS {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Config,
            format!("{} has more than {MAX_CAS} CA certificates", path.display()),
            "name a smaller PEM file in SSL_CERT_FILE, or configure `ca_pins` or `ca_path`",
        ))
    }

    /// Returns how many certificates the directory has.
    fn add_directory(&mut self, path: &Path) -> usize {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.pass_over(path, &error);
                return 0;
            }
        };
        let mut found = 0;
        for (number, entry) in entries.enumerate() {
            if number >= MAX_ENTRIES || self.certificates.len() > MAX_CAS {
                self.pass_over(path, &"the rest of its entries: there are too many");
                break;
            }
            match entry {
                Ok(entry) => found += self.add_file(&entry.path()),
                Err(error) => {
                    self.pass_over(path, &error);
                    break;
                }
            }
        }
        found
    }

    /// Returns how many certificates the file has.
    fn add_file(&mut self, path: &Path) -> usize {
        let pem = match read_trusted(path) {
            Ok(pem) => pem,
            Err(why) => {
                self.pass_over(path, &why);
                return 0;
            }
        };
        let mut found = 0_usize;
        for certificate in CertificateDer::pem_slice_iter(&pem).take(MAX_CAS + 1) {
            match certificate {
                Ok(certificate) if !Roots::new([certificate.clone()]).is_empty() => {
                    found += 1;
                    self.certificates.insert(certificate.to_vec());
                }
                Ok(_) => self.pass_over(path, &"a certificate that cannot be read"),
                Err(error) => self.pass_over(path, &error),
            }
        }
        if found == 0 {
            self.pass_over(path, &"it contains no certificate");
        }
        found
    }

    fn pass_over(&mut self, path: &Path, why: &dyn fmt::Display) {
        self.passed_over.push(format!("{}: {why}", path.display()));
    }
}

/// A file that nobody but root and the agent's user can write: whoever can could intercept every connection.
fn read_trusted(path: &Path) -> Result<Vec<u8>, String> {
    let pem = bounded::open_regular(path).and_then(|file| bounded::read(file, MAX_FILE));
    let pem = pem.map_err(|error| error.to_string())?;
    trusted::check(path).map_err(|failure| failure.message)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use base64ct::{Base64, Encoding};
    use testkit::forge::Ca;

    use super::*;

    fn ca(name: &str) -> String {
        let ca = Ca::new(name);
        // The signature of a root is not verified.
        let der = ca.root().signed_by(&ca.name, |_| vec![0; 8]);
        let base64 = Base64::encode_string(&der);
        format!("# {name}\n-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    }

    fn read(file: Option<&Path>, directories: &[&Path]) -> Result<SystemRoots, Failure> {
        let directories = (!directories.is_empty()).then(|| env::join_paths(directories).unwrap());
        Places::new(file.map(|path| path.as_os_str().to_owned()), directories).read()
    }

    #[test]
    fn named_file_and_directories_all_count_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (file, one, two) =
            (place.path().join("roots.pem"), place.path().join("one"), place.path().join("two"));
        fs::write(&file, ca("a") + &ca("b")).unwrap();
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        fs::write(one.join("c.crt"), ca("c")).unwrap();
        fs::write(two.join("d.crt"), ca("d")).unwrap();
        let count = |file, directories: &[&Path]| read(file, directories).unwrap().roots.len();
        assert_eq!(count(Some(&file), &[]), 2);
        assert_eq!(count(None, &[&one]), 1);
        assert_eq!(count(None, &[&one, &two]), 2);
        assert_eq!(count(Some(&file), &[&one, &two]), 4);
        let shown = read(Some(&file), &[&one]).unwrap().to_string();
        let [file, one] = [&file, &one].map(|path| path.display().to_string());
        assert_eq!(shown, format!("the system's 3 CAs in {file} and {one}"));
    }

    #[test]
    fn links_by_hash_are_followed_and_count_once() {
        let place = tempfile::tempdir().unwrap();
        let [store, target] = ["certs", "share"].map(|name| place.path().join(name));
        fs::create_dir(&store).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(target.join("a.crt"), ca("a")).unwrap();
        symlink("../share/a.crt", store.join("a.pem")).unwrap();
        symlink("a.pem", store.join("5ed36f99.0")).unwrap();
        symlink("gone.pem", store.join("5ed36f99.1")).unwrap();
        let found = read(None, &[&store]).unwrap();
        assert_eq!(found.roots.len(), 1);
        assert!(matches!(found.passed_over.as_slice(), [only] if only.contains("5ed36f99.1")));
    }

    #[test]
    fn unusable_entries_are_passed_over_with_the_reason() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        write("0.pem", &ca("a"));
        write("1.pem", "no certificate");
        write("2.pem", "-----BEGIN CERTIFICATE-----\nMAM=\n-----END CERTIFICATE-----\n");
        write("3.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
        write("4.pem", &"\n".repeat(MAX_FILE as usize + 1));
        write("5.pem", &ca("b"));
        fs::set_permissions(place.path().join("5.pem"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::create_dir(place.path().join("6.pem")).unwrap();
        let found = read(None, &[place.path()]).unwrap();
        assert_eq!(found.roots.len(), 1);
        let reasons = found.passed_over.join("\n");
        for (name, reason) in [
            ("1.pem", "no certificate"),
            ("2.pem", "cannot be read"),
            ("3.pem", "base64"),
            ("4.pem", "longer than"),
            ("5.pem", "other users can write"),
            ("6.pem", "not a regular file"),
        ] {
            let path = place.path().join(name).display().to_string();
            let is_told = |line: &str| line.starts_with(&path) && line.contains(reason);
            assert!(reasons.lines().any(is_told), "{name}: {reason} in {reasons}");
        }
    }

    #[test]
    fn named_places_without_certificates_are_reported() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("empty")).unwrap();
        fs::create_dir(at("certs")).unwrap();
        fs::write(at("certs/a.pem"), ca("a")).unwrap();
        let found = read(Some(&at("missing")), &[&at("empty"), &at("certs")]).unwrap();
        let [missing, empty] = found.without.as_slice() else { panic!("{found:?}") };
        assert!(missing.starts_with(&at("missing").display().to_string()), "{missing}");
        assert!(empty.ends_with("empty: it is empty"), "{empty}");
        // The same CA once more is no fault.
        let found = read(Some(&at("certs/a.pem")), &[&at("certs")]).unwrap();
        assert!(found.without.is_empty() && found.roots.len() == 1, "{found:?}");
        // Of the usual places most are missing.
        let usual =
            Places { files: vec![at("missing")], directories: vec![at("certs")], are_named: false };
        assert!(usual.read().unwrap().without.is_empty());
    }

    #[test]
    fn no_certificate_at_all_is_an_error_with_advice() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("none.pem");
        let failure = read(Some(&missing), &[place.path()]).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        assert!(failure.message.contains("none.pem: "), "{failure}");
        assert!(failure.advice.contains("`ca_pins`"), "{failure}");
    }

    #[test]
    fn number_of_certificates_is_bounded() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("roots.pem");
        // The names differ, so that no two certificates are the same.
        let many: String = (0..=MAX_CAS).map(|number| ca(&number.to_string())).collect();
        fs::write(&file, many).unwrap();
        let failure = read(Some(&file), &[]).unwrap_err();
        assert!(failure.message.contains("more than 1024 CA certificates"), "{failure}");
    }

    #[test]
    fn empty_variables_count_as_none() {
        let places = Places::new(Some("".into()), Some("".into()));
        assert!(!places.are_named);
        assert_eq!(places.files.len(), FILES.len());
    }
}
