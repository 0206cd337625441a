"""The local AWS, with what it lacks.

Glue jobs run on local Spark: glue.py beside this. Redshift's Data API runs on PostgreSQL: redshift.py.

A delivery stream reads its Kinesis stream beside PutRecords, not inside it.
ministack 1.5.33 delivers on its event loop while PutRecords waits. A transformation that calls AWS itself (ours stores dead
letters) then waits for an answer that the same loop would have to give, until it times out. On AWS, Firehose reads the
stream by itself: so here one thread delivers, in order.
"""

import contextvars
import sys
from concurrent.futures import ThreadPoolExecutor

import glue
import redshift
from ministack.app import main
from ministack.services import firehose

deliver = firehose.ingest_from_kinesis_source
reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="firehose-source")


def beside(stream_arn, records):
    # The account and the region of a request are in its context.
    reader.submit(contextvars.copy_context().run, deliver, stream_arn, list(records))


firehose.ingest_from_kinesis_source = beside
glue.on_local_spark()
redshift.with_warehouse()
sys.exit(main())
