"""A Hudi table on disk as hudi-rs reads it: `rs.py FOLDER`, and queries on standard input, a JSON object a line: {}, {"as_of": …},
{"since": …, "until": …}. Each is answered by a line: its rows, values as texts."""

import json
import sys

import pyarrow
from hudi import HudiQueryType, HudiReadOptions, HudiTableBuilder
from texts import texts


def read(table, query):
    options = HudiReadOptions()
    if "since" in query:
        options = options.with_query_type(HudiQueryType.Incremental)
        options = options.with_start_timestamp(query["since"]).with_end_timestamp(query["until"])
    elif "as_of" in query:
        options = options.with_as_of_timestamp(query["as_of"])
    return texts(row for batch in table.read(options) for row in pyarrow.record_batch(batch).to_pylist())


table = HudiTableBuilder.from_base_uri(sys.argv[1]).build()
for line in sys.stdin:
    print(json.dumps(read(table, json.loads(line))), flush=True)
