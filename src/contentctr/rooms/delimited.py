"""CSV and its kin: told by the first line, read by Polars, mended line by line where it must be."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.document import (
    BYTE_ORDER_MARKS,
    GZIP,
    document_of,
    require_text,
    unpack,
)
from contentctr.rooms.lines import SHOWN, BadLines, show

LINE = "__line"
"""Column that holds each row's line (CSV) or row (Parquet), counted from 1."""
MAX_TABLE_BYTES = 1 << 32
"""A table that is packed, or must be mended, may hold so many bytes; a sound one any number."""
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_CHUNK = 1 << 24
_UTF8_MARK = BYTE_ORDER_MARKS[0][0]
_SEP_LINE = re.compile(r'"?sep=(.)"?')
"""The line with which Excel is told the delimiter; it is none of the table's."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The line that names the columns."""

    names: list[str]
    """Without the spaces around them."""
    delimiter: str
    line: int
    """Its number."""


@dataclass(frozen=True, kw_only=True)
class Delimited:
    """A delimited file as it is: text, null where a cell is empty."""

    table: pl.DataFrame
    """LINE, and the columns that were chosen, by their place in the file."""
    header: Header
    packed: bool


Choice = Callable[[Header], Sequence[int]]
"""Says which columns are wanted, by place; raises where one is missing."""


def read_delimited(path: Path, bad: BadLines, choose: Choice) -> Delimited:
    """Read a file of cells between commas, semicolons, tabs or bars; gzip around it or not.

    A row stands on one line, or on several where a quoted cell holds ends of line (they become
    spaces). A quote that is never closed, or too many cells, cost their line alone.

    Raises:
        InputError: it cannot be read, is no text, or not in UTF-8 (nor marked as other Unicode).
    """
    head = _head(path)
    packed = head.startswith(GZIP)
    source: Path | bytes = path
    if packed:
        source = unpack(path, path.read_bytes(), MAX_TABLE_BYTES)
        head = source[:_CHUNK]
    require_text(path, head)
    header = _plain_header(head)
    if header is not None:
        places = choose(header)
        table = _read_sound(source, header, places)
        if table is not None:
            return Delimited(table=table, header=header, packed=packed)
    raw = source if isinstance(source, bytes) else _read_bytes(path)
    lines = document_of(path, raw, MAX_TABLE_BYTES).text
    header = _find_header(path, lines)
    table = _read_damaged(lines, header, choose(header), bad)
    return Delimited(table=table, header=header, packed=packed)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(1 << 16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _read_bytes(path: Path) -> bytes:
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise InputError(
            f"{path}: has damaged lines, and is too large to be mended (over {MAX_TABLE_BYTES} "
            "bytes); split it"
        )
    return path.read_bytes()


def _plain_header(head: bytes) -> Header | None:
    r"""The first line, where the file is UTF-8 with lines that end in \n or \r\n; else None."""
    line, end, _ = head.removeprefix(_UTF8_MARK).partition(b"\n")
    try:
        text = line.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError:
        return None
    # A longer first line, a blank one, sep=, old line ends: for the reader that mends.
    if not end or not text.strip() or "\r" in text or "\0" in text or _SEP_LINE.fullmatch(text):
        return None
    return _header(text, 1)


def _find_header(path: Path, text: str) -> Header:
    number = 0
    for number, match in enumerate(re.finditer(r"[^\n]*\n?", text), start=1):
        line = match[0].rstrip("\n")
        if "\0" in line:
            raise InputError(
                f"{path}, line {number}: not text in UTF-8 (zero bytes; UTF-16 without a byte "
                f"order mark?): `iconv -f UTF-16LE -t UTF-8 {path.name} > utf8{path.suffix}`"
            )
        if line.strip() and not _SEP_LINE.fullmatch(line.strip()):
            return _header(line, number)
    raise InputError(f"{path}, line {max(number, 1)}: must name the columns; it is empty")


def _header(line: str, number: int) -> Header:
    found = {mark: split_line(line, mark) for mark in DELIMITERS}
    mark = max(DELIMITERS, key=lambda mark: len(found[mark]))  # the first of equals: commas
    return Header(names=[name.strip() for name in found[mark]], delimiter=mark, line=number)


def split_line(line: str, delimiter: str) -> list[str]:
    """Cells of one line; none where it cannot be parted."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a cell of over 128 KB
        return []


def leave_out(bad: BadLines, marked: pl.DataFrame) -> pl.DataFrame:
    """The rows of `marked` whose `__reason` is null; the others, numbered by LINE, go to `bad`."""
    reasons = marked.get_column("__reason")
    if reasons.null_count() == marked.height:
        return marked.drop("__reason")
    wrong = marked.filter(reasons.is_not_null())
    for line, text in wrong.head(SHOWN).select(LINE, "__reason").iter_rows():
        bad.add(line, text)
    bad.count += max(wrong.height - SHOWN, 0)
    return marked.filter(reasons.is_null()).drop("__reason")


def _read_sound(source: Path | bytes, header: Header, places: Sequence[int]) -> pl.DataFrame | None:
    """The table as Polars reads it; None where rows and lines do not agree."""
    try:
        table = pl.read_csv(
            # Polars takes [brackets] in a name for a pattern, and `file:` before it for a protocol.
            source if isinstance(source, bytes) else source.absolute(),
            columns=sorted(places),
            separator=header.delimiter,
            infer_schema=False,
            glob=False,
        )
    except pl.exceptions.PolarsError:
        return None
    # Fewer rows than lines: a quoted cell goes over lines, or a quote left open swallowed some.
    if table.height < _count_lines(source) - 1:
        return None
    return _numbered(table, places, pl.int_range(2, table.height + 2, dtype=pl.UInt32, eager=True))


def _numbered(table: pl.DataFrame, places: Sequence[int], lines: pl.Series) -> pl.DataFrame:
    """Columns by place, with LINE before them, without empty rows."""
    table.columns = [str(place) for place in sorted(places)]
    table = table.select(lines.alias(LINE), *(str(place) for place in places))
    # Most tables have no empty row, which one column tells cheaply.
    if not places or table.get_column(str(places[0])).null_count() == 0:
        return table
    return table.filter(~pl.all_horizontal(pl.exclude(LINE).is_null()))


def _read_damaged(text: str, header: Header, places: Sequence[int], bad: BadLines) -> pl.DataFrame:
    """Read line by line; quoted cells that go over several lines are joined to one."""
    lines = pl.DataFrame({"text": pl.Series([text]).str.split("\n").explode()})
    lines = lines.with_row_index(LINE, 1).filter(pl.col(LINE) > header.line)
    lines = lines.filter(pl.col("text").str.contains(r"\S"))
    joined, unclosed = _join_records(lines, header)
    width, mark = len(header.names), header.delimiter
    line = pl.col("text")
    lines = (
        lines.join(joined, on=LINE, how="left", maintain_order="left")
        .with_columns(text=pl.coalesce("joined", "text"))
        .filter(pl.col("text") != "")
        .join(unclosed, on=LINE, how="left", maintain_order="left")
    )
    # Empty cells at the end that the first line does not name are none.
    lines = lines.with_columns(
        text=pl.when(_num_cells(line, mark) > width)
        .then(line.str.replace(rf"(?:{re.escape(mark)}\s*)+$", ""))
        .otherwise(line)
    )
    reason = pl.coalesce(
        "reason",
        pl.when(_num_cells(line, mark) > width).then(
            pl.format("has {} fields, the first line {}", _num_cells(line, mark), pl.lit(width))
        ),
    )
    good = leave_out(bad, lines.select(LINE, "text", __reason=reason))
    table = _cells(good["text"], header, places)
    return _numbered(table, places, good[LINE])


def _num_cells(line: pl.Expr, mark: str) -> pl.Expr:
    outside = line.str.replace_all('"[^"]*"', "")
    return outside.str.count_matches(mark, literal=True) + 1


def _join_records(lines: pl.DataFrame, header: Header) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Records over several lines, and lines whose quote is never closed.

    Returns:
        LINE and `joined`: a record at its first line, "" at its others; LINE and `reason`.
    """
    odd = lines["text"].str.count_matches('"', literal=True) % 2 == 1
    places = odd.arg_true().to_list()
    texts, numbers = lines["text"], lines[LINE]
    joined: list[tuple[int, str]] = []
    unclosed: list[tuple[int, str]] = []
    at = 0
    while at < len(places):
        first = places[at]
        last = places[at + 1] if at + 1 < len(places) else None
        span = [] if last is None else texts[first : last + 1].to_list()
        if span and _is_record(span, header):
            rows = numbers[first : first + len(span)].to_list()
            joined += [(rows[0], " ".join(span)), *((row, "") for row in rows[1:])]
            at += 2
        else:
            unclosed.append((numbers[first], "a quoted field is not closed"))
            at += 1
    schema = {LINE: pl.UInt32, "joined": pl.String}
    return (
        pl.DataFrame(joined, schema=schema, orient="row"),
        pl.DataFrame(unclosed, schema={LINE: pl.UInt32, "reason": pl.String}, orient="row"),
    )


def _is_record(span: Sequence[str], header: Header) -> bool:
    """Whether lines are one record, and not records between two stray quotes."""
    width, mark = len(header.names), header.delimiter
    whole = [len(re.sub('"[^"]*"', "", line).split(mark)) == width for line in span]
    between = whole[1:-1]
    if (2 * sum(between) > len(between)) if between else all(whole):
        return False
    try:
        rows = list(csv.reader([line + "\n" for line in span], delimiter=mark, strict=True))
    except csv.Error:
        return False
    return len(rows) == 1 and len(rows[0]) == width


def _cells(lines: pl.Series, header: Header, places: Sequence[int]) -> pl.DataFrame:
    """Cells of lines that are a record each."""
    names = [str(place) for place in range(len(header.names))]
    top = header.delimiter.join(names)
    try:
        table = pl.read_csv(
            "\n".join([top, *lines.to_list()]).encode(),
            columns=sorted(places),
            separator=header.delimiter,
            infer_schema=False,
        )
        if table.height == len(lines):
            return table
    except pl.exceptions.PolarsError:
        pass
    # Quotes inside cells, of which Polars makes something else: one by one.
    rows = [split_line(line, header.delimiter) for line in lines]
    return pl.DataFrame(
        {
            str(place): [row[place] or None if place < len(row) else None for row in rows]
            for place in sorted(places)
        },
        schema_overrides={str(place): pl.String for place in places},
    )


def _count_lines(source: Path | bytes) -> int:
    """Lines, without an end of line after the last one."""
    if isinstance(source, bytes):
        return source.count(b"\n") + (not source.endswith(b"\n"))
    count, last = 0, b"\n"
    with source.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


def require_once(path: Path, header: Header, place: int) -> None:
    """Refuse a column whose name is there twice."""
    name = header.names[place]
    if header.names.count(name) > 1:
        raise InputError(
            f"{path}, line {header.line}: names the column {name!r} more than once: "
            f"{show(header.names)}"
        )
