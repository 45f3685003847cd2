"""The sound of a recording as samples on the room's clock, decoded as its packets come.

What it gives depends on the packets and their order alone, so that a room that is watched has the
samples of its recording, to the bit. The rules:

- Sound is placed by its stamps at the start of a run, and by counting samples from there on: stamps
  are rounded. Where a stamp lies more than JUMP_S from the count, a new run begins.
- Where there was no sound, there is silence. Sound that lies before the end of what came already is
  left out, as is all before the room begins.
- Where no sound has come for LATE_S, there was none: it would come too late for a live room, too.
  Where the recording has no stream of sound, that is known at once.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.packet import Packet
from numpy.typing import NDArray

from contentctr.rooms.samples import RATE as RATE
from contentctr.rooms.video import TimedPacket, Video

JUMP_S = 0.1
"""ffmpeg has the same bound."""
LATE_S = 5.0
"""Muxers put sound this far behind its pictures at most."""
_TOLD_S = 1.0
"""Less sound than this left out is rounding of stamps."""
_RATES = (1000, 768_000)
_LONGEST_S = 30.0
"""Frames of other rates, or longer ones, are damage: made into 16 kHz, they would fill memory."""


class SoundReader:
    """The sound of a recording, from its packets as they come; mono, 16 kHz.

    Args:
        video: the recording, whose every packet `add` is to be given.
    """

    def __init__(self, video: Video) -> None:
        self.bad = 0
        """Packets and frames that could not be decoded."""
        self.left_out_s = 0.0
        """Sound that lay before the end of what had come."""
        self._video = video
        self._samples: deque[tuple[int, NDArray[np.int16]]] = deque()
        """What is still held: the number of the first sample of each piece, and the piece."""
        self._end = 0
        """All samples before this one are known."""
        self._ended = False
        self._last: Packet[Any] | None = None
        self._resampler: AudioResampler | None = None
        self._form: tuple[str, str, int] | None = None
        """Format, layout and rate of the run."""
        self._start_s = 0.0
        """When the run begins."""
        self._count = 0
        """Its samples, as the decoder gave them."""
        self._next = 0
        """The number of the sample that the resampler gives next."""

    @property
    def known_s(self) -> float:
        """Up to when the sound is known; what comes later does not change it."""
        return math.inf if self._ended else self._end / RATE

    def add(self, timed: TimedPacket) -> None:
        """Take one more packet, of sound or of pictures."""
        if timed.is_heard:
            if self._last is not None and self._last.stream is not timed.packet.stream:
                self._drain()
            self._last = timed.packet
            self._decode(timed.packet)
        # Where there is no stream of sound at all, a live room has nothing to wait for.
        late_s = 0.0 if self._video.heard is None else LATE_S
        gone = math.floor((self._video.now_s - late_s) * RATE)
        if gone > self._end:
            self._end_run()
            self._end = max(self._end, gone)

    def finish(self) -> None:
        """No more packets come: after what there is, there is silence."""
        self._drain()
        self._ended = True

    def take(self, start_s: float, end_s: float) -> NDArray[np.float32]:
        """The samples of [start_s, end_s), seconds of the room; silence where there was no sound.

        Args:
            start_s: may be below 0, where there is silence, but not before `drop_before`.
            end_s: at most `known_s`.
        """
        assert start_s <= end_s <= self.known_s
        first, end = round(start_s * RATE), round(end_s * RATE)
        taken = np.zeros(end - first, np.float32)
        for at, piece in self._samples:
            begin, stop = max(at, first), min(at + len(piece), end)
            if begin < stop:
                taken[begin - first : stop - first] = piece[begin - at : stop - at]
        return taken / np.float32(1 << 15)

    def drop_before(self, start_s: float) -> None:
        """Forget the sound before a time."""
        first = round(start_s * RATE)
        while self._samples and self._samples[0][0] + len(self._samples[0][1]) <= first:
            self._samples.popleft()

    def _decode(self, packet: Packet[Any] | None) -> None:
        """Decode a packet, or what its decoder still holds of the last one."""
        assert self._last is not None
        try:
            frames: list[AudioFrame] = self._last.stream.codec_context.decode(packet)
        except (av.error.FFmpegError, OSError):
            self.bad += 1
            return
        for frame in frames:
            if not _is_sound(frame):
                self.bad += 1
                continue
            self._place(frame)

    def _drain(self) -> None:
        if self._last is not None:
            self._decode(None)
        self._end_run()

    def _place(self, frame: AudioFrame) -> None:
        form = frame.format.name, frame.layout.name, frame.sample_rate
        next_s = self._start_s + self._count / frame.sample_rate
        at_s = next_s
        if frame.pts is not None and frame.time_base is not None:
            at_s = float(frame.pts * frame.time_base)
        if self._resampler is None or form != self._form or abs(at_s - next_s) > JUMP_S:
            self._end_run()
            self._resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
            self._form, self._start_s, self._count = form, at_s, 0
            self._next = round(at_s * RATE)
        self._count += frame.samples
        self._resample(frame)

    def _end_run(self) -> None:
        if self._resampler is not None:
            self._resample(None)
        self._resampler = None

    def _resample(self, frame: AudioFrame | None) -> None:
        assert self._resampler is not None
        if frame is not None:
            frame.pts = None  # the samples are counted here
        try:
            pieces = self._resampler.resample(frame)
        except (av.error.FFmpegError, OSError, ValueError):
            self.bad += 1
            self._resampler = None
            return
        for piece in pieces:
            if piece is not None:  # what there is nothing to do for gives back the flush itself
                self._write(np.asarray(piece.to_ndarray()[0], np.int16))

    def _write(self, samples: NDArray[np.int16]) -> None:
        at, self._next = self._next, self._next + len(samples)
        cut = min(max(self._end - at, 0), len(samples))
        if at >= 0:
            self.left_out_s += cut / RATE
        if cut < len(samples):
            # A copy: the frame's memory is FFmpeg's.
            self._samples.append((at + cut, samples[cut:].copy()))
            self._end = self._next


def own_length(start_s: float, end_s: float) -> int:
    """How many samples `SoundReader.take` gives."""
    return round(end_s * RATE) - round(start_s * RATE)


def sound_warnings(name: Path | str, reader: SoundReader) -> list[str]:
    """What a user should know of a recording's sound, all of which was read."""
    notes = []
    if reader.bad:
        notes.append(f"{name}: {reader.bad} packets of its sound could not be decoded")
    if reader.left_out_s > _TOLD_S:
        notes.append(
            f"{name}: {reader.left_out_s:.1f} s of its sound are left out: they lie before the end "
            "of what had come"
        )
    return notes


def _is_sound(frame: AudioFrame) -> bool:
    low, high = _RATES
    return low <= frame.sample_rate <= high and frame.samples <= _LONGEST_S * frame.sample_rate
