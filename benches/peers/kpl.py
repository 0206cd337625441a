"""awslabs' aggregation library over the same aggregates as bench-kpl: `kpl.py FILE`."""

import base64
import json
import sys
import time

from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records

with open(sys.argv[1], "rb") as file:
    content = file.read()
aggregates, at = [], 0
while at < len(content):
    length = int.from_bytes(content[at:at + 4], "big")
    aggregates.append(content[at + 4:at + 4 + length])
    at += 4 + length
total = sum(map(len, aggregates))
# As Lambda hands it on.
records = [{"kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "p", "sequenceNumber": "1", "data": base64.b64encode(one).decode(),
                        "approximateArrivalTimestamp": 1.0}, "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "s:1",
            "eventName": "aws:kinesis:record", "invokeIdentityArn": "a", "awsRegion": "r", "eventSourceARN": "a"} for one in aggregates]
begun = time.perf_counter()
users = deaggregate_records(records)
opening = time.perf_counter() - begun
payloads = [base64.b64decode(user["kinesis"]["data"]) for user in users]
begun, made = time.perf_counter(), 0
aggregator = RecordAggregator(51_200)
for number, payload in enumerate(payloads):
    full = aggregator.add_user_record(str(number % 100), payload)
    if full is not None:
        made += len(full.get_contents()[2])
made += len(aggregator.clear_and_get().get_contents()[2])
making = time.perf_counter() - begun
print(json.dumps({"records": len(users), "open_bytes_per_s": total / opening, "make_bytes_per_s": made / making}))
