import numpy as np
import pytest

from contentctr.rule.usual import STEP_S, USUAL_S, count_steps, rise, step_spans, usual


def test_steps_cover_the_recording():
    assert [count_steps(s) for s in (0.1, 5, 5.1, 3600)] == [1, 1, 2, 720]
    assert step_spans(12) == [(0, 5), (5, 10), (10, 12)]


def test_the_usual_is_the_median_of_what_is_around():
    now_T = np.arange(1000.0)
    half = round(USUAL_S / STEP_S / 2)
    for t in (0, 5, half, 500, 999):
        around = now_T[max(t - half, 0) : t + half + 1]
        assert usual(now_T)[t] == np.median(around)
    assert usual(np.array([3.0])).tolist() == [3.0]


def test_a_greeting_is_nothing_unusual():
    now_T = np.full(400, 2.0)
    now_T[:10] = now_T[-10:] = 50.0
    now_T[200:206] = 50.0
    plain, greeted = usual(now_T), usual(now_T, greeting=True)
    assert plain[0] == plain[-1] == 2 and greeted[0] == greeted[-1] == 50
    assert greeted[203] == 2 and len(greeted) == 400
    short = np.array([9.0, 1, 1, 1])
    assert usual(short, greeting=True).tolist() == usual(short).tolist()


def test_a_rise_by_hand():
    now_T, usual_T = np.array([1.0, 2, 4, 8, 40]), np.full(5, 4.0)
    assert rise(now_T, usual_T, 0.0).tolist() == [0, 0, 0, 0.5, 0.9]
    assert rise(now_T, usual_T, 3.0)[3] == pytest.approx(1 - 7 / 11)
