//! What an operator writes of the JWT-SVIDs of a workload identity, and what a host says of the workload.

use agent::credential::jwt::{JwtKey as VerifyingKey, validate};
use authority::issue::{
    Audiences, CaKey, ClusterName, Issuer, JwtAlgorithm, JwtClaims, JwtKey, SshCa, Ttl, X509Ca,
};
use authority::resource::{Attributes, Bot, BotSpec, Metadata, Resource, WorkloadIdentity, read};
use time::OffsetDateTime;

use crate::{Verdict, assert_harmless, fixtures, parts};

const DOMAIN: &str = "example.test";
const AUDIENCE: &str = "vault";

/// Claims that the authority sets itself.
const RESERVED: [&str; 6] = ["iss", "sub", "aud", "iat", "exp", "jti"];

/// Bytes of all claims of an operator as JSON.
const MAX_CLAIMS: usize = 4096;

thread_local! {
    static ISSUED: Issued = Issued::new();
}

/// The input has three parts: the template of the SPIFFE ID's path, the further claims as JSON, and a text that the host
/// states.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let texts: Result<Vec<&str>, _> = parts(data).take(3).map(str::from_utf8).collect();
    let Ok([id, claims, stated]) = texts.as_deref() else { return Verdict::Refused };
    let document = format!(
        "kind: workload_identity\nversion: v1\nmetadata: {{name: web}}\nspec: {{bots: {{names: [example]}}, spiffe: \
         {{id: {id:?}, jwt: {{extra_claims: {claims}}}}}}}\n"
    );
    let identity = match read(&document) {
        Ok(resources) => match resources.into_iter().next() {
            Some(Resource::WorkloadIdentity(identity)) => identity,
            _ => return Verdict::Refused,
        },
        Err(error) => {
            error.to_string().lines().for_each(assert_harmless);
            return Verdict::Refused;
        }
    };
    ISSUED.with(|issued| issued.issue(&identity, stated))
}

/// An authority that issues, and a receiver.
struct Issued {
    issuer: Issuer,
    bot: Bot,
    audiences: Audiences,
    keys: [VerifyingKey; 1],
    now: OffsetDateTime,
}

impl Issued {
    fn new() -> Self {
        let now = OffsetDateTime::from_unix_timestamp(fixtures::now().seconds()).expect("a time");
        let cluster: ClusterName = DOMAIN.parse().expect("a name");
        let key = || CaKey::generate().expect("a key");
        let x509 = X509Ca::create(&cluster, key(), now).expect("a CA");
        let ssh = SshCa::new(&cluster, &key()).expect("a CA");
        let ssh_host = SshCa::of_hosts(&cluster, &key()).expect("a CA");
        let jwt = JwtKey::generate(JwtAlgorithm::Es256).expect("a key");
        let spki = jwt.public().to_spki().expect("a key");
        let verifying = VerifyingKey::new(jwt.public().key_id(), "ES256", &spki).expect("a key");
        let name = Metadata::named("example".parse().expect("a name"));
        Self {
            issuer: Issuer::new(cluster, x509, ssh, ssh_host, jwt),
            bot: Bot::new(name, BotSpec::default()),
            audiences: vec![AUDIENCE.to_owned()].try_into().expect("an audience"),
            keys: [verifying],
            now,
        }
    }

    fn issue(&self, identity: &WorkloadIdentity, stated: &str) -> Verdict {
        let spiffe = identity.spec.spiffe.as_ref().expect("it is in the document");
        let mut attributes = Attributes::default();
        attributes.set("user.bot_name", "example");
        attributes.set("workload.unix.uid", 33);
        attributes.set("workload.systemd.service", stated);
        attributes.set_all("workload.unix.supplementary_gids", [1, 2]);
        let rendered = spiffe.spiffe_id(DOMAIN, &attributes).and_then(|id| {
            let claims = spiffe.jwt.extra_claims.render(&attributes)?;
            Ok((id, claims))
        });
        let (id, extra) = match rendered {
            Ok(rendered) => rendered,
            Err(why) => {
                assert_harmless(&why.to_string());
                return Verdict::Refused;
            }
        };
        assert!(!id.as_str().starts_with("spiffe://example.test/endorse/"), "{}", id.as_str());
        let claims = JwtClaims {
            subject: id.as_str(),
            audiences: &self.audiences,
            ttl: Ttl::default(),
            maximum_ttl: None,
            extra_claims: extra.clone(),
        };
        let svid = self.issuer.jwt_svid(&self.bot, claims, self.now).expect("it can be issued");
        let now = svid.issued.unix_timestamp();
        let read = validate(&svid.token, DOMAIN, &self.keys, AUDIENCE, now);
        let (subject, mut read) = read.expect("its receiver accepts it");
        assert_eq!(subject.as_str(), id.as_str());
        for name in RESERVED {
            assert!(read.remove(name).is_some() && !extra.contains_key(name), "{name}");
        }
        assert!(!extra.contains_key("nbf"));
        assert_eq!(read, extra, "other claims than those of the operator");
        assert!(serde_json::to_vec(&read).expect("JSON").len() <= MAX_CLAIMS);
        Verdict::Accepted
    }
}
