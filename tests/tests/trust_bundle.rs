//! The CAs that a host trusts once it has joined: those of its trust bundle.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

use agent::ceremony::SubjectForm;
use agent::ceremony::authenticated::Denied;
use agent::ceremony::client::Client;
use agent::ceremony::reissue::Reissue;
use agent::config::Trust;
use agent::credential::identity::Identity;
use agent::credential::{Credentials, Names, TrustBundle};
use agent::keys::SoftwareKey;
use agent::storage::Storage;
use agent::tpm::passwords::Passwords;
use agent::tpm::thread::{Audience, Meter, TpmThread};
use anyhow::{Context, Result, ensure};
use authority::assemble::{Parts, assemble};
use authority::config::{Settings, Start};
use authority::issue::{CaKey, Keys, SshCa, X509Ca};
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
    authority: Arc<Authority>,
    _stop: watch::Sender<bool>,
}

impl Successor {
    /// Serves hosts with the certificates that either CA has issued. The authority of this data directory has ended.
    async fn of(data_dir: PathBuf) -> Result<Self> {
        let listen = "127.0.0.1:0".parse()?;
        let settings = Settings { data_dir, listen, ..Settings::new(&Start::default())? };
        let assembled = assemble(settings, Parts::system()).await?;
        let (issuer, now) = (&assembled.authority.issuer, Clock::system().now());
        let next = X509Ca::create(issuer.cluster(), CaKey::generate()?, now)?;
        let cas = [issuer.x509().certificate().to_vec(), next.certificate().to_vec()];
        let keys = Keys::clone(&issuer.keyring().keys());
        let x509 = keys.x509.with_next(next, now).activated(now);
        issuer.keyring().replace(Keys { x509, ..keys })?;
        let (address, authority) =
            (assembled.address.to_string(), Arc::clone(&assembled.authority));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(assembled.serve(stopped));
        Ok(Self { address, cas, authority, _stop: stop })
    }

    /// Replaces the SSH CA: each time a document of the trust chain, and in all more than are in one answer.
    fn replace_ssh_cas(&self) -> Result<()> {
        let (issuer, now) = (&self.authority.issuer, Clock::system().now());
        for _ in 0..40 {
            let keys = Keys::clone(&issuer.keyring().keys());
            let ca = SshCa::new(issuer.cluster(), &CaKey::generate()?)?;
            let ssh = keys.ssh.with_next(ca, now).activated(now);
            let ssh = ssh.without_retired_before(now + Duration::from_secs(60));
            issuer.keyring().replace(Keys { ssh, ..keys })?;
        }
        Ok(())
    }

    /// Trusts its own CA only.
    fn retire(&self) -> Result<()> {
        let keyring = self.authority.issuer.keyring();
        let keys = Keys::clone(&keyring.keys());
        let x509 =
            keys.x509.without_retired_before(Clock::system().now() + Duration::from_secs(60));
        Ok(keyring.replace(Keys { x509, ..keys })?)
    }
}

/// The same identity, with this bundle.
fn with_bundle(identity: &Identity, cas: &[Vec<u8>]) -> Result<Identity> {
    let credentials = Credentials {
        protocol: identity.protocol,
        names: Names {
            cluster: identity.cluster.clone(),
            bot: identity.bot.clone(),
            instance: identity.instance.clone(),
            generation: identity.generation,
        },
        certificates: identity.certificates().map(<[u8]>::to_vec).collect(),
        bundle: TrustBundle::new(cas.iter().map(Vec::as_slice)).map_err(anyhow::Error::msg)?,
        ssh_certificate: identity.ssh_certificate.clone(),
        ssh_cas: identity.ssh_cas.clone(),
        ssh_host_cas: identity.ssh_host_cas.clone(),
        trust_version: identity.trust_version,
        spiffe_id: identity.spiffe_id.clone(),
        validity: identity.validity().map_err(anyhow::Error::msg)?,
    };
    Ok(identity.renewed(identity.authority.clone(), credentials, TTL)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_with_another_ca_renews_if_the_bundle_has_it() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let mut world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    world.stop()?;
    let joined = Storage::identity(&world.path("storage"))?.context("no identity")?;
    let successor = Successor::of(world.path("data")).await?;

    let pins = vec![world.pin().parse()?];
    let client = Client::new(vec![successor.address.clone()], &Trust::Pins(pins.clone()))?;
    let tcti = swtpm.tcti().parse()?;
    let (tpm, end) = TpmThread::open_async(&tcti, Meter::default(), Audience::Person).await?;
    let connect = |identity| client.authenticate(&tpm, identity, Passwords::default());

    let [before, own] = &successor.cas;
    let prepared = with_bundle(&joined, &successor.cas)?;
    let renewed = connect(&prepared).await?.renew(&prepared, TTL).await.map_err(Failure::from)?;
    let named = [own.as_slice(), before.as_slice()];
    ensure!(renewed.x509_cas().eq(named), "the bundle is not the new one");
    ensure!(renewed.generation == joined.generation + 1);
    // The pin is for the join: what is trusted is the bundle.
    let bundle = renewed.bundle().map_err(anyhow::Error::msg)?;
    ensure!(renewed.trusted(&pins).map_err(anyhow::Error::msg)? == bundle.pins());
    connect(&renewed).await?.who_am_i().await.map_err(Failure::from)?;
    end.close().await;
    Ok(())
}

/// A host with a bundle from before a rotation, and one with a pin from before it: what led from the old CA to the new one is
/// signed by both. Many changes of other CAs lie between.
#[tokio::test(flavor = "multi_thread")]
async fn host_that_missed_a_rotation_follows_the_trust_chain() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let mut world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    world.stop()?;
    let joined = Storage::identity(&world.path("storage"))?.context("no identity")?;
    let successor = Successor::of(world.path("data")).await?;
    successor.replace_ssh_cas()?;
    successor.retire()?;

    let client = |pin: &str| {
        let pins = Trust::Pins(vec![pin.parse()?]);
        anyhow::Ok(Client::new(vec![successor.address.clone()], &pins)?)
    };
    let tcti = swtpm.tcti().parse()?;
    let (tpm, end) = TpmThread::open_async(&tcti, Meter::default(), Audience::Person).await?;
    let connected = client(world.pin())?;
    // The certificate of the identity is of the retired CA: the authority refuses it, and the agent joins again.
    let mut asleep = connected.authenticate(&tpm, &joined, Passwords::default()).await?;
    let denied = asleep.renew(&joined, TTL).await.err().context("a certificate of a retired CA")?;
    ensure!(matches!(denied, Denied::IdentityGone(_)), "{denied:?}");
    end.close().await;
    let join = |pin: &str, storage: &str| {
        let storage = world.path(storage);
        world.agent(&[
            "join",
            "--tpm",
            &swtpm.tcti(),
            "--authority",
            &successor.address,
            "--ca-pin",
            pin,
            "--token",
            "t",
            "--storage",
            &storage.display().to_string(),
        ])
    };
    let said = tokio::task::block_in_place(|| join(world.pin(), "late"))?;
    said.success()?;
    let late = Storage::identity(&world.path("late"))?.context("no identity")?;
    ensure!(late.x509_cas().eq([successor.cas[1].as_slice()]), "the bundle is not the new one");
    // A pin that is of no CA of this cluster leads nowhere.
    let stranger = format!("sha256:{}", "ab".repeat(32));
    let said = tokio::task::block_in_place(|| join(&stranger, "other"))?;
    let [what, _] = said.failure(69)?;
    ensure!(what.contains("another CA than the pinned one"), "{what}");
    Ok(())
}

/// A CA whose key others may have: the next answer of any kind lets the agent renew everything.
#[tokio::test(flavor = "multi_thread")]
async fn host_learns_from_the_next_answer_that_a_ca_is_tainted() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let mut world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    let joined = Storage::identity(&world.path("storage"))?.context("no identity")?;
    let tcti = swtpm.tcti().parse()?;
    // Each connection has a key in the TPM, and the TPM room for few.
    let open = async || TpmThread::open_async(&tcti, Meter::default(), Audience::Person).await;
    let reissue = Reissue::default();
    let client =
        Client::new(vec![world.address().into()], &Trust::Pins(vec![world.pin().parse()?]))?;
    let client = client.reissuing(reissue.clone());
    let is_asked =
        || pin!(reissue.wanted()).poll(&mut TaskContext::from_waker(Waker::noop())).is_ready();
    let key = SoftwareKey::generate()?;
    let issue = async |identity: &Identity| {
        let (tpm, end) = open().await?;
        let issued = match client.authenticate(&tpm, identity, Passwords::default()).await {
            Ok(mut connection) => connection.issue(&key, "web", SubjectForm::Plain, TTL).await,
            Err(failure) => Err(Denied::Failed(failure)),
        };
        end.close().await;
        anyhow::Ok(issued.map_err(Failure::from)?)
    };
    issue(&joined).await?;
    ensure!(!is_asked(), "nothing is tainted");
    // The certificate of the server is of the new CA: the chain of trust bundles leads to it.
    world.authority(&["ca", "taint", "--type", "x509"])?.success()?;
    let issued = issue(&joined).await?;
    ensure!(issued.bundle.pins().len() == 2 && is_asked(), "it is not asked to renew");
    let (tpm, end) = open().await?;
    let mut connection = client.authenticate(&tpm, &joined, Passwords::default()).await?;
    let renewed = connection.renew(&joined, TTL).await.map_err(Failure::from)?;
    drop(connection);
    end.close().await;
    issue(&renewed).await?;
    ensure!(!is_asked(), "it has renewed");

    // A host that has not renewed needs the new pin, and joins again.
    world.authority(&["ca", "revoke", "--type", "x509", "--force", "--yes"])?.success()?;
    issue(&renewed).await?;
    let lost = issue(&joined).await;
    ensure!(lost.is_err(), "the revoked CA leads to the new one");
    let status = world.authority(&["status"])?.success()?;
    let new = status.split_whitespace().find(|word| word.starts_with("sha256:"));
    let new = new.context("no pin")?.to_owned();
    let pinned = Client::new(vec![world.address().into()], &Trust::Pins(vec![new.parse()?]))?;
    let (tpm, end) = open().await?;
    let refused = pinned.authenticate(&tpm, &joined, Passwords::default()).await;
    let refused = match refused {
        Ok(mut connection) => connection.who_am_i().await.map(drop),
        Err(failure) => Err(Denied::Failed(failure)),
    };
    ensure!(matches!(refused, Err(Denied::IdentityGone(_))), "{refused:?}");
    end.close().await;
    world.stop()
}
