"""Keyframes of a recording that was read before, without reading what lies between them.

They are those that FrameReader takes of all packets: by its rules, where these are known to give a
keyframe for every time, and not at all where one cannot be decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from contentctr.rooms.clock import PICTURE
from contentctr.rooms.frames import (
    EPS_S,
    HOLD_S,
    KEYFRAME_S,
    LAST_S,
    PENDING_BYTES,
    FrameReader,
    Make,
    P,
    reading_notes,
)
from contentctr.rooms.steady import Steady
from contentctr.rooms.video import Video


class Astray(Exception):
    """The keyframes are others than the first reading found, or one cannot be decoded."""


def keys_suffice(steady: Steady, times: Sequence[float]) -> bool:
    """Whether a keyframe stands for each time, and that can be told without other pictures.

    Args:
        steady: what the first reading found.
        times: seconds of the room.
    """
    keys_K, times_T = np.asarray(steady.keys_s), np.asarray(times)
    # Of larger groups a reader of all packets decodes some before it knows which one is wanted.
    if not len(keys_K) or np.any(np.diff(keys_K) <= 0) or 2 * steady.group_bytes > PENDING_BYTES:
        return False
    place_T = np.searchsorted(keys_K, times_T + EPS_S, side="right") - 1
    if np.any(place_T < 0):
        return False
    end_s = max(steady.last_s + LAST_S, steady.clock.end_s(PICTURE) or 0.0)
    gap_K = np.diff(np.append(keys_K, max(steady.last_s, keys_K[-1])))
    # Between keyframes that far apart there may be none by the packets.
    unsure_T = (times_T - keys_K[place_T] > KEYFRAME_S) | (gap_K[place_T] > HOLD_S)
    return not np.any(unsure_T & (times_T < end_s))


def keyframes_at(
    path: Path,
    steady: Steady,
    times: Sequence[float],
    *,
    make: Make[P],
    warnings: list[str],
) -> Iterator[P | None]:
    """The picture of each time, or None where they had gone.

    Args:
        path: an MP4.
        steady: what its first reading found; its keys suffice for the times.
        times: seconds of the room, ascending.
        make: of FrameReader.
        warnings: messages are added to it.

    Raises:
        Astray: nothing that was given before is wrong, but from here on all packets must be read.
    """
    with Video(path, steady=steady, keys_alone=True) as video:
        reader = FrameReader(video, times, frames="keyframe", make=make)
        expected = iter(steady.keys_s)
        for timed in video.packets():
            if not timed.packet.is_keyframe:
                continue
            if timed.show_s != next(expected, None):
                raise Astray
            yield from _decoded(reader, reader.add(timed))
            if reader.done:
                break
        else:
            if video.bad or next(expected, None) is not None:
                raise Astray
            reader.note(steady.last_s)
            yield from _decoded(reader, reader.finish())
        warnings += reading_notes(video, reader)


def _decoded(reader: FrameReader[P], images: list[P | None]) -> list[P | None]:
    """The same, where every keyframe that was wanted could be decoded."""
    if reader.others_wanted:
        raise Astray
    return images
