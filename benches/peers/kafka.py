"""What a sink connector in Python does, beside `ingest`: kafka.py BROKERS TOPIC GROUP RECORDS BUCKET.

A topic of page logs to Parquet on S3 by event date, at least once: confluent-kafka (librdkafka) and pyarrow, batches of 10,000,
offsets committed after the files are there. The same rows and columns as ours, bad ones counted; no ledger. Prints its own CPU time.
"""

import datetime
import io
import json
import sys
import time
import uuid

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, TopicPartition

BATCH = 10_000
MOST_MS = 3_600_000
SCHEMA = pa.schema(
    [
        ("event_timestamp", pa.timestamp("us", "UTC")),
        ("session_id", pa.string()),
        ("page_url", pa.string()),
        ("user_id", pa.string()),
        ("tti", pa.int64()),
        ("ttar", pa.int64()),
        ("tti_seconds", pa.float64()),
        ("ttar_seconds", pa.float64()),
        ("processing_timestamp", pa.timestamp("us", "UTC")),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
    ]
)


def clean(value, now):
    row = json.loads(value)
    at = datetime.datetime.fromisoformat(row["event_timestamp"].strip())
    at = at.replace(tzinfo=datetime.timezone.utc) if at.tzinfo is None else at
    page = row["page_url"].strip().split("?", 1)[0].split("#", 1)[0]
    session, tti, ttar = row["session_id"].strip(), row["TTI"], row["TTAR"]
    if not page or not session or not 0 <= tti <= MOST_MS or not 0 <= ttar <= MOST_MS:
        raise ValueError("a rule is broken")
    return at, (at, session, page, (row.get("user_id") or "").strip() or None, tti, ttar, tti / 1000, ttar / 1000, now)


def main(brokers, topic, group, count, bucket):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    s3 = boto3.client("s3")
    done = bad = taken = 0
    begun, cpu = None, None
    while taken < count:
        messages = consumer.consume(BATCH, 0.5)
        if not messages:
            continue
        if begun is None:
            begun, cpu = time.perf_counter(), time.process_time()
        now, files, ends = datetime.datetime.now(datetime.timezone.utc), {}, {}
        for message in messages:
            taken += 1
            place = (message.topic(), message.partition(), message.offset())
            ends[place[1]] = place[2] + 1
            try:
                at, row = clean(message.value(), now)
            except (ValueError, KeyError, TypeError, AttributeError):
                bad += 1
                continue
            files.setdefault((at.date(), place[1]), []).append(row + place)
            done += 1
        for (day, partition), rows in files.items():
            table = pa.Table.from_arrays([pa.array(column, field.type) for column, field in zip(zip(*rows), SCHEMA)], schema=SCHEMA)
            out = io.BytesIO()
            pq.write_table(table, out, compression="snappy")
            key = f"bench-python/{group}/event_date={day}/{topic}-{partition}-{rows[0][-1]}-{uuid.uuid4().hex[:8]}.parquet"
            s3.put_object(Bucket=bucket, Key=key, Body=out.getvalue())
        consumer.commit(offsets=[TopicPartition(topic, partition, end) for partition, end in ends.items()], asynchronous=False)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    with open("/proc/self/status", encoding="utf-8") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
    print(json.dumps({"rows": done, "bad": bad, "seconds": seconds, "cpu_s": cpu, "peak_bytes": peak}))


main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
