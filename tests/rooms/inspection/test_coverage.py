"""Spans and counts in cells of time."""

import numpy as np
import pytest

from contentctr.rooms.inspection.coverage import Spans, count_cells, span_cells, without


def test_pieces_join_over_short_gaps_and_disorder():
    spans = Spans(1.0)
    for piece in [(0.0, 0.5), (1.0, 1.2), (0.9, 1.1), (5.0, 6.0), (4.8, 5.1)]:
        spans.add(*piece)
    assert spans.found == [(0.0, 1.2), (4.8, 6.0)]


def test_holes_are_taken_out():
    assert without([(0, 10), (20, 30)], [(2, 4), (8, 22)]) == [(0, 2), (4, 8), (22, 30)]
    assert without([(0, 10)], []) == [(0, 10)]
    assert without([(0, 10)], [(-5, 20)]) == []


def test_overlapping_spans_cover_a_cell_once():
    shares = span_cells([(0, 15), (5, 10), (0, 12), (38, 99)], 0, 40, 4)
    np.testing.assert_allclose(shares, [1.0, 0.5, 0.0, 0.2])


def test_shares_equal_those_of_a_fine_grid():
    rng = np.random.default_rng(0)
    starts = rng.uniform(-10, 110, 40)
    spans = list(zip(starts, starts + rng.exponential(2.0, 40), strict=True))
    fine = np.arange(0, 100, 0.001) + 0.0005
    inside = np.zeros(len(fine), bool)
    for a, b in spans:
        inside |= (fine >= a) & (fine < b)
    expected = inside.reshape(25, -1).mean(1)
    np.testing.assert_allclose(span_cells(spans, 0, 100, 25), expected, atol=0.002)


def test_counts_and_whole_seconds_that_do_not_beat():
    times = np.array([0.0, 1.0, 15.0, 39.0])
    np.testing.assert_array_equal(count_cells(times, 0, 40, 4), [2, 1, 0, 1])
    level = count_cells(np.arange(0.0, 90.0), 0, 90, 60)
    assert level.max() - level.min() <= 0.5 and level.sum() == pytest.approx(90, abs=1)
