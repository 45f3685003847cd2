"""Exposure logs of an A/B test: read, checked, and summed for each user and day.

One row an exposure, in Parquet, CSV or TSV, gzip around it or not:

    user_id  text or a whole number      who was shown a room
    arm      text                        which arm of the test ranked it
    day      date, or a whole number     or instead of it:
    time     date and time (ISO 8601),   its UTC day counts
             or Unix time (s, ms, us, ns)
    clicked  true/false, 1/0, 1.0/0.0    whether the user went in
    play_s   seconds, at least 0         how long the user stayed; 0 or empty without a click
    room_id  optional, not used in the statistics
    simulated  optional true/false       true in the logs of a replay

A folder holds such files; they are read one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.files import read_json
from contentctr.progress import progress_bar
from contentctr.rooms.cells import Checked, as_flags, as_ids, as_numbers, as_text
from contentctr.rooms.moment_columns import EPOCH, column_seconds
from contentctr.rooms.moments import UNIX_S
from contentctr.rooms.tables import (
    LINE,
    SUFFIXES,
    RawTable,
    has_suffix,
    read_table,
    reject,
    type_error,
)

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

_YEAR_10000_S = 253402300800.0
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
        source: a file, or a folder with at least one.
        show_progress: show a bar over the files.

    Raises:
        InputError: nothing to read, a column is missing or of a wrong type, too many of a file's
            rows are bad (`BadLines.warnings`), fewer than two arms, or too many users in several.
    """
    warnings: list[str] = []
    files = _files(source, warnings)
    parts, simulated, rows = [], False, 0
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
        warnings.append(
            f"{source}: left out {crossed} of {counted(users, 'user')}, seen in several arms"
        )
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


def _files(source: Path, warnings: list[str]) -> list[Path]:
    """The logs to read; a folder's other files are named in `warnings`."""
    if not source.is_dir():
        if not source.is_file():
            raise InputError(f"{source}: no such file or folder")
        return [source]
    entries = [p for p in sorted(source.iterdir()) if not p.name.startswith((".", "_"))]
    found = [p for p in entries if p.is_file() and has_suffix(p)]
    if not found:
        raise InputError(f"{source}: holds no exposure log ({', '.join(SUFFIXES)})")
    others = [p.name for p in entries if p not in found and p.name != "manifest.json"]
    if others:
        warnings.append(f"{source}: did not read {', '.join(others[:10])}")
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
    users = as_ids(raw.table["user_id"], "user_id")
    clicked = as_flags(raw.table["clicked"], "clicked")
    played, filled = _played(raw, clicked.values)
    days, day_reasons = _days(raw, "day" if "day" in names else "time")
    table = pl.DataFrame(
        {
            LINE: raw.table[LINE],
            "user_id": users.values,
            "arm": as_text(raw.table["arm"]),
            "day": days,
            "clicked": clicked.values,
            "play_s": played.values,
            "why": pl.DataFrame(
                [
                    series.alias(str(number))
                    for number, series in enumerate(
                        (users.reasons, day_reasons, clicked.reasons, played.reasons)
                    )
                ]
            ).select(pl.coalesce(pl.all()))["0"],
        }
    )
    good = reject(raw, table, _reason()).drop(LINE, "why")
    warnings = raw.warnings + raw.bad.warnings(raw.total)
    warnings += [f"{path}: {doubt}" for doubt in users.warnings]
    if filled:
        warnings.append(
            f"{path}: play_s is empty in {counted(filled, 'row')} without a click: taken as 0"
        )
    marked = "simulated" in names and as_flags(raw.table["simulated"], "simulated").values.any()
    return good, warnings, bool(marked)


def _check_types(path: Path, raw: RawTable) -> None:
    if raw.is_text:
        return
    texts: tuple[Any, ...] = (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)
    schema = raw.table.schema
    rules: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
        ("user_id", "text or a whole number", lambda k: k in texts or k.is_numeric()),
        ("arm", "text", lambda k: k in texts or k.is_integer()),
        (
            "clicked",
            "true/false or 1/0",
            lambda k: k == pl.Boolean or k in texts or k.is_numeric(),
        ),
        ("play_s", "a number of seconds", lambda k: k in texts or k.is_numeric()),
        (
            "day",
            "a date or a whole number",
            lambda k: k in (pl.Date, pl.Datetime, *texts) or k.is_integer(),
        ),
        (
            "time",
            "a date and time, or Unix time",
            lambda k: k in (pl.Date, pl.Datetime, *texts) or k.is_numeric(),
        ),
    )
    for name, rule, good in rules:
        if name in schema and not good(schema[name]) and (name != "time" or "day" not in schema):
            raise type_error(path, name, rule, str(schema[name]))


def _days(raw: RawTable, name: str) -> tuple[pl.Series, pl.Series]:
    """The day as text, ISO for dates, digits for numbers; and why a row has none."""
    column = raw.table[name]
    if column.dtype == pl.Date:
        days = column.cast(pl.String)
        return days, _why(days, column.cast(pl.String), f"{name} must be a date, not ")
    if name == "day" and column.dtype != pl.Datetime:
        text = as_text(column)
        as_date = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.String)
        number = text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False).cast(pl.String)
        days = pl.select(pl.coalesce(as_date, number)).to_series()
        return days, _why(days, text, "day must be a date (2024-05-01) or a whole number, not ")
    # A time without a zone is taken as UTC.
    times = column_seconds(EPOCH, column, name, raw.delimiter)
    # Smaller numbers are seconds from some start, or days such as 20240501.
    since_1970 = (times.seconds >= UNIX_S) & (times.seconds < _YEAR_10000_S)
    seconds = pl.select(pl.when(since_1970).then(times.seconds)).to_series()
    days = pl.from_epoch((seconds / 86400).floor().cast(pl.Int64), time_unit="d").cast(pl.String)
    rule = (
        f"{name} must be a date and time (ISO 8601), or Unix time in s, ms, us or ns (a day such "
        "as 20240501 belongs in a column `day`), not "
    )
    return days, _why(days, as_text(column), rule)


def _why(days: pl.Series, given: pl.Series, rule: str) -> pl.Series:
    """Why a row has no day; null where it has one."""
    return pl.select(
        pl.when(days.is_null()).then(
            pl.when(given.is_null())
            .then(pl.lit("day or time is missing"))
            .otherwise(pl.concat_str(pl.lit(rule + "'"), given.str.slice(0, 60), pl.lit("'")))
        )
    ).to_series()


def _played(raw: RawTable, clicked: pl.Series) -> tuple[Checked, int]:
    """Seconds, 0 where there is none without a click; and how many those were."""
    found = as_numbers(raw.table["play_s"], "play_s", raw.delimiter)
    empty = found.values.is_null() & found.reasons.is_null() & ~clicked.fill_null(True)
    return Checked(values=found.values.set(empty, 0.0), reasons=found.reasons), int(empty.sum())


def _reason() -> pl.Expr:
    """Why a row is bad; null where it is good."""
    return pl.coalesce(
        "why",
        pl.when(pl.col("arm").is_null()).then(pl.lit("arm is missing")),
        pl.when(pl.col("play_s").is_null()).then(
            pl.lit("play_s is missing, where there is a click")
        ),
        pl.when(pl.col("play_s") < 0).then(
            pl.format("play_s must be at least 0, not {}", "play_s")
        ),
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
