"""Counts what a function asks of S3 and DynamoDB, by the proxy in front of the local AWS, and what that costs."""

import contextlib
import json
import os
import urllib.request

PROXY = f"http://127.0.0.1:{int(os.environ.get('WEIR_LOCAL_PORT', '4566')) + 1}"
CALLS = {"S3 PUT": ["PUT /"], "S3 GET": ["GET /"], "S3 LIST": ["GET /", "list-type="], "S3 HEAD": ["HEAD /"], "DynamoDB": ["DynamoDB_20120810"]}

# us-east-1, from AWS' price pages as of November 2026. A call of DynamoDB is taken for a write of 1 KB to the ledger
# and to both of its indexes: more than most, less than one that moves a long item within an index.
DOLLARS = {"S3 PUT": 5e-6, "S3 LIST": 5e-6, "S3 GET": 4e-7, "S3 HEAD": 4e-7, "DynamoDB": 3 * 6.25e-7}
LAMBDA_GB_SECOND, LAMBDA_REQUEST = 0.0000166667, 2e-7
S3_GB_MONTH = 0.023


def faults(body=None, method="GET"):
    request = urllib.request.Request(f"{PROXY}/_faults", json.dumps(body).encode() if body else None, method=method)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return json.loads(text) if text.strip() else None


@contextlib.contextmanager
def counted(environment):
    """Gives an environment whose calls are counted, and the counts, which are there at the end."""
    met = {}
    faults(method="DELETE")
    for contains in CALLS.values():
        faults({"contains": contains, "fault": "count"}, "POST")
    yield environment | {"AWS_ENDPOINT_URL": PROXY}, met
    met |= {name: rule["seen"] for name, rule in zip(CALLS, faults())}
    met["S3 GET"] -= met["S3 LIST"]
    faults(method="DELETE")


def dollars(invocation_ms, memory_mb, calls):
    """Of one invocation."""
    return LAMBDA_REQUEST + invocation_ms / 1000 * memory_mb / 1024 * LAMBDA_GB_SECOND + sum(DOLLARS[name] * number for name, number in calls.items())
