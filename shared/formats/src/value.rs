//! What kind of value text is.

pub(crate) use weir_values::{EXACT_IN_FLOAT, boolean, date, float, int, stamp, trim};

use crate::Kind;

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

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let kind = kind_of_cell(&bytes);
            prop_assert_eq!(matches!(kind, Kind::Int | Kind::BigInt), int(trim(&bytes)).is_some());
        }
    }
}
