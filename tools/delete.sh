#!/usr/bin/env bash
# Deletes a stack and says what of it stays: buckets are kept by the template, whatever becomes of the stack.
set -euo pipefail
stack="${1:?name the stack: tools/delete.sh STACK}"
kept=$(aws cloudformation describe-stack-resources --stack-name "$stack" --output text \
  --query "StackResources[?ResourceType=='AWS::S3::Bucket'].PhysicalResourceId")
sam delete --stack-name "$stack" --region "${AWS_REGION:-$AWS_DEFAULT_REGION}" "${@:2}"
if aws cloudformation describe-stacks --stack-name "$stack" >/dev/null 2>&1; then
  echo "$stack was not deleted"
  exit 1
fi
echo "$stack is deleted. Its data stays, in:"
for bucket in $kept; do
  echo "  s3://$bucket    (aws s3 rb --force s3://$bucket removes it; one with versions is emptied in the console first)"
done
