#!/usr/bin/env bash
# Stops what local/up.sh started, and what that started. A process id that has become another's since is left alone.
cd "$(dirname "$0")/.." || exit 1
[ -f target/local/opensearch/pid ] && python3 local/opensearch.py stop
[ -f target/local/kafka/pid ] && python3 local/kafka.py stop
[ -f target/local/pids ] || exit 0
while read -r pid; do
  if { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qE 'emulator.py|weir-local|relay.py'; then
    kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null
  fi
done <target/local/pids
rm -f target/local/pids target/local/env
exit 0
