"""What `sam deploy --guided` was answered of a stack, in a file of its own: samconfig.<stack>.toml.

    python tools/answers.py ready FILE STACK ARCHITECTURE GUIDED    # before anything is built: makes the file, from samconfig.toml;
                                                                    # GUIDED=no: refuses one that is not there, or of other code
    python tools/answers.py bucket FILE [REGION]                    # the batch bucket of the stack that was deployed by it
"""

import re
import sys
import tomllib
from pathlib import Path

import botocore.session


def answered(file, name):
    """What the file has of this, of the deployment or of all; the first says more."""
    default = tomllib.loads(Path(file).read_text())["default"]
    sections = [default.get(section, {}).get("parameters", {}) for section in ("deploy", "global")]
    return next((section[name] for section in sections if name in section), None)


def ready(file, stack, architecture, guided):
    if not Path(file).exists():
        if guided == "no":
            raise SystemExit(f"there is no {file}, by which to deploy: `make deploy STACK={stack}` asks, and keeps what you answer")
        ours = Path("samconfig.toml").read_text()
        Path(file).write_text(ours.replace('stack_name = "weir"', f'stack_name = "{stack}"', 1))
    built = re.search(r'\bArchitecture="?(\w+)', str(answered(file, "parameter_overrides") or ""))
    if guided == "no" and built and built[1] != architecture:
        raise SystemExit(f"{file} says Architecture={built[1]}: make deploy ARCHITECTURE={built[1]}, or edit the file")


def bucket(file, region=None):
    region = answered(file, "region") or region
    cloudformation = botocore.session.get_session().create_client("cloudformation", region_name=region)
    outputs = cloudformation.describe_stacks(StackName=answered(file, "stack_name"))["Stacks"][0]["Outputs"]
    print(next(output["OutputValue"] for output in outputs if output["OutputKey"] == "BatchBucketName"))


if __name__ == "__main__":
    {"ready": ready, "bucket": bucket}[sys.argv[1]](*sys.argv[2:])
