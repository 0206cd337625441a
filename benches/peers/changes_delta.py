"""Changes into a table of delta-rs, on disk: ROWS FOLDER ROUNDS. Prints seconds a MERGE, this process' peak of memory, bytes of the last MERGE's files."""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.json
from deltalake import DeltaTable, write_deltalake

rows, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
at = Path(tempfile.mkdtemp(prefix="weir-bench-"))
table = pyarrow.json.read_json(rows)
write_deltalake(str(at), table.append_column("at", pyarrow.array(["00000000"] * len(table))), target_file_size=32 << 20)
del table
seconds = []
for round_ in range(rounds + 1):
    changes = pyarrow.json.read_json(f"{folder}/{round_}.ndjson")
    before = {path.name for path in at.glob("*.parquet")}
    begun = time.perf_counter()
    columns = {name: f"s.{name}" for name in ("id", "name", "gender", "time_stamp", "at")}
    merge = DeltaTable(str(at)).merge(changes, "t.id = s.id", source_alias="s", target_alias="t")
    merge = merge.when_matched_delete("s.gone").when_matched_update(columns, "s.at >= t.at").when_not_matched_insert(columns, "NOT s.gone")
    merge.execute()
    seconds.append(time.perf_counter() - begun)
    written = sum(path.stat().st_size for path in at.glob("*.parquet") if path.name not in before)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
shutil.rmtree(at)
print(json.dumps({"seconds": seconds[1:], "peak_bytes": peak, "written_bytes": written}))
