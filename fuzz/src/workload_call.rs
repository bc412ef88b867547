//! A call of the SPIFFE Workload API.

use std::cell::LazyCell;

use proto::spiffe::{
    JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesResponse, X509svidResponse,
};
use tonic::Code;

use crate::workload::{Answered, IDS, Workload};
use crate::{Verdict, assert_harmless};

const METHODS: [&str; 8] = [
    "FetchX509SVID",
    "FetchX509Bundles",
    "FetchJWTSVID",
    "FetchJWTBundles",
    "ValidateJWTSVID",
    "FetchWITSVID",
    "FetchWITBundles",
    "NoSuchMethod",
];

/// Audiences of one token, and bytes of one.
const MAX_AUDIENCES: usize = 32;
const MAX_NAME: usize = 2048;

thread_local! {
    static WORKLOAD: LazyCell<Workload> = LazyCell::new(Workload::new);
}

/// The first octet chooses the method and, with its highest bit, leaves the security header out; the rest is the message.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((choice, message)) = data.split_first() else { return Verdict::Refused };
    let method = METHODS[usize::from(choice & 0x7f) % METHODS.len()];
    let has_header = choice & 0x80 == 0;
    let header = [("workload.spiffe.io", "true")];
    let headers = if has_header { &header[..] } else { &[] };
    let path = format!("/SpiffeWorkloadAPI/{method}");
    let Answered { messages, status } =
        WORKLOAD.with(|workload| workload.call(&path, headers, &[message], 1));
    assert_harmless(status.message());
    let Some(answer) = messages.first() else {
        match status.code() {
            Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented => {}
            // No message of this type; and more than a message may have.
            Code::Internal => assert!(status.message().contains("decode"), "{status:?}"),
            Code::OutOfRange => {}
            _ => panic!("{status:?}"),
        }
        assert!(has_header || status.code() == Code::InvalidArgument, "{status:?}");
        return Verdict::Refused;
    };
    assert!(has_header, "an answer without the security header");
    complete(method, message, answer);
    Verdict::Accepted
}

/// An answer says all that the caller has, and no more.
fn complete(method: &str, message: &[u8], answer: &[u8]) {
    match method {
        "FetchX509SVID" => {
            let svids = decoded::<X509svidResponse>(answer).svids;
            assert!(svids.iter().map(|svid| svid.spiffe_id.as_str()).eq(IDS));
            let is_whole = |svid: &proto::spiffe::X509svid| {
                svid.x509_svid == [1, 2] && svid.x509_svid_key == [3] && svid.bundle == [4]
            };
            assert!(svids.iter().all(is_whole));
        }
        "FetchX509Bundles" => {
            let bundles = decoded::<X509BundlesResponse>(answer).bundles;
            assert!(bundles.into_iter().eq([("spiffe://td".to_owned(), vec![4])]));
        }
        "FetchJWTBundles" => {
            let bundles = decoded::<JwtBundlesResponse>(answer).bundles;
            let jwks = bundles.get("spiffe://td").expect("the own trust domain");
            let jwks: serde_json::Value = serde_json::from_slice(jwks).expect("JSON");
            assert_eq!(jwks["keys"][0]["kid"], "k1");
        }
        "FetchJWTSVID" => {
            let JwtsvidRequest { audience, spiffe_id } = decoded(message);
            assert!((1..=MAX_AUDIENCES).contains(&audience.len()));
            assert!(audience.iter().all(|one| (1..=MAX_NAME).contains(&one.len())));
            let svids = decoded::<JwtsvidResponse>(answer).svids;
            let wanted = IDS.iter().filter(|id| spiffe_id.is_empty() || spiffe_id == **id);
            assert!(svids.iter().map(|svid| svid.spiffe_id.as_str()).eq(wanted.copied()));
            assert!(svids.iter().all(|svid| svid.svid == audience.concat()));
        }
        "ValidateJWTSVID" => {
            let ValidateJwtsvidRequest { audience, .. } = decoded(message);
            let ValidateJwtsvidResponse { spiffe_id, claims } = decoded(answer);
            assert!(spiffe_id.starts_with("spiffe://td/"), "{spiffe_id}");
            assert!(claims.expect("claims").fields.contains_key("aud") && !audience.is_empty());
        }
        other => panic!("an answer of {other}"),
    }
}

fn decoded<M: prost::Message + Default>(message: &[u8]) -> M {
    M::decode(message).expect("it was read, or written")
}
