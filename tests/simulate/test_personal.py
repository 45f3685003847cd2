"""Simulated users with tastes: the mechanism, the stored folder, and what the truth tells."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from contentctr.encode.personal import encode_personal
from contentctr.errors import InputError
from contentctr.metrics.average_precision import mean_over_users
from contentctr.prepare.personal_truth import Habits, selection_probability
from contentctr.simulate.personal import PersonalSimulation, write_personal_features
from contentctr.simulate.tastes import (
    HABITS,
    HISTORY_LENGTH,
    LEVELS,
    SELECTION_S,
    TARGET_HIGHLIGHTS,
    TARGET_VIDEO_S,
    Tastes,
    World,
)
from contentctr.store.personal import PreparedPersonal, count_frames, frame_labels, wanted_frames
from contentctr.windows.personal import UserSample, UserSamples
from make_phd import make_data

SMALL = PersonalSimulation(
    num_users=60, num_topics=8, max_video_s=200.0, visual_dim=8, text_dim=5, seed=3
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> PreparedPersonal:
    return write_personal_features(SMALL, tmp_path_factory.mktemp("simulated") / "data")


def tastes(world: World) -> dict[str, tuple[set[int], set[int]]]:
    """Topics that each user likes and skips."""
    both = zip(world.users, world.tastes, strict=True)
    return {user: (set(likes), set(skips)) for (user, _), (likes, skips) in both}


def oracle_of(data: PreparedPersonal, user_ids: list[str]) -> list[np.ndarray]:
    """The true chances of each user's frames."""
    table = data.truth()
    assert table is not None
    rows = [table.filter(pl.col("user_id") == user_id) for user_id in user_ids]
    assert all(found["frame"].to_list() == list(range(found.height)) for found in rows)
    return [found["selection_probability"].to_numpy() for found in rows]


def topics_of(world: World, video_id: str, start: float, end: float) -> set[int]:
    """Topics of the scenes that a span lies in."""
    spans = world.videos[video_id].spans()
    return {topic for a, b, topic in spans if min(end, b) - max(start, a) > 1e-9}


def test_same_seed_same_bytes(simulated: PreparedPersonal, tmp_path) -> None:  # type: ignore[no-untyped-def]
    again = write_personal_features(SMALL, tmp_path / "again")
    for path in sorted(simulated.root.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again.root / path.relative_to(simulated.root)).read_bytes()


def test_it_is_labelled_and_not_encoded(simulated: PreparedPersonal) -> None:
    assert simulated.manifest()["simulated"] and UserSamples(simulated).spec.simulated
    assert simulated.manifest()["simulation"]["num_users"] == 60
    spans = simulated.selections().filter("is_target").sort("user_id", "start_s")
    ends = spans.with_columns(before=pl.col("end_s").shift().over("user_id"))
    assert (ends["before"].drop_nulls() < ends.filter(pl.col("before") >= 0)["start_s"]).all()
    assert spans.height > 60
    with pytest.raises(InputError, match="nothing to encode"):
        encode_personal(simulated)
    with pytest.raises(InputError, match="new or empty folder for a simulation"):
        write_personal_features(SMALL, simulated.root)


def test_pairs_share_a_target_and_have_opposite_tastes(simulated: PreparedPersonal) -> None:
    known = tastes(World(SMALL))
    users = simulated.users().sort("user_id")
    for first, second in zip(*(users[i::2].iter_rows(named=True) for i in (0, 1)), strict=True):
        assert first["video_id"] == second["video_id"] and first["split"] == second["split"]
        likes, skips = known[first["user_id"]]
        assert known[second["user_id"]] == (skips, likes)
        assert len(likes) == len(skips) == 2 and not likes & skips
    # Two of the eight topics nobody likes.
    assert set().union(*(likes for likes, _ in known.values())) == set(range(6))
    samples = UserSamples(simulated)
    for user in range(0, len(samples), 2):
        shared = np.flatnonzero(samples.labels(user) & samples.labels(user + 1))
        # No more than a frame between two scenes.
        assert (np.diff(shared) > 1).all()


def test_selections_are_of_liked_topics_but_for_the_strays() -> None:
    world = World(Tastes(num_users=200, num_topics=8, max_video_s=200.0))
    known = {user: likes for user, (likes, _) in tastes(world).items()}
    liked: dict[bool, list[bool]] = {True: [], False: []}
    for user_id, video_id, start, end, is_target in world.selections:
        assert 0 <= start < end <= world.videos[video_id].end_s + 1e-9
        topics = topics_of(world, video_id, start, end)
        assert len(topics) == 1
        liked[is_target].append(topics <= known[user_id])
    assert all(liked[True])
    # A stray clip is liked by chance in a quarter of the scenes or a little more.
    assert 0.11 < 1 - np.mean(liked[False]) < 0.16
    straight = World(Tastes(num_users=20, strays=0.0, seed=1))
    known = {user: likes for user, (likes, _) in tastes(straight).items()}
    for user_id, video_id, start, end, _ in straight.selections:
        assert topics_of(straight, video_id, start, end) <= known[user_id]


def test_the_own_history_tells_and_the_opposite_one_misleads(simulated: PreparedPersonal) -> None:
    samples = list(UserSamples(simulated))
    labels = [sample.label_T for sample in samples]
    centred = [s.visual_TV.astype(np.float32) - s.visual_TV.mean(0) for s in samples]
    rng = np.random.default_rng(0)

    def score(shift: int) -> float:
        scores = [c @ samples[i ^ shift].history_KV.mean(0) for i, c in enumerate(centred)]
        return float(mean_over_users(labels, scores, frame_rate=1.0)["map"])

    random = [[rng.random(len(s)) for s in samples] for _ in range(5)]
    chance = np.mean([mean_over_users(labels, r, frame_rate=1.0)["map"] for r in random])
    oracle = oracle_of(simulated, [sample.user_id for sample in samples])
    known = float(mean_over_users(labels, oracle, frame_rate=1.0)["map"])
    assert score(1) < chance < 0.6 * score(0) < 0.5 * known


def test_stored_are_the_frames_that_are_needed(simulated: PreparedPersonal) -> None:
    wanted, videos = wanted_frames(simulated), simulated.videos()
    assert set(wanted) == set(videos["video_id"])
    targets = videos.filter("is_target")
    for video_id, count in targets.select("video_id", "num_frames").iter_rows():
        assert len(wanted[video_id]) == count
    clips = sum(len(v) for k, v in wanted.items() if not k.startswith("target"))
    assert clips < 0.1 * videos.filter(~pl.col("is_target"))["num_frames"].sum()


def test_counts_and_lengths_follow_the_tables() -> None:
    world = World(PersonalSimulation(num_users=300))
    at = LEVELS.index(0.5)
    rows = world.selections_table()
    history = rows.filter(~pl.col("is_target"))
    clips = history.group_by("user_id").len()["len"]
    assert clips.median() == pytest.approx(HISTORY_LENGTH[at], rel=0.2) and clips.max() == 20
    targets = [world.videos[video_id].end_s for _, video_id in world.users]
    assert np.median(targets) == pytest.approx(TARGET_VIDEO_S[at], rel=0.25)
    lengths = history["end_s"] - history["start_s"]
    assert lengths.median() == pytest.approx(SELECTION_S[at], rel=0.15)
    assert lengths.min() >= SELECTION_S[0] - 1e-9 and lengths.max() <= SELECTION_S[-1] + 1e-9
    short = World(PersonalSimulation(num_users=20, max_history=4)).selections_table()
    assert short.filter(~pl.col("is_target")).group_by("user_id").len()["len"].max() == 4


def test_settings_are_checked() -> None:
    for wrong, message in (
        ({"num_users": 3}, "even"),
        ({"num_topics": 4}, "num_topics"),
        ({"likes": 0}, "likes"),
        ({"likes": 7}, "7 liked"),
        ({"strays": 1.5}, "strays"),
        ({"with_captions": -1}, "with_c"),
        ({"scene_s": (3.0, 2.0)}, "ascend"),
        ({"max_video_s": 9.0}, "max_video_s"),
        ({"max_history": 0}, "max_history"),
        ({"seed": -1}, "seed"),
        ({"visual_dim": 0}, "visual"),
        ({"noise": -1.0}, "noise"),
        ({"frame_rate": 0.0}, "frame_rate"),
        ({"test": 0.95}, "test"),
    ):
        with pytest.raises(InputError, match=message):
            PersonalSimulation(**wrong)  # type: ignore[arg-type]


def drawn(world: World, likes: list[int], frame_rate: float, number: int) -> Iterator[np.ndarray]:
    """Labels of a user who selects in the first target again and again."""
    _, video_id = world.users[0]
    frames = count_frames(world.videos[video_id].end_s, frame_rate)
    for _ in range(number):
        count = round(world._draw(TARGET_HIGHLIGHTS))
        spans = [world._select(video_id, likes) for _ in range(count)]
        yield frame_labels(spans, frame_rate, frames)


@pytest.mark.parametrize(("frame_rate", "scene_s"), [(1.0, (6.0, 24.0)), (0.3, (2.0, 4.0))])
def test_the_oracle_is_the_mechanisms_own_chance(
    frame_rate: float, scene_s: tuple[float, float]
) -> None:
    world = World(Tastes(num_users=2, num_topics=8, seed=1, max_video_s=100.0, scene_s=scene_s))
    likes = world.tastes[0][0]
    scenes = [s[:2] for s in world.videos[world.users[0][1]].spans() if s[2] in likes]
    first = world.liked_scenes().filter(pl.col("user_id") == world.users[0][0])
    assert first.select("start_s", "end_s").rows() == scenes
    number = 4000
    found_T = np.mean(list(drawn(world, likes, frame_rate, number)), axis=0)
    chance_T = selection_probability(scenes, HABITS, frame_rate, len(found_T))
    error_T = np.sqrt(chance_T * (1 - chance_T) / number)
    assert (np.abs(found_T - chance_T) <= 4 * error_T).all()
    assert 0 < chance_T.max() < 1


def test_the_oracle_by_hand() -> None:
    """One selection of 2 s in a scene from 3 s to 6 s: its middle is evenly in [4, 5]."""

    def chance(
        scenes: list[tuple[float, float]], frames: int, length_s: float = 2, number: int = 1
    ):  # type: ignore[no-untyped-def]
        habits = Habits(levels=(0.0, 1.0), length_s=[length_s] * 2, number=[number] * 2)
        return selection_probability(scenes, habits, 1.0, frames)

    np.testing.assert_allclose(chance([(3.0, 6.0)], 8), [0, 0, 0, 0.5, 1, 0.5, 0, 0])
    # A scene as short as the selection is taken whole; each scene is as likely as the other.
    two = [0.5, 0.5, 0, 0.25, 0.5, 0.25, 0, 0]
    np.testing.assert_allclose(chance([(3.0, 6.0), (0.0, 2.0)], 8), two)
    # Two selections: 1 - (1 - p) ** 2.
    np.testing.assert_allclose(chance([(3.0, 6.0)], 8, number=2), [0, 0, 0, 0.75, 1, 0.75, 0, 0])
    # Shorter than a frame: the frame that its middle is in.
    short = chance([(2.0, 4.0)], 5, length_s=1e-9)
    np.testing.assert_allclose(short, [0, 0, 0.5, 0.5, 0], atol=1e-6)
    last = chance([(2.0, 4.4)], 4, length_s=1e-9)[-1]
    np.testing.assert_allclose(last, 1.4 / 2.4, atol=1e-6)


def test_the_truth_lies_beside_the_data_by_user(simulated: PreparedPersonal, tmp_path) -> None:  # type: ignore[no-untyped-def]
    samples: list[UserSample] = list(UserSamples(simulated))
    scores = oracle_of(simulated, [s.user_id for s in samples])
    for sample, score_T in zip(samples, scores, strict=True):
        assert len(score_T) == len(sample) and (score_T[sample.label_T] > 0).all()
    # As many frames as expected are selected.
    assert sum(s.label_T.sum() for s in samples) == pytest.approx(sum(map(np.sum, scores)), rel=0.2)
    assert make_data(tmp_path).truth() is None


def test_it_overwrites_nothing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "users.parquet").write_text("mine")
    with pytest.raises(InputError, match=r"holds users\.parquet; choose a new or empty folder"):
        write_personal_features(SMALL, tmp_path)
    assert (tmp_path / "users.parquet").read_text() == "mine"
