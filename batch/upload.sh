#!/usr/bin/env bash
# Puts the Glue job's script and wheel where the deployed job looks for them: `upload.sh FOLDER BUCKET`.
set -euo pipefail
wheels=$(realpath "$1") bucket="$2"
for file in "$(dirname "$0")/job.py" "$wheels"/*.whl; do
  aws s3 cp --only-show-errors "$file" "s3://$bucket/assets/$(basename "$file")"
done
