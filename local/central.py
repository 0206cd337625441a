"""Jars from Maven Central, kept outside the clone, each checked against what is pinned: lines of `sha256  path`."""

import hashlib
import os
import pathlib
import sys
import urllib.request

CENTRAL = "https://repo1.maven.org/maven2/"
JARS = pathlib.Path.home() / ".cache" / "weir-tools" / "jars"


def fetch(line, pinned):
    """The jar of a line; `pinned` is the file that the line is from, for the message."""
    wanted, _, path = line.partition("  ")
    JARS.mkdir(parents=True, exist_ok=True)
    jar = JARS / path.rpartition("/")[2]
    if jar.exists() and hashlib.sha256(jar.read_bytes()).hexdigest() == wanted:
        return jar
    with urllib.request.urlopen(CENTRAL + path, timeout=60) as answer:
        content = answer.read()
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        sys.exit(f"{CENTRAL}{path} has the SHA-256 {found}, not {wanted} as {pinned} says")
    part = jar.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.rename(jar)
    return jar
