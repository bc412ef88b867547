//! `agent join`.

use host::exit::{Exit, Failure};
use host::log::{Level, LogFormat};
use host::output::write;

use super::block_on;
use crate::ceremony::JoinParameters;
use crate::ceremony::client::Client;
use crate::cli::Join;
use crate::config::{Address, DEFAULT_TTL, Trust};
use crate::credential::identity::Identity;
use crate::log::Log;
use crate::storage::Storage;
use crate::tpm::thread::{Audience, Meter, TpmThread};

pub(crate) fn run(arguments: &Join) -> Result<(), Failure> {
    let token = arguments.token.read()?;
    let storage = Storage::open(&arguments.storage.storage)?;
    let stored = Storage::identity(&arguments.storage.storage)?;
    // If another kind of EK is requested by name, the stored EK does not count.
    let known = stored.as_ref().filter(|identity| arguments.ek.ek.allows(&identity.tpm.ek));
    let known = known.map(|identity| identity.known_ek()).transpose().map_err(Failure::bug)?;
    let (addresses, trust) = server(arguments)?;
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let protocol = arguments.server.protocol.unwrap_or_default().fixed();
    let client = Client::new(addresses, &trust)?.by(protocol);
    let passwords = arguments.passwords.read()?;
    let meter = Meter::default();
    let (tpm, _end) = TpmThread::open(&arguments.tpm.tpm, meter.clone(), Audience::Person)?;
    let wanted = JoinParameters {
        token,
        choice: arguments.ek.ek,
        known,
        passwords,
        ttl: DEFAULT_TTL,
        protocol: client.protocol(stored.as_ref()),
        attestation_key: stored.as_ref().map(Identity::attestation_key).unwrap_or_default(),
        attempt: storage.join_attempt(stored.as_ref())?,
    };
    let log = Log::new(LogFormat::Text, if arguments.debug { Level::Debug } else { Level::Info });
    let joined = block_on(client.join(&tpm, wanted))?;
    let identity = joined.inspect_err(|failure| {
        if !failure.cause.is_empty() {
            log.debug("caused by", &[("cause", &failure.cause)]);
        }
    })?;
    storage.store(&identity)?;
    let (commands, busy) = meter.read();
    log.debug("joined", &[("tpm_commands", &commands), ("tpm_seconds", &busy.as_secs_f64())]);
    write(
        format!(
            "Joined cluster {} as bot {}\nSPIFFE ID:   {}\nValid until: {}\nStored in:   {}\n",
            identity.cluster,
            identity.bot,
            identity.spiffe_id.as_deref().unwrap_or("none"),
            identity.not_after,
            arguments.storage.storage.display()
        )
        .as_bytes(),
    )
}

/// The addresses, and how the server is authenticated, by the same rules as in the configuration file.
fn server(arguments: &Join) -> Result<(&[Address], Trust), Failure> {
    match (arguments.proxy_server.as_slice(), arguments.server.trust()) {
        ([], None) => Err(Failure::new(
            Exit::Usage,
            "no CA of the authority is given",
            "give --ca-pin (`authority status` shows the pin), or --authority in place of --auth-server if the server has a \
             certificate of a public CA",
        )),
        ([], Some(trust)) => Ok((&arguments.auth_server, trust)),
        (addresses, trust) => Ok((addresses, trust.unwrap_or(Trust::SystemRoots))),
    }
}
