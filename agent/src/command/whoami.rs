//! `agent whoami`.

use std::error::Error;
use std::sync::Arc;

use p256::ecdsa::Signature;
use proto::v1::WhoAmIRequest;
use proto::v1::identity_service_client::IdentityServiceClient;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde::Serialize;
use tls::{DigestSigner, RemoteKey, ServerTrust};
use tonic::Request;

use super::{runtime, status, write, write_json};
use crate::attester::JoinKey;
use crate::ceremony;
use crate::cli::{Format, Whoami};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::identity::Identity;
use crate::tpm_thread::{Meter, TpmThread};

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    cluster: String,
    bot: String,
    roles: Vec<String>,
    spiffe_id: String,
    certificate_serial: String,
}

pub(crate) fn run(arguments: &Whoami) -> Result<(), Failure> {
    let identity = status::stored(&arguments.storage.storage)?;
    let (tpm, _end) = TpmThread::open(&arguments.tpm.tpm, Meter::default())?;
    let report = runtime()?.block_on(ask(&identity, tpm))?;
    match arguments.format {
        Format::Json => write_json(&report),
        Format::Text => write(
            format!(
                "Cluster:   {}\nBot:       {}\nRoles:     {}\nSPIFFE ID: {}\nSerial:    {}\n",
                report.cluster,
                report.bot,
                if report.roles.is_empty() { "none".to_owned() } else { report.roles.join(", ") },
                report.spiffe_id,
                report.certificate_serial
            )
            .as_bytes(),
        ),
    }
}

async fn ask(identity: &Identity, tpm: TpmThread) -> Result<Report, Failure> {
    let damaged = |error: String| Failure::new(Exit::Data, error, "join anew");
    let unique = identity.unique().map_err(damaged)?;
    let expected = identity.join_key().to_vec();
    let load = move |tpm: &mut crate::tpm_thread::Tpm| JoinKey::load(tpm, &unique, &expected);
    let key = tpm.call("the TPM is creating a key; some chips take half a minute", load).await?;
    let appraised = verifier::JoinKey::appraise(identity.join_key()).map_err(Failure::bug)?;

    let signer = KeyInTpm { tpm, key, spki: appraised.spki_der() };
    let remote = RemoteKey::new(Arc::new(signer)).map_err(Failure::bug)?;
    let chain = identity.certificates().map(|der| CertificateDer::from(der.to_vec())).collect();
    let certified = tls::identity(chain, Arc::new(remote)).map_err(|error| {
        Failure::new(Exit::Data, format!("the stored certificate: {error}"), "join anew")
    })?;
    let trust = ServerTrust::Pins(identity.pins().map_err(damaged)?);
    let config = tls::client_config(&trust, Some(certified)).map_err(Failure::bug)?;
    let connection = Connection::open(&identity.authority, config).await?;
    let mut client = IdentityServiceClient::new(connection.channel);
    let answer = client.who_am_i(Request::new(WhoAmIRequest {})).await;
    let answer = answer.map_err(|status| ceremony::refused(&status))?.into_inner();
    Ok(Report {
        cluster: answer.cluster,
        bot: answer.bot,
        roles: answer.roles,
        spiffe_id: answer.spiffe_id,
        certificate_serial: answer.certificate_serial,
    })
}

/// The join key as rustls uses it: each signature is made in the TPM.
#[derive(Debug)]
struct KeyInTpm {
    tpm: TpmThread,
    key: JoinKey,
    spki: Vec<u8>,
}

impl DigestSigner for KeyInTpm {
    fn public_key(&self) -> SubjectPublicKeyInfoDer<'static> {
        SubjectPublicKeyInfoDer::from(self.spki.clone())
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let (key, digest) = (self.key.clone(), *digest);
        let [r, s] = self.tpm.call_blocking(move |tpm| key.sign(tpm, &digest))?;
        Ok(Signature::from_scalars(r, s)?.to_der().as_bytes().to_vec())
    }
}
