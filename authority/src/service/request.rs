//! What the requests of all protocols have in common.

use super::refusal::Refusal;

/// A part of a request as its protocol's adapter has read it. A malformed part is refused only where it is
/// used, so that all protocols refuse in the same order and the audit log has what was known by then.
pub(crate) type Parsed<T> = Result<T, Refusal>;

/// What a host says about itself, for the record only.
pub(crate) struct HostInfo {
    pub(crate) hostname: String,
    pub(crate) agent_version: String,
}
