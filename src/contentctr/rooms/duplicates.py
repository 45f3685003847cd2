"""Rows that a log holds more than once because it was shipped more than once."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def drop_duplicates(table: pl.DataFrame, time: str, keys: Sequence[str]) -> pl.DataFrame:
    """The table without rows that were shipped again; the first of each stays, in its place.

    By the row's own id (`id`, where a row has one). Rows without: equal ones are duplicates, unless
    the log's times are whole seconds, in which a viewer may well do the same thing twice; then only
    whole copies of the log are, of which every row is there as often.

    Args:
        table: with the columns `time`, `keys` and maybe `id` (text, "" where a row has none).
        time: column of seconds.
        keys: columns in which duplicates are equal.
    """
    if not table.height:
        return table
    numbered = table.with_row_index("__row")
    if "id" in table.columns:
        has_id = numbered.filter(pl.col("id").fill_null("") != "")
        # A log that writes the same id everywhere has none.
        if has_id.height and has_id["id"].n_unique() > 1:
            kept = has_id.unique(["id", *keys], keep="first", maintain_order=True)
            rest = numbered.filter(pl.col("id").fill_null("") == "")
            others = _without_ids(rest, time, keys)
            return pl.concat([kept, others]).sort("__row").drop("__row")
    return _without_ids(numbered, time, keys).drop("__row")


def _without_ids(table: pl.DataFrame, time: str, keys: Sequence[str]) -> pl.DataFrame:
    if not table.height:
        return table
    whole_seconds = bool((table[time] == table[time].floor()).all())
    if not whole_seconds:
        return table.unique(list(keys), keep="first", maintain_order=True)
    counted = table.with_columns(
        __copies=pl.len().over(list(keys)), __copy=pl.int_range(pl.len()).over(list(keys))
    )
    times = int(counted["__copies"].min())  # type: ignore[arg-type]
    kept = counted.filter(pl.col("__copy") * times < pl.col("__copies"))
    return kept.drop("__copies", "__copy")
