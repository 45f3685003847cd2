"""What the model learns to predict, in [0, 1], and which rooms it learns from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import polars as pl

from contentctr.config import COUNT_COLUMNS, LATE_COMMENTS
from contentctr.counting import counted
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
    segments: pl.DataFrame, target: str, scale: TargetScale | None = None
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
        return segments.with_columns(target=_odds(segments, value, target))
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


def check_shares(val: float, test: float) -> None:
    """Refuse shares that leave no training room.

    Raises:
        InputError: one is negative, or they sum to 1 or more.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise InputError(
            f"val and test must be at least 0 and sum to less than 1, not {val} and {test}"
        )


def assign_splits(rooms: pl.DataFrame, *, val: float = 0.1, test: float = 0.1) -> pl.DataFrame:
    """`rooms` with `split`: train, val or test, by room and by time.

    Rooms are taken in the order of their start. Every validation room starts after every training
    room, every test room after all of both; rooms that start together stay together. The shares
    are met as nearly as that allows. With few rooms, training comes first, then test.

    Args:
        rooms: with `started_at` (a time, null where unknown).
        val: share of validation rooms, in [0, 1).
        test: share of test rooms; val + test < 1.

    Raises:
        InputError: a share is out of range, or a room's start is unknown and a share is not 0.
    """
    check_shares(val, test)
    if val == 0 and test == 0:
        return rooms.with_columns(split=pl.lit("train"))
    unknown = rooms.filter(pl.col("started_at").is_null())
    if unknown.height:
        raise InputError(
            f"room {unknown['room_id'][0]!r} has no started_at, which the split by time needs "
            f"({unknown.height} of {counted(rooms.height, 'room')}); give it, or set val and test "
            "to 0"
        )
    starts = rooms.group_by("started_at").len().sort("started_at")
    sizes = starts["len"].to_list()
    num_test = _take_last(sizes, test * rooms.height, keep=2 if val > 0 else 1)
    left = sizes[: len(sizes) - num_test]
    num_val = _take_last(left, val * rooms.height, keep=1)
    names = ["train"] * (len(left) - num_val) + ["val"] * num_val + ["test"] * num_test
    by_start = starts.select("started_at", split=pl.Series(names, dtype=pl.String))
    return rooms.drop("split", strict=False).join(
        by_start, on="started_at", how="left", maintain_order="left"
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


def _odds(segments: pl.DataFrame, value: pl.Expr, target: str) -> pl.Expr:
    found = segments.select("room_id", "segment", "split", value=value)
    negative = found.filter(pl.col("value") < 0)
    if negative.height:
        row = negative.row(0, named=True)
        raise InputError(
            f"target {target!r} must be at least 0 with --target-scale odds, not {row['value']} "
            f"(room {row['room_id']!r}, segment {row['segment']}); rank or minmax maps it to [0, 1]"
        )
    train = found.filter(pl.col("split") == "train")
    positive = (train if train.height else found).filter(pl.col("value") > 0)["value"]
    # Where nothing is above 0 all targets are 0, whatever is typical.
    return value / (value + (positive.median() or 1.0))


def _take_last(sizes: Sequence[int], wanted: float, *, keep: int) -> int:
    """How many of the last groups hold nearest to `wanted` rooms: 1 or more, as far as possible.

    Args:
        sizes: rooms in each group, in order.
        wanted: number of rooms; 0 takes none.
        keep: groups to leave. Where only one could be taken by leaving one, that is done.
    """
    most = max(len(sizes) - keep, min(len(sizes) - 1, 1))
    if wanted <= 0 or most < 1:
        return 0
    totals = list(itertools.accumulate(reversed(sizes)))[:most]
    return min(range(most), key=lambda i: abs(totals[i] - wanted)) + 1
