"""Event and column tables: CSV and Parquet through Polars, with the number of every line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.lines import SHOWN, BadLines, read_utf8, show

LINE = "__line"
"""Column that holds each row's line (CSV) or row (Parquet), counted from 1."""
_CHUNK = 1 << 24
# A byte that no text holds, so that Polars takes a line as one field.
_NO_SEPARATOR = "\x1f"


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A file as it is, and where its rows stand."""

    table: pl.DataFrame
    """LINE, and the columns: text where the file is CSV, as stored where it is Parquet."""
    bad: BadLines
    is_text: bool

    @property
    def total(self) -> int:
        """Lines of the file, good and bad."""
        return self.table.height + self.bad.count


def read_table(path: Path, wanted: Collection[str], *, others: bool = False) -> RawTable:
    """Read a .csv or .parquet file; lines that are no row of the table are noted as bad.

    Args:
        path: the file; its extension decides.
        wanted: columns that it must have.
        others: keep the other columns too.

    Raises:
        InputError: it is unreadable, not UTF-8, or a wanted column is missing.
    """
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, wanted, others)
    return _read_csv(path, wanted, others)


def reject(raw: RawTable, table: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    """The rows of `table` whose `reason` is null; the others go to `raw.bad`.

    Args:
        raw: where `table`, with its LINE, comes from.
        table: one row a row of `raw.table`.
        reason: text where a row is bad.
    """
    marked = table.with_columns(__reason=reason)
    wrong = marked.filter(pl.col("__reason").is_not_null())
    for line, text in wrong.head(SHOWN).select(LINE, "__reason").iter_rows():
        raw.bad.add(line, text)
    raw.bad.count += max(wrong.height - SHOWN, 0)
    return marked.filter(pl.col("__reason").is_null()).drop("__reason")


def type_error(path: Path, column: str, wanted: str, found: str) -> InputError:
    """The error for a column of a wrong type."""
    return InputError(f"{path}: column {column!r} must be {wanted}, not {found}")


def _read_parquet(path: Path, wanted: Collection[str], others: bool) -> RawTable:
    try:
        place = path.absolute()
        # Polars takes [brackets] in a name for a pattern, and `file:` before it for a protocol.
        names = list(pl.scan_parquet(place, glob=False).collect_schema())
        _require_columns(path, names, wanted)
        columns = names if others else list(wanted)
        table = pl.read_parquet(place, columns=columns, hive_partitioning=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({_first_line(error)})") from None
    return RawTable(
        table=table.with_row_index(LINE, offset=1), bad=BadLines(path, "row"), is_text=False
    )


def _read_csv(path: Path, wanted: Collection[str], others: bool) -> RawTable:
    names = _header(path)
    _require_columns(path, names, wanted)
    columns = names if others else list(wanted)
    bad = BadLines(path)
    try:
        table = pl.read_csv(path.absolute(), columns=columns, infer_schema=False, glob=False)
        table = table.with_row_index(LINE, 2)
        # Fewer rows than lines: a quote left open has swallowed some.
        whole = table.height >= _count_lines(path) - 1
    except pl.exceptions.PolarsError:
        whole = False
    if not whole:
        table = _read_damaged_csv(path, len(names), bad).select(LINE, *columns)
    empty = pl.all_horizontal(pl.exclude(LINE).is_null())
    return RawTable(table=table.filter(~empty), bad=bad, is_text=True)


def _read_damaged_csv(path: Path, width: int, bad: BadLines) -> pl.DataFrame:
    """Read a CSV line by line: those with an open quote or too many fields are bad."""
    text = read_utf8(path)
    if _NO_SEPARATOR in text:
        raise InputError(f"{path}: holds the control character 0x1f, which no CSV may")
    lines = pl.read_csv(
        io.BytesIO(text.encode()),
        has_header=False,
        new_columns=["text"],
        separator=_NO_SEPARATOR,
        quote_char=None,
        infer_schema=False,
    ).with_row_index(LINE, 1)
    line = pl.col("text")
    fields = line.str.replace_all('"[^"]*"', "").str.count_matches(",") + 1
    reason = (
        pl.when(line.str.count_matches('"') % 2 == 1)
        .then(pl.lit("a quoted field is not closed on its line"))
        .when(fields > width)
        .then(pl.format("has {} fields, the first line {}", fields, pl.lit(width)))
    )
    good = reject(RawTable(table=lines, bad=bad, is_text=True), lines.drop_nulls("text"), reason)
    try:
        joined = io.BytesIO("\n".join(good["text"].to_list()).encode())
        table = pl.read_csv(joined, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a readable CSV file ({_first_line(error)})") from None
    if table.height != good.height - 1:
        raise InputError(f"{path}: not a readable CSV file (quotes inside fields)")
    return table.with_columns(good[LINE].slice(1))


def _header(path: Path) -> list[str]:
    try:
        with path.open("rb") as handle:
            raw = handle.readline(_CHUNK).removeprefix(codecs.BOM_UTF8)
        line = raw.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        read_utf8(path)
        raise
    if not line:
        raise InputError(f"{path}, line 1: must name the columns; it is empty")
    names = next(csv.reader([line]))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}, line 1: names the column {twice[0]!r} more than once")
    return names


def _require_columns(path: Path, names: list[str], wanted: Collection[str]) -> None:
    for name in wanted:
        if name not in names:
            raise InputError(f"{path}: column {name!r} is missing; it has {show(names)}")


def _count_lines(path: Path) -> int:
    """Lines of a file, without an end of line after the last one."""
    count, last = 0, b"\n"
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
