//! Points in time and calendar dates, both in UTC.

use std::fmt;

use jiff::civil;
use serde::{Deserialize, Serialize};

/// A point in time in microseconds since 1970-01-01T00:00:00Z, between the years 1 and 9999. Finer fractions are cut off:
/// PostgreSQL and most systems keep no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A calendar date in UTC, in days since 1970-01-01, between the years 1 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Date(i32);

const MICROS_A_SECOND: i64 = 1_000_000;
const MICROS_A_DAY: i64 = 86_400 * MICROS_A_SECOND;
/// 0001-01-01T00:00:00Z.
const MIN_MICROS: i64 = -62_135_596_800 * MICROS_A_SECOND;
/// The last microsecond of the year 9999.
const MAX_MICROS: i64 = 253_402_300_800 * MICROS_A_SECOND - 1;

impl Timestamp {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// From seconds and nanoseconds as in `google.protobuf.Timestamp`; `None` outside the range.
    #[must_use]
    pub fn from_seconds_nanos(seconds: i64, nanos: i32) -> Option<Self> {
        if !(0..1_000_000_000).contains(&nanos) {
            return None;
        }
        let micros = seconds
            .checked_mul(MICROS_A_SECOND)?
            .checked_add(i64::from(nanos / 1000))?;
        Self::from_micros(micros)
    }

    /// From microseconds since the epoch; `None` outside the range.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        (MIN_MICROS..=MAX_MICROS).contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Seconds and nanoseconds as in `google.protobuf.Timestamp`.
    #[must_use]
    pub fn to_seconds_nanos(self) -> (i64, i32) {
        let nanos = self.0.rem_euclid(MICROS_A_SECOND) * 1000;
        (self.0.div_euclid(MICROS_A_SECOND), i32::try_from(nanos).unwrap_or(0))
    }

    /// The UTC date it falls on.
    #[must_use]
    pub fn date(self) -> Date {
        Date(i32::try_from(self.0.div_euclid(MICROS_A_DAY)).unwrap_or(i32::MAX))
    }

    /// So many hours earlier, at least the beginning of the range.
    #[must_use]
    pub fn minus_hours(self, hours: i64) -> Self {
        let micros = hours.saturating_mul(3600 * MICROS_A_SECOND);
        Self(self.0.saturating_sub(micros).clamp(MIN_MICROS, MAX_MICROS))
    }

    /// So much later, at most the end of the range.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros).clamp(MIN_MICROS, MAX_MICROS))
    }

    /// So much earlier, at least the beginning of the range.
    #[must_use]
    pub fn minus(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros).clamp(MIN_MICROS, MAX_MICROS))
    }

    /// So many days later, at most the end of the range.
    #[must_use]
    pub fn plus_days(self, days: i64) -> Self {
        Self(
            self.0
                .saturating_add(days.saturating_mul(MICROS_A_DAY))
                .clamp(MIN_MICROS, MAX_MICROS),
        )
    }
}

impl Date {
    /// Today in UTC.
    #[must_use]
    pub fn today() -> Self {
        Timestamp::now().date()
    }

    /// Reads `YYYY-MM-DD`, ISO 8601's extended calendar date with exactly ten characters.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "must be a calendar date as YYYY-MM-DD";
        let date = (text.len() == 10)
            .then(|| civil::Date::strptime("%Y-%m-%d", text).ok())
            .flatten()
            .ok_or(EXPECTED)?;
        if date.year() < 1 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            return Err(EXPECTED);
        }
        let days = date.duration_since(civil::date(1970, 1, 1)).as_hours().div_euclid(24);
        i32::try_from(days).map(Self).map_err(|_| EXPECTED)
    }

    /// From days since 1970-01-01, as stored.
    #[must_use]
    pub fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    #[must_use]
    pub fn as_days(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = civil::date(1970, 1, 1);
        match epoch.checked_add(jiff::SignedDuration::from_hours(24 * i64::from(self.0))) {
            Ok(date) => write!(formatter, "{date}"),
            // Unreachable through `parse` and `Timestamp::date`, which keep to the years 1 to 9999.
            Err(_) => write!(formatter, "{} days", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_round_trip() {
        for text in ["1970-01-01", "2026-10-31", "2024-02-29", "0001-01-01", "9999-12-31"] {
            assert_eq!(Date::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Date::parse("1970-01-02").unwrap().as_days(), 1);
        assert_eq!(Date::parse("1969-12-31").unwrap().as_days(), -1);
    }

    #[test]
    fn malformed_dates_are_refused() {
        for text in [
            "",
            "2026-1-01",
            "2026-13-01",
            "2026-02-30",
            "2026-01-01T00:00:00Z",
            "01-01-2026",
            "+026-01-01",
            "0000-01-01",
            "２０２６-01-01",
        ] {
            assert!(Date::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timestamps_cut_to_microseconds_and_round_trip() {
        let timestamp = Timestamp::from_seconds_nanos(-1, 999_999_999).unwrap();
        assert_eq!(timestamp.as_micros(), -1);
        assert_eq!(timestamp.to_seconds_nanos(), (-1, 999_999_000));
        assert_eq!(timestamp.date(), Date::parse("1969-12-31").unwrap());
        assert!(Timestamp::from_seconds_nanos(0, -1).is_none());
        assert!(Timestamp::from_seconds_nanos(i64::MAX, 0).is_none());
    }
}
