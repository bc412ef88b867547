//! Connections to PostgreSQL: to the first host that accepts writes, with limits on everything that is waited for.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::{ChannelBinding as Binding, Host, SslMode, TargetSessionAttrs};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row, Socket};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::fault::{Fault, Kind};
use super::tls::{Connector, secret};
use crate::config::{ChannelBinding, PostgresSettings};

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For one host: name, TCP, TLS and login.
    pub(super) connect: Duration,
    /// For the first connection: at a boot, the database may still be starting.
    pub(super) start: Duration,
    /// For a read, whatever it takes.
    pub(super) read: Duration,
    /// For a place among the writes that wait.
    pub(super) queue: Duration,
    /// For a transaction of the writer with everything that it takes to repeat it.
    pub(super) group: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            start: Duration::from_secs(30),
            read: Duration::from_secs(5),
            queue: Duration::from_secs(1),
            group: Duration::from_secs(5),
        }
    }
}

/// After which a peer that acknowledges nothing is gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// What the server's list of sessions shows.
pub(super) const APPLICATION: &str = "endorse";

/// Limits that the server keeps, also if the authority is gone; by SET, since poolers refuse them at the login. And no scans of small
/// tables: a SERIALIZABLE transaction would conflict with everything that is written to them.
const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '2s'; \
                       SET idle_in_transaction_session_timeout = '10s'; SET enable_seqscan = off";

/// A value of a statement, with its type: statements need no preparation, which poolers do not know.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A database on one of several hosts.
pub(super) struct Server {
    settings: PostgresSettings,
    pub(super) limits: Limits,
}

/// A connection with its session.
pub(super) struct Link {
    client: Client,
    driver: JoinHandle<()>,
}

impl Server {
    pub(super) fn new(settings: &PostgresSettings, limits: Limits) -> Self {
        Self { settings: settings.clone(), limits }
    }

    /// Connects for the first time, to a server that may still be starting.
    pub(super) async fn first_link(&self) -> Result<Link, Fault> {
        let until = Instant::now() + self.limits.start;
        loop {
            match self.connect().await {
                Err(fault) if fault.kind == Kind::Lost && Instant::now() < until => {
                    warn!(cause = %fault, "waiting for the database");
                    sleep(super::pause() * 10).await;
                }
                result => return result,
            }
        }
    }

    /// Connects to the first host that accepts writes.
    pub(super) async fn connect(&self) -> Result<Link, Fault> {
        let limit = self.limits.connect;
        let mut faults: Vec<Fault> = Vec::new();
        for (host, port) in self.settings.url.hosts() {
            let place = match host {
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(directory) => directory.display().to_string(),
            };
            let connected = timeout(limit, self.connect_to(host, port)).await;
            let late = || Fault::new(Kind::Lost, format!("no answer within {limit:?}"));
            match connected.unwrap_or_else(|_| Err(late())) {
                Ok(link) => return Ok(link),
                Err(fault) => {
                    let fault = fault.at(place);
                    debug!(cause = %fault, "cannot connect to the database");
                    faults.push(fault);
                }
            }
        }
        // Fatal only if no host can be hoped for.
        let hopeful = faults.iter().map(|fault| fault.kind).find(|kind| *kind != Kind::Fatal);
        let texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Err(Fault::new(hopeful.unwrap_or(Kind::Fatal), texts.join("; ")))
    }

    async fn connect_to(&self, host: &Host, port: u16) -> Result<Link, Fault> {
        let config = self.config(host, port)?;
        let link = match &self.settings.tls {
            Some(tls) if matches!(host, Host::Tcp(_)) => {
                let connector =
                    Connector::new(tls).map_err(|cause| Fault::new(Kind::Fatal, cause))?;
                let (client, connection) = config.connect(connector).await?;
                Link { client, driver: tokio::spawn(drive(connection)) }
            }
            _ => {
                let (client, connection) = config.connect(NoTls).await?;
                Link { client, driver: tokio::spawn(drive(connection)) }
            }
        };
        link.batch(SESSION).await?;
        Ok(link)
    }

    fn config(&self, host: &Host, port: u16) -> Result<Config, Fault> {
        let url = self.settings.url.config();
        let mut config = Config::new();
        config.user(url.get_user().unwrap_or_default());
        config.dbname(url.get_dbname().unwrap_or_default());
        match host {
            Host::Tcp(name) => config.host(name),
            Host::Unix(directory) => config.host_path(directory),
        };
        config.port(port).application_name(APPLICATION);
        config.connect_timeout(self.limits.connect).tcp_user_timeout(TCP_USER_TIMEOUT);
        config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES);
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        match &self.settings.tls {
            Some(tls) if matches!(host, Host::Tcp(_)) => {
                config.ssl_mode(SslMode::Require).channel_binding(match tls.channel_binding {
                    ChannelBinding::Prefer => Binding::Prefer,
                    ChannelBinding::Require => Binding::Require,
                    ChannelBinding::Disable => Binding::Disable,
                });
            }
            _ => {
                config.ssl_mode(SslMode::Disable).channel_binding(Binding::Disable);
            }
        }
        if let Some(password) = self.password()? {
            config.password(&*password);
        }
        Ok(config)
    }

    /// The content of the password file, without the end of its line.
    fn password(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        let Some(path) = &self.settings.password_file else { return Ok(None) };
        let mut password = secret(path).map_err(|cause| Fault::new(Kind::Fatal, cause))?;
        while password.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
            password.pop();
        }
        if password.is_empty() {
            return Err(Fault::new(Kind::Fatal, format!("{} is empty", path.display())));
        }
        Ok(Some(password))
    }
}

/// Carries a connection until it ends.
async fn drive<S>(connection: tokio_postgres::Connection<Socket, S>)
where
    S: tokio_postgres::tls::TlsStream + Unpin,
{
    if let Err(cause) = connection.await {
        warn!(cause = %Fault::from(cause), "a connection to the database was lost");
    }
}

impl Link {
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements that return nothing.
    pub(super) async fn batch(&self, statements: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(statements).await?)
    }

    /// The rows of a statement.
    pub(super) async fn rows(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Fault> {
        Ok(self.client.query_typed(statement, parameters).await?)
    }

    /// How many rows a statement has changed.
    pub(super) async fn change(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<u64, Fault> {
        Ok(self.client.execute_typed(statement, parameters).await?)
    }
}

impl Drop for Link {
    /// Ends the session at once, whatever it waits for: the server rolls back what was not committed.
    fn drop(&mut self) {
        self.driver.abort();
    }
}
