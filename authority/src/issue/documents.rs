//! The public keys of a cluster as documents: the bundle of SPIFFE, and what OpenID Connect's receivers of JWTs read.

use base64ct::{Base64, Encoding};
use serde::Serialize;

use super::jwt_key::{KeyParameters, ec_parameters};
use super::{IssueError, IssuerUrl, Keys, REFRESH_HINT, X509Ca};

/// Where receivers look for the discovery document, behind the issuer.
pub const OPENID_PATH: &str = "/.well-known/openid-configuration";

/// Where the discovery document says that the keys are, behind the issuer.
pub const JWKS_PATH: &str = "/keys";

/// A JSON Web Key Set, RFC 7517 section 5.
#[derive(Serialize)]
struct KeySet<'a> {
    keys: Vec<Jwk<'a>>,
}

/// SPIFFE Trust Domain and Bundle, section 4.
#[derive(Serialize)]
struct SpiffeBundle<'a> {
    spiffe_sequence: u64,
    spiffe_refresh_hint: u64,
    keys: Vec<Jwk<'a>>,
}

#[derive(Serialize)]
struct Jwk<'a> {
    #[serde(flatten)]
    parameters: KeyParameters,
    #[serde(rename = "use")]
    usage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<&'static str>,
    /// Exactly one certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    x5c: Option<[String; 1]>,
}

/// OpenID Connect Discovery 1.0 section 3, as far as receivers of JWTs read it.
#[derive(Serialize)]
struct OpenIdConfiguration<'a> {
    issuer: &'a str,
    jwks_uri: String,
    /// Required by the specification. Nobody logs in here.
    authorization_endpoint: &'static str,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: Vec<&'static str>,
}

/// The SPIFFE bundle of the trust domain.
pub fn spiffe_bundle(keys: &Keys) -> Result<String, IssueError> {
    let x509 = keys.x509.trusted().map(|ca| x509_jwk(ca));
    let jwt = keys.jwt.trusted().map(|key| {
        let key = key.public();
        let (parameters, kid) = (key.parameters(), Some(key.key_id()));
        Jwk { parameters, usage: "jwt-svid", kid, alg: None, x5c: None }
    });
    json(&SpiffeBundle {
        spiffe_sequence: keys.sequence,
        spiffe_refresh_hint: REFRESH_HINT.as_secs(),
        keys: x509.chain(jwt).collect(),
    })
}

/// The keys for JWTs alone, for receivers that know nothing of SPIFFE: some refuse a `use` that they do not know, some want `alg`.
pub fn jwks(keys: &Keys) -> Result<String, IssueError> {
    let all = keys.jwt.trusted().map(|key| {
        let key = key.public();
        let (parameters, kid) = (key.parameters(), Some(key.key_id()));
        Jwk { parameters, usage: "sig", kid, alg: Some(key.algorithm().as_str()), x5c: None }
    });
    json(&KeySet { keys: all.collect() })
}

/// The discovery document of an issuer.
pub fn openid_configuration(issuer: &IssuerUrl, keys: &Keys) -> Result<String, IssueError> {
    let mut algorithms: Vec<_> =
        keys.jwt.trusted().map(|key| key.public().algorithm().as_str()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    json(&OpenIdConfiguration {
        issuer: issuer.as_str(),
        jwks_uri: format!("{issuer}{JWKS_PATH}"),
        authorization_endpoint: "",
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: algorithms,
    })
}

fn x509_jwk(ca: &X509Ca) -> Jwk<'static> {
    Jwk {
        parameters: ec_parameters(&ca.public_key()),
        usage: "x509-svid",
        kid: None,
        alg: None,
        x5c: Some([Base64::encode_string(ca.certificate())]),
    }
}

fn json(document: &impl Serialize) -> Result<String, IssueError> {
    serde_json::to_string_pretty(document).map(|text| text + "\n").map_err(IssueError::jwt)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;
    use crate::issue::{CaKey, JwtAlgorithm, JwtKey, Ring, SshCa, Tainted, TrustChain};

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    /// Two X.509 CAs and a JWT key of each algorithm.
    fn keys() -> Keys {
        let cluster = "example.test".parse().unwrap();
        let x509 = || X509Ca::create(&cluster, CaKey::generate().unwrap(), NOW).unwrap();
        let jwt = |algorithm| JwtKey::generate(algorithm).unwrap();
        Keys {
            x509: Ring::new(x509(), NOW).with_next(x509(), NOW),
            ssh: Ring::new(SshCa::new(&cluster, &CaKey::generate().unwrap()).unwrap(), NOW),
            ssh_host: Ring::new(
                SshCa::of_hosts(&cluster, &CaKey::generate().unwrap()).unwrap(),
                NOW,
            ),
            jwt: Ring::new(jwt(JwtAlgorithm::Es256), NOW).with_next(jwt(JwtAlgorithm::Rs256), NOW),
            sequence: 7,
            chain: TrustChain::default(),
            tainted: Tainted::default(),
        }
    }

    fn members(jwk: &Value) -> Vec<&str> {
        jwk.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn spiffe_bundle_has_all_keys_with_their_use() {
        let keys = keys();
        let bundle: Value = serde_json::from_str(&spiffe_bundle(&keys).unwrap()).unwrap();
        assert_eq!(
            (&bundle["spiffe_sequence"], &bundle["spiffe_refresh_hint"]),
            (&7.into(), &300.into())
        );
        let all = bundle["keys"].as_array().unwrap();
        let uses: Vec<_> = all.iter().map(|jwk| jwk["use"].as_str().unwrap()).collect();
        assert_eq!(uses, ["x509-svid", "x509-svid", "jwt-svid", "jwt-svid"]);
        assert_eq!(members(&all[0]), ["crv", "kty", "use", "x", "x5c", "y"]);
        let der = Base64::decode_vec(all[0]["x5c"][0].as_str().unwrap()).unwrap();
        assert_eq!(der, keys.x509.active().certificate().to_vec());
        assert_eq!(members(&all[2]), ["crv", "kid", "kty", "use", "x", "y"]);
        assert_eq!(members(&all[3]), ["e", "kid", "kty", "n", "use"]);
        assert_eq!(all[3]["e"], "AQAB");
    }

    #[test]
    fn key_set_for_others_has_jwt_keys_alone_with_their_algorithm() {
        let keys = keys();
        let set: Value = serde_json::from_str(&jwks(&keys).unwrap()).unwrap();
        assert_eq!(members(&set), ["keys"]);
        let all = set["keys"].as_array().unwrap();
        assert_eq!(members(&all[0]), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        assert_eq!(members(&all[1]), ["alg", "e", "kid", "kty", "n", "use"]);
        let said: Vec<_> = all.iter().map(|jwk| [&jwk["alg"], &jwk["use"]]).collect();
        assert_eq!(said, [["ES256", "sig"], ["RS256", "sig"]]);
        assert_eq!(all[0]["kid"], keys.jwt.active().public().key_id());
    }

    #[test]
    fn discovery_document_names_the_issuer_byte_by_byte() {
        let issuer = "https://oidc.example.com/a".parse().unwrap();
        let document = openid_configuration(&issuer, &keys()).unwrap();
        let expected = serde_json::json!({
            "issuer": "https://oidc.example.com/a",
            "jwks_uri": "https://oidc.example.com/a/keys",
            "authorization_endpoint": "",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256", "RS256"],
        });
        assert_eq!(serde_json::from_str::<Value>(&document).unwrap(), expected);
    }
}
