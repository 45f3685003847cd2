"""Event and column tables, told by content: CSV and its kin, Parquet, and folders of Spark."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.parquet import require_unpackable
from contentctr.rooms.delimited import (
    DELIMITERS,
    Header,
    leave_out,
    read_delimited,
    require_once,
)
from contentctr.rooms.delimited import LINE as LINE
from contentctr.rooms.lines import BadLines, show

SUFFIXES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
"""Endings that a table in a folder may have; what it is, its content says."""
_PARQUET = b"PAR1"


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A file as it is, and where its rows stand."""

    table: pl.DataFrame
    """LINE, and the columns by the names of their fields: text, or as Parquet stores them."""
    bad: BadLines
    total: int
    """Lines of the file, good and bad."""
    named: dict[str, str] = field(default_factory=dict)
    """What the file calls each field."""
    delimiter: str = ""
    """"" where the file is Parquet."""
    form: str = ""
    """What the file is, in words."""
    warnings: list[str] = field(default_factory=list)
    parts: tuple[tuple[int, str], ...] = ()
    """In a folder: the rows before each part, and its name."""

    @property
    def is_text(self) -> bool:
        """Whether all columns are text."""
        return self.delimiter != ""


def has_suffix(path: Path) -> bool:
    """Whether a file's name ends as one of a table does."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(
    path: Path,
    wanted: Collection[str] | Mapping[str, Sequence[str]],
    *,
    optional: Mapping[str, Sequence[str]] | None = None,
    names: Mapping[str, str] | None = None,
    others: bool = False,
) -> RawTable:
    """Read a table; lines that are no row of it are noted as bad.

    Args:
        path: CSV with commas, semicolons, tabs or bars, gzip around it or not; Parquet; or a
            folder that Spark wrote (its part files; _SUCCESS, hidden files and folders in it are
            left alone).
        wanted: fields that it must have; a mapping gives the other names that each may go by.
        optional: fields that it may have, in the same way.
        names: the user's own names of fields, which come first.
        others: keep the other columns too, under their own names.

    Raises:
        InputError: it is unreadable, not text in UTF-8, or a wanted field is missing.
    """
    known = dict(wanted) if isinstance(wanted, Mapping) else {name: () for name in wanted}
    search = _Search(
        path=path, wanted=known, optional=dict(optional or {}), own=dict(names or {}), others=others
    )
    if path.is_dir():
        return _read_folder(path, search)
    return _read_file(path, search)


def reject(raw: RawTable, table: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    """The rows of `table` whose `reason` is null; the others go to `raw.bad`.

    Args:
        raw: where `table`, with its LINE, comes from.
        table: one row a row of `raw.table`.
        reason: text where a row is bad.
    """
    marked = table.with_columns(__reason=reason)
    if raw.parts:
        # A row of a folder is found by its part and its place there.
        row, text = pl.col(LINE), pl.col("__reason")
        for before, name in raw.parts:
            place = pl.format("{} ({}, row {})", "__reason", pl.lit(name), row - before)
            text = pl.when(row > before).then(place).otherwise(text)
        marked = marked.with_columns(__reason=text)
    return leave_out(raw.bad, marked)


def type_error(path: Path, column: str, wanted: str, found: str) -> InputError:
    """The error for a column of a wrong type."""
    return InputError(f"{path}: column {column!r} must be {wanted}, not {found}")


@dataclass(kw_only=True)
class _Search:
    """Which columns of a file are looked for."""

    path: Path
    wanted: dict[str, Sequence[str]]
    optional: dict[str, Sequence[str]]
    own: dict[str, str]
    others: bool
    warnings: list[str] = field(default_factory=list)

    def find(self, names: Sequence[str]) -> dict[str, int]:
        """The place of each field, and of the other columns where they are kept.

        Raises:
            InputError: a wanted field is missing.
        """
        found: dict[str, int] = {}
        lower = [name.strip().lower() for name in names]
        for field_name, usual in {**self.wanted, **self.optional}.items():
            own = self.own.get(field_name)
            if own is not None and own.strip().lower() not in lower:
                self.warnings.append(
                    f"{self.path}: has no column {own!r} to take as {field_name}; it has "
                    f"{show(list(names))}"
                )
                own = None
            candidates = [field_name, *usual] if own is None else [own]
            for name in candidates:
                if name in names:
                    found[field_name] = names.index(name)
                    break
                if name.strip().lower() in lower:
                    found[field_name] = lower.index(name.strip().lower())
                    break
            if field_name in self.wanted and field_name not in found:
                raise InputError(self._missing(field_name, names, bool(usual)))
        if self.others:
            taken = set(found.values())
            for place, name in enumerate(names):
                if place not in taken and name and name not in found:
                    found[name] = place
        return found

    def _missing(self, name: str, names: Sequence[str], can_be_named: bool) -> str:
        hint = f" (if one of these is it: --columns {name}=ITS_NAME)" if can_be_named else ""
        return f"{self.path}: column {name!r} is missing; it has {show(list(names))}{hint}"


def _read_file(path: Path, search: _Search) -> RawTable:
    head = _head(path)
    if head.startswith(_PARQUET) or (path.suffix.lower() == ".parquet" and b"\n" not in head):
        return _read_parquet(path, search)
    if head.lstrip()[:1] in (b"{", b"["):
        raise InputError(
            f"{path}: is JSON, and must be a table: CSV, TSV or Parquet with the columns "
            f"{', '.join(search.wanted)}"
        )
    bad = BadLines(path)
    found: dict[str, int] = {}

    def choose(header: Header) -> Sequence[int]:
        search.warnings.clear()
        found.clear()
        found.update(search.find(header.names))
        for place in found.values():
            require_once(path, header, place)
        return list(found.values())

    read = read_delimited(path, bad, choose)
    table = read.table.rename({str(place): name for name, place in found.items()})
    mark = read.header.delimiter
    form = f"{'gzip, ' if read.packed else ''}a table with {DELIMITERS[mark]}"
    return RawTable(
        table=table,
        bad=bad,
        total=table.height + bad.count,
        named={name: read.header.names[place] for name, place in found.items()},
        delimiter=mark,
        form=form,
        warnings=list(search.warnings),
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(4096)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _read_parquet(path: Path, search: _Search) -> RawTable:
    try:
        place = path.absolute()
        require_unpackable(path)
        # Polars takes [brackets] in a name for a pattern, and `file:` before it for a protocol.
        names = list(pl.scan_parquet(place, glob=False).collect_schema())
        found = {name: names[place] for name, place in search.find(names).items()}
        table = pl.read_parquet(
            place, columns=list(found.values()), hive_partitioning=False, glob=False
        )
    # Of damage deep inside a file Polars panics, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({_first_line(error)})") from None
    table = table.select(pl.col(old).alias(new) for new, old in found.items())
    return RawTable(
        table=table.with_row_index(LINE, offset=1),
        bad=BadLines(path, "row"),
        total=table.height,
        named=found,
        form="Parquet",
        warnings=list(search.warnings),
    )


def _read_folder(path: Path, search: _Search) -> RawTable:
    """The part files of a folder that Spark, or another of its kind, wrote, as one table."""
    files, warnings = [], []
    for part in sorted(path.iterdir()):
        if part.name.startswith((".", "_")):
            continue
        if part.is_dir():
            warnings.append(f"{part}: not read: folders inside a folder of parts are not followed")
        elif part.stat().st_size:
            files.append(part)
    if not files:
        inner = "; folders inside it are not followed" if warnings else ""
        raise InputError(f"{path}: is a folder without a part file (part-00000...) to read{inner}")
    raws = [_read_file(part, search) for part in files]
    bad = BadLines(path, "row")
    parts: list[tuple[int, str]] = []
    tables: list[pl.DataFrame] = []
    before = 0
    for part, raw in zip(files, raws, strict=True):
        bad.take(raw.bad, part.name)
        parts.append((before, part.name))
        tables.append(raw.table.with_columns(pl.col(LINE) + before))
        last = raw.table[LINE].max()
        before += last if isinstance(last, int) else 0
    return RawTable(
        table=_stacked(path, tables),
        bad=bad,
        total=sum(raw.total for raw in raws),
        named=raws[0].named,
        delimiter=raws[0].delimiter,
        form=f"a folder of {len(files)} parts, {raws[0].form}",
        warnings=warnings + raws[0].warnings,
        parts=tuple(parts),
    )


def _stacked(path: Path, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Parts one after another; a column whose types differ becomes text, which keeps digits."""
    kinds = [table.schema for table in tables]
    names = list(kinds[0])
    for number, kind in enumerate(kinds):
        lacks = [name for name in names if name not in kind]
        if lacks:
            raise InputError(f"{path}: part {number + 1} has no column {lacks[0]!r}")
    mixed = [name for name in names if len({kind[name] for kind in kinds}) > 1 and name != LINE]
    return pl.concat([t.select(names).with_columns(pl.col(mixed).cast(pl.String)) for t in tables])


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
