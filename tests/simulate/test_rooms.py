"""Simulated rooms: the mechanism, what is written of it, and what can be known of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from contentctr.errors import InputError
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.folder import read_room
from contentctr.rooms.media import frames_at
from contentctr.simulate import tables
from contentctr.simulate.mechanism import (
    MISSING,
    SimulatedRoom,
    SimulatorConfig,
    _delay_people,
    draw_room,
)
from contentctr.simulate.rooms import write_features, write_room_folders
from contentctr.simulate.scenes import HEIGHT, WIDTH, draw_frame, draw_look
from contentctr.simulate.tables import ACTIVITIES
from contentctr.simulate.texts import COMMENTS, SPEECH, write_comments, write_speech
from contentctr.store.rooms import COUNT_COLUMNS, TRUTH_SCHEMA, PreparedRooms
from contentctr.store.vectors import FeatureStore, data_spec

CONFIG = SimulatorConfig(num_rooms=200)
SMALL = SimulatorConfig(num_rooms=12, num_streamers=4, min_segments=4, max_segments=8, seed=7)


@pytest.fixture(scope="module")
def rooms() -> list[SimulatedRoom]:
    return [draw_room(CONFIG, index) for index in range(CONFIG.num_rooms)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "rooms"
    write_room_folders(SMALL, out)
    return out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedRooms:
    config = dataclasses.replace(CONFIG, num_rooms=60, num_streamers=8)
    return write_features(config, tmp_path_factory.mktemp("simulated") / "data")


def same(one: SimulatedRoom, other: SimulatedRoom) -> bool:
    a, b = dataclasses.asdict(one), dataclasses.asdict(other)
    return repr(a) == repr(b) and np.array_equal(one.probability_S, other.probability_S)


def tree_hash(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# The mechanism


def test_a_room_depends_on_seed_and_number_alone(rooms: list[SimulatedRoom]) -> None:
    few = dataclasses.replace(CONFIG, num_rooms=3)
    assert same(draw_room(few, 2), rooms[2])
    assert not same(draw_room(few, 1), rooms[2])
    assert not same(draw_room(dataclasses.replace(few, seed=1), 2), rooms[2])


def test_activities_are_semi_markov(rooms: list[SimulatedRoom]) -> None:
    durations: list[list[int]] = [[] for _ in ACTIVITIES]
    for room in rooms:
        starts = np.flatnonzero(room.age_S == 0)
        assert (np.diff(room.activity_S[starts]) != 0).all()
        for start, stop in zip(starts[:-1], starts[1:], strict=True):
            assert (room.activity_S[start:stop] == room.activity_S[start]).all()
            assert (room.age_S[start:stop] == np.arange(stop - start)).all()
            durations[room.activity_S[start]].append(stop - start)
    # Long occurrences are cut off at the end of a room a little more often.
    for found, mean in zip(durations, tables.MEAN_DURATION, strict=True):
        assert np.mean(found) == pytest.approx(mean, abs=0.35)


def test_each_type_does_its_own_activity_most(rooms: list[SimulatedRoom]) -> None:
    share_KA = np.array(
        [
            np.bincount(
                np.concatenate([r.activity_S for r in rooms if r.streamer.kind == kind]),
                minlength=len(ACTIVITIES),
            )
            for kind in range(5)
        ],
        float,
    )
    share_KA /= share_KA.sum(axis=1, keepdims=True)
    own = [ACTIVITIES.index(a) for a in ("dancing", "singing", "chatting", "product", "contest")]
    assert share_KA[:, own].argmax(axis=0).tolist() == [0, 1, 2, 3, 4]


def test_attraction_without_nuisances_is_table_and_burst() -> None:
    calm = dataclasses.replace(
        CONFIG, streamer_sd=0.0, taste_sd=0.0, room_sd=0.0, drift=0.0, noise_sd=0.0
    )
    for index in range(5):
        room = draw_room(calm, index)
        for s in range(room.num_segments):
            activity, age = room.activity_S[s], room.age_S[s]
            burst = tables.BURST[activity] * np.exp(-float(age)) if age < 3 else 0.0
            logit = calm.base_logit + tables.ATTRACTION[room.streamer.kind, activity] + burst
            expected = min(max(1 / (1 + np.exp(-logit)), 0.02), 0.5)
            assert room.probability_S[s] == pytest.approx(expected, rel=1e-12)


def test_an_activity_starts_with_a_burst(rooms: list[SimulatedRoom]) -> None:
    giveaway = ACTIVITIES.index("giveaway")
    by_age = [
        np.concatenate(
            [r.probability_S[(r.activity_S == giveaway) & (r.age_S == a)] for r in rooms]
        )
        for a in (0, 1, 3)
    ]
    first, second, later = (values.mean() for values in by_age)
    assert first > 1.3 * second > 1.3 * later


def test_speech_leads_and_lags_and_comments_lag(rooms: list[SimulatedRoom]) -> None:
    """Whatever a text is about went on, or will, at most two segments away."""
    for field, lags in (("said_S", range(-2, 3)), ("discussed_S", range(3))):
        seen = set()
        for room in rooms:
            about_S = getattr(room, field)
            for s in np.flatnonzero(about_S != MISSING):
                places = {k: s - k for k in lags if 0 <= s - k < room.num_segments}
                near = {k for k, at in places.items() if room.activity_S[at] == about_S[s]}
                assert near or s >= room.num_segments - 2 or s < 2
                seen |= near if len(near) == 1 else set()
        assert seen == set(lags)


def test_counts_are_possible(rooms: list[SimulatedRoom]) -> None:
    for room in rooms:
        counts = room.counts
        assert tuple(counts) == COUNT_COLUMNS
        assert (room.clickers_S <= room.viewers_S).all()
        assert (room.viewers_S <= counts["exposures"]).all()
        assert (room.clickers_S <= counts["clicks"]).all()
        assert (counts["clicks"] - room.clickers_S <= counts["exposures"] - room.viewers_S).all()
        inside_S = np.cumsum(counts["enters"] - counts["exits"])
        assert (inside_S >= 0).all()
        assert (np.cumsum(counts["enters"]) <= np.cumsum(room.clickers_S)).all()
        assert (0.02 <= room.probability_S).all() and (room.probability_S <= 0.5).all()


def test_people_act_later() -> None:
    people_SK = np.array([[1, 2, 3], [10, 20, 30], [100, 200, 300]])
    assert _delay_people(people_SK).tolist() == [1, 12, 123]


def test_likes_follow_attraction_with_delay(rooms: list[SimulatedRoom]) -> None:
    """Likes a head go with the attraction of the segment before more than with the next one's."""
    before, after = [], []
    for room in rooms:
        inside_S = np.cumsum(room.counts["enters"] - room.counts["exits"])
        likes_S = np.log((room.counts["likes"] + 1) / (inside_S + 4))
        before.append(np.corrcoef(likes_S[1:], np.log(room.probability_S[:-1]))[0, 1])
        after.append(np.corrcoef(likes_S[:-1], np.log(room.probability_S[1:]))[0, 1])
    assert np.mean(before) > np.mean(after) + 0.2


def test_missing_shares_are_as_configured() -> None:
    config = dataclasses.replace(
        CONFIG, num_rooms=600, min_segments=10, max_segments=10, rooms_without_video=0.3
    )
    drawn = [draw_room(config, index) for index in range(config.num_rooms)]
    for field, share in (("has_video", 0.3), ("has_speech", 0.1), ("has_comments", 0.1)):
        found = 1 - np.mean([getattr(room, field) for room in drawn])
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 600))
    missing = np.mean([(room.shown_SF == MISSING).mean() for room in drawn])
    assert missing == pytest.approx(config.missing_frames, abs=0.01)
    idle = [r.speaks_S[r.activity_S == ACTIVITIES.index("idle")] for r in drawn]
    assert 1 - np.concatenate(idle).mean() == pytest.approx(0.65, abs=0.1)


def test_a_room_starts_within_the_days(rooms: list[SimulatedRoom]) -> None:
    starts = sorted(room.started_at for room in rooms)
    assert timedelta(days=6) < starts[-1] - starts[0] < timedelta(days=7)
    assert len({room.started_at.utcoffset() for room in rooms}) > 2


def test_what_can_be_known(rooms: list[SimulatedRoom]) -> None:
    """The oracle is far above the streamer's mean, and content is what lies between.

    Means are taken over the even rooms; all are asked about the odd ones.
    """

    def join(values: Callable[[SimulatedRoom], object]) -> np.ndarray:
        return np.concatenate([np.broadcast_to(values(r), r.num_segments) for r in rooms])

    viewers_S = join(lambda r: r.viewers_S)
    ctr_S = join(lambda r: r.clickers_S) / np.maximum(viewers_S, 1)
    even_S, enough_S = join(lambda r: r.index % 2 == 0), viewers_S >= 10

    def mean_by(key_S: np.ndarray) -> np.ndarray:
        known_S = even_S & enough_S
        means = {key: ctr_S[known_S & (key_S == key)].mean() for key in np.unique(key_S[known_S])}
        return np.array([means.get(key, ctr_S[known_S].mean()) for key in key_S])

    kind_S, activity_S = join(lambda r: r.streamer.kind), join(lambda r: r.activity_S)
    burst_S = np.exp(-join(lambda r: r.age_S)) * join(lambda r: r.age_S < 3)
    table_S = tables.ATTRACTION[kind_S, activity_S]
    own_S = join(lambda r: r.streamer.level + r.streamer.taste_A[r.activity_S])
    guesses = {
        "oracle": join(lambda r: r.probability_S),
        "all but hidden": table_S + own_S + burst_S * tables.BURST[activity_S],
        "table": table_S,
        "mean of the activity": mean_by(activity_S),
        "mean of the streamer": mean_by(join(lambda r: r.streamer.index)),
    }
    asked_S = enough_S & ~even_S
    tau = {k: kendalltau(guess[asked_S], ctr_S[asked_S]).statistic for k, guess in guesses.items()}
    print("tau (simulated):", {name: round(float(value), 3) for name, value in tau.items()})
    assert list(tau.values()) == sorted(tau.values(), reverse=True)
    assert 0.6 < tau["oracle"] < 0.8
    assert 0.05 < tau["mean of the streamer"] < tau["oracle"] - 0.2
    assert tau["table"] > tau["mean of the streamer"] + 0.2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_rooms", 0),
        ("num_types", 6),
        ("max_segments", 3),
        ("viewers", 0.0),
        ("missing_frames", 1.5),
        ("noise_sd", -1.0),
        ("num_users", 10),
        ("seed", -1),
    ],
)
def test_bad_settings_are_named(setting: str, value: float) -> None:
    with pytest.raises(InputError, match=setting):
        dataclasses.replace(CONFIG, **{setting: value})


# Texts and pictures


def test_texts_tell_activities_apart(rooms: list[SimulatedRoom]) -> None:
    for table in (SPEECH, COMMENTS):
        assert tuple(table) == ACTIVITIES
        everything = [text for texts in table.values() for text in texts]
        assert len(set(everything)) == len(everything)
    sentences = write_speech(CONFIG, rooms[0])
    assert all("{" not in s.text for s in sentences)
    assert all(s.start_ms // 30_000 == (s.end_ms - 1) // 30_000 for s in sentences)
    assert [s.start_ms for s in sentences] == sorted(s.start_ms for s in sentences)
    speaking = {s.start_ms // 30_000 for s in sentences}
    assert speaking == set(np.flatnonzero(rooms[0].speaks_S).tolist())
    comments = write_comments(CONFIG, rooms[0])
    assert [len(c) for c in comments] == rooms[0].counts["comment_count"].tolist()


def test_scenes_differ_in_more_than_colour(rooms: list[SimulatedRoom]) -> None:
    """Grey pictures of one room, contrast removed: nearest of another room's mean scene."""

    def signature(index: int, activity: int, seed: int) -> np.ndarray:
        look = dataclasses.replace(draw_look(CONFIG, rooms[index]), mirrored=False)
        frame = draw_frame(look, activity, np.random.default_rng(seed))
        assert frame.size == (WIDTH, HEIGHT) and frame.mode == "RGB"
        grey = np.asarray(frame.convert("L").resize((16, 9)), float).ravel()
        return (grey - grey.mean()) / (grey.std() + 1e-6)

    kinds = range(len(ACTIVITIES))
    means = [np.mean([signature(i, a, i) for i in range(30)], axis=0) for a in kinds]
    right = [
        int(np.argmax([mean @ signature(i, a, i) for mean in means])) == a
        for i in range(30, 50)
        for a in kinds
    ]
    assert np.mean(right) > 0.4  # A guess is right in 0.14.
    assert (signature(0, 1, 5) == signature(0, 1, 5)).all()
    assert (signature(0, 1, 5) != signature(0, 1, 6)).any()


# Room folders


def test_folders_read_back_as_drawn(folders: Path) -> None:
    for index in range(SMALL.num_rooms):
        drawn, folder = draw_room(SMALL, index), folders / f"room{index:06d}"
        room = read_room(folder)
        assert not room.warnings and not room.counts
        assert json.loads((folder / "room.json").read_text())["simulated"] is True
        assert room.streamer_id == drawn.streamer.streamer_id
        assert room.started_at == drawn.started_at.astimezone(UTC)
        assert room.duration_s == 30 * drawn.num_segments
        assert (room.media is not None) == drawn.has_video
        assert (room.speech is not None) == drawn.has_speech
        assert (room.comments is not None) == drawn.has_comments
        segments = segment_rooms([room])
        assert segments["viewers"].to_list() == drawn.viewers_S.tolist()
        assert segments["clickers"].to_list() == drawn.clickers_S.tolist()
        for name in COUNT_COLUMNS:
            assert segments[name].to_list() == drawn.counts[name].tolist(), name
        if drawn.has_speech:
            assert (segments["speech"] != "").to_list() == drawn.speaks_S.tolist()
        if drawn.has_comments:
            texts = ["\n".join(c.text for c in cs) for cs in write_comments(SMALL, drawn)]
            assert segments["comments"].to_list() == texts


def test_pictures_are_where_they_should_be(folders: Path) -> None:
    kinds = set()
    for index in range(SMALL.num_rooms):
        drawn, room = draw_room(SMALL, index), read_room(folders / f"room{index:06d}")
        if room.media is None:
            continue
        kinds.add(room.media.kind)
        times = [30 * s + 5 + 10 * f for s in range(drawn.num_segments) for f in range(3)]
        frames = list(frames_at(room.media, times))
        there = [frame is not None and np.asarray(frame).mean() > 4 for frame in frames]
        assert there == (drawn.shown_SF != MISSING).ravel().tolist()
    assert kinds == {"frames", "video"}


def test_formats_all_occur(tmp_path: Path) -> None:
    config = dataclasses.replace(
        SMALL, num_rooms=40, min_segments=1, max_segments=1, rooms_without_video=1.0
    )
    names = {path.name for room in write_room_folders(config, tmp_path) for path in room.iterdir()}
    for part, ends in (
        ("comments", ("jsonl", "csv", "json", "xml")),
        ("speech", ("srt", "vtt", "json", "jsonl")),
        ("events", ("parquet", "csv")),
    ):
        assert {f"{part}.{end}" for end in ends} <= names
    assert not {"frames", "video.mp4"} & names


def test_the_truth_is_in_its_file_alone(folders: Path) -> None:
    for index in range(SMALL.num_rooms):
        folder, drawn = folders / f"room{index:06d}", draw_room(SMALL, index)
        truth = pl.read_parquet(folder / "truth.parquet")
        assert dict(truth.schema) == TRUTH_SCHEMA
        assert truth["click_probability"].to_list() == drawn.probability_S.tolist()
        assert truth["activity"].to_list() == [ACTIVITIES[a] for a in drawn.activity_S]
        for path in folder.iterdir():
            if path.is_file() and path.suffix not in (".parquet", ".mp4"):
                text = path.read_text("utf-8")
                assert "probability" not in text and str(drawn.probability_S[0]) not in text
        head = json.loads((folder / "room.json").read_text())
        assert set(head) == {"room_id", "streamer_id", "started_at", "duration_s", "simulated"}


def test_same_seed_same_bytes_and_a_killed_run_goes_on(folders: Path, tmp_path: Path) -> None:
    few = dataclasses.replace(SMALL, num_rooms=5)
    write_room_folders(few, tmp_path / "rooms")
    before = (tmp_path / "rooms/room000001/room.json").stat().st_mtime_ns
    for path in sorted((tmp_path / "rooms/room000003").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "rooms/room000003").rename(tmp_path / "rooms/.room000003.12345678.tmp")
    write_room_folders(SMALL, tmp_path / "rooms")
    assert tree_hash(tmp_path / "rooms") == tree_hash(folders)
    assert (tmp_path / "rooms/room000001/room.json").stat().st_mtime_ns == before


def test_rooms_of_other_settings_do_not_mix(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed = 7, not 8"):
        write_room_folders(dataclasses.replace(SMALL, seed=8), folders)
    with pytest.raises(InputError, match="num_rooms = 12, not 3"):
        write_room_folders(dataclasses.replace(SMALL, num_rooms=3), folders)
    with pytest.raises(InputError, match="video_share = 0.2, not 0.5"):
        write_room_folders(SMALL, folders, video_share=0.5)
    with pytest.raises(InputError, match="depth = 'rooms', not 'features'"):
        write_features(SMALL, folders)
    (tmp_path / "somebody.txt").write_text("else")
    with pytest.raises(InputError, match="new or empty"):
        write_room_folders(SMALL, tmp_path)


# Features alone


def test_features_are_a_prepared_folder(prepared: PreparedRooms) -> None:
    manifest = prepared.manifest()
    assert manifest["simulated"] is True and manifest["source"] == "simulate"
    rooms, segments, truth = prepared.rooms(), prepared.segments(), prepared.truth()
    assert truth is not None
    assert truth.select("room_id", "segment").equals(segments.select("room_id", "segment"))
    assert not {"click_probability", "activity"} & set(segments.columns)
    drawn = draw_room(dataclasses.replace(CONFIG, num_streamers=8), 17)
    mine = segments.filter(pl.col("room_id") == drawn.room_id)
    assert mine["viewers"].to_list() == drawn.viewers_S.tolist()
    assert mine["clickers"].to_list() == drawn.clickers_S.tolist()
    watched = segments.filter(pl.col("viewers") > 0)
    assert (watched["target"] == watched["clickers"] / watched["viewers"]).all()
    starts = {s: rooms.filter(pl.col("split") == s)["started_at"] for s in ("train", "val", "test")}
    assert starts["train"].max() < starts["val"].min()  # type: ignore[operator]
    assert starts["val"].max() < starts["test"].min()  # type: ignore[operator]
    assert [len(s) for s in starts.values()] == [48, 6, 6]


def test_features_show_activities_and_flags_tell_what_is_there(prepared: PreparedRooms) -> None:
    store = FeatureStore(prepared.features_dir)
    rooms, segments = prepared.rooms(), prepared.segments()
    found = store.load(dict(rooms.select("room_id", "num_segments").iter_rows()))
    assert found.visual.shape == (segments.height, 64) and found.text.shape[1] == 48
    assert (segments["speech"].fill_null("") != "").to_list() == found.has_speech.tolist()
    assert (segments["comments"].fill_null("") != "").to_list() == found.has_comments.tolist()
    assert not found.visual[~found.has_visual].any()
    assert not found.text[~(found.has_speech | found.has_comments)].any()
    spec = data_spec(prepared)
    assert spec.simulated and spec.visual_encoder == spec.text_encoder == "simulated"

    truth = prepared.truth()
    assert truth is not None
    activity_S = np.array([ACTIVITIES.index(a) for a in truth["activity"]])
    train_S = (segments["split"] == "train").to_numpy()
    for values, flag, least in (
        (found.visual, found.has_visual, 0.75),
        (found.text, found.has_speech & found.has_comments, 0.5),
    ):
        bias_S1 = np.ones((len(values), 1))
        inputs = np.concatenate([values.astype(float), bias_S1], axis=1)
        known, asked = train_S & flag, ~train_S & flag
        weights = np.linalg.lstsq(inputs[known], np.eye(7)[activity_S[known]], rcond=None)[0]
        right = (inputs[asked] @ weights).argmax(axis=1) == activity_S[asked]
        assert least < right.mean() < 0.98


def test_features_are_the_same_bytes(tmp_path: Path) -> None:
    few = dataclasses.replace(SMALL, num_rooms=9)
    for name in ("one", "two"):
        write_features(few, tmp_path / name, visual_dim=5, text_dim=3)
    write_features(few, tmp_path / "one", visual_dim=5, text_dim=3)
    assert tree_hash(tmp_path / "one") == tree_hash(tmp_path / "two")
    with pytest.raises(InputError, match="visual_dim = 5, not 6"):
        write_features(few, tmp_path / "one", visual_dim=6, text_dim=3)
    with pytest.raises(InputError, match="text_dim"):
        write_features(few, tmp_path / "three", text_dim=0)
