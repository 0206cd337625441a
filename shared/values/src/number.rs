//! Numbers and truth values.

/// Whole numbers up to this are exactly a float: 2^53.
pub const EXACT_IN_FLOAT: u64 = 1 << 53;

/// Without the blanks around it.
pub fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// A whole number as numbers are written.
#[inline]
pub fn int(text: &[u8]) -> Option<i64> {
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
pub fn float(text: &[u8]) -> Option<f64> {
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

/// `true` or `false`, in capitals or not.
#[inline]
pub fn boolean(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// The float nearest to a number as JSON writes it, whole ones of any length among them. `None` for what is none, and for
/// what is too large to be finite.
pub fn nearest_float(text: &[u8]) -> Option<f64> {
    float(text).or_else(|| {
        shape(text)?;
        fast_float2::parse::<f64, _>(text).ok().filter(|value| value.is_finite())
    })
}

/// A number times ten to the power of `scale`, if that is whole: nothing is rounded. At most 18 digits.
pub fn decimal(text: &[u8], scale: u32) -> Option<i64> {
    shape(text)?;
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (number, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        None => (unsigned, 0i64),
        Some(at) => {
            let digits = unsigned.get(at + 1..)?;
            let digits = digits.strip_prefix(b"+").unwrap_or(digits);
            (unsigned.get(..at)?, std::str::from_utf8(digits).ok()?.parse::<i16>().ok()?.into())
        }
    };
    let point = number.iter().position(|byte| *byte == b'.');
    let decimals = point.map_or(0, |at| number.len() - at - 1);
    let mut value = 0i64;
    for byte in number.iter().filter(|byte| **byte != b'.') {
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
    }
    let mut shift = i64::from(scale) + exponent - i64::try_from(decimals).ok()?;
    while shift > 0 && value != 0 {
        value = value.checked_mul(10)?;
        shift -= 1;
    }
    while shift < 0 && value != 0 {
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
        shift += 1;
    }
    (value < 1_000_000_000_000_000_000).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_float_takes_whole_numbers_only_where_exact() {
        assert_eq!(float(b"9007199254740992"), Some(9_007_199_254_740_992.0));
        assert_eq!(float(b"9007199254740993"), None);
        assert!(float(b"-0").unwrap().is_sign_negative());
    }

    #[test]
    fn the_nearest_float_takes_any_finite_number() {
        assert_eq!(nearest_float(b"9007199254740993"), Some(9_007_199_254_740_992.0));
        assert_eq!(nearest_float(b"123456789012345678901234567890"), Some(1.234_567_890_123_456_8e29));
        for none in ["1e309", "-1e309", "NaN", "inf", "", "-", "1.", "0x1"] {
            assert_eq!(nearest_float(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn a_decimal_is_exact_or_none() {
        for (text, value) in [
            ("19.99", Some(1999)),
            ("-19.99", Some(-1999)),
            ("19.9", Some(1990)),
            ("19.990", Some(1999)),
            ("19.999", None),
            ("453", Some(45_300)),
            ("453.0", Some(45_300)),
            ("1.5e2", Some(15_000)),
            ("15e-1", Some(150)),
            ("1e-3", None),
            ("0e999", Some(0)),
            ("0", Some(0)),
            ("-0", Some(0)),
            ("9999999999999999.99", Some(999_999_999_999_999_999)),
            ("10000000000000000", None),
            ("1e30000", None),
            ("", None),
            ("1,5", None),
        ] {
            assert_eq!(decimal(text.as_bytes(), 2), value, "{text}");
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
        fn a_short_float_is_what_the_careful_reader_says(text in "-?[0-9]{0,9}\\.?[0-9]{0,9}") {
            if let Some(short) = short_float(text.as_bytes()) {
                prop_assert_eq!(Some(short.to_bits()), any_float(text.as_bytes()).map(f64::to_bits), "{}", text);
            }
        }

        #[test]
        fn cents_are_cents(cents in -99_999_999i64..99_999_999) {
            let text = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
            prop_assert_eq!(decimal(text.as_bytes(), 2), Some(cents));
        }
    }
}
