"""Drift of what is scored against what was trained on: numbers by hand, and who counts."""

import time

import numpy as np
import pytest

from contentctr.live.drift import InputDrift
from contentctr.live.engine import Engine
from contentctr.live.scorer_segments import LiveSegment
from contentctr.score.inputs import SHARES, InputFacts, measure_features
from live_service import KNOWN, SPEC, T, V, make_model

RNG = np.random.default_rng(3)
TRAINED = {"visual": RNG.normal(1.0, 2.0, (5000, V)), "text": RNG.normal(0.0, 1.0, (5000, T))}
FACTS = InputFacts(
    segments=5000,
    missing={"visual": 0.1, "speech": 0.2, "comments": 0.3},
    features={name: measure_features(values) for name, values in TRAINED.items()},
)


def segments(count, *, moved=0.0, without=0, seed=0):
    rng = np.random.default_rng(seed)
    return [
        LiveSegment(
            room_id=f"r{k}",
            streamer_id="a",
            index=0,
            visual=None if k < without else rng.normal(1.0 + moved, 2.0, V).astype(np.float32),
            text=rng.normal(0.0, 1.0, T).astype(np.float32),
            has_speech=True,
            has_comments=k % 2 == 0,
        )
        for k in range(count)
    ]


def test_the_same_kind_of_segments_does_not_drift():
    drift = InputDrift(FACTS)
    drift.add(segments(2000), 0.0)
    found = drift.summary(0.0)["hour"]
    assert found["visual"].missing == 0 and found["visual"].trained_missing == 0.1
    assert found["comments"].missing == 0.5 and found["comments"].shift is None
    assert found["visual"].shift < 0.1 and found["visual"].stability < 0.05
    assert found["text"].trained_missing is None and found["text"].missing == 0


def test_what_has_moved_is_told_by_how_far():
    drift = InputDrift(FACTS)
    drift.add(segments(2000, moved=4.0, without=500), 0.0)
    found = drift.summary(0.0)["day"]
    assert found["visual"].missing == 0.25
    assert found["visual"].shift == pytest.approx(2.0, abs=0.1)  # 4 of spreads of 2
    assert found["visual"].stability > 0.25
    assert found["text"].shift < 0.1


def test_the_index_is_that_of_its_formula():
    drift, facts = InputDrift(FACTS), FACTS.features["visual"]
    some = segments(100, moved=1.0)
    drift.add(some, 0.0)
    values = np.stack([s.visual for s in some]).astype(np.float64)
    scaled = (values - facts.mean_V) / facts.std_V
    distances = np.sqrt((scaled**2).mean(1))
    edges = [-np.inf, *facts.edges, np.inf]
    expected = 0.0
    for low, high in zip(edges, edges[1:], strict=False):
        share = max(0.5, ((distances > low) & (distances <= high)).sum()) / 100
        expected += (share - 1 / SHARES) * np.log(share * SHARES)
    found = drift.summary(0.0)["hour"]["visual"]
    assert found.stability == pytest.approx(expected)
    assert found.shift == pytest.approx(np.sqrt((scaled.mean(0) ** 2).mean()))


def test_few_segments_say_nothing_and_old_ones_are_forgotten():
    drift = InputDrift(FACTS)
    drift.add(segments(20), 0.0)
    assert drift.summary(0.0)["hour"]["visual"].shift is None
    assert list(drift.summary(7200.0)) == ["day"]
    assert drift.summary(100_000.0) == {}


def test_an_engine_counts_what_it_scores_and_nothing_twice():
    model, config = make_model()
    engine = Engine(model, config, SPEC, KNOWN, inputs=FACTS)
    some = segments(40)
    engine.score(some)
    engine.score(some)  # repeated
    assert engine.drift.summary(time.time())["hour"]["speech"].segments == 40


def test_a_fault_of_drift_costs_no_score(caplog):
    values = np.random.default_rng(0).normal(size=(100, V + 1))
    facts = InputFacts(segments=100, missing={}, features={"visual": measure_features(values)})
    model, config = make_model()
    engine = Engine(model, config, SPEC, KNOWN, inputs=facts)
    [taken] = engine.score(segments(1))
    assert taken.scored.status == "scored" and engine.drift is None
    assert "drift of inputs is not told any more" in caplog.text
