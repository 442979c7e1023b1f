//! File status in the form `ls -l` shows it.

use core::fmt;

/// A mode as ten characters.
pub fn mode_text(mode: u32) -> [u8; 10] {
    let kind = match mode & 0o170000 {
        0o040000 => b'd',
        0o120000 => b'l',
        0o020000 => b'c',
        0o060000 => b'b',
        0o010000 => b'p',
        0o100000 => b'-',
        _ => b'?',
    };
    let mut text = [b'-'; 10];
    for (index, place) in text.iter_mut().skip(1).enumerate() {
        // rwx for owner, group, others: bits 8 down to 0.
        if mode & (0o400 >> index) != 0 {
            *place = match index % 3 {
                0 => b'r',
                1 => b'w',
                _ => b'x',
            };
        }
    }
    if let Some(first) = text.first_mut() {
        *first = kind;
    }
    text
}

/// A moment, shown as date and time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(
    /// Seconds since 1970.
    pub u64,
);

impl Moment {
    /// Year, month, day in the Gregorian calendar. Counted in eras of 400 years from a first of March, so that the leap
    /// day is the last of its year (H. Hinnant, chrono-compatible low-level date algorithms).
    fn date(self) -> (u64, u64, u64) {
        let days = self.0 / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        (era * 400 + year_of_era + u64::from(month <= 2), month, day)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let (hour, minute) = (self.0 / 3_600 % 24, self.0 / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn modes() {
        for (mode, text) in [
            (0o100644, "-rw-r--r--"),
            (0o040755, "drwxr-xr-x"),
            (0o120777, "lrwxrwxrwx"),
            (0o020620, "crw--w----"),
            (0, "?---------"),
        ] {
            assert_eq!(core::str::from_utf8(&mode_text(mode)), Ok(text));
        }
    }

    #[test]
    fn moments() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_709_251_199, "2024-02-29 23:59"),
            (1_735_689_599, "2024-12-31 23:59"),
            (4_102_444_800, "2100-01-01 00:00"),
            (u64::from(u32::MAX), "2106-02-07 06:28"),
        ] {
            assert_eq!(Moment(seconds).to_string(), text);
        }
        // Nothing overflows.
        Moment(u64::MAX).date();
    }
}
