#!/usr/bin/env bash
# Starts the laptop's AWS, builds and deploys template.yaml with the real `sam`, and drives its mapping. Ends with the
# processes' ids in target/local/pids. IAM is enforced for the functions (AUTH=true).
set -euo pipefail
cd "$(dirname "$0")/.."
PORT="${WEIR_LOCAL_PORT:-4566}"
dir=target/local
mkdir -p "$dir"
export AWS_ENDPOINT_URL="http://127.0.0.1:$PORT" AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0
alive() { python3 -c "import urllib.request as r; r.urlopen('$AWS_ENDPOINT_URL/_ministack/health', timeout=2)" 2>/dev/null; }
faults=$((PORT + 1))
taken() { python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1)" 2>/dev/null; }
local/down.sh
for port in "$PORT" "$faults"; do
  for _ in $(seq 20); do taken "$port" || break; sleep 0.2; done
  if taken "$port"; then
    echo "port $port is in use by something else; stop it, or: make demo WEIR_LOCAL_PORT=$((PORT + 10))" >&2
    exit 1
  fi
done
echo "starting the local AWS on port $PORT"
# Functions inherit this process's environment: with it they call here, through the proxy that can make their requests
# fail (weir-local proxy), and never the real AWS.
AWS_ENDPOINT_URL="http://127.0.0.1:$faults" AUTH=true LAMBDA_EXECUTOR=local BIND_HOST=127.0.0.1 GATEWAY_PORT="$PORT" SFTP_ENABLED=0 IOT_MTLS_ENABLED=0 \
  DOCKER_HOST=unix:///nonexistent setsid python3 local/emulator.py >"$dir/ministack.log" 2>&1 </dev/null &
echo $! >"$dir/pids"
for _ in $(seq 100); do alive && break; sleep 0.2; done
alive || { echo "the local AWS does not answer; see $dir/ministack.log" >&2; exit 1; }
echo "building (debug profile, host linker)"
# A second build of the same function would find nothing to do; both functions are one binary.
SAM_BUILD_MODE=debug CARGO_LAMBDA_COMPILER=cargo sam build >"$dir/build.log" 2>&1 || { tail -40 "$dir/build.log" >&2; exit 1; }
echo "deploying template.yaml"
sam deploy --config-env local >"$dir/deploy.log" 2>&1 || { tail -40 "$dir/deploy.log" >&2; exit 1; }
target_dir="${CARGO_TARGET_DIR:-target}/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}debug"
setsid "$target_dir/weir-local" proxy --listen "127.0.0.1:$faults" --upstream "$AWS_ENDPOINT_URL" >"$dir/proxy.log" 2>&1 </dev/null &
echo $! >>"$dir/pids"
for function in realtime cdc analytics; do
  setsid "$target_dir/weir-local" drive --function "weir-$function" >"$dir/drive-$function.log" 2>&1 </dev/null &
  echo $! >>"$dir/pids"
done
for _ in $(seq 50); do taken "$faults" && break; sleep 0.1; done
taken "$faults" || { echo "the proxy does not answer; see $dir/proxy.log" >&2; exit 1; }
output() { aws cloudformation describe-stacks --stack-name weir --output text \
  --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue"; }
rm -rf "$dir/wheel"
batch/wheel.sh local "$dir/wheel"
batch/upload.sh "$dir/wheel" "$(output BatchBucketName)"
for bucket in weir-sample-input weir-sample-output; do aws s3api create-bucket --bucket "$bucket" >/dev/null; done
aws s3api put-object --bucket weir-sample-input --key trips.csv --body events/data/trips.csv >/dev/null
cat >"$dir/env" <<ENV
export WEIR_INPUT_BUCKET=$(output InputBucketName) WEIR_OUTPUT_BUCKET=$(output OutputBucketName)
export WEIR_DEAD_LETTER_BUCKET=$(output DeadLetterBucketName)
export WEIR_RAW_BUCKET=$(output RawBucketName) WEIR_BATCH_BUCKET=$(output BatchBucketName) WEIR_TABLES_BUCKET=$(output TablesBucketName)
export AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export PATH="$(cd "$target_dir" && pwd):$PWD/.venv/bin:\$PATH"
ENV
echo "up: source $dir/env, then use aws and weir as on AWS"
