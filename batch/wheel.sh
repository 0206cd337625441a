#!/usr/bin/env bash
# Packs the wheel of the Rust code for Spark. `wheel.sh local FOLDER`: of what `cargo build --workspace` has built, for the
# laptop. `wheel.sh release FOLDER`: built by maturin with zig, so that it runs on Glue's glibc and every Python from 3.11.
set -euo pipefail
cd "$(dirname "$0")/.."
kind="$1" folder="$2"
mkdir -p "$folder"
if [ "$kind" = release ]; then
  maturin build --release --locked --zig --compatibility manylinux_2_28 --target x86_64-unknown-linux-gnu \
    -m batch/Cargo.toml -i python3.11 -o "$folder"
  exit
fi
built="${CARGO_TARGET_DIR:-target}/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}debug/lib_native.so"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
info="$staged/weir_batch-$version.dist-info"
mkdir "$info"
cp -r batch/python/weir_batch "$staged/"
find "$staged" -name __pycache__ -prune -exec rm -rf {} +
cp "$built" "$staged/weir_batch/_native.abi3.so"
printf 'Metadata-Version: 2.1\nName: weir-batch\nVersion: %s\n' "$version" >"$info/METADATA"
printf 'Wheel-Version: 1.0\nGenerator: weir\nRoot-Is-Purelib: false\nTag: cp311-abi3-linux_x86_64\n' >"$info/WHEEL"
python -m wheel pack -d "$folder" "$staged" >/dev/null
