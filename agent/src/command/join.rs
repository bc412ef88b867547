//! `agent join`.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tls::ServerTrust;
use verifier::JoinKey;

use super::{runtime, write};
use crate::attester::Attester;
use crate::ceremony::{self, Who};
use crate::cli::Join;
use crate::clock;
use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::exit::{Exit, Failure};
use crate::identity::{Identity, Joined};
use crate::storage::Storage;
use crate::tpm_thread::{Meter, TpmThread};

pub(crate) fn run(arguments: &Join) -> Result<(), Failure> {
    let storage = Storage::open(&arguments.storage.storage)?;
    let known = Storage::identity(&arguments.storage.storage)?;
    let known = known.map(|identity| identity.known_ek()).transpose().map_err(Failure::bug)?;
    let (tpm, _end) = TpmThread::open(&arguments.tpm.tpm, Meter::default())?;
    let identity = runtime()?.block_on(join(arguments, known, &tpm))?;
    storage.store(&identity)?;
    write(
        format!(
            "Joined cluster {} as bot {}\nSPIFFE ID:   {}\nValid until: {}\nStored in:   {}\n",
            identity.cluster,
            identity.bot,
            identity.spiffe_id,
            identity.not_after,
            arguments.storage.storage.display()
        )
        .as_bytes(),
    )
}

async fn join(
    arguments: &Join,
    known: Option<crate::attester::KnownEk>,
    tpm: &TpmThread,
) -> Result<Identity, Failure> {
    let mut unique = [0; 32];
    tpm2::crypto::random(&mut unique).map_err(Failure::bug)?;
    let choice = arguments.ek.ek;
    let prepare = tpm
        .call("the TPM is creating a key; some chips take half a minute", move |tpm| {
            Attester::prepare(tpm, choice, known, &unique)
        });
    let trust = ServerTrust::Pins(arguments.ca_pin.clone());
    let config = tls::client_config(&trust, None).map_err(Failure::bug)?;
    // While the TPM works the network does too.
    let connect = Connection::open(&arguments.authority, config);
    let (attester, connection) = tokio::try_join!(prepare, connect)?;

    let (ek, join_key) = (attester.ek().clone(), attester.join_key().public().to_vec());
    let appraised = JoinKey::appraise(&join_key).map_err(|error| {
        let message = format!("the TPM made another key than it was told to: {error}");
        Failure::new(Exit::Data, message, "the TPM or its driver is faulty")
    })?;
    let who = Who { token: arguments.token.clone(), hostname: super::identify::hostname() };
    let result = ceremony::join(connection, tpm, attester, &who).await?;

    let not_after = result.not_after;
    let joined = Joined {
        authority: arguments.authority.clone(),
        ca_pins: arguments.ca_pin.clone(),
        token: who.token,
        cluster: result.cluster.clone(),
        bot: result.bot.clone(),
        instance: result.instance.clone(),
        joined: rfc3339(clock::now())?,
        not_after: rfc3339(OffsetDateTime::from_unix_timestamp(not_after).map_err(Failure::bug)?)?,
    };
    let credentials =
        Credentials::verify(result, &appraised, &arguments.ca_pin, clock::unix_now())?;
    Ok(Identity::new(joined, credentials, &ek, &unique, &join_key))
}

fn rfc3339(time: OffsetDateTime) -> Result<String, Failure> {
    let whole = time.replace_nanosecond(0).map_err(Failure::bug)?;
    whole.format(&Rfc3339).map_err(Failure::bug)
}
