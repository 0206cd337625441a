"""Cleaning as the contracts do it, by DuckDB or Polars: `clean.py duckdb|polars page_logs|trips SOURCE FOLDER THREADS`.

Good rows become Parquet by event date (and hour), bad rows NDJSON beside it, as they came.
"""

import json
import os
import sys

who, dataset, source, out, threads = sys.argv[1:]
os.environ["POLARS_MAX_THREADS"] = threads
import time

LOGS = ["event_timestamp", "session_id", "page_url", "user_id", "TTI", "TTAR"]
TRIPS = ["id", "vendorId", "pickupDate", "dropoffDate", "passengerCount", "pickupLongitude", "pickupLatitude", "dropoffLongitude",
         "dropoffLatitude", "storeAndFwdFlag", "gcDistance", "tripDuration", "googleDistance", "googleDuration", "source"]


def by_duckdb():
    import duckdb

    db = duckdb.connect()
    db.execute(f"SET threads = {threads}")
    db.execute("SET preserve_insertion_order = false")
    if dataset == "page_logs":
        columns = ", ".join(f"{name}: 'VARCHAR'" for name in LOGS)
        read = f"read_json('{source}', format = 'newline_delimited', columns = {{{columns}}})"
        select = """try_cast(raw_event_timestamp AS TIMESTAMP) AS event_timestamp, nullif(trim(raw_session_id), '') AS session_id,
            nullif(split_part(split_part(trim(raw_page_url), '?', 1), '#', 1), '') AS page_url, trim(raw_user_id) AS user_id, try_cast(trim(raw_TTI) AS BIGINT) AS tti,
            try_cast(trim(raw_TTAR) AS BIGINT) AS ttar, tti / 1000 AS tti_seconds, ttar / 1000 AS ttar_seconds, now() AS processing_timestamp"""
        good = """event_timestamp IS NOT NULL AND session_id IS NOT NULL AND page_url IS NOT NULL AND NOT regexp_matches(page_url, '[\\x00-\\x20]')
            AND tti BETWEEN 0 AND 3600000 AND ttar BETWEEN 0 AND 3600000"""
        keys, dates, raw = "event_date", "event_timestamp::DATE AS event_date", LOGS
    else:
        columns = ", ".join(f"'{name}': 'VARCHAR'" for name in TRIPS)
        read = f"read_csv('{source}', header = true, columns = {{{columns}}})"

        def optional(name, kind, clean, low, high=None):
            value = f"try_cast(nullif(trim(raw_{name}), '') AS {kind})"
            bad = f"(nullif(trim(raw_{name}), '') IS NOT NULL AND ({value} IS NULL OR {value} < {low}" + (f" OR {value} > {high}))" if high is not None else "))")
            return f"{value} AS {clean}", f"NOT coalesce({bad}, false)"

        parts = [optional("passengerCount", "INTEGER", "passenger_count", 0, 9), optional("pickupLongitude", "DOUBLE", "pickup_longitude", -180, 180),
                 optional("pickupLatitude", "DOUBLE", "pickup_latitude", -90, 90), optional("dropoffLongitude", "DOUBLE", "dropoff_longitude", -180, 180),
                 optional("dropoffLatitude", "DOUBLE", "dropoff_latitude", -90, 90), optional("gcDistance", "DOUBLE", "gc_distance", 0),
                 optional("tripDuration", "BIGINT", "trip_duration", 0), optional("googleDistance", "DOUBLE", "google_distance", 0),
                 optional("googleDuration", "BIGINT", "google_duration", 0)]
        flag = "CASE upper(trim(raw_storeAndFwdFlag)) WHEN 'Y' THEN true WHEN 'N' THEN false END"
        select = ("nullif(trim(raw_id), '') AS id, try_cast(trim(raw_vendorId) AS INTEGER) AS vendor_id, try_cast(raw_pickupDate AS TIMESTAMP) AS pickup_date,"
                  " try_cast(raw_dropoffDate AS TIMESTAMP) AS dropoff_date, " + ", ".join(value for value, _ in parts)
                  + f", {flag} AS store_and_fwd_flag, lower(trim(raw_source)) AS source")
        good = ("id IS NOT NULL AND length(id) <= 64 AND vendor_id >= 0 AND pickup_date >= '2009-01-01' AND dropoff_date >= '2009-01-01' AND "
                + " AND ".join(check for _, check in parts)
                + " AND (nullif(trim(raw_storeAndFwdFlag), '') IS NULL OR store_and_fwd_flag IS NOT NULL)")
        keys, dates, raw = "event_date, pickup_hour", "pickup_date::DATE AS event_date, hour(pickup_date) AS pickup_hour", TRIPS
    # One scan: what is judged waits in memory.
    kept = ", ".join(f"{name} AS raw_{name}" for name in raw)
    hidden = ", ".join(f"raw_{name}" for name in raw)
    db.execute(f"CREATE TEMP TABLE judged AS SELECT {select}, coalesce({good}, false) AS good, {hidden} FROM (SELECT {kept} FROM {read})")
    db.execute(f"COPY (SELECT * EXCLUDE (good, {hidden}), {dates} FROM judged WHERE good) TO '{out}' (FORMAT parquet, COMPRESSION snappy, PARTITION_BY ({keys}), OVERWRITE_OR_IGNORE)")
    os.makedirs(f"{out}/_quarantine", exist_ok=True)
    db.execute(f"COPY (SELECT {hidden} FROM judged WHERE NOT good) TO '{out}/_quarantine/bad.ndjson' (FORMAT json)")


def by_polars():
    import polars as pl

    def number(name, kind, low, high=None):
        text = pl.col(name).str.strip_chars()
        text = pl.when(text == "").then(None).otherwise(text)
        value = text.cast(kind, strict=False)
        inside = value >= low if high is None else value.is_between(low, high)
        return value, text.is_null() | (value.is_not_null() & inside)

    def moment(name):
        text = pl.col(name).str.strip_chars().str.replace("T", " ", literal=True).str.strip_suffix("Z")
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")

    if dataset == "page_logs":
        rows = pl.scan_ndjson(source, schema={name: pl.String for name in LOGS})
        tti, tti_good = number("TTI", pl.Int64, 0, 3600000)
        ttar, ttar_good = number("TTAR", pl.Int64, 0, 3600000)
        url = pl.col("page_url").str.strip_chars().str.extract(r"^([^?#]*)", 1)
        session = pl.col("session_id").str.strip_chars()
        at = moment("event_timestamp")
        clean = [at.alias("event_timestamp"), session.alias("session_id"), url.alias("page_url"), pl.col("user_id").str.strip_chars().alias("user_id"), tti.alias("tti"),
                 ttar.alias("ttar"), (tti / 1000).alias("tti_seconds"), (ttar / 1000).alias("ttar_seconds"), pl.lit(time.time()).alias("processing_timestamp"),
                 at.dt.date().alias("event_date")]
        good = (at.is_not_null() & (session != "") & (url != "") & ~url.str.contains(r"[\x00-\x20]") & tti.is_not_null() & tti_good & ttar.is_not_null() & ttar_good).fill_null(False)
        keys, raw = ["event_date"], LOGS
    else:
        rows = pl.scan_csv(source, schema={name: pl.String for name in TRIPS})
        named = {"passengerCount": ("passenger_count", pl.Int32, 0, 9), "pickupLongitude": ("pickup_longitude", pl.Float64, -180, 180),
                 "pickupLatitude": ("pickup_latitude", pl.Float64, -90, 90), "dropoffLongitude": ("dropoff_longitude", pl.Float64, -180, 180),
                 "dropoffLatitude": ("dropoff_latitude", pl.Float64, -90, 90), "gcDistance": ("gc_distance", pl.Float64, 0, None),
                 "tripDuration": ("trip_duration", pl.Int64, 0, None), "googleDistance": ("google_distance", pl.Float64, 0, None), "googleDuration": ("google_duration", pl.Int64, 0, None)}
        pickup, dropoff, vendor = moment("pickupDate"), moment("dropoffDate"), pl.col("vendorId").str.strip_chars().cast(pl.Int32, strict=False)
        key, flag = pl.col("id").str.strip_chars(), pl.col("storeAndFwdFlag").str.strip_chars().str.to_uppercase()
        first = pl.datetime(2009, 1, 1)
        good = (key.str.len_chars().is_between(1, 64) & (vendor >= 0) & (pickup >= first) & (dropoff >= first) & (flag.is_null() | flag.is_in(["", "Y", "N"]))).fill_null(False)
        clean = [key.alias("id"), vendor.alias("vendor_id"), pickup.alias("pickup_date"), dropoff.alias("dropoff_date"), (flag == "Y").alias("store_and_fwd_flag"),
                 pl.col("source").str.strip_chars().str.to_lowercase().alias("source"), pickup.dt.date().alias("event_date"), pickup.dt.hour().alias("pickup_hour")]
        for name, (to, kind, low, high) in named.items():
            value, right = number(name, kind, low, high)
            clean.append(value.alias(to))
            good = good & right
        keys, raw = ["event_date", "pickup_hour"], TRIPS
    # One scan: what is judged waits in memory.
    judged = rows.select([good.alias("good")] + clean + [pl.col(name).alias(f"raw_{name}") for name in raw]).collect(engine="streaming")
    hidden = [f"raw_{name}" for name in raw]
    judged.lazy().filter(pl.col("good")).drop(["good", *hidden]).sink_parquet(pl.PartitionBy(out, key=keys, include_key=False), compression="snappy", mkdir=True)
    os.makedirs(f"{out}/_quarantine", exist_ok=True)
    judged.filter(~pl.col("good")).select(hidden).write_ndjson(f"{out}/_quarantine/bad.ndjson")


begun = time.perf_counter()
by_duckdb() if who == "duckdb" else by_polars()
ms = (time.perf_counter() - begun) * 1000
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(json.dumps({"ms": ms, "peak_bytes": peak}))
