"""Sums of the last hour and day: hand-worked, and no more memory however long it runs."""

import numpy as np

from contentctr.live.rolling import DAY_S, HOUR_S, Rolling


def test_an_hour_and_a_day():
    found = Rolling(2)
    for minute in range(0, 2 * 24 * 60, 10):
        found.add(np.array([1.0, minute]), 60.0 * minute)
    now = 60.0 * (2 * 24 * 60 - 10)
    assert found.total(HOUR_S, now)[0] == 6
    assert found.total(DAY_S, now)[0] == 144
    assert found.total(HOUR_S, now + 1800)[0] == 3  # half of it is over
    assert found.total(DAY_S, now + 2 * DAY_S).tolist() == [0, 0]
    assert len(found._buckets) == 144


def test_a_clock_that_is_set_back_loses_nothing():
    found = Rolling(1)
    found.add(np.ones(1), 10_000.0)
    found.add(np.ones(1), 1_000.0)
    assert found.total(HOUR_S, 1_000.0).tolist() == [2]
