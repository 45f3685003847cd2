"""The sound features of a room's segments, made while its packets are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contentctr.encode.sound import SoundEncoder
from contentctr.rooms.listening import SoundListener, listen
from contentctr.rooms.room import Media
from contentctr.rooms.samples import Samples
from contentctr.store.vectors import to_half


class SoundRows:
    """The features of a room's segments, filled in a pass over its packets.

    Args:
        encoder: makes them.
        spans: start and end of each segment in seconds, [S].
    """

    def __init__(self, encoder: SoundEncoder, spans: Sequence[tuple[float, float]]) -> None:
        self._encoder, self._count = encoder, 0
        self._values_SX = np.zeros((len(spans), encoder.dim), np.float32)
        self._has_S = np.zeros(len(spans), np.bool_)
        self._listener = SoundListener(spans, self._take)

    def beside(self, media: Media | None, recording: Path | None) -> SoundListener | None:
        """What listens in the pass over the pictures, where they are in the same file."""
        same = media is not None and media.kind == "video" and media.path == recording
        return self._listener if same else None

    def finish(self, recording: Path | None, warnings: list[str]) -> None:
        """Read the recording now, if no pass over it has.

        Raises:
            InputError: it cannot be read.
        """
        if recording is not None and not self._listener.begun and len(self._has_S):
            listen(recording, self._listener, warnings)

    def features(self, what: str) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Float16 [S, DIM], zeros where there is no sound; and whether there is, bool [S].

        Args:
            what: whose they are, for messages.
        """
        return to_half(self._values_SX, what), self._has_S

    def _take(self, samples: Samples) -> None:
        row, self._count = self._count, self._count + 1
        if samples.any():
            self._values_SX[row], self._has_S[row] = self._encoder(samples), True
