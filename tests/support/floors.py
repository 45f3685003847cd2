"""The block `floors` of a made-up evaluation, as `evaluate` makes it."""

import polars as pl

from contentctr.evaluate.comparison import compare_with_floors
from contentctr.evaluate.floors import Measured
from contentctr.store.statistics import COLUMNS


def floors_of(predictions, **changes):
    """Of rooms whose segments are their own training rooms; a keyword changes a Measured."""
    own = predictions.with_columns(
        pl.lit("train").alias("split"),
        pl.col("target").alias("ctr"),
        *(pl.lit(None, pl.UInt32).alias(name) for name in COLUMNS if name != "viewers"),
    )
    what = {"target": "ctr", "scale": "none", "is_label": False, "min_viewers": 1, **changes}
    return compare_with_floors(predictions, own, Measured(**what))
