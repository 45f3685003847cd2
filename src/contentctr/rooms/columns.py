"""A user's own numbers: columns.csv, columns.parquet and their kin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.cells import Checked, as_flags, as_numbers, as_text, no_reasons
from contentctr.rooms.events import NAMES
from contentctr.rooms.lines import Part
from contentctr.rooms.moment_columns import column_seconds
from contentctr.rooms.moments import TimeAxis
from contentctr.rooms.tables import LINE, RawTable, read_table, reject

_TEXT_SHARE = 0.5
"""A column of which more cells than this share are no numbers is text."""


def read_columns(
    path: Path, axis: TimeAxis | None = None, names: Mapping[str, str] | None = None
) -> Part:
    """A table of `t` and the user's own numeric columns, all Float64, sorted by time.

    An empty cell and NaN both mean that there is no value; they become null. True and false are 1
    and 0; columns of text are left out and named in a warning.

    Args:
        path: a table as `read_table` reads it, with `t` (as `TimeAxis.seconds` reads it) and at
            least one more column of numbers.
        axis: when the room started, for clock times.
        names: the user's own names of columns; of `t`.

    Raises:
        InputError: the file is unreadable, has no column of times or none of numbers, or too many
            of its lines are bad (`BadLines.warnings`).
    """
    raw = read_table(path, {"t": NAMES["t"]}, names=names, others=True)
    own = [name for name in raw.table.columns if name not in (LINE, "t")]
    axis = axis or TimeAxis()
    times = column_seconds(axis, raw.table["t"], raw.named["t"], raw.delimiter)
    checked = {name: _numbers(raw, name) for name in own}
    numbers = {name: found for name, found in checked.items() if found is not None}
    texts = [name for name, found in checked.items() if found is None]
    if not numbers:
        has = f"; {', '.join(texts)} hold text" if texts else ""
        raise InputError(f"{path}: must have a column of numbers beside {raw.named['t']!r}{has}")
    table = pl.DataFrame(
        [raw.table[LINE], times.seconds.alias("t")]
        + [found.values.alias(f"own:{name}") for name, found in numbers.items()]
        + [times.reasons.alias("why:t")]
        + [found.reasons.alias(f"why:{name}") for name, found in numbers.items()]
    )
    why = ["why:t", *(f"why:{name}" for name in numbers)]
    good = reject(raw, table, pl.coalesce(why)).drop(LINE, *why)
    warnings = raw.warnings + raw.bad.warnings(raw.total)
    if texts:
        warnings.append(f"{path}: left out columns of text: {', '.join(texts)}")
    if not good.height:
        warnings.append(f"{path}: holds no row")
    return Part(
        path=path,
        table=good.rename(lambda name: name.removeprefix("own:")).sort("t", maintain_order=True),
        bad_lines=raw.bad.count,
        warnings=warnings,
        form=f"columns of numbers: {raw.form}",
    )


def _numbers(raw: RawTable, name: str) -> Checked | None:
    """A column as numbers; None where it is none of numbers."""
    column = raw.table[name]
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return as_numbers(column, name)
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null, pl.Binary):
        return None
    text = as_text(column)
    filled = len(text) - text.null_count()
    found = as_numbers(text, name, raw.delimiter)
    wrong = len(text) - found.reasons.null_count()
    if filled and wrong > _TEXT_SHARE * filled:
        flags = as_flags(text, name)
        values = flags.values.cast(pl.Float64)
        if values.null_count() == text.null_count():
            return Checked(values=values, reasons=no_reasons(text))
        return None
    return found
