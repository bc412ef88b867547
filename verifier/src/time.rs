//! Time as X.509 writes it. RFC 5280 §4.1.2.5.

use std::fmt;

use crate::der::{Element, Reader, Result, tag};

/// Seconds since 1970-01-01T00:00:00Z. Time is always a parameter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    /// A time from its seconds.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Its seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// UTCTime or GeneralizedTime, with seconds and in UTC.
    pub(crate) fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self> {
        let element = reader.any(what)?;
        Self::parse(&element).ok_or_else(|| element.error(what, "is not a time in UTC"))
    }

    fn parse(element: &Element<'_>) -> Option<Self> {
        let (year, rest) = match element.tag {
            tag::UTC_TIME => {
                let (digits, rest) = element.content.split_at_checked(2)?;
                let year = decimal(digits)?;
                (year.checked_add(if year < 50 { 2000 } else { 1900 })?, rest)
            }
            tag::GENERALIZED_TIME => {
                let (digits, rest) = element.content.split_at_checked(4)?;
                (decimal(digits)?, rest)
            }
            _ => return None,
        };
        let (digits, b"Z") = rest.split_at_checked(10)? else { return None };
        let (pairs, []) = digits.as_chunks::<2>() else { return None };
        let &[month, day, hour, minute, second] = pairs else { return None };
        let [month, day] = [decimal(&month)?, decimal(&day)?];
        let [hour, minute, second] = [decimal(&hour)?, decimal(&minute)?, decimal(&second)?];
        if hour > 23 || minute > 59 || second > 59 || day < 1 || day > days_in(year, month)? {
            return None;
        }
        let days = days_since_1970(year, month, day)?;
        let hours = days.checked_mul(24)?.checked_add(hour)?;
        let minutes = hours.checked_mul(60)?.checked_add(minute)?;
        minutes.checked_mul(60)?.checked_add(second).map(Self)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(86_400);
        let seconds = self.0.rem_euclid(86_400);
        match date(days) {
            Some((year, month, day)) => {
                let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
            }
            None => write!(f, "{} s", self.0),
        }
    }
}

fn decimal(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |n, b| {
        let digit = b.is_ascii_digit().then(|| b & 0x0f)?;
        n.checked_mul(10)?.checked_add(i64::from(digit))
    })
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days of the proleptic Gregorian calendar, years counted from March so that the leap day is last.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let shifted = month.checked_add(9)? % 12;
    let year = year.checked_sub(shifted / 10)?;
    let in_year = shifted.checked_mul(153)?.checked_add(2)? / 5;
    year.checked_mul(365)?
        .checked_add(year / 4)?
        .checked_sub(year / 100)?
        .checked_add(year / 400)?
        .checked_add(in_year)?
        .checked_add(day)?
        .checked_sub(719_469)
}

/// The inverse, by correcting a first guess; from the year 1 to 9999.
fn date(days: i64) -> Option<(i64, i64, i64)> {
    let guess = days.checked_mul(400)? / 146_097;
    let guess = guess.checked_add(1970)?;
    let first = |year| days_since_1970(year, 1, 1);
    let year = [guess.checked_add(1)?, guess, guess.checked_sub(1)?]
        .into_iter()
        .find(|&year| first(year).is_some_and(|start| start <= days))?;
    if !(1..=9999).contains(&year) {
        return None;
    }
    let month = (1..=12).rev().find(|&m| days_since_1970(year, m, 1).is_some_and(|d| d <= days))?;
    let day = days.checked_sub(days_since_1970(year, month, 1)?)?.checked_add(1)?;
    Some((year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tag: u8, text: &str) -> Option<i64> {
        let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
        der.extend(text.as_bytes());
        UnixTime::read(&mut Reader::new(&der), "t").ok().map(UnixTime::seconds)
    }

    #[test]
    fn both_forms() {
        assert_eq!(read(tag::UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read(tag::UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(read(tag::UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(read(tag::GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        assert_eq!(read(tag::GENERALIZED_TIME, "20240229120000Z"), Some(1_709_208_000));
        assert_eq!(read(tag::GENERALIZED_TIME, "20000301000000Z"), Some(951_868_800));
    }

    #[test]
    fn refused() {
        for (tag, text) in [
            (tag::UTC_TIME, "7001010000Z"),
            (tag::UTC_TIME, "700101000000+0000"),
            (tag::UTC_TIME, "700101000000"),
            (tag::UTC_TIME, "700230000000Z"),
            (tag::UTC_TIME, "701301000000Z"),
            (tag::UTC_TIME, "700001000000Z"),
            (tag::UTC_TIME, "700100000000Z"),
            (tag::UTC_TIME, "700101240000Z"),
            (tag::UTC_TIME, "700101000060Z"),
            (tag::UTC_TIME, "70010100 000Z"),
            (tag::UTC_TIME, "-70101000000Z"),
            (tag::GENERALIZED_TIME, "19000229000000Z"),
            (tag::GENERALIZED_TIME, "20000101000000.5Z"),
            (tag::GENERALIZED_TIME, ""),
            (tag::OCTET_STRING, "700101000000Z"),
        ] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    #[test]
    fn text_is_the_inverse() {
        for seconds in [0, -1, 86_399, 951_782_400, 1_709_208_000, 4_102_444_799, 253_402_300_799] {
            let text = UnixTime::from_seconds(seconds).to_string();
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            assert_eq!(read(tag::GENERALIZED_TIME, &format!("{digits}Z")), Some(seconds), "{text}");
        }
        assert_eq!(UnixTime::from_seconds(253_402_300_799).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(UnixTime::from_seconds(i64::MAX).to_string(), "9223372036854775807 s");
    }
}
