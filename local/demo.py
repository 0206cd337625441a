"""`make demo`: real commands through the deployed stack, and whether what came of them is right.

Uses the `weir` CLI as a user would, puts one record with boto3 exactly as the README shows, reads the results back with
DuckDB (an independent reader), and exits non-zero if anything is not as it should be.
"""

import gzip
import json
import os
import subprocess
import sys
import time
import uuid

import boto3
import duckdb

TARGET = os.environ.get("CARGO_TARGET_DIR", "target")
TRIPLE = os.environ.get("CARGO_BUILD_TARGET", "")
WEIR = os.path.join(TARGET, TRIPLE, "debug", "weir")
RUN = uuid.uuid4().hex[:8]
ROWS = 5000


def weir(*args, check=True):
    done = subprocess.run([WEIR, *args], capture_output=True, check=False)
    if check and done.returncode != 0:
        sys.exit(f"weir {' '.join(args)}: {done.stderr.decode()}")
    return done


def outputs(name):
    stack = boto3.client("cloudformation").describe_stacks(StackName="weir")["Stacks"][0]
    return next(o["OutputValue"] for o in stack["Outputs"] if o["OutputKey"] == name)


def main():
    s3, kinesis = boto3.client("s3"), boto3.client("kinesis")
    source, dest, stream = outputs("InputBucketName"), outputs("OutputBucketName"), outputs("CommandStreamName")

    csv = weir("generate", "trips", "--rows", str(ROWS)).stdout
    logs = weir("generate", "page_logs", "--rows", str(ROWS), "--format", "ndjson").stdout
    orders = weir("generate", "orders", "--rows", str(ROWS)).stdout
    for key, body in [("trips.csv", csv), ("page_logs.json.gz", gzip.compress(logs)), ("orders.csv", orders), ("broken.parquet", b"PAR1 and then nothing")]:
        s3.put_object(Bucket=source, Key=f"demo-{RUN}/{key}", Body=body)

    # (name, command, source key, expected outcome, expected rows)
    jobs = [
        ("copy", "copy", "trips.csv", "DONE", None),
        ("csv", "convert", "trips.csv", "DONE", ROWS),
        ("ndjson", "convert", "page_logs.json.gz", "DONE", ROWS),
        ("orders", "convert", "orders.csv", "DONE", ROWS),
        ("broken", "convert", "broken.parquet", "FAILED", None),
    ]
    for name, command, key, _, _ in jobs:
        record = {"source": f"s3://{source}/demo-{RUN}/{key}", "dest": f"s3://{dest}/demo-{RUN}/{name}/", "command": command, "job_id": f"demo-{RUN}-{name}"}
        kinesis.put_record(StreamName=stream, PartitionKey=name, Data=json.dumps(record).encode())

    results, wrong = [], []
    for name, command, key, expected, rows in jobs:
        job_id, deadline = f"demo-{RUN}-{name}", time.time() + 90
        while True:
            found = weir("job", job_id, "--json", check=False)
            job = json.loads(found.stdout) if found.returncode == 0 else {"state": "NOT RECEIVED"}
            if job["state"] in ("DONE", "FAILED", "DEFERRED") or time.time() > deadline:
                break
            time.sleep(0.1)
        report = job.get("report") or {}
        outcome = {"job": job_id, "command": command, "expected": expected, "outcome": job["state"], "rows": report.get("rows"),
                   "bytes": report.get("bytes_out"), "ms": report.get("ms"), "output": report.get("output"),
                   "reason": (job.get("failure") or {}).get("reason")}
        results.append(outcome)
        if job["state"] != expected:
            wrong.append(f"{job_id} is {job['state']}, expected {expected}: {outcome['reason']}")
        elif expected == "DONE" and rows is not None and read_back(s3, dest, name) != rows:
            wrong.append(f"{job_id}: DuckDB does not find {rows} rows")
        elif expected == "DONE" and rows is None:
            copied = s3.get_object(Bucket=dest, Key=f"demo-{RUN}/{name}/{key}")["Body"].read()
            if copied != csv:
                wrong.append(f"{job_id}: the copy is not the bytes of its source")

    print(f"\n{'JOB':<22}{'COMMAND':<9}{'OUTCOME':<9}{'ROWS':>6}{'BYTES':>9}{'MS':>6}  OUTPUT, OR WHY NOT")
    for r in results:
        cells = [str(r[k]) if r[k] is not None else "" for k in ("rows", "bytes", "ms")]
        print(f"{r['job']:<22}{r['command']:<9}{r['outcome']:<9}{cells[0]:>6}{cells[1]:>9}{cells[2]:>6}  {r['output'] or r['reason'] or ''}")
    if not wrong:
        print(f"\nThe first rows of demo-{RUN}-csv, read by DuckDB:")
        print(duckdb.sql(f"SELECT id, pickupDate, passengerCount, gcDistance, tripDuration FROM '{local_copy(s3, dest, 'csv')}' LIMIT 3"))
    with open("target/demo.json", "w", encoding="utf-8") as out:
        json.dump({"ok": not wrong, "jobs": results}, out, indent=1)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    print("demo: all as it should be" if not wrong else "demo: FAILED")
    sys.exit(1 if wrong else 0)


def local_copy(s3, bucket, name):
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"demo-{RUN}/{name}/job=demo-{RUN}-{name}/")["Contents"]
    path = f"target/local/{name}.parquet"
    s3.download_file(bucket, next(o["Key"] for o in listed if o["Key"].endswith(".parquet")), path)
    return path


def read_back(s3, bucket, name):
    return duckdb.sql(f"SELECT count(*) FROM '{local_copy(s3, bucket, name)}'").fetchall()[0][0]


main()
