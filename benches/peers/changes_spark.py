"""Changes into a Hudi table by Spark local[2] with Hudi 0.15.0, on disk: ROWS FOLDER ROUNDS. Prints seconds an upsert and a delete, the JVM's peak of memory,
bytes of the last round's files. Indexed by buckets, which is Spark's fastest here; 8 of them, as ours."""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "tests/hudi"))
from spark import SHARED, session  # noqa: E402

rows, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
spark = session("0.15.0")
at = Path(tempfile.mkdtemp(prefix="weir-bench-"))
options = SHARED | {
    "hoodie.table.name": "customers",
    "hoodie.datasource.write.recordkey.field": "id",
    "hoodie.datasource.write.precombine.field": "at",
    "hoodie.datasource.write.keygenerator.class": "org.apache.hudi.keygen.NonpartitionedKeyGenerator",
    "hoodie.index.type": "BUCKET",
    "hoodie.bucket.index.num.buckets": "8",
    "hoodie.upsert.shuffle.parallelism": "2",
    "hoodie.delete.shuffle.parallelism": "2",
}
schema = "id long, name string, gender string, time_stamp timestamp, at string"


def write(frame, operation, mode):
    frame.write.format("hudi").options(**options).option("hoodie.datasource.write.operation", operation).mode(mode).save(str(at))


write(spark.read.schema(schema).json(rows).fillna({"at": "00000000"}), "upsert", "overwrite")
seconds = []
for round_ in range(rounds + 1):
    before = {path for path in at.rglob("*.parquet")}
    begun = time.perf_counter()
    changes = spark.read.schema(f"{schema}, gone boolean").json(f"{folder}/{round_}.ndjson").cache()
    # One upsert, of rows and deletes, as Hudi's own streamer does it.
    write(changes.withColumnRenamed("gone", "_hoodie_is_deleted"), "upsert", "append")
    seconds.append(time.perf_counter() - begun)
    written = sum(path.stat().st_size for path in at.rglob("*.parquet") if path not in before)
jvm = spark._jvm.java.lang.ProcessHandle.current().pid()
peak = next(int(line.split()[1]) for line in open(f"/proc/{jvm}/status") if line.startswith("VmHWM")) * 1024
spark.stop()
shutil.rmtree(at)
told.write(json.dumps({"seconds": seconds[1:], "peak_bytes": peak, "written_bytes": written}) + "\n")
told.flush()
