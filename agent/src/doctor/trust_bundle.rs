//! The CAs that the agent trusts since it joined, and whether the configuration has them.

use host::exit::{Exit, Failure};
use tls::CaPin;

use super::{Check, Topic};
use crate::config::Trust;
use crate::credential::TrustBundle;
use crate::credential::identity::{Identity, rfc3339};
use crate::credential::validity::Validity;

/// How long before the end of the last CA it is reported, in seconds.
const EXPIRES_SOON: i64 = 30 * 24 * 3600;

/// Reports each CA of the bundle, and each configured CA that is not in it. `wall` is the time, seconds since 1970.
pub(super) fn examine(identity: &Identity, trust: &Trust, wall: i64) -> Vec<Check> {
    let bundle = match identity.bundle() {
        Ok(bundle) => bundle,
        Err(error) => {
            let failure = Failure::new(Exit::Data, error, "run `agent join` again");
            return vec![Check::fail(Topic::TrustBundle, failure)];
        }
    };
    let Ok(contact) = trust.read() else {
        return vec![Check::skip(Topic::TrustBundle, "the configured CAs cannot be read")];
    };
    let pins = contact.pins();
    let lasts = |dates: Validity| dates.not_after > wall + EXPIRES_SOON;
    let is_last = !bundle.cas().any(|(_, dates)| dates.is_some_and(lasts));
    let mut checks = Vec::new();
    for (pin, dates) in bundle.cas() {
        let configured = match (pins.contains(&pin), pins.is_empty()) {
            (true, _) => "configured",
            (false, false) => "not configured",
            (false, true) => "received at the join",
        };
        checks.push(dates_of(&format!("CA {pin} ({configured})"), dates, is_last, wall));
    }
    if pins.is_empty() {
        return checks;
    }
    checks.extend(compare(&bundle, pins, identity, wall));
    checks
}

/// Reports the dates of a CA. With `is_last`, no CA of the bundle is valid for much longer.
fn dates_of(name: &str, dates: Option<Validity>, is_last: bool, wall: i64) -> Check {
    let date = |seconds| rfc3339(seconds).unwrap_or_default();
    let warn = |finding, advice| Check::warn(Topic::TrustBundle, finding, advice);
    let Some(Validity { not_before, not_after }) = dates else {
        let finding = format!("{name}: its dates cannot be read");
        return warn(finding, "ask the cluster's operator about this CA");
    };
    if wall < not_before {
        let finding = format!("{name} is not valid before {}", date(not_before));
        return warn(finding, "compare the clocks of both machines");
    }
    let finding = match wall >= not_after {
        true => format!("{name} expired at {}", date(not_after)),
        false => format!("{name} is valid until {}", date(not_after)),
    };
    if !is_last {
        return Check::ok(Topic::TrustBundle, finding);
    }
    let finding = format!("{finding}: in 30 days, no CA of the trust bundle is valid any more");
    warn(finding, "ask the cluster's operator to replace the CA of the cluster")
}

/// How the configured CAs differ from the bundle. Joins need the former, renewals the latter.
fn compare(bundle: &TrustBundle, pins: &[CaPin], identity: &Identity, wall: i64) -> Vec<Check> {
    let warn = |finding: String, advice: String| Check::warn(Topic::TrustBundle, finding, advice);
    let is_unknown = |pin: &&CaPin| !bundle.pins().contains(pin);
    if !pins.iter().all(|pin| is_unknown(&pin)) {
        let finding = |pin: &CaPin| {
            format!(
                "the configured CA {pin} is not in the trust bundle: the cluster has retired it, or does not use it yet"
            )
        };
        let advice = || "remove it from the configuration if the cluster has retired it".to_owned();
        return pins.iter().filter(is_unknown).map(|pin| warn(finding(pin), advice())).collect();
    }
    let none = "no configured CA is in the trust bundle";
    if identity.is_of(pins) {
        let is_valid = |dates: Validity| dates.is_valid_at(wall);
        let valid = bundle.cas().find(|(_, dates)| dates.is_some_and(is_valid));
        let advice = match valid {
            Some((pin, _)) => format!("add {pin} to the configuration: a new join needs it"),
            None => "ask the cluster's operator which CA to configure".to_owned(),
        };
        let finding = format!("{none}: the cluster has replaced its CAs since the join");
        return vec![warn(finding, advice)];
    }
    let finding =
        format!("{none}, and the CAs of the join are no longer configured: the agent joins again");
    let advice = format!("restore the CAs of cluster {} if that is not intended", identity.cluster);
    vec![warn(finding, advice)]
}
