//! Where the records are kept: in the data directory, or in PostgreSQL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use host::config::finding::Source;
use host::config::section::{Given, Keys, Section};
use tokio_postgres::config::Host;

pub(super) const STORE: Keys = Keys {
    of: "store",
    known: &[
        (
            "type",
            "`embedded` (default): a file in the data directory; `postgresql`: a database, to which the keys below belong",
        ),
        (
            "url",
            "`postgresql://USER@HOST:PORT/DATABASE`; several hosts, separated by commas, are tried in order until one accepts writes; a host \
             that begins with `%2F` is the directory of a Unix socket",
        ),
        ("password_file", "file with the password (default: none); it is read at each connection"),
        ("ca_file", "CA certificates that the server's certificate is verified with, PEM"),
        ("certificate_file", "certificate chain that the authority presents, PEM (default: none)"),
        ("key_file", "key of that certificate, PEM: ECDSA on P-256 or P-384, or Ed25519"),
        (
            "channel_binding",
            "whether a password is bound to the TLS connection: `prefer` (default), `require` or `disable`, which poolers need that end TLS \
             themselves",
        ),
        (
            "tls",
            "`on` (default): TLS 1.3, and the server proves the name in `url`; `off`: everything is sent in plain text. A Unix socket has no \
             TLS",
        ),
    ],
    refused: &[
        (
            "password",
            "write it into a file that only the authority's user can read, and name that in `password_file`",
        ),
        ("sslmode", "TLS is always used with chain and name verified; `tls: off` switches it off"),
    ],
};

/// Where the records are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StoreSettings {
    /// In a file of the data directory.
    #[default]
    Embedded,
    /// In PostgreSQL.
    Postgresql(Box<PostgresSettings>),
}

/// How a PostgreSQL is reached, and what the authority proves itself by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Hosts, user and database.
    pub url: DatabaseUrl,
    /// The password.
    pub password_file: Option<PathBuf>,
    /// TLS; `None` for plain text.
    pub tls: Option<PostgresTls>,
}

/// TLS with a PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresTls {
    /// CAs of the server.
    pub ca_file: PathBuf,
    /// The certificate to present.
    pub identity: Option<PostgresIdentity>,
    /// Whether passwords are bound to the connection.
    pub channel_binding: ChannelBinding,
}

/// A client certificate for a PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresIdentity {
    /// Chain, leaf first.
    pub certificate_file: PathBuf,
    /// Key of the leaf.
    pub key_file: PathBuf,
}

/// Whether SCRAM is bound to the TLS connection, RFC 5929.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelBinding {
    /// If the server offers it.
    #[default]
    Prefer,
    /// Always: other logins are refused.
    Require,
    /// Never.
    Disable,
}

/// The address of a database, without a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(tokio_postgres::Config);

impl DatabaseUrl {
    /// Hosts, ports, user and database, as the client library has them.
    pub(crate) fn config(&self) -> &tokio_postgres::Config {
        &self.0
    }

    /// The hosts with their ports.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&Host, u16)> {
        const PORT: u16 = 5432;
        let ports = self.0.get_ports();
        let port = move |index| ports.get(index).or(ports.first()).copied().unwrap_or(PORT);
        self.0.get_hosts().iter().enumerate().map(move |(index, host)| (host, port(index)))
    }

    fn is_remote(&self) -> bool {
        self.hosts().any(|(host, _)| matches!(host, Host::Tcp(_)))
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err("it is not postgresql://USER@HOST:PORT/DATABASE".to_owned());
        }
        if text.contains('?') {
            return Err(
                "parameters after `?` are not supported: use the keys of `store`".to_owned()
            );
        }
        let config: tokio_postgres::Config = text
            .parse()
            .map_err(|_| "it is not postgresql://USER@HOST:PORT/DATABASE".to_owned())?;
        if config.get_password().is_some() {
            return Err(
                "it contains a password: write that into a file, and name the file in `password_file`"
                    .to_owned(),
            );
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err("it has no user: write postgresql://USER@HOST/DATABASE".to_owned());
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err("it has no database: write postgresql://USER@HOST/DATABASE".to_owned());
        }
        let is_empty = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty());
        let hosts = config.get_hosts();
        if hosts.is_empty() || hosts.iter().any(is_empty) {
            return Err("it has no host: write postgresql://USER@HOST/DATABASE".to_owned());
        }
        Ok(Self(config))
    }
}

/// Database, hosts and user, for people.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.hosts().map(|(host, port)| match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(directory) => format!("{}/.s.PGSQL.{port}", directory.display()),
        });
        let hosts = hosts.collect::<Vec<_>>().join(", ");
        let (user, name) = (self.0.get_user(), self.0.get_dbname());
        write!(f, "{} on {hosts} as {}", name.unwrap_or_default(), user.unwrap_or_default())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl fmt::Display for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Postgresql(settings) => write!(f, "postgresql, {}", settings.url),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Postgresql,
}

const KINDS: [(&str, Kind); 2] = [("embedded", Kind::Embedded), ("postgresql", Kind::Postgresql)];

const BINDINGS: [(&str, ChannelBinding); 3] = [
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
    ("disable", ChannelBinding::Disable),
];

const SWITCHES: [(&str, bool); 2] = [("on", true), ("off", false)];

/// Reads `store`.
pub(super) fn store(top: &Section<'_>, source: &Source<'_>) -> Option<StoreSettings> {
    let Some(node) = top.node("store") else { return Some(StoreSettings::Embedded) };
    let section = Section::open(node, &STORE, source)?;
    let kind = match section.word("type", &KINDS) {
        Given::Absent => Kind::Embedded,
        given => given.value()?,
    };
    if kind == Kind::Embedded {
        for (key, _) in STORE.known.iter().filter(|(key, _)| *key != "type") {
            if section.node(key).is_some() {
                let message = format!("`{key}` is only for `type: postgresql`");
                source.error(section.key(key), message, "remove it, or add `type: postgresql`");
            }
        }
        return Some(StoreSettings::Embedded);
    }
    let url = section.parse("url", str::parse::<DatabaseUrl>);
    if url.is_absent() && !section.meant("url") {
        let advice = "add `url: postgresql://USER@HOST/DATABASE`";
        source.error(Some(&node.range), "`url` is missing", advice);
    }
    let password_file = section.text("password_file").map(PathBuf::from).value();
    let url = url.value();
    let tls = tls(&section, url.as_ref().is_none_or(DatabaseUrl::is_remote), source)?;
    let settings = PostgresSettings { url: url?, password_file, tls };
    Some(StoreSettings::Postgresql(Box::new(settings)))
}

/// The keys for TLS. The outer result is `None` if one of them is wrong.
fn tls(section: &Section<'_>, is_remote: bool, source: &Source<'_>) -> Option<Option<PostgresTls>> {
    const KEYS: [&str; 4] = ["ca_file", "certificate_file", "key_file", "channel_binding"];
    let switch = section.word("tls", &SWITCHES);
    if switch.clone().value() == Some(false) || !is_remote {
        for key in KEYS {
            if section.node(key).is_some() {
                let advice = "remove it: there is no TLS with `tls: off`, nor over a Unix socket";
                source.error(section.key(key), format!("`{key}` is only for TLS"), advice);
            }
        }
        return Some(None);
    }
    let text = |key: &str| section.text(key).map(PathBuf::from).value();
    let need = |key: &str, advice: &str| {
        if section.node(key).is_none() && !section.meant(key) {
            source.error(section.range.as_ref(), format!("`{key}` is missing"), advice);
        }
    };
    need("ca_file", "name the file with the CA of the server's certificate");
    let (ca_file, certificate_file, key_file) =
        (text("ca_file"), text("certificate_file"), text("key_file"));
    if certificate_file.is_some() {
        need("key_file", "give both `certificate_file` and `key_file`");
    }
    if key_file.is_some() {
        need("certificate_file", "give both `certificate_file` and `key_file`");
    }
    let identity = certificate_file.zip(key_file);
    let identity = identity
        .map(|(certificate_file, key_file)| PostgresIdentity { certificate_file, key_file });
    let channel_binding = section.word("channel_binding", &BINDINGS).value().unwrap_or_default();
    Some(Some(PostgresTls { ca_file: ca_file?, identity, channel_binding }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_has_a_user_a_database_and_no_password() {
        let url: DatabaseUrl =
            "postgresql://endorse@db1.example.com:5433,db2.example.com:5434/state".parse().unwrap();
        let shown = "state on db1.example.com:5433, db2.example.com:5434 as endorse";
        assert_eq!(url.to_string(), shown);
        let url: DatabaseUrl = "postgresql://endorse@a:1,b,c:2/state".parse().unwrap();
        assert_eq!(url.to_string(), "state on a:1, b:5432, c:2 as endorse");
        let url: DatabaseUrl = "postgres://endorse@%2Frun%2Fpostgresql/state".parse().unwrap();
        assert_eq!(url.to_string(), "state on /run/postgresql/.s.PGSQL.5432 as endorse");
        assert!(!url.is_remote());
        for (wrong, why) in [
            ("postgresql://endorse:secret@db/state", "contains a password"),
            ("postgresql://db/state", "no user"),
            ("postgresql://endorse@db", "no database"),
            ("postgresql://endorse@/state", "no host"),
            ("postgresql://endorse@db/state?sslmode=disable", "after `?`"),
            ("host=db user=endorse", "postgresql://USER@HOST"),
            ("mysql://endorse@db/state", "postgresql://USER@HOST"),
        ] {
            let refused = wrong.parse::<DatabaseUrl>().unwrap_err();
            assert!(refused.contains(why), "{wrong}: {refused}");
            assert!(!refused.contains("secret"));
        }
    }
}
