"""Long-view rate: of those who entered in a segment, the share that stayed long enough."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.grid import Grid
from contentctr.rooms.room import Room

LONG_VIEW = "long_view_rate"
LONG_VIEW_SECONDS = 60.0


def check_long_view(seconds: float) -> None:
    """Refuse a length that says nothing.

    Raises:
        InputError: it is not above 0, or not finite.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(f"long_view_seconds must be above 0, not {seconds}")


def long_view_rates(
    rooms: Sequence[Room], *, segment_seconds: float, long_view_seconds: float
) -> pl.DataFrame:
    """The rate of every segment in which somebody entered and all is known of who did.

    A visit lasts from a user's enter to the same user's next exit; whoever entered twice in a
    segment counts once, as staying if one of the visits does. One that has not ended when the
    room's log does is long if it has lasted long enough by then, and else unknown, as is a segment
    with such a visit: taken without it, only those who left early would count. A room whose log
    has no exit at all says nothing of how long anybody stayed.

    Args:
        rooms: with distinct room ids.
        segment_seconds: length of a segment.
        long_view_seconds: how long a long view lasts at least.

    Returns:
        room_id, segment and LONG_VIEW, without segments that have none.
    """
    grid = Grid(segment_seconds)
    found = [
        pl.DataFrame(schema={"room_id": pl.String, "segment": pl.Int64, LONG_VIEW: pl.Float64})
    ]
    for room in rooms:
        if room.events is None or not (room.events["kind"] == "exit").any():
            continue
        rates = _rates(room.events, grid, grid.count(room.duration_s), long_view_seconds)
        found.append(rates.select(pl.lit(room.room_id).alias("room_id"), "segment", LONG_VIEW))
    return pl.concat(found)


def _rates(events: pl.DataFrame, grid: Grid, num_segments: int, least_s: float) -> pl.DataFrame:
    """Segment and LONG_VIEW of one room."""
    kind, t = pl.col("kind"), pl.col("t")
    log_end = events["t"].max()
    # Of the same second an exit that the log has after the enter ends the visit: the sort is
    # stable, and a column of exits is filled from behind, inside each user.
    visits = (
        events.sort("user_id", "t", maintain_order=True)
        .with_columns(left=pl.when(kind == "exit").then(t).backward_fill().over("user_id"))
        .filter(kind == "enter")
        .with_columns(segment=grid.segment_of(t))
        .filter(pl.col("segment").is_between(0, num_segments - 1))
    )
    lasted = pl.col("left").fill_null(log_end) - t
    stayed = (
        pl.when(lasted >= least_s)
        .then(True)
        .when(pl.col("left").is_null())
        .then(None)
        .otherwise(False)
    )
    return (
        visits.with_columns(stayed=stayed)
        .group_by("segment", "user_id")
        # True beats unknown, which beats false: one long visit is enough.
        .agg(
            stayed=pl.when(pl.col("stayed").any(ignore_nulls=True))
            .then(True)
            .when(pl.col("stayed").null_count() > 0)
            .then(None)
            .otherwise(False)
        )
        .group_by("segment")
        .agg(
            pl.when(pl.col("stayed").null_count() == 0)
            .then(pl.col("stayed").mean())
            .alias(LONG_VIEW)
        )
        .drop_nulls()
    )
