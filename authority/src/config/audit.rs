//! How long the log of the authority keeps its entries.

use std::time::Duration;

use host::config::finding::Source;
use host::config::section::{Keys, Section};
use host::go_duration;

pub(super) const AUDIT: Keys = Keys {
    of: "audit",
    known: &[(
        "retention",
        "how long the entries of the log are kept (default: without end); see below",
    )],
    refused: &[],
};

pub(super) const RETENTION: Keys = Keys {
    of: "audit.retention",
    known: &[
        ("age", "older entries are removed, such as `90d` or `36h`, at least `1h` (default: none)"),
        (
            "size",
            "if the entries take more in the store, the oldest ones are removed, such as `512MiB` or `10GiB`, at least `1MiB` (default: none)",
        ),
    ],
    refused: &[],
};

/// What the authority does with its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditSettings {
    /// Which entries are removed.
    pub retention: Retention,
}

/// Which entries of the log are removed. Nothing is, by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Those that are older.
    pub age: Option<Duration>,
    /// The oldest ones, while all of them take more bytes in the store.
    pub size: Option<u64>,
}

pub(super) fn audit(top: &Section<'_>, source: &Source<'_>) -> AuditSettings {
    let part = |section: &Section<'_>, key: &str, keys: &Keys| {
        section.node(key).and_then(|node| Section::open(node, keys, source).map(retention))
    };
    let section = top.node("audit").and_then(|node| Section::open(node, &AUDIT, source));
    let retention = section.and_then(|section| part(&section, "retention", &RETENTION));
    AuditSettings { retention: retention.unwrap_or_default() }
}

fn retention(section: Section<'_>) -> Retention {
    Retention { age: section.parse("age", age).value(), size: section.parse("size", size).value() }
}

fn age(text: &str) -> Result<Duration, String> {
    const HOUR: Duration = Duration::from_hours(1);
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let age = match days {
        Some(days) => Some(Duration::from_hours(24).saturating_mul(days)),
        None => go_duration::parse(text).ok(),
    };
    let allowed = HOUR..=Duration::from_hours(24 * 36_600);
    age.filter(|age| allowed.contains(age)).ok_or_else(|| {
        format!("{text:?} is not a duration from 1h to 100 years, such as 90d or 36h")
    })
}

fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 3] = [("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let size = UNITS.into_iter().find_map(|(unit, bytes)| {
        text.strip_suffix(unit)?.trim_end().parse::<u64>().ok()?.checked_mul(bytes)
    });
    size.filter(|size| *size > 0)
        .ok_or_else(|| format!("{text:?} is not a size from 1MiB, such as 512MiB or 10GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_units() {
        assert_eq!(age("90d"), Ok(Duration::from_hours(90 * 24)));
        assert_eq!(age("36h"), Ok(Duration::from_hours(36)));
        for wrong in ["", "90", "d", "-1d", "0d", "59m", "36601d", "4294967296d", "1 d"] {
            age(wrong).unwrap_err();
        }
        assert_eq!((size("1MiB"), size("10 GiB")), (Ok(1 << 20), Ok(10 << 30)));
        for wrong in ["", "1", "0MiB", "1MB", "1kiB", "-1GiB", "1.5GiB", "16777216TiB"] {
            size(wrong).unwrap_err();
        }
    }
}
