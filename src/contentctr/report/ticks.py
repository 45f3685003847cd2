"""Round times, for marks below what goes over time."""

from __future__ import annotations

import math

from contentctr.score.highlights import clock

TICK_SECONDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def tick_seconds(begin_s: float, end_s: float, marks: float) -> list[int]:
    """Round times between two, so many at most."""
    wanted = (end_s - begin_s) / marks
    step = next((s for s in TICK_SECONDS if s >= wanted), TICK_SECONDS[-1])
    while (end_s - begin_s) / step > marks:
        step *= 2
    return list(range(math.ceil(begin_s / step) * step, int(end_s) + 1, step))


def moment(seconds: float) -> str:
    """A time of the room; below 0 it lies before its start."""
    text = clock(abs(seconds))
    return f"-{text}" if seconds < -0.5 else text
