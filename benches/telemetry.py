"""What `make bench` measures of telemetry: the transformation, aggregates, the producer, cleaning."""

import base64
import json
import os
import shutil
import statistics
import subprocess
import sys

import duckdb

PEERS = "benches/peers"


def event(rows):
    """Rows as Firehose hands them on, up to 500."""
    records = [{"recordId": f"49546986683135544286507457936321625675700192471156785{n:03}000000", "approximateArrivalTimestamp": 1704362397000 + n,
                "data": base64.b64encode(row).decode()} for n, row in enumerate(rows)]
    return json.dumps({"invocationId": "a5b9e7a0", "deliveryStreamArn": "arn:aws:firehose:us-east-1:123456789012:deliverystream/bench",
                       "region": "us-east-1", "records": records}).encode()


def transform(bench):
    """Records a second a core, on page logs of 200 bytes and 1 KB, beside Python and Node."""
    logs = subprocess.run([f"{bench.DEBUG}/weir", "generate", "page_logs", "--rows", "500", "--format", "ndjson"], capture_output=True, check=True).stdout.splitlines()
    for size in (200, 1000):
        rows = []
        for line in logs:
            row = json.loads(line)
            # Filled up with a member that the contract doesn't know, and a longer page.
            row["page_url"] += "&u=" + "x" * ((size - len(json.dumps(row))) // 4)
            row["agent"] = ""
            row["agent"] = "y" * max(0, size - len(json.dumps(row)))
            rows.append(json.dumps(row).encode())
        sent = event(rows)
        commands = {"weir": [f"{bench.RELEASE}/bench-transform", "page_logs", "2"], "python": [sys.executable, f"{PEERS}/transform.py", "2"]}
        if shutil.which("node"):
            commands["node"] = ["node", f"{PEERS}/transform.mjs", "2"]
        speeds = {}
        for _ in range(3):
            for who, command in commands.items():
                said = bench.run("taskset", "-c", str(bench.CORES[-1]), *command, stdin=sent)
                if said["ok"] != said["records"]:
                    sys.exit(f"{who}: {said['ok']} of {said['records']} are Ok")
                speeds.setdefault(who, []).append(said["records"] / said["seconds"])
        speeds = {who: statistics.median(all) / 1000 for who, all in speeds.items()}
        ours = speeds.pop("weir")
        for who, times in (("python", 20), ("node", 3)):
            if who in speeds:
                bench.add(f"transform, {sum(map(len, rows)) // 500} B JSON, beside {who}", ours, "k records/s/core", (">", times, "ratio"), {who: speeds[who]})


def aggregates(bench):
    from aws_kinesis_agg.aggregator import RecordAggregator

    logs = subprocess.run([f"{bench.DEBUG}/weir", "generate", "page_logs", "--rows", "100000", "--format", "ndjson"], capture_output=True, check=True).stdout.splitlines()
    aggregator, path = RecordAggregator(51_200), f"{bench.FOLDER}/aggregates.bin"
    with open(path, "wb") as out:
        def keep(full):
            data = full.get_contents()[2]
            out.write(len(data).to_bytes(4, "big") + data)
        for number, row in enumerate(logs):
            full = aggregator.add_user_record(str(number % 100), row)
            if full is not None:
                keep(full)
        keep(aggregator.clear_and_get())
    core = ("taskset", "-c", str(bench.CORES[-1]))
    ours, peer = bench.run(*core, f"{bench.RELEASE}/bench-kpl", path), bench.run(*core, sys.executable, f"{PEERS}/kpl.py", path)
    if ours["records"] != peer["records"] or not ours["same_size"]:
        sys.exit(f"aggregates: {ours} and {peer}")
    for way, name, target in (("open", "KPL de-aggregation", (">", 1, "value")), ("make", "KPL aggregation", None)):
        bench.add(name, ours[f"{way}_bytes_per_s"] / 1e9, "GB/s/core", target, {"aws_kinesis_agg": peer[f"{way}_bytes_per_s"] / 1e9})


def cleaning(bench):
    """Rows a second a core, 1 % of them bad, beside DuckDB and Polars; after the outputs were found the same."""
    for dataset, form, rows in (("page_logs", "ndjson", 2_000_000), ("trips", "csv", 1_000_000)):
        source = f"{bench.FOLDER}/{dataset}-{rows}-week.{form}"
        if not os.path.exists(source):
            with open(f"{source}.part", "wb") as out:
                subprocess.run([f"{bench.DEBUG}/weir", "generate", dataset, "--rows", str(rows), "--format", form, "--bad", "0.01", "--days", "7"], stdout=out, check=True)
            os.rename(f"{source}.part", source)
        value = "tti" if dataset == "page_logs" else "trip_duration"
        times, peaks, facts = {}, {}, set()
        for _ in range(3):
            for who in ("weir", "duckdb", "polars"):
                out = f"{bench.FOLDER}/clean"
                shutil.rmtree(out, ignore_errors=True)
                os.makedirs(out)
                threads = str(len(bench.CORES))
                if who == "weir":
                    said = bench.run(f"{bench.RELEASE}/bench-convert", source, out, threads, dataset)
                else:
                    said = bench.run(sys.executable, f"{PEERS}/clean.py", who, dataset, source, out, threads)
                read = f"read_parquet('{out}/**/*.parquet', hive_partitioning = true)"
                found = duckdb.sql(f"SELECT count(*), sum({value})::BIGINT, count(DISTINCT event_date), min(event_date)::VARCHAR FROM {read}").fetchall()[0]
                with open(next(os.path.join(f"{out}/_quarantine", name) for name in os.listdir(f"{out}/_quarantine")), "rb") as bad:
                    facts.add((*found, sum(1 for _ in bad)))
                times.setdefault(who, []).append(said["ms"])
                peaks[who] = max(peaks.get(who, 0), said["peak_bytes"] / 1e6)
        if len(facts) != 1:
            sys.exit(f"{source}: the outputs differ: {facts}")
        speeds = {who: rows / statistics.median(all) / len(bench.CORES) for who, all in times.items()}
        ours, peak = speeds.pop("weir"), peaks.pop("weir")
        bench.add(f"clean {dataset}, {os.path.getsize(source) / 1e6:,.0f} MB {form}", ours, "k rows/s/core", (">", 1.5, "ratio"), speeds)
        bench.add(f"clean {dataset}, bytes of {form.upper()}", ours * os.path.getsize(source) / rows / 1e3, "MB/s/core", None)
        bench.results.append({"name": f"clean {dataset}, peak memory", "value": round(peak), "unit": "MB", "peers": {k: round(v) for k, v in peaks.items()},
                              "ratio": round(peak / min(peaks.values()), 2), "target": None, "met": None})


def produce(bench):
    """To the local stream, whose other end is Python on the same cores; ten million rows for the memory."""
    stream = "weir-bench"
    subprocess.run(["aws", "kinesis", "create-stream", "--stream-name", stream, "--shard-count", "4"], check=True)
    try:
        for rows in (500_000, 10_000_000):
            with subprocess.Popen([f"{bench.DEBUG}/weir", "generate", "trips", "--rows", str(rows), "--format", "ndjson"], stdout=subprocess.PIPE) as source:
                command = [f"{bench.DEBUG}/weir", "produce", "-", "--stream", stream, "--compress", "zstd", "--json"]
                with subprocess.Popen(command, stdin=source.stdout, stdout=subprocess.PIPE) as sender:
                    peak = 0
                    while True:
                        try:
                            said, _ = sender.communicate(timeout=0.5)
                            break
                        except subprocess.TimeoutExpired:
                            with open(f"/proc/{sender.pid}/status", encoding="utf-8") as status:
                                peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
            said = json.loads(said)
            if said["rows"] != rows or said["failed"]:
                sys.exit(f"produce: {said}")
            bench.add(f"produce, {rows:,} rows", said["rows_per_second"] / 1000, "k rows/s", None)
            bench.add(f"produce, {rows:,} rows of JSON", said["bytes_per_second"] / 1e6, "MB/s", None)
            bench.add(f"produce, {rows:,} rows, peak memory", peak, "MB", None)
    finally:
        subprocess.run(["aws", "kinesis", "delete-stream", "--stream-name", stream], check=False)
