#!/usr/bin/env bash
# Starts a real Kafka beside the local AWS, with the template's topics, and reads them into the deployed function.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f target/local/env ] || { echo "first: make local-up" >&2; exit 1; }
. target/local/env
python3 local/kafka.py
brokers="127.0.0.1:$((${WEIR_LOCAL_PORT:-4566} + 2))"
weir_local="${CARGO_TARGET_DIR:-target}/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}debug/weir-local"
"$weir_local" make-topics --brokers "$brokers" log_topic orders
if ! pgrep -f "weir-local drive-kafka --brokers $brokers" >/dev/null; then
  setsid "$weir_local" drive-kafka --brokers "$brokers" >target/local/drive-kafka.log 2>&1 </dev/null &
  echo $! >>target/local/pids
fi
echo "up: weir generate page_logs --format ndjson | weir produce - --kafka $brokers --topic log_topic --dataset page_logs"
