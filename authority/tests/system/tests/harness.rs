//! An authority in this process, with real TLS, a real database and a real audit log.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use authority::assemble::{Parts, assemble};
use authority::audit::{AuditLog, Author};
use authority::config::{
    BundleEndpoint, Public, Retention, Settings, Start, StoreSettings, TeleportServices,
};
use authority::data_directory::DataDirectory;
use authority::issue::JwtSettings;
use authority::keyring::Own;
use authority::resource::{self, BotInstance, Kind, Resource};
use authority::service::Authority;
use authority::store::IfExists;
use host::clock::Clock;
use rustls::client::ResolvesClientCert;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tempfile::TempDir;
use testkit::simulated::{Join, SoftwareTpm, TIMEOUT, Wire};
use tls::ServerTrust;
use tokio::sync::watch;
use tokio::time::Instant;

use super::meanwhile::Meanwhile;

pub(crate) struct Harness {
    pub(crate) authority: Arc<Authority>,
    pub(crate) address: SocketAddr,
    /// Where it serves the public keys.
    pub(crate) bundle_address: Option<SocketAddr>,
    pub(crate) dir: TempDir,
    /// The file of the audit log.
    pub(crate) log: PathBuf,
    /// Seconds by which the authority's clock is ahead.
    pub(crate) ahead: Arc<AtomicI64>,
    /// The store, in which something can happen before a write.
    pub(crate) meanwhile: Arc<Meanwhile>,
    stop: watch::Sender<bool>,
    pub(crate) served: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Harness {
    pub(crate) async fn new() -> Self {
        Self::with_timeout(Duration::from_secs(30)).await
    }

    pub(crate) async fn with_timeout(join_timeout: Duration) -> Self {
        Self::build(None, |settings| settings.join_timeout = join_timeout).await
    }

    /// With the audit log elsewhere, for which as many rows may wait.
    pub(crate) async fn with_audit(log: &Path, max_waiting: usize) -> Self {
        Self::build(Some((log, max_waiting)), |_| {}).await
    }

    /// With public names.
    pub(crate) async fn with_public(public: Public) -> Self {
        Self::build(None, |settings| settings.public = public).await
    }

    /// With these of Teleport's services.
    pub(crate) async fn serving(teleport: TeleportServices) -> Self {
        Self::build(None, |settings| settings.teleport = teleport).await
    }

    /// With a cluster of this name.
    pub(crate) async fn with_cluster(name: &str) -> Self {
        let name = name.parse().unwrap();
        Self::build(None, |settings| settings.cluster_name = Some(name)).await
    }

    /// With JWTs of these settings.
    pub(crate) async fn with_jwt(jwt: JwtSettings) -> Self {
        Self::build(None, |settings| settings.jwt = jwt).await
    }

    /// Which removes old entries of its log.
    pub(crate) async fn retaining(retention: Retention) -> Self {
        Self::build(None, |settings| settings.audit.retention = retention).await
    }

    /// With an endpoint for the public keys.
    pub(crate) async fn with_endpoint(endpoint: BundleEndpoint) -> Self {
        Self::build(None, |settings| settings.bundle_endpoint = Some(endpoint)).await
    }

    /// With the records in this store.
    pub(crate) async fn with_store(store: StoreSettings) -> Self {
        Self::build(None, |settings| settings.store = store).await
    }

    /// With the records in this store, in a data directory that an authority has used.
    pub(crate) async fn at(data: &Path, store: StoreSettings) -> Self {
        Self::build(None, |settings| {
            settings.data_dir = data.to_owned();
            settings.store = store;
        })
        .await
    }

    /// Another authority of this cluster, whose records are in this store.
    pub(crate) async fn beside(&self, name: &str, store: StoreSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let directory = DataDirectory::new(dir.path().join("data"));
        let own = Own::of(&directory, &directory.lock().unwrap()).unwrap();
        let request = own.request(Some(name.parse().unwrap()));
        let keyring = self.authority.keyring.as_ref().unwrap();
        keyring.admit(&request, Author::system(self.authority.clock.now())).await.unwrap();
        Self::build_in(dir, None, |settings| settings.store = store).await
    }

    async fn build(log: Option<(&Path, usize)>, change: impl FnOnce(&mut Settings)) -> Self {
        Self::build_in(tempfile::tempdir().unwrap(), log, change).await
    }

    async fn build_in(
        dir: TempDir,
        log: Option<(&Path, usize)>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings {
            data_dir: dir.path().join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            cluster_name: Some("test.example".parse().unwrap()),
            join_timeout: Duration::from_secs(30),
            ..Settings::new(&Start::default()).unwrap()
        };
        change(&mut settings);
        let ahead = Arc::new(AtomicI64::new(0));
        let clock = {
            let (ahead, system) = (Arc::clone(&ahead), Clock::system());
            Clock::new(move || system.now() + time::Duration::seconds(ahead.load(Ordering::SeqCst)))
        };
        let (log, rows) = match log {
            Some((log, rows)) => (log.to_owned(), rows),
            None => (settings.data_dir.join("audit.jsonl"), usize::MAX),
        };
        let (sender, wrapped) = mpsc::channel();
        let parts = Parts {
            clock,
            store: Box::new(move |store| {
                let meanwhile = Arc::new(Meanwhile::new(store));
                sender.send(Arc::clone(&meanwhile)).unwrap();
                meanwhile
            }),
            audit: {
                let log = log.clone();
                Box::new(move |_| Ok(AuditLog::open(&log)?.with_max_waiting(rows)))
            },
        };
        let assembled = assemble(settings, parts).await.unwrap();
        let (authority, address) = (Arc::clone(&assembled.authority), assembled.address);
        let bundle_address = assembled.bundle_address;
        let meanwhile = wrapped.recv().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(assembled.serve(stopped));
        let harness =
            Self { authority, address, bundle_address, dir, log, ahead, meanwhile, stop, served };
        harness.create(BOT).await;
        harness
    }

    /// What SIGTERM does.
    pub(crate) fn stop(&self) {
        self.stop.send(true).unwrap();
    }

    /// Ends it, and waits until nothing of it uses its store; returns its directory.
    pub(crate) async fn ended(self) -> TempDir {
        let Self { authority, dir, meanwhile, stop, served, .. } = self;
        stop.send(true).unwrap();
        served.await.unwrap().unwrap();
        drop((authority, meanwhile));
        // The store's thread holds the file a moment longer.
        let Ok(file) = fs::File::open(dir.path().join("data/cluster/store.redb")) else {
            return dir;
        };
        let deadline = Instant::now() + TIMEOUT;
        while file.try_lock().is_err() {
            assert!(Instant::now() < deadline, "the store is still open");
            tokio::task::yield_now().await;
        }
        dir
    }

    pub(crate) async fn create(&self, yaml: &str) {
        let resources = resource::read(yaml).unwrap_or_else(|cause| panic!("{cause}\n{yaml}"));
        self.authority.records.put(&resources, IfExists::Replace, author()).await.unwrap();
        self.authority.sync_audit_log().await;
    }

    /// A token with these rules, and these CAs if there are any.
    pub(crate) async fn token(&self, name: &str, rules: &str, cas: &[&str]) {
        self.create(&token(name, rules, cas)).await;
    }

    /// Lets the TPM in by its hash, with the token `t`.
    pub(crate) async fn allow(&self, tpm: &SoftwareTpm) {
        self.token("t", &format!("- ek_public_hash: {}", tpm.ek_hash()), &[]).await;
    }

    pub(crate) async fn wire(&self) -> Wire {
        self.wire_as(None).await
    }

    pub(crate) async fn wire_as(&self, identity: Option<Arc<dyn ResolvesClientCert>>) -> Wire {
        let trust = ServerTrust::Certificates(vec![self.ca()]);
        Wire::connect(self.address, tls::client_config(&trust, identity).unwrap()).await
    }

    /// An operator's connection, by the admin socket.
    pub(crate) async fn operator(&self) -> Wire {
        Wire::of_operator(&self.dir.path().join("data/admin.sock")).await
    }

    pub(crate) fn ca(&self) -> CertificateDer<'static> {
        self.authority.issuer.x509().certificate().clone()
    }

    /// The audit log, line by line, without what [`author`] has done, and without what is said of many calls at once.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let mut lines = self.whole_audit();
        let is_summary =
            |line: &Value| line["event"].as_str().is_some_and(|event| event.starts_with("calls."));
        lines.retain(|line| line["unix_uid"] != AUTHOR && !is_summary(line));
        lines
    }

    /// The audit log, line by line, but for the event of the first start.
    pub(crate) fn whole_audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["event"] != "cluster.create").collect()
    }

    /// The one event that there is, when it is there: a refusal with this code, and nothing was
    /// recorded.
    pub(crate) async fn assert_refused(&self, code: &str) -> Value {
        self.assert_refused_after(0, code).await
    }

    pub(crate) async fn assert_refused_after(&self, before: usize, code: &str) -> Value {
        let written = async {
            while self.audit().len() <= before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, written).await.expect("an audit line");
        let lines = self.audit();
        assert_eq!(lines.len(), before + 1, "{lines:#?}");
        let line = lines.last().unwrap().clone();
        assert_eq!(line["refusal"], code, "{line:#}");
        assert_eq!(line["outcome"], "refused");
        assert_eq!(line["code"], "TJ001E");
        assert_eq!(line["event"], "bot.join");
        assert_eq!(line["method"], "tpm");
        for absent in ["bot_instance_id", "certificate_serial", "certificate_expires"] {
            assert_eq!(line[absent], Value::Null, "{line:#}");
        }
        assert_eq!(self.instances().await, []);
        line
    }

    /// An honest join; returns what the authority says.
    pub(crate) async fn join(
        &self,
        tpm: &SoftwareTpm,
        token: &str,
    ) -> Result<proto::v1::IssuedCredentials, tonic::Status> {
        self.wire().await.complete_join(tpm, token).await
    }

    /// A TPM that is let in by the token `t`, and has joined.
    pub(crate) async fn joined(&self) -> (SoftwareTpm, proto::v1::IssuedCredentials) {
        let tpm = SoftwareTpm::generate();
        self.allow(&tpm).await;
        let issued = self.join(&tpm, "t").await.unwrap();
        (tpm, issued)
    }

    /// The last line of the audit log: of this event, with this refusal or without.
    pub(crate) fn assert_last(&self, event: &str, refusal: Option<&str>) -> Value {
        let line = self.audit().pop().unwrap();
        assert_eq!(line["event"], event, "{line:#}");
        assert_eq!(line["refusal"].as_str(), refusal, "{line:#}");
        assert_eq!(line["outcome"], if refusal.is_some() { "refused" } else { "granted" });
        line
    }

    /// The last entry of the log: a brief one, of this event.
    pub(crate) async fn assert_last_brief(&self, event: &str) -> Value {
        let records = &self.authority.records;
        let last = records.log_head(records.log_id()).await.unwrap().size() - 1;
        let entry = records.log_entries(records.log_id(), last, 1).await.unwrap().remove(0);
        assert!(!entry.is_line());
        let entry = entry.shown().unwrap();
        assert_eq!((&entry["event"], &entry["seq"]), (&event.into(), &last.into()));
        entry
    }

    /// Goes on until the clock is ahead by so many seconds, pruning at least once a day.
    pub(crate) async fn go_on(&self, ahead: i64) {
        const STEP: i64 = 23 * 3600;
        while self.ahead.load(Ordering::SeqCst) + STEP < ahead {
            self.ahead.fetch_add(STEP, Ordering::SeqCst);
            self.authority.prune().await;
        }
        self.ahead.store(ahead, Ordering::SeqCst);
        self.authority.prune().await;
    }

    /// All instances.
    pub(crate) async fn instances(&self) -> Vec<BotInstance> {
        let all = self.authority.records.page(Kind::BotInstance, None, None, 1000).await.unwrap();
        let instance = |(_, resource)| match resource {
            Resource::BotInstance(instance) => *instance,
            other => panic!("{other:?}"),
        };
        all.into_iter().map(instance).collect()
    }

    /// The only instance.
    pub(crate) async fn instance(&self) -> BotInstance {
        let mut all = self.instances().await;
        assert_eq!(all.len(), 1);
        all.pop().unwrap()
    }

    /// A join up to its challenge.
    pub(crate) async fn challenged(
        &self,
        tpm: &SoftwareTpm,
    ) -> (Wire, Join, Vec<u8>, proto::v1::JoinChallenge) {
        let wire = self.wire().await;
        let mut join = wire.join().await;
        let init = join.init(&tpm.init("t")).await;
        let challenge = join.challenge().await;
        (wire, join, init, challenge)
    }
}

/// Changes the records of an authority directly.
pub(crate) fn author() -> Author {
    Author::operator(Some(AUTHOR), Clock::system().now())
}

/// The user ID of [`author`], and of no operator.
const AUTHOR: u32 = 4_000_000_001;

pub(crate) const BOT: &str =
    "kind: bot\nversion: v1\nmetadata:\n  name: my-bot\nspec:\n  roles: [access, dev]\n";

pub(crate) fn token(name: &str, rules: &str, cas: &[&str]) -> String {
    let mut yaml = format!(
        "kind: token\nversion: v2\nmetadata:\n  name: {name}\nspec:\n  roles: [Bot]\n  \
         join_method: tpm\n  bot_name: my-bot\n  tpm:\n"
    );
    if !cas.is_empty() {
        yaml.push_str("    ekcert_allowed_cas:\n");
        for pem in cas {
            yaml.push_str("      - |\n");
            pem.lines().for_each(|line| yaml.push_str(&format!("        {line}\n")));
        }
    }
    yaml.push_str("    allow:\n");
    rules.lines().for_each(|line| yaml.push_str(&format!("      {line}\n")));
    yaml
}

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
