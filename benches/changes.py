"""What `make bench` measures of database changes: a minute's changes into a table of a million rows, beside Spark with Hudi and delta-rs."""

import base64
import json
import os
import random
import statistics
import subprocess
import sys
import time
import uuid

import boto3

import calls

ROWS, CHANGES, ROUNDS = 1_000_000, 1_000, 5
BATCH = 10_000
STAGE, COMMIT = "target/sam-release/CdcFunction/bootstrap", "target/sam-release/CdcCommitFunction/bootstrap"
PEERS = {"spark": "benches/peers/changes_spark.py", "delta-rs": "benches/peers/changes_delta.py"}


def customer(number, version, dice):
    """As DMS writes a row."""
    second = f"{dice.randrange(60):02d}"
    return {"id": number, "name": f"customer {number} of version {version} {dice.randrange(10**9)}", "gender": dice.choice(("f", "m", None)), "time_stamp": f"2024-05-01T10:{version % 60:02d}:{second}Z"}


def changes_of(round_, dice):
    """A thousand rows anywhere: 5 % of them go, 5 % are new."""
    ids = dice.sample(range(ROWS), CHANGES)
    for n, number in enumerate(ids):
        if n < CHANGES // 20:
            yield "delete", {"id": number, "name": None, "gender": None, "time_stamp": None}
        elif n < CHANGES // 10:
            yield "insert", customer(ROWS + round_ * CHANGES + n, round_, dice)
        else:
            yield "update", customer(number, round_, dice)


def event(first, messages, shard):
    records = []
    for n, (operation, row, transaction) in enumerate(messages):
        metadata = {"timestamp": "2024-07-29T00:59:07.686557Z", "record-type": "data", "operation": operation, "partition-key-type": "primary-key",
                    "partition-key-value": f"public.customers.{row['id']}", "schema-name": "public", "table-name": "customers"}
        if transaction:
            metadata |= {"commit-timestamp": f"2024-07-30T00:00:{transaction:02d}.000000Z", "stream-position": f"00000002/{transaction:08X}.2.00000002/{transaction:08X}", "transaction-record-id": n + 1}
        data = base64.b64encode(json.dumps({"data": row, "metadata": metadata}).encode()).decode()
        number = f"4965432109876543210987654321098765432109{first + n:016d}"
        records.append({"kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "k", "sequenceNumber": number, "data": data, "approximateArrivalTimestamp": time.time()},
                        "eventID": f"{shard}:{number}", "eventSource": "aws:kinesis", "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/weir-changes"})
    return json.dumps({"Records": records})


def ledger(name):
    """One of its own: the stack's own committer comes every minute."""
    dynamo = boto3.client("dynamodb")
    there = dynamo.describe_table(TableName="weir-ledger")["Table"]
    indexes = [{key: index[key] for key in ("IndexName", "KeySchema", "Projection")} for index in there["GlobalSecondaryIndexes"]]
    dynamo.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=there["KeySchema"], AttributeDefinitions=there["AttributeDefinitions"], GlobalSecondaryIndexes=indexes)


def host(bench, bootstrap, events, environment):
    """All but the first eleventh are measured."""
    return bench.run(f"{bench.DEBUG}/bench-host", "jobs", bootstrap, str(max(1, len(events) * 10 // 11)), stdin="\n".join(events).encode(), env=environment)


def sizes(changes):
    """The table's base files."""
    bucket, prefix = changes.removeprefix("s3://").split("/", 1)
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}customers/")
    return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", []) if one["Key"].endswith(".parquet")}


def memory(function):
    """MB, as deployed."""
    return boto3.client("lambda").get_function_configuration(FunctionName=function)["MemorySize"]


def changes(bench):
    for buckets in (None, 8):
        ours(bench, buckets)
    peers(bench)


def ours(bench, buckets):
    run = f"bench-{uuid.uuid4().hex[:8]}"
    ledger(run)
    bucket = bench.variables("weir-cdc")["CHANGES"].removeprefix("s3://").split("/")[0]
    own = {"LEDGER_TABLE": run, "CHANGES": f"s3://{bucket}/{run}/", "TABLES": f"public.customers{f'/{buckets}' if buckets else ''}=customers"}
    stage, commit = bench.variables("weir-cdc") | own, bench.variables("weir-cdc-commit") | own
    dice = random.Random(7)
    loads, place = [], 0
    for first in range(0, ROWS, BATCH):
        loads.append(event(place, [("load", customer(n, 0, dice), None) for n in range(first, first + BATCH)], "shardId-000000000000"))
        place += BATCH
    name = f"{buckets} buckets" if buckets else "simple index"
    staged = host(bench, STAGE, loads, stage)
    if not buckets:
        measured = len(loads) - len(loads) * 10 // 11 // 10
        bench.add("changes staged, batches of 10,000", BATCH * measured / staged["cpu_s"] / 1000, "k/s/core", None)
        bench.add("a batch of 10,000 changes staged, p50", statistics.median(staged["ms"]), "ms", None)
        bench.add("staging, peak memory", staged["peak_bytes"] / 1e6, "MB", None)
    loaded = host(bench, COMMIT, ['{"commit":{}}'], commit)
    bench.add(f"1 M rows loaded, {name}", ROWS / loaded["ms"][0] / 1, "k rows/s", None)
    bench.add(f"1 M rows loaded, {name}: peak memory", loaded["peak_bytes"] / 1e6, "MB", None)
    # A process that commits minute after minute; the first one knows no keys.
    times, peak, written = [], 0, 0
    begun = [event(place, [(operation, row, 1) for operation, row in changes_of(0, dice)], "shardId-000000000000")]
    place += CHANGES
    host(bench, STAGE, begun, stage)
    cold = host(bench, COMMIT, ['{"commit":{}}'], commit)
    for round_ in range(1, ROUNDS + 1):
        host(bench, STAGE, [event(place, [(operation, row, 1 + round_) for operation, row in changes_of(round_, dice)], "shardId-000000000000")], stage)
        place += CHANGES
        before = sizes(own["CHANGES"])
        said = host(bench, COMMIT, ['{"commit":{}}'], commit)
        written = sum(size for key, size in sizes(own["CHANGES"]).items() if key not in before)
        times.append(said["ms"][0])
        peak = max(peak, said["peak_bytes"])
    bench.add(f"1,000 changes into 1 M rows, {name}, p50 of {ROUNDS}", statistics.median([cold["ms"][0], *times]) / 1000, "s", ("<", 2, "value"))
    bench.add(f"1,000 changes into 1 M rows, {name}: peak", peak / 1e6, "MB", ("<", 512, "value"))
    bench.add(f"1,000 changes into 1 M rows, {name}: written", written / 1e6, "MB", None)
    bench.add(f"1,000 changes into 1 M rows, {name}: CPU", said["cpu_s"] or 0, "s", None)
    # One more, its calls counted: what it costs at one such commit a minute, each in a fresh process.
    with calls.counted(stage) as (through, staging):
        staged = host(bench, STAGE, [event(place, [(operation, row, 2 + ROUNDS) for operation, row in changes_of(ROUNDS + 1, dice)], "shardId-000000000000")], through)
    with calls.counted(commit) as (through, committing):
        committed = host(bench, COMMIT, ['{"commit":{}}'], through)
    for step, met in (("staged", staging), ("committed", committing)):
        for call, number in met.items():
            bench.add(f"1,000 changes {step}, {name}: {call} calls", number, "calls", None)
    cost = calls.dollars(staged["ms"][0], memory("weir-cdc"), staging) + calls.dollars(committed["ms"][0], memory("weir-cdc-commit"), committing)
    bench.add(f"a million changes, 1,000 a commit, {name}", cost * 1_000_000 / CHANGES, "$", None)
    bench.add(f"old files of a day, a commit a minute, {name}", written / 1e9 * 24 * 60 * calls.S3_GB_MONTH, "$ a month", None)


def peers(bench):
    """The same rows and changes, on the local disk."""
    dice = random.Random(7)
    rows, folder = f"{bench.FOLDER}/changes-rows.ndjson", f"{bench.FOLDER}/changes"
    os.makedirs(folder, exist_ok=True)
    with open(rows, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(customer(n, 0, dice)) + "\n" for n in range(ROWS))
    for round_ in range(ROUNDS + 1):
        with open(f"{folder}/{round_}.ndjson", "w", encoding="utf-8") as out:
            for operation, row in changes_of(round_, dice):
                out.write(json.dumps(row | {"gone": operation == "delete", "at": f"{round_ + 1:08d}"}) + "\n")
    for who, script in PEERS.items():
        said = json.loads(subprocess.run([sys.executable, script, rows, folder, str(ROUNDS)], stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
        bench.add(f"1,000 changes into 1 M rows, {who}, p50 of {ROUNDS}", statistics.median(said["seconds"]), "s", None)
        bench.add(f"1,000 changes into 1 M rows, {who}: peak", said["peak_bytes"] / 1e6, "MB", None)
        bench.add(f"1,000 changes into 1 M rows, {who}: written", said["written_bytes"] / 1e6, "MB", None)
