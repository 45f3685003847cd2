"""What a first reading found of a recording with one unbroken clock, so that less is read again.

Reading packets, most of which only tell the time, takes longer than decoding a picture now and
then. In an MP4 whose clock is known, the pictures come without the sound, and keyframes alone.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contentctr.rooms.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Steady:
    """A recording of one clock, all of which was read without a fault."""

    clock: Clock
    offset_s: float
    """What makes the file's stamps the room's."""
    keys_s: Sequence[float]
    """When keyframes are shown, in the order of the file."""
    last_s: float
    """When the last picture is shown."""
    group_bytes: int
    """The largest packets from one keyframe to the next, together."""
    state: tuple[int, int]
    """The file's size and time of change."""

    def is_of(self, path: Path) -> bool:
        """Whether a file is still the one that was read."""
        return _state(path) == self.state


class Survey:
    """Gathers that while a recording is read for the first time."""

    def __init__(self) -> None:
        self._keys = array("d")
        self._last_s = 0.0
        self._bytes = self._most = 0

    def add(self, show_s: float, size: int, *, is_key: bool) -> None:
        """Take the next picture.

        Args:
            show_s: when it is shown.
            size: of its packet, in bytes.
            is_key: whether it is a keyframe.
        """
        if is_key:
            self._keys.append(show_s)
            self._bytes = 0
        self._bytes += size
        if self._bytes > self._most:
            self._most = self._bytes
        if show_s > self._last_s:
            self._last_s = show_s

    def steady(self, path: Path, clock: Clock, offset_s: float) -> Steady:
        """What was found, once all was read.

        Args:
            path: the recording.
            clock: its clock.
            offset_s: the one offset of all its packets.
        """
        return Steady(
            clock=clock,
            offset_s=offset_s,
            keys_s=self._keys,
            last_s=self._last_s,
            group_bytes=self._most,
            state=_state(path),
        )


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change of a file."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
