"""What is known of a room's audience when a segment begins, from the segments before it alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from contentctr.config import COUNT_COLUMNS

HALF_LIVES = (1, 3, 8, 20)
"""Of the exponential means, in segments."""


def earlier_statistics(
    segments: pl.DataFrame, rates: Mapping[str, pl.Expr] | None = None
) -> pl.DataFrame:
    """Statistics of the segments before each one (docs/decisions.md, "Statistics").

    Nothing of a segment itself or of what follows it moves its own row by a bit, nor does the
    length of its room. Segments may differ in length: means weigh each alike.

    Args:
        segments: room_id, segment, start_s, end_s, ctr and COUNT_COLUMNS; sorted by room and
            segment, with all segments of a room.
        rates: further rates by name, each a number a segment, null where there is none.

    Returns:
        Float64, one row a segment, null where nothing is known: `position`, log(1 + number of the
        segment); `log_NAME`, log(1 + count) in the segment before, of each of COUNT_COLUMNS; and
        of every rate (counts a second, ctr, and `rates`) `NAME_before`, that of the segment
        before, and `NAME_mean_H`, its `earlier_mean` of half-life H.
    """
    seconds = (pl.col("end_s") - pl.col("start_s")).round(6)
    counts = {name: pl.col(name).cast(pl.Float64) for name in COUNT_COLUMNS}
    every = {f"{name}_rate": count / seconds for name, count in counts.items()}
    every = {**every, "ctr": pl.col("ctr"), **(rates or {})}
    return segments.select(
        pl.col("segment").cast(pl.Float64).log1p().alias("position"),
        *(_before(count).log1p().alias(f"log_{name}") for name, count in counts.items()),
        *(column for name, rate in every.items() for column in _of_rate(name, rate)),
    )


def _of_rate(name: str, rate: pl.Expr) -> Iterable[pl.Expr]:
    yield _before(rate).alias(f"{name}_before")
    for half_life in HALF_LIVES:
        yield earlier_mean(rate, half_life).alias(f"{name}_mean_{half_life}")


def earlier_mean(values: pl.Expr, half_life: float) -> pl.Expr:
    """Exponential mean of the values of all earlier segments of the room.

    The segment k before counts for 2^(-(k - 1) / half_life), and for nothing where its value is
    null; the weights sum to one.
    """
    mean = values.ewm_mean(half_life=half_life, adjust=True, ignore_nulls=False)
    # Polars gives none at a null itself, where the mean of the values before it still stands.
    return mean.forward_fill().shift(1).over("room_id")


def _before(values: pl.Expr) -> pl.Expr:
    return values.shift(1).over("room_id")
