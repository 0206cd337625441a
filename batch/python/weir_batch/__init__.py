"""Weir on Spark: dataset contracts and commands, by the same Rust code as in the Lambdas.

    df.mapInArrow(weir_batch.cleaner("page_logs"), weir_batch.ddl("page_logs"))

cleans any DataFrame by a dataset's contract; rows that break it are left out. `weir_batch.job` is what the Glue job runs.
"""

import time

from weir_batch._native import Aws, Rows, clean, ddl, schema

__all__ = ["Aws", "Rows", "clean", "cleaner", "ddl", "schema"]


def cleaner(dataset, now_micros=None):
    """A function for `mapInArrow` with `ddl(dataset)`: clean rows by the dataset's contract.

    Select the columns it needs first: Spark prunes none through `mapInArrow`.
    """
    now = time.time_ns() // 1000 if now_micros is None else now_micros

    def cleaned(batches):
        for batch in batches:
            yield clean(dataset, batch, now).clean

    return cleaned
