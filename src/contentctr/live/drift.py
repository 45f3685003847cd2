"""How far live segments are from those that a model was trained on. In memory; no I/O.

Of each part the share that is missing, and of its features two numbers: how far the mean has moved
(in training's spreads, root mean square over the numbers), and the population stability index of
the segments' distances from training's mean, whose ten shares are of equal size in training (rule
of thumb: below 0.1 nothing, above 0.25 another population).

Shape suffixes as in score/inputs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contentctr.live.rolling import SPANS, Rolling
from contentctr.live.scorer_segments import LiveSegment
from contentctr.score.inputs import SHARES, InputFacts

Floats = NDArray[np.float64]
_ENOUGH = 30
"""Segments: fewer say nothing of their kind."""
_NONE_SEEN = 0.5
"""Segments that a share without any counts as: its logarithm would be infinite."""


@dataclass(frozen=True, kw_only=True)
class PartDrift:
    """One part in one span."""

    segments: int
    """That could have had it."""
    missing: float
    """Share of them without it."""
    trained_missing: float | None
    """The same in training; None: of text, which is missing with speech and comments."""
    shift: float | None
    """How far the mean has moved; None where fewer than 30 have features, or training had none."""
    stability: float | None
    """The stability index; None likewise."""


class InputDrift:
    """The segments of the last day beside training's. For any number of threads.

    Args:
        facts: of the model's training.
    """

    def __init__(self, facts: InputFacts) -> None:
        self._facts, self._lock = facts, Lock()
        self._flags = Rolling(1 + len(facts.missing))
        # Of each part the number of segments, their shares, and the sum of their features.
        self._features = {
            name: Rolling(1 + SHARES + len(part.mean_V)) for name, part in facts.features.items()
        }

    def add(self, segments: Sequence[LiveSegment], now: float) -> None:
        """Count segments, checked ones.

        Args:
            segments: that were scored.
            now: Unix seconds.
        """
        if not segments:
            return
        lacking = [sum(not _has(s, name) for s in segments) for name in self._facts.missing]
        sums = {name: self._sums(name, segments) for name in self._features}
        with self._lock:
            self._flags.add(np.array([len(segments), *lacking], np.float64), now)
            for name, values in sums.items():
                if values is not None:
                    self._features[name].add(values, now)

    def _sums(self, name: str, segments: Sequence[LiveSegment]) -> Floats | None:
        rows = [getattr(s, name) for s in segments if _has(s, name)]
        if not rows:
            return None
        facts, values_RV = self._facts.features[name], np.stack(rows).astype(np.float64)
        share_R = np.searchsorted(facts.edges, facts.distances(values_RV))
        counts = np.bincount(share_R, minlength=SHARES)
        return np.concatenate(([len(rows)], counts, values_RV.sum(0)))

    def summary(self, now: float) -> dict[str, dict[str, PartDrift]]:
        """What is known by span ("hour", "day") and part; no span without a segment."""
        found = {}
        with self._lock:
            for span, seconds in SPANS.items():
                total, *lacking = self._flags.total(seconds, now).tolist()
                if total:
                    missing = {
                        name: count / total
                        for name, count in zip(self._facts.missing, lacking, strict=True)
                    }
                    found[span] = self._parts(int(total), missing, seconds, now)
        return found

    def _parts(
        self, total: int, missing: dict[str, float], seconds: float, now: float
    ) -> dict[str, PartDrift]:
        parts = {}
        for name in dict.fromkeys((*missing, *self._features)):
            shift = stability = None
            lacking = missing.get(name)
            if name in self._features:
                count, *rest = self._features[name].total(seconds, now)
                if lacking is None:  # text: of what is said and what is written
                    lacking = 1 - count / total
                if count >= _ENOUGH:
                    shift, stability = self._moved(name, count, np.array(rest))
            assert lacking is not None
            parts[name] = PartDrift(
                segments=total,
                missing=lacking,
                trained_missing=self._facts.missing.get(name),
                shift=shift,
                stability=stability,
            )
        return parts

    def _moved(self, name: str, count: float, rest: Floats) -> tuple[float, float]:
        facts = self._facts.features[name]
        shift_V = (rest[SHARES:] / count - facts.mean_V) / facts.std_V
        share_C = np.maximum(rest[:SHARES], _NONE_SEEN) / count
        stability = np.sum((share_C - 1 / SHARES) * np.log(share_C * SHARES))
        return float(np.sqrt(np.mean(shift_V**2))), float(stability)


def _has(segment: LiveSegment, name: str) -> bool:
    if name == "text":
        return segment.text is not None and (segment.has_speech or segment.has_comments)
    found: Any = getattr(segment, f"has_{name}" if name in ("speech", "comments") else name)
    return found is not None and found is not False
