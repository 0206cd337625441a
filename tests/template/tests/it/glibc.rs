//! What is deployed starts on Amazon Linux 2023: `make build` asks tools/glibc.py, which must know what does not.

use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Whether the tool takes a binary, and what it says.
fn takes(binary: &[u8]) -> (bool, String) {
    let path = std::env::temp_dir().join(format!("weir-glibc-{}", std::process::id()));
    std::fs::write(&path, binary).unwrap();
    let asked = Command::new("python3").arg("tools/glibc.py").arg(&path).current_dir(ROOT).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    (asked.status.success(), [asked.stdout, asked.stderr].map(|said| String::from_utf8(said).unwrap()).concat())
}

#[test]
fn a_binary_of_a_newer_linux_is_refused() {
    // This test asks for some versions of glibc itself: one of them becomes what another Linux would have put there.
    let ours = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let is_version = |some: &[u8]| {
        some.starts_with(b"GLIBC_2.") && some[8].is_ascii_digit() && some[9].is_ascii_digit() && some[10] == 0
    };
    let asked: Vec<usize> =
        ours.windows(11).enumerate().filter(|(_, some)| is_version(some)).map(|(place, _)| place).collect();
    let (place, last) = (asked[0], *asked.last().unwrap());
    let with = |place: usize, minor: &[u8; 2]| {
        let mut other = ours.clone();
        other[place + 8..place + 10].copy_from_slice(minor);
        takes(&other)
    };
    // All of them old: as zig links.
    let mut old = ours.clone();
    for place in &asked {
        old[place + 8..place + 10].copy_from_slice(b"17");
    }
    let (is_taken, said) = takes(&old);
    assert!(is_taken && said.contains("glibc 2.17"), "{said}");
    for place in [place, last] {
        let (is_taken, said) = with(place, b"35");
        assert!(!is_taken && said.contains("asks for GLIBC_2.35"), "{said}");
    }
    let (is_taken, said) = takes(b"not a binary");
    assert!(!is_taken, "{said}");
}
