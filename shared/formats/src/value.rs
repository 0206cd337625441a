//! Text as values: what a cell is, and its value if it is of the kind its column has.
//!
//! Everything here is strict where leniency would lose something, and says `None` instead. Blanks around a number, a
//! truth value or a time are no part of it; in a column of text they are kept.

use crate::Kind;

/// Whole numbers up to this are exactly a float: 2^53.
const EXACT_IN_FLOAT: u64 = 1 << 53;

pub(crate) fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// A whole number as numbers are written.
#[inline]
pub(crate) fn int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Up to 18 digits can't overflow.
    if digits.len() > 18 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let mut value = 0i64;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

/// A number that a float can hold: one with a point or an exponent, or a whole number that is exactly a float.
#[inline]
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    short_float(text).or_else(|| any_float(text))
}

/// Digits, a point and digits, few enough that both the digits and the power of ten are exactly floats: then their
/// quotient is the float nearest to what was written (Clinger, "How to Read Floating Point Numbers Accurately").
#[inline]
fn short_float(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // 15 digits and a point; a superfluous leading zero is the careful reader's to refuse.
    if unsigned.len() > 16 || matches!(unsigned, [b'0', b'0'..=b'9', ..]) {
        return None;
    }
    let (mut mantissa, mut point) = (0u64, None);
    for (index, byte) in unsigned.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa * 10 + u64::from(digit);
        } else if *byte == b'.' && point.is_none() && index > 0 {
            point = Some(index);
        } else {
            return None;
        }
    }
    let decimals = unsigned.len().checked_sub(point? + 1).filter(|decimals| *decimals > 0)?;
    let value = mantissa as f64 / POWERS.get(decimals)?;
    Some(if negative { -value } else { value })
}

fn any_float(text: &[u8]) -> Option<f64> {
    match shape(text)? {
        Shape::Whole => {
            let value = int(text)?;
            (value.unsigned_abs() <= EXACT_IN_FLOAT).then_some(value as f64)
        }
        Shape::NegativeZero => Some(-0.0),
        Shape::Fraction => fast_float2::parse::<f64, _>(text).ok().filter(|value| value.is_finite()),
    }
}

enum Shape {
    Whole,
    NegativeZero,
    Fraction,
}

/// `-? digits? (. digits)? ([eE] [+-]? digits)?`, without superfluous leading zeros.
fn shape(text: &[u8]) -> Option<Shape> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(unsigned);
    let mut rest = unsigned.get(whole..)?;
    let leading_zero = whole > 1 && unsigned.first() == Some(&b'0');
    if leading_zero {
        return None;
    }
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix(b".") {
        fraction = digits(after);
        rest = after.get(fraction..)?;
        if fraction == 0 {
            return None;
        }
    }
    if whole + fraction == 0 {
        return None;
    }
    if let Some(after) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let after = after.strip_prefix(b"-").or_else(|| after.strip_prefix(b"+")).unwrap_or(after);
        let exponent = digits(after);
        return (exponent > 0 && exponent == after.len()).then_some(Shape::Fraction);
    }
    if !rest.is_empty() {
        return None;
    }
    Some(match (fraction, text) {
        (0, b"-0") => Shape::NegativeZero,
        (0, _) => Shape::Whole,
        _ => Shape::Fraction,
    })
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[inline]
pub(crate) fn boolean(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// Two digits as a number.
fn two(text: &[u8], at: usize) -> Option<i64> {
    match text.get(at..at + 2)? {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    }
}

/// `2024-02-29` as days since 1970-01-01, in the proleptic Gregorian calendar.
#[inline]
pub(crate) fn date(text: &[u8]) -> Option<i32> {
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
pub(crate) fn stamp(text: &[u8]) -> Option<(i64, bool)> {
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
            let count = digits(fraction);
            // A seventh digit would be lost, unless it is a zero.
            if count == 0 || fraction.get(6..count).is_some_and(|lost| lost.iter().any(|digit| *digit != b'0')) {
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

/// What a cell of delimited text is, looked at by itself.
pub(crate) fn kind_of_cell(cell: &[u8]) -> Kind {
    let text = trim(cell);
    match text.first() {
        None => return if cell.is_empty() { Kind::Null } else { Kind::Text },
        Some(b'0'..=b'9' | b'-' | b'.') => {}
        Some(b't' | b'T' | b'f' | b'F') => return if boolean(text).is_some() { Kind::Bool } else { Kind::Text },
        Some(_) => return Kind::Text,
    }
    kind_of_number(text).unwrap_or_else(|| kind_of_time(text))
}

/// Which number, if it is one that can be held exactly enough.
pub(crate) fn kind_of_number(text: &[u8]) -> Option<Kind> {
    match int(text) {
        Some(value) if value.unsigned_abs() > EXACT_IN_FLOAT => Some(Kind::BigInt),
        Some(_) => Some(Kind::Int),
        None => float(text).map(|_| Kind::Float),
    }
}

/// Whether text is a point in time.
pub(crate) fn kind_of_time(text: &[u8]) -> Kind {
    if date(text).is_some() {
        return Kind::Date;
    }
    match stamp(text) {
        Some((_, true)) => Kind::StampUtc,
        Some((_, false)) => Kind::Stamp,
        None => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_numbers_only_when_nothing_is_lost() {
        for (text, kind) in [
            ("0", Kind::Int),
            ("-7", Kind::Int),
            ("9223372036854775807", Kind::BigInt),
            ("-9223372036854775808", Kind::BigInt),
            ("9223372036854775808", Kind::Text),
            ("007", Kind::Text),
            ("+7", Kind::Text),
            ("-0", Kind::Float),
            ("1.5", Kind::Float),
            (".5", Kind::Float),
            ("1e3", Kind::Float),
            ("1e309", Kind::Text),
            ("1.", Kind::Text),
            ("00.5", Kind::Text),
            ("NaN", Kind::Text),
            ("inf", Kind::Text),
            ("1_000", Kind::Text),
            ("0x10", Kind::Text),
            ("-", Kind::Text),
            (" 7 ", Kind::Int),
            ("", Kind::Null),
            (" ", Kind::Text),
            ("TRUE", Kind::Bool),
            ("t", Kind::Text),
            ("1-2", Kind::Text),
        ] {
            assert_eq!(kind_of_cell(text.as_bytes()), kind, "{text:?}");
        }
    }

    #[test]
    fn a_float_column_takes_whole_numbers_only_where_exact() {
        assert_eq!(float(b"9007199254740992"), Some(9_007_199_254_740_992.0));
        assert_eq!(float(b"9007199254740993"), None);
        assert!(float(b"-0").unwrap().is_sign_negative());
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

    proptest! {
        #[test]
        fn every_int_round_trips(value in any::<i64>()) {
            prop_assert_eq!(int(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn floats_agree_with_the_standard_library(text in "-?[0-9]{0,4}(\\.[0-9]{0,6})?([eE][-+]?[0-9]{1,2})?") {
            if let Some(value) = float(text.as_bytes()) {
                prop_assert_eq!(value, text.parse::<f64>().unwrap());
            }
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let kind = kind_of_cell(&bytes);
            prop_assert_eq!(matches!(kind, Kind::Int | Kind::BigInt), int(trim(&bytes)).is_some());
        }

        #[test]
        fn days_follow_each_other(day in 0..3_652_058i32) {
            // By the calendar: the text of the next day is one day later.
            let civil = |days: i32| {
                let z = i64::from(days) + 719_468 - 719_162;
                let era = z.div_euclid(146_097);
                let doe = z.rem_euclid(146_097);
                let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
                let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
                let mp = (5 * doy + 2) / 153;
                let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
                format!("{:04}-{m:02}-{d:02}", yoe + era * 400 + i64::from(m <= 2))
            };
            prop_assert_eq!(date(civil(day).as_bytes()), Some(day - 719_162));
        }
    }

    proptest! {
        #[test]
        fn a_short_float_is_what_the_careful_reader_says(text in "-?[0-9]{0,9}\\.?[0-9]{0,9}") {
            if let Some(short) = short_float(text.as_bytes()) {
                prop_assert_eq!(Some(short.to_bits()), any_float(text.as_bytes()).map(f64::to_bits), "{}", text);
            }
        }
    }
}
