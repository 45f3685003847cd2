"""What the model learns to predict, in [0, 1]."""

from __future__ import annotations

from typing import Literal

import polars as pl

from contentctr.config import COUNT_COLUMNS, LATE_COMMENTS
from contentctr.errors import InputError

COMMENT_TARGETS = (
    "comment_rate",
    "comment_count",
    "commenters",
    *LATE_COMMENTS,
    "engagement",
    "highlight_score",
    "highlight_label",
)
"""Targets made from the comments: the model must not see a segment's own comments."""
SHARES = ("ctr", "long_view_rate", "retention", "highlight_score", "highlight_label")
"""Lie in [0, 1] by what they are, and have a scale of their own."""
TargetScale = Literal["none", "rank", "minmax", "odds"]
_NO_TARGETS = ("segment", "start_s", "end_s", "target")


def set_target(
    segments: pl.DataFrame,
    target: str,
    scale: TargetScale | None = None,
    typical: float | None = None,
) -> pl.DataFrame:
    """`segments` with the column `target` filled: `raw_target`, on a scale.

    "none" takes it as it is. "rank" is (average rank - 1) / (n - 1) over the room's n segments
    that have a value, "minmax" (value - lowest) / (highest - lowest) of the room's; both are 0.5
    where n is 1 or all are equal. "odds" is value / (value + typical), where typical is the median
    of the training rooms' values above 0 (of all rooms', where there is no split yet): so the
    target's odds are proportional to the value, in every room alike. No value, no target.

    Args:
        segments: of SEGMENTS_SCHEMA, with any further columns; `split` may be null.
        target: of `raw_target`.
        scale: None for `default_scale`.
        typical: of odds; None: found here, as said.

    Raises:
        InputError: there is no such numeric column, or a value is outside [0, 1] and stays so, or
            below 0 and asked for as odds.
    """
    value = raw_target(segments, target)
    scale = scale or default_scale(segments, target)
    if scale == "rank":
        return segments.with_columns(target=_rank_inside_room(value))
    if scale == "minmax":
        return segments.with_columns(target=_spread_inside_room(value))
    if scale == "odds":
        return segments.with_columns(target=_odds(segments, value, target, typical))
    found = segments.with_columns(target=value)
    outside = found.filter(~pl.col("target").is_between(0, 1))
    if outside.height:
        row = outside.row(0, named=True)
        raise InputError(
            f"target {target!r} must lie in [0, 1] with --target-scale none, not {row['target']} "
            f"(room {row['room_id']!r}, segment {row['segment']}); rank or minmax maps it there"
        )
    return found


def raw_target(segments: pl.DataFrame, target: str) -> pl.Expr:
    """What is measured of each segment, before any scale: Float64, null where there is nothing.

    Args:
        segments: of SEGMENTS_SCHEMA, with any further columns.
        target: ctr, comment_rate (comments a second), or a numeric column.

    Raises:
        InputError: there is no such numeric column; lists those there are.
    """
    if target == "comment_rate":
        # Lengths that differ in a float's last digits alone must not order equal counts.
        seconds = (pl.col("end_s") - pl.col("start_s")).round(6)
        return pl.col("comment_count") / seconds
    numeric = [
        name
        for name, kind in segments.schema.items()
        if kind.is_numeric() and name not in _NO_TARGETS
    ]
    if target not in numeric:
        raise InputError(
            f"target must be comment_rate or one of the numeric columns {', '.join(numeric)}; not "
            f"{target!r}"
        )
    return pl.col(target).cast(pl.Float64).fill_nan(None)


def default_scale(segments: pl.DataFrame, target: str) -> TargetScale:
    """The scale of a target for which none is asked: "none" for what lies in [0, 1], else "rank".

    A count or a rate of ours is ranked even where no value is above 1: that is chance.
    """
    if target in SHARES:
        return "none"
    if target in (
        "comment_rate",
        "viewers",
        "clickers",
        "commenters",
        *LATE_COMMENTS,
        *COUNT_COLUMNS,
    ):
        return "rank"
    value = segments.select(raw_target(segments, target)).to_series().drop_nulls()
    return "none" if value.is_between(0, 1).all() else "rank"


def default_comment_lag(target: str) -> int:
    """Segments between the comments and the segment whose text they are: 1 for COMMENT_TARGETS."""
    return 1 if target in COMMENT_TARGETS else 0


def check_comment_lag(target: str, comment_lag: int) -> None:
    """Refuse a lag with which a target made from comments would be its own input.

    Raises:
        InputError: it is negative, or 0 with one of COMMENT_TARGETS.
    """
    least = default_comment_lag(target)
    if comment_lag < least:
        why = ", or a segment's own comments would be its input" if least else ""
        raise InputError(
            f"comment_lag must be at least {least} with target {target!r}{why}; not {comment_lag}"
        )


def _rank_inside_room(value: pl.Expr) -> pl.Expr:
    rank = value.rank("average").over("room_id")
    count = value.count().over("room_id")
    return (
        pl.when(value.is_null())
        .then(None)
        .when(count > 1)
        .then((rank - 1) / (count.cast(pl.Float64) - 1))
        .otherwise(0.5)
    )


def _spread_inside_room(value: pl.Expr) -> pl.Expr:
    low, high = value.min().over("room_id"), value.max().over("room_id")
    return (
        pl.when(value.is_null())
        .then(None)
        .when(high > low)
        .then((value - low) / (high - low))
        .otherwise(0.5)
    )


def typical_in_training(segments: pl.DataFrame, target: str) -> float | None:
    """The median of the training rooms' values above 0; None where there is none.

    Args:
        segments: as of `set_target`.
        target: likewise.
    """
    train = segments.filter(pl.col("split") == "train").select(value=raw_target(segments, target))
    found = train.filter(pl.col("value") > 0)["value"].median()
    return None if found is None else float(found)  # type: ignore[arg-type]


def _odds(segments: pl.DataFrame, value: pl.Expr, target: str, typical: float | None) -> pl.Expr:
    found = segments.select("room_id", "segment", "split", value=value)
    negative = found.filter(pl.col("value") < 0)
    if negative.height:
        row = negative.row(0, named=True)
        raise InputError(
            f"target {target!r} must be at least 0 with --target-scale odds, not {row['value']} "
            f"(room {row['room_id']!r}, segment {row['segment']}); rank or minmax maps it to [0, 1]"
        )
    if typical is None:
        train = found.filter(pl.col("split") == "train")
        positive = (train if train.height else found).filter(pl.col("value") > 0)["value"]
        # Where nothing is above 0 all targets are 0, whatever is typical.
        return value / (value + (positive.median() or 1.0))
    return value / (value + typical)
