"""The rules of moments.TimeAxis for a whole column at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from contentctr.rooms.cells import as_text, no_reasons, plain_numbers
from contentctr.rooms.lines import BadLine
from contentctr.rooms.moments import NO_START, UNITS, UNIX_S, TimeAxis

EPOCH = TimeAxis(started_at=datetime(1970, 1, 1, tzinfo=UTC))
"""Counts Unix seconds."""
_DATE_AND_TIME = (
    r"^(?P<day>[1-9]\d{3}[-/]\d{2}[-/]\d{2})[T ](?P<minute>(?:[01]\d|2[0-3]):[0-5]\d)"
    r"(?::(?P<second>[0-5]\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?:\s*(?P<utc>Z|UTC|GMT)|\s*(?P<sign>[+-])(?P<hours>[01]\d|2[0-3]):?(?P<minutes>[0-5]\d))?$"
)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """A column of times that was read."""

    seconds: pl.Series
    """Float64, null where a row is bad."""
    reasons: pl.Series
    """Text where a row is bad, else null."""
    without_zone: int = 0
    """Clock times that name no zone, taken as in the axis's."""


def column_seconds(axis: TimeAxis, column: pl.Series, name: str, delimiter: str = "") -> Moments:
    """Each time of a column as `TimeAxis.seconds` reads it; an empty cell is a bad row.

    Args:
        axis: when the room started.
        column: numbers, text, Datetime, Duration or Time.
        name: of the field, for messages.
        delimiter: of the file, "" where it has none; with others than commas, 0,5 is a half.
    """
    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        micros = column.dt.epoch("us")
        without_zone = 0 if kind.time_zone else len(column) - column.null_count()
        zoned = pl.select(pl.repeat(kind.time_zone is not None, len(column))).to_series()
        table = _since_start(axis, micros, zoned, column, name)
        return Moments(seconds=table["seconds"], reasons=table["reason"], without_zone=without_zone)
    if kind in (pl.Duration, pl.Time):
        column = column.cast(pl.Duration("ns")).dt.total_nanoseconds() / 1e9
    if column.dtype.is_numeric():
        given, number = column, column.cast(pl.Float64).fill_nan(None)
    else:
        given = as_text(column)
        number = plain_numbers(given, delimiter).cast(pl.Float64, strict=False).fill_nan(None)
    seconds, reasons = _of_numbers(axis, number, given, name)
    others = given.is_not_null() & number.is_null() if given.dtype == pl.String else None
    if others is None or not others.any():
        return Moments(seconds=seconds, reasons=reasons)
    words = _of_words(axis, given.filter(others).unique(), name)
    table = pl.DataFrame({"given": given, "seconds": seconds, "reason": reasons})
    table = table.join(words, on="given", how="left", maintain_order="left")
    return Moments(
        seconds=table.select(pl.coalesce("seconds", "seconds_right")).to_series(),
        reasons=table.select(pl.coalesce("reason_right", "reason")).to_series(),
        without_zone=int(table["without_zone"].sum() or 0),
    )


def _of_numbers(
    axis: TimeAxis, number: pl.Series, given: pl.Series, name: str
) -> tuple[pl.Series, pl.Series]:
    """Seconds, and reasons, of numbers; null in both where the cell is words."""
    reasons = no_reasons(number)
    largest = number.max()
    sound = number.is_finite().all() and (largest is None or largest < UNIX_S)  # type: ignore[operator]
    if sound and not given.null_count():
        return number, reasons
    table = pl.DataFrame({"number": number, "given": given.cast(pl.String)})
    x, shown = pl.col("number"), pl.col("given").str.slice(0, 60)
    unix: pl.Expr = pl.when(x >= UNIX_S).then(x)
    if axis.started_at is not None:
        start = axis.started_at.timestamp()
        for least, per_second, _ in reversed(UNITS):
            unix = pl.when(x >= least).then(x / per_second - start).otherwise(unix)
    reason = (
        pl.when(pl.col("given").is_null())
        .then(pl.lit(f"{name} is missing"))
        .when(x.is_infinite())
        .then(pl.format("{} must be finite, not {}", pl.lit(name), shown))
    )
    if axis.started_at is None:
        reason = reason.when(x >= UNIX_S).then(
            pl.format("{} is Unix time ({}), and {}", pl.lit(name), shown, pl.lit(NO_START))
        )
    table = table.select(
        seconds=pl.when(x.is_finite() & (x < UNIX_S)).then(x).otherwise(unix), reason=reason
    )
    table = table.with_columns(seconds=pl.when(pl.col("reason").is_null()).then("seconds"))
    return table["seconds"], table["reason"]


def _of_words(axis: TimeAxis, words: pl.Series, name: str) -> pl.DataFrame:
    """`given`, `seconds`, `reason` and `without_zone` of times that are no numbers, each once."""
    parts = words.to_frame("given").with_columns(
        pl.col("given").str.extract_groups(_DATE_AND_TIME).struct.unnest()
    )
    micros = pl.concat_str(
        pl.col("day").str.replace_all("/", "-", literal=True),
        pl.lit("T"),
        "minute",
        pl.lit(":"),
        pl.col("second").fill_null("00"),
        pl.lit("."),
        pl.col("fraction").fill_null("0").str.slice(0, 6),
    ).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us")
    offset_min = pl.col("hours").cast(pl.Int64) * 60 + pl.col("minutes").cast(pl.Int64)
    parts = parts.select(
        "given",
        micros=micros.dt.epoch("us")
        - pl.when(pl.col("sign") == "-").then(-offset_min).otherwise(offset_min).fill_null(0)
        * 60_000_000,
        zoned=pl.col("utc").is_not_null() | pl.col("sign").is_not_null(),
    )
    dated = parts.filter(pl.col("micros").is_not_null())
    found = _since_start(axis, dated["micros"], dated["zoned"], dated["given"], name)
    # Clocks, other ISO forms and what is no time: as one by one, and each only once.
    rest: list[tuple[str, float | None, str | None, bool]] = []
    for text in parts.filter(pl.col("micros").is_null())["given"]:
        try:
            rest.append((text, axis.seconds(text, name), None, False))
        except BadLine as reason:
            rest.append((text, None, str(reason), False))
    schema = {
        "given": pl.String,
        "seconds": pl.Float64,
        "reason": pl.String,
        "without_zone": pl.Boolean,
    }
    without_zone = found.with_columns(without_zone=~dated["zoned"]).select(list(schema))
    return pl.concat([without_zone, pl.DataFrame(rest, schema=schema, orient="row")])


def _since_start(
    axis: TimeAxis, micros: pl.Series, zoned: pl.Series, given: pl.Series, name: str
) -> pl.DataFrame:
    """`given`, `seconds` and `reason` of microseconds since 1970; without zone, in the axis's."""
    table = pl.DataFrame({"given": given.cast(pl.String), "micros": micros, "zoned": zoned})
    missing = pl.when(pl.col("micros").is_null()).then(pl.lit(f"{name} is missing"))
    if axis.started_at is None:
        clock = pl.format(
            "{} is a clock time ({}), and {}", pl.lit(name), "given", pl.lit(NO_START)
        )
        return table.select(
            "given", seconds=pl.lit(None, pl.Float64), reason=missing.otherwise(clock)
        )
    start_us = _micros(axis.started_at)
    local_us = _micros(axis.started_at.replace(tzinfo=UTC))
    start = pl.when("zoned").then(pl.lit(start_us, pl.Int64)).otherwise(pl.lit(local_us, pl.Int64))
    return table.select("given", seconds=(pl.col("micros") - start) / 1e6, reason=missing)


def _micros(time: datetime) -> int:
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
