//! Listings that come in several answers.

use std::fs;

use proto::v1::GetRequest;
use proto::v1::admin_service_client::AdminServiceClient;
use serde_json::Value;

use super::command::Place;
use super::harness::Harness;

fn bots(count: usize, description: &str) -> String {
    let bot = |number| {
        format!(
            "kind: bot\nversion: v1\nmetadata:\n  name: b{number}\n  description: {description}\n\
             spec:\n  roles: []\n"
        )
    };
    (0..count).map(bot).collect::<Vec<_>>().join("---\n")
}

#[test]
fn listing_larger_than_an_answer_is_shown_as_one() {
    let place = Place::new();
    let _authority = place.start(&["--cluster-name", "one.example"]);
    assert_eq!(place.run(&["get", "bots", "--format", "json"]).1, "[]\n");
    let file = place.0.path().join("bots.yaml");
    fs::write(&file, bots(5, &"x".repeat(400_000))).unwrap();
    let file = file.to_str().unwrap();
    let (code, _, error) = place.run(&["create", file]);
    assert_eq!(code, 0, "{error}");

    let (code, json, error) = place.run(&["get", "bots", "--format", "json"]);
    assert_eq!(code, 0, "{error}");
    let all: Vec<Value> = serde_json::from_str(&json).unwrap();
    let names: Vec<_> = all.iter().map(|bot| bot["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b0", "b1", "b2", "b3", "b4"]);
    assert!(json.starts_with("[\n  {\n    \"kind\"") && json.ends_with("\n  }\n]\n"));
    assert_eq!(json.matches("\n  },\n  {\n").count(), 4);

    let (code, yaml, error) = place.run(&["get", "bots"]);
    assert_eq!((code, yaml.matches("---\n").count()), (0, 4), "{error}");
    fs::write(file, yaml).unwrap();
    assert_eq!(place.run(&["create", "-f", file]).0, 0);
    let (_, one, _) = place.run(&["get", "bot/b3", "--format", "json"]);
    assert!(one.starts_with("{\n  \"kind\": \"bot\""), "{}", &one[..40]);
}

#[tokio::test]
async fn answer_has_as_many_as_asked_for_and_says_where_to_go_on() {
    let harness = Harness::new().await;
    harness.create(&bots(5, "x")).await;
    let mut admin = AdminServiceClient::new(harness.operator().await.channel);
    let mut get = async |after: &str, limit| {
        let request = GetRequest { after: after.into(), limit, ..bots_of_all() };
        let answer = admin.get(request).await.unwrap().into_inner();
        (answer.resources.len(), answer.next)
    };
    assert_eq!(get("", 2).await, (2, "b1".into()));
    assert_eq!(get("b1", 2).await, (2, "b3".into()));
    assert_eq!(get("b3", 9).await, (2, String::new()));
    assert_eq!(get("z", 9).await, (0, String::new()));
    assert_eq!(get("", 0).await, (6, String::new()), "a caller that knows no pages");
}

/// Beside those of the tests there is the harness's own.
fn bots_of_all() -> GetRequest {
    GetRequest { kind: "bot".into(), ..GetRequest::default() }
}
