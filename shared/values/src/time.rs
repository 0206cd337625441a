//! Dates and points in time, in the proleptic Gregorian calendar from year 1 to 9999.

/// Microseconds in a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Two digits as a number.
fn two(text: &[u8], at: usize) -> Option<i64> {
    match text.get(at..at + 2)? {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    }
}

/// `2024-02-29` as days since 1970-01-01, in the proleptic Gregorian calendar.
#[inline]
pub fn date(text: &[u8]) -> Option<i32> {
    if text.len() == 10 { days(text) } else { None }
}

fn days(text: &[u8]) -> Option<i32> {
    let (year, month, day) = (two(text, 0)? * 100 + two(text, 2)?, two(text, 5)?, two(text, 8)?);
    if text.get(4) != Some(&b'-') || text.get(7) != Some(&b'-') || year == 0 {
        return None;
    }
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Days from civil (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

/// A date and time of day in microseconds since 1970-01-01T00:00, and whether it named a zone (then it is UTC).
/// `T` or a blank between them; up to six digits of a second's fraction; `Z`, `+01:00`, `+0100` or `+01`.
#[inline]
pub fn stamp(text: &[u8]) -> Option<(i64, bool)> {
    stamp_with(text, Precision::Exact)
}

/// What becomes of digits beyond the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// It is no such time, unless they are zeros.
    Exact,
    /// They are cut off.
    Truncated,
}

/// [`stamp`], with a say in what becomes of digits beyond the microsecond.
#[inline]
pub fn stamp_with(text: &[u8], precision: Precision) -> Option<(i64, bool)> {
    if text.len() < 16 || !matches!(text.get(10), Some(b'T' | b' ' | b't')) {
        return None;
    }
    let day = i64::from(days(text)?);
    let (hour, minute) = (two(text, 11)?, two(text, 14)?);
    if text.get(13) != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let mut at = 16;
    let mut second = 0;
    let mut micros = 0;
    if text.get(at) == Some(&b':') {
        second = two(text, at + 1)?;
        if second > 59 {
            return None;
        }
        at += 3;
        if text.get(at) == Some(&b'.') {
            let fraction = text.get(at + 1..)?;
            let count = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let lost = fraction.get(6..count).is_some_and(|lost| lost.iter().any(|digit| *digit != b'0'));
            if count == 0 || lost && precision == Precision::Exact {
                return None;
            }
            for place in 0..6 {
                let digit = fraction.get(place).filter(|_| place < count).map_or(0, |digit| digit - b'0');
                micros = micros * 10 + i64::from(digit);
            }
            at += 1 + count;
        }
    }
    let offset = zone(text.get(at..)?)?;
    let seconds = day * 86_400 + hour * 3600 + minute * 60 + second - offset.unwrap_or(0);
    Some((seconds * 1_000_000 + micros, offset.is_some()))
}

/// An offset in seconds, `Some(None)` for no zone.
fn zone(text: &[u8]) -> Option<Option<i64>> {
    let (sign, hours, minutes) = match text {
        [] => return Some(None),
        b"Z" | b"z" | b" UTC" => return Some(Some(0)),
        [sign @ (b'+' | b'-'), _, _] => (sign, two(text, 1)?, 0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => (sign, two(text, 1)?, two(text, 4)?),
        [sign @ (b'+' | b'-'), _, _, _, _] => (sign, two(text, 1)?, two(text, 3)?),
        _ => return None,
    };
    if hours > 18 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some(Some(if *sign == b'-' { -seconds } else { seconds }))
}

/// The day a moment is in, counted from 1970-01-01, in UTC.
pub fn days_of(micros: i64) -> i32 {
    // i64::MAX microseconds are 106,751,991 days.
    micros.div_euclid(MICROS_PER_DAY) as i32
}

/// The two digits of a number below 100.
fn digits(value: u32) -> [u8; 2] {
    [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]
}

/// Appends `2024-02-29`, for days since 1970-01-01. A year of more than four digits is written as it is.
pub fn write_date(out: &mut Vec<u8>, days: i32) {
    let (year, month, day) = civil(days);
    let (month, day) = (digits(month), digits(day));
    match u32::try_from(year) {
        Ok(year @ 0..=9999) => {
            let (century, year) = (digits(year / 100), digits(year % 100));
            let date = [century, year, [b'-', month[0]], [month[1], b'-'], day];
            out.extend_from_slice(date.as_flattened());
        }
        _ => {
            out.extend_from_slice(itoa::Buffer::new().format(year).as_bytes());
            out.extend_from_slice(&[b'-', month[0], month[1], b'-', day[0], day[1]]);
        }
    }
}

/// Year, month and day of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i32) -> (i64, u32, u32) {
    let shifted = i64::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    // Below 146,097: small numbers are divided faster.
    let day_of_era = shifted.rem_euclid(146_097) as u32;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (i64::from(year_of_era) + era * 400 + i64::from(month <= 2), month, day)
}

/// Appends `2024-02-29T12:34:56Z`, with the fraction's digits up to the last that isn't zero: RFC 3339, which both
/// Athena's and Firehose's OpenX reader take.
pub fn write_stamp(out: &mut Vec<u8>, micros: i64) {
    write_date(out, days_of(micros));
    write_time(out, micros);
}

/// Appends what [`write_stamp`] writes behind the date.
pub fn write_time(out: &mut Vec<u8>, micros: i64) {
    let of_day = micros.rem_euclid(MICROS_PER_DAY);
    let (seconds, mut fraction) = ((of_day / 1_000_000) as u32, (of_day % 1_000_000) as u32);
    let (hours, minutes, seconds) = (digits(seconds / 3600), digits(seconds / 60 % 60), digits(seconds % 60));
    let time = [[b'T', hours[0]], [hours[1], b':'], minutes, [b':', seconds[0]]];
    out.extend_from_slice(time.as_flattened());
    if fraction == 0 {
        return out.extend_from_slice(&[seconds[1], b'Z']);
    }
    out.extend_from_slice(&[seconds[1], b'.']);
    let mut place = 100_000;
    while fraction > 0 {
        out.push(b'0' + (fraction / place) as u8);
        fraction %= place;
        place /= 10;
    }
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dated(days: i32) -> String {
        let mut out = Vec::new();
        write_date(&mut out, days);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times() {
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"2000-02-29"), Some(11_016));
        assert_eq!(date(b"0001-01-01"), Some(-719_162));
        assert_eq!(date(b"9999-12-31"), Some(2_932_896));
        for wrong in [
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-32",
            "0000-01-01",
            "2024/01/01",
            "24-01-01",
        ] {
            assert_eq!(date(wrong.as_bytes()), None, "{wrong}");
        }
        let at = 1_709_164_799_000_000;
        assert_eq!(stamp(b"2024-02-28 23:59:59"), Some((at, false)));
        assert_eq!(stamp(b"2024-02-28T23:59:59.123456Z"), Some((at + 123_456, true)));
        assert_eq!(stamp(b"2024-02-28T23:59:59.1"), Some((at + 100_000, false)));
        assert_eq!(stamp(b"2024-02-28T23:59:59.123456000Z"), Some((at + 123_456, true)));
        assert_eq!(stamp(b"2024-02-28T23:59:59.123456001Z"), None, "nanoseconds would be lost");
        assert_eq!(stamp(b"2024-02-29T01:59:59+02:00"), Some((at, true)));
        assert_eq!(stamp(b"2024-02-28T18:29:59-0530"), Some((at, true)));
        assert_eq!(stamp(b"2024-02-28T23:59"), Some((at - 59_000_000, false)));
        for wrong in [
            "2024-02-28T24:00:00",
            "2024-02-28T23:60:00",
            "2024-02-28T23:59:60",
            "2024-02-28T23:59:59+",
            "2024-02-28T23:59:59.",
        ] {
            assert_eq!(stamp(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn digits_beyond_the_microsecond_are_refused_or_cut() {
        let text = b"2024-02-28T23:59:59.123456999Z";
        assert_eq!(stamp_with(text, Precision::Exact), None);
        assert_eq!(stamp_with(text, Precision::Truncated), Some((1_709_164_799_123_456, true)));
    }

    #[test]
    fn moments_are_written_as_short_as_they_are() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_709_164_799_100_000, "2024-02-28T23:59:59.1Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00Z"),
        ] {
            let mut out = Vec::new();
            write_stamp(&mut out, micros);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn dates_round_trip(days in -719_162..2_932_897i32) {
            prop_assert_eq!(date(dated(days).as_bytes()), Some(days));
        }

        #[test]
        fn dates_of_any_size_are_written(days in any::<i32>()) {
            prop_assert!(dated(days).len() >= 10);
        }

        #[test]
        fn moments_round_trip(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let mut out = Vec::new();
            write_stamp(&mut out, micros);
            prop_assert_eq!(stamp(&out), Some((micros, true)));
        }
    }
}
