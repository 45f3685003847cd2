"""KuaiLive-M3, as it is published, into a prepared folder with stored visual vectors.

The tables are rearranged by room into buckets on disk (buckets.py), rooms are chosen and split,
and each bucket becomes a part of the result. Every step's result is written whole and kept in
OUT/.klm3 until the end, so that a killed run goes on where it was.

    OUT/.klm3/settings.json        what the work belongs to; another run's work is thrown away
    OUT/.klm3/TABLE/NUMBER/        a file's rows, by bucket
    OUT/.klm3/stats/, parts/       of each bucket; its .json is written last and says it is done
    OUT/visual/                    stored visual vectors, in the form of features.py
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.files import atomic, digest, read_json, remove_leftovers, write_json
from contentctr.outputs import alone, check_output, output_folder
from contentctr.prepare.klm3.buckets import (
    counts_of,
    num_buckets,
    partition,
    read_bucket,
    read_vectors,
)
from contentctr.prepare.klm3.files import TABLES, find_tables, scan_file
from contentctr.prepare.klm3.result import Result
from contentctr.prepare.klm3.segments import (
    OWN_SCHEMA,
    Logs,
    RoomGrid,
    benchmark_sessions,
    build_grid,
    clean_sessions,
    count_segments,
    room_stats,
)
from contentctr.prepare.klm3.settings import (
    BENCHMARK_ENTERED,
    BENCHMARK_ROOMS,
    BENCHMARK_SEGMENTS,
    BENCHMARK_SHARES,
    Settings,
    check_settings,
)
from contentctr.prepare.splits import assign_splits
from contentctr.prepare.targets import (
    SHARES,
    TargetScale,
    default_comment_lag,
    set_target,
)
from contentctr.progress import Progress, progress_bar
from contentctr.shards import run_over
from contentctr.store import rooms as prepared
from contentctr.store.rooms import ROOMS_SCHEMA, SEGMENTS_SCHEMA, PreparedRooms
from contentctr.store.vectors import StoredRoom, write_shard

_FORM = 2
"""Raised when the same files and settings give another result."""
_DONE = ".klm3.done"
_WORKERS = min(4, pl.thread_pool_size())
"""Buckets at once; each needs its memory. Files are read one by one, by all threads."""
SIMULATED = "SIMULATED"
"""A file of this name in the source says that its rooms are simulated."""


def prepare_klm3(
    source: Path | str,
    out: Path | str,
    *,
    target: str = "ctr",
    target_scale: TargetScale | None = None,
    comment_lag: int | None = None,
    rooms: Literal["all", "benchmark"] = "all",
    val: float | None = None,
    test: float | None = None,
    zone: str = "UTC",
    ray: str | None = None,
    show_progress: bool = True,
) -> PreparedRooms:
    """Read the published files in `source` and write the prepared folder `out`.

    Memory grows with the number of rooms alone (some hundred bytes each), not with sessions,
    events or segments. A killed run goes on where it was when started again, and ends with the
    same bytes as one that nobody disturbed.

    Args:
        source: the folder of the published files.
        out: the prepared folder: new or empty, or one of an earlier `prepare`; the stored features
            in it stay, `encode` renews what changed.
        target: of `set_target`; ctr, comment_rate, highlight_score, highlight_label, ...
        target_scale: of `set_target`; None: "none" for SHARES, else "rank".
        comment_lag: as `prepare_rooms`.
        rooms: "all", or "benchmark": of the 10,000 with most rows of sessions (ties: the lower id)
            those with at least 5 segments and 5 sessions begun by the start of the last one.
        val: share of validation rooms; None: 0.1.
        test: share of test rooms; None: 0.1. Without both, the benchmark's rooms are split as
            published (`benchmark_splits`).
        zone: time zone of datetimes that name none.
        ray: the Ray cluster whose machines work on the buckets of rooms, as `run_over` takes it;
            None: here. The files are read, and dealt into buckets, here.
        show_progress: show a bar.

    Raises:
        InputError: a setting or a file is wrong, the target's tables are missing, no session
            shares a moment with a segment, which is what wrong units or zones look like, or another
            process is at work in `out`.
    """
    source, out = Path(source), Path(out)
    shares = BENCHMARK_SHARES if rooms == "benchmark" else (0.1, 0.1)
    settings = Settings(
        target=target,
        # By its name, not by its values: buckets of rooms are prepared one by one.
        target_scale=target_scale or ("none" if target in SHARES else "rank"),
        comment_lag=default_comment_lag(target) if comment_lag is None else comment_lag,
        rooms=rooms,
        val=shares[0] if val is None else val,
        test=shares[1] if test is None else test,
        zone=zone,
    )
    tables = find_tables(source)
    check_settings(source, settings, tables)
    if out.resolve() == source.resolve():
        raise InputError(f"{out}: the prepared folder must not be the folder of the files")
    return _Job(source, out, settings, tables, ray, show_progress).run()


class _Job:
    """One run, which may go on from a killed one."""

    def __init__(
        self,
        source: Path,
        out: Path,
        settings: Settings,
        tables: dict[str, list[Path]],
        ray: str | None,
        show_progress: bool,
    ) -> None:
        self.source, self.out, self.settings = source, out, settings
        self.tables, self.ray, self.show_progress = tables, ray, show_progress
        self.work = out / ".klm3"
        self.simulated = (source / SIMULATED).exists()
        self.units: dict[str, str] = {}
        self.buckets = num_buckets(p for paths in tables.values() for p in paths)

    def run(self) -> PreparedRooms:
        """All steps; those that are done are passed over."""
        check_output(self.out, prepared.KIND, prepared.FILES)
        with (
            alone(self.out, "on the rooms here"),
            output_folder(self.out, prepared.KIND, prepared.FILES, keep=True),
        ):
            return self._run()

    def _run(self) -> PreparedRooms:
        self._open()
        files = sum(len(paths) for paths in self.tables.values()) + len(self.tables["vectors"])
        with progress_bar("prepare", files + 2 * self.buckets, show=self.show_progress) as bar:
            self._partition(("rooms", "sessions", "grid"), None, bar)
            self._each_bucket(self._stats, bar)
            rooms = self._choose()
            self._partition(("vectors", "shows", "likes", "comments"), rooms, bar)
            self._each_bucket(partial(self._part, chosen=rooms), bar)
        return self._finish(rooms)

    def _open(self) -> None:
        """The work folder; another run's is thrown away."""
        shutil.rmtree(self.out / _DONE, ignore_errors=True)
        remove_leftovers(self.out / "visual")
        states = [
            (name, str(path.relative_to(self.source)), path.stat().st_size, path.stat().st_mtime_ns)
            for name, paths in self.tables.items()
            for path in paths
        ]
        mark = digest(
            _FORM, pl.__version__, np.__version__, asdict(self.settings), self.simulated, states
        )
        path = self.work / "settings.json"
        if path.is_file() and read_json(path).get("mark") == mark:
            return
        shutil.rmtree(self.work, ignore_errors=True)
        write_json(path, {"mark": mark, "buckets": self.buckets})

    def _each_bucket(self, step: Callable[[int], None], bar: Progress) -> None:
        """Do a step of every bucket; what it writes is whole, and left alone where it is there."""
        if self.ray is not None:
            for _ in run_over(range(self.buckets), lambda: step, ray=self.ray):
                bar.advance()
            return
        with ThreadPoolExecutor(_WORKERS) as pool:
            for _ in pool.map(step, range(self.buckets)):
                bar.advance()

    def _partition(self, names: Sequence[str], rooms: pl.DataFrame | None, bar: Progress) -> None:
        """Rearrange tables; "grid" is the vectors' table without its vectors."""
        for name in names:
            table = _table(name)
            leave_out = ("vector",) if name == "grid" else ()
            for path, folder in zip(self._files(name), self._runs(name), strict=True):
                scan = scan_file(table, path, leave_out=leave_out, zone=self.settings.zone)
                self.units.update({f"{TABLES[table].stem}.{k}": v for k, v in scan.units.items()})
                partition(scan, folder, name=name, count=self.buckets, rooms=rooms)
                bar.advance(note=path.name)

    def _files(self, name: str) -> list[Path]:
        return self.tables.get(_table(name), [])

    def _runs(self, name: str) -> list[Path]:
        return [self.work / name / f"{n:03}" for n in range(len(self._files(name)))]

    def _read(self, name: str, bucket: int, rooms: pl.DataFrame | None = None) -> pl.DataFrame:
        table = read_bucket(self._runs(name), bucket)
        return table if rooms is None else table.join(rooms, on="live_id", how="semi")

    def _rooms(self, bucket: int, counts: Counter[str]) -> pl.DataFrame:
        rooms = self._read("rooms", bucket)
        distinct = rooms.unique("live_id", keep="first", maintain_order=True)
        counts["repeated_rooms"] += rooms.height - distinct.height
        return distinct

    def _stats(self, bucket: int) -> None:
        """What a bucket's rooms are chosen by."""
        done = self.work / "stats" / f"{bucket:04}.json"
        if done.is_file():
            return
        counts: Counter[str] = Counter()
        rooms = self._rooms(bucket, counts)
        rows = self._read("sessions", bucket)
        sessions = clean_sessions(rows, counts)
        grid = build_grid(rooms, self._read("grid", bucket), counts)
        stats = room_stats(grid, rooms, sessions, benchmark_sessions(rows))
        counts["rooms_without_segments"] += rooms.height - stats.height
        counts["sessions_without_segments"] += sessions.height - int(stats["sessions"].sum())
        # The benchmark ranks all rooms that have sessions, those without segments among them.
        rows_of_room = rows.group_by("live_id").agg(session_rows=pl.len())
        stats = stats.join(rows_of_room, on="live_id", how="full", coalesce=True)
        with atomic(done.with_suffix(".parquet")) as temporary:
            stats.sort("live_id").write_parquet(temporary)
        write_json(done, counts)

    def _choose(self) -> pl.DataFrame:
        """The rooms of the result, by rising id, with their split."""
        paths = [self.work / "stats" / f"{b:04}.parquet" for b in range(self.buckets)]
        stats = pl.concat(pl.read_parquet(path, glob=False) for path in paths).sort("live_id")
        busiest = stats.sort("session_rows", "live_id", descending=[True, False], nulls_last=True)
        stats = stats.filter(pl.col("segments").is_not_null())
        if not stats.height:
            raise InputError(f"{self.source}: no room of live_room_meta has a segment embedding")
        self._require_overlap(stats)
        if self.settings.rooms == "benchmark":
            stats = stats.join(busiest.head(BENCHMARK_ROOMS), on="live_id", how="semi")
            enough = pl.col("segments") >= BENCHMARK_SEGMENTS
            stats = stats.filter(enough & (pl.col("entered") >= BENCHMARK_ENTERED))
            if not stats.height:
                raise InputError(
                    f"{self.source}: no room has {BENCHMARK_SEGMENTS} segments and "
                    f"{BENCHMARK_ENTERED} sessions begun by its last; use all rooms"
                )
        started = (
            pl.from_epoch("start", "ms")
            .dt.replace_time_zone("UTC")
            .cast(ROOMS_SCHEMA["started_at"])
        )
        stats = stats.with_columns(started_at=started)
        shares = self.settings.val, self.settings.test
        if self.settings.rooms == "benchmark" and shares == BENCHMARK_SHARES:
            return benchmark_splits(stats)
        return assign_splits(stats, val=shares[0], test=shares[1])

    def _require_overlap(self, stats: pl.DataFrame) -> None:
        if stats["overlapping"].sum():
            return
        rooms = f"{_day(stats['start'].min())} to {_day(stats['last_end'].max())}"
        runs = [p for f in self._runs("sessions") for p in sorted(f.glob("*.parquet"))]
        starts = pl.scan_parquet(runs, glob=False).select(
            a=pl.col("start").min(), b=pl.col("start").max()
        )
        first, last = starts.collect(engine="streaming").row(0)
        units = ", ".join(f"{name}: {unit}" for name, unit in sorted(self.units.items()))
        raise InputError(
            f"{self.source}: no viewing session shares a moment with a segment of its room: "
            f"segments run from {rooms}, sessions begin from {_day(first)} to {_day(last)}; are "
            f"the units ({units}), the time zone ({self.settings.zone}) and the ids right?"
        )

    def _part(self, bucket: int, chosen: pl.DataFrame) -> None:
        """A bucket's segments and vectors."""
        done = self.work / "parts" / f"{bucket:04}.json"
        if done.is_file():
            return
        counts: Counter[str] = Counter()
        optional = {
            name: self._read(name, bucket) if name in self.tables else None
            for name in ("shows", "likes", "comments")
        }
        rooms = self._rooms(bucket, Counter()).join(chosen, on="live_id", how="semi")
        grid = build_grid(rooms, self._read("grid", bucket, rooms))
        rows = self._read("sessions", bucket, rooms)
        sessions, counted = clean_sessions(rows), benchmark_sessions(rows)
        table = count_segments(grid, Logs(sessions=sessions, counted=counted, **optional), counts)
        table = _finished(table, chosen, self.settings)
        counts |= {
            "segments": table.height,
            "segments_with_target": table.height - table["target"].null_count(),
        }
        counts["segments_without_vector"] = self._store_vectors(bucket, grid)
        with atomic(done.with_suffix(".parquet")) as temporary:
            table.write_parquet(temporary)
        write_json(done, counts)

    def _store_vectors(self, bucket: int, grid: RoomGrid) -> int:
        """Write the stored embeddings of a bucket; how many segments have none."""
        if not len(grid):
            return 0
        # `row` rises in both, and every row of the grid is among the vectors'.
        vectors = read_vectors(self._runs("vectors"), bucket)
        at_S = np.searchsorted(vectors.row_E, grid.row_S)
        assert (vectors.row_E[at_S] == grid.row_S).all()
        half_SV, has_S = vectors.vector_EV[at_S], vectors.has_vector_E[at_S]
        stored = []
        for room, live_id in enumerate(grid.live_id_R.tolist()):
            rows = slice(int(grid.first_R1[room]), int(grid.first_R1[room + 1]))
            tensors: dict[str, NDArray[Any]] = {
                "visual": half_SV[rows],
                "has_visual": has_S[rows],
            }
            mark = hashlib.sha256(half_SV[rows].tobytes() + has_S[rows].tobytes()).hexdigest()
            stored.append(
                StoredRoom(room_id=str(live_id), tensors=tensors, visual_fingerprint=mark)
            )
        write_shard(self.work / "visual", _shard(bucket), stored)
        return int((has_S == 0).sum())

    def _finish(self, rooms: pl.DataFrame) -> PreparedRooms:
        parts = [self.work / "parts" / f"{b:04}.parquet" for b in range(self.buckets)]
        result = Result(
            source=self.source,
            out=self.out,
            settings=self.settings,
            num_files={name: len(paths) for name, paths in self.tables.items()},
            rooms=rooms,
            counts=self._counts(),
            simulated=self.simulated,
        )
        result.write(parts, self.work)
        # Renamed first: what is left of it is never taken for work to go on with.
        self.work.replace(self.out / _DONE)
        shutil.rmtree(self.out / _DONE, ignore_errors=True)
        return PreparedRooms(self.out)

    def _counts(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for step in ("stats", "parts"):
            for bucket in range(self.buckets):
                counts.update(read_json(self.work / step / f"{bucket:04}.json"))
        for name in self.tables:
            rows = counts_of(self._runs(name))
            counts[f"{TABLES[name].stem}_rows"] = rows["rows"]
            counts[f"{TABLES[name].stem}_bad_rows"] = rows["bad_rows"]
        return {name: count for name, count in sorted(counts.items()) if count}


def _finished(table: pl.DataFrame, chosen: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Columns of SEGMENTS_SCHEMA and OWN_SCHEMA, by room id and segment."""
    known = chosen.select(
        "live_id",
        "split",
        room_id=pl.col("live_id").cast(pl.String),
        streamer_id=pl.col("author_id").cast(pl.String),
    )
    named = table.join(known, on="live_id", how="left", maintain_order="left")
    columns = {**SEGMENTS_SCHEMA, **OWN_SCHEMA}
    named = named.with_columns(target=pl.lit(None, pl.Float64))
    return (
        set_target(named, settings.target, settings.target_scale)
        .select(pl.col(name).cast(kind) for name, kind in columns.items())
        .sort("room_id", "segment")
    )


def benchmark_splits(rooms: pl.DataFrame) -> pl.DataFrame:
    """`rooms` with the published split: by start the first 70 %, then 10 %, each rounded down.

    Rooms that start together may part, as they do there; the lower id comes first.
    """
    train, val = int(rooms.height * 0.7), int(rooms.height * 0.1)
    names = ["train"] * train + ["val"] * val + ["test"] * (rooms.height - train - val)
    by_start = rooms.sort("started_at", "live_id").select("live_id", split=pl.Series(names))
    return rooms.join(by_start, on="live_id", how="left", maintain_order="left")


def _table(name: str) -> str:
    return "vectors" if name == "grid" else name


def _shard(bucket: int) -> str:
    return f"bucket-{bucket:04}"


def _day(ms: Any) -> str:
    return str(pl.Series([ms]).cast(pl.Datetime("ms"))[0])
