//! Points in time as the journal writes them: RFC 3339, UTC, milliseconds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z; written as `2026-03-01T12:00:00.000Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads any RFC 3339 time (section 5.6); what is finer than a millisecond is cut off.
    ///
    /// # Errors
    /// A sentence that says what was found and what is wanted.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(millis) = parse_canonical(text.as_bytes()) {
            return Ok(Self(millis));
        }
        let time = if is_rfc3339(text.as_bytes()) { text.parse::<jiff::Timestamp>().ok() } else { None };
        time.map(|t| Self(t.as_millisecond())).ok_or_else(|| {
            let found: String = text.chars().take(64).collect();
            format!("`{found}` is not an RFC 3339 time such as 2026-03-01T12:00:00Z")
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{time:.3}")
    }
}

/// The shape alone: the parser behind it takes more (a blank for the `T`, no seconds, a zone's name),
/// and what an event says must be readable by everybody.
fn is_rfc3339(text: &[u8]) -> bool {
    fn fits(text: &[u8], form: &[u8]) -> bool {
        text.len() == form.len() && text.iter().zip(form).all(|(c, f)| if *f == b'd' { c.is_ascii_digit() } else { c == f })
    }
    let Some((start, rest)) = text.split_at_checked(19) else { return false };
    let fraction = match rest {
        [b'.', digits @ ..] => 1 + digits.iter().take_while(|c| c.is_ascii_digit()).count(),
        _ => 0,
    };
    let zone = &rest[fraction..];
    fits(&start[..10], b"dddd-dd-dd")
        && matches!(start[10], b'T' | b't')
        && fits(&start[11..], b"dd:dd:dd")
        && fraction != 1
        && (matches!(zone, b"Z" | b"z") || fits(zone, b"+dd:dd") || fits(zone, b"-dd:dd"))
}

/// The fast path for the engine's own form: a replay reads one of these per record.
fn parse_canonical(b: &[u8]) -> Option<i64> {
    // each byte may be so much above its least: 9 for a digit, 0 for a mark; all 24 are compared at once
    const LEAST: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    let b: &[u8; 24] = b.try_into().ok()?;
    let above = |(byte, least): (&u8, &u8)| byte.wrapping_sub(*least) > if *least == b'0' { 9 } else { 0 };
    if b.iter().zip(LEAST).fold(false, |wrong, pair| wrong | above(pair)) {
        return None;
    }
    let number = |from: usize, to: usize| b[from..to].iter().fold(0_i64, |n, d| n * 10 + i64::from(d - b'0'));
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let longest = match month {
        2 => 28, // the 29th needs a calendar: the slow path has one
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=longest).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second) * 1000 + number(20, 23))
}

/// Days since 1970-01-01 of a proleptic Gregorian date (years counted from March, in 400-year eras).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_round_trips_and_agrees_with_the_calendar() {
        for millis in (0..4_000_000_000_000).step_by(86_400_000 + 12_345) {
            let text = Timestamp(millis).to_string();
            assert_eq!(Timestamp::parse(&text), Ok(Timestamp(millis)), "{text}");
        }
    }

    #[test]
    fn offsets_are_understood_and_nonsense_is_not() {
        assert_eq!(Timestamp::parse("1970-01-01T01:00:00+01:00"), Ok(Timestamp(0)));
        assert!(Timestamp::parse("2026-02-31T00:00:00.000Z").is_err());
        assert_eq!(Timestamp::parse("1970-01-01t00:00:00.0019z"), Ok(Timestamp(1)));
        for bad in [
            "yesterday",
            "",
            "1970-01-01",
            "1970-01-01T00:00Z",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00Z[UTC]",
            "+001970-01-01T00:00:00Z",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00.000Zü",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:01Z",
        ] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
    }
}
