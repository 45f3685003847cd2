"""A user's own numbers: columns.csv or columns.parquet."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.lines import Part, require_suffix
from contentctr.rooms.tables import LINE, RawTable, read_table, reject, type_error

SUFFIXES = (".parquet", ".csv")


def read_columns(path: Path) -> Part:
    """A table of `t` and the user's own numeric columns, all Float64, sorted by time.

    An empty cell and NaN both mean that there is no value; they become null.

    Args:
        path: .parquet or .csv with `t` (seconds from the room's start) and at least one more
            column of numbers.

    Raises:
        InputError: the file is unreadable, a column is missing or not of numbers, or more than
            1 % of the lines are bad.
    """
    require_suffix(path, "columns", SUFFIXES)
    raw = read_table(path, ["t"], others=True)
    names = [name for name in raw.table.columns if name not in (LINE, "t")]
    if not names:
        raise InputError(f"{path}: must have a column of numbers beside 't'")
    table = _numbers(path, raw, ["t", *names])
    reasons = [_reason(name) for name in names]
    total = raw.total
    good = reject(raw, table, pl.coalesce(_time_reason(), *reasons)).select("t", *names)
    warnings = raw.bad.warnings(total)
    return Part(
        path=path,
        table=good.with_columns(pl.col(names).fill_nan(None)).sort("t", maintain_order=True),
        bad_lines=raw.bad.count,
        warnings=warnings,
    )


def _numbers(path: Path, raw: RawTable, names: list[str]) -> pl.DataFrame:
    """Each column as Float64 beside what the file holds (`NAME__given`)."""
    table = raw.table
    for name in names:
        kind = table.schema[name]
        if not raw.is_text and not kind.is_numeric():
            raise type_error(path, name, "of numbers (Float64)", str(kind))
        given = pl.col(name).str.strip_chars() if raw.is_text else pl.col(name)
        table = table.with_columns(
            given.cast(pl.Float64, strict=False).alias(name),
            pl.col(name).cast(pl.String).alias(f"{name}__given"),
        )
        filled = table[f"{name}__given"].drop_nulls()
        if len(filled) and table[name].null_count() == table.height:
            raise type_error(path, name, "of numbers (Float64)", f"text such as {filled[0]!r}")
    return table


def _time_reason() -> pl.Expr:
    given = pl.col("t__given")
    return (
        pl.when(given.is_null())
        .then(pl.lit("t is missing"))
        .when(pl.col("t").is_null())
        .then(pl.format("t must be a number of seconds, not '{}'", given))
        .when(~pl.col("t").is_finite())
        .then(pl.format("t must be finite, not {}", given))
    )


def _reason(name: str) -> pl.Expr:
    given, label = pl.col(f"{name}__given"), pl.lit(name)
    return (
        pl.when(pl.col(name).is_null() & given.is_not_null())
        .then(pl.format("{} must be a number, not '{}'", label, given))
        .when(pl.col(name).is_infinite())
        .then(pl.format("{} must be finite, not {}", label, given))
    )
