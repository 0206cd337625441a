"""One run of the Glue job: what its manifest says, once.

The first act is to take the run's token in the ledger: a second run with the same token ends before it writes anything. What is
written lies under the run's own name, and what an earlier start left there and this one did not write is removed at the end, so
a run that is started again replaces itself. The last act is the result file, from which the orchestrator learns what came of it.

Spark spreads the work; each task reads and writes S3 itself, by the same Rust code as the Lambdas (`weir_batch.Aws`).
"""

import argparse
import json
import os
import sys
import time
from functools import cache

import boto3
import pyarrow as pa
from pyspark.sql import SparkSession

from weir_batch import Aws

# Some of a job's objects, for one task: larger is fewer files, smaller is more tasks at a time.
LEAST_PART_BYTES = 32 << 20
MOST_PART_BYTES = 512 << 20
MOST_PART_OBJECTS = 1_000
# One task adds up the metrics of about so much input.
BUCKET_BYTES = 16 << 30
# How long the ledger remembers who had a token.
REMEMBERED_SECONDS = 90 * 86_400


class Failed(Exception):
    """Why a run did not do its work: `fault`, `advice`, `code`, `reason`, as the ledger keeps them."""

    def __init__(self, failure):
        super().__init__(failure["reason"])
        self.failure = failure

    @classmethod
    def user(cls, code, reason):
        return cls({"fault": "user", "advice": "never", "code": code, "reason": reason})

    @classmethod
    def of(cls, error):
        """What Rust raised is JSON, at the end of whatever Spark wrapped it in."""
        if isinstance(error, cls):
            return error
        text = str(error)
        for line in text.splitlines():
            at = line.find('{"fault":')
            if at >= 0:
                try:
                    return cls(json.JSONDecoder().raw_decode(line[at:])[0])
                except ValueError:
                    continue
        return cls({"fault": "internal", "advice": "retry", "code": type(error).__name__, "reason": text[:2000]})


@cache
def connected(region):
    """S3 for this process."""
    session = boto3.Session(region_name=region)

    def credentials():
        frozen = session.get_credentials().get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return Aws(credentials, region, endpoint)


def split_uri(uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def take_token(region, table, token, glue_run):
    """Whether this run is the one that may work."""
    dynamodb = boto3.client("dynamodb", region_name=region)
    try:
        dynamodb.update_item(
            TableName=table,
            Key={"pk": {"S": f"token#{token}"}},
            UpdateExpression="SET run_id = :me, expires_s = :expires",
            ConditionExpression="attribute_not_exists(run_id) OR run_id = :me",
            ExpressionAttributeValues={
                ":me": {"S": glue_run},
                ":expires": {"N": str(int(time.time()) + REMEMBERED_SECONDS)},
            },
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True


def parts_of(objects, tasks):
    """Objects in parts of about the same size, in their order."""
    if not objects:
        return []
    total = sum(one["size"] for one in objects)
    share = min(max(total // (2 * tasks), LEAST_PART_BYTES), MOST_PART_BYTES)
    parts, size = [], share
    for one in objects:
        if size >= share or len(parts[-1]) >= MOST_PART_OBJECTS:
            parts.append([])
            size = 0
        parts[-1].append(one)
        size += one["size"]
    return parts


PART_ROWS = pa.schema([("number", pa.int32()), ("answer", pa.string()), ("bucket", pa.int32()), ("part", pa.binary())])
ANSWERS = pa.schema([("answer", pa.string())])


def orders_in(batches):
    for batch in batches:
        yield from batch.column(0).to_pylist()


def making_parts(region):
    """A row that says what came of a part, and a row a bucket of its metrics."""

    def make_parts(batches):
        for text in orders_in(batches):
            answer, buckets = connected(region).part(text)
            number = json.loads(text)["number"]
            rows = [{"number": number, "answer": answer}]
            rows += [{"number": number, "bucket": at, "part": part} for at, part in enumerate(buckets) if part]
            yield pa.RecordBatch.from_pylist(rows, schema=PART_ROWS)

    return make_parts


def doing(verb, region):
    """Copies or converts; a row that says what came of it."""

    def do(batches):
        for text in orders_in(batches):
            answer = getattr(connected(region), verb)(text)
            yield pa.RecordBatch.from_pylist([{"answer": answer}], schema=ANSWERS)

    return do


def adding_up(order, region):
    def add_up(batches):
        buckets = {}
        for batch in batches:
            for row in batch.to_pylist():
                buckets.setdefault(row["bucket"], []).append((row["number"], row["part"]))
        for bucket, parts in buckets.items():
            # In the order of the input: sums of floats depend on it.
            ordered = [part for _, part in sorted(parts)]
            answer = connected(region).add_up(json.dumps({**order, "bucket": bucket}), ordered)
            yield pa.RecordBatch.from_pylist([{"answer": answer}], schema=ANSWERS)

    return add_up


class Run:
    """A manifest being worked on."""

    def __init__(self, spark, manifest, region):
        self.spark = spark
        self.region = region
        self.manifest = manifest
        self.command = json.loads(manifest["command"])
        self.verb = self.command["command"]
        self.output = manifest["output"]
        self.threads = int(spark.conf.get("spark.task.cpus", "1"))
        objects = manifest.get("objects")
        if objects is None:
            objects = json.loads(connected(region).list(self.command["source"], self.verb != "copy"))
            if not objects:
                raise Failed.user("NoSuchKey", f"there is nothing under {self.command['source']}")
        # Instead of a list of files, the files: `committed`.
        self.objects = [one for one in objects if not one.get("is_list")]
        self.committed = manifest.get("committed", [])

    def tasks(self, orders, work, schema):
        """Does each order in a task of its own."""
        rows = self.spark.sparkContext.parallelize([(json.dumps(order),) for order in orders], max(1, len(orders)))
        return self.spark.createDataFrame(rows, "`order` string").mapInArrow(work, schema)

    def work(self):
        """Does it; what the result file says."""
        if self.verb == "copy":
            return self.copy()
        if self.verb == "convert":
            return self.convert()
        return self.clean()

    def copy(self):
        parts = parts_of(self.objects, self.spark.sparkContext.defaultParallelism)
        orders = [self.order(part) for part in parts]
        reports = [json.loads(row.answer) for row in self.tasks(orders, doing("copy", self.region), "answer string").collect()]
        total = {name: sum(report[name] for report in reports) for name in ("objects", "files", "bytes_in", "bytes_out")}
        return {**total, "output": self.command["dest"], "own": None}

    def convert(self):
        # Whole in one task: the types of one schema are found while reading, and a later file may widen them.
        [row] = self.tasks([self.order(self.objects)], doing("convert", self.region), "answer string").collect()
        return {**json.loads(row.answer), "own": None}

    def order(self, objects):
        return {
            "command": self.manifest["command"],
            "objects": objects,
            "output": self.output,
            "threads": self.threads,
        }

    def clean(self):
        manifest, total_bytes = self.manifest, sum(one["size"] for one in self.objects + self.committed)
        metrics, sums = manifest.get("metrics"), manifest.get("sums")
        buckets = 1 + total_bytes // BUCKET_BYTES
        common = {
            "dataset": self.command["dataset"],
            "output": self.output,
            "rows": self.verb == "clean",
            "by_day": sums is not None,
            "buckets": buckets,
            "now_micros": manifest["now_micros"],
            "threads": self.threads,
            "put_aside": manifest["put_aside"],
        }
        at_a_time = self.spark.sparkContext.defaultParallelism
        parts = [{"objects": part} for part in parts_of(self.objects, at_a_time)]
        # Their rows are in a table, and are added up only.
        parts += [{"objects": part, "rows": False} for part in parts_of(self.committed, at_a_time)]
        orders = [{**common, **part, "number": number} for number, part in enumerate(parts)]
        schema = "number int, answer string, bucket int, part binary"
        made = self.tasks(orders, making_parts(self.region), schema).persist()
        answers = [json.loads(row.answer) for row in made.where("answer is not null").sort("number").collect()]
        result = self.summary(answers)
        if metrics is not None:
            order = {"dataset": common["dataset"], "by_day": common["by_day"], "metrics": metrics, "sums": sums}
            measured = made.where("bucket is not null").repartition(buckets, "bucket")
            added = [json.loads(row.answer) for row in measured.mapInArrow(adding_up(order, self.region), "answer string").collect()]
            groups = sum(one["groups"] for one in added)
            result["own"] += [file for one in added for file in one["files"]]
            result["files"] += sum(len(one["files"]) for one in added)
            result["bytes_out"] += sum(one["bytes"] for one in added)
            result.update(groups=groups, metrics=metrics, sums=sums)
            if self.verb == "aggregate":
                result["rows"] = groups
        return result

    def summary(self, answers):
        def total(name):
            return sum(answer[name] for answer in answers)

        notes = [note for answer in answers for note in answer["notes"]]
        refused = [one for answer in answers for one in answer["refused"]]
        quarantines = [answer["quarantine"] for answer in answers if answer["quarantine"]]
        rows, dropped, quarantined = total("rows"), total("dropped"), total("quarantined")
        first_bad = next((answer["first_bad"] for answer in answers if answer["first_bad"]), None)
        # A command that finds not one good row was given the wrong file; what lands for a dataset is put aside.
        if not self.manifest["put_aside"] and rows + dropped == 0:
            if quarantined:
                reason = f"no row could be read: {quarantined} were bad; the first: {first_bad}"
                raise Failed.user("UnreadableData", reason)
            raise Failed.user("UnreadableData", f"nothing to clean: {next(iter(notes), 'there is no row')}")
        broken = {}
        for answer in answers:
            for kind, count in answer["broken"]:
                broken[kind] = broken.get(kind, 0) + count
        kinds = sorted(broken.items(), key=lambda one: -one[1])[:10]
        notes += [f"bad rows: {count} where {kind}" for kind, count in kinds]
        if first_bad:
            notes.append(f"the first row put aside: {first_bad}")
        return {
            "output": self.output,
            "objects": len(self.objects) + len(self.committed),
            "files": sum(len(answer["files"]) for answer in answers) - len(quarantines),
            "bytes_in": total("bytes_in"),
            "bytes_out": total("bytes_out"),
            "rows": rows,
            "dropped": dropped,
            "quarantined": quarantined,
            "quarantine": f"{self.output}_quarantine/" if quarantines else None,
            "refused": refused,
            "notes": notes,
            "own": [file for answer in answers for file in answer["files"]],
        }


def places_of(manifest):
    """Where a run writes files of its own; a copy writes among others' and removes nothing."""
    if json.loads(manifest["command"])["command"] == "copy":
        return []
    return [manifest[name] for name in ("output", "metrics", "sums") if manifest.get(name)]


def remove_others(manifest, own, region):
    for place in places_of(manifest):
        connected(region).remove_others(place, own)


def work(manifest, region):
    spark = SparkSession.builder.appName(manifest["run"]).getOrCreate()
    # An order is a task, whatever its rows weigh.
    spark.conf.set("spark.sql.adaptive.enabled", "false")
    result = Run(spark, manifest, region).work()
    own = result.pop("own")
    if own is not None:
        remove_others(manifest, own, region)
    return result


def main(argv=None):
    parser = argparse.ArgumentParser(description="A run of Weir's Glue job.")
    parser.add_argument("--manifest", required=True, help="s3:// place of the run's manifest")
    parser.add_argument("--token", required=True, help="the start's token")
    parser.add_argument("--ledger_table", required=True, help="DynamoDB table of the ledger")
    parser.add_argument("--JOB_RUN_ID", required=True, help="Glue's id of this run")
    parser.add_argument("--region", required=True, help="where the stack is")
    arguments, _ = parser.parse_known_args(argv)
    region = arguments.region
    begun = time.monotonic()
    if not take_token(region, arguments.ledger_table, arguments.token, arguments.JOB_RUN_ID):
        print(f"another run has the token {arguments.token}: nothing to do")
        return 0
    s3 = boto3.client("s3", region_name=region)
    bucket, key = split_uri(arguments.manifest)
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    result, failed = {}, None
    try:
        result = work(manifest, region)
    except Exception as error:
        failed = Failed.of(error)
        result = {"failure": failed.failure}
        try:
            # Of a run that is not done, nothing is to be seen.
            remove_others(manifest, [], region)
        except Exception as error:  # The next start removes it.
            print(f"what was written could not be removed: {error}", file=sys.stderr)
    result |= {"run": manifest["run"], "token": arguments.token, "glue_run": arguments.JOB_RUN_ID}
    result["ms"] = int((time.monotonic() - begun) * 1000)
    bucket, key = split_uri(manifest["result"])
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(result).encode(), ContentType="application/json")
    if failed:
        # The last line is what Glue shows as the run's error.
        print(f"{failed.failure['code']}: {failed.failure['reason']}", file=sys.stderr)
        return 1
    return 0
