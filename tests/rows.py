"""What DuckDB, an independent reader, finds under S3 places: for tests.

`rows.py rows PLACE [WITHOUT ...]`: the columns of the Parquet files there, then their rows, sorted, a line each; without some
columns. The folders between PLACE and the files (`event_date=...`) are columns as well.

`rows.py pages PLACE`: of page logs as raw NDJSON, what the metrics must be: `page events sum(TTI) sum(TTAR)`, computed here in
SQL, from what datasets/page_logs.toml says in words.

`rows.py sums PLACE`: of page logs' sums by run, what a warehouse must have: `run groups sum(TTI) sum(TTAR) events` a run, then
`page events avg(TTI) avg(TTAR)` over all runs.
"""

import os
import sys
import tempfile

import boto3
import duckdb


def fetch(place, folder, ends):
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    s3 = boto3.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            relative = found["Key"][len(prefix) :]
            if relative.endswith(ends) and "_quarantine/" not in relative:
                path = os.path.join(folder, relative)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                s3.download_file(bucket, found["Key"], path)


def rows(place, without):
    with tempfile.TemporaryDirectory() as folder:
        fetch(place, folder, ".parquet")
        exclude = f"EXCLUDE ({', '.join(without)})" if without else ""
        # Only the folders below PLACE are columns.
        source = f"SELECT * {exclude} FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true, union_by_name = true)"
        database = duckdb.connect()
        database.execute("SET TimeZone = 'UTC'")
        found = database.sql(source)
        print(", ".join(f"{name} {kind}" for name, kind in zip(found.columns, found.types)))
        for line in sorted(repr(row) for row in found.fetchall()):
            print(line)


def pages(place):
    with tempfile.TemporaryDirectory() as folder:
        fetch(place, folder, ".json")
        query = f"""
            SELECT regexp_replace(trim(page_url), '[?#].*', '') AS page, count(*), sum(TTI), sum(TTAR)
            FROM read_json('{folder}/**/*.json', format = 'newline_delimited', columns = {{
                event_timestamp: 'VARCHAR', session_id: 'VARCHAR', page_url: 'VARCHAR', TTI: 'BIGINT', TTAR: 'BIGINT'}})
            WHERE event_timestamp IS NOT NULL AND trim(session_id) <> '' AND trim(page_url) <> ''
              AND TTI BETWEEN 0 AND 3600000 AND TTAR BETWEEN 0 AND 3600000
            GROUP BY page ORDER BY page"""
        for row in duckdb.sql(query).fetchall():
            print(*row)


def sums(place):
    with tempfile.TemporaryDirectory() as folder:
        fetch(place, folder, ".parquet")
        duckdb.sql(f"CREATE VIEW sums AS FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
        for row in duckdb.sql("SELECT job, count(*), sum(sum_tti), sum(sum_ttar), sum(event_count) FROM sums GROUP BY 1 ORDER BY 1").fetchall():
            print(*row)
        means = "sum(sum_tti)::DOUBLE / sum(count_tti), sum(sum_ttar)::DOUBLE / sum(count_ttar)"
        for row in duckdb.sql(f"SELECT page_url, sum(event_count), {means} FROM sums GROUP BY 1 ORDER BY 1").fetchall():
            print(*row)


{"rows": lambda: rows(sys.argv[2], sys.argv[3:]), "pages": lambda: pages(sys.argv[2]), "sums": lambda: sums(sys.argv[2])}[sys.argv[1]]()
