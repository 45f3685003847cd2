"""A table of streamers' vectors in a file: what pre-training exports and ContentCTR takes for E_u.

Parquet with `streamer_id` (text) and `vector` (float32, all of one width), or a CSV with a header
`streamer_id, v0, v1, ...`. Who has a table from elsewhere needs nothing else.

Shape suffixes: U streamers, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.files import atomic, read_parquet

Vectors = NDArray[np.float32]


def write_streamer_table(path: Path, ids: Sequence[str], vectors_UD: NDArray[np.floating]) -> None:
    """Write a table as Parquet, sorted by id, whole or not at all.

    Args:
        path: the file, *.parquet.
        ids: U distinct ids, none empty.
        vectors_UD: one finite vector an id, of width 1 or more; stored as float32.

    Raises:
        InputError: an id or a vector breaks a rule; names the row, from 1.
    """
    assert vectors_UD.ndim == 2 and len(ids) == len(vectors_UD), (len(ids), vectors_UD.shape)
    vectors = vectors_UD.astype(np.float32)
    _check(path, list(ids), vectors, "row", 1)
    width = vectors.shape[1]
    table = pl.DataFrame(
        {"streamer_id": list(ids), "vector": vectors},
        schema={"streamer_id": pl.String, "vector": pl.Array(pl.Float32, width)},
    ).sort("streamer_id")
    with atomic(path) as temporary:
        table.write_parquet(temporary)


def read_streamer_table(path: Path | str) -> tuple[list[str], Vectors]:
    """The ids [U] and the float32 vectors [U, D] of a table, sorted by id.

    Args:
        path: .parquet with `streamer_id` and `vector` (a list or array of numbers), or .csv whose
            first column is `streamer_id` and whose others are the vector, in that order.

    Raises:
        InputError: the file is missing or unreadable, has no such columns, or a row's id is empty
            or repeated, or its vector is of another width or not finite; names file, row (Parquet,
            from 1) or line (CSV), rule and value.
    """
    path = Path(path)
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise InputError(f"{path}: a table of streamers must be .parquet or .csv")
    is_csv = path.suffix.lower() == ".csv"
    unit, first = ("line", 2) if is_csv else ("row", 1)
    ids, vectors = _read_csv(path) if is_csv else _read_parquet(path)
    _check(path, ids, vectors, unit, first)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return [ids[row] for row in order], vectors[order]


def _read_parquet(path: Path) -> tuple[list[str], Vectors]:
    table = read_parquet(path, {"streamer_id": pl.String})
    if "vector" not in table.columns:
        raise InputError(f"{path}: column 'vector' is missing; it has {table.columns}")
    kind = table.schema["vector"]
    if not isinstance(kind, pl.List | pl.Array) or not kind.inner.is_numeric():
        raise InputError(f"{path}: column 'vector' must be a list or array of Float32, not {kind}")
    if table.height == 0:
        raise InputError(f"{path}: must have at least one streamer")
    vector = table["vector"].cast(pl.List(pl.Float64))
    widths = vector.list.len().to_list()
    for row, width in enumerate(widths, 1):
        if width is None:
            raise InputError(f"{path}, row {row}: vector must not be null")
        if width != widths[0] or width == 0:
            rule = f"as wide as the first, {widths[0]}" if width else "of 1 number or more"
            raise InputError(f"{path}, row {row}: vector must be {rule}, not {width}")
    values = vector.explode().cast(pl.Float64).fill_null(np.nan).to_numpy()
    return table["streamer_id"].to_list(), _as_float32(values.reshape(table.height, -1))


def _read_csv(path: Path) -> tuple[list[str], Vectors]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        table = pl.read_csv(path, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from None
    names = [name.strip() for name in table.columns]
    if names[:1] != ["streamer_id"] or len(names) < 2:
        raise InputError(
            f"{path}, line 1: must be 'streamer_id' and a column for each number of the vector, "
            f"not {names}"
        )
    filled = table.select(~pl.all_horizontal(pl.all().is_null())).to_series().arg_true()
    table = table.head(filled[-1] + 1 if len(filled) else 0)  # empty lines at the end are fine
    if table.height == 0:
        raise InputError(f"{path}: must have at least one streamer")
    columns = []
    for name in table.columns[1:]:
        given = table[name].str.strip_chars()
        number = given.cast(pl.Float64, strict=False)
        for row in np.flatnonzero(number.is_null().to_numpy())[:1]:
            raise InputError(
                f"{path}, line {row + 2}: column {name.strip()!r} must be a number, not "
                f"{given[int(row)]!r}"
            )
        columns.append(number.to_numpy())
    ids = table[table.columns[0]].str.strip_chars().to_list()
    return ids, _as_float32(np.stack(columns, axis=1))


def _as_float32(values: NDArray[np.float64]) -> Vectors:
    """As float32; what is too large becomes infinite, which no table may hold."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _check(
    path: Path, ids: Sequence[str | None], vectors_UD: Vectors, unit: str, first: int
) -> None:
    """Stop at the first row that breaks a rule; row 0 of the arrays is called `first`."""
    if vectors_UD.shape[0] < 1 or vectors_UD.shape[1] < 1:
        raise InputError(
            f"{path}: must have one streamer and a vector of one number or more, not shape "
            f"{vectors_UD.shape}"
        )
    seen: dict[str, int] = {}
    finite_UD = np.isfinite(vectors_UD)
    finite_U = np.asarray(finite_UD.all(axis=1))
    for row, name in enumerate(ids, first):
        if not name or not name.strip():
            raise InputError(f"{path}, {unit} {row}: streamer_id must not be empty, not {name!r}")
        if name in seen:
            raise InputError(
                f"{path}, {unit} {row}: streamer_id must be there once; {name!r} is in {unit} "
                f"{seen[name]} too"
            )
        seen[name] = row
        if not finite_U[row - first]:
            at = int(np.flatnonzero(~finite_UD[row - first])[0])
            raise InputError(
                f"{path}, {unit} {row}: vector must be finite (float32); number {at} of "
                f"{name!r} is {vectors_UD[row - first, at]}"
            )
