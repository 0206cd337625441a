"""The template as CloudFormation gets it: without YAML's anchors, with what SAM makes of its resources.

    python tools/translated.py > template.json

SAM leaves conditions and parameters to CloudFormation: what comes out is right for all of them, or for none.
"""

import json
import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

from samcli.yamlhelper import yaml_parse  # noqa: E402 (it asks for a region when it is loaded)
from samtranslator.model.exceptions import InvalidDocumentException  # noqa: E402
from samtranslator.parser.parser import Parser  # noqa: E402
from samtranslator.translator.translator import Translator  # noqa: E402


def main() -> int:
    with open(os.path.join(os.path.dirname(__file__), "..", "template.yaml"), encoding="utf-8") as text:
        template = yaml_parse(text.read())
    functions = (one["Properties"] for one in template["Resources"].values() if one["Type"] == "AWS::Serverless::Function")
    for function in functions:
        # Where `sam package` would have put its code.
        function["CodeUri"] = "s3://bucket/code.zip"
    try:
        translated = Translator({}, Parser()).translate(template, {})
    except InvalidDocumentException as error:
        print("\n".join(cause.message for cause in error.causes), file=sys.stderr)
        return 1
    json.dump(translated, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
