"""awslabs' aggregation library, a line each way: what it reads of our aggregate, and its own aggregate of the records."""

import base64
import json
import sys

from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records

for line in sys.stdin:
    batch = json.loads(line)
    kinesis = {"kinesisSchemaVersion": "1.0", "partitionKey": "p", "sequenceNumber": "1", "data": batch["ours"], "approximateArrivalTimestamp": 1.0}
    record = {"kinesis": kinesis, "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "s:1", "eventName": "aws:kinesis:record",
              "invokeIdentityArn": "a", "awsRegion": "r", "eventSourceARN": "a"}
    read = [[user["kinesis"]["partitionKey"], user["kinesis"].get("explicitHashKey"), base64.b64encode(base64.b64decode(user["kinesis"]["data"])).decode()]
            for user in deaggregate_records([record])]
    aggregator = RecordAggregator()
    for key, hash_key, data in batch["records"]:
        if aggregator.add_user_record(key, base64.b64decode(data), hash_key) is not None:
            sys.exit("the batch is larger than one aggregate")
    theirs = aggregator.clear_and_get().get_contents()[2]
    print(json.dumps({"read": read, "theirs": base64.b64encode(theirs).decode()}))
