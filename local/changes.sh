#!/usr/bin/env bash
# Starts a real PostgreSQL beside the local AWS, whose changes go onto the stack's change stream as DMS puts them there.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f target/local/env ] || { echo "first: make local-up" >&2; exit 1; }
. target/local/env
log=target/local/relay.log
if ! pgrep -f "python3 local/relay.py" >/dev/null; then
  setsid python3 local/relay.py >"$log" 2>&1 </dev/null &
  echo $! >>target/local/pids
fi
for _ in $(seq 100); do grep -q '^up:' "$log" && break; sleep 0.2; done
grep '^up:' "$log" || { echo "PostgreSQL does not start; see $log" >&2; exit 1; }
echo "try: target/local/psql -c \"UPDATE customers SET name = 'Ann' WHERE id = 7\""
echo "and within a minute: weir table read s3://$WEIR_TABLES_BUCKET/changes/customers/"
