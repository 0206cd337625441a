//! JSON rows that look like rows before, into columns: see [`FlatRows`].
//!
//! Only a value that contradicts its column is found when values before it are taken: then all of the block is thrown away
//! and read again.

use std::ops::Range;

use weir_values::{FlatRows, Member, Token};

use crate::column::{Column, Members, Mismatch};
use crate::value;

/// The rows before.
#[derive(Debug, Default)]
pub(crate) struct Flat(FlatRows);

impl Flat {
    /// Reads a row that looks like one before; `None` if it doesn't, and then nothing was taken.
    #[inline]
    pub(crate) fn read(&mut self, row: &str, members: &mut Members) -> Option<Result<(), Mismatch>> {
        if self.0.read(row.as_bytes())? != row.len() {
            return None;
        }
        let mut each = || {
            for (place, token, at) in self.0.values() {
                push(members.enter_at(place).ok_or(Mismatch)?, token, row, at)?;
            }
            members.end_row();
            Ok(())
        };
        Some(each())
    }

    /// Learns a row that [`Flat::read`] did not know and that proved to be one.
    pub(crate) fn learn(&mut self, row: &str, members: &Members) {
        self.0.learn(row, |name| members.place(name).map(Member::Column));
    }
}

#[inline]
fn push(column: &mut Column, token: Token, row: &str, place: Range<usize>) -> Result<(), Mismatch> {
    let bytes = row.as_bytes().get(place.clone()).ok_or(Mismatch)?;
    match (column, token) {
        (column, Token::Null) => column.push_null(),
        // What is no text is kept as its JSON.
        (Column::Text(builder), _) => builder.append_value(row.get(place).ok_or(Mismatch)?),
        (Column::Int(builder), Token::Number) => builder.append_value(value::int(bytes).ok_or(Mismatch)?),
        (Column::Float(builder), Token::Number) => builder.append_value(value::float(bytes).ok_or(Mismatch)?),
        (Column::Bool(builder), Token::True | Token::False) => builder.append_value(token == Token::True),
        (column @ (Column::Date(_) | Column::Stamp { .. }), Token::Text) => column.push_time(bytes)?,
        _ => return Err(Mismatch),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use proptest::prelude::*;

    fn members() -> Members {
        let columns = [("id", Kind::Int), ("name", Kind::Text), ("price", Kind::Float), ("ok", Kind::Bool)];
        Members::new(&columns.map(|(name, kind)| (name.to_owned(), kind)), 8)
    }

    /// Whether the second row is read like the first.
    fn alike(first: &str, second: &str) -> Option<Result<(), Mismatch>> {
        let (mut flat, mut members) = (Flat::default(), members());
        flat.learn(first, &members);
        let read = flat.read(second, &mut members);
        assert_eq!(members.rows(), usize::from(read == Some(Ok(()))));
        read
    }

    const FIRST: &str = r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": true}"#;

    #[test]
    fn a_row_like_the_one_before_is_read() {
        for second in [
            FIRST,
            r#"{"id": -20, "name": "Ümläut, \u00fc?", "price": 3e-7, "ok": null}"#.replace("\\u00fc", "u").as_str(),
            r#"{"id": 0, "name": "", "price": 2, "ok": false }"#,
        ] {
            assert_eq!(alike(FIRST, second), Some(Ok(())), "{second}");
        }
    }

    #[test]
    fn a_value_that_contradicts_its_column_is_refused() {
        for second in [
            r#"{"id": 1.5, "name": "Ann", "price": 1.5, "ok": true}"#,
            r#"{"id": "1", "name": "Ann", "price": 1.5, "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": "x", "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": 1}"#,
        ] {
            assert_eq!(alike(FIRST, second), Some(Err(Mismatch)), "{second}");
        }
    }

    proptest! {
        /// What is read quickly is a row for `jiter`, too, and the same one.
        #[test]
        fn what_is_read_is_what_the_careful_reader_reads(
            edits in prop::collection::vec((0..FIRST.len(), prop::sample::select(b"0123456789.-+eE\"\\{}[],: \t\x0c\x0bntx".to_vec())), 0..4)
        ) {
            let mut second = FIRST.as_bytes().to_vec();
            for (at, byte) in edits {
                second[at] = byte;
            }
            let second = String::from_utf8(second).unwrap();
            let (mut flat, mut quick, mut careful) = (Flat::default(), members(), members());
            flat.learn(FIRST, &quick);
            if flat.read(&second, &mut quick) == Some(Ok(())) {
                prop_assert!(crate::json::row(second.as_bytes(), &mut careful).is_ok(), "{}", second);
                prop_assert_eq!(quick.finish().unwrap(), careful.finish().unwrap());
            }
        }
    }
}
