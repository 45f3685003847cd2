"""Labels, rooms and split of the benchmark, segment by segment.

The reference below is written anew from what the public benchmark does
(github.com/imgkkk574/KuaiLive-M3, highlight/preprocess_highlight.py, as of commit 3c0a9c2): none of
its code is here, and its own program was not run. What the reference keeps of it, since it decides
labels:

- rows that are there twice count twice;
- a session without an end and a duration, or that ends before it begins, does not count at all;
- a segment begins at the stored time before its own, even where the segment of that is dropped;
- the busiest of all rooms are taken first, and then those with too few segments left out;
- numbers are float32.
"""

import csv

import numpy as np
import polars as pl
import pytest

from contentctr.prepare.klm3 import buckets
from contentctr.prepare.klm3.prepare import prepare_klm3
from klm3_data import write_klm3

ROOMS = 40
f32 = np.float32


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def times_of(path, room, time):
    """Times of each room's rows, in seconds."""
    found = {}
    for row in rows_of(path):
        found.setdefault(int(row[room]), []).append(int(row[time]) / 1000)
    return found


def sessions_of(path):
    """Rows of each room, and begin and end in seconds of those that count."""
    rows, counted = {}, {}
    for row in rows_of(path):
        room, begin = int(row["live_id"]), int(row["live_play_start_timestamp"])
        rows[room] = rows.get(room, 0) + 1
        end = row["live_play_end_timestamp"]
        if not end and row["play_duration"]:
            end = begin + int(row["play_duration"])
        if end and int(end) >= begin:
            counted.setdefault(room, []).append((begin / 1000, int(end) / 1000))
    return rows, counted


def unit(values):
    low, high = min(values), max(values)
    return [f32(0) if high == low else (v - low) / (high - low) for v in values]


def borders_of(source):
    """Begin and end in seconds of each room's segments that are not dropped, and the rooms."""
    meta = pl.read_parquet(source / "live_room_meta.parquet")
    starts = {r: t / 1000 for r, t in meta.select("live_id", "start_timestamp").iter_rows()}
    ends = {}
    for path in (source / "live_emb_128_ts").iterdir():
        table = pl.read_parquet(path, columns=["live_stream_id", "timestamp"])
        for room, t in table.iter_rows():
            ends.setdefault(int(room), []).append(t / 1000)
    found = {}
    for room, times in ends.items():
        times.sort()
        pairs = zip([starts[room], *times[:-1]], times, strict=True)
        found[room] = [(a, b) for a, b in pairs if b > a]
    return found, starts


def labels_of(borders, sessions, likes, comments):
    """Of one room's segments: entered, stayed, engagement, score and label."""
    entered, stayed, engaged = [], [], []
    for begin, end in borders:
        came = [b for a, b in sessions if a <= begin]
        acts = sum(begin <= t < end for t in likes) + 2 * sum(begin <= t < end for t in comments)
        entered.append(len(came))
        stayed.append(sum(b >= end for b in came))
        engaged.append(f32(acts) / f32(max(len(came), 1)))
    kept = [f32(s) / f32(max(n, 1)) for s, n in zip(stayed, entered, strict=True)]
    parts = zip(unit(kept), unit(engaged), strict=True)
    score = np.array([0.6 * a + 0.4 * b for a, b in parts], f32)
    cut = np.percentile(score, 70)
    return {
        "entered": entered,
        "stayed": stayed,
        "engagement": engaged,
        "highlight_score": score,
        "highlight_label": score >= cut,
    }, cut


def reference(source):
    """Each chosen room's borders, labels, cut and split, rooms by their start."""
    borders, starts = borders_of(source)
    rows, sessions = sessions_of(source / "live_interaction.csv")
    likes = times_of(source / "live_like.csv", "live_id", "like_timestamp")
    comments = times_of(source / "live_comment.csv", "live_stream_id", "comment_ts")
    found = {}
    for room in sorted(rows, key=lambda r: (-rows[r], r))[:ROOMS]:
        own = borders.get(room, [])
        if len(own) < 5:
            continue
        logs = (log.get(room, []) for log in (sessions, likes, comments))
        labels, cut = labels_of(own, *logs)
        if max(labels["entered"]) >= 5:
            found[room] = (own, labels, cut)
    order = sorted(found, key=lambda r: (starts[r], r))
    train, val = int(len(order) * 0.7), int(len(order) * 0.1)
    names = ["train"] * train + ["val"] * val + ["test"] * (len(order) - train - val)
    return {r: (*found[r], name) for r, name in zip(order, names, strict=True)}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Made-up files of the published form, with what decides labels in odd cases."""
    root = tmp_path_factory.mktemp("klm3")
    write_klm3(root, rooms=60, segments=8, sessions=1.2, users=150, shards=3, seed=3)
    path = root / "live_interaction.csv"
    sessions = pl.read_csv(path)
    backwards = pl.int_range(pl.len()) % 50 == 7
    end = pl.when(backwards).then(pl.col("live_play_start_timestamp") - 1)
    end = end.otherwise("live_play_end_timestamp")
    sessions.with_columns(live_play_end_timestamp=end).write_csv(path)
    meta = pl.read_parquet(root / "live_room_meta.parquet")
    # A sixth of the rooms begin, by live_room_meta, after their first segments have ended.
    late = pl.when(pl.col("live_id") % 6 == 0).then(150_000).otherwise(0)
    meta = meta.with_columns(pl.col("start_timestamp") + late)
    meta.write_parquet(root / "live_room_meta.parquet")
    return root


def test_rooms_split_and_labels_are_the_benchmarks(source, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "_BUCKET_BYTES", 40_000)
    monkeypatch.setattr("contentctr.prepare.klm3.prepare.BENCHMARK_ROOMS", ROOMS)
    data = prepare_klm3(
        source, tmp_path / "out", rooms="benchmark", target="highlight_label", show_progress=False
    )
    wanted, segments = reference(source), data.segments()
    assert set(segments["room_id"]) == {str(room) for room in wanted} and len(wanted) > 20
    near_the_cut = 0
    for room, (borders, labels, cut, split) in wanted.items():
        own = segments.filter(room_id=str(room)).sort("segment")
        assert own["split"].unique().to_list() == [split]
        lengths = own["end_s"] - own["start_s"]
        assert lengths.to_list() == pytest.approx([b - a for a, b in borders], abs=1e-3)
        for name in ("entered", "stayed"):
            assert own[name].to_list() == labels[name], (room, name)
        for name in ("engagement", "highlight_score"):
            np.testing.assert_allclose(own[name].to_numpy(), labels[name], atol=1e-6)
        differ = own["highlight_label"].to_numpy() != labels["highlight_label"]
        # Ours are float64: only what lies on the cut to float32's rounding may fall otherwise.
        assert np.all(np.abs(labels["highlight_score"][differ] - cut) < 1e-6)
        near_the_cut += int(differ.sum())
        assert own["target"].to_list() == own["highlight_label"].to_list()
    assert near_the_cut == 0
    assert 0.2 < segments["highlight_label"].mean() < 0.5


def test_the_odd_cases_are_there(source):
    """What the reference and ours agree on is more than what no file ever holds."""
    borders, starts = borders_of(source)
    before = [r for r, own in borders.items() if own and own[0][0] < starts[r]]
    assert len(before) > 3
    rows, counted = sessions_of(source / "live_interaction.csv")
    busiest = sorted(rows, key=lambda r: (-rows[r], r))[:ROOMS]
    assert any(room not in borders for room in busiest)
    assert sum(map(len, counted.values())) < sum(rows.values())
    lines = [tuple(row.values()) for row in rows_of(source / "live_interaction.csv")]
    assert len(set(lines)) < len(lines)
