//! The agent joins an authority of this project by Teleport's protocols, which it serves too.

use std::time::Duration;

use agent::ceremony::client::Client;
use agent::ceremony::{JoinAttempt, JoinParameters};
use agent::config::{Protocol, Trust};
use agent::credential::identity::Identity;
use agent::tpm::inventory::EkChoice;
use agent::tpm::passwords::Passwords;
use agent::tpm::thread::{Audience, Meter, TpmThread};
use anyhow::{Context, Result};
use host::exit::Failure;
use testkit::swtpm::{Factory, Kind, Maker};
use tests::programs;
use tests::world::{CLUSTER, World};

fn wanted(client: &Client, stored: Option<&Identity>) -> JoinParameters {
    JoinParameters {
        token: "t".into(),
        choice: EkChoice::Auto,
        known: stored.and_then(|identity| identity.known_ek().ok()),
        passwords: Passwords::default(),
        ttl: Duration::from_secs(3600),
        protocol: client.protocol(stored),
        attestation_key: stored.map(Identity::attestation_key).unwrap_or_default(),
        attempt: JoinAttempt::new().expect("random numbers"),
    }
}

/// The protocol that is stronger is used, unless the other one is configured; then the authority knows of the instance that its
/// key is not proven.
#[tokio::test(flavor = "multi_thread")]
async fn authority_is_joined_by_its_own_protocol_or_the_configured_one() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    let trust = Trust::Pins(vec![world.pin().parse()?]);
    let auto = Client::new(vec![world.address().to_owned()], &trust)?;
    // A TPM without resource manager has room for the keys of one join.
    let address = swtpm.tcti().parse()?;
    let open = || TpmThread::open_async(&address, Meter::default(), Audience::Person);

    let (tpm, end) = open().await?;
    let joined = auto.join(&tpm, wanted(&auto, None)).await?;
    end.close().await;
    assert_eq!(joined.protocol, Protocol::Endorse);
    let teleport = auto.clone().by(Some(Protocol::Teleport));
    let (tpm, end) = open().await?;
    let first = teleport.join(&tpm, wanted(&teleport, Some(&joined))).await?;
    end.close().await;
    assert_eq!((first.protocol, first.generation), (Protocol::Teleport, 1));
    assert_eq!(first.cluster, CLUSTER);
    let (tpm, end) = open().await?;
    let renewed = teleport.rejoin(&tpm, &first, wanted(&teleport, Some(&first))).await;
    end.close().await;
    let renewed = renewed.map_err(Failure::from)?;
    assert_eq!((&renewed.instance, renewed.generation), (&first.instance, 2));
    assert_ne!(joined.instance, first.instance);
    let kept = auto.protocol(Some(&joined)).context("a protocol")?;
    assert_eq!(kept, Protocol::Endorse);
    Ok(())
}
