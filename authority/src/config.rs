//! The configuration of `authority start`: a file, and flags and environment variables over it.
//!
//! ```yaml
//! data_dir: /var/lib/endorse
//! listen: 0.0.0.0:3025
//! cluster_name: example.com
//! join_timeout: 60s
//! diag_addr: 127.0.0.1:3026
//! ek_certificates: {expired: accepted, sha1: refused}
//! log: {format: json, level: info}
//! ```

mod flags;

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use host::exit::{Exit, Failure};
use host::go_duration;
use host::log::LogFormat;
use serde::{Deserialize, Deserializer};
use verifier::chain::ChainPolicy;

pub use self::flags::{EkPolicy, Leniency, Start};
use crate::data_directory::DEFAULT_DATA_DIR;
use crate::issue::ClusterName;
use crate::log::Levels;
use crate::resource::parse_yaml;

/// The keys of the configuration file, each with its meaning, for the configuration reference.
pub const KEYS: [(&str, &str); 9] = [
    ("data_dir", "data directory of the authority (default `/var/lib/endorse`)"),
    ("listen", "address and port to listen on (default `0.0.0.0:3025`)"),
    (
        "cluster_name",
        "name of a new cluster; it cannot be changed later (default: the host's name)",
    ),
    ("join_timeout", "time limit of a join, from `1s` to `10m` (default `60s`)"),
    ("diag_addr", "address and port that serve `/livez`, `/readyz` and `/metrics` (default: none)"),
    ("ek_certificates.expired", "expired EK certificates: `refused` (default) or `accepted`"),
    ("ek_certificates.sha1", "signatures over SHA-1: `refused` (default) or `accepted`"),
    ("log.format", "`text`, `json` or `journal`"),
    (
        "log.level",
        "`error`, `warn`, `info` (default), `debug`, `trace` or `off`; `info,h2=debug` for one module",
    ),
];

/// Limit of the configuration file's size in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The default port.
const PORT: u16 = 3025;

/// The settings of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Address and port for hosts and operators.
    pub listen: SocketAddr,
    /// Name of a new cluster; `None` for the host's name.
    pub cluster_name: Option<ClusterName>,
    /// Time limit of a join.
    pub join_timeout: Duration,
    /// Address and port of the diagnostics; `None` for none.
    pub diag_addr: Option<SocketAddr>,
    /// How strictly chains of EK certificates are verified.
    pub ek_policy: ChainPolicy,
    /// How logs are written, if the file says so.
    pub log_format: Option<LogFormat>,
    /// How much is logged, where the environment says nothing.
    pub log_levels: Levels,
}

/// How long a join may take: from a second to ten minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinTimeout(Duration);

/// The file, before anything is filled in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    data_dir: Option<PathBuf>,
    #[serde(default, deserialize_with = "key::listen")]
    listen: Option<SocketAddr>,
    #[serde(default, deserialize_with = "key::cluster_name")]
    cluster_name: Option<ClusterName>,
    #[serde(default, deserialize_with = "key::join_timeout")]
    join_timeout: Option<JoinTimeout>,
    #[serde(default, deserialize_with = "key::diag_addr")]
    diag_addr: Option<SocketAddr>,
    #[serde(default)]
    ek_certificates: EkCertificates,
    #[serde(default)]
    log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EkCertificates {
    expired: Option<Leniency>,
    sha1: Option<Leniency>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    format: Option<LogFormat>,
    #[serde(default, deserialize_with = "key::level")]
    level: Option<Levels>,
}

impl Settings {
    /// Settings from flags, environment and file, in this order of precedence, with defaults.
    pub fn new(start: &Start) -> Result<Self, Failure> {
        let file = start.config.as_deref().map(Document::read).transpose()?.unwrap_or_default();
        Ok(Self {
            data_dir: start
                .data_dir
                .clone()
                .or(file.data_dir)
                .unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            listen: start
                .listen
                .or(file.listen)
                .unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, PORT).into()),
            cluster_name: start.cluster_name.clone().or(file.cluster_name),
            join_timeout: start.join_timeout.or(file.join_timeout).unwrap_or_default().duration(),
            diag_addr: start.diag_addr.or(file.diag_addr),
            ek_policy: EkPolicy {
                ek_expired: start.ek_policy.ek_expired.or(file.ek_certificates.expired),
                ek_sha1: start.ek_policy.ek_sha1.or(file.ek_certificates.sha1),
            }
            .of_chains(),
            log_format: file.log.format,
            log_levels: file.log.level.unwrap_or_default(),
        })
    }
}

impl Document {
    fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let failed = |cause: io::Error| Failure::io(&cause, format!("cannot read {shown}"));
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        let length = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        let wrong = |what: &dyn Display| {
            let advice = "correct it; `authority check` validates it";
            Failure::new(Exit::Config, format!("{shown}: {what}"), advice)
        };
        if length as u64 > MAX_FILE {
            return Err(wrong(&"too large for a configuration file"));
        }
        let text = String::from_utf8(bytes).map_err(|cause| {
            let valid = cause.as_bytes().iter().take(cause.utf8_error().valid_up_to());
            let line = valid.filter(|byte| **byte == b'\n').count() + 1;
            wrong(&format!("line {line}: not UTF-8"))
        })?;
        // A file of comments is no document at all.
        let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if text.lines().all(blank) {
            return Ok(Self::default());
        }
        parse_yaml(&text).map_err(|cause| wrong(&cause))
    }
}

/// For each key that has a parser of its own, what reads it and names it in errors.
mod key {
    use super::{Deserializer, Display, FromStr, parsed};

    macro_rules! keys {
        ($($key:ident),*) => {$(
            pub(super) fn $key<'de, D: Deserializer<'de>, T>(from: D) -> Result<Option<T>, D::Error>
            where
                T: FromStr,
                T::Err: Display,
            {
                parsed(stringify!($key), from)
            }
        )*};
    }

    keys!(listen, cluster_name, join_timeout, diag_addr, level);
}

fn parsed<'de, D: Deserializer<'de>, T>(key: &str, from: D) -> Result<Option<T>, D::Error>
where
    T: FromStr,
    T::Err: Display,
{
    let text = Option::<String>::deserialize(from)?;
    let parse = |text: String| {
        text.parse::<T>().map_err(|cause| {
            let cause = cause.to_string();
            // What the standard library says does not name the value.
            let named = cause.contains(&format!("{text:?}"));
            serde::de::Error::custom(match named {
                true => format!("{key}: {cause}"),
                false => format!("{key}: {text:?}: {cause}"),
            })
        })
    };
    text.map(parse).transpose()
}

impl JoinTimeout {
    /// The time.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for JoinTimeout {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

impl FromStr for JoinTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const RANGE: std::ops::RangeInclusive<Duration> =
            Duration::from_secs(1)..=Duration::from_secs(600);
        let wrong = || format!("{text:?} is not a duration from 1s to 10m");
        // A number alone is seconds, as in versions before 0.2.
        let seconds = text.parse::<u64>().map(Duration::from_secs);
        let duration = seconds.ok().or_else(|| go_duration::parse(text).ok());
        duration.filter(|duration| RANGE.contains(duration)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for JoinTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&go_duration::text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn settings(yaml: &str, flags: &[&str]) -> Result<Settings, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authority.yaml");
        std::fs::write(&path, yaml).unwrap();
        let words = ["authority", "start", "-c", path.to_str().unwrap()];
        let cli = Cli::try_parse_from(words.iter().chain(flags)).unwrap();
        let Command::Start(start) = cli.command else { panic!("another command") };
        Settings::new(&start)
    }

    fn levels(text: &str) -> Levels {
        text.parse().unwrap()
    }

    #[test]
    fn flags_override_the_file() {
        let yaml = "data_dir: /srv/a\nlisten: 127.0.0.1:1\ncluster_name: one\njoin_timeout: 2m\n\
                    diag_addr: \"[::1]:9\"\nlog:\n  format: json\n  level: debug\n";
        let all = settings(yaml, &[]).unwrap();
        assert_eq!(all.data_dir, Path::new("/srv/a"));
        assert_eq!(all.listen.to_string(), "127.0.0.1:1");
        assert_eq!(all.cluster_name.as_ref().unwrap().as_str(), "one");
        assert_eq!(all.join_timeout, Duration::from_secs(120));
        assert_eq!(all.diag_addr.unwrap().port(), 9);
        assert_eq!((all.log_format, all.log_levels), (Some(LogFormat::Json), levels("debug")));
        let flags = ["--listen", "127.0.0.1:2", "--data-dir", "/b", "--join-timeout", "5s"];
        let over = settings(yaml, &flags).unwrap();
        assert_eq!((over.listen.port(), over.data_dir.as_path()), (2, Path::new("/b")));
        assert_eq!(over.join_timeout, Duration::from_secs(5));
        assert_eq!(over.cluster_name, all.cluster_name);
        let usual = settings("# nothing\n", &[]).unwrap();
        assert_eq!(usual.listen.to_string(), "0.0.0.0:3025");
        assert_eq!(usual.join_timeout, Duration::from_secs(60));
        assert_eq!((usual.diag_addr, usual.log_levels), (None, Levels::default()));
        let empty = settings("log: {level: \"\"}\n", &[]).unwrap();
        assert_eq!(empty.log_levels, Levels::default());
    }

    #[test]
    fn documented_keys_are_those_of_the_file() {
        let names = |yaml: &str| -> Vec<String> {
            let message = settings(yaml, &[]).unwrap_err().message;
            let (_, names) = message.split_once("expected ").unwrap();
            let words = names.split(|c: char| !c.is_alphanumeric() && c != '_');
            words
                .filter(|word| !["", "one", "of", "or"].contains(word))
                .map(str::to_owned)
                .collect()
        };
        let top = names("nonsense: 1\n");
        let all = top.iter().flat_map(|key| match key.as_str() {
            "ek_certificates" | "log" => names(&format!("{key}: {{nonsense: 1}}\n"))
                .into_iter()
                .map(|name| format!("{key}.{name}"))
                .collect(),
            key => vec![key.to_owned()],
        });
        assert_eq!(all.collect::<Vec<_>>(), KEYS.map(|(key, _)| key));
    }

    #[test]
    fn lenience_must_be_configured() {
        use verifier::chain::{DatePolicy, Sha1Policy};
        let policy = |yaml: &str, flags: &[&str]| settings(yaml, flags).unwrap().ek_policy;
        let strict = policy("# nothing\n", &[]);
        assert_eq!((strict.dates, strict.sha1), (DatePolicy::Now, Sha1Policy::Refused));
        let yaml = "ek_certificates: {expired: accepted, sha1: accepted}\n";
        let lenient = policy(yaml, &[]);
        assert_eq!((lenient.dates, lenient.sha1), (DatePolicy::AtIssuance, Sha1Policy::Accepted));
        let over = policy(yaml, &["--ek-sha1", "refused"]);
        assert_eq!((over.dates, over.sha1), (DatePolicy::AtIssuance, Sha1Policy::Refused));
    }

    #[test]
    fn file_that_is_not_utf8_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authority.yaml");
        std::fs::write(&path, b"data_dir: /a\n# caf\xe9\n").unwrap();
        let failure = Document::read(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        assert!(failure.message.ends_with("authority.yaml: line 2: not UTF-8"), "{failure}");
    }

    #[test]
    fn a_fault_is_named_with_its_line() {
        for (yaml, line, says) in [
            ("data_dir: /a\nlistn: 127.0.0.1:1\n", 2, "listn"),
            ("listen: here\n", 1, "listen: \"here\": "),
            ("listen: x\n", 1, "listen: \"x\": "),
            ("diag_addr: \"\"\n", 1, "diag_addr: \"\": "),
            ("listen: 127.0.0.1\n", 1, "127.0.0.1"),
            ("\n\ncluster_name: UPPER\n", 3, "UPPER"),
            ("join_timeout: 1h\n", 1, "join_timeout: \"1h\" is not a duration from 1s to 10m"),
            ("diag_addr: [a]\n", 1, ""),
            ("log:\n  format: xml\n", 2, "xml"),
            ("ek_certificates:\n  sha1: maybe\n", 2, "maybe"),
            ("ek_certificates:\n  sha256: accepted\n", 2, "sha256"),
            ("log:\n  level: a=b=c\n", 2, "level: \"a=b=c\": \"c\" is not a log level"),
            ("log:\n  level: verbose\n", 2, "\"verbose\" is not a log level"),
            ("log:\n  colour: red\n", 2, "colour"),
            ("data_dir: /a\ndata_dir: /b\n", 2, "data_dir"),
            ("- a\n", 1, ""),
            ("data_dir: [\n", 0, ""),
        ] {
            let failure = settings(yaml, &[]).unwrap_err();
            assert_eq!(failure.exit, Exit::Config, "{failure}");
            assert!(failure.message.contains("authority.yaml: line "), "{failure}");
            assert!(failure.message.contains(says), "{failure}");
            let named = format!("authority.yaml: line {line}: ");
            assert!(line == 0 || failure.message.contains(&named), "{yaml:?}: {failure}");
        }
    }

    #[test]
    fn join_timeout_is_from_a_second_to_ten_minutes() {
        let timeout = |text: &str| text.parse::<JoinTimeout>().map(JoinTimeout::duration);
        assert_eq!(timeout("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(timeout("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["0s", "11m", "-1s", "", "m", "1h", "18446744073709551615m"] {
            timeout(wrong).unwrap_err();
        }
    }
}
