//! How JWTs of workloads are signed.

use host::config::finding::Source;
use host::config::section::{Keys, Section};

use crate::issue::{JwtAlgorithm, JwtSettings};

pub(super) const JWT: Keys = Keys {
    of: "jwt",
    known: &[
        (
            "algorithm",
            "`ES256` (default) or `RS256`, for receivers that refuse ECDSA, such as Azure; another one is used an hour after its \
             key was published",
        ),
        (
            "issuer",
            "https URL that is the `iss` of JWTs, below which receivers find the keys (default: the SPIFFE ID of the trust domain, \
             `spiffe://CLUSTER`)",
        ),
    ],
    refused: &[("issuer_url", "write `issuer`")],
};

pub(super) fn jwt(top: &Section<'_>, source: &Source<'_>) -> JwtSettings {
    const ALGORITHMS: [(&str, JwtAlgorithm); 2] =
        [("ES256", JwtAlgorithm::Es256), ("RS256", JwtAlgorithm::Rs256)];
    let section = top.node("jwt").and_then(|node| Section::open(node, &JWT, source));
    let Some(section) = section else { return JwtSettings::default() };
    JwtSettings {
        algorithm: section.word("algorithm", &ALGORITHMS).value().unwrap_or_default(),
        issuer: section.parse("issuer", str::parse).value(),
    }
}
