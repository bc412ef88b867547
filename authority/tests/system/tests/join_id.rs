//! Joins that are repeated because their result was lost.

use std::sync::Arc;
use std::time::Duration;

use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use proto::v1::join_response::Step as Reply;
use proto::v1::{IssuedCredentials, JoinInit};
use testkit::simulated::{Join, SoftwareTpm, TIMEOUT, Wire};
use tonic::{Code, Status};

use super::authorities::{database, settings};
use super::harness::Harness;

const ID: [u8; 16] = [7; 16];

/// A join with this ID, up to the answer.
async fn answered(harness: &Harness, tpm: &SoftwareTpm, id: &[u8]) -> Result<(Wire, Join), Status> {
    let wire = harness.wire().await;
    let mut join = wire.join().await;
    let init = join.init(&JoinInit { join_id: id.to_vec(), ..tpm.init("t") }).await;
    let Reply::Challenge(challenge) = join.reply().await? else { panic!("no challenge") };
    join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
    Ok((wire, join))
}

async fn joined(
    harness: &Harness,
    tpm: &SoftwareTpm,
    id: &[u8],
) -> Result<IssuedCredentials, Status> {
    let (_wire, mut join) = answered(harness, tpm, id).await?;
    match join.reply().await? {
        Reply::Result(issued) => Ok(issued),
        Reply::Challenge(_) => panic!("another challenge"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_join_after_a_lost_result_is_of_the_same_instance() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let connection = answered(&harness, &tpm, &ID).await.unwrap();
    let granted = async {
        while harness.instances().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, granted).await.expect("the join is granted");
    drop(connection);
    let instance = harness.instance().await;
    let issued = joined(&harness, &tpm, &ID).await.unwrap();
    assert_eq!(
        (issued.instance.as_str(), issued.generation),
        (&*instance.metadata.name.to_string(), 2)
    );
    assert_eq!(harness.instance().await.status.generation, 2);
    assert_eq!(joined(&harness, &tpm, &ID).await.unwrap().generation, 3);
    assert_eq!(harness.instances().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join_with_another_id_key_or_tpm_is_of_another_instance() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let first = joined(&harness, &tpm, &ID).await.unwrap();
    let mut instances = vec![first.instance];
    instances.push(joined(&harness, &tpm, &[8; 16]).await.unwrap().instance);
    let other_key = SoftwareTpm { join_key: SigningKey::generate(), ..tpm };
    instances.push(joined(&harness, &other_key, &ID).await.unwrap().instance);
    let other = SoftwareTpm::generate();
    harness.allow(&other).await;
    instances.push(joined(&harness, &other, &ID).await.unwrap().instance);
    for _ in 0..2 {
        instances.push(joined(&harness, &other, &[]).await.unwrap().instance);
    }
    instances.sort();
    instances.dedup();
    assert_eq!(instances.len(), 6);
    let refused = joined(&harness, &other, &[7; 15]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_join_at_two_authorities_at_once_is_of_one_instance() {
    let Some(server) = database() else { return };
    let one = Harness::with_store(settings(&server)).await;
    let two = Arc::new(one.beside("two", settings(&server)).await);
    let tpm = Arc::new(SoftwareTpm::generate());
    one.allow(&tpm).await;
    let (other, same) = (Arc::clone(&two), Arc::clone(&tpm));
    // Between the decision of one and its write.
    one.meanwhile.set(Box::new(move |_| {
        Box::pin(async move {
            assert_eq!(joined(&other, &same, &ID).await.unwrap().generation, 1);
        })
    }));
    let issued = joined(&one, &tpm, &ID).await.unwrap();
    assert!(one.meanwhile.happened());
    assert_eq!(issued.generation, 2);
    assert_eq!(two.instance().await.metadata.name.to_string(), issued.instance);
}
