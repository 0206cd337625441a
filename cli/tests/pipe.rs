//! A reader that stops, as `head` does.

// clippy.toml allows it in tests; helpers of an integration test are not recognised as such.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::process::{Command, Stdio};

fn read_a_little(arguments: &[&str]) -> (Option<i32>, String) {
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    let mut weir = weir.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(weir.stdout.take());
    let mut said = String::new();
    weir.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (weir.wait().unwrap().code(), said)
}

#[test]
fn nothing_is_said_of_a_reader_that_stops() {
    for arguments in [&["contract", "show", "trips"][..], &["generate", "trips", "--rows", "100000"]] {
        assert_eq!(read_a_little(arguments), (Some(141), String::new()), "{arguments:?}");
    }
}
