import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from contentctr.abtest import replay
from contentctr.abtest.analysis import TestSettings, analyse_logs, arm_sums
from contentctr.abtest.logs import LOG_SCHEMA, read_logs
from contentctr.abtest.platform import Scores, _latest_ready, air_rooms, load_platform
from contentctr.abtest.replay import ReplaySettings, assign_arms, replay_test, simulate
from contentctr.abtest.report import write_abtest_report
from contentctr.abtest.statistics import compare, estimate
from contentctr.errors import InputError
from contentctr.live.ranking import Candidate, RankSettings, RoomScore, rank
from contentctr.metrics.ctr import summary
from contentctr.outputs import MARKER
from contentctr.score.evaluation import FORMS
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_features
from contentctr.store.rooms import PreparedRooms
from make import write_data

SMALL = {"users": 600, "live_rooms": 8.0, "days": 2}
EXACT = Scores(stand_in_noise=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = SimulatorConfig(num_rooms=60, num_streamers=8, min_segments=10, max_segments=40)
    root = tmp_path_factory.mktemp("replay") / "data"
    return write_features(config, root, visual_dim=1, text_dim=1, val=0.1, test=0.6)


@pytest.fixture(scope="module")
def platform(data):
    return load_platform(data, Scores(stand_in_noise=0.3), split="test", seed=0)


def p_value(log, metric="ctr"):
    sums = log.group_by("user_id", "arm").agg(
        exposures=pl.len(), clicks=pl.col("clicked").sum(), play_s=pl.col("play_s").sum()
    )
    return compare(*(estimate(arm_sums(sums, arm), metric) for arm in ("control", "content")), 0.05)


def test_the_log_reads_as_any_other(data, tmp_path):
    settings = ReplaySettings(**SMALL)
    manifest = replay_test(data, tmp_path / "a", Scores(stand_in_noise=0.3), settings=settings)
    table = pl.read_parquet(tmp_path / "a" / "exposures.parquet")
    assert table.schema == pl.Schema(LOG_SCHEMA)
    assert table["simulated"].all()
    assert ((table["play_s"] > 0) == table["clicked"]).all()
    assert json.loads((tmp_path / "a" / "manifest.json").read_text()) == manifest
    assert manifest["simulated"] is True
    assert "stand-in" in manifest["scores"]
    log = read_logs(tmp_path / "a")
    assert (log.simulated, log.days, log.crossed_users) == (True, ["1", "2"], 0)
    assert log.rows == table.height
    replay_test(data, tmp_path / "b", Scores(stand_in_noise=0.3), settings=settings)
    assert table.equals(pl.read_parquet(tmp_path / "b" / "exposures.parquet"))


def test_our_term_changes_nothing_for_the_control(platform):
    with_term, _ = simulate(platform, ReplaySettings(**SMALL))
    without, _ = simulate(platform, ReplaySettings(**SMALL, weight=0.0))
    for arm, same in (("control", True), ("content", False)):
        a, b = (log.filter(pl.col("arm") == arm) for log in (with_term, without))
        assert a.equals(b) == same


@pytest.mark.parametrize("horizon", [-40, -2, 0, 1])
def test_scores_are_used_only_once_they_are_ready(horizon):
    rng = np.random.default_rng(abs(horizon))
    length_P = np.array([1, 5, 30, 2])
    first_P = np.cumsum(length_P) - length_P
    score_S = np.where(rng.random(38) < 0.6, rng.random(38), np.nan)
    found = _latest_ready(score_S, first_P, length_P, horizon)
    for first, length in zip(first_P, length_P, strict=True):
        for s in range(length):
            best, lag = np.nan, np.nan
            for made_from in range(s):  # segments that have ended
                stands_at = made_from + horizon
                if stands_at >= 0 and not np.isnan(score_S[first + stands_at]):
                    best, lag = score_S[first + stands_at], s - 1 - made_from
            np.testing.assert_equal((found[0][first + s], found[1][first + s]), (best, lag))


def test_the_replay_ranks_as_the_ranking_does(platform):
    settings = ReplaySettings(**SMALL, shown=5, weight=1.7)
    rng = np.random.default_rng(0)
    live = np.arange(12)
    now = platform.first_P[live] + rng.integers(0, 9, 12)
    lag_S = platform.ready_lag_S.copy()
    lag_S[now[:3]] = (1, 2, 7)
    platform = replace(platform, ready_lag_S=lag_S)
    affinity = rng.normal(0, 0.5, (4, 12))
    treated = np.array([True, False, True, False])
    into = np.random.default_rng(9).random(4)
    leaving = replay._Leaving.of(platform, settings)
    found = replay._serve(
        platform, settings, leaving, live, now, affinity, treated, np.random.default_rng(9)
    )
    base = replay.base_scores(platform.level_P[live], affinity, settings)
    for q in range(4):
        rank_settings = RankSettings(
            content_weight=1.7 if treated[q] else 0.0, neutral_score=platform.mean_score
        )
        scores = {
            platform.room_ids[i]: RoomScore(
                score=platform.ready_score_S[s],
                ended_at=-30 * (platform.ready_lag_S[s] + into[q]),
            )
            for i, s in zip(live, now, strict=True)
            if not np.isnan(platform.ready_lag_S[s])
        }
        rooms = [Candidate(room_id=platform.room_ids[i], base={"s": base[q, i]}) for i in live]
        wanted = [r.room_id for r in rank(rooms, scores, 0.0, rank_settings)][:5]
        shown = [platform.room_ids[i] for i in found["room"][found["request"] == q]]
        assert shown == wanted


def test_stays_end_where_a_walk_along_the_room_ends(platform):
    settings = ReplaySettings(**SMALL)
    leaving = replay._Leaving.of(platform, settings)
    rng = np.random.default_rng(1)
    now = rng.integers(len(platform.probability_S), size=200)
    into, liking = rng.random(200), rng.normal(0, 0.5, 200)
    found = replay._stays(platform, settings, leaving, now, into, liking, np.random.default_rng(2))
    patience = np.random.default_rng(2).exponential(size=200) * np.exp(0.5 * liking)
    capped = 0
    for e in range(200):
        place, left, stay = float(now[e] + into[e]), patience[e], 0.0
        while place < platform.end_S[now[e]]:
            segment = int(place)
            rate = (platform.mean_probability / platform.probability_S[segment]) ** 0.5 / 4
            step = segment + 1 - place
            if left < step * rate:
                stay += left / rate
                break
            left -= step * rate
            stay += step
            place = float(segment + 1)
        else:
            capped += 1
        assert found[e] == pytest.approx(30 * stay, abs=1e-6)
    assert 0 < capped < 100


def test_as_many_rooms_are_live_as_asked(platform):
    means = []
    for seed in range(20):
        start_P, slots = air_rooms(platform, 8.0, 2, np.random.default_rng(seed))
        assert slots % 2 == 0
        on = (start_P[:, None] <= np.arange(slots)) & (
            np.arange(slots) < (start_P + platform.length_P)[:, None]
        )
        assert on.any(axis=1).all()
        means.append(on.sum(axis=0).mean())
    assert np.mean(means) == pytest.approx(8, rel=0.05)


def test_assignment_is_of_the_user_alone():
    ids = [f"user{n}" for n in range(20_000)]
    a, b = assign_arms(ids, 0.3, "one"), assign_arms(ids, 0.3, "two")
    assert a.mean() == pytest.approx(0.3, abs=0.015)
    assert (assign_arms(ids[::-1], 0.3, "one")[::-1] == a).all()
    assert (a & b).mean() == pytest.approx(0.09, abs=0.01)
    # A larger treatment keeps those who were in it.
    assert (assign_arms(ids, 0.6, "one") | ~a).all()


def test_levels_come_from_the_training_rooms(data, platform):
    segments = data.segments()
    train = segments.filter(split="train")
    rooms = segments.filter(split="test").group_by("room_id").agg(pl.col("streamer_id").first())
    for room_id, streamer in rooms.iter_rows():
        rows = train.filter(streamer_id=streamer)
        rows = rows if rows.height else train
        ctr = rows["clickers"].sum() / rows["viewers"].sum()
        found = platform.level_P[platform.room_ids.index(room_id)]
        assert found == pytest.approx(np.log(ctr / (1 - ctr)))


def test_true_scores_help(data):
    platform = load_platform(data, EXACT, split="test", seed=0)
    log, _ = simulate(platform, ReplaySettings(**SMALL | {"users": 3000}))
    effect = p_value(log)
    assert effect.p_value < 0.001
    assert effect.lift > 0


def test_aa_replays_show_no_effect(platform):
    """Twenty tests at 20 %: between none and ten, but for one chance in 300."""
    found = [
        p_value(simulate(platform, ReplaySettings(**SMALL, weight=0.0, seed=seed))[0]).p_value
        for seed in range(20)
    ]
    assert sum(p < 0.2 for p in found) <= stats.binom.ppf(0.997, 20, 0.2)
    assert len(set(found)) == 20


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["ctr", "play_per_exposure", "play_per_user"])
def test_aa_replays_reject_at_the_stated_rate(platform, metric):
    found = [
        p_value(
            simulate(platform, ReplaySettings(**SMALL, weight=0.0, seed=seed))[0], metric
        ).p_value
        for seed in range(400)
    ]
    low, high = stats.binom.interval(0.999, len(found), 0.05)
    assert low <= sum(p < 0.05 for p in found) <= high
    assert stats.kstest(found, "uniform").pvalue > 0.001


# A model's scores


def write_evaluation(folder, data, *, horizon=0, split="test", **changes):
    table = data.segments().join(data.truth(), on=["room_id", "segment"]).filter(split=split)
    table = table.select(
        "room_id",
        "streamer_id",
        "segment",
        "start_s",
        "end_s",
        "target",
        (pl.col("click_probability") * 0.9).alias("score"),
        "viewers",
        is_sample=True,
        truth="click_probability",
    )
    folder.mkdir()
    table = table.with_columns(**changes.pop("columns", {}))
    table.select(
        pl.col(k).cast(v) for k, v in FORMS["rooms"].tables["predictions"].items()
    ).write_parquet(folder / "predictions.parquet")
    known = table.filter(pl.col("target").is_not_null())
    block = summary(*(known[c].to_numpy() for c in ("score", "target", "room_id")))
    metrics = {
        "task": "rooms",
        "simulated": True,
        "trained_on_simulated": True,
        "split": split,
        "target": "ctr",
        "horizon": horizon,
        "later_segments": 0,
        "floors": {},
        "metrics": block,
        "references": {},
        "counts": {},
        "config": {},
        "data_spec": {},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    return Scores(evaluation=folder)


@pytest.mark.parametrize("horizon", [0, 1])
def test_a_models_scores_are_used(data, tmp_path, horizon):
    scores = write_evaluation(tmp_path / "eval", data, horizon=horizon)
    platform = load_platform(data, scores, split="test", seed=0)
    assert platform.scores_name == f"a trained model's predictions, horizon {horizon}"
    first, s = platform.first_P[3], 4
    made = platform.probability_S[first + s - 1 + horizon] * 0.9
    assert platform.ready_score_S[first + s] == pytest.approx(made)
    assert np.isnan(platform.ready_score_S[first])
    assert platform.mean_score == pytest.approx(0.9 * platform.mean_probability)


def test_scores_of_other_rooms_are_refused(data, tmp_path):
    other = write_evaluation(tmp_path / "a", data, columns={"truth": pl.col("truth") * 0.5})
    with pytest.raises(InputError, match="its truth is another"):
        load_platform(data, other, split="test", seed=0)
    val = write_evaluation(tmp_path / "b", data, split="val")
    with pytest.raises(InputError, match="has no score of any of the rooms"):
        load_platform(data, val, split="test", seed=0)
    rate = write_evaluation(tmp_path / "c", data, target="comment_rate")
    with pytest.raises(InputError, match="target must be 'ctr'"):
        load_platform(data, rate, split="test", seed=0)


def test_scores_that_compare_no_two_rooms_are_refused(data, tmp_path):
    ranks = write_evaluation(tmp_path / "eval", data, data_spec={"target_scale": "rank"})
    with pytest.raises(InputError, match=r"target_scale must be one that compares .*not 'rank'"):
        load_platform(data, ranks, split="test", seed=0)


# Wrong input


def test_real_rooms_have_no_replay(tmp_path):
    with pytest.raises(InputError, match="needs simulated rooms"):
        load_platform(write_data(tmp_path / "data"), EXACT, split="test", seed=0)


def test_too_few_rooms_are_said(platform, data, tmp_path):
    with pytest.raises(InputError, match="too few rooms, [0-9]+, for 2 days with 30 live at once"):
        simulate(platform, ReplaySettings(**SMALL | {"live_rooms": 30.0}))
    with pytest.raises(InputError, match="split must be one of train, val, test, not 'all'"):
        load_platform(data, EXACT, split="all", seed=0)
    with pytest.raises(InputError, match="not a prepared folder"):
        load_platform(PreparedRooms(tmp_path), EXACT, split="test", seed=0)


@pytest.mark.parametrize("scores", [{}, {"stand_in_noise": 0.1, "evaluation": "x"}])
def test_scores_come_from_one_place(scores):
    with pytest.raises(InputError, match="say where scores come from"):
        Scores(**scores)
    with pytest.raises(InputError, match="noise must be at least 0"):
        Scores(stand_in_noise=-1.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"days": 0},
        {"users": 0},
        {"shown": 0},
        {"requests": 0.0},
        {"live_rooms": float("inf")},
        {"treatment_share": 1.0},
        {"affinity_sd": -1.0},
        {"weight": float("nan")},
    ],
)
def test_settings_are_checked(bad):
    with pytest.raises(InputError, match=f"replay setting {next(iter(bad))} must be"):
        ReplaySettings(**bad)


def test_log_analysis_and_page_share_a_folder_of_their_own(data, tmp_path):
    settings, out = ReplaySettings(**SMALL), tmp_path / "out"
    for _ in range(2):
        replay_test(data, out, Scores(stand_in_noise=0.3), settings=settings)
        analyse_logs(out, out, settings=TestSettings(bootstrap=0), show_progress=False)
        write_abtest_report(out)
        (out / "notes.txt").write_text("mine")
    names = {"abtest.json", "exposures.parquet", "manifest.json", "notes.txt", "report.html"}
    assert {path.name for path in out.iterdir()} == names | {MARKER}
    logs = tmp_path / "logs"
    logs.mkdir()
    shutil.copy(out / "exposures.parquet", logs / "mine.parquet")
    for write in (
        lambda: analyse_logs(logs, logs, show_progress=False),
        lambda: replay_test(data, logs, Scores(stand_in_noise=0.3), settings=settings),
    ):
        with pytest.raises(InputError, match="choose a new or empty folder for an A/B test"):
            write()
    assert [path.name for path in logs.iterdir()] == ["mine.parquet"]
