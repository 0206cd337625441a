"""Amazon Redshift's Data API on a real PostgreSQL, inside the local AWS.

ministack has none. Here the API is what it is on AWS, as far as a caller can see: requests are checked against botocore's model of
them, a batch is one transaction, a client token is one batch, states go from SUBMITTED to FINISHED or FAILED, and an event tells the
end. Statements are PostgreSQL's to run, but for `COPY ... FORMAT AS PARQUET`, which PostgreSQL does not know: that is done here, by the
role it names, and as strictly as on AWS: columns by position, of exactly their types.

It is not Redshift: what Redshift's SQL does otherwise than PostgreSQL's, its isolation, its privileges and its speed are not there.
"""

import contextvars
import datetime
import decimal
import io
import json
import os
import re
import threading
import time
import uuid

import boto3
import botocore.session
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.validate import ParamValidator
from ministack import app
from ministack.core import iam_actions, router
from ministack.services import eventbridge
from postgres import Postgres
from psycopg2.extras import execute_values

SERVICE = "redshift-data"
model = botocore.session.get_session().get_service_model(SERVICE)
statements, by_token = {}, {}
lock = threading.Lock()
COPY = re.compile(r"""COPY "(?P<table>[^"]+)" FROM 's3://(?P<bucket>[^/']+)/(?P<prefix>[^']*)' IAM_ROLE (?P<role>default|'[^']+') FORMAT AS PARQUET""")
# Redshift database developer guide, "COPY from columnar data formats": a type that differs is an error.
PARQUET = {
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp without time zone": pa.timestamp("us", "UTC"),
    "character varying": pa.string(),
}
MOST_BYTES = 65_535


class Refused(Exception):
    """An answer that is an error: its code, and its message."""


def postgres():
    with lock:
        if not hasattr(postgres, "server"):
            postgres.server = Postgres()
        return postgres.server


def connect(database):
    postgres().create(database)
    return postgres().connect(database)


def checked(operation, parameters):
    shape = model.operation_model(operation).input_shape
    problems = ParamValidator().validate(parameters, shape).generate_report()
    for name, value in parameters.items():
        member = shape.members.get(name)
        most = member.metadata.get("max") if member else None
        if not member:
            problems += f" Unknown parameter {name}."
        elif most and hasattr(value, "__len__") and len(value) > most:
            problems += f" {name} has {len(value)}, the most is {most}."
    if problems:
        raise Refused("ValidationException", problems)


def begin(operation, parameters, sqls):
    if bool(parameters.get("WorkgroupName")) == bool(parameters.get("ClusterIdentifier")):
        raise Refused("ValidationException", "name either a workgroup or a cluster")
    token = parameters.get("ClientToken")
    with lock:
        known = by_token.get(token)
        if known and known["parameters"] != parameters:
            raise Refused("ValidationException", "the client token was used with other parameters")
        if not known:
            now = time.time()
            known = {"Id": str(uuid.uuid4()), "Status": "SUBMITTED", "CreatedAt": now, "UpdatedAt": now, "parameters": parameters}
            statements[known["Id"]] = known
            if token:
                by_token[token] = known
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(work, known, sqls), daemon=True).start()
    return {name: known[name] for name in ("Id", "CreatedAt")} | {"Database": parameters["Database"]}


def work(statement, sqls):
    statement["Status"] = "STARTED"
    state, rows = "FINISHED", -1
    try:
        connection = statement["connection"] = connect(statement["parameters"]["Database"])
        try:
            with connection, connection.cursor() as cursor:
                for sql in sqls:
                    copy = COPY.fullmatch(sql)
                    if copy:
                        load(cursor, **copy.groupdict())
                    else:
                        cursor.execute(sql)
                if cursor.description:
                    statement["result"] = [column.name for column in cursor.description], cursor.fetchall()
                    rows = len(statement["result"][1])
        finally:
            connection.close()
    except Exception as error:
        state = "ABORTED" if statement.get("cancelled") else "FAILED"
        statement["Error"] = f"ERROR: {error}".strip()
    statement["UpdatedAt"] = time.time()
    statement["Status"] = state
    if statement["parameters"].get("WithEvent"):
        announce(statement, state, rows)


def announce(statement, state, rows):
    name = statement["parameters"].get("StatementName", "")
    expires = int(time.time()) + 86_400
    detail = {"principal": "local", "statementName": name, "statementId": statement["Id"], "redshiftQueryId": -1, "state": state, "rows": rows, "expireAt": expires}
    entry = {"Source": "aws.redshift-data", "DetailType": "Redshift Data Statement Status Change", "Detail": json.dumps(detail)}
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def load(cursor, table, bucket, prefix, role):
    endpoint = f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}"
    keys = {}
    if role != "default":
        sts = boto3.client("sts", endpoint_url=endpoint)
        given = sts.assume_role(RoleArn=role.strip("'"), RoleSessionName="redshift")["Credentials"]
        keys = {"aws_access_key_id": given["AccessKeyId"], "aws_secret_access_key": given["SecretAccessKey"], "aws_session_token": given["SessionToken"]}
    s3 = boto3.client("s3", endpoint_url=endpoint, **keys)
    cursor.execute(
        "SELECT column_name, data_type, numeric_precision, numeric_scale FROM information_schema.columns"
        " WHERE table_name = %s AND table_schema LIKE 'pg_temp%%' ORDER BY ordinal_position",
        (table,),
    )
    columns = cursor.fetchall()
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    found = [one["Key"] for page in pages for one in page.get("Contents", [])]
    if not found:
        raise RuntimeError(f"The specified S3 prefix '{prefix}' does not exist")
    for key in found:
        file = pq.read_table(io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
        if file.num_columns != len(columns):
            raise RuntimeError(f"Unmatched number of columns between table and file: {len(columns)} and {file.num_columns} in {key}")
        for field, (name, kind, precision, scale) in zip(file.schema, columns):
            wanted = pa.decimal128(precision, scale) if kind == "numeric" else PARQUET[kind]
            if field.type != wanted:
                raise RuntimeError(f"Spectrum Scan Error: {key} has an incompatible Parquet schema for column {name}: {field.type}, not {wanted}")
        rows = list(zip(*(column.to_pylist() for column in file.columns)))
        if any(isinstance(value, str) and len(value.encode()) > MOST_BYTES for row in rows for value in row):
            raise RuntimeError(f"Spectrum Scan Error: a value in {key} is longer than its column")
        if rows:
            execute_values(cursor, f'INSERT INTO "{table}" VALUES %s', rows)


def known(parameters):
    statement = statements.get(parameters["Id"])
    if not statement:
        raise Refused("ResourceNotFoundException", "Query does not exist.")
    return statement


def field(value):
    match value:
        case None:
            return {"isNull": True}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"longValue": value}
        case float():
            return {"doubleValue": value}
        case decimal.Decimal() | datetime.date() | str():
            return {"stringValue": str(value)}
        case _:
            raise RuntimeError(f"no answer is made of {type(value)} here")


def answer(operation, parameters):
    checked(operation, parameters)
    match operation:
        case "BatchExecuteStatement":
            return begin(operation, parameters, parameters["Sqls"])
        case "ExecuteStatement":
            return begin(operation, parameters, [parameters["Sql"]])
        case "DescribeStatement":
            statement = known(parameters)
            told = ("Id", "Status", "Error", "CreatedAt", "UpdatedAt")
            return {name: statement[name] for name in told if name in statement} | {"HasResultSet": "result" in statement}
        case "CancelStatement":
            statement = known(parameters)
            going = statement["Status"] in ("SUBMITTED", "STARTED")
            if going and "connection" in statement:
                statement["cancelled"] = True
                statement["connection"].cancel()
            return {"Status": going}
        case "GetStatementResult":
            names, rows = known(parameters).get("result") or ([], [])
            records = [[field(value) for value in row] for row in rows]
            return {"ColumnMetadata": [{"name": name} for name in names], "Records": records, "TotalNumRows": len(rows)}
        case _:
            raise Refused("ValidationException", f"{operation} is not here")


async def handle(method, path, headers, body, query):
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    try:
        status, said = 200, answer(operation, json.loads(body or b"{}"))
    except Refused as refused:
        code, message = refused.args
        status, said = 400, {"__type": code, "message": message}
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(said).encode()


def with_warehouse():
    router.SERVICE_PATTERNS[SERVICE] = {"target_prefixes": ["RedshiftData."], "host_patterns": [r"redshift-data\."]}
    app.SERVICE_HANDLERS[SERVICE] = handle
    iam_actions.SERVICE_TO_IAM_NAMESPACE[SERVICE] = SERVICE
    others = iam_actions.extract_resource_arn

    def resource(service, method, path, headers, body, *rest):
        if service != SERVICE:
            return others(service, method, path, headers, body, *rest)
        named = json.loads(body or b"{}")
        # A workgroup is named by its ARN here.
        return named.get("WorkgroupName") or "*"

    iam_actions.extract_resource_arn = resource
