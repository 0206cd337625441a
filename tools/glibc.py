"""Whether binaries run on Amazon Linux 2023, whatever they were built on: python tools/glibc.py BOOTSTRAP...

A binary that was linked on a newer Linux asks for newer symbols of glibc, and does not even start on Lambda. zig links for the
old one (cargo-lambda has it do so); CARGO_LAMBDA_COMPILER=cargo, which builds for the laptop, does not.
"""

import sys

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

# Amazon Linux 2023 user guide, "Package versions": glibc 2.34.
OLDEST = (2, 34)


def version(name: str) -> tuple[int, ...]:
    said = name.removeprefix("GLIBC_")
    # Such as GLIBC_ABI_DT_RELR, which 2.36 brought.
    return tuple(int(part) for part in said.split(".")) if said[0].isdigit() else (sys.maxsize,)


def asked(path: str) -> set[str]:
    """The versions of glibc that a binary asks for."""
    with open(path, "rb") as file:
        sections = (one for one in ELFFile(file).iter_sections() if isinstance(one, GNUVerNeedSection))
        names = [one.name for section in sections for _, needs in section.iter_versions() for one in needs]
    return {name for name in names if name.startswith("GLIBC_")}


def main() -> int:
    if len(sys.argv) < 2:
        print("name binaries: python tools/glibc.py .aws-sam/build/*/bootstrap", file=sys.stderr)
        return 2
    wrong = 0
    for path in sys.argv[1:]:
        versions = sorted(asked(path), key=version)
        if not versions:
            print(f"{path}: asks for no version of glibc; is it what is deployed?", file=sys.stderr)
            wrong += 1
        for name in versions:
            if version(name) > OLDEST:
                print(f"{path}: asks for {name}, Amazon Linux 2023 has 2.34. Build it with `make build`.", file=sys.stderr)
                wrong += 1
        if versions:
            print(f"{path}: glibc {versions[-1].removeprefix('GLIBC_')}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
