import numpy as np
import polars as pl
import pytest

from contentctr.rooms.room import SPEECH_SCHEMA
from contentctr.rule.parts import (
    PARTS,
    QUIET_DB,
    Signal,
    score_parts,
    speech_signal,
    watched_signals,
)
from contentctr.rule.watched import Watched


def signal(*scores):
    values = np.array(scores, float)
    return Signal(score_T=values, now_T=values, usual_T=np.zeros(len(scores)))


def test_the_score_is_the_weighted_mean_of_what_there_is():
    chat, loud = signal(1.0, 0.5), signal(0.0, 0.5)
    assert score_parts({"chat": chat}, 2).tolist() == [1.0, 0.5]
    both = score_parts({"chat": chat, "scenes": loud}, 2)
    w, v = PARTS["chat"].weight, PARTS["scenes"].weight
    assert both.tolist() == pytest.approx([w / (w + v), 0.5])
    assert score_parts({}, 3).tolist() == [0, 0, 0]


def test_loudness_is_told_in_decibels_above_its_usual():
    loudness_S = np.full(300, -30.0)
    loudness_S[100:105], loudness_S[200:205], loudness_S[250:] = -24.0, -10.0, -100.0
    found = watched_signals(Watched(loudness_S=loudness_S), 60)["loudness"]
    assert found.score_T[[20, 40, 0, 55]] == pytest.approx([0.5, 1.0, 0.0, 0.0])
    assert found.now_T[55] == QUIET_DB


def test_cuts_are_counted_in_15_seconds():
    found = watched_signals(Watched(cuts=np.array([52.5, 55.0, 57.5, 80.0])), 40)["scenes"]
    assert found.now_T[9:18].tolist() == [1, 3, 3, 2, 0, 0 + 0, 1, 1, 1]
    assert found.score_T[10] == pytest.approx(1 - 1 / 4)


def test_speech_is_spread_over_its_time():
    rows = [(2.0, 12.0, "x" * 100), (31.0, 31.0, "y" * 6)]
    speech = pl.DataFrame(rows, schema=SPEECH_SCHEMA, orient="row")
    found = speech_signal(speech, 8)
    # Of the first 30, 50 and 20 characters lie in steps 0 to 2.
    assert found.now_T == pytest.approx([80, 100, 70, 20, 0, 6, 6, 6])
    assert watched_signals(Watched(speaking_T=np.ones(8)), 8)["speech"].score_T.tolist() == [0] * 8


def test_a_recording_of_one_step():
    found = watched_signals(Watched(cuts=np.array([2.0]), speaking_T=np.ones(1)), 1)
    assert found["scenes"].now_T.tolist() == [1] and found["speech"].now_T.tolist() == [1]
