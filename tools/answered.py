"""The batch bucket of the stack that `sam deploy` has just deployed, as it was answered: name and region may not be those that were proposed.

    python tools/answered.py samconfig.NAME.toml [--region REGION]
"""

import sys
import tomllib
from pathlib import Path

import botocore.session


def answered(file, name):
    """What the file has of this, of the deployment or of all."""
    default = tomllib.loads(Path(file).read_text())["default"]
    sections = [default.get(section, {}).get("parameters", {}) for section in ("deploy", "global")]
    return next((section[name] for section in sections if name in section), None)


def main():
    file, *proposed = sys.argv[1:]
    stack, region = answered(file, "stack_name"), answered(file, "region") or (proposed[1:] or [None])[0]
    cloudformation = botocore.session.get_session().create_client("cloudformation", region_name=region)
    outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    print(next(output["OutputValue"] for output in outputs if output["OutputKey"] == "BatchBucketName"))


if __name__ == "__main__":
    main()
