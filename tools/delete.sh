#!/usr/bin/env bash
# Deletes a stack and says what of it stays: buckets are kept by the template, whatever becomes of the stack.
#   tools/delete.sh STACK [--region REGION] [--no-prompts]
set -euo pipefail
stack="${1:?name the stack: tools/delete.sh STACK}"
shift
region="${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}"
if [ "${1:-}" = --region ]; then
  region="${2:?name the region}"
  shift 2
fi
[ -n "$region" ] || { echo "no region is set: set AWS_REGION, or say --region" >&2; exit 2; }
export AWS_REGION="$region" AWS_DEFAULT_REGION="$region"
kept=$(aws cloudformation describe-stack-resources --stack-name "$stack" --output text \
  --query "StackResources[?ResourceType=='AWS::S3::Bucket'].PhysicalResourceId")
sam delete --stack-name "$stack" --region "$region" "$@"
if aws cloudformation describe-stacks --stack-name "$stack" >/dev/null 2>&1; then
  echo "$stack was not deleted" >&2
  exit 1
fi
echo "$stack is deleted. Its data stays, in:"
for bucket in $kept; do
  echo "  s3://$bucket    (aws s3 rb --force s3://$bucket removes it; one with versions is emptied in the console first)"
done
