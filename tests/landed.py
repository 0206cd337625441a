"""What lies under a prefix as Parquet, read by DuckDB: `landed.py BUCKET PREFIX` prints rows, distinct ids, a sum, as JSON."""

import json
import os
import sys
import tempfile

import boto3
import duckdb

bucket, prefix = sys.argv[1:]
s3 = boto3.client("s3")
with tempfile.TemporaryDirectory() as folder:
    count = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for object in page.get("Contents", []):
            count += 1
            s3.download_file(bucket, object["Key"], os.path.join(folder, f"{count}.parquet"))
    found = {"files": count, "rows": 0, "ids": 0, "duration": 0}
    if count:
        rows = duckdb.sql(f"SELECT count(*), count(DISTINCT id), sum(trip_duration)::BIGINT FROM '{folder}/*.parquet' WHERE id LIKE '{os.environ['RUN']}%'")
        found["rows"], found["ids"], found["duration"] = (value or 0 for value in rows.fetchall()[0])
print(json.dumps(found))
