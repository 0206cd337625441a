"""The local AWS, with what it lacks.

Mappings of Kafka and of tumbling windows are kept with all they say; Kafka's are deployed disabled, and `weir-local drive-kafka` reads them.
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
from ministack.services import firehose, lambda_svc
from ministack.services.cloudformation import provisioners

KEPT = ("Topics", "SelfManagedEventSource", "SourceAccessConfigurations", "ProvisionedPollerConfig", "TumblingWindowInSeconds")
mappings = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]


def keeping(change, given):
    """What ministack's own handler leaves out of a mapping. `given`: which argument its properties are."""

    def changed(*arguments):
        identity, attributes = change(*arguments)
        mapping = lambda_svc._esms[identity]
        mapping |= {name: arguments[given][name] for name in KEPT if name in arguments[given]}
        # Numbers from parameters are texts.
        pollers = mapping.get("ProvisionedPollerConfig", {})
        pollers |= {name: int(number) for name, number in pollers.items()}
        if "TumblingWindowInSeconds" in mapping:
            mapping["TumblingWindowInSeconds"] = int(mapping["TumblingWindowInSeconds"])
        if "SelfManagedEventSource" in mapping:
            # As the API spells what CloudFormation has in its own way.
            servers = mapping["SelfManagedEventSource"]["Endpoints"].get("KafkaBootstrapServers")
            if servers:
                mapping["SelfManagedEventSource"] = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers}}
            mapping["EventSourceArn"] = ""
        return identity, attributes

    return changed


mappings["create"] = keeping(mappings["create"], 1)
mappings["update"] = keeping(mappings["update"], 2)

deliver = firehose.ingest_from_kinesis_source
reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="firehose-source")


def beside(stream_arn, records):
    # The account and the region of a request are in its context.
    reader.submit(contextvars.copy_context().run, deliver, stream_arn, list(records))


firehose.ingest_from_kinesis_source = beside
described = firehose._dest_description


def with_numbers(destination):
    """CloudFormation's numbers from parameters are texts, which no SDK takes for `BufferingHints`."""
    description = described(destination)
    for part in description.values():
        if isinstance(part, dict) and "BufferingHints" in part:
            part["BufferingHints"] = {name: int(number) for name, number in part["BufferingHints"].items()}
    return description


firehose._dest_description = with_numbers
glue.on_local_spark()
redshift.with_warehouse()
sys.exit(main())
