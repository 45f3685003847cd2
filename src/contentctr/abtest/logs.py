"""Exposure logs of an A/B test: read, checked, and summed for each user and day.

One row an exposure, in Parquet or CSV:

    user_id  text or a whole number      who was shown a room
    arm      text                        which arm of the test ranked it
    day      date, or a whole number     or instead of it:
    time     date and time (ISO 8601)    its UTC day counts
    clicked  true/false or 1/0           whether the user went in
    play_s   seconds, at least 0         how long the user stayed, 0 without a click
    room_id  optional, not used in the statistics
    simulated  optional true/false       true in the logs of a replay

A folder holds such files (all of its *.parquet and *.csv); they are read one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.files import read_json
from contentctr.progress import progress_bar
from contentctr.rooms.lines import require_suffix
from contentctr.rooms.tables import LINE, RawTable, read_table, reject, type_error

SUFFIXES = (".parquet", ".csv")
MAX_CROSSED_SHARE = 0.01
"""More users in several arms than this share stop the command: the assignment is broken."""
LOG_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "arm": pl.String,
    "day": pl.Int32,
    "room_id": pl.String,
    "segment": pl.Int32,
    "clicked": pl.Boolean,
    "play_s": pl.Float64,
    "simulated": pl.Boolean,
}
"""Columns of the logs that a replay writes."""
USER_DAYS_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "arm": pl.String,
    "day": pl.String,
    "exposures": pl.Int64,
    "clicks": pl.Int64,
    "play_s": pl.Float64,
}

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_KEY = ("user_id", "arm", "day")


@dataclass(frozen=True, kw_only=True)
class ExposureLog:
    """Sums of an exposure log, and what was counted and noticed while it was read."""

    user_days: pl.DataFrame
    """Of USER_DAYS_SCHEMA, one row a user and day, sorted; users of several arms left out."""
    days: list[str]
    """Days in order."""
    rows: int
    """Exposures read, before users were left out."""
    users: int
    """Distinct users, with those left out."""
    crossed_users: int
    """Users seen in several arms, left out of everything."""
    simulated: bool
    manifest: dict[str, Any]
    """manifest.json beside the logs; empty where there is none."""
    warnings: list[str] = field(default_factory=list)


def read_logs(source: Path, *, show_progress: bool = True) -> ExposureLog:
    """Read a log file, or a folder of them, into sums for each user and day.

    Users seen in several arms are left out and counted: each of them belongs to no arm, and half
    of a user in each would make the arms depend on each other. More than MAX_CROSSED_SHARE of
    them is an error.

    Args:
        source: a .parquet or .csv file, or a folder with at least one.
        show_progress: show a bar over the files.

    Raises:
        InputError: nothing to read, a column is missing or of a wrong type, more than 1 % of a
            file's rows are bad, fewer than two arms, or too many users in several.
    """
    files = _files(source)
    parts, warnings, simulated, rows = [], [], False, 0
    # One file at a time: a log may be larger than memory, its sums by user and day are not.
    with progress_bar("Reading logs", len(files), show=show_progress) as bar:
        for path in files:
            part, more, marked = _read_file(path)
            parts.append(_sum(part))
            rows += part.height
            warnings += more
            simulated |= marked
            bar.advance()
    table = pl.concat(parts).group_by(_KEY).agg(pl.col("exposures", "clicks", "play_s").sum())
    manifest = _manifest(source)
    table, users, crossed = _leave_out_crossed(source, table)
    if crossed:
        warnings.append(f"{source}: left out {crossed} of {users} users, seen in several arms")
    if not table.height or table["arm"].n_unique() < 2:
        raise InputError(f"{source}: must have two arms or more, not {_arms(table)}")
    return ExposureLog(
        user_days=table.select(pl.col(k).cast(v) for k, v in USER_DAYS_SCHEMA.items()),
        days=_day_order(table),
        rows=rows,
        users=users,
        crossed_users=crossed,
        simulated=simulated or manifest.get("simulated") is True,
        manifest=manifest,
        warnings=warnings,
    )


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        require_suffix(source, "exposures", SUFFIXES)
        if not source.is_file():
            raise InputError(f"{source}: no such file or folder")
        return [source]
    found = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"{source}: holds no exposure log (*.parquet or *.csv)")
    return found


def _manifest(source: Path) -> dict[str, Any]:
    path = (source if source.is_dir() else source.parent) / "manifest.json"
    return read_json(path) if path.is_file() else {}


def _read_file(path: Path) -> tuple[pl.DataFrame, list[str], bool]:
    """The good rows of a file, warnings about the others, and whether it says simulated."""
    raw = read_table(path, ["user_id", "arm", "clicked", "play_s"], others=True)
    names = raw.table.columns
    if "day" not in names and "time" not in names:
        raise InputError(f"{path}: must have a column 'day' or 'time'; it has {names[1:]}")
    if not raw.table.height:
        raise InputError(f"{path}: must have at least one row, not 0")
    _check_types(path, raw)
    table = raw.table.select(
        LINE,
        user_id=pl.col("user_id").cast(pl.String),
        arm=pl.col("arm").cast(pl.String),
        day=_day(raw, "day" if "day" in names else "time"),
        clicked=_flag(raw, "clicked"),
        play_s=_number(raw, "play_s"),
    )
    total = raw.total  # before bad rows are noted, which would count them twice
    good = reject(raw, table, _reason()).drop(LINE)
    marked = "simulated" in names and bool(raw.table.select(_flag(raw, "simulated").any()).item())
    return good, raw.bad.warnings(total), marked


def _check_types(path: Path, raw: RawTable) -> None:
    if raw.is_text:
        return
    texts: tuple[Any, ...] = (pl.String, pl.Categorical, pl.Enum)
    schema = raw.table.schema
    for name, rule, good in (
        ("user_id", "text or a whole number", lambda k: k in texts or k.is_integer()),
        ("arm", "text", lambda k: k in texts),
        ("clicked", "true/false or 1/0", lambda k: k == pl.Boolean or k.is_integer()),
        ("play_s", "a number of seconds", lambda k: k.is_numeric()),
        ("day", "a date or a whole number", lambda k: k in (pl.Date, pl.String) or k.is_integer()),
        ("time", "a date and time", lambda k: k == pl.Datetime or k == pl.String),
        ("simulated", "true/false", lambda k: k == pl.Boolean),
    ):
        if name in schema and not good(schema[name]) and (name != "time" or "day" not in schema):
            raise type_error(path, name, rule, str(schema[name]))


def _day(raw: RawTable, name: str) -> pl.Expr:
    """The day as text: ISO for dates, digits for numbers; null where it is none."""
    kind, column = raw.table.schema[name], pl.col(name)
    if name == "time":
        if kind == pl.String:
            # A time without a zone is taken as UTC.
            column = column.str.strip_chars().str.to_datetime(time_zone="UTC", strict=False)
        elif isinstance(kind, pl.Datetime) and kind.time_zone is not None:
            column = column.dt.convert_time_zone("UTC")
        return column.dt.date().cast(pl.String)
    if kind != pl.String:
        return column.cast(pl.String)
    text = column.str.strip_chars()
    as_date = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.String)
    return pl.coalesce(as_date, text.cast(pl.Int64, strict=False).cast(pl.String))


def _flag(raw: RawTable, name: str) -> pl.Expr:
    column = pl.col(name)
    if raw.table.schema[name] == pl.Boolean:
        return column
    text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    return pl.when(text.is_in(_TRUE)).then(True).when(text.is_in(_FALSE)).then(False)


def _number(raw: RawTable, name: str) -> pl.Expr:
    column = pl.col(name).str.strip_chars() if raw.is_text else pl.col(name)
    return column.cast(pl.Float64, strict=False)


def _reason() -> pl.Expr:
    """Why a row is bad; null where it is good."""
    return (
        pl.when(pl.col("user_id").fill_null("") == "")
        .then(pl.lit("user_id is missing"))
        .when(pl.col("arm").fill_null("") == "")
        .then(pl.lit("arm is missing"))
        .when(pl.col("day").is_null())
        .then(pl.lit("day or time is missing or not a date, a whole number, a date and time"))
        .when(pl.col("clicked").is_null())
        .then(pl.lit("clicked must be true/false or 1/0"))
        .when(~pl.col("play_s").is_finite().fill_null(False))
        .then(pl.lit("play_s must be a finite number of seconds"))
        .when(pl.col("play_s") < 0)
        .then(pl.format("play_s must be at least 0, not {}", "play_s"))
    )


def _sum(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by(_KEY).agg(
        exposures=pl.len().cast(pl.Int64),
        clicks=pl.col("clicked").sum().cast(pl.Int64),
        play_s=pl.col("play_s").sum(),
    )


def _leave_out_crossed(source: Path, table: pl.DataFrame) -> tuple[pl.DataFrame, int, int]:
    arms = table.group_by("user_id").agg(arms=pl.col("arm").n_unique())
    crossed = arms.filter(pl.col("arms") > 1)
    if crossed.height > MAX_CROSSED_SHARE * arms.height:
        raise InputError(
            f"{source}: {crossed.height} of {arms.height} users are seen in several arms, and at "
            f"most {MAX_CROSSED_SHARE:.0%} may be; first: user {crossed['user_id'].min()!r}"
        )
    kept = table.join(crossed, on="user_id", how="anti")
    return kept.sort("user_id", "day"), arms.height, crossed.height


def _arms(table: pl.DataFrame) -> Sequence[str]:
    return sorted(table["arm"].unique().to_list())


def _day_order(table: pl.DataFrame) -> list[str]:
    """Days in order: whole numbers by value, ISO dates as text."""
    days = table["day"].unique().to_list()
    if all(day.lstrip("-").isdigit() for day in days):
        return sorted(days, key=int)
    return sorted(days)
