//! Dates of the Gregorian calendar, in UTC, from 1970 to 9999.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_SECONDS: u64 = 86_400;

/// Days from 1970-01-01 to a date; `year` at least 1970, `month` from 1, `day` from 1.
pub fn days_before(year: u64, month: u64, day: u64) -> u64 {
    let whole_years: u64 = (1970..year).map(year_days).sum();
    let whole_months: u64 = (1..month).map(|month| month_days(year, month)).sum();
    whole_years + whole_months + day.saturating_sub(1)
}

/// Year, month and day of the date that lies `days` after 1970-01-01.
pub fn date_of(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= year_days(year) && year < 9999 {
        days -= year_days(year);
        year += 1;
    }
    let mut month = 1;
    while days >= month_days(year, month) && month < 12 {
        days -= month_days(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn year_days(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// An instant, in nanoseconds since 1970. Shown as in RFC 3339, with as many decimals as it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixNanos(pub u64);

impl From<SystemTime> for UnixNanos {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for UnixNanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (year, month, day) = date_of(seconds / DAY_SECONDS);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if nanos > 0 {
            let decimals = format!("{nanos:09}");
            write!(f, ".{}", decimals.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_are_each_others_inverse() {
        let check = |days, date: (u64, u64, u64)| {
            assert_eq!(date_of(days), date);
            assert_eq!(days_before(date.0, date.1, date.2), days);
        };
        check(0, (1970, 1, 1));
        check(11_016, (2000, 2, 29));
        check(20_455, (2026, 1, 2));
        check(47_540, (2100, 2, 28));
        check(47_541, (2100, 3, 1));
        check(213_503, (2554, 7, 21));
    }

    #[test]
    fn instants_read_as_in_rfc_3339() {
        let check = |nanos, expected: &str| assert_eq!(UnixNanos(nanos).to_string(), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(1_767_366_245_000_000_000, "2026-01-02T15:04:05Z");
        check(1_767_366_245_120_000_000, "2026-01-02T15:04:05.12Z");
        check(u64::MAX, "2554-07-21T23:34:33.709551615Z");
    }
}
