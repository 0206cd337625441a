//! A CloudFormation template as data.
//!
//! [`Template`] reads the YAML with its short forms (`!Ref`), [`Stack`] is what it comes to for given parameters, and
//! [`dangling`] proves that no parameters at all leave a reference to a resource that is not there.

// Of JSON: what is not there is null.
#![expect(clippy::indexing_slicing)]

mod logic;
mod read;
mod stack;

pub use logic::dangling;
pub use read::Template;
pub use stack::Stack;
