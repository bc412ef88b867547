//! Durations as Go programs write them: `1h30m`, `20m`, `1h0m0s`, `1.5h`.

use std::fmt;
use std::time::Duration;

/// Nanoseconds of each unit, longest first.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("s", 1_000_000_000),
];

/// Reads a duration that is longer than nothing.
///
/// # Errors
/// See [`InvalidDuration`].
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    if text.starts_with('-') {
        return Err(InvalidDuration::NotPositive);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Err(InvalidDuration::NotPositive);
    }
    if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidDuration::NoUnit(text.to_owned()));
    }
    let mut nanoseconds: u64 = 0;
    while let Some((part, left)) = component(rest)? {
        nanoseconds = nanoseconds.checked_add(part).ok_or(InvalidDuration::TooLong)?;
        rest = left;
    }
    match nanoseconds {
        _ if text.is_empty() || text == "+" => Err(InvalidDuration::Form),
        0 => Err(InvalidDuration::NotPositive),
        // The longest that Go has, 292 years.
        n if n > i64::MAX.unsigned_abs() => Err(InvalidDuration::TooLong),
        n => Ok(Duration::from_nanos(n)),
    }
}

/// One number and its unit, in nanoseconds, and what follows them.
fn component(text: &str) -> Result<Option<(u64, &str)>, InvalidDuration> {
    if text.is_empty() {
        return Ok(None);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(InvalidDuration::Form)?;
    let (number, rest) = text.split_at(end);
    let (unit, nanoseconds) =
        UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or(InvalidDuration::Form)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(InvalidDuration::Form);
    }
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| InvalidDuration::TooLong)?,
    };
    let (part, _) = fraction.bytes().fold((0_u64, nanoseconds), |(sum, scale), digit| {
        let scale = scale / 10;
        (sum.saturating_add(u64::from(digit.saturating_sub(b'0')).saturating_mul(scale)), scale)
    });
    let total = whole.checked_mul(nanoseconds).and_then(|n| n.checked_add(part));
    let rest = rest.strip_prefix(unit).unwrap_or_default();
    Ok(Some((total.ok_or(InvalidDuration::TooLong)?, rest)))
}

/// A duration as text that [`parse`] reads: `1h30m`.
#[must_use]
pub fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
        (u64::from(duration.subsec_micros() % 1_000), "us"),
        (u64::from(duration.subsec_nanos() % 1_000), "ns"),
    ];
    let text: String = parts
        .into_iter()
        .filter(|(number, _)| *number != 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Why a text is not a duration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidDuration {
    /// It is not a sequence of numbers and units.
    Form,
    /// It is a number alone.
    NoUnit(String),
    /// It is nothing, or less.
    NotPositive,
    /// It is longer than 292 years.
    TooLong,
}

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("a duration is written as in `1h30m`, `20m` or `90s`"),
            Self::NoUnit(number) => {
                write!(f, "the unit is missing: `{number}s` for seconds, `{number}m` for minutes")
            }
            Self::NotPositive => f.write_str("a duration must be positive"),
            Self::TooLong => f.write_str("a duration can be at most 292 years"),
        }
    }
}

impl std::error::Error for InvalidDuration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_written_by_go_are_read() {
        for (text, nanoseconds) in [
            ("1h30m", 5_400_000_000_000),
            ("1h0m0s", 3_600_000_000_000),
            ("20m", 1_200_000_000_000),
            ("+90s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1ms2us3ns", 1_002_003),
            ("4µs", 4_000),
            ("4μs", 4_000),
            ("0.0000000000001h1ns", 1),
            ("2562047h47m16.854775807s", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_refused_by_kind() {
        use InvalidDuration::*;
        for text in ["", "+", "h", "1", "1x", "1h ", " 1h", "1h30", "1..5h", ".h", "1h-3m", "一h"]
        {
            let expected = if text == "1" { NoUnit("1".into()) } else { Form };
            assert_eq!(parse(text), Err(expected), "{text:?}");
        }
        for text in ["0", "0s", "-1h", "-0", "0.0000000000001h"] {
            assert_eq!(parse(text), Err(NotPositive), "{text:?}");
        }
        for text in ["2562047h47m16.854775808s", "99999999999999999999h", "5124095h5124095h"] {
            assert_eq!(parse(text), Err(TooLong), "{text:?}");
        }
    }

    #[test]
    fn durations_round_trip() {
        for nanoseconds in [1, 999, 1_000, 1_000_001, 60_000_000_000, 5_400_000_000_000] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse(&text(duration)), Ok(duration));
        }
        assert_eq!(text(Duration::from_secs(5_400)), "1h30m");
    }
}
