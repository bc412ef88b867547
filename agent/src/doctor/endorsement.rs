//! Checks the endorsement keys of the TPM and their certificates.

use host::exit::{Exit, Failure};
use tpm2::Tpm;
use tpm2::endorsement::{self, DEFAULT_KIND, EkKind};
use tpm2::transport::Transport;
use verifier::{CertificateError, EkCertificate, EkPublicKey};

use super::{Check, Topic};
use crate::tpm::failure;
use crate::tpm::inventory::{key_bytes, mismatch, resident_key};
use crate::tpm::passwords::Passwords;

/// What was found: a line for each key, and the hashes of those that are good.
pub(super) type EkFindings = (Vec<Check>, Vec<String>);

/// Looks at every kind of key that has a certificate; without any, at the one that a join would use. A key that is not
/// persistent is made, which some chips take half a minute for, and removed again.
pub(super) fn examine<T: Transport>(
    tpm: &mut Tpm<T>,
    passwords: &Passwords,
    wall: i64,
) -> Result<EkFindings, Failure> {
    let kinds = endorsement::certified(tpm).map_err(failure::command)?;
    let (mut checks, mut hashes) = (Vec::new(), Vec::new());
    for kind in &kinds {
        match certified(tpm, kind, passwords, wall) {
            Ok((check, hash)) => {
                checks.push(check);
                hashes.push(hash);
            }
            Err(failure) => checks.push(Check::fail(Topic::EndorsementKey, failure)),
        }
    }
    if kinds.is_empty() {
        let (key, place) = resident(tpm, DEFAULT_KIND, passwords, None)?;
        hashes.push(key.public_hash());
        checks.push(Check::warn(
            Topic::EndorsementKey,
            format!("{DEFAULT_KIND}: no certificate; the key is {place}"),
            "allow it by its hash (`agent identify --format rule`); a token with ekcert_allowed_cas refuses it",
        ));
    }
    Ok((checks, hashes))
}

fn certified<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &'static EkKind,
    passwords: &Passwords,
    wall: i64,
) -> Result<(Check, String), Failure> {
    let index = kind.certificate.0;
    let der = endorsement::certificate(tpm, kind, passwords.as_tpm());
    let der = der.map_err(|error| passwords.explain(error))?.unwrap_or_default();
    let certificate = EkCertificate::parse(&der).map_err(|error| unusable(kind, &error))?;
    let (_, place) = resident(tpm, kind, passwords, Some(certificate.public_key()))?;
    let serial = certificate.serial();
    let [from, to] = [certificate.not_before(), certificate.not_after()];
    let finding = format!(
        "{kind}: certificate {serial} at {index:#010x}, valid until {to}, matches the key, which is {place}"
    );
    let advice = "compare the clocks of both machines; the server decides by its own";
    let check = if wall < from.seconds() {
        let finding = format!("{finding}; it is not valid before {from}");
        Check::warn(Topic::EndorsementKey, finding, advice)
    } else if wall > to.seconds() {
        Check::warn(Topic::EndorsementKey, format!("{finding}; it has expired"), advice)
    } else {
        Check::ok(Topic::EndorsementKey, finding)
    };
    Ok((check, certificate.public_key().public_hash()))
}

/// The key as the verifier reads it, which refuses what is weak, and where it is in the TPM.
fn resident<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &'static EkKind,
    passwords: &Passwords,
    expected: Option<&EkPublicKey>,
) -> Result<(EkPublicKey, String), Failure> {
    if let Some(found) = endorsement::find(tpm, kind).map_err(failure::command)? {
        let key = resident_key(&found)?;
        if expected.is_none_or(|expected| *expected == key) {
            return Ok((key, format!("persistent at {:#010x}", found.handle().0)));
        }
    }
    let made = endorsement::create(tpm, kind, expected.map(key_bytes), passwords.as_tpm());
    let made = made.map_err(|error| passwords.explain(error))?;
    let made = made.ok_or_else(|| mismatch(kind))?;
    let key = resident_key(&made);
    tpm.flush(made.handle()).map_err(failure::command)?;
    Ok((key?, "created when needed".to_owned()))
}

fn unusable(kind: &EkKind, error: &CertificateError) -> Failure {
    let advice = if error.fault() == verifier::Fault::Weak {
        "update the TPM's firmware, which creates a new key, and ask the manufacturer for its \
         certificate; until then choose another key with --ek"
    } else {
        "choose another key with --ek, and report the certificate to the TPM's vendor"
    };
    let message = format!("{kind}: the EK certificate at {:#010x}: {error}", kind.certificate.0);
    Failure::new(Exit::Data, message, advice)
}
