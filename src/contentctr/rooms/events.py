"""Action logs: who did what when, from Parquet or CSV."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from polars.datatypes import DataTypeClass

from contentctr.rooms.lines import Part, require_suffix
from contentctr.rooms.room import EVENT_KINDS, EVENTS_SCHEMA
from contentctr.rooms.tables import LINE, RawTable, read_table, reject, type_error

SUFFIXES = (".parquet", ".csv")
_TEXTS: tuple[DataTypeClass, ...] = (pl.String, pl.Categorical, pl.Enum)


def read_events(path: Path) -> Part:
    """An action log as a table of EVENTS_SCHEMA, sorted by time, without exact duplicates.

    Duplicates (same user, time and kind) are left out because logs are shipped at least once.
    Everything is vectorised: a log can have tens of millions of lines.

    Args:
        path: .parquet or .csv with `user_id` (text or whole numbers, kept digit by digit), `t`
            (seconds from the room's start) and `kind` (one of EVENT_KINDS, exactly).

    Raises:
        InputError: the file is unreadable, a column is missing or of a wrong type, or more than
            1 % of the lines are bad.
    """
    require_suffix(path, "events", SUFFIXES)
    raw = read_table(path, list(EVENTS_SCHEMA))
    _check_types(path, raw)
    t_text = pl.col("t").str.strip_chars() if raw.is_text else pl.col("t")
    table = raw.table.select(
        LINE,
        user_id=pl.col("user_id").cast(pl.String),
        t=t_text.cast(pl.Float64, strict=False),
        t_given=pl.col("t").cast(pl.String),
        kind=pl.col("kind").cast(pl.String).cast(pl.Enum(EVENT_KINDS), strict=False),
        kind_given=pl.col("kind").cast(pl.String),
    )
    if raw.is_text and table.height and table["t"].null_count() == table.height:
        found = f"text such as {table['t_given'].drop_nulls().first()!r}"
        raise type_error(path, "t", "a number of seconds (Float64)", found)
    total = raw.total
    good = reject(raw, table, _reason()).select(list(EVENTS_SCHEMA))
    warnings = raw.bad.warnings(total)
    distinct = good.unique(keep="first", maintain_order=True)
    return Part(
        path=path,
        table=distinct.sort("t", maintain_order=True),
        bad_lines=raw.bad.count,
        duplicates=good.height - distinct.height,
        warnings=warnings,
    )


def _check_types(path: Path, raw: RawTable) -> None:
    if raw.is_text:
        return
    schema = raw.table.schema
    if not (schema["user_id"].is_integer() or schema["user_id"] in _TEXTS):
        raise type_error(path, "user_id", "String or a whole number", str(schema["user_id"]))
    if not schema["t"].is_numeric():
        raise type_error(path, "t", "a number of seconds (Float64)", str(schema["t"]))
    if schema["kind"] not in _TEXTS:
        raise type_error(path, "kind", "String", str(schema["kind"]))


def _reason() -> pl.Expr:
    """Why a row is bad; null where it is good."""
    return (
        pl.when(pl.col("user_id").fill_null("") == "")
        .then(pl.lit("user_id is missing"))
        .when(pl.col("t_given").is_null())
        .then(pl.lit("t is missing"))
        .when(pl.col("t").is_null())
        .then(pl.format("t must be a number of seconds, not '{}'", "t_given"))
        .when(~pl.col("t").is_finite())
        .then(pl.format("t must be finite, not {}", "t_given"))
        .when(pl.col("kind_given").is_null())
        .then(pl.lit("kind is missing"))
        .when(pl.col("kind").is_null())
        .then(
            pl.format(
                "kind must be one of {}, not '{}'", pl.lit(", ".join(EVENT_KINDS)), "kind_given"
            )
        )
    )
