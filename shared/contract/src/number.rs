//! Cells as numbers and truth values.

use weir_values as values;

use crate::cell::Cell;

pub(crate) fn truth(cell: Cell<'_>) -> Option<bool> {
    match cell {
        Cell::Bool(truth) => Some(truth),
        Cell::Int(1) => Some(true),
        Cell::Int(0) => Some(false),
        Cell::Number(text) | Cell::Text(text) => match text.trim_ascii() {
            "1" => Some(true),
            "0" => Some(false),
            word if ["true", "t", "yes", "y", "on"].iter().any(|yes| word.eq_ignore_ascii_case(yes)) => Some(true),
            word if ["false", "f", "no", "n", "off"].iter().any(|no| word.eq_ignore_ascii_case(no)) => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A float, which the greatest `i64` is not.
const TWO_TO_63: f64 = (1u64 << 63) as f64;

/// A number's text as JSON would write it: without a plus, blanks and leading zeros.
fn plain_number(text: &str) -> (bool, &[u8]) {
    let text = text.trim_ascii().as_bytes();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => return (false, without_zeros(text)),
    };
    (negative, without_zeros(digits))
}

fn without_zeros(mut digits: &[u8]) -> &[u8] {
    while let [b'0', rest @ ..] = digits
        && rest.first().is_some_and(u8::is_ascii_digit)
    {
        digits = rest;
    }
    digits
}

pub(crate) fn whole(cell: Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Int(number) => Some(number),
        Cell::Float(number) if number.fract() == 0.0 && (-TWO_TO_63..TWO_TO_63).contains(&number) => {
            Some(number as i64)
        }
        Cell::Number(text) | Cell::Text(text) => values::int(text.as_bytes()).or_else(|| {
            let (negative, digits) = plain_number(text);
            if digits.first().is_none_or(|first| !first.is_ascii_digit() && *first != b'.') {
                return None;
            }
            let number = match values::int(digits) {
                Some(number) => number,
                // The least i64 has no positive counterpart.
                None if negative && digits == b"9223372036854775808" => return Some(i64::MIN),
                None => values::decimal(digits, 0)?,
            };
            Some(if negative { -number } else { number })
        }),
        _ => None,
    }
}

pub(crate) fn float(cell: Cell<'_>) -> Option<f64> {
    match cell {
        Cell::Float(number) => Some(number).filter(|number| number.is_finite()),
        Cell::Int(number) => Some(number as f64),
        Cell::Number(text) => values::nearest_float(text.as_bytes()),
        Cell::Text(text) => values::nearest_float(text.trim_ascii().as_bytes()).or_else(|| {
            let (negative, digits) = plain_number(text);
            let number = values::nearest_float(digits).filter(|_| digits.first() != Some(&b'-'))?;
            Some(if negative { -number } else { number })
        }),
        _ => None,
    }
}

pub(crate) fn decimal(cell: Cell<'_>, scale: u32) -> Option<i64> {
    match cell {
        Cell::Int(number) => number.checked_mul(10i64.pow(scale)),
        // The shortest text that is this float: 19.99 is 19.99, not 19.989999999999998436…
        Cell::Float(number) if number.is_finite() => {
            values::decimal(zmij::Buffer::new().format(number).as_bytes(), scale)
        }
        Cell::Number(text) | Cell::Text(text) => {
            let (negative, digits) = plain_number(text);
            let number = values::decimal(digits, scale).filter(|_| digits.first() != Some(&b'-'))?;
            Some(if negative { -number } else { number })
        }
        _ => None,
    }
}
