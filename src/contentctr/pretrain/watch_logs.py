"""Watch logs: who was shown which streamer when, and clicked; and what came before each time.

A user's history before an impression is a run of the user's earlier clicks. Rows stand by user and
time and clicks are counted along them, so two numbers a row say which clicks these are: no history
is ever copied, and a million impressions of users with thousands of clicks take no more memory
than the log. Padded arrays exist for one batch at a time.

Shape suffixes: I impressions, C clicks, U streamers and row 0, the unknown one; B impressions of a
batch, L clicks of its longest history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from contentctr.errors import InputError
from contentctr.rooms.cells import as_flags, as_ids, as_text
from contentctr.rooms.lines import show
from contentctr.rooms.moment_columns import EPOCH, column_seconds
from contentctr.rooms.tables import LINE, RawTable, read_table, reject, type_error

MILLISECONDS_FROM = 1e11
"""Unix times from here on are milliseconds (as seconds, this would be the year 5138)."""
NUM_GAPS = 32
"""Buckets of the time since a click: k begins at 2^k - 1 seconds; the last holds the rest."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class WatchLogs:
    """Impressions by user and time."""

    table: pl.DataFrame
    """user_id, streamer_id (text), t (Unix seconds, Float64), clicked (Boolean)."""
    duplicates: int = 0
    """Rows that repeated another's user, streamer and time; any click of theirs counts."""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class WatchBatch:
    """Some impressions and their histories, the latest click last, padded on the right."""

    number_B: Tensor
    """int64 row of the impression in the log."""
    streamer_B: Tensor
    """int64 row of the streamer who was shown, 0 for unknown."""
    category_B: Tensor
    """int64 row of that streamer's category, 0 for unknown."""
    history_BL: Tensor
    """int64 row of the streamer of each earlier click."""
    category_BL: Tensor
    """int64 row of the category of each."""
    gap_BL: Tensor
    """int64 bucket, 0 to NUM_GAPS - 1, of the time from each to the impression."""
    valid_BL: Tensor
    """bool: a click on a known streamer; false in padding."""
    clicked_B: Tensor
    """float32, 1 where the user clicked."""


@dataclass(frozen=True, kw_only=True)
class History:
    """All impressions as arrays, and which clicks came before each of them."""

    streamer_I: Ints
    t_I: Floats
    clicked_I: Bools
    click_C: Ints
    """Row of each click."""
    start_I: Ints
    """The first of the user's clicks, in click_C."""
    stop_I: Ints
    """The click after the last one that came before the impression: its time is smaller."""
    category_U: Ints
    """Row of each streamer's category; 0 for unknown and for streamer 0."""

    def batch(self, rows: Ints, *, max_history: int, hidden: Bools | None = None) -> WatchBatch:
        """The impressions `rows` with at most `max_history` clicks each, the latest.

        Args:
            rows: impressions, shape (B,).
            max_history: longest history, at least 1.
            hidden: of shape (B,), where the shown streamer is passed off as unknown.
        """
        stop_B = self.stop_I[rows]
        start_B = np.maximum(self.start_I[rows], stop_B - max_history)
        longest = max(1, int((stop_B - start_B).max(initial=0)))
        at_BL = start_B[:, None] + np.arange(longest)
        there_BL = at_BL < stop_B[:, None]
        clicks = self.click_C if len(self.click_C) else np.zeros(1, np.int64)
        click_BL = clicks[np.where(there_BL, at_BL, 0)]
        history_BL = np.where(there_BL, self.streamer_I[click_BL], 0)
        gap_BL = gap_bucket(self.t_I[rows][:, None] - self.t_I[click_BL])
        streamer_B = self.streamer_I[rows]
        if hidden is not None:
            streamer_B = np.where(hidden, 0, streamer_B)
        return WatchBatch(
            number_B=torch.from_numpy(rows),
            streamer_B=torch.from_numpy(streamer_B),
            category_B=torch.from_numpy(self.category_U[streamer_B]),
            history_BL=torch.from_numpy(history_BL),
            category_BL=torch.from_numpy(self.category_U[history_BL]),
            gap_BL=torch.from_numpy(np.where(there_BL, gap_BL, 0)),
            valid_BL=torch.from_numpy(history_BL > 0),
            clicked_B=torch.from_numpy(self.clicked_I[rows].astype(np.float32)),
        )


def gap_bucket(seconds: Floats) -> Ints:
    """Bucket of a time since a click: 0 below one second, then about one for each doubling."""
    buckets: Ints = np.log2(np.maximum(seconds, 0.0) + 1).astype(np.int64).clip(max=NUM_GAPS - 1)
    return buckets


def index_history(logs: WatchLogs, streamers: Sequence[str], category_U: Ints) -> History:
    """Impressions as arrays, with the clicks strictly before each one.

    Clicks of the same moment are not before it, so nothing that was shown together tells of each
    other.

    Args:
        logs: what `read_watch_logs` returns.
        streamers: known streamers; entry i is row i + 1. Others are row 0.
        category_U: a category's row for each streamer's row, 0 for unknown.
    """
    row_of = pl.DataFrame({"streamer_id": list(streamers)}, schema={"streamer_id": pl.String})
    table = logs.table.join(
        row_of.with_row_index("row", 1), on="streamer_id", how="left", maintain_order="left"
    ).select(
        pl.col("row").fill_null(0).cast(pl.Int64),
        "t",
        "clicked",
        user=pl.col("user_id").rle_id(),
        moment=pl.struct("user_id", "t").rle_id(),
    )
    clicked_I = table["clicked"].to_numpy()
    before_I = np.concatenate([[0], np.cumsum(clicked_I)])

    def clicks_before_first_of(name: str) -> Ints:
        """Clicks in all rows before the first one with the row's value of `name`."""
        group_I = table[name].to_numpy()
        firsts = np.flatnonzero(np.diff(group_I.astype(np.int64), prepend=-1))
        found: Ints = before_I[firsts][group_I].astype(np.int64)
        return found

    return History(
        streamer_I=table["row"].to_numpy(),
        t_I=table["t"].to_numpy(),
        clicked_I=clicked_I,
        click_C=np.flatnonzero(clicked_I),
        start_I=clicks_before_first_of("user"),
        stop_I=clicks_before_first_of("moment"),
        category_U=category_U,
    )


def read_watch_logs(path: Path) -> WatchLogs:
    """A log of impressions, by user and time, each user, streamer and time once.

    Args:
        path: a table as `read_table` reads it, with `user_id` and `streamer_id` (text or whole
            numbers, kept digit by digit), `t` or `time` (Unix time, ISO 8601 text, or a date-time
            column; without a zone it is UTC) and `clicked` (1 or 0, or true or false).

    Raises:
        InputError: the file is unreadable, a column is missing or of a wrong type, or too many of
            the rows are bad (`BadLines.warnings`).
    """
    raw = read_table(path, ["user_id", "streamer_id", "clicked"], others=True)
    names = [name for name in ("t", "time") if name in raw.table.columns]
    if len(names) != 1:
        raise InputError(
            f"{path}: must have one column of times, 't' or 'time'; it has "
            f"{show([name for name in raw.table.columns if name != LINE])}"
        )
    _check_types(path, raw, names[0])
    users = as_ids(raw.table["user_id"], "user_id")
    streamers = as_ids(raw.table["streamer_id"], "streamer_id")
    clicked = as_flags(raw.table["clicked"], "clicked")
    times = column_seconds(EPOCH, raw.table[names[0]], names[0], raw.delimiter)
    _require_one_unit(path, raw.table[names[0]])
    table = pl.DataFrame(
        {
            LINE: raw.table[LINE],
            "user_id": users.values,
            "streamer_id": streamers.values,
            "t": times.seconds,
            "clicked": clicked.values,
            "why_user": users.reasons,
            "why_streamer": streamers.reasons,
            "why_t": times.reasons,
            "why_clicked": clicked.reasons,
        }
    )
    # The rule of a room's logs, in the words of these: any time is counted from 1970.
    table = table.with_columns(
        pl.col("why_t").str.replace(
            "a number of seconds or a time", "Unix time or a date and time (ISO 8601)", literal=True
        )
    )
    why = [name for name in table.columns if name.startswith("why_")]
    good = reject(raw, table, pl.coalesce(why)).select("user_id", "streamer_id", "t", "clicked")
    warnings = raw.warnings + raw.bad.warnings(raw.total)
    warnings += [f"{path}: {doubt}" for doubt in (*users.warnings, *streamers.warnings)]
    if good.height == 0:
        raise InputError(f"{path}: must have at least one impression")
    distinct = good.group_by("user_id", "streamer_id", "t").agg(pl.col("clicked").any())
    return WatchLogs(
        table=distinct.sort("user_id", "t", "streamer_id"),
        duplicates=good.height - distinct.height,
        warnings=warnings,
    )


def read_pairs(path: Path, column: str) -> dict[str, str]:
    """A text of each streamer's: its category, or its type.

    Args:
        path: a table as `read_table` reads it, with `streamer_id`, each once, and `column`; an
            empty or missing text leaves the streamer out.
        column: what to read.

    Raises:
        InputError: the file is unreadable, lacks a column, or a streamer is there twice or has no
            id.
    """
    raw = read_table(path, ["streamer_id", column])
    raw.bad.warnings(raw.bad.count)  # a bad line of so short a table is an error
    streamers = as_ids(raw.table["streamer_id"], "streamer_id")
    damaged = streamers.reasons.filter(streamers.values.is_not_null()).drop_nulls()
    if len(damaged):
        raise InputError(f"{path}: {damaged[0]}")
    pairs = pl.DataFrame([raw.table[LINE], streamers.values, as_text(raw.table[column])])
    found: dict[str, str] = {}
    seen: dict[str, int] = {}
    for line, streamer, text in pairs.iter_rows():
        where = f"{path}, {raw.bad.unit} {line}"
        if not streamer:
            raise InputError(f"{where}: streamer_id is missing")
        if streamer in seen:
            raise InputError(
                f"{where}: streamer_id must be there once; {streamer!r} is in {raw.bad.unit} "
                f"{seen[streamer]} too"
            )
        seen[streamer] = line
        if text:
            found[streamer] = text
    return found


def _check_types(path: Path, raw: RawTable, time: str) -> None:
    if raw.is_text:
        return
    schema = raw.table.schema
    texts = (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)
    for name in ("user_id", "streamer_id"):
        kind = schema[name]
        if not (kind.is_numeric() or kind in texts):
            raise type_error(path, name, "text or a whole number", str(kind))
    kind = schema["clicked"]
    if not (kind.is_numeric() or kind == pl.Boolean or kind in texts):
        raise type_error(path, "clicked", "true/false or 1/0", str(kind))
    kind = schema[time]
    if not (kind.is_numeric() or kind == pl.Datetime or kind in texts):
        raise type_error(path, time, "Unix time or a date and time (ISO 8601)", str(kind))


def _require_one_unit(path: Path, given: pl.Series) -> None:
    """Refuse numbers of which some are Unix seconds and some milliseconds or finer."""
    number = given.cast(pl.Float64, strict=False) if given.dtype != pl.Datetime else None
    finite = pl.Series(dtype=pl.Float64) if number is None else number.filter(number.is_finite())
    large = finite >= MILLISECONDS_FROM
    if large.any() and not large.all():
        raise InputError(
            f"{path}: times must be all in seconds or all in milliseconds, not both: "
            f"{show(finite.min())} and {show(finite.max())}"
        )
