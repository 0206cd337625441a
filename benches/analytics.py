"""What `make bench` measures of live statistics: events a second, what is carried from invocation to invocation, and how near the sketches are."""

import base64
import bisect
import json
import statistics
import subprocess
import time
import uuid

import boto3

import calls

BOOTSTRAP = "target/sam-release/AnalyticsFunction/bootstrap"
BATCH, BATCHES = 10_000, 10
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/weir-telemetry"


def event(first, rows, state=None, final=False, start="2024-05-01T10:00:00Z", end="2024-05-01T10:01:00Z"):
    """A batch of a window, as Lambda hands it on."""
    records = []
    for n, row in enumerate(rows):
        number = f"49590338271490256608559692538361571095921575{first + n:012d}"
        records.append({"kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "k", "sequenceNumber": number, "data": base64.b64encode(row).decode(), "approximateArrivalTimestamp": time.time()},
                        "eventID": f"shardId-000000000000:{number}", "eventSource": "aws:kinesis", "eventSourceARN": STREAM})
    return json.dumps({"Records": records, "window": {"start": start, "end": end}, "state": state or {}, "shardId": "shardId-000000000000",
                       "eventSourceARN": STREAM, "isFinalInvokeForWindow": final, "isWindowTerminatedEarly": False})


def host(bench, events, environment):
    """All but the first eleventh are measured."""
    return bench.run(f"{bench.DEBUG}/bench-host", "jobs", BOOTSTRAP, str(max(1, len(events) * 10 // 11)), stdin="\n".join(events).encode(), env=environment)


def answer(bench, asked, environment):
    """What one invocation answers."""
    return json.loads(host(bench, [asked], environment)["report"])


def analytics(bench):
    deployed = bench.variables("weir-analytics")
    environment = deployed | {"STATISTICS": f"{deployed['STATISTICS']}bench/{uuid.uuid4().hex[:8]}/", "DELIVERS": "false"}
    made = [f"{bench.DEBUG}/weir", "generate", "trips", "--rows", str(BATCH * BATCHES), "--format", "ndjson"]
    rows = subprocess.run(made, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    # The state of a window under way goes in and out with every batch.
    state = answer(bench, event(0, rows[:BATCH]), environment)["state"]
    batches = [event((n + 1) * BATCH, rows[n % BATCHES * BATCH : (n % BATCHES + 1) * BATCH], state) for n in range(22)]
    said = host(bench, batches, environment)
    size = sum(map(len, rows)) / BATCHES
    bench.add("live statistics of trips, of CPU time", BATCH * 20 / said["cpu_s"] / 1000, "k events/s/core", None)
    bench.add("live statistics, bytes of the rows", size * 20 / said["cpu_s"] / 1e6, "MB/s/core", None)
    bench.add("a batch of 10,000 trips, event to answer, p50", statistics.median(said["ms"]), "ms", None)
    bench.add("live statistics, peak memory", said["peak_bytes"] / 1e6, "MB", None)
    # What is carried on, by how many vendors there are.
    for vendors in (1, 2, 6, 60):
        some = [json.dumps(json.loads(row) | {"vendorId": n % vendors}).encode() for n, row in enumerate(rows)]
        state = None
        for n in range(BATCHES):
            state = answer(bench, event(n * BATCH, some[n * BATCH : (n + 1) * BATCH], state), environment)["state"]
        bench.add(f"state of a window, {BATCH * BATCHES:,} trips of {vendors} vendors", len(json.dumps(state)), "bytes", ("<", 1_048_576, "value"))
    accuracy(bench, rows, environment)
    ending(bench, rows[:100], environment)


def accuracy(bench, rows, environment):
    """A window in ten batches, beside all of its rows."""
    state = None
    for n in range(BATCHES):
        state = answer(bench, event(n * BATCH, rows[n * BATCH : (n + 1) * BATCH], state, final=n == BATCHES - 1), environment)["state"]
    bucket, prefix = environment["STATISTICS"].removeprefix("s3://").split("/", 1)
    s3 = boto3.client("s3")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}trips/")["Contents"]]
    found = json.loads(s3.get_object(Bucket=bucket, Key=keys[0])["Body"].read().splitlines()[0])
    trips = [json.loads(row) for row in rows]
    assert found["trips"] == len(trips), "every trip is counted"
    durations = sorted(trip["tripDuration"] for trip in trips)
    for name, at in (("median_duration", 0.5), ("p95_duration", 0.95)):
        place = (bisect.bisect_left(durations, found[name]) + bisect.bisect_right(durations, found[name])) / 2 / len(durations)
        bench.add(f"{name}: rank of what is said, off by", abs(place - at) * 100, "% of the rows", None)
    different = len({trip["id"] for trip in trips})
    bench.add(f"different trips of {different:,}, off by", abs(found["different_trips"] / different - 1) * 100, "%", None)
    cells = {}
    for trip in trips:
        cell = (f"{trip['dropoffLatitude']:.2f}", f"{trip['dropoffLongitude']:.2f}")
        cells[cell] = cells.get(cell, 0) + 1
    best = sorted(cells.values(), reverse=True)[:10]
    said = [tuple(f"{float(part):.2f}" for part in one["value"].split(",")) for one in found["dropoff_cells"]]
    bench.add(f"top 10 of {len(cells):,} cells that are of the true ones", sum(cells.get(cell, 0) >= best[-1] for cell in said), "cells", None)


def ending(bench, rows, environment):
    """What windows cost, each of one invocation that ends it, with thirty before it to be compared with."""
    def window(n):
        moment = lambda second: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1714561200 + second))
        return event(n * 1000, rows, final=True, start=moment(60 * n), end=moment(60 * n + 60))
    host(bench, [window(n) for n in range(31)], environment)
    with calls.counted(environment) as (through, met):
        said = host(bench, [window(31 + n) for n in range(11)], through)
    for name, number in met.items():
        bench.add(f"{name} calls a window of one shard", number / 11, "calls", None)
    memory = boto3.client("lambda").get_function_configuration(FunctionName="weir-analytics")["MemorySize"]
    each = calls.dollars(statistics.median(said["ms"]), memory, {name: number / 11 for name, number in met.items()})
    bench.add("a month of windows of a minute, one shard", each * 60 * 24 * 30, "$", None)
