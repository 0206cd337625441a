"""What DuckDB, an independent reader, finds under S3 places: for tests.

`rows.py rows PLACE [WITHOUT ...]`: the columns of the Parquet files there, then their rows, sorted, a line each; without some
columns. The folders between PLACE and the files (`event_date=...`) are columns as well.

`rows.py pages PLACE`: of page logs, there or in a local file, as raw NDJSON, what the metrics must be: `page events sum(TTI) sum(TTAR)`, computed here in
SQL, from what datasets/page_logs.toml says in words.

`rows.py sums PLACE`: of page logs' sums by run, what a warehouse must have: `run groups sum(TTI) sum(TTAR) events` a run, then
`page events avg(TTI) avg(TTAR)` over all runs.

`rows.py summed PLACE RUN ...`: of those sums, `page events sum(TTI) sum(TTAR)` over some runs.

`rows.py offsets TABLE PLACE LETTERS FILE`: of page logs that came by Kafka, `partition first last count distinct` of the offsets in TABLE
(`database.table`, where the catalog has its partitions), its quarantine under PLACE and the dead letters together, a line a partition;
and whether the table has the good rows of FILE, the NDJSON that was sent, computed from both in SQL.

`rows.py counted TABLE`: the rows that a reader by the catalog finds, and how many distinct offsets they are from; how many files.
"""

import concurrent.futures
import glob
import os
import sys
import tempfile

import boto3
import botocore.config
import duckdb


def fetch(place, folder, ends, quarantine=False):
    """What is under a place and has such an end; what is in a quarantine if that is asked for, and not otherwise."""
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    s3 = boto3.client("s3", config=botocore.config.Config(max_pool_connections=16))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    relative = [found["Key"][len(prefix) :] for page in pages for found in page.get("Contents", [])]
    wanted = [name for name in relative if name.endswith(ends) and ("_quarantine/" in name) == quarantine]
    for parent in {os.path.dirname(f"{folder}/{name}") for name in wanted}:
        os.makedirs(parent, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: s3.download_file(bucket, prefix + name, f"{folder}/{name}"), wanted))


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


def metrics_of(files):
    names = ("event_timestamp", "session_id", "page_url", "TTI", "TTAR")
    columns = ", ".join(f"{name}: 'VARCHAR'" for name in names)
    return f"""
        SELECT regexp_replace(trim(page_url), '[?#].*', '') AS page, count(*), sum(TTI), sum(TTAR)
        FROM (
            SELECT * REPLACE (try_cast(TTI AS BIGINT) AS TTI, try_cast(TTAR AS BIGINT) AS TTAR,
                              try_cast(event_timestamp AS TIMESTAMPTZ) AS event_timestamp)
            FROM read_json('{files}', format = 'newline_delimited', columns = {{{columns}}}))
        WHERE event_timestamp IS NOT NULL AND trim(session_id) <> '' AND regexp_replace(trim(page_url), '[?#].*', '') <> ''
          AND TTI BETWEEN 0 AND 3600000 AND TTAR BETWEEN 0 AND 3600000
        GROUP BY page ORDER BY page"""


def pages(place):
    with tempfile.TemporaryDirectory() as folder:
        files = place
        if place.startswith("s3://"):
            fetch(place, folder, ".json")
            files = f"{folder}/**/*.json"
        for row in duckdb.sql(metrics_of(files)).fetchall():
            print(*row)


def summed(place, *runs):
    with tempfile.TemporaryDirectory() as folder:
        fetch(place, folder, ".parquet")
        view = f"FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true) WHERE job IN {runs + ('',)}"
        query = f"SELECT page_url, sum(event_count), sum(sum_tti), sum(sum_ttar) {view} GROUP BY 1 ORDER BY 1"
        for row in duckdb.sql(query).fetchall():
            print(*row)


def by_catalog(table, folder):
    """The files that the catalog shows: each partition's where it is."""
    database, name = table.split(".")
    pages = boto3.client("glue").get_paginator("get_partitions").paginate(DatabaseName=database, TableName=name)
    places = [partition["StorageDescriptor"]["Location"] for page in pages for partition in page["Partitions"]]
    for number, place in enumerate(places):
        fetch(place, f"{folder}/{number}", ".parquet")


def counted(table):
    with tempfile.TemporaryDirectory() as folder:
        by_catalog(table, folder)
        files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = false)"
        print(*duckdb.sql(f"SELECT count(*), count(DISTINCT (_topic, _partition, _offset)) FROM {files}").fetchall()[0])
        print(len(glob.glob(f"{folder}/**/*.parquet", recursive=True)))


def offsets(table, place, letters, file):
    with tempfile.TemporaryDirectory() as folder:
        by_catalog(table, f"{folder}/table")
        fetch(place, f"{folder}/aside/rows", ".ndjson", quarantine=True)
        fetch(letters, f"{folder}/aside/letters", ".ndjson")
        aside = glob.glob(f"{folder}/aside/**/*.ndjson", recursive=True)
        columns = "columns = {'partition': 'INTEGER', 'offset': 'BIGINT'}"
        put_aside = f"UNION ALL SELECT partition, \"offset\" FROM read_json({aside}, format = 'newline_delimited', {columns})" if aside else ""
        table = f"read_parquet('{folder}/table/**/*.parquet', hive_partitioning = false)"
        query = f"""
            SELECT p, min(o), max(o), count(*), count(DISTINCT o)
            FROM (SELECT _partition AS p, _offset AS o FROM {table} {put_aside}) GROUP BY p ORDER BY p"""
        for row in duckdb.sql(query).fetchall():
            print(*row)
        found = duckdb.sql(f"SELECT page_url, count(*), sum(tti), sum(ttar) FROM {table} GROUP BY 1 ORDER BY 1").fetchall()
        expected = duckdb.sql(metrics_of(file)).fetchall()
        print("the same rows" if found == expected else f"other rows: {found} instead of {expected}")


def sums(place):
    with tempfile.TemporaryDirectory() as folder:
        fetch(place, folder, ".parquet")
        if not os.listdir(folder):
            return
        duckdb.sql(f"CREATE VIEW sums AS FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
        for row in duckdb.sql("SELECT job, count(*), sum(sum_tti), sum(sum_ttar), sum(event_count) FROM sums GROUP BY 1 ORDER BY 1").fetchall():
            print(*row)
        means = "sum(sum_tti)::DOUBLE / sum(count_tti), sum(sum_ttar)::DOUBLE / sum(count_ttar)"
        for row in duckdb.sql(f"SELECT page_url, sum(event_count), {means} FROM sums GROUP BY 1 ORDER BY 1").fetchall():
            print(*row)


VERBS = {"rows": lambda place, *without: rows(place, without), "pages": pages, "sums": sums, "summed": summed, "offsets": offsets, "counted": counted}
VERBS[sys.argv[1]](*sys.argv[2:])
