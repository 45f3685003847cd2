"""Which highlights are shown of a curve: how many, how long, and none where it tells nothing."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from contentctr.errors import InputError
from contentctr.score.highlights import (
    FLAT,
    SHARE,
    Highlight,
    find_highlights,
    fit_reel,
    is_flat,
    is_uncertain,
)

REACTION_S = 5.0
"""People react so long after what they react to: a highlight of a model's curve begins before it,
as clicks and chat come after their cause."""
FLAT_SAYS = "the curve is flat: its odds differ by less than a tenth, so no highlight is marked"
UNCERTAIN_SAYS = (
    "the curve may be chance (neighbouring segments have nothing in common, and no peak towers): "
    "the best segment alone is shown"
)
_LENGTH = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|s|m|min|h)?|(?P<clock>(?:\d+:)+\d\d)")
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, None: 1.0}


@dataclass(frozen=True, kw_only=True)
class HighlightChoice:
    """What is wanted of highlights."""

    top_k: int = 5
    """How many at most; without meaning where a `length` is given."""
    share: float = SHARE
    """Of the recording that they cover at most; without meaning where a `length` is given."""
    min_length_s: float = 10.0
    max_length_s: float = 90.0
    length: str = ""
    """Of a reel of them all, as 90s, 1:30, 2m or 10%; "": none is made."""

    def require(self) -> None:
        """Stop at a setting out of its range, before anything is scored, which may take an hour.

        Raises:
            InputError: names the setting.
        """
        for name, value, good, rule in (
            ("top_k", self.top_k, self.top_k >= 1, "at least 1"),
            ("share", self.share, 0 < self.share < 1, "in (0, 1)"),
            ("min_length_s", self.min_length_s, self.min_length_s >= 0, "0 or more"),
            ("max_length_s", self.max_length_s, self.max_length_s > 0, "above 0"),
        ):
            if not good:
                raise InputError(f"{name} must be {rule}, not {value:g}")
        if self.min_length_s > self.max_length_s:
            raise InputError(
                f"min_length_s must be at most max_length_s, {self.max_length_s:g}, not "
                f"{self.min_length_s:g}"
            )
        self.reel_s(math.inf)

    def reel_s(self, duration_s: float) -> float | None:
        """The reel's seconds, of a recording of `duration_s` at most; None: none is wanted.

        Raises:
            InputError: `length` is none.
        """
        if not self.length:
            return None
        found = _LENGTH.fullmatch(self.length.strip())
        seconds = 0.0
        if found is not None and found["clock"]:
            for figure in found["clock"].split(":"):
                seconds = 60 * seconds + int(figure)
        elif found is not None and found["unit"] == "%":
            seconds = float(found["number"]) / 100 * duration_s
            seconds = seconds if float(found["number"]) <= 100 else 0.0
        elif found is not None:
            seconds = float(found["number"]) * _UNITS[found["unit"]]
        if not seconds > 0:
            raise InputError(f"length must be as 90s, 1:30, 2m or 10%, not {self.length!r}")
        return min(seconds, duration_s)

    def as_settings(self) -> dict[str, Any]:
        """What prediction.json tells of it."""
        return asdict(self)


def choose_highlights(
    scores_N: ArrayLike,
    starts_N: ArrayLike,
    ends_N: ArrayLike,
    choice: HighlightChoice,
    *,
    lag_s: float = REACTION_S,
) -> tuple[list[Highlight], str]:
    """The highlights that are wanted of a curve of scores in [0, 1], best first.

    Args:
        scores_N: shape (N,); NaN where a segment has no score.
        starts_N: shape (N,), seconds.
        ends_N: shape (N,), seconds.
        choice: what is wanted.
        lag_s: of `find_highlights`.

    Returns:
        Few or none where the curve is flat or uncertain; and a sentence that says so, else "".
    """
    scores, ends = np.asarray(scores_N, np.float64), np.asarray(ends_N, np.float64)
    if not (~np.isnan(scores)).any() or _is_flat(scores):
        return [], FLAT_SAYS
    uncertain = is_uncertain(scores)
    reel_s = choice.reel_s(float(ends[-1]))
    longest_s = choice.max_length_s if reel_s is None else min(choice.max_length_s, reel_s)
    found = find_highlights(
        scores,
        starts_N,
        ends,
        top_k=1 if uncertain else (choice.top_k if reel_s is None else None),
        share=choice.share if reel_s is None else 1 - 1e-9,
        min_length_s=min(choice.min_length_s, longest_s),
        max_length_s=longest_s,
        lag_s=lag_s,
    )
    if reel_s is not None:
        found = fit_reel(found, reel_s, scores, starts_N)
    return found, UNCERTAIN_SAYS if uncertain else ""


def _is_flat(scores: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """`is_flat`, and no single segment towers either: one moment may be all that there is."""
    usual, best = float(np.nanmedian(scores)), float(np.nanmax(scores))
    if not is_flat(scores):
        return False
    return best * (1 - usual) <= (1 + FLAT) * usual * (1 - best)
