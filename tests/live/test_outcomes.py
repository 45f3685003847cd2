"""Outcomes beside predictions: sums by hand, each segment once, and memory that does not grow."""

import numpy as np
import pytest

from contentctr.live.known_rooms import NewScore, Shown, with_score
from contentctr.live.outcomes import (
    MODELS_KEPT,
    SEGMENTS_KEPT,
    Joined,
    Outcome,
    OutcomeLog,
    join,
)
from contentctr.metrics.ctr import kendall_tau, log_loss


def joined(room="r", target=0, *, viewers=10.0, value=0.2, score=0.1, model="m", run=""):
    outcome = Outcome(room_id=room, target_index=target, weight=viewers, value=value)
    return Joined(outcome=outcome, scores=((model, score),), run=run)


def scored(indices, models=None, horizon=0):
    room = None
    for k, index in enumerate(indices):
        new = NewScore(
            room_id="r",
            streamer_id="s",
            index=index,
            target_index=index + horizon,
            score=0.1 + index / 100,
            shares=None,
            shown=Shown(ended_at=0.0),
            model="m" if models is None else models[k],
        )
        room = with_score(room, new)
    return room


def joins(rooms, target):
    return join(rooms, Outcome(room_id="r", target_index=target, weight=5, value=0.4), 1)


def test_an_outcome_meets_the_score_that_predicted_it():
    room = scored([0, 1, 3], ["old", "old", "new"], horizon=1)
    assert joins([room], 4).scores == (("new", 0.13),)
    assert joins([room], 2).scores == (("old", 0.11),)
    for target in (0, 3, 5):  # no segment before it was scored
        assert joins([room], target) is None
    assert joins([], 4) is None


def test_each_model_that_scored_a_segment_is_held_to_it():
    serves, shadow = scored([0, 1], ["m", "m"], horizon=1), scored([1], ["n"], horizon=1)
    assert joins([serves, shadow], 1).scores == (("m", 0.1),)
    both = joins([serves, shadow], 2)
    assert both.scores == (("m", 0.11), ("n", 0.11))
    log = OutcomeLog()
    assert log.add([both], 0.0) == 1 and log.add([both], 0.0) == 0
    found = log.summary(0.0)
    assert list(found) == ["n", "m"]  # the one that serves stands last
    assert [found[name]["hour"].segments for name in "mn"] == [1, 1]


def test_sums_are_those_of_all_viewers():
    log = OutcomeLog()
    rows = [(0.08, 100, 0.1), (0.12, 50, 0.1), (0.12, 150, 0.2), (0.9, 10, 1.0)]
    log.add([joined("r", k, score=s, viewers=w, value=v) for k, (s, w, v) in enumerate(rows)], 0.0)
    found = log.summary(0.0)["m"]["hour"]
    scores, weights, values = map(np.array, zip(*rows, strict=True))
    assert (found.segments, found.viewers) == (4, 310)
    assert found.predicted == pytest.approx((scores * weights).sum() / 310)
    assert found.observed == pytest.approx((values * weights).sum() / 310)
    assert [b.segments for b in found.bins] == [1, 2, 1]
    assert [(b.low, b.high) for b in found.bins] == [(0.05, 0.1), (0.1, 0.15), (0.7, 1.0)]
    assert found.bins[1].observed == pytest.approx((50 * 0.1 + 150 * 0.2) / 200)
    gaps = [abs(100 * (0.08 - 0.1)), abs(200 * 0.12 - 35), abs(10 * (0.9 - 1.0))]
    assert found.calibration_error == pytest.approx(sum(gaps) / 310)
    each = np.repeat(np.arange(4), [10, 5, 15, 1])  # a viewer is a sample
    assert found.log_loss == pytest.approx(log_loss(scores[each], values[each]))


def test_tau_is_inside_rooms():
    log, rng = OutcomeLog(), np.random.default_rng(0)
    expected = []
    for room in range(5):
        scores, values = rng.uniform(size=12), rng.uniform(size=12)
        log.add([joined(f"r{room}", k, score=scores[k], value=values[k]) for k in range(12)], 0.0)
        expected.append(kendall_tau(scores, values))
    found = log.summary(0.0)["m"]["day"]
    assert found.tau == pytest.approx(np.mean(expected)) and found.tau_rooms == 5


def test_a_segment_counts_once_in_whatever_order():
    log = OutcomeLog()
    order = [5, 3, 900, 4, 3, 5, 900, 7]
    assert [log.add([joined(target=k)], 0.0) for k in order] == [1, 1, 1, 1, 0, 0, 0, 1]
    assert log.came(joined(target=4)) and not log.came(joined(target=6))
    assert log.add([joined(target=SEGMENTS_KEPT + 10_000_000)], 0.0) == 1
    assert log.came(joined(target=6))  # too late now
    assert log.add([joined(target=6, run="second")], 0.0) == 1  # the room began anew
    log.forget("r")
    assert log.add([joined(target=6, run="second")], 0.0) == 1
    assert log.summary(0.0)["m"]["hour"].segments == 8


def test_models_are_told_apart_and_few_are_kept():
    log = OutcomeLog()
    for k in range(MODELS_KEPT + 2):
        log.add([joined(target=k, model=f"m{k}")], 0.0)
    assert list(log.summary(0.0)) == [f"m{k}" for k in range(2, MODELS_KEPT + 2)]


def test_memory_is_bounded_and_whole_rooms_are_left():
    log = OutcomeLog(pairs_kept=300)
    for target in range(20):
        log.add([joined(f"room{k}", target, score=k / 200) for k in range(100)], 60.0 * target)
    kept = {}
    pairs = log._samples["day"].pairs
    for _, _, room, *_ in pairs:
        kept[room] = kept.get(room, 0) + 1
    assert len(pairs) <= 300 and len(kept) >= 4
    assert set(kept.values()) == {20}
    assert log.summary(1200.0)["m"]["hour"].segments == 2000  # sums are of all rooms


def test_an_hour_has_rooms_of_its_own_and_more_again_when_fewer_come():
    log = OutcomeLog(pairs_kept=600)

    def post(rooms, minutes):
        for minute in minutes:
            fields = {"score": minute % 11 / 11, "value": minute % 7 / 7}
            log.add([joined(f"room{k}", minute, **fields) for k in range(rooms)], 60.0 * minute)
        found = log.summary(60.0 * minutes[-1])["m"]
        return found["hour"].tau_rooms, found["day"].tau_rooms

    hour, day = post(40, range(300))
    assert hour >= 5 and hour >= 2 * day  # of a day there are as many outcomes, of fewer rooms
    assert post(5, range(300, 500))[0] == 5
    assert all(len(sample.pairs) <= 600 for sample in log._samples.values())


def test_a_day_later_it_is_forgotten():
    log = OutcomeLog()
    log.add([joined(target=0)], 0.0)
    assert list(log.summary(4000.0)["m"]) == ["day"]
    assert log.summary(90_000.0) == {}
