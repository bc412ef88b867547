//! JWT-SVIDs, JWT-SVID sections 2 to 5: the keys that verify them, as a JWK Set (RFC 7517), and their validation.

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use rustls::pki_types::alg_id::{RSA_ENCRYPTION, RSA_PKCS1_SHA256};
use serde_json::{Map, Value, json};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{AnyRef, Decode};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::validity::Validity;
use crate::spiffe_id::SpiffeId;

/// Bytes of a token.
const MAX_TOKEN: usize = 64 * 1024;

/// Keys of a trust bundle.
const MAX_KEYS: usize = 32;

/// Bytes of the ID of a key.
const MAX_KEY_ID: usize = 256;

/// A key that signs the JWT-SVIDs of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtKey {
    id: String,
    public: Public,
}

/// The public key. Its algorithm is the only one that it may be used with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    /// ES256, RFC 7518 section 3.4.
    P256(VerifyingKey),
    /// RS256, RFC 7518 section 3.3: an RSAPublicKey, DER.
    Rsa { der: Vec<u8>, modulus: Vec<u8>, exponent: Vec<u8> },
}

impl JwtKey {
    /// Reads a key as the authority sends it: a SubjectPublicKeyInfo, DER, and the `alg` of its tokens.
    ///
    /// # Errors
    /// It is malformed, or its algorithm is not supported.
    pub fn new(id: &str, algorithm: &str, spki: &[u8]) -> Result<Self, String> {
        if id.is_empty() || id.len() > MAX_KEY_ID || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a JWT key without a valid ID".into());
        }
        let malformed = |_| format!("the JWT key {id} is malformed");
        let public = match algorithm {
            "ES256" => {
                let key = VerifyingKey::from_public_key_der(spki);
                Public::P256(key.map_err(|_| malformed(()))?)
            }
            "RS256" => {
                let spki: SubjectPublicKeyInfoRef<'_> =
                    SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| malformed(()))?;
                let der = spki.subject_public_key.as_bytes().unwrap_or_default().to_vec();
                let (modulus, exponent) = rsa_numbers(&der).map_err(|_| malformed(()))?;
                // RFC 7518 section 3.3.
                if modulus.len() < 256 || modulus.len() > 1024 {
                    return Err(format!("the JWT key {id} is not an RSA key of 2048 to 8192 bits"));
                }
                Public::Rsa { der, modulus, exponent }
            }
            other => {
                return Err(format!(
                    "the algorithm {other:?} of the JWT key {id} is not supported"
                ));
            }
        };
        Ok(Self { id: id.to_owned(), public })
    }

    /// The key as a JWK. Without `use`, which readers interpret differently.
    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
        match &self.public {
            Public::P256(key) => {
                let point = key.to_sec1_point(false);
                let [x, y] = [point.x(), point.y()]
                    .map(|number| number.map(|bytes| text(bytes)).unwrap_or_default());
                json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self.id, "x": x, "y": y})
            }
            Public::Rsa { modulus, exponent, .. } => {
                let [n, e] = [modulus, exponent].map(|number| text(number));
                json!({"kty": "RSA", "alg": "RS256", "kid": self.id, "n": n, "e": e})
            }
        }
    }

    const fn algorithm(&self) -> &'static str {
        match self.public {
            Public::P256(_) => "ES256",
            Public::Rsa { .. } => "RS256",
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::P256(key) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Public::Rsa { der, .. } => {
                let all = tls::provider().signature_verification_algorithms.all;
                let is_rs256 =
                    |algorithm: &&&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
                        algorithm.public_key_alg_id() == RSA_ENCRYPTION
                            && algorithm.signature_alg_id() == RSA_PKCS1_SHA256
                    };
                all.iter().find(is_rs256).is_some_and(|algorithm| {
                    algorithm.verify_signature(der, message, signature).is_ok()
                })
            }
        }
    }
}

/// Modulus and exponent of an RSAPublicKey, RFC 8017 appendix A.1.1.
fn rsa_numbers(der: &[u8]) -> x509_cert::der::Result<(Vec<u8>, Vec<u8>)> {
    let sequence = AnyRef::from_der(der)?;
    sequence.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        let exponent = UintRef::decode(reader)?;
        Ok((modulus.as_bytes().to_vec(), exponent.as_bytes().to_vec()))
    })
}

/// Keys as a JWK Set; an empty one says that no token is valid.
#[must_use]
pub fn jwks(keys: &[JwtKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(JwtKey::jwk).collect();
    json!({ "keys": keys }).to_string()
}

/// Checks that there are not too many keys, and none twice.
///
/// # Errors
/// See there.
pub fn check(keys: &[JwtKey]) -> Result<(), String> {
    if keys.len() > MAX_KEYS {
        return Err("too many JWT keys".into());
    }
    let is_twice = |(index, key): (usize, &JwtKey)| {
        keys.iter().skip(index + 1).any(|other| other.id == key.id)
    };
    match keys.iter().enumerate().any(is_twice) {
        true => Err("two JWT keys with one ID".into()),
        false => Ok(()),
    }
}

/// Validates a token of a trust domain for an audience. Returns the SPIFFE ID and all claims, `aud` always as a list.
///
/// # Errors
/// What is wrong with it.
pub fn validate(
    token: &str,
    trust_domain: &str,
    keys: &[JwtKey],
    audience: &str,
    now: i64,
) -> Result<(SpiffeId, Map<String, Value>), String> {
    if token.len() > MAX_TOKEN {
        return Err(format!("the token is longer than {MAX_TOKEN} bytes"));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        return Err("the token is not in JWS compact serialization".into());
    };
    let key = key_of(&object(header, "header")?, keys)?;
    let mut claims = object(claims, "payload")?;
    let signature = Base64UrlUnpadded::decode_vec(signature)
        .map_err(|_| "the signature is not Base64url".to_owned())?;
    let message = token.rsplit_once('.').map_or(token, |(message, _)| message);
    if !key.verify(message.as_bytes(), &signature) {
        return Err("the signature is invalid".into());
    }
    let subject: SpiffeId = match claims.get("sub") {
        Some(Value::String(subject)) => {
            subject.parse().map_err(|error| format!("sub is {error}"))?
        }
        _ => return Err("the token has no sub".into()),
    };
    if subject.trust_domain() != trust_domain {
        return Err(format!("the token is of another trust domain than {trust_domain}"));
    }
    let audiences = match claims.get("aud") {
        Some(Value::String(one)) => vec![Value::String(one.clone())],
        Some(Value::Array(all)) if all.iter().all(Value::is_string) => all.clone(),
        _ => return Err("the token has no aud".into()),
    };
    if !audiences.iter().any(|one| one == audience) {
        return Err("the token is for another audience".into());
    }
    claims.insert("aud".into(), Value::Array(audiences));
    let time = |name: &str| claims.get(name).map(|value| value.as_f64().ok_or(name.to_owned()));
    #[expect(clippy::cast_precision_loss, reason = "seconds of this era are exact")]
    let now = now as f64;
    match time("exp") {
        Some(Ok(exp)) if exp > now => {}
        Some(Ok(_)) => return Err("the token has expired".into()),
        _ => return Err("the token has no exp".into()),
    }
    match time("nbf") {
        None => {}
        Some(Ok(nbf)) if nbf <= now => {}
        Some(_) => return Err("the token is not valid yet".into()),
    }
    Ok((subject, claims))
}

/// From when to when a token is valid, as it says itself: it is not verified.
#[must_use]
pub fn stated_validity(token: &[u8]) -> Option<Validity> {
    let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= MAX_TOKEN)?;
    let claims = object(token.split('.').nth(1)?, "payload").ok()?;
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    Some(Validity { not_before: time("iat")?, not_after: time("exp")? })
}

/// The key that the header names. JWT-SVID section 2 allows no other members than these.
fn key_of<'k>(header: &Map<String, Value>, keys: &'k [JwtKey]) -> Result<&'k JwtKey, String> {
    if let Some(other) = header.keys().find(|name| !["alg", "kid", "typ"].contains(&name.as_str()))
    {
        return Err(format!("the header has the member {other:?}"));
    }
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    if header.contains_key("typ") && !matches!(text("typ"), Some("JWT" | "JOSE")) {
        return Err("the typ of the header is neither JWT nor JOSE".into());
    }
    let id = text("kid").ok_or("the header has no kid")?;
    let key =
        keys.iter().find(|key| key.id == id).ok_or("no key of the trust domain has this kid")?;
    if text("alg") != Some(key.algorithm()) {
        return Err(format!("the alg of the header is not {}, that of the key", key.algorithm()));
    }
    Ok(key)
}

fn object(part: &str, what: &str) -> Result<Map<String, Value>, String> {
    let json =
        Base64UrlUnpadded::decode_vec(part).map_err(|_| format!("the {what} is not Base64url"))?;
    match serde_json::from_slice(&json) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(format!("the {what} is not a JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use p256::SecretKey;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::Signer;
    use p256::pkcs8::EncodePublicKey;

    use super::*;

    fn signing() -> SigningKey {
        SigningKey::from(&SecretKey::from_slice(&[7; 32]).unwrap())
    }

    fn keys() -> Vec<JwtKey> {
        let spki = signing().verifying_key().to_public_key_der().unwrap().into_vec();
        vec![JwtKey::new("k1", "ES256", &spki).unwrap()]
    }

    fn encode(value: &Value) -> String {
        Base64UrlUnpadded::encode_string(value.to_string().as_bytes())
    }

    fn token(header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature: Signature = signing().sign(message.as_bytes());
        format!("{message}.{}", Base64UrlUnpadded::encode_string(&signature.to_bytes()))
    }

    fn header() -> Value {
        json!({"alg": "ES256", "kid": "k1", "typ": "JWT"})
    }

    fn claims() -> Value {
        json!({"sub": "spiffe://td/a", "aud": ["x", "y"], "exp": 1000, "iat": 900})
    }

    fn result(token: &str) -> Result<String, String> {
        validate(token, "td", &keys(), "x", 999).map(|(id, _)| id.to_string())
    }

    #[test]
    fn valid_token_tells_its_subject_and_claims() {
        let valid = token(&header(), &claims());
        assert_eq!(result(&valid).unwrap(), "spiffe://td/a");
        let one = json!({"sub": "spiffe://td/a", "aud": "x", "exp": 1000.5, "more": {"a": [1]}});
        let (_, claims) = validate(&token(&header(), &one), "td", &keys(), "x", 1000).unwrap();
        assert_eq!(claims.get("aud"), Some(&json!(["x"])));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            token(&header(), &claims)
        };
        let without = |name: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            token(&header(), &claims)
        };
        let headed = |header: Value| token(&header, &claims());
        let valid = token(&header(), &claims());
        let (message, signature) = valid.rsplit_once('.').unwrap();
        let other = message.replace(&encode(&claims()), &encode(&json!({"sub": "spiffe://td/b"})));
        for (token, why) in [
            (with("aud", json!(["z"])), "another audience"),
            (with("aud", json!([])), "another audience"),
            (with("aud", json!([1])), "no aud"),
            (without("aud"), "no aud"),
            (with("exp", json!(999)), "expired"),
            (with("exp", json!("1000")), "no exp"),
            (without("exp"), "no exp"),
            (with("nbf", json!(1001)), "not valid yet"),
            (with("nbf", json!("0")), "not valid yet"),
            (without("sub"), "no sub"),
            (with("sub", json!("td/a")), "not a SPIFFE ID"),
            (with("sub", json!("spiffe://other/a")), "another trust domain"),
            (headed(json!({"alg": "none", "kid": "k1"})), "not ES256"),
            (headed(json!({"alg": "HS256", "kid": "k1"})), "not ES256"),
            (headed(json!({"kid": "k1"})), "not ES256"),
            (headed(json!({"alg": "ES256"})), "no kid"),
            (headed(json!({"alg": "ES256", "kid": "k2"})), "no key"),
            (headed(json!({"alg": "ES256", "kid": "k1", "typ": "JWE"})), "typ"),
            (headed(json!({"alg": "ES256", "kid": "k1", "crit": ["b64"]})), "member"),
            (format!("{other}.{signature}"), "signature is invalid"),
            (format!("{message}."), "signature is invalid"),
            (format!("{message}.!"), "not Base64url"),
            (message.to_owned(), "compact serialization"),
            (format!("{valid}.x"), "compact serialization"),
            (format!("W10.{signature}.{signature}"), "header is not a JSON object"),
            (String::new(), "compact serialization"),
            ("a".repeat(MAX_TOKEN + 1), "longer"),
        ] {
            let error = result(&token).unwrap_err();
            assert!(error.contains(why), "{error}: {why}");
        }
    }

    #[test]
    fn keys_are_a_jwk_set() {
        let set: Value = serde_json::from_str(&jwks(&keys())).unwrap();
        assert_eq!(set["keys"][0]["kid"], "k1");
        assert_eq!(set["keys"][0]["kty"], "EC");
        assert_eq!(jwks(&[]), r#"{"keys":[]}"#);
        assert!(check(&[keys(), keys()].concat()).is_err());
        check(&keys()).unwrap();
    }
}
