"""Ranking of live rooms: a ranker's own scores plus ours, weighted (Eq. 16). No I/O.

s = b_1 s_1 + b_2 s_2 + ... + fade * w * (s_ContentCTR - neutral)

A segment's score is there once the segment has ended, and ranks the room during the next segment.
Age is the time since that end, in segments. The next score is due at age 1; up to `full_age` (2)
the term has its full weight, so that one late score changes nothing; from there its weight falls
linearly to nothing at `gone_age` (3). docs/decisions.md, "Ranking".

Shape suffixes: C candidates, T terms of the ranker's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contentctr.errors import InputError

CONTENT = "content"
"""Name of our term among a room's parts."""
NO_SCORE = "no score"
TOO_OLD = "too old"
FROM_THE_FUTURE = "from the future"
"""A score whose segment ends after now: its clock and ours differ by more than a segment."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RankSettings:
    """How the terms are weighed. The defaults are Eq. 16 as written: every weight is 1."""

    content_weight: float = 1.0
    """w, of our score."""
    base_weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the ranker's own scores by name; 1 for those not named."""
    neutral_score: float = 0.0
    """Score at which our term is 0. It moves all rooms that have a score alike; so it decides only
    where rooms without one stand: with 0 below all others, with the mean CTR among them."""
    segment_seconds: float = 30.0
    """Length of a segment."""
    full_age: float = 2.0
    """Segments since the scored one ended, up to which our term has its full weight."""
    gone_age: float = 3.0
    """Segments from which it has none."""

    def __post_init__(self) -> None:
        _require_finite("content_weight", self.content_weight)
        _require_finite("neutral_score", self.neutral_score)
        for name, weight in self.base_weights.items():
            _require_finite(f"base_weights[{name!r}]", weight)
        if not (math.isfinite(self.segment_seconds) and self.segment_seconds > 0):
            raise InputError(f"segment_seconds must be above 0, not {self.segment_seconds!r}")
        if not (self.full_age >= 1 and math.isfinite(self.full_age)):
            raise InputError(f"full_age must be at least 1 segment, not {self.full_age!r}")
        if not (self.gone_age > self.full_age and math.isfinite(self.gone_age)):
            raise InputError(
                f"gone_age must be above full_age ({self.full_age}), not {self.gone_age!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A live room that may be shown."""

    room_id: str
    base: Mapping[str, float]
    """The ranker's own scores of the room (s_ctr, s_lvtr, ...) by name."""


@dataclass(frozen=True, kw_only=True)
class RoomScore:
    """A room's latest score of ours."""

    score: float
    """Predicted CTR."""
    ended_at: float
    """End of the segment it was made from, seconds on the clock of `now`."""


class Scores(dict[str, RoomScore]):
    """Latest scores of rooms by id, all of one model.

    Args:
        scores: of the rooms.
        model: its id; "": there is none yet.
    """

    def __init__(self, scores: Mapping[str, RoomScore], model: str) -> None:
        super().__init__(scores)
        self.model = model


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A candidate's place, and why it has it."""

    position: int
    """1 is the best."""
    room_id: str
    total: float
    """Sum of the parts."""
    parts: dict[str, float]
    """Each term, weighted, by name; ours is CONTENT, 0 where it is absent."""
    score: float | None
    """Our score, before weight and fading."""
    age_s: float | None
    """Seconds since the scored segment ended; negative where clocks differ a little."""
    fade: float
    """Share, in [0, 1], that our term's age leaves of it."""
    absent: str | None
    """Why our term is absent: NO_SCORE, TOO_OLD, FROM_THE_FUTURE; None where it counts."""


def rank(
    candidates: Sequence[Candidate],
    scores: Mapping[str, RoomScore],
    now: float,
    settings: RankSettings | None = None,
) -> list[Ranked]:
    """Order candidate rooms by Eq. 16.

    Args:
        candidates: rooms, each once, all with base scores of the same names; may be empty.
        scores: latest score of rooms by room id; rooms that are no candidates are passed over.
        now: seconds, on the clock of the scores' `ended_at`.
        settings: weights and fading.

    Returns:
        All candidates, best first; equal totals stand in the order of their room ids.

    Raises:
        InputError: a number is not finite, a room comes twice, base scores differ in their names,
            or a weight is given for a base score that does not exist.
    """
    settings = settings or RankSettings()
    _require_finite("now", now)
    if not candidates:
        return []
    names = _check_candidates(candidates, settings)
    ids = [candidate.room_id for candidate in candidates]
    base_CT = _base(candidates, names, settings)
    score_C, age_C = _latest(ids, scores, now)
    fade_C = fade(age_C, settings)
    content_C = content_part(score_C, fade_C, settings)
    total_C = (base_CT.sum(axis=1) + content_C).tolist()
    order = sorted(range(len(ids)), key=lambda i: (-total_C[i], ids[i]))
    parts, content, fades = base_CT.tolist(), content_C.tolist(), fade_C.tolist()
    ages, values = age_C.tolist(), score_C.tolist()
    return [
        Ranked(
            position=position,
            room_id=ids[i],
            total=total_C[i],
            parts={**dict(zip(names, parts[i], strict=True)), CONTENT: content[i]},
            score=None if math.isnan(values[i]) else values[i],
            age_s=None if math.isnan(ages[i]) else ages[i],
            fade=fades[i],
            absent=why_absent(ages[i], fades[i]),
        )
        for position, i in enumerate(order, 1)
    ]


def fade(age_s: ArrayLike, settings: RankSettings) -> Floats:
    """Share of our term that its age leaves.

    Args:
        age_s: seconds since the scored segment ended, any shape; NaN where there is no score.
        settings: with the ages.

    Returns:
        In [0, 1], of the same shape: 1 up to `full_age`, linear to 0 at `gone_age`; 0 for NaN, and
        for scores more than a segment ahead of now.
    """
    age = np.asarray(age_s, dtype=np.float64) / settings.segment_seconds
    share = (settings.gone_age - age) / (settings.gone_age - settings.full_age)
    # One wrong clock must not stop the ranking: a score from the future is absent, no error.
    known = ~np.isnan(age) & (age >= -1)
    return np.where(known, np.clip(share, 0.0, 1.0), 0.0)


def content_part(score: ArrayLike, fade_share: ArrayLike, settings: RankSettings) -> Floats:
    """Our term of Eq. 16, weighted and faded; 0 where `fade_share` is 0.

    Args:
        score: predicted CTR, any shape; NaN where there is none.
        fade_share: of `fade`, of the same shape.
        settings: with the weight and the neutral score.
    """
    share = np.asarray(fade_share, dtype=np.float64)
    part = settings.content_weight * share * (np.asarray(score) - settings.neutral_score)
    return np.where(share > 0, part, 0.0)


def why_absent(age_s: float, fade_share: float) -> str | None:
    """Why our term is absent, of those named above; None: it counts."""
    if math.isnan(age_s):
        return NO_SCORE
    if fade_share > 0:
        return None
    return FROM_THE_FUTURE if age_s < 0 else TOO_OLD


def _check_candidates(candidates: Sequence[Candidate], settings: RankSettings) -> list[str]:
    """Names of the base scores, in the first candidate's order."""
    first = candidates[0]
    names, seen = list(first.base), set()
    if CONTENT in first.base:
        raise InputError(f"base must not name a score {CONTENT!r}: our own term is called so")
    for candidate in candidates:
        if candidate.room_id in seen:
            raise InputError(f"room {candidate.room_id!r}: must be among the candidates once")
        seen.add(candidate.room_id)
        if candidate.base.keys() != first.base.keys():
            raise InputError(
                f"room {candidate.room_id!r}: base must name the same scores as room "
                f"{first.room_id!r} ({names}), not {list(candidate.base)}"
            )
    for name in settings.base_weights:
        if name not in first.base:
            raise InputError(f"base_weights names {name!r}, but the base scores are {names}")
    return names


def _latest(
    ids: Sequence[str], scores: Mapping[str, RoomScore], now: float
) -> tuple[Floats, Floats]:
    """Score and its age in seconds [C] each; NaN where a room has none."""
    score_C, age_C = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
    for i, room_id in enumerate(ids):
        if (found := scores.get(room_id)) is not None:
            _require_finite(f"room {room_id!r}: score", found.score)
            _require_finite(f"room {room_id!r}: ended_at", found.ended_at)
            score_C[i], age_C[i] = found.score, now - found.ended_at
    return score_C, age_C


def _base(candidates: Sequence[Candidate], names: Sequence[str], settings: RankSettings) -> Floats:
    """The ranker's own terms, weighted [C, T]."""
    rows = [[candidate.base[name] for name in names] for candidate in candidates]
    base_CT = np.array(rows, dtype=np.float64).reshape(len(candidates), len(names))
    bad = np.argwhere(~np.isfinite(base_CT))
    if len(bad):
        i, k = bad[0]
        raise InputError(
            f"room {candidates[i].room_id!r}: base score {names[k]!r} must be finite, not "
            f"{float(base_CT[i, k])!r}"
        )
    weighted: Floats = base_CT * [settings.base_weights.get(name, 1.0) for name in names]
    return weighted


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, not {value!r}")
