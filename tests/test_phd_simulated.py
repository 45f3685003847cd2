"""Simulated users with tastes: the mechanism, the stored folder, and what the truth tells."""

import numpy as np
import polars as pl
import pytest

from contentctr.average_precision import mean_over_users
from contentctr.errors import InputError
from contentctr.phd.encode import encode_videos, wanted_frames
from contentctr.phd.folder import HighlightData
from contentctr.phd.samples import UserSamples
from contentctr.phd.simulated import (
    HISTORY_LENGTH,
    LEVELS,
    SELECTION_S,
    TARGET_VIDEO_S,
    HighlightSimulation,
    write_simulated,
)

SMALL = HighlightSimulation(num_users=30, max_video_s=200.0, visual_dim=8, text_dim=5, seed=3)


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
