import math

import numpy as np
import pytest

from contentctr.score.highlights import (
    Highlight,
    clock,
    find_highlights,
    highlight_mask,
    is_flat,
)


def curve(*scores, length=30.0):
    starts = np.arange(len(scores)) * length
    return np.array(scores, dtype=float), starts, starts + length


def spans(found):
    return [(h.start_s, h.end_s) for h in found]


def test_mask_marks_at_most_the_share():
    scores = np.random.default_rng(0).random(50)
    assert set(np.flatnonzero(highlight_mask(scores))) == set(np.argsort(scores)[-10:])
    # 0.2 * 15 is above 3 in floating point; 3 are marked all the same.
    assert highlight_mask(np.arange(15.0)).sum() == 3


def test_mask_keeps_ties_together():
    assert highlight_mask([0, 0, 0, 0, 0, 0, 0, 1, 1, 2]).tolist() == [False] * 9 + [True]
    assert highlight_mask([0, 0, 0, 0, 0, 0, 0, 0, 1, 2])[-2:].tolist() == [True, True]
    # More than the share tie for the highest: they are the highlight.
    assert highlight_mask([1, 1, 1, 0]).tolist() == [True, True, True, False]


@pytest.mark.parametrize("scores", [[], [0.5], [0.5] * 30, [math.nan] * 4, [math.nan, 0.1]])
def test_a_curve_that_is_constant_has_no_highlight(scores):
    assert not highlight_mask(scores).any()
    assert find_highlights(*curve(*scores)) == []


def test_highlights_by_hand():
    # The top 4 of 20: three in a row, and one alone; the dip at 7 joins 6 and 8.
    scores = np.full(20, 0.1)
    scores[[6, 7, 8, 9]] = 0.5, 0.2, 0.9, 0.6
    scores[15] = 0.7
    found = find_highlights(*curve(*scores))
    assert found == [
        Highlight(start_s=450, end_s=480, score=pytest.approx(0.7), peak_s=465),
        Highlight(start_s=180, end_s=300, score=pytest.approx(0.55), peak_s=255),
    ]
    assert spans(find_highlights(*curve(*scores), top_k=1)) == [(450, 480)]


def test_a_dip_of_two_segments_is_not_bridged():
    scores = np.full(20, 0.1)
    scores[[3, 6, 8]] = 0.9, 0.8, 0.8
    assert spans(find_highlights(*curve(*scores))) == [(90, 120), (180, 270)]


def test_no_highlight_goes_over_a_segment_without_a_score_or_a_hole_in_time():
    scores, starts, ends = curve(0.1, 0.9, math.nan, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
    assert spans(find_highlights(scores, starts, ends)) == [(30, 60), (90, 120)]
    scores[2] = 0.5
    assert spans(find_highlights(scores, starts, ends)) == [(30, 120)]
    starts[3:], ends[3:] = starts[3:] + 60, ends[3:] + 60
    assert spans(find_highlights(scores, starts, ends)) == [(150, 180), (30, 90)]


def test_a_long_highlight_is_cut_to_its_best_part():
    scores = np.full(50, 0.1)
    scores[10:20] = 0.5
    scores[16:18] = 0.9
    found = find_highlights(*curve(*scores), max_length_s=120)
    # Three stretches of four segments hold both peaks; the first of them wins.
    assert spans(found) == [(14 * 30, 18 * 30)]
    assert found[0].score == pytest.approx(0.7) and found[0].peak_s == 16 * 30 + 15
    # Shorter than a segment: one segment all the same.
    assert spans(find_highlights(*curve(*scores), max_length_s=1)) == [(480, 510)]
    assert spans(find_highlights(*curve(*scores), max_length_s=300)) == [(300, 600)]


def test_equal_highlights_come_by_time():
    scores = np.full(30, 0.1)
    scores[[25, 5, 15]] = 0.9
    assert spans(find_highlights(*curve(*scores))) == [(150, 180), (450, 480), (750, 780)]


def test_highlights_do_not_overlap_and_hold_marked_segments():
    rng = np.random.default_rng(3)
    for _ in range(30):
        scores, starts, ends = curve(*np.round(rng.random(rng.integers(1, 80)), 1))
        scores[rng.random(len(scores)) < 0.1] = math.nan
        found = find_highlights(scores, starts, ends, top_k=99, max_length_s=90)
        ordered = sorted(spans(found))
        assert all(a[1] <= b[0] for a, b in zip(ordered, ordered[1:], strict=False))
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            inside = (starts >= h.start_s) & (ends <= h.end_s)
            assert h.end_s - h.start_s <= 90 and not np.isnan(scores[inside]).any()
            assert highlight_mask(scores)[inside].any()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="finite or NaN"):
        highlight_mask([1, math.inf])
    with pytest.raises(ValueError, match="share"):
        highlight_mask([1, 2], share=0)
    with pytest.raises(ValueError, match="one dimension"):
        highlight_mask([[1, 2]])
    with pytest.raises(ValueError, match="as long"):
        find_highlights([1, 2], [0], [30])
    with pytest.raises(ValueError, match="follow each other"):
        find_highlights([1, 2], [0, 10], [30, 60])
    with pytest.raises(ValueError, match="top_k"):
        find_highlights([1, 2], [0, 30], [30, 60], top_k=0)


def test_clock():
    assert [clock(s) for s in (0, 59.6, 61, 3599.4, 3600, 36_061)] == [
        "00:00",
        "01:00",
        "01:01",
        "59:59",
        "1:00:00",
        "10:01:01",
    ]


@pytest.mark.parametrize(
    ("scores", "flat"),
    [
        ([0.5, 0.52, math.nan], True),  # odds 1 and 1.08
        ([0.5, 0.53], False),  # odds 1 and 1.13
        ([0.01, 0.0107], True),
        ([0.01, 0.012], False),  # small, and a fifth more
        ([0.99, 0.9907], True),
        ([0.0, 0.001], False),
        ([0.999, 1.0], False),
        ([0.3] * 30 + [0.9], True),  # one segment makes no curve
        ([0.3] * 30 + [0.9] * 4, False),
        ([0.3], True),
        ([], True),
    ],
)
def test_a_flat_curve_by_hand(scores, flat):
    assert is_flat(scores) is flat
