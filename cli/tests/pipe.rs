//! A reader that stops, as `head` does.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used)]

use std::process::Command;

/// What `weir` ends with, and says, when nobody reads what it prints.
fn unread(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader); // before there is a process that could write to it
    let weir = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).stdout(writer).output().unwrap();
    (weir.status.code(), String::from_utf8(weir.stderr).unwrap())
}

#[test]
fn nothing_is_said_of_a_reader_that_stops() {
    for arguments in [&["contract", "show", "trips"][..], &["generate", "trips", "--rows", "100000"]] {
        assert_eq!(unread(arguments), (Some(141), String::new()), "{arguments:?}");
    }
}
