"""The Glue job's script. Everything is in the wheel, so that plain pyspark can run it: `python batch/job.py --manifest …`."""

import sys

from weir_batch.job import main

# Glue takes a run that ends with `sys.exit(0)` as failed where it expects none, so success says nothing.
if status := main():
    sys.exit(status)
