//! What a host sends to prove that a service's key is in its TPM.

use std::cell::RefCell;

use authority::store::Change;
use prost::Message;
use proto::v1::prove_key_request::Step as Request;
use proto::v1::prove_key_response::Step as Response;
use proto::v1::{ProveKeyInit, ProveKeyRequest, ProveKeyResponse};
use tonic::Code;
use verifier::ServiceKey;

use crate::cluster::{Cluster, Proof, Who};
use crate::{Verdict, assert_harmless, fixtures, parts};

/// Messages of a proof are two; more are none of it.
const MAX_MESSAGES: usize = 4;

thread_local! {
    static CLUSTER: RefCell<Cluster> = RefCell::new(Cluster::new());
}

/// The first octet chooses who asks; the rest is the messages, each a part.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((who, messages)) = data.split_first() else { return Verdict::Refused };
    let who = [Who::Stranger, Who::Bot, Who::Output][usize::from(*who) % 3];
    let messages: Vec<&[u8]> = parts(messages).take(MAX_MESSAGES).collect();
    let Proof { replies, status, written } =
        CLUSTER.with_borrow_mut(|cluster| cluster.proof(who, &messages));
    assert_harmless(status.message());
    // Nobody knows the secret of a challenge, so nothing new is ever proven.
    let is_change = |change: &Change| !matches!(change, Change::Expect(..));
    assert!(!written.iter().any(is_change), "{written:?}");
    let step = |reply: &Vec<u8>| ProveKeyResponse::decode(&reply[..]).expect("it was written").step;
    match replies.first().map(step) {
        Some(Some(Response::Challenge(challenge))) => {
            assert!(who == Who::Bot, "a challenge for a {who:?}");
            assert_ne!(claimed(&messages), known(), "a key on record is not challenged");
            assert!(
                challenge.credential_blob.len() <= 132 && challenge.encrypted_seed.len() <= 512
            );
            assert!(replies.len() == 1 && status.code() != Code::Ok, "{status:?}");
            Verdict::Accepted
        }
        Some(Some(Response::Proven(_))) => {
            assert_eq!((who, claimed(&messages)), (Who::Bot, known()));
            assert!(replies.len() == 1 && status.code() == Code::Ok, "{status:?}");
            Verdict::Accepted
        }
        Some(None) => panic!("an empty reply"),
        None => {
            assert_ne!(status.code(), Code::Ok);
            Verdict::Refused
        }
    }
}

/// The key of the first message.
fn claimed(messages: &[&[u8]]) -> Option<Vec<u8>> {
    let request = ProveKeyRequest::decode(*messages.first()?).ok()?;
    let Request::Init(init) = request.step? else { return None };
    let init = ProveKeyInit::decode(&init[..]).ok()?;
    ServiceKey::appraise(&init.key).ok().map(|key| key.spki_der())
}

/// The key that was proven before.
fn known() -> Option<Vec<u8>> {
    Some(fixtures::service_key().spki_der())
}
