//! A request of HTTP/1.1 for the authority's web API: what clients of Teleport ask the web address of a proxy.

use std::cell::RefCell;

use serde_json::Value;

use crate::Verdict;
use crate::cluster::Cluster;

const PATHS: [&str; 2] = ["webapi/find", "webapi/ping"];

const END: &[u8] = b"\r\n\r\n";

thread_local! {
    static CLUSTER: RefCell<Cluster> = RefCell::new(Cluster::new());
}

/// The input is all that the client sends.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let answer = CLUSTER.with_borrow(|cluster| cluster.web(data));
    let Some(end) = answer.windows(END.len()).position(|bytes| bytes == END) else {
        assert!(answer.is_empty(), "a head without an end");
        return Verdict::Refused;
    };
    let (head, body) = (&answer[..end], &answer[end + END.len()..]);
    let head = str::from_utf8(head).expect("a head is ASCII").to_ascii_lowercase();
    let status = head.strip_prefix("http/1.1 ").or(head.strip_prefix("http/1.0 "));
    let status = status.and_then(|status| status.get(..3)).expect("a status");
    let request = String::from_utf8_lossy(data);
    let is_head = request.trim_start().starts_with("HEAD ");
    match status {
        "200" => {
            assert!(PATHS.iter().any(|path| request.contains(path)), "{request}");
            assert!(is_head || request.trim_start().starts_with("GET "), "{request}");
            if !is_head {
                let found: Value = serde_json::from_slice(body).expect("a whole document");
                assert_eq!(found["cluster_name"], "example.test");
            }
        }
        "400" | "404" | "405" | "414" | "431" => {}
        other => panic!("status {other}"),
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().expect("a number"));
    assert_eq!(
        body.len(),
        if is_head { 0 } else { length },
        "more than one answer, or half of one"
    );
    if status == "200" { Verdict::Accepted } else { Verdict::Refused }
}
