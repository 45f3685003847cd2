"""What viewers then did, beside what was predicted: of the last hour and day, by model. No I/O.

An outcome is joined with the score that its room's curve has of the segment. What is kept does not
grow with rooms or days: sums by bin of the prediction, and for Kendall's tau the single outcomes of
some rooms, chosen by a hash of their ids, fewer the more there is. Hour and day have each their
own rooms: of an hour's outcomes many more rooms find place than of a day's.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from contentctr.live.known_rooms import LiveRoom
from contentctr.live.rolling import SPANS, Floats, Rolling
from contentctr.live.scorer_segments import Counts
from contentctr.store.statistics import LATEST

BIN_EDGES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7)
"""Between the bins of predictions: closer where click-through rates are."""
MODELS_KEPT = 8
"""Models that are told of; the one without an outcome for longest gives way."""
PAIRS_KEPT = 20_000
"""Outcomes of single segments that are kept for tau, of each span."""
ROOMS_KEPT = 65_536
"""Rooms of which it is known what has come; of one of them an outcome counts once."""
SEGMENTS_KEPT = 4096
"""Of a room: an outcome of a segment so far behind the newest is too late."""
_BINS = len(BIN_EDGES) + 1
_TINY = 1e-7
_HASHES = 2**32


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one segment."""

    room_id: str
    target_index: int
    """The segment that was counted."""
    weight: float
    """Viewers who were shown the room in it; 1 where only a value is known."""
    value: float
    """The target: of a CTR, the share of them who clicked; in [0, 1]."""
    counts: Counts | None = None
    """What was counted in the segment; None where only a value is known."""


@dataclass(frozen=True, kw_only=True)
class LateCounts:
    """What was counted in a segment of a live room; it waits for the room's next segment."""

    room_id: str
    run: str
    """Of the room."""
    number: int
    """The segment's."""
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class Joined:
    """An outcome and the scores that predicted it."""

    outcome: Outcome
    scores: tuple[tuple[str, float], ...]
    """(id of the model, score) of each model that has one."""
    run: str = ""
    """Of the room: with another one its segments are others."""


@dataclass(frozen=True, kw_only=True)
class BinOutcome:
    """Outcomes of predictions in one bin."""

    low: float
    high: float
    segments: int
    predicted: float
    """Mean, by viewers."""
    observed: float


@dataclass(frozen=True, kw_only=True)
class ModelOutcomes:
    """One model in one span."""

    segments: int
    viewers: float
    """Sum of the weights."""
    predicted: float
    """Mean over viewers."""
    observed: float
    log_loss: float
    """Mean over viewers, in nats."""
    calibration_error: float
    """Distance of prediction and outcome inside a bin, mean over viewers."""
    tau: float | None
    """Kendall's, mean over rooms; None where no room has one."""
    tau_rooms: int
    """Rooms that it is the mean of: those looked at, with two outcomes at least."""
    bins: tuple[BinOutcome, ...]
    """Those that are not empty."""


def join(rooms: Sequence[LiveRoom], outcome: Outcome, horizon: int) -> Joined | None:
    """An outcome with its predictions; None where no curve has one of that segment.

    Args:
        rooms: the outcome's room, as each model has scored it.
        outcome: of one of its segments.
        horizon: from a curve's segment to the one it predicts.
    """
    index = outcome.target_index - horizon
    scores = {
        room.model_of(index): score
        for room in rooms
        if (score := _score_of(room, index)) is not None
    }
    if not scores:
        return None
    return Joined(outcome=outcome, scores=tuple(scores.items()), run=rooms[0].run)


def late_counts(rooms: Sequence[LiveRoom], outcome: Outcome) -> LateCounts | None:
    """What an outcome says for its room's statistics; None: nothing, or it is too far off.

    No score is needed: viewers of a room's first segments are known, whatever predicted them.

    Args:
        rooms: as of `join`.
        outcome: of one of its segments.
    """
    if not outcome.counts or not rooms:
        return None
    # The next segment reads LATEST before it. One may be counted before it is posted, too; so far
    # ahead it is no segment of that room.
    if not -LATEST <= rooms[0].index - outcome.target_index < LATEST:
        return None
    return LateCounts(
        room_id=outcome.room_id,
        run=rooms[0].run,
        number=outcome.target_index,
        counts=outcome.counts,
    )


def _score_of(room: LiveRoom, index: int) -> float | None:
    for at, score in reversed(room.curve):
        if at <= index:
            return score if at == index else None
    return None


Pair = tuple[float, str, int, float, float]
"""(when, model, hash of the room, score, value)."""


class _Sample:
    """Single outcomes of a span, of rooms whose hash is below a bound. For one thread at a time."""

    def __init__(self, span_s: float, kept: int) -> None:
        self._span_s, self._kept = span_s, kept
        self.pairs: deque[Pair] = deque()
        self._below, self._moved_at = _HASHES, -math.inf

    def add(self, pair: Pair) -> None:
        """Keep an outcome, if its room is one of those."""
        now = pair[0]
        while self.pairs and self.pairs[0][0] < now - self._span_s:
            self.pairs.popleft()
        # Where less comes than did (it is night), more rooms find place; they need time to fill it.
        few = 4 * len(self.pairs) < self._kept and self._below < _HASHES
        if few and now - self._moved_at >= self._span_s / 4:
            self._below, self._moved_at = 2 * self._below, now
        if pair[2] >= self._below:
            return
        self.pairs.append(pair)
        while len(self.pairs) > self._kept and self._below > 1:
            # Whole rooms go, and by chance: what is left is like all of them.
            self._below, self._moved_at = self._below // 2, now
            self.pairs = deque(one for one in self.pairs if one[2] < self._below)


class OutcomeLog:
    """What has come back, of the last day. For any number of threads."""

    def __init__(self, pairs_kept: int = PAIRS_KEPT) -> None:
        self._lock = Lock()
        self._sums: OrderedDict[str, Rolling] = OrderedDict()
        self._came: OrderedDict[str, tuple[str, int, int]] = OrderedDict()
        """Of a room its run, the newest segment with an outcome, and bits: which before it have."""
        self._samples = {span: _Sample(seconds, pairs_kept) for span, seconds in SPANS.items()}

    def came(self, joined: Joined) -> bool:
        """Whether the segment's outcome is known already, or it is too late for one."""
        with self._lock:
            return self._marked(joined) is None

    def add(self, joined: Iterable[Joined], now: float) -> int:
        """Count outcomes, each segment's once.

        Args:
            joined: outcomes with their predictions.
            now: Unix seconds.

        Returns:
            How many were new.
        """
        with self._lock:
            return sum(self._add(one, now) for one in joined)

    def _add(self, joined: Joined, now: float) -> bool:
        marked, room_id = self._marked(joined), joined.outcome.room_id
        if marked is None:
            return False
        self._came.pop(room_id, None)
        self._came[room_id] = marked
        if len(self._came) > ROOMS_KEPT:
            self._came.popitem(last=False)
        for model, score in reversed(joined.scores):  # the one that serves is the newest then
            sums = self._sums.pop(model, None) or Rolling(4 * _BINS + 1)
            self._sums[model] = sums
            if len(self._sums) > MODELS_KEPT:
                self._sums.popitem(last=False)
            sums.add(_row(joined.outcome, score), now)
            room = zlib.crc32(room_id.encode())
            for sample in self._samples.values():
                sample.add((now, model, room, score, joined.outcome.value))
        return True

    def _marked(self, joined: Joined) -> tuple[str, int, int] | None:
        """The room's entry with this segment in it; None where it is already, or is too late."""
        index = joined.outcome.target_index
        run, newest, bits = self._came.get(joined.outcome.room_id, (joined.run, index, 0))
        if run != joined.run:
            newest, bits = index, 0
        if index > newest:
            # A far jump would make a number of millions of bits.
            bits = bits << (index - newest) if index - newest < SEGMENTS_KEPT else 0
            newest = index
        bit = 1 << min(newest - index, SEGMENTS_KEPT)
        if newest - index >= SEGMENTS_KEPT or bits & bit:
            return None
        return joined.run, newest, (bits | bit) & ((1 << SEGMENTS_KEPT) - 1)

    def forget(self, room_id: str) -> None:
        """The room has ended: one of that name is another."""
        with self._lock:
            self._came.pop(room_id, None)

    def summary(self, now: float) -> dict[str, dict[str, ModelOutcomes]]:
        """What is known, by model and span ("hour", "day"); no span without an outcome."""
        with self._lock:
            pairs = {span: list(sample.pairs) for span, sample in self._samples.items()}
            totals = {
                (model, span): sums.total(seconds, now)
                for model, sums in self._sums.items()
                for span, seconds in SPANS.items()
            }
        found: dict[str, dict[str, ModelOutcomes]] = {}
        for (model, span), total in totals.items():
            if total[:_BINS].sum():
                since = now - SPANS[span]
                tau, rooms = _tau([p for p in pairs[span] if p[1] == model and p[0] >= since])
                found.setdefault(model, {})[span] = _told(total, tau, rooms)
        return found


def _row(outcome: Outcome, score: float) -> Floats:
    """What is summed: of each bin segments, viewers, expected and observed; and the loss."""
    score = min(max(score, _TINY), 1 - _TINY)
    row, place = np.zeros(4 * _BINS + 1), int(np.searchsorted(BIN_EDGES, score))
    parts = (1.0, outcome.weight, outcome.weight * score, outcome.weight * outcome.value)
    row[place : 4 * _BINS : _BINS] = parts
    loss = outcome.value * math.log(score) + (1 - outcome.value) * math.log1p(-score)
    row[-1] = -outcome.weight * loss
    return row


def _told(total: Floats, tau: float | None, rooms: int) -> ModelOutcomes:
    count_C, weight_C, expected_C, observed_C = total[:-1].reshape(4, _BINS)
    weight = float(weight_C.sum())
    edges = (0.0, *BIN_EDGES, 1.0)
    return ModelOutcomes(
        segments=int(count_C.sum()),
        viewers=weight,
        predicted=float(expected_C.sum() / weight),
        observed=float(observed_C.sum() / weight),
        log_loss=float(total[-1] / weight),
        calibration_error=float(np.abs(expected_C - observed_C).sum() / weight),
        tau=tau,
        tau_rooms=rooms,
        bins=tuple(
            BinOutcome(
                low=edges[c],
                high=edges[c + 1],
                segments=int(count_C[c]),
                predicted=float(expected_C[c] / weight_C[c]),
                observed=float(observed_C[c] / weight_C[c]),
            )
            for c in range(_BINS)
            if count_C[c]
        ),
    )


def _tau(pairs: list[Pair]) -> tuple[float | None, int]:
    if not pairs:
        return None, 0
    # Imported when used: SciPy is large, and a service without outcomes does without it.
    from contentctr.metrics.ctr import kendall_tau, mean_over_groups

    _, _, rooms, scores, values = zip(*pairs, strict=True)
    found = mean_over_groups(kendall_tau, scores, values, rooms)
    return (None if math.isnan(found.mean) else found.mean), found.defined
