"""Which highlights are shown: lengths, reels, and curves that tell nothing."""

import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.score.choose import (
    FLAT_SAYS,
    UNCERTAIN_SAYS,
    HighlightChoice,
    choose_highlights,
)


def curve(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts = np.arange(len(scores)) * 30.0
    return scores, starts, starts + 30


def hilly() -> np.ndarray:
    time = np.arange(240)
    heights = {20: 0.5, 60: 0.3, 100: 0.45, 150: 0.4, 200: 0.35, 225: 0.25}
    hills = [h * np.exp(-(((time - at) / 3) ** 2)) for at, h in heights.items()]
    return np.asarray(0.2 + np.sum(hills, axis=0))


def test_the_usual_choice() -> None:
    found, verdict = choose_highlights(*curve(hilly()), HighlightChoice())
    assert verdict == "" and [round(h.peak_s / 30) for h in found] == [20, 100, 150, 200, 60]
    assert all(10 <= h.end_s - h.start_s <= 90 for h in found)
    # 5 s of reaction before three segments would be more than 90 s.
    assert {h.end_s - h.start_s for h in found} == {65.0}


@pytest.mark.parametrize(
    ("length", "seconds"),
    [("90s", 90), ("1:30", 90), ("2m", 120), ("1:00:00", 3600), ("45", 45), ("10%", 720)],
)
def test_a_reel_of_a_length(length: str, seconds: float) -> None:
    choice = HighlightChoice(length=length, top_k=1)
    assert choice.reel_s(7200.0) == seconds
    found, _ = choose_highlights(*curve(hilly()), choice)
    total = sum(h.end_s - h.start_s for h in found)
    assert found and total <= seconds and abs(found[0].peak_s - 615) < 1
    if seconds > 600:
        assert len(found) == 6


@pytest.mark.parametrize("length", ["0s", "ten", "-5s", "120%", "5x", "1:2"])
def test_no_length(length: str) -> None:
    with pytest.raises(InputError, match="length must be as 90s, 1:30, 2m or 10%"):
        HighlightChoice(length=length).require()


def test_settings_are_checked() -> None:
    for wrong, message in (
        ({"top_k": 0}, "top_k must be at least 1, not 0"),
        ({"share": 1.0}, r"share must be in \(0, 1\), not 1"),
        ({"min_length_s": -1.0}, "min_length_s must be 0 or more"),
        ({"max_length_s": 0.0}, "max_length_s must be above 0"),
        ({"min_length_s": 30.0, "max_length_s": 20.0}, "min_length_s must be at most max_length_s"),
    ):
        with pytest.raises(InputError, match=message):
            HighlightChoice(**wrong).require()  # type: ignore[arg-type]


def test_curves_that_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    flat = 0.3 + 0.001 * rng.random(100)
    assert choose_highlights(*curve(flat), HighlightChoice()) == ([], FLAT_SAYS)
    assert choose_highlights(*curve(np.full(5, np.nan)), HighlightChoice()) == ([], FLAT_SAYS)
    flat[50] = 0.9  # a single moment is one
    found, verdict = choose_highlights(*curve(flat), HighlightChoice())
    assert [h.peak_s for h in found] == [1515] and verdict == ""
    noise = rng.random(200)
    found, verdict = choose_highlights(*curve(noise), HighlightChoice())
    assert len(found) == 1 and verdict == UNCERTAIN_SAYS
    assert found[0].score == noise.max()


def test_a_reel_is_no_longer_than_its_recording() -> None:
    assert HighlightChoice(length="10000h").reel_s(600.0) == 600.0
