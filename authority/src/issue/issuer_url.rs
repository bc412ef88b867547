//! The issuer of JWTs as a URL, where receivers find the keys.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::DnsName;

/// An https URL without query, fragment and final slash, since receivers compare it byte by byte with `iss`, and put paths
/// behind it (OpenID Connect Discovery 1.0 sections 3 and 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerUrl {
    text: String,
    /// Where the path begins.
    path: usize,
    has_port: bool,
}

impl IssuerUrl {
    /// The longest that Azure takes (600 characters) has room for a path.
    const MAX_LEN: usize = 512;

    const SCHEME: &str = "https://";

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path below which documents are served: empty, or with a slash first.
    pub fn path(&self) -> &str {
        self.text.get(self.path..).unwrap_or_default()
    }

    /// What an operator should know.
    pub fn warning(&self) -> Option<String> {
        self.has_port.then(|| {
            format!(
                "the issuer {self} has a port: AWS accepts no port, other clouds may not either"
            )
        })
    }
}

impl FromStr for IssuerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is not an issuer URL: {why}");
        if text.len() > Self::MAX_LEN {
            return Err(wrong(&format!("it has more than {} characters", Self::MAX_LEN)));
        }
        let Some(rest) = text.strip_prefix(Self::SCHEME) else {
            return Err(wrong("it does not begin with https://"));
        };
        if text.ends_with('/') {
            return Err(wrong("it ends with a slash, and receivers compare it byte by byte"));
        }
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if DnsName::try_from(host).is_err() || host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong("its host is not a DNS name in lowercase"));
        }
        if port.is_some_and(|port| {
            port.starts_with(['0', '+']) || port.parse::<u16>().is_err() || port == "443"
        }) {
            return Err(wrong("its port is not a number from 1 to 65535, or is the default"));
        }
        let path = rest.get(authority.len()..).unwrap_or_default();
        let is_segment = |segment: &str| {
            let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !["", ".", ".."].contains(&segment) && segment.bytes().all(sane)
        };
        if !path.split('/').skip(1).all(is_segment) {
            return Err(wrong(
                "its path has other characters than letters, digits, '-._~' and single slashes",
            ));
        }
        Ok(Self { path: text.len() - path.len(), has_port: port.is_some(), text: text.to_owned() })
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_is_a_url_that_receivers_can_compare() {
        for (text, path, warned) in [
            ("https://oidc.example.com", "", false),
            ("https://oidc.example.com/endorse/a-1", "/endorse/a-1", false),
            ("https://a:8443/x", "/x", true),
        ] {
            let url: IssuerUrl = text.parse().unwrap();
            assert_eq!((url.as_str(), url.path(), url.warning().is_some()), (text, path, warned));
        }
        for wrong in [
            "",
            "https://",
            "http://a",
            "https:/a",
            "https://a/",
            "https://a//b",
            "https://a/../b",
            "https://a/b?c",
            "https://a?b",
            "https://a#b",
            "https://u@a",
            "https://A",
            "https://a:",
            "https://a:0",
            "https://a:443",
            "https://a:65536",
            "https://a:+1",
            "https://a b",
            "https://a/b%20",
            "https://[::1]",
            "spiffe://a",
            "HTTPS://a",
        ] {
            wrong.parse::<IssuerUrl>().unwrap_err();
        }
        format!("https://a/{}", "b".repeat(600)).parse::<IssuerUrl>().unwrap_err();
    }
}
