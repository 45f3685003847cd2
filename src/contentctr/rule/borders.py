"""Borders of highlights, moved to where somebody ends to speak and where the picture changes."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence

import polars as pl

from contentctr.rooms.media import frames_at
from contentctr.rooms.room import Room
from contentctr.rule.watched import SMALL, brightness, is_cut
from contentctr.score.highlights import Highlight

REACH_S = 4.0
"""A border moves so far at most."""
_PAUSE_S = 0.7
"""So long a pause ends a sentence, whatever its last sign."""
_ENDS = tuple(".!?…。！？؟।")
_PICTURE_S = 0.2
"""Near a border a picture is looked at so often."""


def move_borders(
    room: Room,
    highlights: Sequence[Highlight],
    *,
    min_length_s: float,
    max_length_s: float,
    half_peak_s: float,
    may_grow: bool = True,
) -> list[Highlight]:
    """The highlights, each from the start of a sentence to the end of one, else from cut to cut.

    A border stays where neither is within REACH_S, where the highlight would lose its peak, meet
    another, or get a length that is not wanted.

    Args:
        room: whose highlights they are.
        highlights: best first.
        min_length_s: of a highlight.
        max_length_s: of a highlight.
        half_peak_s: half the length of the segment that is a peak: all of it stays inside.
        may_grow: whether one may get longer than it is, as in a reel of a length it may not.
    """
    if not highlights:
        return []
    starts, ends = sentences(room.speech)
    cuts = _cuts_near(room, highlights)
    moved = list(highlights)
    for i, h in enumerate(highlights):
        others = [other for j, other in enumerate(moved) if j != i]
        low = max((o.end_s for o in others if o.end_s <= h.start_s + 1e-6), default=0.0)
        high = min(
            (o.start_s for o in others if o.start_s >= h.end_s - 1e-6), default=room.duration_s
        )
        start_s = _nearest(h.start_s, (starts, cuts), low, h.peak_s - half_peak_s)
        end_s = _nearest(h.end_s, (ends, cuts), h.peak_s + half_peak_s, high)
        longest_s = max_length_s if may_grow else h.end_s - h.start_s
        for both in ((start_s, end_s), (start_s, h.end_s), (h.start_s, end_s)):
            if min_length_s - 1e-6 <= both[1] - both[0] <= longest_s + 1e-6:
                moved[i] = dataclasses.replace(h, start_s=both[0], end_s=both[1])
                break
    return moved


def sentences(speech: pl.DataFrame | None) -> tuple[list[float], list[float]]:
    """Where sentences start, and where they end, in seconds; ascending.

    An utterance that ends in a full stop, or before a pause, ends a sentence.
    """
    starts, ends = list[float](), list[float]()
    last_s, ended = -1.0, True
    for start_s, end_s, text in [] if speech is None else speech.iter_rows():
        if not ended and start_s - last_s >= _PAUSE_S:
            ends.append(last_s)
            ended = True
        if ended:
            starts.append(start_s)
        last_s, ended = max(end_s, last_s), text.rstrip(" \"'”’»)」").endswith(_ENDS)
        if ended:
            ends.append(last_s)
    return starts, ends if ended or not starts else [*ends, last_s]


def _nearest(time_s: float, kinds: Sequence[list[float]], low: float, high: float) -> float:
    """The nearest of the first kind that has one within reach and the limits; else the time."""
    for times in kinds:
        first = bisect.bisect_left(times, max(time_s - REACH_S, low))
        last = bisect.bisect_right(times, min(time_s + REACH_S, high))
        if first < last:
            return min(times[first:last], key=lambda at: (abs(at - time_s), at))
    return time_s


def _cuts_near(room: Room, highlights: Sequence[Highlight]) -> list[float]:
    """Times at which the picture changes, near the borders of highlights, in seconds."""
    if room.media is None or room.media.kind != "video":
        return []
    borders = sorted({b for h in highlights for b in (h.start_s, h.end_s)})
    count = round(REACH_S / _PICTURE_S)
    ticks = {round(b / _PICTURE_S) + k for b in borders for k in range(-count - 1, count + 1)}
    times = [k * _PICTURE_S for k in sorted(ticks) if 0 <= k * _PICTURE_S < room.duration_s]
    cuts, before, last_s = list[float](), None, -1.0
    # Its warnings are not told: of damage the pass over the whole recording has.
    for time_s, image in zip(times, frames_at(room.media, times, grey=SMALL), strict=True):
        small = None if image is None else brightness(image)
        near = time_s - last_s < 1.5 * _PICTURE_S
        if near and before is not None and small is not None and is_cut(before, small):
            cuts.append(time_s)
        before, last_s = small, time_s
    return cuts
