//! What tbot takes as `--join-uri`: address, token and join method in one text.

use agent::config::{JoinUri, Server, Token};

use crate::{Verdict, assert_harmless};

/// The input is the text.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    match text.parse::<JoinUri>() {
        Ok(uri) => {
            let said = said(&uri);
            assert_eq!(said.parse().as_ref(), Ok(&uri), "{said}");
            Verdict::Accepted
        }
        Err(error) => {
            assert!(!error.is_empty());
            if text.chars().all(host::terminal::is_printable) {
                assert_harmless(&error);
            }
            Verdict::Refused
        }
    }
}

/// The same in one form: all of the token's bytes by number.
fn said(uri: &JoinUri) -> String {
    let server = match uri.server {
        Server::Proxy => "proxy",
        Server::Auth => "auth",
    };
    let token = match &uri.token {
        Token::Value(name) => name.clone(),
        Token::File(path) => path.to_str().expect("it came from a text").to_owned(),
    };
    let token: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("tbot+{server}+tpm://{token}@{}", uri.address)
}
