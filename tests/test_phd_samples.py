"""Frames of spans, samples against the stored rows, batches, and simulated users with tastes."""

import numpy as np
import polars as pl
import pytest
import torch

from contentctr.average_precision import mean_over_users
from contentctr.config import DataSpec
from contentctr.errors import InputError
from contentctr.features import StoredRoom, write_manifest, write_shard
from contentctr.phd import folder
from contentctr.phd.encode import encode_videos, wanted_frames
from contentctr.phd.folder import HighlightData, count_frames, frame_labels, span_frames
from contentctr.phd.samples import (
    Segment,
    UserSamples,
    make_batch,
    training_segments,
    whole_video,
)
from contentctr.phd.simulated import (
    HISTORY_LENGTH,
    LEVELS,
    SELECTION_S,
    TARGET_VIDEO_S,
    HighlightSimulation,
    write_simulated,
)

SMALL = HighlightSimulation(num_users=30, max_video_s=200.0, visual_dim=8, text_dim=5, seed=3)


def visual(video: int, frame: np.ndarray) -> np.ndarray:
    return np.stack([np.full(len(frame), video), frame, frame**2], axis=1).astype(np.float16)


def make_data(tmp_path, *, missing=()) -> HighlightData:  # type: ignore[no-untyped-def]
    """Video `t` of 10 frames, `h` of 8; a frame's feature is its video's number and its own."""
    users = [("ann", "t", "train", 2), ("bob", "t", "test", 1), ("cat", "h", "train", 0)]
    selections = [
        ("ann", "t", 2.0, 4.0, True), ("ann", "t", 8.4, 9.0, True), ("ann", "h", 1.0, 3.0, False),
        ("ann", "h", 6.0, 7.0, False), ("bob", "t", 5.0, 6.0, True), ("bob", "h", 2.0, 5.0, False),
        ("cat", "h", 0.0, 1.0, True),
    ]  # fmt: skip
    videos = [
        ("h", None, None, 8.0, 8, True, False), ("t", None, None, 10.0, 10, True, True),
    ]  # fmt: skip
    tables = {
        "users": pl.DataFrame(users, folder.USERS_SCHEMA, orient="row"),
        "selections": pl.DataFrame(selections, folder.SELECTIONS_SCHEMA, orient="row"),
        "videos": pl.DataFrame(videos, folder.VIDEOS_SCHEMA, orient="row"),
        "captions": pl.DataFrame(schema=folder.CAPTIONS_SCHEMA),
    }
    data = folder.write(tmp_path, tables, {"frame_rate": 1.0, "simulated": True})
    spec = DataSpec(segment_seconds=1.0, frames_per_segment=1, visual_dim=3, text_dim=2)
    for number, (video_id, length) in enumerate((("h", 8), ("t", 10))):
        frame = np.arange(length, dtype=np.int32)
        has_visual = (~np.isin(frame, missing)).astype(np.uint8)
        tensors = {
            "frame": frame, "visual": visual(number, frame) * has_visual[:, None].astype("f2"),
            "has_visual": has_visual, "text": np.ones((length, 2), np.float16),
            "has_text": (frame % 2).astype(np.uint8),
        }  # fmt: skip
        write_shard(data.features_dir, video_id, [StoredRoom(room_id=video_id, tensors=tensors)])
    write_manifest(data.features_dir, spec, counts={}, segments_hash=data.content_hash())
    return data


def test_frames_of_a_span_are_those_whose_middle_lies_in_it() -> None:
    for rate in (0.5, 1.0, 2.0, 3.0):
        count = count_frames(20.0, rate)
        middles = (np.arange(count) + 0.5) / rate
        assert (middles < 20.0).all() and (count + 0.5) / rate >= 20.0
        for start, end in ((0, 1), (2.5, 7.5), (0.4, 0.6), (19, 20), (3, 3.01), (0, 20)):
            inside = np.flatnonzero((middles >= start) & (middles < end)).tolist()
            found = list(span_frames(start, end, rate, count))
            assert found == (inside or [min(int((start + end) / 2 * rate), count - 1)])
    assert list(span_frames(10.6, 10.9, 1.0, 10)) == [9]
    assert count_frames(0.1, 1.0) == 1
    assert count_frames(10.4, 1.0) == 10 and count_frames(10.6, 1.0) == 11


def test_labels_are_the_union_of_the_spans() -> None:
    assert frame_labels([(1, 3), (2, 4), (6.6, 6.7)], 1.0, 8).astype(int).tolist() == [
        0, 1, 1, 1, 0, 0, 1, 0,
    ]  # fmt: skip
    assert not frame_labels([], 1.0, 3).any()


def test_samples_are_the_stored_rows(tmp_path) -> None:  # type: ignore[no-untyped-def]
    samples = UserSamples(make_data(tmp_path))
    ann, bob, cat = (samples[i] for i in range(3))
    assert [s.user_id for s in (ann, bob, cat)] == ["ann", "bob", "cat"]
    np.testing.assert_array_equal(ann.visual_TV, visual(1, np.arange(10)))
    assert np.flatnonzero(ann.label_T).tolist() == [2, 3, 8]
    assert np.flatnonzero(bob.label_T).tolist() == [5]
    assert ann.has_text_T.tolist() == [False, True] * 5
    # Means over frames 1 and 2, over frame 6, and over frames 2, 3 and 4 of `h`.
    np.testing.assert_allclose(ann.history_KV, [[0, 1.5, 2.5], [0, 6, 36]])
    np.testing.assert_allclose(bob.history_KV, [[0, 3, 29 / 3]], rtol=1e-6)
    assert cat.history_KV.shape == (0, 3) and len(cat) == 8
    assert [s.user_id for s in UserSamples(HighlightData(tmp_path), "test")] == ["bob"]
    with pytest.raises(IndexError):
        samples[3]


def test_a_frame_without_picture_is_not_in_the_mean_and_a_clip_of_such_is_left_out(
    tmp_path,
) -> None:  # type: ignore[no-untyped-def]
    samples = UserSamples(make_data(tmp_path, missing=(2, 6)))
    np.testing.assert_allclose(samples[0].history_KV, [[0, 1, 1]])
    assert np.flatnonzero(~samples[0].has_visual_T).tolist() == [2, 6]


def test_training_takes_segments_with_highlights_and_testing_all(tmp_path) -> None:  # type: ignore[no-untyped-def]
    samples = UserSamples(make_data(tmp_path))
    cut = [(s.user, s.start, s.stop) for s in training_segments(samples, 4)]
    assert cut == [(0, 0, 4), (0, 8, 10), (1, 4, 8), (2, 0, 4)]
    whole = [(s.start, s.stop) for s in whole_video(samples, 0, 4)]
    assert whole == [(0, 4), (4, 8), (8, 10)]
    assert [(s.start, s.stop) for s in whole_video(samples, 0)] == [(0, 10)]


def test_a_batch_is_its_segments_padded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    samples = UserSamples(make_data(tmp_path, missing=(6,)))
    segments = [Segment(user=1, start=4, stop=8), Segment(user=0, start=8, stop=10),
                Segment(user=2, start=0, stop=4)]  # fmt: skip
    batch = make_batch(samples, segments)
    assert (len(batch), tuple(batch.visual_BNV.shape)) == (3, (3, 4, 3))
    assert batch.valid_BN.tolist() == [[True] * 4, [True, True, False, False], [True] * 4]
    assert batch.label_BN.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert batch.visual_BNV[0, :, 1].tolist() == [4, 5, 0, 7]
    assert batch.has_visual_BN[0].tolist() == [True, True, False, True]
    assert batch.visual_BNV[1, 2:].abs().max() == 0 and not batch.has_visual_BN[1, 2:].any()
    assert batch.has_text_BN[1].tolist() == [False, True, False, False]
    assert batch.has_history_BK.tolist() == [[True], [True], [False]]
    np.testing.assert_allclose(batch.history_BKV[0, 0], samples[1].history_KV[0])
    assert batch.history_BKV[2].abs().max() == 0
    assert (batch.user_B.tolist(), batch.start_B.tolist()) == ([1, 0, 2], [4, 8, 0])
    floats = (batch.visual_BNV, batch.text_BNC, batch.label_BN, batch.history_BKV)
    assert {t.dtype for t in floats} == {torch.float32}
    without = make_batch(samples, segments, history=False).to("cpu")
    assert not without.has_history_BK.any() and without.history_BKV.abs().max() == 0
    assert torch.equal(without.visual_BNV, batch.visual_BNV)


def test_a_store_of_another_preparation_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = make_data(tmp_path)
    with pytest.raises(InputError, match="split must be one of"):
        UserSamples(data, "tests")
    (data.features_dir / "h.safetensors").unlink()
    with pytest.raises(InputError, match="1 of 2 videos are not encoded, such as 'h'"):
        UserSamples(data)
    videos = data.videos().with_columns(duration_s=pl.lit(9.0))
    tables = {"users": data.users(), "selections": data.selections(), "captions": data.captions()}
    folder.write(tmp_path, {**tables, "videos": videos}, {"frame_rate": 1.0})
    with pytest.raises(InputError, match="prepared anew"):
        UserSamples(data)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> HighlightData:
    return write_simulated(SMALL, tmp_path_factory.mktemp("simulated") / "data")


def test_same_seed_same_bytes(simulated: HighlightData, tmp_path) -> None:  # type: ignore[no-untyped-def]
    again = write_simulated(SMALL, tmp_path / "again")
    for path in sorted(simulated.root.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again.root / path.relative_to(simulated.root)).read_bytes()


def test_it_is_labelled_and_not_encoded(simulated: HighlightData) -> None:
    assert simulated.manifest()["simulated"] and UserSamples(simulated).spec.simulated
    with pytest.raises(InputError, match="nothing to encode"):
        encode_videos(simulated)
    with pytest.raises(InputError, match="exists already"):
        write_simulated(SMALL, simulated.root)


def test_pairs_share_a_target_and_have_opposite_tastes(simulated: HighlightData) -> None:
    truth = pl.read_parquet(simulated.root / "truth.parquet")
    users = simulated.users().join(truth, on="user_id").sort("user_id")
    for first, second in zip(*(users[i::2].iter_rows(named=True) for i in (0, 1)), strict=True):
        assert first["video_id"] == second["video_id"] and first["split"] == second["split"]
        assert (first["likes"], first["skips"]) == (second["skips"], second["likes"])
    assert users["likes"].n_unique() == 6  # two of the eight topics nobody likes
    samples = UserSamples(simulated)
    for user in range(0, len(samples), 2):
        shared = samples.labels(user) & samples.labels(user + 1)
        assert shared.sum() <= 1  # at most the frame between two scenes


def test_the_own_history_tells_and_the_opposite_one_misleads(simulated: HighlightData) -> None:
    samples = list(UserSamples(simulated))
    labels = [sample.label_T for sample in samples]
    centred = [s.visual_TV.astype(np.float32) - s.visual_TV.mean(0) for s in samples]
    rng = np.random.default_rng(0)

    def score(shift: int) -> float:
        scores = [c @ samples[i ^ shift].history_KV.mean(0) for i, c in enumerate(centred)]
        return float(mean_over_users(labels, scores, frame_rate=1.0)["map"])

    chance = mean_over_users(labels, [rng.random(len(s)) for s in samples], frame_rate=1.0)
    assert score(0) > 2 * float(chance["map"])
    assert score(1) < float(chance["map"])


def test_stored_are_the_frames_that_are_needed(simulated: HighlightData) -> None:
    wanted, videos = wanted_frames(simulated), simulated.videos()
    assert set(wanted) == set(videos["video_id"])
    targets = videos.filter("is_target")
    for video_id, count in targets.select("video_id", "num_frames").iter_rows():
        assert len(wanted[video_id]) == count
    clips = sum(len(v) for k, v in wanted.items() if not k.startswith("target"))
    assert clips < 0.1 * videos.filter(~pl.col("is_target"))["num_frames"].sum()


def test_counts_and_lengths_follow_the_tables(tmp_path) -> None:  # type: ignore[no-untyped-def]
    big = HighlightSimulation(num_users=300, visual_dim=2, text_dim=2, max_video_s=800.0)
    data = write_simulated(big, tmp_path / "big")
    median = {
        "history": data.users()["history"].median(),
        "video": data.videos().filter("is_target")["duration_s"].median(),
    }
    at = LEVELS.index(0.5)
    assert median["history"] == pytest.approx(HISTORY_LENGTH[at], rel=0.2)
    assert median["video"] == pytest.approx(TARGET_VIDEO_S[at], rel=0.25)
    clips = data.selections().filter(~pl.col("is_target"))
    lengths = clips["end_s"] - clips["start_s"]
    assert lengths.median() == pytest.approx(SELECTION_S[at], rel=0.15)
    assert lengths.min() >= SELECTION_S[0] - 1e-9 and lengths.max() <= SELECTION_S[-1]
    assert data.users()["history"].max() == 20


def test_settings_are_checked() -> None:
    for wrong, message in (
        ({"num_users": 3}, "even"), ({"num_topics": 2}, "num_topics"),
        ({"scene_s": (3.0, 2.0)}, "ascend"), ({"max_video_s": 9.0}, "max_video_s"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            HighlightSimulation(**wrong)  # type: ignore[arg-type]
