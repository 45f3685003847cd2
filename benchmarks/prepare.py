"""Preparing data of KuaiLive-M3's form: events a second, peak memory, and the plain pandas way.

    python benchmarks/prepare.py [--segments 2000000] [--events 20000000] [--threads 2]

Writes simulated data (tests/klm3_data.py) of a quarter of the size and of the whole, prepares each
in a process of its own, and compares: peak memory of the two; and, on the whole, time and numbers
of the plain pandas way: read all tables, then for each room compare its id with every row of the
log, and each of its segments with each of its sessions. Rooms of that loop are sampled
(--pandas-rooms) and its time is extrapolated; reading and dropping repeats are measured whole.
pandas and pyarrow are not among the package's own needs: pip install 'contentctr[bench]'.
The ratios are the result; seconds depend on the machine. Both are given in seconds by the clock and
of the processor: on a busy machine only the latter tell.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parent.parent / "tests"
SEGMENTS_A_ROOM = 50
TOLERANCE = 1e-12
OURS = (
    "entered",
    "stayed",
    "likes",
    "comment_count",
    "comments",
    "viewers",
    "clickers",
    "ctr",
    "highlight_score",
    "highlight_label",
)


def write(folder: Path, segments: int, events: int) -> None:
    sys.path.insert(0, str(TESTS))
    from klm3_data import write_klm3

    rate = events / segments
    write_klm3(
        folder,
        rooms=segments // SEGMENTS_A_ROOM,
        segments=SEGMENTS_A_ROOM,
        users=22_000,
        authors=2_000,
        sessions=0.2 * rate,
        shows=0.4 * rate,
        likes=0.3 * rate,
        comments=0.1 * rate,
    )


def prepare(source: Path, out: Path) -> dict[str, Any]:
    """Run in a process of its own: seconds, and peak memory with and without the imports."""
    from contentctr.prepare.klm3.prepare import prepare_klm3

    at_start, begin = _peak(), _now()
    prepare_klm3(source, out, show_progress=False)
    return {"took": (_now() - begin).tolist(), "peak": _peak(), "at_start": at_start}


def plain_pandas(source: Path, room_ids: list[int]) -> dict[str, Any]:
    """The same numbers for some rooms, by loops; times of reading and of the loop."""
    import pandas as pd

    begin = _now()
    meta = pd.read_parquet(source / "live_room_meta.parquet").set_index("live_id")
    shards = sorted((source / "live_emb_128_ts").iterdir())
    fields = ["live_stream_id", "timestamp", "feature_128"]
    grid = pd.concat([pd.read_parquet(p, columns=fields) for p in shards])
    grid = grid.drop_duplicates(["live_stream_id", "timestamp"])
    grid["live_stream_id"] = grid["live_stream_id"].astype(int)
    fields = [
        "live_id",
        "user_id",
        "live_play_start_timestamp",
        "live_play_end_timestamp",
        "play_duration",
        "enter_live_action",
    ]
    sessions = pd.read_csv(source / "live_interaction.csv", usecols=fields).drop_duplicates()
    sessions["end"] = sessions["live_play_end_timestamp"].fillna(
        sessions["live_play_start_timestamp"] + sessions["play_duration"]
    )
    likes = pd.read_csv(source / "live_like.csv").drop_duplicates()
    comments = pd.read_csv(source / "live_comment.csv").drop_duplicates()
    shows = pd.read_parquet(source / "live_show.parquet").drop_duplicates()
    read = _now() - begin
    tables = (sessions, shows, likes, comments)
    begin = _now()
    rooms = {room: _one_room(room, meta, grid, *tables) for room in room_ids}
    loop = _now() - begin
    return {"read": read.tolist(), "loop": loop.tolist(), "rooms": rooms, "peak": _peak()}


def _one_room(
    room: int, meta: Any, grid: Any, sessions: Any, shows: Any, likes: Any, comments: Any
) -> dict[str, list[Any]]:
    segments = grid[grid["live_stream_id"] == room].sort_values("timestamp")
    ends = segments["timestamp"].to_numpy()
    np.stack(segments["feature_128"].tolist()).astype(np.float16)
    starts = np.append(meta.loc[room, "start_timestamp"], ends[:-1])
    own = sessions[sessions["live_id"] == room]
    begun = own["live_play_start_timestamp"].to_numpy()
    over, users = own["end"].to_numpy(), own["user_id"].to_numpy()
    click = (own["enter_live_action"] == "click").to_numpy()
    shown = shows[shows["live_id"] == room]
    shown_t, shown_user = shown["show_timestamp"].to_numpy(), shown["user_id"].to_numpy()
    like_t = likes.loc[likes["live_id"] == room, "like_timestamp"].to_numpy()
    said = comments[comments["live_stream_id"] == room].sort_values("comment_ts", kind="stable")
    said_t, words = said["comment_ts"].to_numpy(), said["content"].to_numpy()
    rows: dict[str, list[Any]] = {name: [] for name in OURS}
    for start, end in zip(starts, ends, strict=True):
        came = begun <= start
        rows["entered"].append(int(came.sum()))
        rows["stayed"].append(int((came & (over >= end)).sum()))
        rows["likes"].append(int(((like_t >= start) & (like_t < end)).sum()))
        now = (said_t >= start) & (said_t < end)
        rows["comment_count"].append(int(now.sum()))
        rows["comments"].append("\n".join(w for w in words[now] if isinstance(w, str)))
        clickers = set(users[click & (begun >= start) & (begun < end)])
        viewers = clickers | set(shown_user[(shown_t >= start) & (shown_t < end)])
        rows["viewers"].append(len(viewers))
        rows["clickers"].append(len(clickers))
        rows["ctr"].append(len(clickers) / len(viewers) if viewers else None)
    entered = np.maximum(rows["entered"], 1)
    retention = np.array(rows["stayed"]) / entered
    engagement = (np.array(rows["likes"]) + 2 * np.array(rows["comment_count"])) / entered
    score = 0.6 * _scaled(retention) + 0.4 * _scaled(engagement)
    rows["highlight_score"] = score.tolist()
    rows["highlight_label"] = (score >= np.percentile(score, 70)).astype(int).tolist()
    return rows


def _scaled(values: Any) -> Any:
    span = values.max() - values.min()
    return (values - values.min()) / span if span else np.zeros(len(values))


def _now() -> Any:
    """Seconds by the clock, and of the processor on all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def _peak() -> int:
    """Peak resident memory of this process in bytes.

    The kernel's mark for this address space: getrusage's would begin at the parent's size.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(threads: int, *arguments: object) -> dict[str, Any]:
    """Run a step of this file in a process of its own."""
    env = {**os.environ, "POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--step", *map(str, arguments)]
    out = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def largest_difference(out: Path, rooms: dict[str, dict[str, list[Any]]]) -> float:
    import polars as pl

    table = pl.read_parquet(out / "segments.parquet").filter(pl.col("room_id").is_in(list(rooms)))
    worst = 0.0
    for room, wanted in rooms.items():
        own = table.filter(pl.col("room_id") == room).sort("segment")
        assert own["comments"].to_list() == wanted.pop("comments"), room
        for name, values in wanted.items():
            ours, theirs = (np.array(v, dtype=float) for v in (own[name].to_list(), values))
            assert ours.shape == theirs.shape, (room, name)
            assert (np.isnan(ours) == np.isnan(theirs)).all(), (room, name)
            worst = max(worst, float(np.nanmax(np.abs(ours - theirs), initial=0)))
    return worst


def compare(folder: Path, segments: int, events: int, pandas_rooms: int, threads: int) -> None:
    peaks = []
    for share in (4, 1):
        source, out = folder / f"in{share}", folder / f"out{share}"
        if not source.exists():
            write(source, segments // share, events // share)
        ours = apart(threads, "prepare", source, out)
        counts = json.loads((out / "manifest.json").read_text())["counts"]
        logs = ("live_interaction", "live_show", "live_like", "live_comment")
        rows = sum(counts[f"{name}_rows"] for name in logs)
        clock, processor = ours["took"]
        peaks.append(ours["peak"])
        print(
            f"simulated: {rows:,} events, {counts['segments']:,} segments, {counts['rooms']:,} "
            f"rooms: {clock:.1f} s ({processor:.1f} s of the processor), {rows / clock:,.0f} "
            f"({rows / processor:,.0f}) events a second\n  peak {ours['peak'] / 2**20:,.0f} MB, "
            f"of which the imports are {ours['at_start'] / 2**20:,.0f} MB",
            flush=True,
        )
    print(f"peak memory, 4 times the data: {peaks[1] / peaks[0]:.2f} times (wanted: at most 1.3)")
    against_pandas(source, out, np.array(ours["took"]), pandas_rooms, threads)


def against_pandas(source: Path, out: Path, took: Any, sampled: int, threads: int) -> None:
    import polars as pl

    ids = pl.read_parquet(out / "rooms.parquet")["room_id"].cast(pl.Int64).sort().to_list()
    chosen = np.random.default_rng(0).choice(ids, min(sampled, len(ids)), replace=False)
    plain = apart(threads, "pandas", source, ",".join(map(str, chosen)))
    read, loop = np.array(plain["read"]), np.array(plain["loop"])
    whole = read + loop * len(ids) / len(chosen)
    print(
        f"plain pandas: read {read[0]:.1f} s ({read[1]:.1f}), loop {loop[0]:.1f} s ({loop[1]:.1f}) "
        f"for {len(chosen)} rooms, {whole[0]:,.0f} s ({whole[1]:,.0f}) for all (extrapolated); "
        f"peak {plain['peak'] / 2**20:,.0f} MB\n"
        f"  contentctr is {whole[0] / took[0]:.0f} ({whole[1] / took[1]:.0f}) times as fast "
        "(wanted: 20)"
    )
    worst = largest_difference(out, plain["rooms"])
    print(f"  largest difference of any number: {worst:.1e} (wanted: under {TOLERANCE:.0e})")
    assert worst < TOLERANCE


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        step, source, last = sys.argv[2:5]
        if step == "prepare":
            print(json.dumps(prepare(Path(source), Path(last))))
        else:
            print(json.dumps(plain_pandas(Path(source), [int(r) for r in last.split(",")])))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=2_000_000)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--pandas-rooms", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="Keep the data here, and use what is there.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        compare(folder, args.segments, args.events, args.pandas_rooms, args.threads)


if __name__ == "__main__":
    main()
