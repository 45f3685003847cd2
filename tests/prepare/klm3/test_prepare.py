"""The command as a whole; the naive oracle reads the published files with Python's loops."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from contentctr.errors import InputError
from contentctr.outputs import LOCK, MARKER, alone
from contentctr.prepare.klm3 import buckets, settings
from contentctr.prepare.klm3.prepare import benchmark_splits, prepare_klm3
from contentctr.prepare.klm3.segments import OWN_SCHEMA
from contentctr.store import rooms as prepared
from contentctr.store.rooms import ROOMS_SCHEMA, SEGMENTS_SCHEMA
from contentctr.store.vectors import read_entry, read_index, read_manifest
from klm3_data import Form, write_klm3


def prepare(source, out, **options):
    return prepare_klm3(source, out, show_progress=False, **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("klm3")
    write_klm3(root, rooms=60, segments=10, users=150, shards=3)
    return root


@pytest.fixture(scope="module")
def data(source, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_BUCKET_BYTES", 40_000)
        return prepare(source, tmp_path_factory.mktemp("out") / "data")


def rows_of(path):
    with path.open(newline="") as file:
        distinct = dict.fromkeys(tuple(sorted(row.items())) for row in csv.DictReader(file))
    return [dict(row) for row in distinct]


def published_vectors(source):
    folder = source / "live_emb_128_ts"
    paths = sorted(folder.iterdir(), key=lambda p: int(p.stem.rsplit("part", 1)[1]))
    return pl.concat(pl.read_parquet(p) for p in paths)


def oracle(source):
    """(room, segment) to our own columns, by loops over rooms, segments and distinct rows.

    Those of the benchmark are compared in test_benchmark.py.
    """
    meta = {r["live_id"]: r for r in pl.read_parquet(source / "live_room_meta.parquet").to_dicts()}
    ends = defaultdict(set)
    for room, t in published_vectors(source).select("live_stream_id", "timestamp").iter_rows():
        ends[int(room)].add(t)
    sessions, likes, comments = (
        rows_of(source / f"live_{name}.csv") for name in ("interaction", "like", "comment")
    )
    shows = pl.read_parquet(source / "live_show.parquet").unique().to_dicts()
    found = {}
    for room, times in ends.items():
        start = meta[room]["start_timestamp"]
        own = [
            (int(s["live_play_start_timestamp"]), s["user_id"], s["enter_live_action"])
            for s in sessions
            if int(s["live_id"]) == room
        ]
        for number, end in enumerate(sorted(times)):
            clickers = {u for a, u, how in own if start <= a < end and how == "click"}
            shown = {
                str(s["user_id"])
                for s in shows
                if s["live_id"] == room and start <= s["show_timestamp"] < end
            }
            viewers = clickers | shown
            said = [
                c
                for c in comments
                if int(c["live_stream_id"]) == room and start <= int(c["comment_ts"]) < end
            ]
            liked = sum(
                int(k["live_id"]) == room and start <= int(k["like_timestamp"]) < end for k in likes
            )
            texts = [c["content"] for c in sorted(said, key=lambda c: int(c["comment_ts"]))]
            found[str(room), number] = {
                "viewers": len(viewers),
                "clickers": len(clickers),
                "ctr": len(clickers) / len(viewers) if viewers else None,
                "likes": liked,
                "comment_count": len(said),
                "commenters": len({c["user_id"] for c in said}),
                "comments": sorted(t for t in texts if t),
            }
            start = end
    return found


def test_every_number_is_the_naive_loops(source, data):
    expected = oracle(source)
    segments = data.segments()
    assert segments.height == len(expected) > 400
    for row in segments.iter_rows(named=True):
        wanted = expected[row["room_id"], row["segment"]]
        row["comments"] = sorted(row["comments"].split("\n")) if row["comments"] else []
        assert {name: row[name] for name in wanted} == wanted
        assert row["target"] == row["ctr"]
    for name in ("ctr", "likes", "commenters"):
        assert segments[name].n_unique() > 1, name


def test_the_folder_is_a_prepared_one(source, data):
    rooms, segments = data.rooms(), data.segments()
    assert dict(rooms.schema) == ROOMS_SCHEMA
    assert dict(segments.schema) == {**SEGMENTS_SCHEMA, **OWN_SCHEMA}
    meta = pl.read_parquet(source / "live_room_meta.parquet")
    one = rooms.row(0, named=True)
    own = meta.filter(pl.col("live_id") == int(one["room_id"])).row(0, named=True)
    assert one["streamer_id"] == str(own["author_id"])
    assert one["started_at"].timestamp() * 1000 == own["start_timestamp"]
    sizes = dict(segments.group_by("room_id").len().iter_rows())
    assert dict(rooms.select("room_id", "num_segments").iter_rows()) == sizes
    lasts = segments.group_by("room_id").agg(pl.col("end_s").max())
    assert (rooms.join(lasts, on="room_id")["duration_s"] >= lasts["end_s"].min()).all()
    first = rooms.group_by("split").agg(a=pl.col("started_at").min(), b=pl.col("started_at").max())
    span = {split: (a, b) for split, a, b in first.iter_rows()}
    assert span["train"][1] < span["val"][0] < span["val"][1] < span["test"][0]
    manifest = data.manifest()
    assert manifest["source"] == "klm3"
    assert manifest["simulated"] is True  # what the generator writes says so
    assert manifest["warnings"] == ["live_emb_128_ts has 3 of the 18 published shards"]
    counts = manifest["counts"]
    for name in (
        "rooms_without_segments",
        "repeated_segments",
        "repeated_sessions",
        "repeated_comments",
        "sessions_without_end",
        "likes_outside",
    ):
        assert counts[name] > 0, name
    assert counts["segments_with_target"] == segments["target"].count()
    assert sorted(p.name for p in data.root.iterdir()) == [
        MARKER,
        LOCK,
        "manifest.json",
        "rooms.parquet",
        "segments.parquet",
        "visual",
    ]


def test_vectors_are_the_published_ones(source, data):
    spec, manifest = read_manifest(data.root / "visual")
    assert (spec.visual_encoder, spec.visual_dim) == ("klm3", 128)
    assert manifest["counts"]["segments"] == data.segments().height
    index = read_index(data.root / "visual")
    assert len({entry.path for entry in index.values()}) > 2  # several buckets
    published = published_vectors(source).unique(
        ("live_stream_id", "timestamp"), keep="first", maintain_order=True
    )
    for room_id in data.rooms()["room_id"]:
        own = published.filter(pl.col("live_stream_id") == room_id).sort("timestamp")
        stored = read_entry(index[room_id])
        wanted = own["feature_128"].list.to_array(128).to_numpy().astype(np.float16)
        np.testing.assert_array_equal(stored["visual"], wanted)
        assert stored["has_visual"].all()


def same_segments(a, b):
    assert_frame_equal(a.segments(), b.segments(), check_exact=True)
    assert_frame_equal(a.rooms(), b.rooms(), check_exact=True)


@pytest.mark.parametrize(
    "form",
    [
        Form(ids="str"),
        Form(ids="str", times="text"),
        Form(times="us", csv=False),
        Form(times="ns"),
        Form(times="iso"),
        Form(times="iso_zone", csv=False),
        Form(times="datetime_ms", csv=False),
        Form(times="datetime_us", csv=False),
        Form(times="datetime_ns", ids="str", csv=False),
        Form(times="datetime_ns"),
    ],
    ids=str,
)
def test_the_same_whatever_the_types(source, data, form, tmp_path):
    write_klm3(tmp_path / "in", rooms=60, segments=10, users=150, form=form, shards=3)
    same_segments(prepare(tmp_path / "in", tmp_path / "out"), data)


def test_seconds_are_enough_where_times_have_no_more(tmp_path):
    for name, times in (("ms", "ms"), ("s", "s")):
        write_klm3(tmp_path / name, rooms=10, whole_seconds=True, form=Form(times=times), shards=1)
    a, b = (prepare(tmp_path / name, tmp_path / f"{name}-out") for name in ("ms", "s"))
    same_segments(a, b)


def contents(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_two_runs_give_the_same_bytes_over_an_old_result_too(source, tmp_path):
    prepare(source, tmp_path / "a", target="comment_rate")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "visual" / "bucket-0999.safetensors").touch()
    for name in "ab":
        prepare(source, tmp_path / name, rooms="benchmark")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_step_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch, every):
    """A stop right before and right after each file or folder comes into its place."""
    write_klm3(tmp_path / "in", rooms=20, segments=4, shards=1)
    monkeypatch.setattr(buckets, "_BUCKET_BYTES", 40_000)
    monkeypatch.setattr(
        "contentctr.prepare.klm3.prepare._WORKERS", 1
    )  # so that calls have an order
    prepare(tmp_path / "in", tmp_path / "old", target="comment_rate", rooms="benchmark")
    prepare(tmp_path / "in", tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    real, calls = os.replace, []

    def replace(a, b):
        calls.append(Path(b).name)
        if len(calls) == stop and before:
            raise Killed
        real(a, b)
        if len(calls) == stop:
            raise Killed

    monkeypatch.setattr(os, "replace", replace)
    stop, before = -1, False
    prepare(tmp_path / "in", tmp_path / "again")
    total = len(calls)
    assert 20 < total < 40
    for stop in range(every, total + 1, every):
        before = stop // every % 2 == 0
        out = tmp_path / f"out{stop}"
        shutil.copytree(tmp_path / "old", out)
        calls.clear()
        with pytest.raises(Killed):
            prepare(tmp_path / "in", out)
        if "manifest.json" in contents(out):  # the old result, or the new one: both whole
            prepared.PreparedRooms(out).segments()
        resumed = calls.copy()
        calls.clear()
        kept, stop = stop, -1
        prepare(tmp_path / "in", out)
        assert contents(out) == whole, resumed[-1]
        if 8 < kept < total:
            assert len(calls) < total  # what was done is not done again
        shutil.rmtree(out)


RUN = """
import sys
from contentctr.prepare.klm3 import buckets
from contentctr.prepare.klm3.prepare import benchmark_splits, prepare_klm3
buckets._BUCKET_BYTES = 40_000
print("ready", flush=True)
prepare_klm3(sys.argv[1], sys.argv[2], show_progress=False)
"""


def run_alone(source, out, seconds=None):
    """How long it took in a process of its own; None: it was killed after so many seconds."""
    command = [sys.executable, "-c", RUN, str(source), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        begin = time.perf_counter()
        try:
            assert process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return None
    return time.perf_counter() - begin


@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path):
    """Ten kills, at moments drawn from the whole duration of a run that nobody disturbs."""
    write_klm3(tmp_path / "in", rooms=40, segments=6, shards=2)
    lasts = run_alone(tmp_path / "in", tmp_path / "whole")
    whole, rng, kills, number = contents(tmp_path / "whole"), random.Random(0), 0, 0
    while kills < 10:
        out = tmp_path / f"out{number}"
        if run_alone(tmp_path / "in", out, rng.uniform(0, lasts)) is None:
            kills += 1
            if kills < 10:
                continue
            run_alone(tmp_path / "in", out)
        assert contents(out) == whole
        number += 1


def test_other_settings_or_files_begin_anew(source, tmp_path, monkeypatch):
    real = os.replace

    def stop_at_parts(a, b):
        if Path(b).parent.name == "parts":
            raise Killed
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at_parts)
        with pytest.raises(Killed):
            prepare(source, tmp_path / "out", target="comment_rate")
    assert (tmp_path / "out" / ".klm3").is_dir()
    with pytest.raises(InputError, match="not a prepared folder"):
        prepared.PreparedRooms(tmp_path / "out").manifest()
    prepare(source, tmp_path / "out")
    prepare(source, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_number_of_buckets_changes_no_number(source, data, tmp_path):
    one = prepare(source, tmp_path / "one")
    assert len(list((one.root / "visual").glob("*.safetensors"))) == 1
    same_segments(one, data)
    assert one.manifest()["counts"] == data.manifest()["counts"]


def test_the_benchmarks_rooms(source, data, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "BENCHMARK_ROOMS", 20)
    monkeypatch.setattr("contentctr.prepare.klm3.prepare.BENCHMARK_ROOMS", 20)
    chosen = prepare(source, tmp_path / "out", rooms="benchmark")
    sessions = pl.read_csv(source / "live_interaction.csv")
    counts = {str(k): n for k, n in sessions.group_by("live_id").len().iter_rows()}
    sizes = dict(data.rooms().select("room_id", "num_segments").iter_rows())
    busiest = sorted(counts, key=lambda r: (-counts[r], int(r)))[:20]
    wanted = sorted(r for r in busiest if sizes.get(r, 0) >= 5)
    assert chosen.rooms()["room_id"].to_list() == wanted
    train, val = int(len(wanted) * 0.7), int(len(wanted) * 0.1)
    starts = chosen.rooms().sort("started_at")["split"].to_list()
    assert starts == ["train"] * train + ["val"] * val + ["test"] * (len(wanted) - train - val)
    ids = chosen.rooms()["room_id"].to_list()
    wanted = data.segments().filter(pl.col("room_id").is_in(ids)).drop("split")
    assert_frame_equal(chosen.segments().drop("split"), wanted, check_exact=True)
    assert set(read_index(chosen.root / "visual")) == set(ids)
    write_klm3(tmp_path / "few", rooms=5, sessions=0.1, shards=1)
    with pytest.raises(InputError, match="no room has 5 segments and 5 sessions"):
        prepare(tmp_path / "few", tmp_path / "out2", rooms="benchmark")


@pytest.mark.parametrize(
    ("rooms", "wanted"), [(27, (18, 2, 7)), (10, (7, 1, 2)), (9, (6, 0, 3)), (1, (0, 0, 1))]
)
def test_the_published_split_rounds_down(rooms, wanted):
    """int(n x 0.7), int(n x 0.1), the rest; rooms of one start part by their id."""
    table = pl.DataFrame(
        {"live_id": range(rooms), "started_at": [n // 3 for n in range(rooms)][::-1]}
    )
    found = benchmark_splits(table)
    assert found["live_id"].to_list() == table["live_id"].to_list()
    order = found.sort("started_at", "live_id")["split"].to_list()
    assert order == [
        s for s, n in zip(("train", "val", "test"), wanted, strict=True) for _ in range(n)
    ]


def test_missing_tables_are_said_and_leave_out_what_depends_on_them(tmp_path):
    write_klm3(tmp_path / "in", rooms=10, shards=1, leave_out=("live_show", "live_like"))
    with pytest.raises(InputError, match="live_show is missing, which the target 'ctr' comes"):
        prepare(tmp_path / "in", tmp_path / "out")
    with pytest.raises(InputError, match="live_like is missing, which the target 'highlight"):
        prepare(tmp_path / "in", tmp_path / "out", target="highlight_score", comment_lag=1)
    data = prepare(tmp_path / "in", tmp_path / "out", target="comment_rate")
    warnings = "\n".join(data.manifest()["warnings"])
    assert "live_show is missing: viewers, exposures and CTR are left out" in warnings
    assert "live_like is missing: likes, engagement and the highlight score" in warnings
    segments = data.segments()
    for name in ("viewers", "ctr", "likes", "highlight_score"):
        assert segments[name].null_count() == segments.height
    assert segments["comment_count"].sum() > 0
    assert segments["target"].null_count() == 0
    assert data.manifest()["comment_lag"] == 1


def test_sessions_that_miss_all_segments_stop_it(tmp_path):
    write_klm3(tmp_path / "in", rooms=10, shards=1)
    path = tmp_path / "in" / "live_interaction.csv"
    names = ["live_play_start_timestamp", "live_play_end_timestamp"]
    shifted = pl.read_csv(path).with_columns(pl.col(names) + 8 * 3_600_000)
    shifted.write_csv(path)
    with pytest.raises(InputError) as caught:
        prepare(tmp_path / "in", tmp_path / "out")
    message = str(caught.value)
    assert "no viewing session shares a moment with a segment" in message
    assert "live_interaction.live_play_start_timestamp: ms" in message
    assert "segments run from 2025-05-" in message
    half = pl.concat([shifted, shifted.head(100).with_columns(pl.col(names) - 8 * 3_600_000)])
    half.write_csv(path)
    data = prepare(tmp_path / "in", tmp_path / "out")
    assert "sessions share a moment with a segment" in data.manifest()["warnings"][0]


def test_warnings_of_what_is_odd(tmp_path):
    write_klm3(tmp_path / "in", rooms=10)
    (tmp_path / "in" / "live_emb_128_ts" / "live_emb_128_ts_part4.parquet").unlink()
    path = tmp_path / "in" / "live_interaction.csv"
    pl.read_csv(path).with_columns(enter_live_action=pl.lit("slide up/down")).write_csv(path)
    warnings = "\n".join(prepare(tmp_path / "in", tmp_path / "out").manifest()["warnings"])
    assert "live_emb_128_ts has 17 of the 18 published shards" in warnings
    assert "no session has the enter_live_action 'click'" in warnings


def test_segments_without_a_vector(tmp_path):
    write_klm3(tmp_path / "in", rooms=3, dirt=False, shards=2)
    path = tmp_path / "in" / "live_emb_128_ts" / "live_emb_128_ts_part0.parquet"
    part = pl.read_parquet(path)
    gone = part.row(0, named=True)["live_stream_id"]
    lost = pl.when(pl.int_range(pl.len()) > 0).then("feature_128")
    part.with_columns(feature_128=lost).write_parquet(path)
    data = prepare(tmp_path / "in", tmp_path / "out")
    assert data.manifest()["counts"]["segments_without_vector"] == 1
    stored = read_entry(read_index(data.root / "visual")[gone])
    (row,) = np.flatnonzero(stored["has_visual"] == 0)
    assert not stored["visual"][row].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "gmv"}, "target must be one of ctr, comment_rate"),
        ({"rooms": "some"}, "rooms must be all or benchmark, not 'some'"),
        ({"val": 0.9}, "val and test"),
        ({"target": "comment_rate", "comment_lag": 0}, "comment_lag must be at least 1"),
        ({"zone": "Mars"}, "zone must be a time zone's name, not 'Mars'"),
    ],
)
def test_wrong_settings(source, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        prepare(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_out_is_a_folder_of_its_own(source, tmp_path):
    with pytest.raises(InputError, match="must not be the folder of the files"):
        prepare(source, source)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="must be a folder, or not there yet"):
        prepare(source, tmp_path / "file")


def test_one_call_at_a_time_works_in_a_folder(source, tmp_path):
    for out in (tmp_path / "new", tmp_path):
        with alone(out), pytest.raises(InputError, match="at work on the rooms here"):
            prepare(source, out)
    assert not (tmp_path / "new").exists()


def test_the_manifest_is_json_without_a_surprise(data):
    manifest = json.loads((data.root / "manifest.json").read_text())
    assert manifest["klm3"] == {"rooms": "all", "val": 0.1, "test": 0.1, "zone": "UTC"}
    assert manifest["segments_vary_in_length"] is True
    lengths = data.segments().select(pl.col("end_s") - pl.col("start_s")).to_series()
    assert manifest["segment_seconds"] == pytest.approx(lengths.mean(), abs=1e-3)
