#!/usr/bin/env bash
# Runs one event through a function as it is deployed to the laptop's AWS: in SAM's container where there is a Docker
# engine, otherwise the built bootstrap by the Lambda runtime API. Only the answer goes to standard output.
set -euo pipefail
cd "$(dirname "$0")/.."
function="$1" event="$2" dir=target/local
[ -f "$event" ] || { echo "there is no event $event; there are:" >&2; ls events/*/*.json >&2; exit 2; }
resource="$(sed -E 's/(^|-)([a-z])/\U\2/g' <<<"$function")Function"
bootstrap=".aws-sam/build/$resource/bootstrap"
[ -f "$dir/env" ] || { make --no-print-directory local-up >&2; echo "it stays up: make local-down stops it" >&2; }
[ -f "$bootstrap" ] || { echo "there is no function $function; FN is realtime, worker, transform, orchestrator, ingest, compact, cdc, cdc-commit, analytics or analytics-deliver" >&2; exit 2; }
. "$dir/env"
aws sts get-caller-identity >/dev/null || { echo "the local AWS does not answer: make local-down, and again" >&2; exit 1; }
weir_local="${CARGO_TARGET_DIR:-target}/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}debug/weir-local"
engine=$(python local/engine.py) || { echo "so it runs by itself, without SAM's container" >&2; engine=; }
[ -n "$engine" ] || exec "$weir_local" invoke "weir-$function" "$bootstrap" "$event"
of() { python -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$engine" "$1"; }
# A container reaches this machine by the bridge's address, where the local AWS does not listen.
host=$(of host)
"$weir_local" proxy --listen "$host:4577" --upstream "$AWS_ENDPOINT_URL" >&2 &
proxy=$!
trap 'kill $proxy 2>/dev/null' EXIT
sleep 0.3
kill -0 $proxy || { echo "port 4577 at $host can't be used" >&2; exit 1; }
aws lambda get-function-configuration --function-name "weir-$function" --query Environment.Variables --output json |
  python -c '
import json, sys
print(json.dumps({sys.argv[1]: json.load(sys.stdin) | {"AWS_ENDPOINT_URL": sys.argv[2]}}))
' "$resource" "http://$host:4577" >"$dir/invoke-env.json"
sam local invoke "$resource" --template "$(of template)" --event "$event" --env-vars "$dir/invoke-env.json" \
  --invoke-image "$(of image)" --skip-pull-image
