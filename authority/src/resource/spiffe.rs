//! SPIFFE IDs and DNS names, as certificates have them.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::field::Invalid;

/// A SPIFFE ID with a path: the name of a workload (SPIFFE-ID section 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Every implementation supports so many bytes, and none should make longer ones (SPIFFE-ID section 2.3).
    pub const MAX_LEN: usize = 2048;

    const SCHEME: &str = "spiffe://";

    /// The longest trust domain, bytes.
    const MAX_TRUST_DOMAIN: usize = 255;

    /// The ID of this path in a trust domain.
    ///
    /// # Errors
    /// The path is empty or malformed, or the ID is too long. Nothing is normalized: two spellings would be two identities to one
    /// verifier, and one to another.
    pub fn new(trust_domain: &str, path: &str) -> Result<Self, Invalid> {
        check_path(path)?;
        format!("{}{trust_domain}{path}", Self::SCHEME).parse()
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SpiffeId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let shown = || text.chars().take(80).collect::<String>();
        let invalid =
            |why: String| Invalid(format!("{:?} is not a valid SPIFFE ID: {why}", shown()));
        if text.len() > Self::MAX_LEN {
            return Err(invalid(format!("it has more than {} bytes", Self::MAX_LEN)));
        }
        let rest = text
            .strip_prefix(Self::SCHEME)
            .ok_or_else(|| invalid(format!("it must begin with {}", Self::SCHEME)))?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let sane = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        if trust_domain.is_empty()
            || trust_domain.len() > Self::MAX_TRUST_DOMAIN
            || !trust_domain.bytes().all(sane)
        {
            return Err(invalid(
                "its trust domain must have lowercase letters, digits, '.', '-' and '_' only"
                    .into(),
            ));
        }
        check_path(path).map_err(|Invalid(why)| invalid(why))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a path: `/` and a segment, once or more (SPIFFE-ID section 2.2).
pub(super) fn check_path(path: &str) -> Result<(), Invalid> {
    let Some(segments) = path.strip_prefix('/') else {
        return Err(Invalid("a path must begin with /".into()));
    };
    segments.split('/').try_for_each(check_segment)
}

/// Checks that all bytes may be in a segment of a path.
pub(super) fn check_segment_bytes(text: &str) -> Result<(), Invalid> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    Err(Invalid(format!(
        "{shown:?} must not be a segment of a path: letters, digits, '.', '-' and '_' only"
    )))
}

fn check_segment(segment: &str) -> Result<(), Invalid> {
    match segment {
        "" => Err(Invalid("a path must not have // or a / at its end".into())),
        "." | ".." => Err(Invalid(format!("{segment:?} must not be a segment of a path"))),
        segment => check_segment_bytes(segment),
    }
}

/// A name in the DNS, in lower case, without a dot at its end: labels of letters, digits and hyphens (RFC 1034 section 3.5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct DnsName(String);

impl DnsName {
    /// The longest name, bytes (RFC 1035 section 2.3.4, without the root's).
    const MAX_LEN: usize = 253;

    /// The longest label, bytes.
    const MAX_LABEL: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DnsName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let is_label = |label: &str| {
            let sane = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !label.is_empty()
                && label.len() <= Self::MAX_LABEL
                && label.bytes().all(sane)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label of digits only would be read as an address.
        let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
        if text.len() > Self::MAX_LEN
            || !text.split('.').all(is_label)
            || text.rsplit('.').next().is_none_or(is_number)
        {
            let shown: String = text.chars().take(80).collect();
            return Err(Invalid(format!(
                "{shown:?} is not a valid DNS name: labels of lowercase letters, digits and '-', \
                 joined by dots, without * and without a dot at the end"
            )));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name of a host in its SSH certificate: a name or an address, exactly as clients compare it, in lower case. Patterns are for
/// certificates of users; in one of a host some versions of OpenSSH take them for names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostPrincipal(String);

impl HostPrincipal {
    /// The longest name, bytes: that of the DNS.
    const MAX_LEN: usize = 253;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostPrincipal {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let sane = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        let is_name = !text.is_empty() && text.len() <= Self::MAX_LEN && text.bytes().all(sane);
        let is_lower_case = || !text.bytes().any(|b| b.is_ascii_uppercase());
        let is_address = || text.parse::<Ipv6Addr>().is_ok() && is_lower_case();
        if !is_name && !is_address() {
            let shown: String = text.chars().take(80).collect();
            return Err(Invalid(format!(
                "{shown:?} is not a valid name of a host: lowercase letters, digits, '.', '-' and '_', \
                 without a pattern, or an IP address"
            )));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for HostPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Result<SpiffeId, Invalid> {
        text.parse()
    }

    /// The vectors of go-spiffe's `spiffeid`, and the limits.
    #[test]
    fn malformed_ids_are_refused() {
        for text in [
            "",
            "spiffe:/",
            "spiffe://",
            "spiffe:///",
            "spiffe:///path",
            "spiffe://td",
            "spiffe://td/",
            "spiffe://td//",
            "spiffe://td//path",
            "spiffe://td/path/",
            "spiffe://td/.",
            "spiffe://td/./path",
            "spiffe://td/path/..",
            "spiffe://td/..",
            "spiffe://td/path//b",
            "spiffe://t%64/path",
            "spiffe://td/%61",
            "spiffe://td/p%C3%A4th",
            "spiffe://t%C3%A4/path",
            "https://td/path",
            "SPIFFE://td/path",
            "spiffe://TD/path",
            "spiffe://td:80/path",
            "spiffe://u@td/path",
            "spiffe://td/path?q",
            "spiffe://td/path#f",
            "td/path",
            "/path",
        ] {
            assert!(id(text).is_err(), "{text}");
        }
        for text in [
            "spiffe://td/path",
            "spiffe://td/...",
            "spiffe://td/.a",
            "spiffe://td/..a",
            "spiffe://192.0.2.1/path",
            "spiffe://example..org/path",
            "spiffe://t-d_1/A/b.c-d_e",
        ] {
            assert_eq!(id(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn each_byte_is_allowed_only_where_the_specification_has_it() {
        for byte in 0..=u8::MAX {
            let character = char::from(byte);
            let domain = character.is_ascii_lowercase()
                || character.is_ascii_digit()
                || ".-_".contains(character);
            let slash = character == '/';
            assert_eq!(
                id(&format!("spiffe://t{character}d/path")).is_ok(),
                domain || slash,
                "{byte}"
            );
            let path = character.is_ascii_alphanumeric() || ".-_/".contains(character);
            assert_eq!(id(&format!("spiffe://td/pa{character}th")).is_ok(), path, "{byte}");
        }
    }

    #[test]
    fn ids_over_2048_bytes_and_trust_domains_over_255_are_refused() {
        let head = "spiffe://td/";
        let longest = format!("{head}{}", "a".repeat(2048 - head.len()));
        assert!(id(&longest).is_ok());
        assert!(id(&format!("{longest}a")).is_err());
        assert!(id(&format!("spiffe://{}/path", "a".repeat(255))).is_ok());
        assert!(id(&format!("spiffe://{}/path", "a".repeat(256))).is_err());
    }

    #[test]
    fn dns_names_are_hosts_names_in_lower_case() {
        let name = |text: &str| DnsName::try_from(text.to_owned());
        for good in ["a", "db.example.org", "1.a", "xn--bcher-kva.example", &"a".repeat(63)] {
            assert_eq!(name(good).unwrap().as_str(), good);
        }
        let long = ["a"; 127].join(".");
        assert!(name(&long).is_ok());
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "A.example",
            "a_b",
            "*.example.org",
            "-a",
            "a-",
            "a b",
            "192.0.2.1",
            "a.1",
            "bücher.example",
            "a/b",
            "::1",
            &"a".repeat(64),
            &format!("{long}.a"),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn principals_are_exact_names_in_lower_case() {
        let name = |text: &str| HostPrincipal::try_from(text.to_owned());
        for good in ["web", "web.example.org", "192.0.2.1", "2001:db8::1", "a_b"] {
            assert_eq!(name(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "Web",
            "*.example.org",
            "w?b",
            "a,b",
            "a b",
            "[a]:22",
            "a:22",
            "!a",
            &"a".repeat(254),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
