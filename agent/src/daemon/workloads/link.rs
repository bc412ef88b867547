//! Asks the authority on behalf of workloads, on a connection of its own: a job of the daemon and a call of a workload do not
//! wait for each other.

use std::sync::{Arc, Weak};
use std::time::Duration;

use host::clock;
use host::exit::{Exit, Failure};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep_until};

use crate::attest::Caller;
use crate::ceremony::authenticated::{Authenticated, Denied};
use crate::ceremony::client::Client;
use crate::ceremony::workloads::Wanted;
use crate::config::{Protocol, Settings};
use crate::credential::identity::Identity;
use crate::credential::svid::{Bundle, JwtSvid, KeyedSvid, X509Svid};
use crate::file_access::{FileAccess, SHORT_TIMEOUT, TIMEOUT};
use crate::log::Log;
use crate::tpm::thread::{Audience, Meter, TpmThread};
use crate::workload_api::NotIssued;

/// How long a connection stays open without a call: renewals come in groups, and each connection costs two TPM commands.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is used while the certificate that it was authenticated with is valid for this long, in seconds.
const MIN_VALIDITY: i64 = 30;

/// The identity that the daemon has now.
pub(crate) type CurrentIdentity = watch::Receiver<Option<Arc<Identity>>>;

/// The way to the authority.
pub(crate) struct Link {
    settings: Arc<Settings>,
    client: Client,
    identity: CurrentIdentity,
    passwords: FileAccess,
    meter: Meter,
    log: Log,
    open: Arc<Mutex<Option<Open>>>,
    /// The newest trust bundle; `None` until the authority has answered.
    bundle: watch::Sender<Option<Arc<Bundle>>>,
    looks: watch::Sender<u64>,
    itself: Weak<Self>,
}

/// An open connection.
struct Open {
    connection: Authenticated,
    used: Instant,
}

impl Link {
    pub(crate) fn new(
        settings: Arc<Settings>,
        client: Client,
        identity: CurrentIdentity,
        meter: Meter,
        log: Log,
    ) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            settings,
            client,
            identity,
            passwords: FileAccess::new("the password files of the TPM", TIMEOUT),
            meter,
            log,
            open: Arc::default(),
            bundle: watch::Sender::new(None),
            looks: watch::Sender::new(0),
            itself: itself.clone(),
        })
    }

    /// The trust bundle, now and after each change.
    pub(super) fn bundle(&self) -> watch::Receiver<Option<Arc<Bundle>>> {
        self.bundle.subscribe()
    }

    /// The agent's own identity, now and after each change.
    pub(super) fn identity(&self) -> CurrentIdentity {
        self.identity.clone()
    }

    /// Changes whenever the daemon looks for what it was not notified of. It is how many times the operator has asked to renew.
    pub(super) fn looks(&self) -> watch::Receiver<u64> {
        self.looks.subscribe()
    }

    /// Lets all that waits compare its deadline with the clock, and renew if the operator has asked for it since.
    pub(super) fn look(&self, renewals: u64) {
        self.looks.send_replace(renewals);
    }

    /// Logs why workloads have no identities, or only those that they had.
    pub(super) fn report(&self, wanted: &[(Wanted, Option<String>)], failure: &Failure) {
        let service = wanted.first().map(|(wanted, _)| wanted.service.as_str());
        let fields: [(&str, &dyn std::fmt::Display); 3] = [
            ("name", &service.unwrap_or_default()),
            ("reason", &failure.message),
            ("advice", &failure.advice),
        ];
        self.log.warn("no identities for workloads", &fields);
    }

    /// Logs a caller that matches none of the rules of a service.
    pub(super) fn report_unmatched(&self, service: &str, caller: Option<&Caller>) {
        let uid = caller.map_or_else(|| "unknown".to_owned(), |caller| caller.unix.uid.to_string());
        let fields: [(&str, &dyn std::fmt::Display); 3] =
            [("name", &service), ("uid", &uid), ("reason", &"it matches none of the rules")];
        self.log.info("refused a workload", &fields);
    }

    /// X.509-SVIDs for what is wanted: what the authority refuses is left out.
    ///
    /// # Errors
    /// It refuses all of them, [`Exit::Refused`], or cannot be asked.
    pub(super) async fn x509_svids(
        &self,
        wanted: &[(Wanted, Option<String>)],
    ) -> Result<(Vec<Arc<KeyedSvid>>, Arc<Bundle>), Failure> {
        let mut open = self.open().await?;
        let mut all = Vec::new();
        let mut refused = None;
        let mut newest = None;
        for (one, hint) in wanted {
            match connection(&mut open)?.x509_svids(one).await {
                Ok((svids, bundle)) => {
                    newest = Some(self.publish(bundle));
                    all.extend(svids.into_iter().map(|KeyedSvid { svid, key }| {
                        let hint = hint.clone().unwrap_or_else(|| svid.hint.clone());
                        Arc::new(KeyedSvid { svid: X509Svid { hint, ..svid }, key })
                    }));
                }
                Err(denied) => refused = Some(self.denied(&mut open, denied)?),
            }
        }
        self.used(&mut open);
        match (newest, refused) {
            (Some(bundle), _) => Ok((all, bundle)),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(Failure::bug("nothing was asked for")),
        }
    }

    /// JWT-SVIDs for what is wanted.
    ///
    /// # Errors
    /// The authority refuses all of them, or cannot be asked.
    pub(super) async fn jwt_svids(
        &self,
        wanted: Vec<(Wanted, Option<String>)>,
        audiences: &[String],
        spiffe_id: Option<&str>,
    ) -> Result<Vec<JwtSvid>, NotIssued> {
        let issued = async {
            let mut open = self.open().await?;
            let mut all = Vec::new();
            let mut refused = None;
            for (one, hint) in &wanted {
                let connection = connection(&mut open)?;
                // Its keys may be newer than what is known here.
                let bundle = match self.current() {
                    Some(bundle) => bundle,
                    None => self.publish(match connection.trust_bundle().await {
                        Ok(bundle) => bundle,
                        Err(denied) => return Err(self.lost(&mut open, denied)),
                    }),
                };
                match connection.jwt_svids(one, audiences, spiffe_id, &bundle).await {
                    Ok(svids) => all.extend(svids.into_iter().map(|svid| match hint {
                        Some(hint) => JwtSvid { hint: hint.clone(), ..svid },
                        None => svid,
                    })),
                    Err(denied) => refused = Some(self.denied(&mut open, denied)?),
                }
            }
            self.used(&mut open);
            match refused {
                Some(failure) if all.is_empty() => Err(failure),
                _ => Ok(all),
            }
        };
        issued.await.map_err(|failure: Failure| match failure.exit {
            Exit::Refused => NotIssued::Nothing,
            _ => NotIssued::Unavailable(failure.message),
        })
    }

    /// Asks for the trust bundle.
    ///
    /// # Errors
    /// The authority cannot be asked.
    pub(super) async fn refresh_bundle(&self) -> Result<Arc<Bundle>, Failure> {
        let mut open = self.open().await?;
        let bundle = match connection(&mut open)?.trust_bundle().await {
            Ok(bundle) => self.publish(bundle),
            Err(denied) => return Err(self.lost(&mut open, denied)),
        };
        self.used(&mut open);
        Ok(bundle)
    }

    fn current(&self) -> Option<Arc<Bundle>> {
        self.bundle.borrow().clone()
    }

    /// Takes a bundle over unless it is older, and returns the newest.
    fn publish(&self, bundle: Bundle) -> Arc<Bundle> {
        self.bundle.send_if_modified(|known| {
            let is_new = known
                .as_ref()
                .is_none_or(|known| bundle.sequence >= known.sequence && **known != bundle);
            if is_new {
                *known = Some(Arc::new(bundle.clone()));
            }
            is_new
        });
        self.current().unwrap_or_else(|| Arc::new(bundle))
    }

    /// The open connection, or a new one. That is made also if the caller waits no longer, as for a TPM that takes its time: the next
    /// caller finds it.
    async fn open(&self) -> Result<OwnedMutexGuard<Option<Open>>, Failure> {
        let mut open = Arc::clone(&self.open).lock_owned().await;
        let now = clock::now().unix_timestamp();
        let is_usable = |open: &Open| open.connection.not_after() > now + MIN_VALIDITY;
        if open.as_ref().is_some_and(is_usable) {
            return Ok(open);
        }
        *open = None;
        let link = self.itself.upgrade().ok_or_else(|| Failure::bug("no link"))?;
        let connected = tokio::spawn(async move {
            let connection = link.connect().await?;
            *open = Some(Open { connection, used: Instant::now() });
            link.used(&mut open);
            Ok(open)
        });
        connected.await.map_err(Failure::bug)?
    }

    async fn connect(&self) -> Result<Authenticated, Failure> {
        let identity = self.identity.borrow().clone();
        let identity = identity.ok_or_else(|| {
            Failure::new(Exit::Unavailable, "this host has not joined yet", "see the agent's log")
        })?;
        if identity.protocol == Protocol::Teleport {
            return Err(Failure::new(
                Exit::Config,
                "a Teleport cluster cannot issue identities of workloads to this agent",
                "remove the service",
            ));
        }
        let settings = Arc::clone(&self.settings);
        let read = move || settings.tpm.passwords.read();
        let passwords = self.passwords.run_within(SHORT_TIMEOUT, read).await?;
        let (address, audience) = (&self.settings.tpm.address, Audience::Log(self.log));
        let (tpm, end) = TpmThread::open_async(address, self.meter.clone(), audience).await?;
        let connected = self.client.authenticate(&tpm, &identity, passwords).await;
        end.close().await;
        connected
    }

    /// A refusal of what was asked for leaves the connection open.
    ///
    /// # Errors
    /// Anything else.
    fn denied(&self, open: &mut Option<Open>, denied: Denied) -> Result<Failure, Failure> {
        match denied {
            Denied::Failed(failure) if failure.exit == Exit::Refused => Ok(failure),
            denied => Err(self.lost(open, denied)),
        }
    }

    fn lost(&self, open: &mut Option<Open>, denied: Denied) -> Failure {
        *open = None;
        match denied {
            // The daemon joins again.
            Denied::IdentityGone(failure) => Failure { exit: Exit::Unavailable, ..failure },
            Denied::Failed(failure) => failure,
        }
    }

    /// Notes a use, after which the connection is closed unless another one follows.
    fn used(&self, open: &mut Option<Open>) {
        let Some(open) = open else { return };
        let used = Instant::now();
        open.used = used;
        let link = self.itself.clone();
        tokio::spawn(async move {
            sleep_until(used + IDLE_TIMEOUT).await;
            let Some(link) = link.upgrade() else { return };
            let mut open = link.open.lock().await;
            if open.as_ref().is_some_and(|open| open.used == used) {
                *open = None;
            }
        });
    }
}

/// The connection of [`Link::open`].
fn connection(open: &mut Option<Open>) -> Result<&mut Authenticated, Failure> {
    let open = open.as_mut().ok_or_else(|| Failure::bug("no connection"))?;
    Ok(&mut open.connection)
}
