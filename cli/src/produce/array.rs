//! The elements of one JSON array, one after the other.

use std::fmt;
use std::io::{self, Read};

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Hands on each element, as it is written but on one line, until `each` says that nobody wants more.
///
/// # Errors
/// What is no array, with the line: what came before it was handed on.
pub(super) fn elements(input: impl Read, each: impl FnMut(String) -> bool) -> io::Result<()> {
    let mut more = true;
    let mut json = serde_json::Deserializer::from_reader(input);
    let read = Each { each, more: &mut more }.deserialize(&mut json).and_then(|()| json.end());
    // An array that is left in its midst is no fault of its own.
    if more { Ok(read?) } else { Ok(()) }
}

struct Each<'a, F> {
    each: F,
    more: &'a mut bool,
}

impl<'de, F: FnMut(String) -> bool> DeserializeSeed<'de> for Each<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(String) -> bool> Visitor<'de> for Each<'_, F> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<Box<RawValue>>()? {
            // Within a text JSON has no line breaks, so these are between its parts.
            *self.more = (self.each)(element.get().replace(['\r', '\n'], " "));
            if !*self.more {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, most: usize) -> (Vec<String>, Option<String>) {
        let mut all = Vec::new();
        let ended = elements(text.as_bytes(), |element| {
            all.push(element);
            all.len() < most
        });
        (all, ended.err().map(|error| error.to_string()))
    }

    #[test]
    fn elements_are_handed_on_as_they_are_written() {
        let (all, error) = read(" [\n{\"a\":\n 1.10, \"b\": \"x\\ny]\"},{}, 7 ]\n", 9);
        assert_eq!(all, ["{\"a\":  1.10, \"b\": \"x\\ny]\"}", "{}", "7"]);
        assert_eq!(error, None);
        assert_eq!(read("[]", 9), (vec![], None));
    }

    #[test]
    fn whoever_has_enough_reads_no_further() {
        assert_eq!(read("[1,2,3", 2), (vec!["1".into(), "2".into()], None));
    }

    #[test]
    fn what_is_no_array_is_named_with_its_line() {
        let (all, error) = read("[1,\n{\"a\":}", 9);
        assert_eq!((all.len(), error.unwrap().contains("line 2")), (1, true));
        assert!(read("[1", 9).1.unwrap().contains("EOF"));
        assert!(read("[1] 2", 9).1.unwrap().contains("trailing"));
    }
}
