//! The requests of an Envoy on a stream of its Secret Discovery Service.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use prost::Message;
use proto::envoy::discovery::{DiscoveryRequest, DiscoveryResponse};
use proto::envoy::tls::Secret;
use tonic::Code;

use crate::workload::{Answered, Workload};
use crate::{Verdict, assert_harmless, parts};

const PATH: &str = "/envoy.service.secret.v3.SecretDiscoveryService/";

/// More than a stream of requests is answered with.
const MAX_MESSAGES: usize = 1024;

thread_local! {
    static WORKLOAD: LazyCell<Workload> = LazyCell::new(Workload::new);
}

/// The first octet chooses the method; the rest is the requests, each a part.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((choice, requests)) = data.split_first() else { return Verdict::Refused };
    let is_stream = choice % 2 == 0;
    let mut requests: Vec<&[u8]> = parts(requests).take(MAX_MESSAGES - 1).collect();
    if !is_stream {
        requests.truncate(1);
    }
    let path = format!("{PATH}{}", if is_stream { "StreamSecrets" } else { "FetchSecrets" });
    let answered = WORKLOAD.with(|workload| workload.call(&path, &[], &requests, MAX_MESSAGES));
    check(&answered, is_stream);
    let mut nonces = BTreeSet::new();
    let asked = asked(&requests);
    for message in &answered.messages {
        let response = DiscoveryResponse::decode(&message[..]).expect("it was written");
        assert!(nonces.insert(response.nonce), "a nonce twice");
        for resource in &response.resources {
            let secret = Secret::decode(&resource.value[..]).expect("it was written");
            assert!(asked.contains(&secret.name) || asked.contains(""), "{}", secret.name);
            assert_eq!(resource.type_url, response.type_url);
        }
    }
    if answered.messages.is_empty() { Verdict::Refused } else { Verdict::Accepted }
}

/// A stream never ends with success; a call has one answer or none.
fn check(Answered { messages, status }: &Answered, is_stream: bool) {
    assert_harmless(status.message());
    let is_expected = match status.code() {
        Code::Ok => !is_stream && messages.len() == 1,
        Code::InvalidArgument => true,
        Code::Unavailable => is_stream && status.message().ends_with("has ended"),
        // The validator is switched off; no message of this type; no message.
        Code::Internal => {
            status.message().contains("validator")
                || status.message().contains("decode")
                || (!is_stream && status.message().contains("Missing request message"))
        }
        Code::OutOfRange => true,
        _ => false,
    };
    assert!(is_expected, "{status:?} after {} messages", messages.len());
}

/// All names that were asked for; the empty one stands for everything.
fn asked(requests: &[&[u8]]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for request in requests {
        let Ok(request) = DiscoveryRequest::decode(*request) else { break };
        if request.resource_names.is_empty() {
            names.insert(String::new());
        }
        names.extend(request.resource_names);
    }
    names
}
