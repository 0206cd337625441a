#!/usr/bin/env bash
# Stops what local/up.sh started, and what that started.
cd "$(dirname "$0")/.." || exit 1
[ -f target/local/pids ] || exit 0
while read -r pid; do kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null; done <target/local/pids
rm -f target/local/pids
exit 0
