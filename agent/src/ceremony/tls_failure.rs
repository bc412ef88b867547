//! Explains failed TLS connections to operators.

use std::io;

use host::exit::{Exit, Failure};
use rustls::{AlertDescription, CertificateError, Error};
use tls::{PinError, PublicNameError};

use crate::ceremony::route::Naming;
use crate::ceremony::wording::{PROXY, Wording};

/// Names of a certificate that are repeated to the operator.
const MAX_NAMES: usize = 4;

/// TLS failed: the server is not trusted, does not accept our certificate, or does not speak TLS.
pub(super) fn handshake_failure(
    address: &str,
    naming: Naming,
    wording: &Wording,
    error: &io::Error,
) -> Failure {
    let whose = wording.whose;
    let failure =
        |message: String, advice: String| Failure::new(Exit::Unavailable, message, advice);
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match cause {
        Some(Error::InvalidCertificate(why)) => match naming {
            Naming::Internal => not_the_authority(address, wording, why),
            Naming::Public => not_its_name(address, wording, why),
        },
        // Before the server is authenticated, an attacker may have sent this.
        Some(Error::AlertReceived(alert)) => failure(
            format!("{address} aborted the TLS handshake: {}", alert_name(*alert)),
            format!(
                "check that {address} is {whose} address{}, and that no one intercepts the \
                 connection",
                hint(naming, *alert)
            ),
        ),
        Some(_) => failure(
            format!("TLS with {address} failed: the server does not speak TLS as expected"),
            format!("check that the address is {whose}"),
        )
        .caused_by(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => failure(
            format!("{address} closed the connection during the TLS handshake"),
            format!("check {whose} log, and try again"),
        )
        .caused_by(error),
        None => failure(
            format!("TLS with {address} failed: {error}"),
            format!("check {whose} log, and try again"),
        ),
    }
}

/// What an alert says of the address. RFC 7301 3.2, RFC 6066 3.
const fn hint(naming: Naming, alert: AlertDescription) -> &'static str {
    match (alert, naming) {
        (AlertDescription::NoApplicationProtocol, _) => {
            ", name and port: the server there offers none of its protocols (ALPN)"
        }
        (AlertDescription::UnrecognisedName, Naming::Public) => {
            ": the server there does not know the name"
        }
        (AlertDescription::UnrecognisedName, Naming::Internal) => {
            ": the server there does not have the name that all its servers have"
        }
        _ => "",
    }
}

/// Whether the server's certificate is of a CA that is not trusted. An authority presents its CA; a server that presents none is
/// another one.
pub(super) fn is_unknown_ca(error: &io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => true,
        Some(Error::InvalidCertificate(CertificateError::Other(other))) => {
            matches!(other.0.downcast_ref(), Some(PinError::NotPinned { presented }) if !presented.is_empty())
        }
        _ => false,
    }
}

/// Whether a handshake for an authority failed as one with an Auth Service of Teleport does: it has another name, and it may
/// present no CA or refuse the name that was asked for.
pub(super) fn may_be_teleport(error: &io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(_)) => true,
        Some(Error::InvalidCertificate(why)) => is_other_name(why) || presents_no_ca(why),
        _ => false,
    }
}

const fn is_other_name(why: &CertificateError) -> bool {
    matches!(
        why,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    )
}

fn presents_no_ca(why: &CertificateError) -> bool {
    matches!(pin_error(why), Some(PinError::NotPinned { presented }) if presented.is_empty())
}

/// The server is not the one of the configured CAs, or of the trust bundle.
fn not_the_authority(address: &str, wording: &Wording, why: &CertificateError) -> Failure {
    let failure = |message: String, advice: &str| Failure::new(Exit::Unavailable, message, advice);
    let Wording { role, whose, .. } = wording;
    // As of a server of the other kind, under whose protocol it may be the one that is meant.
    let other_kind = || {
        let advice = wording.or_other_protocol(&format!("check that the address is {whose}"));
        format!("{advice}; otherwise the connection is intercepted")
    };
    match (pin_error(why), expiry(why)) {
        (Some(error), _) if presents_no_ca(why) => {
            failure(format!("{address} is not {role}: {error}"), &other_kind())
        }
        (Some(why), _) => failure(
            format!("{address} is not {role}: {why}"),
            "correct the configured pin if it is outdated; otherwise the connection is intercepted",
        ),
        // Clocks may be corrected, for example by time servers, so retrying is worthwhile.
        (None, Some(when)) => failure(
            format!("by this host's clock, the certificate of {address} {when}"),
            "compare the clocks of both machines",
        ),
        (None, None) if is_other_name(why) => {
            failure(format!("{address} is not {role}: {}", fault(why)), &other_kind())
        }
        (None, None) => failure(
            format!("{address} is not {role}: {}", fault(why)),
            &format!(
                "check that the configured CA certificate or pin is {whose}; {PROXY}; otherwise the \
                 connection is intercepted"
            ),
        ),
    }
}

/// No CA that the system trusts vouches for the name in the address.
fn not_its_name(address: &str, wording: &Wording, why: &CertificateError) -> Failure {
    use CertificateError as E;
    let failure = |message: String, advice: &str| Failure::new(Exit::Unavailable, message, advice);
    if let Some(when) = expiry(why) {
        return failure(
            format!("by this host's clock, the certificate of {address} {when}"),
            "compare the clocks of both machines; if they are right, renew the server's certificate",
        );
    }
    match why {
        why if is_other_name(why) => failure(
            format!("the certificate of {address} is not for that name{}", other_names(why)),
            "give the address by a name in the certificate, or the cluster's `ca_pins`",
        ),
        E::UnknownIssuer | E::BadSignature => failure(
            format!("no CA that this system trusts has issued the certificate of {address}"),
            &format!(
                "{}; if a private CA issued the certificate, add it to the system's CAs or name \
                 its file in SSL_CERT_FILE; otherwise the connection is intercepted",
                wording.pins
            ),
        ),
        _ => {
            let why =
                public_name_error(why).map_or_else(|| fault(why).to_owned(), |why| why.to_string());
            failure(
                format!("{address} is not trusted: {why}"),
                "check the server's certificate, or give the cluster's `ca_pins`",
            )
        }
    }
}

/// The DNS names that a certificate has instead.
fn other_names(why: &CertificateError) -> String {
    let CertificateError::NotValidForNameContext { presented, .. } = why else {
        return String::new();
    };
    // webpki lists each name with its type.
    let name = |text: &String| {
        let name = text.strip_prefix("DnsName(\"")?.strip_suffix("\")")?;
        Some(host::terminal::escape(name))
    };
    let names: Vec<_> = presented.iter().filter_map(name).take(MAX_NAMES).collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!(", but for {}", names.join(", ")),
    }
}

fn public_name_error(why: &CertificateError) -> Option<&PublicNameError> {
    let CertificateError::Other(why) = why else { return None };
    why.0.downcast_ref()
}

fn pin_error(why: &CertificateError) -> Option<&PinError> {
    let CertificateError::Other(why) = why else { return None };
    why.0.downcast_ref()
}

const fn expiry(why: &CertificateError) -> Option<&'static str> {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some("has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("is not valid yet")
        }
        _ => None,
    }
}

/// Describes the fault of a server's certificate; rustls's own messages contain names of its types.
const fn fault(why: &CertificateError) -> &'static str {
    use CertificateError as E;
    match why {
        E::BadEncoding => "its certificate cannot be read",
        E::UnknownIssuer => "no trusted CA has issued its certificate",
        E::BadSignature => "the signature of its certificate is wrong",
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "its certificate does not have the name of such a server"
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "its certificate is not for servers",
        E::UnhandledCriticalExtension => "its certificate has an unknown critical extension",
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed with an algorithm that is not supported"
        }
        _ => "its certificate is malformed",
    }
}

/// The server has refused our certificate.
pub(super) fn not_accepted(wording: &Wording, alert: AlertDescription) -> Failure {
    let why = match alert {
        AlertDescription::CertificateExpired => "it has expired".to_owned(),
        AlertDescription::UnknownCA => "none of its present CAs has issued it".to_owned(),
        alert => alert_name(alert),
    };
    Failure::new(
        Exit::Refused,
        format!("{} does not accept our certificate: {why}", wording.name),
        "join again; if that is refused too, compare the clocks of both machines",
    )
}

/// The alert as RFC 8446, 6.2, writes it.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut is_within_word = false;
    for letter in alert.as_str().unwrap_or("unknown alert").chars() {
        if letter.is_ascii_uppercase() && is_within_word {
            name.push('_');
        }
        is_within_word = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{InvalidMessage, OtherError};

    use super::*;
    use crate::ceremony::wording::AUTHORITY;

    fn message(error: impl Into<Error>) -> String {
        let error = io::Error::new(io::ErrorKind::InvalidData, error.into());
        handshake_failure("a:1", Naming::Internal, &AUTHORITY, &error).to_string()
    }

    fn public_message(error: CertificateError) -> String {
        let error = io::Error::new(io::ErrorKind::InvalidData, Error::from(error));
        handshake_failure("a:1", Naming::Public, &AUTHORITY, &error).to_string()
    }

    /// As of a Teleport Proxy, whose certificate is of a public CA.
    #[test]
    fn advice_for_another_ca_names_the_way_to_a_proxy() {
        let cause = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::new(io::ErrorKind::InvalidData, cause);
        for wording in [&AUTHORITY, &crate::ceremony::wording::TELEPORT] {
            let failure = handshake_failure("a:1", Naming::Internal, wording, &error);
            assert!(failure.advice.contains("`proxy_server`, without `ca_pins`"), "{failure}");
        }
    }

    #[test]
    fn faults_of_public_certificates_are_explained_with_advice() {
        use CertificateError as E;
        for (why, words) in [
            (E::UnknownIssuer, "no CA that this system trusts"),
            (E::BadSignature, "SSL_CERT_FILE"),
            (E::Expired, "renew the server's certificate"),
            (E::NotValidYet, "is not valid yet"),
            (E::NotValidForName, "is not for that name\n"),
            (E::InvalidPurpose, "is not for servers"),
            (
                E::Other(OtherError(Arc::new(PublicNameError::TooManySignatures))),
                "within 8 signature checks",
            ),
        ] {
            let message = public_message(why);
            assert!(message.contains(words), "{message}");
            assert!(!message.contains("name of such"), "{message}");
        }
        let names = ["DnsName(\"b.example.com\")", "DnsName(\"\u{1b}[2J\")", "Unsupported(22)"];
        let presented = names.map(str::to_owned).to_vec();
        let expected = rustls::pki_types::ServerName::try_from("a").unwrap();
        let message = public_message(E::NotValidForNameContext { expected, presented });
        assert!(message.contains("name, but for b.example.com, \\u{1b}[2J\n"), "{message}");
    }

    #[test]
    fn certificate_faults_are_explained_without_names_of_types() {
        use CertificateError as E;
        for (why, words) in [
            (E::UnknownIssuer, "no trusted CA"),
            (E::InvalidPurpose, "not for servers"),
            (E::BadSignature, "signature of its certificate is wrong"),
            (E::NotValidForName, "does not have the name of such a server"),
            (E::UnhandledCriticalExtension, "critical extension"),
            (E::Other(OtherError(Arc::new(io::Error::other("TrailingData(X)")))), "malformed"),
        ] {
            let message = message(why);
            assert!(message.contains(words), "{message}");
            assert!(!message.contains("ca-pin") && !message.contains("TrailingData"), "{message}");
        }
        let expired = message(E::Expired);
        assert!(expired.contains("has expired\ncompare the clocks"), "{expired}");
        let other = message(E::Other(OtherError(Arc::new(PinError::NotCa))));
        assert!(other.contains("is not a CA certificate; compare the pin"), "{other}");
    }

    #[test]
    fn words_of_libraries_are_for_the_log() {
        for (error, words) in [
            (io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"), "closed the conn"),
            (
                io::Error::other(Error::InvalidMessage(InvalidMessage::InvalidContentType)),
                "not speak",
            ),
        ] {
            let failure = handshake_failure("a:1", Naming::Internal, &AUTHORITY, &error);
            assert!(failure.message.contains(words), "{failure}");
            let cause = error.to_string();
            assert!(failure.cause.contains(&cause), "{failure:?}");
            assert!(!failure.to_string().contains(&cause), "{failure}");
        }
    }

    #[test]
    fn server_of_the_other_kind_is_explained_with_the_option() {
        use CertificateError as E;
        let no_ca = PinError::NotPinned { presented: Vec::new() };
        for why in [E::Other(OtherError(Arc::new(no_ca))), E::NotValidForName] {
            let message = message(why);
            assert!(message.contains("set `protocol` to `auto` or `teleport`"), "{message}");
        }
        let pin = "sha256:".to_owned() + &"ab".repeat(32);
        let other = PinError::NotPinned { presented: vec![pin.parse().unwrap()] };
        let message = message(E::Other(OtherError(Arc::new(other))));
        assert!(message.contains("\ncorrect the configured pin"), "{message}");
    }

    #[test]
    fn alerts_about_the_address_say_what_to_check() {
        let advice = |alert, naming| {
            let error = io::Error::other(Error::AlertReceived(alert));
            handshake_failure("a:1", naming, &AUTHORITY, &error).advice
        };
        for (alert, naming, words) in [
            (AlertDescription::NoApplicationProtocol, Naming::Public, "check that a:1 is the auth"),
            (AlertDescription::NoApplicationProtocol, Naming::Internal, "(ALPN)"),
            (AlertDescription::UnrecognisedName, Naming::Public, "does not know the name"),
            (AlertDescription::UnrecognisedName, Naming::Internal, "all its servers have"),
        ] {
            let advice = advice(alert, naming);
            assert!(advice.contains(words), "{advice}");
        }
        let other = advice(AlertDescription::HandshakeFailure, Naming::Public);
        assert!(!other.contains("server there"), "{other}");
    }

    #[test]
    fn alerts_have_the_names_of_the_standard() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::NoApplicationProtocol, "no_application_protocol"),
        ] {
            let message = message(Error::AlertReceived(alert));
            assert!(message.contains(&format!("handshake: {name}\n")), "{message}");
        }
        assert!(
            not_accepted(&AUTHORITY, AlertDescription::AccessDenied)
                .message
                .ends_with(": access_denied")
        );
    }
}
