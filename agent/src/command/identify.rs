//! `agent identify`.

use host::exit::Failure;
use host::output::{write, write_json};
use serde::Serialize;
use verifier::CaCertificate;

use super::block_on;
use crate::ceremony::client;
use crate::cli::{Identify, IdentifyFormat, TpmIdentify};
use crate::tpm::inventory::{self, EkChoice, EkReport, TpmReport};
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::{Audience, Meter, Tpm, TpmThread};

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    tpm: TpmReport,
    /// The hash of the key that a join would use.
    selected: String,
    endorsement_keys: Vec<EkReport>,
    /// Subjects of the certificates of CAs that the TPM holds.
    certificate_chain: Vec<String>,
}

pub(crate) fn run(arguments: &Identify) -> Result<(), Failure> {
    let choice = arguments.ek.ek;
    let passwords = arguments.passwords.read()?;
    let (tpm, _end) = TpmThread::open(&arguments.tpm.tpm, Meter::default(), Audience::Person)?;
    match arguments.format {
        IdentifyFormat::Json => {
            let report = block_on(tpm.call(move |tpm| all(tpm, choice, &passwords)))??;
            write_json(&report)
        }
        format => {
            let report = block_on(tpm.call(move |tpm| one(tpm, choice, &passwords)))??;
            match format {
                IdentifyFormat::Rule => write(rule(&report, &client::hostname())),
                _ => write(text(&report)),
            }
        }
    }
}

/// `agent tpm identify`.
pub(crate) fn run_as_tbot(arguments: &TpmIdentify) -> Result<(), Failure> {
    let choice = arguments.ek.ek;
    let passwords = arguments.passwords.read()?;
    let (tpm, _end) = TpmThread::open(&arguments.tpm.tpm, Meter::default(), Audience::Person)?;
    let report = block_on(tpm.call(move |tpm| one(tpm, choice, &passwords)))??;
    write(text_of_tbot(&report, arguments.debug))
}

fn one(tpm: &mut Tpm, choice: EkChoice, passwords: &Passwords) -> Result<EkReport, Failure> {
    let found = inventory::choose(tpm, choice, passwords)?;
    inventory::report(tpm, &found, passwords)
}

fn all(tpm: &mut Tpm, choice: EkChoice, passwords: &Passwords) -> Result<Report, Failure> {
    let mut endorsement_keys = inventory::report_all(tpm, passwords)?;
    let selected = match choice {
        EkChoice::Auto => endorsement_keys.first().map(|report| report.ek_public_hash.clone()),
        EkChoice::Kind(kind) => endorsement_keys
            .iter()
            .find(|report| report.kind == kind.name)
            .map(|report| report.ek_public_hash.clone()),
    };
    let selected = match selected {
        Some(selected) => selected,
        None => {
            let report = one(tpm, choice, passwords)?;
            let selected = report.ek_public_hash.clone();
            endorsement_keys.push(report);
            selected
        }
    };
    let (chain, _) = inventory::chain(tpm, passwords)?;
    let certificate_chain = chain.iter().map(CaCertificate::subject_text).collect();
    Ok(Report { tpm: inventory::tpm(tpm)?, selected, endorsement_keys, certificate_chain })
}

/// The words of the guide.
fn text(report: &EkReport) -> String {
    let mut text = format!(
        "TPM Information\nEKPub Hash: {}\nEKCert Detected: {}\n",
        report.ek_public_hash,
        report.certificate.is_some()
    );
    if let Some(certificate) = &report.certificate {
        text.push_str(&format!("EKCert Serial: {}\n", certificate.serial));
    }
    text
}

/// The same as tbot's newest versions have it.
fn text_of_tbot(report: &EkReport, with_pem: bool) -> String {
    let mut text = format!(
        "TPM Information\nEK Public Hash: {}\nEK Certificate Detected: {}\n",
        report.ek_public_hash,
        report.certificate.is_some()
    );
    if let Some(certificate) = &report.certificate {
        text.push_str(&format!("EK Certificate Serial: {}\n", certificate.serial));
    }
    if with_pem {
        text.push_str(&format!("EK Public:\n{}", report.public_key));
        if let Some(certificate) = &report.certificate {
            text.push_str(&format!("EK Certificate:\n{}", certificate.pem));
        }
    }
    text
}

/// A rule for the `allow` list of a token.
fn rule(report: &EkReport, hostname: &str) -> String {
    let mut rule =
        format!("- description: \"{hostname}\"\n  ek_public_hash: \"{}\"\n", report.ek_public_hash);
    if let Some(certificate) = &report.certificate {
        rule.push_str(&format!("  ek_certificate_serial: \"{}\"\n", certificate.serial));
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::inventory::{CertificateReport, Forms};

    fn report(certificate: Option<&str>) -> EkReport {
        EkReport {
            kind: "rsa2048",
            profile: "L-1",
            persistent_handle: None,
            ek_public_hash: "6c5a".into(),
            forms: Forms {
                teleport: String::new(),
                vault: String::new(),
                keylime: String::new(),
                tpm_name: None,
                intel: String::new(),
                amd: String::new(),
            },
            public_key: String::new(),
            certificate: certificate.map(|serial| CertificateReport {
                serial: serial.into(),
                issuer: String::new(),
                vendor: None,
                model: None,
                pem: String::new(),
            }),
        }
    }

    #[test]
    fn text_is_as_documented() {
        assert_eq!(
            text(&report(Some("5e:cd:5f:8e"))),
            "TPM Information\nEKPub Hash: 6c5a\nEKCert Detected: true\nEKCert Serial: 5e:cd:5f:8e\n"
        );
        assert_eq!(
            text(&report(None)),
            "TPM Information\nEKPub Hash: 6c5a\nEKCert Detected: false\n"
        );
    }

    #[test]
    fn text_of_tbot_has_its_newest_labels_and_pem_on_request() {
        let pem = |report: EkReport| EkReport { public_key: "KEY\n".into(), ..report };
        assert_eq!(
            text_of_tbot(&pem(report(Some("5e:cd"))), false),
            "TPM Information\nEK Public Hash: 6c5a\nEK Certificate Detected: true\nEK Certificate Serial: 5e:cd\n"
        );
        assert_eq!(
            text_of_tbot(&pem(report(None)), true),
            "TPM Information\nEK Public Hash: 6c5a\nEK Certificate Detected: false\nEK Public:\nKEY\n"
        );
        let mut certified = pem(report(Some("5e:cd")));
        certified.certificate.as_mut().unwrap().pem = "CERTIFICATE\n".into();
        let text = text_of_tbot(&certified, true);
        assert!(text.ends_with("EK Public:\nKEY\nEK Certificate:\nCERTIFICATE\n"), "{text}");
    }

    #[test]
    fn a_rule_has_what_is_known_and_quotes_it() {
        assert_eq!(
            rule(&report(Some("11:22")), "host-1"),
            "- description: \"host-1\"\n  ek_public_hash: \"6c5a\"\n  ek_certificate_serial: \"11:22\"\n"
        );
        assert!(!rule(&report(None), "host-1").contains("serial"));
    }
}
