"""Tables of any size, rearranged by room on disk: each bucket holds whole rooms and fits memory.

A table is written in runs, each sorted by bucket; a bucket is read from all of them through the
statistics of their row groups. So neither step holds more than a run or a bucket. Vectors are
written halved, with the place where each bucket begins.

Shape suffixes: E rows of a table, V visual width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from contentctr.errors import InputError
from contentctr.files import atomic, read_json, write_json
from contentctr.prepare.klm3.files import REASON, ROW, VISUAL_DIM, Scan, unreadable
from contentctr.store.vectors import to_half

_BUCKET = "bucket"
_BUCKET_BYTES = 16 << 20
"""Of the published files, for each bucket."""
_MAX_BUCKETS = 512
_MAX_BAD_SHARE = 0.01
_VECTORS = "vectors"
_RUN_ROWS = {_VECTORS: 30_000}
_DEFAULT_RUN_ROWS = 250_000
_INFINITE = 0x7C00
"""Bits of a float16 that are all set in an infinite one and in NaN, and in no other."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Stored embeddings of some rooms; `row` rises."""

    row_E: NDArray[np.int64]
    has_vector_E: NDArray[np.uint8]
    """0 where the published one is null; `vector` is zeros there."""
    vector_EV: NDArray[np.float16]


def num_buckets(paths: Iterable[Path]) -> int:
    """How many buckets tables with files of such sizes need."""
    most = max(path.stat().st_size for path in paths)
    return min(_MAX_BUCKETS, max(1, -(-most // _BUCKET_BYTES)))


def bucket_of(live_id: pl.Expr, count: int) -> pl.Expr:
    """The bucket of a room: a hash that no version of a library can change.

    Ids are consecutive, and rooms of an hour have ids near one another: the multiplication
    (Knuth's) scatters them.
    """
    scattered = (live_id.cast(pl.UInt64) & 0xFFFF_FFFF) * 2_654_435_761 & 0xFFFF_FFFF
    return ((scattered * count) // (1 << 32)).cast(pl.Int32)


def partition(
    scan: Scan, folder: Path, *, name: str, count: int, rooms: pl.DataFrame | None = None
) -> None:
    """Write the rows of one file into FOLDER, all of them or none; if FOLDER is there, do nothing.

    Args:
        scan: the file.
        folder: gets the runs, and counts.json.
        name: of TABLES.
        count: number of buckets.
        rooms: with live_id: rows of other rooms are left out. None: all are kept.

    Raises:
        InputError: the file is damaged, or more than 1 % of its rows are bad.
    """
    if folder.is_dir():
        return
    counts: Counter[str] = Counter()
    write = partial(_write_vectors, scan.path) if name == _VECTORS else _write_run
    with atomic(folder) as temporary:
        temporary.mkdir()
        first_bad: tuple[int, str] | None = None
        number = -1
        batches = scan.frame.collect_batches(
            chunk_size=_RUN_ROWS.get(name, _DEFAULT_RUN_ROWS), maintain_order=True
        )
        try:
            for number, batch in enumerate(batches):
                bad = batch.filter(pl.col(REASON).is_not_null()).select(ROW, REASON)
                if bad.height and first_bad is None:
                    first_bad = bad.row(0)
                counts.update({"rows": batch.height, "bad_rows": bad.height})
                good = batch.filter(pl.col(REASON).is_null()).drop(REASON)
                if rooms is not None:
                    good = good.join(rooms.select("live_id"), on="live_id", how="semi")
                write(good, temporary / f"{number:06}", count)
            if number < 0:  # no row: the columns all the same
                nothing = pl.DataFrame(schema=scan.frame.collect_schema()).drop(REASON)
                write(nothing, temporary / "000000", count)
        except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
            raise unreadable(scan.path, error) from None
        _require_few_bad(scan.path, counts, first_bad)
        write_json(temporary / "counts.json", dict(counts))


def read_bucket(folders: Sequence[Path], bucket: int) -> pl.DataFrame:
    """The rows of one bucket, in the order of files and rows.

    Args:
        folders: that `partition` wrote, in the order of the table's files.
        bucket: its number.

    Returns:
        The columns of the scan, `row` unique over all files.
    """
    parts = []
    for number, folder in enumerate(folders):
        frame = pl.scan_parquet(sorted(folder.glob("*.parquet")), glob=False)
        part = frame.filter(pl.col(_BUCKET) == bucket).drop(_BUCKET)
        parts.append(part.with_columns(pl.col(ROW) + (number << 40)))
    found = pl.concat(pl.collect_all(parts))
    assert found[ROW].is_sorted()
    return found


def read_vectors(folders: Sequence[Path], bucket: int) -> Vectors:
    """The vectors of one bucket, in the order of files and rows.

    Args:
        folders: that `partition` wrote of the vectors' table, in the order of its files.
        bucket: its number; there is a vector in it.
    """
    parts: dict[str, list[NDArray[Any]]] = {ROW: [], "has_vector": [], "vector": []}
    for number, folder in enumerate(folders):
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "numpy") as run:
                start, stop = run.get_slice("first")[bucket : bucket + 2].tolist()
                if start == stop:
                    continue
                for name, found in parts.items():
                    found.append(run.get_slice(name)[start:stop])
            parts[ROW][-1] = parts[ROW][-1] + (number << 40)
    row_E, has_E, vector_EV = (np.concatenate(found) for found in parts.values())
    return Vectors(row_E=row_E, has_vector_E=has_E, vector_EV=vector_EV)


def counts_of(folders: Sequence[Path]) -> Counter[str]:
    """`rows` and `bad_rows` of a table."""
    total: Counter[str] = Counter()
    for folder in folders:
        total.update(read_json(folder / "counts.json"))
    return total


def _write_run(rows: pl.DataFrame, stem: Path, count: int) -> None:
    run = rows.with_columns(bucket_of(pl.col("live_id"), count).alias(_BUCKET)).sort(
        _BUCKET, maintain_order=True
    )
    size = max(512, rows.height // count)
    # Read once and thrown away: packing it takes longer than it saves.
    run.write_parquet(stem.with_suffix(".parquet"), compression="uncompressed", row_group_size=size)


def _write_vectors(source: Path, rows: pl.DataFrame, stem: Path, count: int) -> None:
    bucket = rows.select(bucket_of(pl.col("live_id"), count)).to_series().to_numpy()
    order = np.argsort(bucket, kind="stable")
    vectors = rows["vector"]
    has = vectors.is_not_null()
    if vectors.null_count():
        vectors = vectors.zip_with(has, pl.Series([[0.0] * VISUAL_DIM], dtype=vectors.dtype))
    # torch halves a float32 array twice as fast as NumPy, to the same bits.
    whole_EV = vectors.to_numpy(writable=True)
    half_EV = torch.from_numpy(whole_EV).half().numpy()
    if (half_EV.view(np.uint16) & _INFINITE == _INFINITE).any():
        to_half(whole_EV, str(source))
    save_file(
        {
            "first": np.searchsorted(bucket[order], np.arange(count + 1)),
            ROW: rows[ROW].to_numpy()[order],
            "has_vector": has.to_numpy().astype(np.uint8)[order],
            "vector": half_EV[order],
        },
        stem.with_suffix(".safetensors"),
    )


def _require_few_bad(path: Path, counts: Counter[str], first: tuple[int, str] | None) -> None:
    if first is not None and counts["bad_rows"] > _MAX_BAD_SHARE * counts["rows"]:
        row, column = first
        raise InputError(
            f"{path}, row {row + 1}: column {column!r} has no value that can be meant; "
            f"{counts['bad_rows']} of {counts['rows']} rows are like that, more than "
            f"{_MAX_BAD_SHARE:.0%}"
        )
