"""Rows that a log holds more than once because it was shipped more than once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl


def drop_duplicates(
    table: pl.DataFrame, time: str, keys: Sequence[str], once: pl.Expr | None = None
) -> pl.DataFrame:
    """The table without rows that were shipped again; the first of each stays, in its place.

    By the row's own id (`id`, where a row has one). Rows without: equal ones are duplicates, unless
    the log's times are whole seconds, in which a viewer may well do the same thing twice; then only
    whole copies of the log are, of which every row is there as often.

    Args:
        table: with the columns `time`, `keys` and maybe `id` (text, "" where a row has none).
        time: column of seconds.
        keys: columns in which duplicates are equal.
        once: true for rows that nobody causes twice in a second, by which copies are told. A log
            without such rows is only taken for copies that stand one after another.
    """
    if not table.height:
        return table
    if "id" in table.columns:
        numbered = table.with_row_index("__row")
        has_id = numbered.filter(pl.col("id").fill_null("") != "")
        # A log that writes the same id everywhere has none.
        if has_id.height and has_id["id"].n_unique() > 1:
            kept = has_id.unique(["id", *keys], keep="first", maintain_order=True)
            rest = numbered.filter(pl.col("id").fill_null("") == "")
            others = _without_ids(rest, time, keys, once)
            return pl.concat([kept, others]).sort("__row").drop("__row")
    return _without_ids(table, time, keys, once)


def _without_ids(
    table: pl.DataFrame, time: str, keys: Sequence[str], once: pl.Expr | None
) -> pl.DataFrame:
    # Rows that share their time with another alone can be equal: a quick look at one column.
    shared = table[time].is_duplicated()
    if not shared.any():
        return table
    if (table[time] == table[time].floor()).all():
        return _without_copies(table, time, keys, once) if shared.all() else table
    suspects = table.with_columns(__at=pl.int_range(pl.len())).filter(shared)
    kept = suspects.unique(list(keys), keep="first", maintain_order=True)
    if kept.height == suspects.height:
        return table
    again = suspects.join(kept, on="__at", how="anti")["__at"]
    return table.filter(~pl.int_range(pl.len()).is_in(again.implode()))


def _without_copies(
    table: pl.DataFrame, time: str, keys: Sequence[str], once: pl.Expr | None
) -> pl.DataFrame:
    """A log of whole seconds once, where it is there several times as a whole."""
    rows = table.select(list(keys))
    counts = rows.group_by(list(keys)).agg(n=pl.len())
    times = math.gcd(*counts["n"].unique().to_list())
    if times < 2:
        return table
    if once is not None and counts.filter(once).is_empty():
        return _first_copy(table, rows, time, times)
    copy = pl.int_range(pl.len()).over(list(keys))
    return table.filter(copy * times < pl.len().over(list(keys)))


def _first_copy(table: pl.DataFrame, rows: pl.DataFrame, time: str, most: int) -> pl.DataFrame:
    """The first of copies that stand one after another: each begins before the last one's end."""
    for times in range(most, 1, -1):
        size, rest = divmod(rows.height, times)
        if rest or rows[time][size] >= rows[time][size - 1]:
            continue
        if all(rows[:size].equals(rows[n * size : (n + 1) * size]) for n in range(1, times)):
            return table[:size]
    return table
