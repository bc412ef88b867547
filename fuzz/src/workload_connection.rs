//! What a workload sends on the socket of the Workload API, before the HTTP/2 library reads it.

use agent::workload_api::authority::repaired;

use crate::Verdict;

/// The input is a connection from its preface on.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let passed = repaired(data);
    // Nothing is added or moved; a frame whose end is missing is held back.
    assert!(passed.len() <= data.len());
    let changes = passed.iter().zip(data).filter(|(passed, data)| passed != data).count();
    // What is replaced needs no replacement.
    assert_eq!(repaired(&passed), passed);
    if changes == 0 { Verdict::Refused } else { Verdict::Accepted }
}
