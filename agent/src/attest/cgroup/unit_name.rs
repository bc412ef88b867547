//! The names of systemd's units, as systemd reads them from paths of control groups.

/// systemd.unit(5): the types of units that have control groups.
const TYPES: [&str; 5] = ["service", "scope", "socket", "mount", "swap"];

/// The longest name.
const MAX: usize = 255;

/// Whether a segment is the group of a slice.
pub(super) fn is_slice(segment: &str) -> bool {
    segment != "-.slice" && is_of_type(unescape(segment), "slice")
}

/// The unit whose group a segment is. Templates are none, and slices only contain units.
pub(super) fn unit(segment: &str) -> Option<&str> {
    let name = unescape(segment);
    TYPES.iter().any(|kind| is_of_type(name, kind)).then_some(name)
}

/// The user whose service manager is this unit.
pub(super) fn user_manager(segment: &str) -> Option<u32> {
    let uid = segment.strip_prefix("user@")?.strip_suffix(".service")?;
    // One spelling: no sign, no leading zero.
    uid.parse().ok().filter(|number: &u32| number.to_string() == uid)
}

/// Groups whose name could be that of a file in the same directory have a `_` before it.
fn unescape(segment: &str) -> &str {
    segment.strip_prefix('_').unwrap_or(segment)
}

fn is_of_type(name: &str, kind: &str) -> bool {
    let Some((stem, suffix)) = name.rsplit_once('.') else { return false };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\');
    let (prefix, instance) = match stem.split_once('@') {
        Some((prefix, instance)) => (prefix, Some(instance)),
        None => (stem, None),
    };
    suffix == kind
        && name.len() <= MAX
        && !prefix.is_empty()
        && prefix.chars().all(allowed)
        && instance
            .is_none_or(|name| !name.is_empty() && name.chars().all(|c| allowed(c) || c == '@'))
}
