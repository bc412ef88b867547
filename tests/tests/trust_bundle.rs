//! The CAs that a host trusts once it has joined: those of its trust bundle.

use std::sync::Arc;
use std::time::Duration;

use agent::ceremony::client::Client;
use agent::config::Trust;
use agent::credential::identity::Identity;
use agent::credential::{Credentials, TrustBundle};
use agent::storage::Storage;
use agent::tpm::passwords::Passwords;
use agent::tpm::thread::{Audience, Meter, TpmThread};
use anyhow::{Context, Result, ensure};
use authority::audit::AuditLog;
use authority::cluster::Cluster;
use authority::folder::{DataFolder, Lock};
use authority::issue::{CaKey, Keys, X509Authority};
use authority::server::{AdminSocket, PublicListener, TlsSettings, bind, serve};
use authority::service::Authority;
use host::clock::Clock;
use host::exit::Failure;
use testkit::swtpm::{Factory, Kind, Maker};
use tests::programs;
use tests::world::World;
use tokio::sync::watch;

const TTL: Duration = Duration::from_secs(3600);

/// An authority with the records of another, and a CA of its own.
struct Successor {
    address: String,
    /// The CA from before, and its own, DER.
    cas: [Vec<u8>; 2],
    _stop: watch::Sender<bool>,
    _lock: Lock,
}

impl Successor {
    /// Serves hosts with the certificates that either CA has issued. The authority of this data folder has ended.
    fn of(folder: &DataFolder) -> Result<Self> {
        let (clock, lock) = (Clock::system(), folder.lock()?);
        let cluster = Cluster::open(folder, &lock, None, clock.now())?;
        let name = cluster.issuer.cluster().clone();
        let x509 = X509Authority::create(&name, CaKey::generate()?, clock.now())?;
        let cas = [cluster.issuer.x509().certificate().clone(), x509.certificate().clone()];
        let keyring = cluster.issuer.keyring();
        let Keys { x509: ring, ssh } = Keys::clone(&keyring.keys());
        let x509 = ring.with_next(x509, clock.now()).activated(clock.now());
        keyring.replace(Keys { x509, ssh });
        let (issuer, store) = (cluster.issuer, Arc::new(cluster.store));
        let audit = AuditLog::open(&folder.audit())?;
        let authority = Authority::new(issuer, store, audit, clock, Duration::from_secs(60));
        let authority = Arc::new(authority);
        let config = TlsSettings::new(Arc::clone(&authority))?;
        let admin = AdminSocket::bind(folder, &lock)?;
        let public = PublicListener::listen(bind("127.0.0.1:0".parse()?)?, config)?;
        let address = public.address()?.to_string();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(authority, public, admin, stopped));
        Ok(Self { address, cas: cas.map(|ca| ca.to_vec()), _stop: stop, _lock: lock })
    }
}

/// The same identity, with this bundle.
fn with_bundle(identity: &Identity, cas: &[Vec<u8>]) -> Result<Identity> {
    let credentials = Credentials {
        certificates: identity.certificates().map(<[u8]>::to_vec).collect(),
        bundle: TrustBundle::new(cas.iter().map(Vec::as_slice)).map_err(anyhow::Error::msg)?,
        ssh_certificate: identity.ssh_certificate.clone(),
        ssh_authorities: identity.ssh_authorities.clone(),
        spiffe_id: identity.spiffe_id.clone(),
        validity: identity.validity().map_err(anyhow::Error::msg)?,
    };
    Ok(identity.renewed(identity.authority.clone(), credentials, identity.generation, TTL)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_with_another_ca_renews_if_the_bundle_has_it() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let mut world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    world.stop()?;
    let joined = Storage::identity(&world.path("storage"))?.context("no identity")?;
    let successor = Successor::of(&DataFolder::new(world.path("data")))?;

    let pins = vec![world.pin().parse()?];
    let client = Client::new(vec![successor.address.clone()], &Trust::Pins(pins.clone()))?;
    let tcti = swtpm.tcti().parse()?;
    let (tpm, end) = TpmThread::open_async(&tcti, Meter::default(), Audience::Person).await?;
    let connect = |identity| client.authenticate(&tpm, identity, Passwords::default());

    let refused = connect(&joined).await.err().context("a CA that nothing vouches for")?;
    ensure!(refused.message.contains("than the pinned one"), "{refused}");

    let [before, own] = &successor.cas;
    let prepared = with_bundle(&joined, &successor.cas)?;
    let renewed = connect(&prepared).await?.renew(&prepared, TTL).await.map_err(Failure::from)?;
    let named = [own.as_slice(), before.as_slice()];
    ensure!(renewed.x509_authorities().eq(named), "the bundle is not the new one");
    ensure!(renewed.generation == joined.generation + 1);
    // The pin is for the join: what is trusted is the bundle.
    let bundle = renewed.bundle().map_err(anyhow::Error::msg)?;
    ensure!(renewed.trusted(&pins).map_err(anyhow::Error::msg)? == bundle.pins());
    connect(&renewed).await?.who_am_i().await.map_err(Failure::from)?;
    end.close().await;
    Ok(())
}
