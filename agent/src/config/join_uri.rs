//! Join URIs: address, token and join method in one text, `tbot+proxy+tpm://TOKEN@HOST:PORT`.

use std::str::FromStr;

use super::address::Address;
use super::overrides::token;
use super::settings::{Server, Token};

/// The form of a join URI, for messages.
const FORM: &str = "write tbot+proxy+tpm://TOKEN@HOST:PORT or tbot+auth+tpm://TOKEN@HOST:PORT";

/// What a join URI says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinUri {
    /// Which of tbot's keys would have the address.
    pub server: Server,
    /// Where the authority is.
    pub address: Address,
    /// The name of the join token.
    pub token: Token,
}

impl FromStr for JoinUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let mut parts = scheme.split('+');
        let (program, server) = (parts.next(), parts.next());
        let (Some("tbot"), Some(method), None) = (program, parts.next(), parts.next()) else {
            return Err(FORM.to_owned());
        };
        let server = match server {
            Some("proxy") => Server::Proxy,
            Some("auth") => Server::Auth,
            _ => return Err(FORM.to_owned()),
        };
        if method != "tpm" {
            return Err(format!("join method {method} is not supported: {FORM}"));
        }
        let (user, address) =
            rest.rsplit_once('@').ok_or("the token is missing: write TOKEN@HOST:PORT")?;
        if user.contains(':') {
            return Err("the join method tpm has no parameter: remove the `:` and what follows it"
                .to_owned());
        }
        let address = address.strip_suffix('/').unwrap_or(address);
        let address = address.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { server, address, token: token(&percent_decoded(user)?)? })
    }
}

/// RFC 3986 §2.1.
fn percent_decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str =
        "the token has a `%` that does not begin the number of a character, as %2F does";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()];
        let digits = digits.map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
        let [Some(high), Some(low)] = digits else { return Err(WRONG) };
        bytes.push(u8::try_from(high << 4 | low).map_err(|_| WRONG)?);
    }
    String::from_utf8(bytes).map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_has_address_and_token() {
        let uri: JoinUri = "tbot+proxy+tpm://my-bot-token@example.com:443".parse().unwrap();
        assert_eq!(uri.server, Server::Proxy);
        assert_eq!(uri.address, "example.com:443".parse().unwrap());
        assert_eq!(uri.token, Token::Value("my-bot-token".to_owned()));
        let uri: JoinUri = "tbot+auth+tpm://%2Fetc%2ftoken@[::1]:3025/".parse().unwrap();
        assert_eq!(uri.server, Server::Auth);
        assert_eq!(uri.address, "[::1]:3025".parse().unwrap());
        assert_eq!(uri.token, Token::File("/etc/token".into()));
    }

    #[test]
    fn wrong_uri_is_refused_with_what_is_wrong() {
        for (wrong, why) in [
            ("", "write tbot+proxy+tpm://"),
            ("example.com:443", "write tbot+proxy+tpm://"),
            ("https://t@example.com:443", "write tbot+proxy+tpm://"),
            ("tbot+proxy://t@example.com:443", "write tbot+proxy+tpm://"),
            ("tbot+proxy+tpm+x://t@example.com:443", "write tbot+proxy+tpm://"),
            ("tbot+node+tpm://t@example.com:443", "write tbot+proxy+tpm://"),
            ("tsh+proxy+tpm://t@example.com:443", "write tbot+proxy+tpm://"),
            ("tbot+proxy+iam://t@example.com:443", "join method iam is not supported"),
            ("tbot+proxy+tpm://example.com:443", "the token is missing"),
            ("tbot+proxy+tpm://@example.com:443", "the name of the token is missing"),
            ("tbot+proxy+tpm://t:p@example.com:443", "has no parameter"),
            ("tbot+proxy+tpm://t@example.com", "the port is missing"),
            ("tbot+proxy+tpm://t@example.com:443/x", "the port is not a number"),
            ("tbot+proxy+tpm://a%2@example.com:443", "does not begin the number"),
            ("tbot+proxy+tpm://a%zz@example.com:443", "does not begin the number"),
            ("tbot+proxy+tpm://%ff@example.com:443", "does not begin the number"),
            ("tbot+proxy+tpm://a%20b@example.com:443", "no spaces"),
        ] {
            let refused = wrong.parse::<JoinUri>().unwrap_err();
            assert!(refused.contains(why), "{wrong}: {refused}");
        }
    }
}
