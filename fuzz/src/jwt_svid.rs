//! A token that a workload has validated, and the keys of a trust bundle.

use agent::credential::jwt::{JwtKey, jwks, validate};

use crate::{Verdict, assert_harmless};

/// The public key of the tokens: SubjectPublicKeyInfo, DER.
const KEY: &[u8] = include_bytes!("../fixtures/jwt.spki.der");

/// The input is a token, or a key: SubjectPublicKeyInfo after a byte that chooses the algorithm.
pub(crate) fn run(data: &[u8]) -> Verdict {
    if let [choice @ (b'E' | b'R'), spki @ ..] = data {
        let algorithm = if *choice == b'E' { "ES256" } else { "RS256" };
        return match JwtKey::new("k", algorithm, spki) {
            Ok(key) => {
                let set: serde_json::Value = serde_json::from_str(&jwks(&[key])).expect("JSON");
                assert_eq!(set["keys"][0]["alg"], algorithm);
                Verdict::Accepted
            }
            Err(why) => {
                assert_harmless(&why);
                Verdict::Refused
            }
        };
    }
    let Ok(token) = std::str::from_utf8(data) else { return Verdict::Refused };
    let keys = [JwtKey::new("k1", "ES256", KEY).expect("the key of the tokens")];
    match validate(token, "td", &keys, "x", 1_900_000_000) {
        Ok((id, claims)) => {
            assert_eq!(id.trust_domain(), "td");
            assert!(claims["aud"].as_array().is_some_and(|all| all.iter().any(|one| one == "x")));
            Verdict::Accepted
        }
        Err(why) => {
            assert_harmless(&why);
            Verdict::Refused
        }
    }
}
