"""Where every live room stands by our faded score alone, without an object for each. No I/O.

Shape suffix: C rooms.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np

from contentctr.live.ranking import (
    CONTENT,
    Floats,
    Ranked,
    RankSettings,
    RoomScore,
    content_part,
    fade,
    why_absent,
)


class Standing:
    """The latest scores of all live rooms at a moment; ranks them as `rank` would.

    Ages change the order by themselves, so nothing sorted can be kept: but one room's place takes
    no sorting, and a page no more than its own rows.

    Args:
        scores: latest score of each room.
        settings: of the ranking.
        model: id of the model that made the scores; "": it is not told.
    """

    def __init__(
        self, scores: Mapping[str, RoomScore], settings: RankSettings, model: str = ""
    ) -> None:
        self.model = model
        count = len(scores)
        self._ids = list(scores)
        self._row = {room_id: row for row, room_id in enumerate(self._ids)}
        self._score_C = np.fromiter((s.score for s in scores.values()), np.float64, count)
        self._ended_C = np.fromiter((s.ended_at for s in scores.values()), np.float64, count)
        self._settings = settings

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, room_id: str) -> bool:
        return room_id in self._row

    def place(self, room_id: str, now: float) -> Ranked:
        """The room's place; it must be there."""
        age_C, fade_C, total_C = self._totals(now)
        row = self._row[room_id]
        total, ids = total_C[row], self._ids
        equal = np.flatnonzero(total_C == total)
        before = int((total_C > total).sum()) + sum(ids[other] < room_id for other in equal)
        return self._ranked(row, before + 1, age_C, fade_C, total_C)

    def page(self, offset: int, limit: int, now: float) -> list[Ranked]:
        """The rooms from place `offset` + 1 on, `limit` of them, best first."""
        age_C, fade_C, total_C = self._totals(now)
        count = min(offset + limit, len(self))
        if count <= offset:
            return []
        # Those above the last total of the page, and all that share it: ids decide among these.
        least = -np.partition(-total_C, count - 1)[count - 1]
        rows = np.flatnonzero(total_C >= least).tolist()
        totals, ids = total_C.tolist(), self._ids
        best = heapq.nsmallest(count, rows, key=lambda row: (-totals[row], ids[row]))
        return [
            self._ranked(row, offset + k, age_C, fade_C, total_C)
            for k, row in enumerate(best[offset:], start=1)
        ]

    def _totals(self, now: float) -> tuple[Floats, Floats, Floats]:
        age_C = now - self._ended_C
        fade_C = fade(age_C, self._settings)
        return age_C, fade_C, content_part(self._score_C, fade_C, self._settings)

    def _ranked(
        self, row: int, position: int, age_C: Floats, fade_C: Floats, total_C: Floats
    ) -> Ranked:
        total, age, share = float(total_C[row]), float(age_C[row]), float(fade_C[row])
        return Ranked(
            position=position,
            room_id=self._ids[row],
            total=total,
            parts={CONTENT: total},
            score=float(self._score_C[row]),
            age_s=age,
            fade=share,
            absent=why_absent(age, share),
        )
