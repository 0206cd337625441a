"""`make bench`: measures Weir, and beside it its peers in the same run on the same cores. `make bench WHAT="clean kpl"` measures
only that: convert, clean, transform, kpl, spark, init, jobs, orchestrator, kafka, changes, analytics, produce.

Prints its conditions and a table, and writes target/bench.json: a row a measure with name, value, unit, each peer's value,
ratio (of ours to the better peer), target, and whether it is met. Nothing here is a test: a missed target is a fact to print.
"""

import base64
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import uuid
import zipfile

import boto3
import duckdb
import polars

import analytics
import calls
import changes
import kafka
import telemetry

FOLDER = "target/bench"
RELEASE = f"{os.environ.get('CARGO_TARGET_DIR', 'target')}/{os.environ['CARGO_BUILD_TARGET']}/release"
DEBUG = f"{os.environ.get('CARGO_TARGET_DIR', 'target')}/{os.environ['CARGO_BUILD_TARGET']}/debug"
BOOTSTRAP = "target/sam-release/RealtimeFunction/bootstrap"
CORES = sorted(os.sched_getaffinity(0))
RUNS = 5
# About 8 MB and 1 GB of CSV, 22 MB and 1 GB of NDJSON.
ROWS = {"small": {"csv": 60_000, "ndjson": 60_000}, "large": {"csv": 7_400_000, "ndjson": 2_750_000}}
results = []


def add(name, value, unit, target, peers=None):
    """A row. `target` is (comparison, number, of what)."""
    ratio = None
    if peers:
        best = max(peers.values())
        ratio = value / best
    measured = ratio if target and target[2] == "ratio" else value
    met = None if target is None else (measured < target[1] if target[0] == "<" else measured > target[1])
    words = None if target is None else f"{target[0]} {target[1]}" + (" x the best peer" if target[2] == "ratio" else f" {unit}")
    results.append({"name": name, "value": round(value, 3), "unit": unit, "peers": {k: round(v, 3) for k, v in (peers or {}).items()},
                    "ratio": None if ratio is None else round(ratio, 2), "target": words, "met": met})


def percentile(values, of):
    return sorted(values)[min(len(values) - 1, int(len(values) * of / 100))]


def run(*command, stdin=None, env=None):
    """A child's JSON. It says its own peak of memory (VmHWM): what wait4 reports counts this process's, too."""
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, env=env, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed")
    # DuckDB draws a progress bar before it.
    return json.loads(done.stdout.splitlines()[-1])


PEERS = {
    "duckdb": """
import duckdb, json, sys, time
source, out, threads = sys.argv[1:]
read = "read_csv" if source.endswith("csv") else "read_json"
begun = time.perf_counter()
db = duckdb.connect()
db.execute(f"SET threads = {threads}")
db.execute(f"SET preserve_insertion_order = true")
db.execute(f"COPY (SELECT * FROM {read}('{source}')) TO '{out}/peer.parquet' (FORMAT parquet, COMPRESSION snappy)")
ms = (time.perf_counter() - begun) * 1000
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(json.dumps({"ms": ms, "peak_bytes": peak}))
""",
    "polars": """
import os, sys
os.environ["POLARS_MAX_THREADS"] = sys.argv[3]
import json, time
import polars as pl
source, out, threads = sys.argv[1:]
begun = time.perf_counter()
scan = pl.scan_csv(source, try_parse_dates=True) if source.endswith("csv") else pl.scan_ndjson(source)
scan.sink_parquet(f"{out}/peer.parquet", compression="snappy")
ms = (time.perf_counter() - begun) * 1000
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(json.dumps({"ms": ms, "peak_bytes": peak}))
""",
}


def conversion(source, who):
    """Milliseconds and peak MB of one conversion, after its output was checked."""
    out = f"{FOLDER}/out"
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    if who == "weir":
        said = run(f"{RELEASE}/bench-convert", source, out, str(len(CORES)))
    else:
        said = run(sys.executable, "-c", PEERS[who], source, out, str(len(CORES)))
    facts = duckdb.sql(f"SELECT count(*), sum(tripDuration), min(CAST(pickupDate AS TIMESTAMP)) FROM '{out}/*.parquet'").fetchall()[0]
    return said["ms"], said["peak_bytes"] / 1e6, facts


def conversions():
    for size, forms in ROWS.items():
        for form, rows in forms.items():
            source = f"{FOLDER}/{rows}.{form}"
            if not os.path.exists(source):
                with open(f"{source}.part", "wb") as out:
                    subprocess.run([f"{DEBUG}/weir", "generate", "trips", "--rows", str(rows), "--format", form, "--seed", "7"], stdout=out, check=True)
                os.rename(f"{source}.part", source)
            megabytes = os.path.getsize(source) / 1e6
            with open(source, "rb") as warm:
                while warm.read(1 << 24):
                    pass
            speeds, peaks, facts = {}, {}, set()
            # Turn by turn, so that a busy moment of the machine meets all of them.
            turns = [(who, conversion(source, who)) for _ in range(RUNS) for who in ("weir", "duckdb", "polars")]
            for who in ("weir", "duckdb", "polars"):
                own = [found for name, found in turns if name == who]
                speeds[who] = megabytes / (statistics.median(ms for ms, _, _ in own) / 1000) / len(CORES)
                peaks[who] = max(peak for _, peak, _ in own)
                facts.update(fact for _, _, fact in own)
            if len(facts) != 1:
                sys.exit(f"{source}: the outputs differ: {facts}")
            name = f"{form} -> parquet, {megabytes:,.0f} MB"
            ours = speeds.pop("weir")
            add(name, ours, "MB/s/core", (">", 1.5, "ratio"), speeds)
            own = peaks.pop("weir")
            results.append({"name": f"{name}, peak memory", "value": round(own), "unit": "MB", "peers": {k: round(v) for k, v in peaks.items()},
                            "ratio": round(own / min(peaks.values()), 2), "target": "< 256 MB", "met": own < 256})


def read_environment():
    with open("target/local/env", encoding="utf-8") as lines:
        for word in lines.read().split():
            name, _, value = word.partition("=")
            # The shell's own would have to be put into it.
            if value and name != "PATH":
                os.environ[name] = value


def variables(function="weir-realtime"):
    """A deployed function's, with the local AWS's address and keys."""
    deployed = boto3.client("lambda").get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    return deployed | {k: v for k, v in os.environ.items() if k.startswith("AWS_")}


def init():
    count = 50
    for function in ("Realtime", "Transform", "Orchestrator", "Ingest", "Cdc", "Analytics"):
        bootstrap = f"target/sam-release/{function}Function/bootstrap"
        said = run(f"{DEBUG}/bench-host", "init", bootstrap, str(count), env=variables(f"weir-{function.lower()}"))
        add(f"{function.lower()}: init, exec to first request, p50", statistics.median(said["ms"]), "ms", ("<", 10, "value"))
        add(f"{function.lower()}: init, longest of {count}", max(said["ms"]), "ms", None)
        packed = f"{FOLDER}/function.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
            out.write(bootstrap, "bootstrap")
        add(f"{function.lower()}: zip", os.path.getsize(packed) / 1e6, "MB", ("<", 8, "value"))


def jobs():
    count, more, name = 300, 20, uuid.uuid4().hex[:8]
    s3, environment = boto3.client("s3"), variables()
    rows = subprocess.run([f"{DEBUG}/weir", "generate", "trips", "--rows", "5"], capture_output=True, check=True).stdout
    s3.put_object(Bucket="weir-sample-input", Key=f"bench-{name}.csv", Body=rows)
    events = []
    for n in range(count + count // 10 + more):
        command = {"job_id": f"bench-{name}-{n}", "source": f"s3://weir-sample-input/bench-{name}.csv", "dest": "s3://weir-sample-output/bench/", "command": "convert"}
        number = f"49590338271490256608559692538361571095921575{n:012d}"
        record = {"kinesisSchemaVersion": "1.0", "partitionKey": "bench", "sequenceNumber": number,
                  "data": base64.b64encode(json.dumps(command).encode()).decode(), "approximateArrivalTimestamp": time.time()}
        events.append(json.dumps({"Records": [{"kinesis": record, "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventName": "aws:kinesis:record",
                                               "eventID": f"shardId-000000000000:{number}", "awsRegion": "us-east-1",
                                               "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/weir-commands"}]}))
    said = run(f"{DEBUG}/bench-host", "jobs", BOOTSTRAP, str(count), stdin="\n".join(events[:-more]).encode(), env=environment)
    with calls.counted(environment) as (through, met):
        run(f"{DEBUG}/bench-host", "jobs", BOOTSTRAP, str(more), stdin="\n".join(events[-more:]).encode(), env=through)
    made = s3.list_objects_v2(Bucket="weir-sample-output", Prefix=f"bench/job=bench-{name}-")["KeyCount"]
    if made != len(events):
        sys.exit(f"{made} outputs of {len(events)} jobs")
    add(f"5-record job, event to answer, p50 of {count}", statistics.median(said["ms"]), "ms", ("<", 30, "value"))
    add(f"5-record job, event to answer, p99 of {count}", percentile(said["ms"], 99), "ms", ("<", 100, "value"))
    add("5-record jobs, peak memory of the function", said["peak_bytes"] / 1e6, "MB", None)
    for call, number in met.items():
        add(f"{call} calls a job", number / more, "calls", None)


def orchestrator():
    """Objects land while the window is closed: each is recorded, nothing is started."""
    count, name = 500, uuid.uuid4().hex[:8]
    environment = variables("weir-orchestrator") | {"BATCH_WHEN": "off-peak", "OFF_PEAK": "03:33-03:34 UTC"}
    raw, events = environment["RAW"].removeprefix("s3://").strip("/"), []
    for n in range(count + count // 10):
        thing = {"key": f"orders/bench-{name}/{n}.csv", "size": 1, "etag": f"{n:032x}", "sequencer": f"{n:016X}"}
        events.append(json.dumps({"source": "aws.s3", "detail-type": "Object Created", "time": "2026-01-01T00:00:00Z", "detail": {"bucket": {"name": raw}, "object": thing}}))
    said = run(f"{DEBUG}/bench-host", "jobs", "target/sam-release/OrchestratorFunction/bootstrap", str(count), stdin="\n".join(events).encode(), env=environment)
    table = boto3.client("dynamodb")
    found = sum("Item" in table.get_item(TableName="weir-ledger", Key={"pk": {"S": f"object#orders#s3://{raw}/orders/bench-{name}/{n}.csv"}}) for n in range(0, count, 50))
    if found != count // 50:
        sys.exit(f"{found} of {count // 50} objects are in the ledger")
    add(f"an object lands, event to answer, p50 of {count}", statistics.median(said["ms"]), "ms", None)
    add("objects landed, one event an invocation", 1000 * count / sum(said["ms"][-count:]), "events/s", None)


def spark():
    wheel = f"{FOLDER}/wheel"
    shutil.rmtree(wheel, ignore_errors=True)
    shutil.copytree("batch/python", wheel)
    shutil.copy(f"{RELEASE}/lib_native.so", f"{wheel}/weir_batch/_native.abi3.so")
    said = run(sys.executable, "benches/spark.py", FOLDER, "2000000", os.path.abspath(wheel))
    speeds = {name: said["rows"] / seconds for name, seconds in said["seconds"].items()}
    ours, python = speeds.pop("rust"), speeds.pop("python_udf")
    name = f"Spark local[2], {said['rows'] // 1_000_000} M page logs through the contract"
    add(name, ours, "rows/s", (">", 2, "ratio"), speeds)
    add(f"{name}, beside a Python UDF", ours, "rows/s", (">", 7, "ratio"), {"python_udf": python})


def conditions():
    def line(*command):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    with open("/proc/cpuinfo", encoding="utf-8") as cpu:
        model = next((one.split(":")[1].strip() for one in cpu if one.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {"when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "cpu": model, "cores": len(CORES), "memory_gb": round(memory),
            "kernel": platform.release(), "load": os.getloadavg()[0], "commit": line("git", "rev-parse", "--short", "HEAD"), "rustc": line("rustc", "--version"),
            "build": "release (as deployed) for what is measured; the local AWS is ministack, in Python, on the same cores",
            "peers": f"DuckDB {duckdb.__version__}, Polars {polars.__version__}; median of {RUNS} runs in turn, from page cache to disk, snappy"}


# What `weir cost` and `weir simulate` reckon with, by how the names of measures begin, and by what measures them.
KEPT = {
    "transform": {"transform_small_k_s_core": "transform, 200 B JSON", "transform_large_k_s_core": "transform, 1000 B JSON"},
    "clean": {"clean_mb_s_core": "clean trips, bytes of CSV"},
    "jobs": {"job_ms": "5-record job, event to answer, p50"},
    "kafka": {"ingest_k_s_core": "Kafka to Parquet, page logs"},
    "changes": {"stage_k_s_core": "changes staged, batches of 10,000", "commit_s": "1,000 changes into 1 M rows, simple index, p50"},
    "analytics": {"live_k_s_core": "live statistics of trips, of CPU time", "windows_month_dollars": "a month of windows of a minute, one shard"},
    "spark": {"spark_rows_s_two_cores": "Spark local[2]"},
}
CALLED = {"jobs": ("job", "{} calls a job"), "kafka": ("ingest", "{} calls a batch of one partition"), "changes": ("commit", "1,000 changes committed, simple index: {} calls")}
KINDS = {"s3_puts": "S3 PUT", "s3_lists": "S3 LIST", "s3_gets": "S3 GET", "s3_heads": "S3 HEAD", "ledger_calls": "DynamoDB"}
for what, (part, of) in CALLED.items():
    KEPT[what] |= {f"{part}_{kind}": of.format(call) for kind, call in KINDS.items()}
KEEPS = "cli/src/cost/measured.json"


def keep(what):
    """Keeps what of this run the CLI reckons with, each with the day it was measured on."""
    with open(KEEPS, encoding="utf-8") as known:
        measured = json.load(known)
    for key, name in KEPT.get(what, {}).items():
        row = next((row for row in results if row["name"].startswith(name)), None) or sys.exit(f"nothing measured is called {name!r}: see KEPT")
        measured[key] = {"value": row["value"], "unit": row["unit"], "on": time.strftime("%Y-%m-%d"), "measure": row["name"]}
    with open(KEEPS, "w", encoding="utf-8") as out:
        json.dump(measured, out, indent=1, sort_keys=True)
        out.write("\n")


def main():
    os.makedirs(FOLDER, exist_ok=True)
    said = conditions()
    what = sys.argv[1:] or ["transform", "kpl", "clean", "convert", "spark", "init", "jobs", "orchestrator", "kafka", "changes", "analytics", "produce"]
    this = sys.modules[__name__]
    # Before the local AWS is there to take its share of the cores.
    alone = {"transform": lambda: telemetry.transform(this), "kpl": lambda: telemetry.aggregates(this), "clean": lambda: telemetry.cleaning(this), "convert": conversions, "spark": spark}
    beside = {"init": init, "jobs": jobs, "orchestrator": orchestrator, "kafka": lambda: kafka.kafka(this), "changes": lambda: changes.changes(this), "analytics": lambda: analytics.analytics(this), "produce": lambda: telemetry.produce(this)}
    if unknown := [name for name in what if name not in alone | beside]:
        sys.exit(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(alone | beside)}")
    for name in what:
        if name in alone:
            alone[name]()
            keep(name)
    if any(name in beside for name in what):
        subprocess.run(["local/up.sh"], check=True, stdout=subprocess.DEVNULL)
        try:
            read_environment()
            for name in what:
                if name in beside:
                    beside[name]()
                    keep(name)
        finally:
            subprocess.run(["local/down.sh"], check=False)
    print("\n".join(f"{name:<10} {value}" for name, value in said.items()))
    print(f"\n{'MEASURE':<46}{'WEIR':>9} {'UNIT':<17}{'PEERS':<38}{'RATIO':>7}  TARGET")
    for row in results:
        peers = ", ".join(f"{who} {value}" for who, value in row["peers"].items())
        met = "" if row["met"] is None else ("met" if row["met"] else "MISSED")
        print(f"{row['name']:<46}{row['value']:>9} {row['unit']:<17}{peers:<38}{row['ratio'] or '':>7}  {row['target'] or ''} {met}")
    with open("target/bench.json", "w", encoding="utf-8") as out:
        json.dump(results, out, indent=1)
    with open("target/bench-conditions.json", "w", encoding="utf-8") as out:
        json.dump(said, out, indent=1)


if __name__ == "__main__":
    main()
