import itertools
import math

import numpy as np
import pytest

from contentctr.score.highlights import (
    Highlight,
    clock,
    find_highlights,
    fit_reel,
    highlight_mask,
    is_flat,
    is_uncertain,
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
    # 0.9 has its neighbour above its half prominence, 0.5, and 0.7 is alone. The dip at 7 ends the
    # first; 6 rises by 0.3 above the dip, and 0.3 of what 0.9 has above the median is 0.24.
    scores = np.full(20, 0.1)
    scores[[6, 7, 8, 9]] = 0.5, 0.2, 0.9, 0.6
    scores[15] = 0.7
    found = find_highlights(*curve(*scores))
    assert found == [
        Highlight(start_s=240, end_s=300, score=0.9, peak_s=255),
        Highlight(start_s=450, end_s=480, score=0.7, peak_s=465),
        Highlight(start_s=180, end_s=210, score=0.5, peak_s=195),
    ]
    # A seventh of 600 s has no room for a third.
    assert spans(find_highlights(*curve(*scores), share=1 / 7)) == [(240, 300)]
    assert spans(find_highlights(*curve(*scores), share=0.15)) == [(240, 300), (450, 480)]
    assert spans(find_highlights(*curve(*scores), top_k=1)) == [(240, 300)]
    scores[6] = 0.43  # rises by 0.23 only
    assert spans(find_highlights(*curve(*scores), share=0.3)) == [(240, 300), (450, 480)]


def test_lengths_follow_the_curve_between_the_bounds():
    scores = np.full(60, 0.1)
    scores[20:30] = 0.5, 0.6, 0.7, 0.8, 0.9, 0.85, 0.8, 0.7, 0.6, 0.4
    whole = find_highlights(*curve(*scores), max_length_s=3600, share=0.5)
    assert spans(whole) == [(600, 870)]  # from 0.5 on: half of 0.1 to 0.9
    # The two neighbours that are higher come first.
    assert spans(find_highlights(*curve(*scores), max_length_s=90)) == [(23 * 30, 26 * 30)]
    assert spans(find_highlights(*curve(*scores), max_length_s=1)) == [(720, 750)]
    scores[:] = 0.1
    scores[40] = 0.9
    assert spans(find_highlights(*curve(*scores))) == [(1200, 1230)]
    # Of equal neighbours the earlier one.
    assert spans(find_highlights(*curve(*scores), min_length_s=90)) == [(1140, 1230)]


def test_a_highlight_begins_a_lag_earlier_where_that_is_free():
    scores = np.full(40, 0.1)
    scores[[0, 10, 11, 12]] = 0.7, 0.9, 0.1, 0.8
    found = find_highlights(*curve(*scores), lag_s=8)
    assert spans(found) == [(292, 330), (352, 390), (0, 30)]
    assert [h.peak_s for h in found] == [315, 375, 15]
    scores[11] = 0.2
    assert spans(find_highlights(*curve(*scores), lag_s=45)) == [(255, 330), (330, 390), (0, 30)]
    assert spans(find_highlights(*curve(*scores), lag_s=45, max_length_s=40))[0] == (290, 330)


def test_no_highlight_goes_over_a_segment_without_a_score_or_a_hole_in_time():
    scores, starts, ends = curve(0.1, 0.9, math.nan, 0.9, *[0.1] * 16)
    assert spans(find_highlights(scores, starts, ends)) == [(30, 60), (90, 120)]
    scores[2] = 0.6
    assert spans(find_highlights(scores, starts, ends)) == [(30, 120)]
    starts[3:], ends[3:] = starts[3:] + 60, ends[3:] + 60
    assert spans(find_highlights(scores, starts, ends)) == [(30, 90), (150, 180)]


def test_equal_highlights_come_by_time():
    scores = np.full(30, 0.1)
    scores[[25, 5, 15]] = 0.9
    assert spans(find_highlights(*curve(*scores))) == [(150, 180), (450, 480), (750, 780)]


def random_curves(count, seed):
    """Curves of 30 min to 6 h: noise, walks, noise made smooth and rare bursts; 5 s or 30 s."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        length = (5.0, 30.0)[i % 2]
        n = int(rng.uniform(1800, 21600) / length)
        scores = (
            lambda n: rng.random(n),
            lambda n: np.cumsum(rng.normal(size=n)),
            lambda n: np.convolve(rng.random(n + 8), np.ones(9) / 9, "valid"),
            lambda n: rng.random(n) ** 8,
            lambda n: np.round(rng.random(n), 1),
        )[i % 5](n)
        if i % 3 == 0:
            scores[rng.random(n) < 0.05] = math.nan
        yield curve(*scores, length=length)


def test_the_best_segment_is_always_in_the_first_highlight():
    for scores, starts, ends in random_curves(2000, 0):
        best = int(np.nanargmax(scores))
        first = find_highlights(scores, starts, ends, min_length_s=10, max_length_s=90, lag_s=3)[0]
        assert first.start_s <= starts[best] and ends[best] <= first.end_s
        assert first.score == scores[best] and first.peak_s == (starts[best] + ends[best]) / 2


def test_highlights_do_not_overlap_and_keep_to_the_bounds():
    rng = np.random.default_rng(3)
    for scores, starts, ends in random_curves(60, 1):
        low, high, share = rng.uniform(0, 60), rng.uniform(60, 200), rng.uniform(0.02, 0.5)
        lag = rng.choice([0.0, 4.0])
        found = find_highlights(
            *(scores, starts, ends),
            **dict(top_k=None, share=share, min_length_s=low, max_length_s=high, lag_s=lag),
        )
        ordered = sorted(spans(found))
        assert all(a[1] <= b[0] for a, b in zip(ordered, ordered[1:], strict=False))
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        total = sum(b - a - lag for a, b in ordered)
        assert total <= max(share * (ends - starts)[~np.isnan(scores)].sum(), low, 30) + 30
        for h in found:
            inside = (starts < h.end_s - 1e-6) & (ends > h.start_s + lag + 1e-6)
            assert h.end_s - h.start_s <= high + 1e-6 and not np.isnan(scores[inside]).any()
            assert h.score >= scores[inside].max()


def test_a_reel_is_the_best_set_that_fits():
    scores, starts, _ = curve(*[0.1] * 100)
    spans_of = [(0, 30, 0.9), (60, 120, 0.8), (300, 330, 0.7), (600, 640, 0.65), (900, 920, 0.3)]
    found = [
        Highlight(start_s=a, end_s=b, score=score, peak_s=(a + b) / 2) for a, b, score in spans_of
    ]
    assert fit_reel([], 90, scores, starts) == []
    # 60 s beside the first: 0.7 * 60 = 42 of one, against 0.6 * 30 + 0.2 * 20 = 22 of two.
    assert fit_reel(found, 90, scores, starts) == found[:2]
    # 70 s: 42, against 0.6 * 30 + 0.55 * 40 = 40.
    assert fit_reel(found, 100, scores, starts) == found[:2]
    found[1] = Highlight(start_s=60, end_s=120, score=0.7, peak_s=90)  # 36
    assert fit_reel(found, 100, scores, starts) == [found[0], found[2], found[3]]
    assert fit_reel(found, 10, scores, starts) == found[:1]
    assert fit_reel(found, 1000, scores, starts) == found


def total_s(highlights):
    return sum(h.end_s - h.start_s for h in highlights)


def worth(highlights):
    return sum(max(h.score - 0.2, 0) * (h.end_s - h.start_s) for h in highlights)


def test_a_reel_against_every_set():
    rng = np.random.default_rng(5)
    for _ in range(20):
        n = int(rng.integers(1, 9))
        at = np.cumsum(rng.integers(10, 60, 2 * n)).astype(float)
        found = sorted(
            (
                Highlight(start_s=a, end_s=b, score=rng.random(), peak_s=a)
                for a, b in zip(at[::2], at[1::2], strict=True)
            ),
            key=lambda h: -h.score,
        )
        limit = max(float(rng.integers(20, 200)), found[0].end_s - found[0].start_s)
        sets = [
            [found[0], *more] for k in range(n) for more in itertools.combinations(found[1:], k)
        ]
        reel = fit_reel(found, limit, [0.1, 0.2, 0.3], [0, 1, 2])
        best = max(worth(chosen) for chosen in sets if total_s(chosen) <= limit)
        assert total_s(reel) <= limit and worth(reel) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_uncertain_and_what_lasts_or_towers_is_not(seed):
    rng = np.random.default_rng(seed)
    noise = rng.random(400)
    assert is_uncertain(noise) and not is_uncertain(noise[:10])
    assert not is_uncertain(np.cumsum(noise - 0.5))
    noise[200] = 3.0
    assert not is_uncertain(noise)
    assert not is_uncertain([0.5] * 50)


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
    for wrong in ({"top_k": 0}, {"min_length_s": 9, "max_length_s": 8}, {"lag_s": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}"):
            find_highlights([1, 2], [0, 30], [30, 60], **wrong)


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
