"""What `make bench` measures of Kafka: the function beside a consumer in Python, and what a batch costs in calls."""

import base64
import json
import os
import statistics
import subprocess
import sys
import uuid

import calls

PEER = "benches/peers/kafka.py"
BATCH = 10_000
BATCHES = 20
BOOTSTRAP = "target/sam-release/IngestFunction/bootstrap"


def event(cluster, partition, first, rows):
    """Rows as Lambda hands them on."""
    records = [{"topic": "log_topic", "partition": partition, "offset": first + n, "timestamp": 1714557600000 + n, "timestampType": "CREATE_TIME",
                "value": base64.b64encode(row).decode(), "headers": []} for n, row in enumerate(rows)]
    return json.dumps({"eventSource": "aws:kafka", "eventSourceArn": cluster, "bootstrapServers": "b:9092", "records": {f"log_topic-{partition}": records}})


def cluster():
    return f"arn:aws:kafka:us-east-1:123456789012:cluster/bench/{uuid.uuid4()}"


def invoke(bench, events, environment):
    """Those after the first eleventh are measured."""
    return bench.run(f"{bench.DEBUG}/bench-host", "jobs", BOOTSTRAP, str(len(events) * 10 // 11), stdin="\n".join(events).encode(), env=environment)


def kafka(bench):
    """On page logs of three days, 1 % of them bad; the table is counted afterwards."""
    environment = bench.variables("weir-ingest")
    count = BATCH * BATCHES
    source = f"{bench.FOLDER}/kafka-{count}.ndjson"
    made = [f"{bench.DEBUG}/weir", "generate", "page_logs", "--rows", str(count + 2 * BATCH), "--format", "ndjson", "--days", "3", "--bad", "0.01"]
    with open(source, "wb") as out:
        subprocess.run(made, stdout=out, check=True)
    with open(source, "rb") as lines:
        rows = lines.read().splitlines()
    brokers, topic = f"127.0.0.1:{int(os.environ.get('WEIR_LOCAL_PORT', '4566')) + 2}", f"bench-{uuid.uuid4().hex[:8]}"
    subprocess.run([sys.executable, "local/kafka.py"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        subprocess.run([f"{bench.DEBUG}/weir-local", "make-topics", "--brokers", brokers, topic], check=True)
        sent = [f"{bench.DEBUG}/weir", "produce", source, "--kafka", brokers, "--topic", topic, "--dataset", "page_logs", "--json"]
        said = json.loads(subprocess.run(sent, capture_output=True, check=True).stdout)
        bench.add(f"produce to Kafka, {said['rows']:,} rows", said["rows_per_second"] / 1000, "k rows/s", None)
        bucket = environment["EVENTS"].removeprefix("s3://").split("/")[0]
        python = bench.run(sys.executable, PEER, brokers, topic, topic, str(len(rows)), bucket)
    finally:
        subprocess.run([sys.executable, "local/kafka.py", "stop"], check=False)
    one = cluster()
    batches = [event(one, n % 8, n // 8 * BATCH, rows[n * BATCH : (n + 1) * BATCH]) for n in range(BATCHES + 2)]
    ours = invoke(bench, batches, environment)
    speed, peer = count / ours["cpu_s"] / 1000, (python["rows"] + python["bad"]) / python["cpu_s"] / 1000
    bench.add("Kafka to Parquet, page logs", speed, "k events/s/core", None, {"python": peer})
    size = sum(map(len, rows[2 * BATCH :])) / 1e6
    bench.add("Kafka to Parquet, bytes of the values", size / ours["cpu_s"], "MB/s/core", None, {"python": sum(map(len, rows)) / 1e6 / python["cpu_s"]})
    bench.add(f"a batch of {BATCH:,}, event to answer, p50", statistics.median(ours["ms"]), "ms", None)
    bench.add("batches of 10,000, peak memory", ours["peak_bytes"] / 1e6, "MB", None, {"python": python["peak_bytes"] / 1e6})
    # As large as Lambda sends them.
    wide = [json.dumps(json.loads(row) | {"agent": "y" * 500}).encode() for row in rows if b'"TTI":' in row and row.endswith(b"}")]
    most = int(5.9e6 / (len(wide[0]) * 4 / 3 + 150))
    one = cluster()
    full = [event(one, n % 8, n // 8 * most, (wide * 2)[n * most : (n + 1) * most]) for n in range(22)]
    said = invoke(bench, full, environment)
    bench.add(f"batches of {len(full[0]) / 1e6:.1f} MB, peak memory", said["peak_bytes"] / 1e6, "MB", None)
    one = cluster()
    said = invoke(bench, [event(one, n % 8, n // 8, rows[n : n + 1]) for n in range(330)], environment)
    bench.add("a batch of one record, event to answer, p50", statistics.median(said["ms"]), "ms", None)
    # Of batches with rows of three days, in a process that knows their partitions.
    one = cluster()
    before = [event(one, 0, 0, rows[:100])] + [event(one, 0, 100 + n * 100, rows[100 + n * 100 : 200 + n * 100]) for n in range(21)]
    with calls.counted(environment) as (through, met):
        invoke(bench, before, through)
    for name, number in met.items():
        bench.add(f"{name} calls a batch of one partition, three dates", number / len(before), "calls", None)
    compaction(bench)
    # And of larger ones.
    more = [event(cluster(), n % 8, n // 8 * BATCH, rows[n % BATCHES * BATCH : (n % BATCHES + 1) * BATCH]) for n in range(5 * BATCHES)]
    invoke(bench, more, environment)
    compaction(bench)


def compaction(bench):
    """Of all the small files that there are, by a fresh process of the function that may."""
    environment = bench.variables("weir-compact")
    asked = b'{"compact":{"dataset":"page_logs"}}'
    said = bench.run(f"{bench.DEBUG}/bench-host", "jobs", BOOTSTRAP, "1", stdin=asked, env=environment)
    done = json.loads(said["report"])["partitions"]
    files, into, size = (sum(one[name] for one in done) for name in ("files", "into", "bytes"))
    seconds = said["ms"][0] / 1000
    bench.add(f"compaction, {files:,} files of {len(done)} days into {into}, {size / 1e6:.0f} MB", files / seconds, "files/s", None)
    bench.add("compaction, bytes written", size / 1e6 / seconds, "MB/s", None)
    bench.add("compaction, of CPU time", size / 1e6 / said["cpu_s"], "MB/s/core", None)
    bench.add("compaction, peak memory", said["peak_bytes"] / 1e6, "MB", None)
