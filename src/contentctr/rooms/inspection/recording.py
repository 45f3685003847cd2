"""A recording, by one reading of its packets: streams, clock, where pictures and sound are.

Nothing is decoded but the first picture; what is kept grows by three numbers a second.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np
from av.stream import Disposition

from contentctr.progress import Progress, progress_bar
from contentctr.rooms.clock import PICTURE
from contentctr.rooms.frames import HOLD_S, LAST_S
from contentctr.rooms.inspection.coverage import Spans, without
from contentctr.rooms.inspection.facts import Floats, RecordingFacts, StreamFacts
from contentctr.rooms.media import read_through
from contentctr.rooms.video import TimedPacket, Video

_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
_QUIET_S = 1.0
"""A pause between packets of sound that parts two stretches of it."""
_MAX_S = 31 * 86400
"""Seconds counted one by one at most, whatever a file claims."""
_MB = 1 << 20
_EARLY = 0.8
"""A keyframe earlier than this share of the usual time was put where the picture changed."""
_SOME_KEYS = 5000
"""Times between keyframes that are kept for what is usual."""


def inspect_recording(path: Path, *, show_progress: bool = False) -> RecordingFacts:
    """Read a recording from start to end, undecoded but for its first picture.

    Args:
        path: its file.
        show_progress: show a bar.

    Raises:
        InputError: it is missing, cannot be opened, or has neither pictures nor sound.
    """
    size = path.stat().st_size if path.is_file() else 0
    with Video(path) as video:
        # By what is open at first: of joined files, the later ones follow it.
        container, streams = _container(video), _streams(video)
        with progress_bar(f"{path.name}, MB", size // _MB, show=show_progress) as bar:
            tracker = _Tracker(bar)
            info = read_through(video, sound_alone=True, each=tracker.add)
        # What comes before the first keyframe cannot be decoded.
        first_s = 0.0 if info.first_s is None else info.first_s
        unseen = [(-_MAX_S, first_s), *video.clock.holes]
        return RecordingFacts(
            path=path,
            container=container,
            streams=streams,
            duration_s=info.duration_s,
            width=info.width,
            height=info.height,
            rotation=info.rotation,
            pictures_s=_bounds(info.first_s, video.clock.end_s(PICTURE)),
            sound_s=_bounds(video.sound_begin_s(), video.sound_end_s()),
            keyframe_every_s=tracker.usual_key_s(),
            frame_rate=tracker.frame_rate(),
            bad_packets=video.bad,
            clock=[str(each) for each in video.clock.breaks],
            warnings=list(info.warnings),
            picture_spans=without(tracker.pictures.found, unseen),
            sound_spans=without(tracker.sound.found, video.clock.holes),
            picture_activity=tracker.picture_bytes.values(),
            cuts=tracker.cuts(),
            sound_activity=tracker.sound_bytes.values(),
        )


def _bounds(begin_s: float | None, end_s: float | None) -> tuple[float, float] | None:
    return None if begin_s is None or end_s is None else (begin_s, end_s)


class _Seconds:
    """A sum a second of the room."""

    def __init__(self) -> None:
        self._sums = array("d")

    def add(self, at_s: float, value: float) -> None:
        place = int(at_s)
        if not 0 <= place < _MAX_S:
            return
        if place >= len(self._sums):
            self._sums.extend([0.0] * (place + 1 - len(self._sums)))
        self._sums[place] += value

    def values(self) -> Floats:
        return np.array(self._sums, dtype=np.float64)


class _Tracker:
    """What is counted of the packets as they pass."""

    def __init__(self, bar: Progress) -> None:
        self.pictures, self.sound = Spans(HOLD_S), Spans(_QUIET_S)
        self.picture_bytes, self.sound_bytes = _Seconds(), _Seconds()
        self._bar, self._bytes = bar, 0
        self._count = 0
        self._keys = array("d")
        """When keyframes are shown."""

    def add(self, timed: TimedPacket) -> None:
        packet, at_s = timed.packet, timed.show_s
        length_s = float((packet.duration or 0) * packet.time_base)
        self._count_bytes(packet.size)
        if not timed.is_picture:
            self.sound.add(at_s, at_s + length_s)
            self.sound_bytes.add(at_s, packet.size)
            return
        self._count += 1
        self.pictures.add(at_s, at_s + min(max(length_s, 1 / 1000), LAST_S))
        if packet.is_keyframe:
            if len(self._keys) < _MAX_S:
                self._keys.append(at_s)
        else:
            self.picture_bytes.add(at_s, packet.size)

    def _count_bytes(self, size: int) -> None:
        before, self._bytes = self._bytes, self._bytes + size
        if steps := self._bytes // _MB - before // _MB:
            self._bar.advance(steps)

    def frame_rate(self) -> float:
        covered_s = sum(end - start for start, end in self.pictures.found)
        return self._count / covered_s if covered_s > 0 else 0.0

    def usual_key_s(self) -> float | None:
        # The longest usual one: cuts only shorten the time to the next keyframe.
        steps = np.diff(np.array(self._keys[:_SOME_KEYS], dtype=np.float64))
        steps = steps[steps > 0]
        return float(np.quantile(steps, 0.9)) if steps.size else None

    def cuts(self) -> Floats:
        found, usual_s = _Seconds(), self.usual_key_s()
        if usual_s is not None:
            keys = np.array(self._keys, dtype=np.float64)
            for at_s in keys[1:][np.diff(keys) < _EARLY * usual_s]:
                found.add(float(at_s), 1.0)
        return found.values()


def _container(video: Video) -> str:
    assert video.container is not None
    found = video.container.format
    return f"{found.long_name or found.name} ({found.name})"


def _streams(video: Video) -> list[StreamFacts]:
    assert video.container is not None
    used = {s.index: "its sound: a clock beside the pictures'" for s in video.sounds}
    if video.picture is not None:
        used[video.picture.index] = "the room's pictures"
    return [_stream(stream, used.get(stream.index)) for stream in video.container.streams]


def _stream(stream: Any, use: str | None) -> StreamFacts:
    context = stream.codec_context
    cover = bool(stream.disposition & _COVERS)
    if use is None:
        use = "not read"
        if context is None and stream.type in ("video", "audio"):
            use += ": no decoder for it"
        elif cover:
            use += ": a cover"
        elif stream.type == "video":
            use += ": another stream is the default, larger, or moves"
    language = getattr(stream, "language", None)
    details = [] if context is None else _details(stream, context)
    if language not in (None, "und"):
        details.append(language)
    return StreamFacts(
        index=stream.index,
        kind=stream.type or "data",
        codec="" if context is None else context.name,
        details=", ".join(details),
        default=bool(stream.disposition & Disposition.default),
        cover=cover,
        use=use,
    )


def _details(stream: Any, context: Any) -> list[str]:
    found = []
    if stream.type == "video":
        # What the header says: the room's own size is that of the first decoded picture.
        if context.width and context.height:
            found.append(f"{context.width}x{context.height}")
        if stream.average_rate:
            found.append(f"{float(stream.average_rate):.4g} a second")
    elif stream.type == "audio":
        if context.sample_rate:
            found.append(f"{context.sample_rate} Hz")
        if context.layout is not None and context.layout.name:
            found.append(context.layout.name)
    return found
