//! SPIFFE IDs: `spiffe://TRUST-DOMAIN/PATH`. SPIFFE-ID, sections 2.1 to 2.3.

use std::fmt;
use std::str::FromStr;

/// A valid SPIFFE ID of a workload: it has a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    /// Where the path begins, with its slash.
    path: usize,
}

/// Bytes of an ID that all software must support.
const MAX_LEN: usize = 2048;

/// Bytes of a trust domain.
const MAX_DOMAIN: usize = 255;

impl SpiffeId {
    /// The trust domain, without `spiffe://`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        let domain = self.text.get(SCHEME.len()..self.path);
        domain.unwrap_or_default()
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

const SCHEME: &str = "spiffe://";

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        if text.len() > MAX_LEN {
            return Err(InvalidSpiffeId("it is longer than 2,048 bytes"));
        }
        let rest =
            text.strip_prefix(SCHEME).ok_or(InvalidSpiffeId("it does not begin with spiffe://"))?;
        let slash = rest.find('/').ok_or(InvalidSpiffeId("it has no path"))?;
        let (domain, path) = rest.split_at(slash);
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if domain.is_empty() || domain.len() > MAX_DOMAIN || !domain.bytes().all(lower) {
            return Err(InvalidSpiffeId("its trust domain is invalid"));
        }
        check_path(path)?;
        Ok(Self { path: SCHEME.len() + slash, text: text.to_owned() })
    }
}

/// Checks the path of an ID, which is not empty. SPIFFE-ID, section 2.2.
///
/// # Errors
/// No ID has such a path.
pub fn check_path(path: &str) -> Result<(), InvalidSpiffeId> {
    let segments = path.strip_prefix('/').ok_or(InvalidSpiffeId("its path has no slash"))?;
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_allowed);
    match segments.split('/').all(is_segment) {
        true => Ok(()),
        false => Err(InvalidSpiffeId(
            "between slashes its path has letters, digits, '.', '-' and '_', and neither . nor .. alone",
        )),
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not the SPIFFE ID of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSpiffeId(&'static str);

impl fmt::Display for InvalidSpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a SPIFFE ID: {}", self.0)
    }
}

impl std::error::Error for InvalidSpiffeId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let id: SpiffeId = "spiffe://example.org/a/..b/...".parse().unwrap();
        assert_eq!(id.trust_domain(), "example.org");
        assert_eq!(id.as_str(), "spiffe://example.org/a/..b/...");
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for wrong in [
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
            "spiffe://td/path//b",
            "spiffe://t%64/path",
            "spiffe://td/p%61th",
            "spiffe://td/pfad/ä",
            "spiffe://TD/path",
            "SPIFFE://td/path",
            "http://td/path",
            "spiffe://u@td/path",
            "spiffe://td:80/path",
            "spiffe://td/path?q",
            "spiffe://td/path#f",
            "spiffe://td/a b",
        ] {
            assert!(wrong.parse::<SpiffeId>().is_err(), "{wrong}");
        }
        let of_length = |length: usize| format!("spiffe://td/{}", "a".repeat(length - 12));
        assert!(of_length(2048).parse::<SpiffeId>().is_ok());
        assert!(of_length(2049).parse::<SpiffeId>().is_err());
        assert!(format!("spiffe://{}/a", "d".repeat(255)).parse::<SpiffeId>().is_ok());
        assert!(format!("spiffe://{}/a", "d".repeat(256)).parse::<SpiffeId>().is_err());
    }
}
