//! The wall clock in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, as `2026-07-01T12:34:56Z`.
pub fn utc_now() -> String {
    let [year, month, day, hour, minute, second] = calendar(unix_seconds());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Now, as `20260701T123456Z`: sorts by age and is safe in file names.
pub fn utc_stamp() -> String {
    utc_now().replace(['-', ':'], "")
}

/// A clock before 1970 counts as 1970: the time is provenance, not arithmetic.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Year, month, day, hour, minute, second of seconds since 1970 (Howard Hinnant's `civil_from_days`: years begin in
/// March, so that the leap day is a year's last).
fn calendar(seconds: u64) -> [u64; 6] {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    [year, month, day, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_knows_leap_days_and_year_ends() {
        assert_eq!(calendar(0), [1970, 1, 1, 0, 0, 0]);
        assert_eq!(calendar(951_782_400), [2000, 2, 29, 0, 0, 0]);
        assert_eq!(calendar(951_868_800), [2000, 3, 1, 0, 0, 0]);
        assert_eq!(calendar(1_767_225_599), [2025, 12, 31, 23, 59, 59]);
        assert_eq!(calendar(1_767_225_600), [2026, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn stamps_are_safe_in_file_names() {
        let stamp = utc_stamp();
        assert_eq!(stamp.len(), "20260701T123456Z".len());
        assert!(stamp.chars().all(|c| c.is_ascii_alphanumeric()), "{stamp}");
    }
}
