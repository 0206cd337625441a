"""`make demo`: real commands through the deployed stack, and whether what came of them is right.

Uses the `weir` CLI as a user would, puts one record with boto3 exactly as the README shows, reads the results back with
DuckDB (an independent reader), and exits non-zero if anything is not as it should be.
"""

import base64
import gzip
import json
import os
import shutil
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
    if not os.path.exists(WEIR) or "AWS_ENDPOINT_URL" not in os.environ:
        sys.exit("demo.py needs the built `weir` and a running local AWS: `make demo` gives it both")
    s3, kinesis = boto3.client("s3"), boto3.client("kinesis")
    source, dest, stream = outputs("InputBucketName"), outputs("OutputBucketName"), outputs("CommandStreamName")

    csv = weir("generate", "trips", "--rows", str(ROWS), "--days", "7").stdout
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
        ("clean", "clean", "trips.csv", "DONE", ROWS),
        ("waits", "aggregate", "page_logs.json.gz", "DONE", 5),
        ("broken", "convert", "broken.parquet", "FAILED", None),
    ]
    for name, command, key, _, _ in jobs:
        record = {"source": f"s3://{source}/demo-{RUN}/{key}", "dest": f"s3://{dest}/demo-{RUN}/{name}/", "command": command, "job_id": f"demo-{RUN}-{name}"}
        if command in ("clean", "aggregate"):
            record["dataset"] = key.split(".")[0]
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

    landed, letters = telemetry(s3, dest, wrong)
    pages, took = batch(s3, kinesis, source, dest, stream, logs, wrong)

    print(f"\n{'JOB':<22}{'COMMAND':<10}{'OUTCOME':<9}{'ROWS':>6}{'BYTES':>9}{'MS':>6}  OUTPUT, OR WHY NOT")
    for r in results:
        cells = [str(r[k]) if r[k] is not None else "" for k in ("rows", "bytes", "ms")]
        print(f"{r['job']:<22}{r['command']:<10}{r['outcome']:<9}{cells[0]:>6}{cells[1]:>9}{cells[2]:>6}  {r['output'] or r['reason'] or ''}")
    print(f"\ntelemetry: {landed} trips by weir produce, Kinesis, Firehose and transform are Parquet; {letters} bad ones lie with the dead letters")
    print(f"batch: {3 * ROWS} page logs landed in three files, a run on local Spark, and a deferred job after it: {took:.0f} s")
    print("warehouse: Redshift's Data API, here on PostgreSQL, has the same averages:")
    print(f"{'PAGE':<34}{'AVG_TTI':>10}{'AVG_TTAR':>10}{'EVENTS':>8}")
    for page, tti, ttar, count in pages:
        print(f"{page:<34}{tti:>10.1f}{ttar:>10.1f}{count:>8}")
    if not wrong:
        print(f"\nThe first rows of demo-{RUN}-csv, read by DuckDB:")
        print(duckdb.sql(f"SELECT id, pickupDate, passengerCount, gcDistance, tripDuration FROM '{local_copy(s3, dest, 'csv')}' LIMIT 3"))
    with open("target/demo.json", "w", encoding="utf-8") as out:
        json.dump({"ok": not wrong, "jobs": results, "telemetry_rows": landed}, out, indent=1)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    print("demo: all as it should be" if not wrong else "demo: FAILED")
    sys.exit(1 if wrong else 0)


def local_copy(s3, bucket, name):
    """The Parquet files of a job, as DuckDB names them."""
    return download(s3, bucket, f"demo-{RUN}/{name}/job=demo-{RUN}-{name}/", name)


def download(s3, bucket, prefix, name):
    folder = f"target/local/read-back/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            if found["Key"].endswith(".parquet"):
                s3.download_file(bucket, found["Key"], f"{folder}/{len(os.listdir(folder))}.parquet")
    return f"{folder}/*.parquet"


def batch(s3, kinesis, source, dest, stream, logs, wrong):
    """Page logs land in three files; then a job that was deferred: the averages per page, and how long it took."""
    begun, raw = time.time(), outputs("RawBucketName")
    for part in range(3):
        s3.put_object(Bucket=raw, Key=f"page_logs/demo-{RUN}/{part}.json", Body=logs)
    record = {"source": f"s3://{source}/demo-{RUN}/page_logs.json.gz", "dest": f"s3://{dest}/demo-{RUN}/deferred/", "command": "aggregate",
              "dataset": "page_logs", "mode": "batch", "when": "now", "job_id": f"demo-{RUN}-deferred"}
    kinesis.put_record(StreamName=stream, PartitionKey="deferred", Data=json.dumps(record).encode())
    weir("batch", "run", "page_logs", "--wait", "--timeout", "300")
    # The first file may have had a run of its own, before the others came.
    jobs = map(json.loads, weir("jobs", "--json", "--limit", "100").stdout.splitlines())
    runs = [job["id"] for job in jobs if job["id"].startswith("page_logs-") and job["state"] == "DONE"]
    ours = [run for run in runs if f"/demo-{RUN}/" in manifest(s3, run)]
    shutil.rmtree("target/local/read-back/pages", ignore_errors=True)
    for number, run in enumerate(ours):
        download(s3, outputs("TablesBucketName"), f"page_logs/sums/job={run}/", f"pages/{number}")
    pages = duckdb.sql("""SELECT page_url, sum(sum_tti) / sum(count_tti), sum(sum_ttar) / sum(count_ttar), sum(event_count)::BIGINT
        FROM 'target/local/read-back/pages/*/*.parquet' GROUP BY 1 ORDER BY 1""").fetchall()
    with open("target/local/page_logs.ndjson", "wb") as out:
        out.write(3 * logs)
    expected = duckdb.sql("""SELECT regexp_replace(page_url, '[?#].*', ''), avg(TTI), avg(TTAR), count(*)
        FROM 'target/local/page_logs.ndjson' GROUP BY 1 ORDER BY 1""").fetchall()
    if [(page, round(tti, 6), round(ttar, 6), count) for page, tti, ttar, count in pages] != [
        (page, round(tti, 6), round(ttar, 6), count) for page, tti, ttar, count in expected
    ]:
        wrong.append(f"batch: the averages are {pages}, DuckDB says {expected}")
    # The table has every run there ever was; the views page_logs_metrics and page_logs_metrics_by_day are over all of them.
    named = ", ".join(f"'{run}'" for run in ours)
    loaded = warehouse(f"""SELECT page_url, CAST(SUM(sum_tti) AS DOUBLE PRECISION) / SUM(count_tti),
        CAST(SUM(sum_ttar) AS DOUBLE PRECISION) / SUM(count_ttar), CAST(SUM(event_count) AS BIGINT)
        FROM page_logs_sums WHERE run_id IN ({named}) GROUP BY page_url ORDER BY page_url""")
    if loaded != pages:
        wrong.append(f"batch: the warehouse says {loaded}, S3 {pages}")
    # What was deferred begins with the sweep, which on AWS comes every five minutes.
    boto3.client("lambda").invoke(FunctionName="weir-orchestrator", Payload=b'{"sweep":{}}')
    deadline, job = time.time() + 120, {}
    while job.get("state") not in ("DONE", "FAILED") and time.time() < deadline:
        time.sleep(0.3)
        found = weir("job", f"demo-{RUN}-deferred", "--json", check=False)
        job = json.loads(found.stdout) if found.returncode == 0 else {}
    if job.get("state") != "DONE" or job["report"]["rows"] != 5:
        wrong.append(f"batch: the deferred job is {job}")
    return pages, time.time() - begun


def warehouse(sql):
    """What Redshift answers: here that is its Data API on PostgreSQL (local/redshift.py)."""
    data = boto3.client("redshift-data")
    function = boto3.client("lambda").get_function_configuration(FunctionName="weir-orchestrator")
    told = function["Environment"]["Variables"]
    asked = data.execute_statement(WorkgroupName=told["REDSHIFT_WORKGROUP"], Database=told["REDSHIFT_DATABASE"], Sql=sql)
    while (state := data.describe_statement(Id=asked["Id"]))["Status"] not in ("FINISHED", "FAILED", "ABORTED"):
        time.sleep(0.1)
    if state["Status"] != "FINISHED":
        return state["Error"]
    records = data.get_statement_result(Id=asked["Id"])["Records"]
    return [tuple(next(iter(cell.values())) for cell in record) for record in records]


def manifest(s3, run):
    bucket = outputs("BatchBucketName")
    [found] = s3.list_objects_v2(Bucket=bucket, Prefix=f"runs/{run}/manifest-")["Contents"]
    return s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read().decode()


def telemetry(s3, dest, wrong):
    """Trips as NDJSON, three of them bad, through the telemetry stream into the table: how many landed, and how many bad ones are kept."""
    good = weir("generate", "trips", "--rows", "300", "--format", "ndjson").stdout.decode().splitlines()
    rows = [json.loads(line) | {"id": f"demo-{RUN}-{number}"} for number, line in enumerate(good)]
    bad = [rows[0] | {"id": f"demo-{RUN}-bad", "dropoffLatitude": 91}, rows[1] | {"id": f"demo-{RUN}-bad", "pickupDate": "2024-02-30"}, {"id": f"demo-{RUN}-bad"}]
    path = "target/local/telemetry.ndjson"
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows + bad)
    weir("produce", path, "--stream", outputs("TelemetryStreamName"))
    deadline, landed = time.time() + 60, 0
    while landed < len(rows) and time.time() < deadline:
        time.sleep(0.3)
        files = download(s3, dest, "telemetry/trips/", "telemetry")
        if os.listdir(os.path.dirname(files)):
            landed = duckdb.sql(f"SELECT count(DISTINCT id) FROM '{files}' WHERE id LIKE 'demo-{RUN}-%'").fetchall()[0][0]
    letters, bucket = 0, outputs("DeadLetterBucketName")
    for found in s3.list_objects_v2(Bucket=bucket, Prefix="poison/firehose/").get("Contents", []):
        for line in s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read().splitlines():
            letters += f"demo-{RUN}-bad" in base64.b64decode(json.loads(line).get("raw_base64", "")).decode()
    if landed != len(rows) or letters != len(bad):
        wrong.append(f"telemetry: {landed} of {len(rows)} trips landed, {letters} of {len(bad)} bad ones are accounted for")
    return landed, letters


def read_back(s3, bucket, name):
    return duckdb.sql(f"SELECT count(*) FROM '{local_copy(s3, bucket, name)}'").fetchall()[0][0]


main()
