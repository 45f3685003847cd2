"""The files of KuaiLive-M3 as they are published, scanned lazily, ids and times in one form.

Ids become Int64, times Int64 milliseconds since 1970 (UTC), whatever they are stored as: integers
in s, ms, us or ns, text of digits, ISO 8601 text, or datetimes of any unit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from contentctr.errors import InputError

VISUAL_DIM = 128
"""Width of a stored segment embedding."""
NUM_SHARDS = 18
"""Files that the segment embeddings are published in."""
MAX_ID = (1 << 32) - 1
"""Ids are consecutive integers from 1; a greater one is a wrong one."""
ROW, REASON = "row", "reason"
_SAMPLE_ROWS = 10_000
"""Rows that tell a time column's unit."""
_EARLIEST_MS, _LATEST_MS = 946_684_800_000, 4_102_444_800_000
"""2000 and 2100: a time outside of them is a wrong one."""
_MS_PER = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
_ISO = "%Y-%m-%dT%H:%M:%S%.f"

_Reader = Callable[[pl.Series], pl.Series]
Kind = Literal["id", "time", "number", "text", "vector"]


@dataclass(frozen=True)
class Column:
    """A published column that is read."""

    name: str
    """Ours."""
    published: tuple[str, ...]
    """Names it may have."""
    kind: Kind
    required: bool = True
    """Whether a row without a value is bad."""


_ROOM = Column("live_id", ("live_id", "live_stream_id"), "id")
_USER = Column("user_id", ("user_id",), "id")


@dataclass(frozen=True)
class Table:
    """A published table: its file's name without suffix, and the columns that are read."""

    stem: str
    columns: tuple[Column, ...]
    optional: bool = True


TABLES = {
    "rooms": Table(
        "live_room_meta",
        (
            _ROOM,
            Column("author_id", ("author_id",), "id"),
            Column("start", ("start_timestamp",), "time"),
            Column("end", ("end_timestamp",), "time", required=False),
        ),
        optional=False,
    ),
    "sessions": Table(
        "live_interaction",
        (
            _ROOM,
            _USER,
            Column("start", ("live_play_start_timestamp",), "time"),
            Column("end", ("live_play_end_timestamp",), "time", required=False),
            Column("duration", ("play_duration",), "number", required=False),
            Column("action", ("enter_live_action",), "text", required=False),
        ),
        optional=False,
    ),
    "vectors": Table(
        "live_emb_128_ts",
        (
            _ROOM,
            Column("t", ("timestamp",), "time"),
            Column("vector", ("feature_128",), "vector", required=False),
        ),
        optional=False,
    ),
    "shows": Table("live_show", (_ROOM, _USER, Column("t", ("show_timestamp",), "time"))),
    "likes": Table("live_like", (_ROOM, _USER, Column("t", ("like_timestamp",), "time"))),
    "comments": Table(
        "live_comment",
        (
            _ROOM,
            _USER,
            Column("t", ("comment_ts",), "time"),
            Column("text", ("content",), "text", required=False),
        ),
    ),
}
"""What is read, by our names. live_share, live_room_set, live_emb_64, author_profile and
user_id_set are left alone: no segment's input or target comes from them."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One published file, not read yet."""

    path: Path
    frame: pl.LazyFrame
    """`row` (counted from 0), our columns, and `reason`: which column makes the row bad."""
    units: Mapping[str, str]
    """How each time column is stored, by its published name."""


def find_tables(source: Path) -> dict[str, list[Path]]:
    """The files of each table of TABLES that is there, shards in the order of their numbers.

    Raises:
        InputError: no folder, a table that cannot be left out is missing, or one is there twice.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    found = {}
    for name, table in TABLES.items():
        paths = _files_of(source, table.stem)
        if paths:
            found[name] = paths
        elif not table.optional:
            raise InputError(
                f"{source}: {table.stem} is missing (.parquet or .csv"
                f"{', or its shards in a folder' if name == 'vectors' else ''}); it is needed"
            )
    return found


def scan_file(name: str, path: Path, *, leave_out: Sequence[str] = (), zone: str = "UTC") -> Scan:
    """Scan one file of a table.

    Args:
        name: of TABLES.
        path: the file.
        leave_out: our names of columns not wanted.
        zone: time zone of datetimes, and ISO texts, that name none.

    Raises:
        InputError: it is unreadable, a column is missing, or has a type that cannot be meant.
    """
    raw = _scan(path)
    try:
        schema = raw.collect_schema()
        sample = raw.head(_SAMPLE_ROWS)
        columns = [c for c in TABLES[name].columns if c.name not in leave_out]
        published = {c.name: _published(path, c, schema) for c in columns}
        times = [published[c.name] for c in columns if c.kind == "time"]
        first = sample.select(times).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    units = {column: time_unit(first[column]) for column in times}
    wanted = {}
    for column in columns:
        field = published[column.name]
        try:
            wanted[column.name] = _normalise(column.kind, field, schema[field], units, zone)
        except TypeError as error:
            raise InputError(f"{path}: column {field!r} {error}") from None
    reason = pl.coalesce(
        pl.when(pl.col(c.name).is_null()).then(pl.lit(published[c.name]))
        for c in columns
        if c.required
    )
    frame = raw.select(
        pl.col(ROW).cast(pl.Int64), *(expr.alias(k) for k, expr in wanted.items())
    ).with_columns(reason.alias(REASON))
    return Scan(path=path, frame=frame, units=units)


def time_unit(values: pl.Series) -> str:
    """How times are stored: s, ms, us, ns (integers), "text" (ISO 8601), or "datetime".

    Args:
        values: some values of the column; integers, floats, text or datetimes.
    """
    if values.dtype.is_temporal():
        return "datetime"
    values = values.drop_nulls()
    if values.dtype == pl.String:
        values = values.str.strip_chars()
        values = values.filter(values != "")
        numbers = values.cast(pl.Float64, strict=False).drop_nulls()
        if len(numbers) * 2 < len(values) or not len(values):
            return "text"
        values = numbers
    typical = values.cast(pl.Float64, strict=False).abs().median()
    if not isinstance(typical, float):
        return "ms"
    for unit, most in (("s", 1e11), ("ms", 1e14), ("us", 1e17)):
        if typical < most:
            return unit
    return "ns"


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that Polars gives up on."""
    return InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})")


def _files_of(source: Path, stem: str) -> list[Path]:
    singles = [p for p in (source / f"{stem}.parquet", source / f"{stem}.csv") if p.is_file()]
    shards: list[Path] = []
    if stem == TABLES["vectors"].stem:
        folders = (source, source / stem)
        shards = [p for folder in folders for p in folder.glob(f"{stem}_part*.parquet")]
    if len(singles) > 1 or (singles and shards):
        both = ", ".join(str(p.relative_to(source)) for p in [*singles, *shards][:2])
        raise InputError(f"{source}: {stem} is there more than once ({both}); leave one")
    twice = {p.name for p in shards if sum(q.name == p.name for q in shards) > 1}
    if twice:
        raise InputError(f"{source}: {min(twice)} is there more than once; leave one")
    return singles or sorted(shards, key=_by_numbers)


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    """`part2` before `part10`."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _scan(path: Path) -> pl.LazyFrame:
    try:
        if path.suffix == ".parquet":
            return pl.scan_parquet(path, row_index_name=ROW, hive_partitioning=False, glob=False)
        return pl.scan_csv(path, infer_schema=False, row_index_name=ROW, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(path, error) from None


def _published(path: Path, column: Column, schema: Mapping[str, Any]) -> str:
    there = [name for name in column.published if name in schema]
    if len(there) != 1:
        wanted = " or ".join(column.published)
        rule = "is missing" if not there else "is there under both names"
        names = [name for name in schema if name != ROW]
        raise InputError(f"{path}: column {wanted} {rule}; it has {', '.join(names)}")
    return there[0]


def _normalise(kind: Kind, name: str, dtype: Any, units: Mapping[str, str], zone: str) -> pl.Expr:
    column = pl.col(name)
    if kind == "text":
        if dtype != pl.String and not isinstance(dtype, (pl.Categorical, pl.Enum, pl.Null)):
            raise TypeError(f"must be text, not {dtype}")
        return column.cast(pl.String)
    if kind == "vector":
        return _vector(column, dtype)
    if kind == "time":
        return _time(column, dtype, units[name], zone)
    whole = _integer(column, dtype)
    return whole if kind == "number" else pl.when(whole.is_between(0, MAX_ID)).then(whole)


def _integer(column: pl.Expr, dtype: Any) -> pl.Expr:
    """Whole numbers; anything else becomes null."""
    if dtype == pl.String:
        # Tables that were pandas' once have 12.0 where a column had a missing value.
        return _from_text(column, _whole, lambda text: _whole(text.str.replace(r"\.0*$", "")))
    if dtype.is_float():
        return pl.when(column == column.floor()).then(column.cast(pl.Int64, strict=False))
    if not (dtype.is_integer() or dtype == pl.Null):
        raise TypeError(f"must be whole numbers or text, not {dtype}")
    return column.cast(pl.Int64, strict=False)


def _time(column: pl.Expr, dtype: Any, unit: str, zone: str) -> pl.Expr:
    if dtype == pl.Null:
        return column.cast(pl.Int64)
    if isinstance(dtype, pl.Datetime):
        ms = _to_utc(column, zone) if dtype.time_zone is None else column.dt.epoch("ms")
    elif unit == "text" and dtype == pl.String:
        ms = _iso(column, zone)
    elif dtype == pl.String or dtype.is_numeric():
        ms = _number_to_ms(column, dtype, unit)
    else:
        raise TypeError(f"must be a time (a number, text, or a datetime), not {dtype}")
    return pl.when(ms.is_between(_EARLIEST_MS, _LATEST_MS)).then(ms)


def _number_to_ms(column: pl.Expr, dtype: Any, unit: str) -> pl.Expr:
    times, over = _MS_PER[unit]
    if dtype.is_integer():
        return column.cast(pl.Int64, strict=False) * times // over
    if dtype == pl.String:

        def whole(text: pl.Series) -> pl.Series:
            return _whole(text) * times // over

        def parts(text: pl.Series) -> pl.Series:
            ms = (text.cast(pl.Float64, strict=False) * times / over).round()
            return whole(text).fill_null(ms.cast(pl.Int64, strict=False))

        return _from_text(column, whole, parts)
    return (column.cast(pl.Float64) * times / over).round().cast(pl.Int64, strict=False)


def _whole(text: pl.Series) -> pl.Series:
    return text.cast(pl.Int64, strict=False)


def _from_text(column: pl.Expr, read: _Reader, careful: _Reader) -> pl.Expr:
    """Numbers from text: `careful` reads it, stripped, only where `read` finds none in a part."""

    def parse(text: pl.Series) -> pl.Series:
        found = read(text)
        odd = found.is_null() & text.is_not_null()
        if not odd.any():
            return found
        return found.zip_with(~odd, careful(text.str.strip_chars()))

    return column.map_batches(parse, return_dtype=pl.Int64, is_elementwise=True)


def _iso(column: pl.Expr, zone: str) -> pl.Expr:
    text = (
        column.str.strip_chars()
        .str.replace(r"^(\d{4}-\d\d-\d\d) +", "${1}T")
        .str.replace(r" *[zZ]$", "+0000")
        .str.replace(r" *([+-]\d\d):?(\d\d)$", "${1}${2}")
    )
    zoned = text.str.contains(r"T.*[+-]\d{4}$")
    with_zone = text.str.to_datetime(f"{_ISO}%z", time_unit="us", time_zone="UTC", strict=False)
    without = text.str.to_datetime(_ISO, time_unit="us", strict=False)
    return pl.when(zoned).then(with_zone.dt.epoch("ms")).otherwise(_to_utc(without, zone))


def _to_utc(naive: pl.Expr, zone: str) -> pl.Expr:
    local = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.epoch("ms")


def _vector(column: pl.Expr, dtype: Any) -> pl.Expr:
    inner = getattr(dtype, "inner", None)
    if inner is None or not inner.is_numeric():
        raise TypeError(f"must be lists of {VISUAL_DIM} numbers, not {dtype}")
    if isinstance(dtype, pl.Array):
        if dtype.shape != (VISUAL_DIM,):
            raise TypeError(f"must be lists of {VISUAL_DIM} numbers, not {dtype}")
        return column.cast(pl.Array(pl.Float32, VISUAL_DIM))
    return column.list.to_array(VISUAL_DIM).cast(pl.Array(pl.Float32, VISUAL_DIM))
