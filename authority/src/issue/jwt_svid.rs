//! JWT-SVIDs: what the authority says of a workload to one audience, for minutes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::jwt_key::base64url;
use super::profile::{Lifetime, trust_domain_id};
use super::{IssueError, Issuer, JwtKey, Ttl};
use crate::resource::{Bot, Invalid};

/// To whom a JWT is addressed. A receiver must find its own name among them (JWT-SVID section 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audiences(Vec<String>);

impl Audiences {
    /// Some readers refuse more.
    const MAX: usize = 32;

    /// Bytes of one: Google's have up to 256 characters.
    const MAX_LEN: usize = 512;

    /// All of them, each once.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Audiences {
    type Error = Invalid;

    fn try_from(asked: Vec<String>) -> Result<Self, Invalid> {
        if asked.is_empty() || asked.len() > Self::MAX {
            let count = asked.len();
            return Err(Invalid(format!("a JWT has 1 to {} audiences, not {count}", Self::MAX)));
        }
        let mut audiences: Vec<String> = Vec::with_capacity(asked.len());
        for one in asked {
            if one.is_empty() || one.len() > Self::MAX_LEN || one.chars().any(char::is_control) {
                return Err(Invalid(format!(
                    "an audience has 1 to {} bytes and no control characters",
                    Self::MAX_LEN
                )));
            }
            if !audiences.contains(&one) {
                audiences.push(one);
            }
        }
        Ok(Self(audiences))
    }
}

/// What a JWT-SVID is to say.
#[derive(Debug, Clone)]
pub struct JwtClaims<'a> {
    /// The workload's SPIFFE ID.
    pub subject: &'a str,
    /// To whom it is addressed.
    pub audiences: &'a Audiences,
    /// The requested lifetime.
    pub ttl: Ttl,
    /// The longest lifetime that the workload identity allows.
    pub maximum_ttl: Option<Duration>,
    /// Further claims. They replace none of those that every JWT has.
    pub extra_claims: Map<String, Value>,
}

/// A JWT-SVID. Who has the token is taken for the workload.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSvid {
    /// JWS compact serialization.
    pub token: String,
    /// Its `jti`, by which the audit log names it.
    pub id: String,
    /// The `kid` of the key that has signed it.
    pub key_id: String,
    /// When it was issued.
    pub issued: OffsetDateTime,
    /// When it expires.
    pub expires: OffsetDateTime,
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _, id, key_id, issued, expires } = self;
        f.debug_struct("JwtSvid")
            .field("id", id)
            .field("key_id", key_id)
            .field("issued", issued)
            .field("expires", expires)
            .finish_non_exhaustive()
    }
}

/// Readers refuse other members (JWT-SVID section 2).
#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

impl Issuer {
    /// A JWT-SVID for a workload of this bot's host. It is verified as a receiver would.
    pub fn jwt_svid(
        &self,
        bot: &Bot,
        claims: JwtClaims<'_>,
        now: OffsetDateTime,
    ) -> Result<JwtSvid, IssueError> {
        let keys = self.keyring().keys();
        let key = keys.jwt.active();
        // Whole seconds, not later than now: some readers refuse an `iat` in the future.
        let issued = now.replace_nanosecond(0).unwrap_or(now);
        let mut lifetime = Lifetime::JWT.granted(bot, claims.ttl);
        if let Some(maximum) = claims.maximum_ttl {
            lifetime = lifetime.min(maximum);
        }
        let mut expires = issued + lifetime;
        if let Some(end) = bot.metadata.expires {
            expires = expires.min(end.0.replace_nanosecond(0).unwrap_or(end.0));
        }
        if expires <= issued {
            return Err(IssueError::jwt("it would be expired already"));
        }
        let id = Uuid::new_v4().to_string();
        let claims = self.claims(claims, &id, issued, expires);
        let token = signed(key, &claims)?;
        verify(key, &token, &claims)?;
        Ok(JwtSvid { token, id, key_id: key.public().key_id().to_owned(), issued, expires })
    }

    /// The `iss` of JWTs.
    pub fn jwt_issuer(&self) -> String {
        match &self.jwt_settings().issuer {
            Some(url) => url.to_string(),
            None => trust_domain_id(self.cluster()),
        }
    }

    fn claims(
        &self,
        asked: JwtClaims<'_>,
        id: &str,
        issued: OffsetDateTime,
        expires: OffsetDateTime,
    ) -> Map<String, Value> {
        let mut claims = asked.extra_claims;
        claims.extend([
            ("iss".to_owned(), self.jwt_issuer().into()),
            ("sub".to_owned(), asked.subject.into()),
            ("aud".to_owned(), asked.audiences.as_slice().into()),
            ("iat".to_owned(), issued.unix_timestamp().into()),
            ("exp".to_owned(), expires.unix_timestamp().into()),
            ("jti".to_owned(), id.into()),
        ]);
        claims
    }
}

/// JWS compact serialization, RFC 7515 section 7.1.
fn signed(key: &JwtKey, claims: &Map<String, Value>) -> Result<String, IssueError> {
    let public = key.public();
    let header = Header { alg: public.algorithm().as_str(), kid: public.key_id(), typ: "JWT" };
    let header = serde_json::to_vec(&header).map_err(IssueError::jwt)?;
    let claims = serde_json::to_vec(claims).map_err(IssueError::jwt)?;
    let mut token = format!("{}.{}", base64url(&header), base64url(&claims));
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&base64url(&signature));
    Ok(token)
}

/// Verifies the signature by the key as it is published, so that a fault of the private one is noticed here, and that the
/// claims read as what was meant.
fn verify(key: &JwtKey, token: &str, claims: &Map<String, Value>) -> Result<(), IssueError> {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let (input, signature) = token.rsplit_once('.').ok_or_else(|| IssueError::jwt("no JWS"))?;
    let signature = Base64UrlUnpadded::decode_vec(signature).map_err(IssueError::jwt)?;
    key.public().verify(input.as_bytes(), &signature)?;
    let (_, payload) = input.split_once('.').ok_or_else(|| IssueError::jwt("no JWS"))?;
    let payload = Base64UrlUnpadded::decode_vec(payload).map_err(IssueError::jwt)?;
    let read: Map<String, Value> = serde_json::from_slice(&payload).map_err(IssueError::jwt)?;
    if read == *claims { Ok(()) } else { Err(IssueError::jwt("the claims are not as meant")) }
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64UrlUnpadded, Encoding};
    use serde_json::json;
    use time::macros::datetime;

    use super::*;
    use crate::issue::{CaKey, ClusterName, JwtAlgorithm, JwtSettings, Keyring, Keys, Ring};
    use crate::issue::{SshCa, X509Ca};
    use crate::issue::{Tainted, TrustChain};
    use crate::resource::{BotSpec, Metadata, Timestamp};

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00.75 UTC);

    const ID: &str = "spiffe://example.test/bot/web";

    fn issuer(algorithm: JwtAlgorithm, issuer: Option<&str>) -> Issuer {
        let cluster: ClusterName = "example.test".parse().unwrap();
        let x509 = X509Ca::create(&cluster, CaKey::generate().unwrap(), NOW).unwrap();
        let ssh = SshCa::new(&cluster, &CaKey::generate().unwrap()).unwrap();
        let jwt = Ring::new(JwtKey::generate(algorithm).unwrap(), NOW);
        let ssh_host = SshCa::of_hosts(&cluster, &CaKey::generate().unwrap()).unwrap();
        let (ssh, ssh_host) = (Ring::new(ssh, NOW), Ring::new(ssh_host, NOW));
        let x509 = Ring::new(x509, NOW);
        let keyring = std::sync::Arc::new(Keyring::new(Keys {
            x509,
            ssh,
            ssh_host,
            jwt,
            sequence: 1,
            chain: TrustChain::default(),
            tainted: Tainted::default(),
        }));
        let issuer = issuer.map(|url| url.parse().unwrap());
        Issuer::with(cluster, keyring, JwtSettings { algorithm, issuer })
    }

    fn bot() -> Bot {
        Bot::new(Metadata::named("web".parse().unwrap()), BotSpec::default())
    }

    fn audiences(all: &[&str]) -> Result<Audiences, Invalid> {
        all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>().try_into()
    }

    fn claims(audiences: &Audiences) -> JwtClaims<'_> {
        let (ttl, maximum_ttl, extra_claims) = (Ttl::default(), None, Map::new());
        JwtClaims { subject: ID, audiences, ttl, maximum_ttl, extra_claims }
    }

    fn part(token: &str, index: usize) -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap()
    }

    #[test]
    fn jwt_has_these_members_and_no_others() {
        let both = audiences(&["vault", "api://x", "vault"]).unwrap();
        for (algorithm, url, iss) in [
            (JwtAlgorithm::Es256, None, "spiffe://example.test"),
            (JwtAlgorithm::Rs256, Some("https://oidc.test/a"), "https://oidc.test/a"),
        ] {
            let issuer = issuer(algorithm, url);
            let svid = issuer.jwt_svid(&bot(), claims(&both), NOW).unwrap();
            let kid = issuer.keyring().keys().jwt.active().public().key_id().to_owned();
            let header = json!({"alg": algorithm.as_str(), "kid": kid, "typ": "JWT"});
            assert_eq!(part(&svid.token, 0), header);
            let iat = NOW.unix_timestamp();
            let claims = json!({
                "iss": iss, "sub": ID, "aud": ["vault", "api://x"], "iat": iat, "exp": iat + 300, "jti": svid.id,
            });
            assert_eq!(part(&svid.token, 1), claims);
            assert_eq!(svid.key_id, kid);
            let shown = format!("{svid:?}");
            assert!(!shown.contains(svid.token.split('.').next_back().unwrap()), "{shown}");
        }
    }

    #[test]
    fn lifetime_is_bounded_by_identity_bot_and_day() {
        let issuer = issuer(JwtAlgorithm::Es256, None);
        let to = audiences(&["a"]).unwrap();
        let lifetime = |bot: &Bot, ttl: i64, maximum: Option<u64>| {
            let maximum_ttl = maximum.map(Duration::from_secs);
            let claims = JwtClaims { ttl: ttl.try_into().unwrap(), maximum_ttl, ..claims(&to) };
            let svid = issuer.jwt_svid(bot, claims, NOW)?;
            assert!(svid.issued <= NOW);
            Ok::<_, IssueError>((svid.expires - svid.issued).whole_seconds())
        };
        assert_eq!(lifetime(&bot(), 0, None).unwrap(), 300);
        assert_eq!(lifetime(&bot(), 3600, None).unwrap(), 3600);
        assert_eq!(lifetime(&bot(), 3600, Some(600)).unwrap(), 600);
        assert_eq!(lifetime(&bot(), 0, Some(60)).unwrap(), 60);
        assert_eq!(lifetime(&bot(), 999_999, None).unwrap(), 24 * 3600);
        let mut short = bot();
        short.spec.max_session_ttl = Some("2m".to_owned().try_into().unwrap());
        assert_eq!(lifetime(&short, 3600, None).unwrap(), 120);
        let mut ending = bot();
        ending.metadata.expires = Some(Timestamp(NOW + time::Duration::seconds(30)));
        assert_eq!(lifetime(&ending, 0, None).unwrap(), 30);
        ending.metadata.expires = Some(Timestamp(NOW));
        lifetime(&ending, 0, None).unwrap_err();
    }

    #[test]
    fn audiences_are_bounded() {
        assert_eq!(audiences(&["a", "b", "a"]).unwrap().as_slice(), ["a", "b"]);
        let long = "x".repeat(513);
        for wrong in [&[][..], &[""], &["a", "b\n"], &[&long], &["a"; 33]] {
            audiences(wrong).unwrap_err();
        }
        audiences(&["a"; 32]).unwrap();
        audiences(&[&long[1..]]).unwrap();
    }

    #[test]
    fn further_claims_do_not_replace_those_that_every_jwt_has() {
        let issuer = issuer(JwtAlgorithm::Es256, None);
        let to = audiences(&["a"]).unwrap();
        let extra = ["iss", "sub", "aud", "exp", "iat", "jti", "team"];
        let extra_claims = extra.map(|name| (name.to_owned(), json!("x"))).into_iter().collect();
        let claims = JwtClaims { extra_claims, ..claims(&to) };
        let claims = part(&issuer.jwt_svid(&bot(), claims, NOW).unwrap().token, 1);
        let replaced = claims.as_object().unwrap().iter().filter(|(_, value)| **value == "x");
        assert_eq!(replaced.map(|(name, _)| name).collect::<Vec<_>>(), ["team"]);
    }

    #[test]
    fn jwt_of_a_faulty_key_is_not_returned() {
        let key = JwtKey::generate(JwtAlgorithm::Es256).unwrap();
        let claims = Map::from_iter([("sub".to_owned(), json!(ID))]);
        let token = signed(&key, &claims).unwrap();
        verify(&key, &token, &claims).unwrap();
        verify(&JwtKey::generate(JwtAlgorithm::Es256).unwrap(), &token, &claims).unwrap_err();
        verify(&key, &token, &Map::new()).unwrap_err();
    }
}
