//! authority ek check

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::{warn, write};
use verifier::chain::{self, ChainPolicy, Path as ChainPath, PurposePolicy};
use verifier::pem::{self, Bundle};
use verifier::{CaCertificate, EkCertificate, EkPublicKey, UnixTime};

use crate::cli::EkCheck;
use crate::config::Leniency;

/// Some hundreds of certificates.
const MAX_CERTIFICATE_FILE: u64 = 1024 * 1024;

pub(super) fn check(check: &EkCheck) -> Result<(), Failure> {
    let ek = endorsement_certificate(&check.certificate)?;
    let mut anchors = Vec::new();
    for file in &check.cas {
        anchors.extend(cas(file)?);
    }
    let mut between = Vec::new();
    for file in &check.chain {
        between.extend(cas(file)?);
    }
    let at = UnixTime::from_seconds(Clock::system().now().unix_timestamp());
    let purpose = match check.ek_without_purpose {
        Some(Leniency::Accepted) => PurposePolicy::Accepted,
        Some(Leniency::Refused) | None => PurposePolicy::Refused,
    };
    let policy = ChainPolicy { purpose, ..check.policy.of_chains() };
    let path = chain::verify(&ek, &between, &anchors, at, policy);
    let path =
        path.map_err(|error| Failure::new(Exit::Refused, error.to_string(), error.advice()))?;
    write(report(&ek, &path))
}

fn report(ek: &EkCertificate, path: &ChainPath<'_>) -> String {
    let key = match ek.public_key() {
        EkPublicKey::Rsa(key) => format!("RSA {}", key.bits()),
        EkPublicKey::Ecc(key) => key.curve().to_string(),
    };
    let tpm = ek.tpm().map_or_else(|| "not stated".to_owned(), ToString::to_string);
    let mut text = format!(
        "EKPub Hash     {}\nEKCert Serial  {}\nKey            {key}\nTPM            {tpm}\n\
         Valid          {} to {}\nIssuer         {}\n",
        ek.public_key().public_hash(),
        ek.serial(),
        ek.not_before(),
        ek.not_after(),
        ek.issuer_text(),
    );
    for ca in path.intermediates() {
        text.push_str(&format!("Intermediate   {}\n", ca.subject_text()));
    }
    let anchor = path.anchor();
    text.push_str(&format!(
        "Trusted CA     {}, SHA-256 {}\n",
        anchor.subject_text(),
        anchor.fingerprint()
    ));
    text
}

fn endorsement_certificate(file: &Path) -> Result<EkCertificate, Failure> {
    let content = content(file)?;
    let advice = "give the certificate of one endorsement key, PEM or DER";
    let wrong = |cause: &dyn Display| {
        Failure::new(Exit::Data, format!("{}: {cause}", file.display()), advice)
    };
    match text(&content) {
        None => EkCertificate::from_nv(&content).map_err(|cause| wrong(&cause)),
        Some(text) => match pem::certificates(text).map_err(|cause| wrong(&cause))?.as_slice() {
            [one] => EkCertificate::parse(one).map_err(|cause| wrong(&cause)),
            several => Err(wrong(&format!("{} certificates instead of one", several.len()))),
        },
    }
}

/// The CAs in a file. Malformed ones in a bundle cause a warning; the others are used.
fn cas(file: &Path) -> Result<Vec<CaCertificate>, Failure> {
    let content = content(file)?;
    let wrong = |cause: &dyn Display| {
        let advice = "give CA certificates, as published by the TPM's vendor";
        Failure::new(Exit::Data, format!("{}: {cause}", file.display()), advice)
    };
    let Some(text) = text(&content) else {
        return Ok(vec![CaCertificate::parse(&content).map_err(|cause| wrong(&cause))?]);
    };
    let Bundle { cas, unreadable } = Bundle::read(text).map_err(|cause| wrong(&cause))?;
    if let ([], [first, ..]) = (&cas[..], &unreadable[..]) {
        return Err(wrong(first));
    }
    for cause in unreadable {
        warn(&format!("{}: {cause}; the rest is used", file.display()));
    }
    Ok(cas)
}

/// The content as PEM, if it is; DER begins with a byte that no such text begins with.
fn text(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content).ok().filter(|text| text.contains("-----BEGIN "))
}

fn content(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed =
        |cause: std::io::Error| Failure::io(&cause, format!("cannot read {}", file.display()));
    let mut content = Vec::new();
    let mut reader = File::open(file).map_err(failed)?.take(MAX_CERTIFICATE_FILE + 1);
    if reader.read_to_end(&mut content).map_err(failed)? as u64 > MAX_CERTIFICATE_FILE {
        let what = format!("{}: larger than {MAX_CERTIFICATE_FILE} bytes", file.display());
        return Err(Failure::new(Exit::Data, what, "give a file with a few certificates"));
    }
    Ok(content)
}
