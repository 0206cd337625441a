"""A PostgreSQL of one's own whose changes go onto the local Kinesis as AWS DMS puts them there: a development relay.

It reads PostgreSQL's own logical replication (plugin pgoutput) and writes what DMS' user guide shows of "Using Amazon Kinesis Data
Streams as a target", with IncludeTransactionDetails, IncludeControlDetails, IncludeTableAlterOperations and IncludeNullAndEmpty, as
template.yaml sets them. First the rows that are there (`load`), then changes. It is not DMS: what DMS does about large values, errors
and restarts is not here.

    python local/relay.py [--stream weir-changes]      until it is stopped; target/local/psql is a client
"""

import argparse
import datetime
import json
import os
import select
import struct
import threading
import time
from pathlib import Path

import boto3
import psycopg2
from postgres import Postgres
from psycopg2.extras import LogicalReplicationConnection

# PostgreSQL's types as DMS calls them (DMS user guide, "Source data types for PostgreSQL").
KINDS = {
    16: "BOOLEAN", 21: "INT2", 23: "INT4", 20: "INT8", 700: "REAL4", 701: "REAL8", 1700: "NUMERIC", 1082: "DATE", 1083: "TIME",
    1114: "DATETIME", 1184: "DATETIME", 17: "BYTES", 25: "NCLOB", 114: "NCLOB", 3802: "NCLOB",
}
NUMBERS = (21, 23, 20, 700, 701, 1700)
EPOCH = datetime.datetime(2000, 1, 1)
# Of one request (Kinesis API reference, PutRecords).
MOST_RECORDS, MOST_BYTES = 500, 4 << 20


def value(oid, text):
    """A value's JSON, as DMS writes it."""
    if text is None:
        return "null"
    if oid == 16:
        return "true" if text in ("t", "true") else "false"
    if oid in NUMBERS and text not in ("NaN", "Infinity", "-Infinity"):
        return text
    if oid in (1114, 1184):
        text = text.replace(" ", "T").removesuffix("+00") + "Z"
    return json.dumps(text)


class Relay(threading.Thread):
    """Reads a slot, and puts its changes onto a stream, in order."""

    def __init__(self, postgres, database, stream):
        super().__init__(daemon=True)
        self.postgres, self.database, self.stream = postgres, database, stream
        self.kinesis = boto3.client("kinesis")
        self.plain = postgres.connect(database)
        self.plain.autocommit = True
        self.run_sql("SET timezone TO 'UTC'")
        self.run_sql("CREATE PUBLICATION weir FOR ALL TABLES")
        self.relations, self.columns = {}, {}
        self.waiting, self.bytes = [], 0
        self.sent_lsn = self.end_lsn = 0
        self.failed, self.reading = None, threading.Event()

    def run_sql(self, statement, arguments=()):
        with self.plain.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def run(self):
        try:
            self.relay()
        except Exception as error:  # It is told to whoever waits.
            self.failed = error
            raise

    def relay(self):
        options = {"host": str(self.postgres.folder), "user": "weir", "dbname": self.database, "options": "-c timezone=UTC"}
        connection = psycopg2.connect(connection_factory=LogicalReplicationConnection, **options)
        cursor = connection.cursor()
        cursor.execute("CREATE_REPLICATION_SLOT weir LOGICAL pgoutput EXPORT_SNAPSHOT")
        _, _, snapshot, _ = cursor.fetchone()
        self.load(snapshot)
        cursor.start_replication("weir", options={"proto_version": "1", "publication_names": "weir"}, decode=False)
        self.reading.set()
        while True:
            message = cursor.read_message()
            if message is None:
                self.flush()
                cursor.send_feedback(flush_lsn=self.sent_lsn)
                select.select([connection], [], [], 0.05)
                continue
            self.take(message.payload)

    # --- the rows that are there ---

    def load(self, snapshot):
        reader = self.postgres.connect(self.database)
        reader.set_session(isolation_level="REPEATABLE READ")
        with reader.cursor() as cursor:
            cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot,))
            cursor.execute("SET timezone TO 'UTC'")
            cursor.execute("SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                           "WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 2, 3")
            for oid, schema, table in cursor.fetchall():
                cursor.execute("SELECT attname, atttypid, atttypmod FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum", (oid,))
                relation = self.relation(schema, table, cursor.fetchall())
                names = ", ".join(f'"{name}"::text' for name, _, _ in relation["columns"])
                cursor.execute(f'SELECT {names} FROM "{schema}"."{table}"')
                for row in cursor:
                    self.put(relation, "load", row, None, {})
        reader.close()
        self.flush()

    # --- what changes ---

    def take(self, payload):
        kind, rest = payload[:1], payload[1:]
        if kind == b"B":
            lsn, micros, xid = struct.unpack(">QQI", rest)
            moment = EPOCH + datetime.timedelta(microseconds=micros)
            self.transaction = {"commit-timestamp": moment.isoformat(timespec="microseconds") + "Z", "transaction-id": xid,
                                "stream-position": f"{lsn >> 32:08X}/{lsn & 0xFFFFFFFF:08X}.0.{lsn >> 32:08X}/{lsn & 0xFFFFFFFF:08X}"}
            self.record = 0
        elif kind == b"C":
            _, _, end, _ = struct.unpack(">BQQQ", rest)
            self.end_lsn = end
            if len(self.waiting) > MOST_RECORDS // 2:
                self.flush()
        elif kind == b"R":
            self.relate(rest)
        elif kind in b"IUD":
            self.change(kind, rest)
        elif kind == b"T":
            count, _ = struct.unpack(">IB", rest[:5])
            for oid in struct.unpack(f">{count}I", rest[5:]):
                self.control(self.relations[oid], "truncate-table")

    def relate(self, rest):
        (oid,), rest = struct.unpack(">I", rest[:4]), rest[4:]
        schema, rest = rest.split(b"\0", 1)
        table, rest = rest.split(b"\0", 1)
        (count,), rest = struct.unpack(">H", rest[1:3]), rest[3:]
        columns = []
        for _ in range(count):
            name, rest = rest[1:].split(b"\0", 1)
            kind, modifier = struct.unpack(">Ii", rest[:8])
            columns.append((name.decode(), kind, modifier))
            rest = rest[8:]
        self.relations[oid] = self.relation(schema.decode(), table.decode(), columns)

    def relation(self, schema, table, columns):
        """A table as it is now; if that is news, a control record says so."""
        key = [name for name, in self.run_sql(
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) "
            "WHERE i.indisprimary AND i.indrelid = to_regclass(%s) ORDER BY array_position(i.indkey::int2[], a.attnum)", (f'"{schema}"."{table}"',))]
        relation = {"schema": schema, "table": table, "columns": columns, "key": key}
        known = self.columns.get((schema, table))
        if known != columns:
            self.columns[schema, table] = columns
            added = known is not None and len(known) < len(columns)
            self.control(relation, "create-table" if known is None else "add-column" if added else "drop-column")
        return relation

    def change(self, kind, rest):
        relation, rest = self.relations[struct.unpack(">I", rest[:4])[0]], rest[4:]
        old, row = None, None
        if rest[:1] in (b"K", b"O"):
            old, rest = self.tuple(rest[1:])
        if rest[:1] == b"N":
            row, rest = self.tuple(rest[1:])
        self.record += 1
        details = {**self.transaction, "transaction-record-id": self.record}
        if kind == b"D":
            # All members, null but for the key.
            keyed = [text if column[0] in relation["key"] else None for text, column in zip(old, relation["columns"])]
            return self.put(relation, "delete", keyed, None, details)
        row = self.whole(relation, row, old)
        self.put(relation, "insert" if kind == b"I" else "update", row, old, details)

    @staticmethod
    def tuple(rest):
        (count,), rest = struct.unpack(">H", rest[:2]), rest[2:]
        values = []
        for _ in range(count):
            kind, rest = rest[:1], rest[1:]
            if kind == b"t":
                (length,) = struct.unpack(">I", rest[:4])
                values.append(rest[4:4 + length].decode())
                rest = rest[4 + length:]
            else:
                # `u` is large, stored apart, and did not change.
                values.append(None if kind == b"n" else Ellipsis)
        return values, rest

    def whole(self, relation, row, old):
        """Large values that did not change are looked up, as DMS looks up LOBs."""
        if Ellipsis not in row:
            return row
        key = {column[0]: text for column, text in zip(relation["columns"], row) if column[0] in relation["key"]}
        where = " AND ".join(f'"{name}"::text = %s' for name in key)
        names = ", ".join(f'"{column[0]}"::text' for column, text in zip(relation["columns"], row) if text is Ellipsis)
        try:
            found = self.run_sql(f'SELECT {names} FROM "{relation["schema"]}"."{relation["table"]}" WHERE {where}', tuple(key.values()))
        except psycopg2.errors.UndefinedColumn:
            # The column is gone by now.
            found = []
        there = iter(found[0] if found else [])
        if old and Ellipsis not in old:
            return [before if text is Ellipsis else text for text, before in zip(row, old)]
        return [next(there, None) if text is Ellipsis else text for text in row]

    # --- as DMS puts it ---

    def put(self, relation, operation, row, old, details):
        columns = relation["columns"]
        data = ",".join(f"{json.dumps(name)}:{value(oid, text)}" for (name, oid, _), text in zip(columns, row))
        key = ".".join(str(text) for (name, _, _), text in zip(columns, row) if name in relation["key"])
        metadata = self.metadata(relation, "data", operation, "primary-key", f"{relation['schema']}.{relation['table']}.{key}") | details
        before = ""
        if operation == "update":
            keyed = [(name, oid, text) for (name, oid, _), text in zip(columns, old or []) if name in relation["key"]]
            before = '"before-image":{' + ",".join(f"{json.dumps(name)}:{value(oid, text)}" for name, oid, text in keyed) + "},"
        self.add(metadata["partition-key-value"], f'{{{before}"data":{{{data}}},"metadata":{json.dumps(metadata)}}}')

    def control(self, relation, operation):
        def kind(oid, modifier):
            numeric = {"precision": (modifier - 4) >> 16, "scale": (modifier - 4) & 0x7FF} if oid == 1700 and modifier > 0 else {}
            return {"type": KINDS.get(oid, "STRING"), **numeric}

        columns = {name: {**kind(oid, modifier), "nullable": name not in relation["key"]} for name, oid, modifier in relation["columns"]}
        metadata = self.metadata(relation, "control", operation, "task-id", "WEIR")
        self.add("WEIR", json.dumps({"control": {"table-def": {"columns": columns, "primary-key": relation["key"]}}, "metadata": metadata}))

    @staticmethod
    def metadata(relation, record, operation, key_type, key):
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {"timestamp": now, "record-type": record, "operation": operation, "partition-key-type": key_type,
                "partition-key-value": key, "schema-name": relation["schema"], "table-name": relation["table"]}

    def add(self, key, text):
        if len(self.waiting) == MOST_RECORDS or self.bytes + len(text) > MOST_BYTES:
            self.flush()
        self.waiting.append({"PartitionKey": key[:256], "Data": text.encode()})
        self.bytes += len(text)

    def flush(self):
        while self.waiting:
            answer = self.kinesis.put_records(StreamName=self.stream, Records=self.waiting)
            if not answer["FailedRecordCount"]:
                break
            # Behind one that was refused nothing may be put.
            first = next(n for n, one in enumerate(answer["Records"]) if "ErrorCode" in one)
            for record in self.waiting[first:]:
                self.kinesis.put_record(StreamName=self.stream, **record)
            break
        self.waiting, self.bytes = [], 0
        self.sent_lsn = self.end_lsn

    def caught_up(self, timeout=60):
        """Waits until all that is committed is on the stream."""
        # What happens before it reads the slot is loaded, and not sent again.
        while not self.reading.wait(0.1):
            if self.failed:
                raise RuntimeError(f"the relay died: {self.failed}")
        (lsn,), = self.run_sql("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint")
        # A change behind all others, of a table that is nobody's.
        self.run_sql("CREATE TABLE IF NOT EXISTS public.awsdms_relay (id int PRIMARY KEY, n int)")
        self.run_sql("INSERT INTO public.awsdms_relay VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = awsdms_relay.n + 1")
        until = time.monotonic() + timeout
        while self.sent_lsn < lsn or self.waiting:
            if self.failed:
                raise RuntimeError(f"the relay died: {self.failed}")
            if time.monotonic() > until:
                raise TimeoutError(f"the relay is at {self.sent_lsn}, the database at {lsn}")
            time.sleep(0.02)


def start(database="shop", stream="weir-changes", prepare=""):
    """A PostgreSQL with logical replication, and its relay."""
    postgres = Postgres("wal_level=logical", "max_replication_slots=4", "max_wal_senders=4")
    postgres.create(database)
    if prepare:
        connection = postgres.connect(database)
        with connection, connection.cursor() as cursor:
            cursor.execute(prepare)
        connection.close()
    relay = Relay(postgres, database, stream)
    relay.start()
    return postgres, relay


CUSTOMERS = """
CREATE TABLE customers (id bigint PRIMARY KEY, name text, gender text, time_stamp timestamp);
INSERT INTO customers SELECT n, 'customer ' || n, CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN 'f' ELSE 'm' END, '2024-05-01'::timestamp + n * interval '1 minute' FROM generate_series(1, 1000) n;
"""


def main():
    parser = argparse.ArgumentParser(description="A PostgreSQL whose changes go onto the local Kinesis as DMS puts them there.")
    parser.add_argument("--stream", default="weir-changes")
    arguments = parser.parse_args()
    postgres, relay = start(stream=arguments.stream, prepare=CUSTOMERS)
    client = Path("target/local/psql")
    client.parent.mkdir(parents=True, exist_ok=True)
    client.write_text(f'#!/bin/sh\nexec {postgres.binaries}/psql -h {postgres.folder} -U weir shop "$@"\n')
    client.chmod(0o755)
    relay.caught_up()
    print(f"up: {client}, with the table customers", flush=True)
    while relay.is_alive():
        relay.join(1)


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    main()
