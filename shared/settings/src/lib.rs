//! What people set and write, and kind answers where it is wrong.
//!
//! [`Variables`] reads a function's settings and says all that is wrong with them at once; [`did_you_mean`] finds the word
//! that was probably meant. The environment itself is the caller's: this crate is pure.

mod words;

use std::fmt::Display;
use std::str::FromStr;

pub use words::{did_you_mean, nearest};

/// A function's variables, being read. Each getter gives something to go on with and notes what is wrong;
/// [`Variables::finish`] says all of it.
pub struct Variables<G> {
    get: G,
    problems: Vec<String>,
}

impl<G: Fn(&str) -> Option<String>> Variables<G> {
    /// `get` gives a variable's value, as `std::env::var` does.
    pub fn new(get: G) -> Self {
        Self { get, problems: Vec::new() }
    }

    /// A variable that must be set to something.
    pub fn text(&mut self, name: &str) -> String {
        match (self.get)(name).filter(|value| !value.is_empty()) {
            Some(value) => value,
            None => {
                self.problems.push(format!("{name} is not set"));
                String::new()
            }
        }
    }

    /// A variable that need not be set.
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    /// A whole number.
    pub fn number(&mut self, name: &str) -> u64 {
        self.one_of(name, |value| value.parse().ok(), "a whole number").unwrap_or(0)
    }

    /// What `read` makes of a variable; `right` says what would be, if it makes nothing of it.
    pub fn one_of<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Option<T>, right: &str) -> Option<T> {
        let value = self.text(name);
        let read = read(&value);
        // That it isn't set has been said.
        if read.is_none() && !value.is_empty() {
            self.problems.push(format!("{name} is `{value}`, but must be {right}"));
        }
        read
    }

    /// What a variable parses as.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let value = self.text(name);
        if value.is_empty() {
            return None;
        }
        value.parse().map_err(|error| self.problem(name, error)).ok()
    }

    /// Notes something that is wrong with a variable.
    pub fn problem(&mut self, name: &str, what: impl Display) {
        self.problems.push(format!("{name}: {what}"));
    }

    /// Whether all was right.
    ///
    /// # Errors
    /// Every problem, a line each.
    pub fn finish(self) -> Result<(), String> {
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_said_at_once_and_each_once() {
        let mut variables = Variables::new(|name| match name {
            "A" => Some("seven".to_owned()),
            "B" => Some("7".to_owned()),
            "C" => Some("maybe".to_owned()),
            "E" => Some("1.5".to_owned()),
            _ => None,
        });
        assert_eq!((variables.number("A"), variables.number("B"), variables.number("D")), (0, 7, 0));
        let on = |value: &str| (value == "on").then_some(true);
        assert_eq!(variables.one_of("C", on, "`on` or `off`"), None);
        assert_eq!(variables.parsed::<i32>("E"), None);
        let said = variables.finish().unwrap_err();
        let expected = "A is `seven`, but must be a whole number\nD is not set\nC is `maybe`, but must be `on` or `off`\nE: invalid digit found in string";
        assert_eq!(said, expected);
    }
}
