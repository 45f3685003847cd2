"""A room's segments with their pictures, as they come.

The clock (rooms/clock.py) and the choice of pictures (rooms/frames.py) are those of offline. Where
the frames of a segment lie depends on where it ends, and the last one ends with the room. So
packets wait, undecoded, until the room has lasted as long as the segment; then no more of them is
decoded than its frames take.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from PIL import Image

from contentctr.batch import DataSpec
from contentctr.live.watch.sources import Patience, open_source
from contentctr.live.watch.waiting import SourceBrokenError, Waiting
from contentctr.rooms.clock import SETTLE_S
from contentctr.rooms.frames import FrameReader
from contentctr.rooms.grid import Grid
from contentctr.rooms.media import frame_times
from contentctr.rooms.sound import SoundReader, sound_warnings
from contentctr.rooms.video import TimedPacket, Video
from contentctr.transcribe.segments import CONTEXT_S, Samples

_HELD_BYTES = 128 << 20
"""Packets that wait take no more memory: beyond it, a segment is taken for a whole one."""
_STEP_S = 1.0
"""Sound that comes right after a hole does not say that pictures have gone: they follow."""


@dataclass(frozen=True, kw_only=True)
class WatchedSegment:
    """A segment of which all has been seen."""

    index: int
    start_s: float
    end_s: float
    """Of a room's last one, where the room ends."""
    pictures: tuple[Image.Image, ...]
    """Of its frames' times; those for which there is none are left out."""
    sound: Samples | None = None
    """Of itself, where it is listened to; from WatchedVideo with CONTEXT_S before it."""
    speech: str = ""
    comments: str = ""
    """A line each, as prepared rooms have them."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What the chat tells of it: comments, and who wrote them; empty without one."""


class WatchedVideo:
    """What is watched, segment by segment, until it ends.

    The room begins with the first picture or sound that is seen. The segments are those of
    `prepare`: whole ones, and at the end what is left, if it is half of one at least; unless the
    user ends it.

    Args:
        source: of `open_source`.
        spec: length of a segment, and its frames.
        waiting: how the source is waited for.
        listen: whether its sound is wanted.
        reconnect_s: how long a stream of the network that broke is tried again.
    """

    def __init__(
        self,
        source: str,
        spec: DataSpec,
        waiting: Waiting,
        *,
        listen: bool = False,
        reconnect_s: float = 60.0,
    ) -> None:
        self.duration_s = 0.0
        """How long the room has lasted."""
        self.has_pictures = False
        """Whether a stream of pictures has been met."""
        self.has_sound = False
        """Whether sound has come."""
        self._source, self._waiting, self._frames = source, waiting, spec.frames
        self._video: Video | None = None
        self._patience = Patience(
            reconnect_s=reconnect_s,
            is_broken=lambda: self._video is not None and bool(self._video.fault),
            seen_s=lambda: self.duration_s,
        )
        self._listen = listen
        self._sound: SoundReader | None = None
        self._grid, self._per_segment = Grid(spec.segment_seconds), spec.frames_per_segment
        self._asked: deque[tuple[int, float, float]] = deque()
        """Segments whose pictures were asked for: number, start and end."""
        self._count = 0
        """How many were."""
        self._images: list[Image.Image | None] = []
        self._told = 0
        """Breaks of its clock of which the user knows."""

    def segments(self) -> Iterator[WatchedSegment]:
        """All segments, each as soon as it is whole.

        Raises:
            InputError: the source is not there, or cannot be opened.
            SourceBrokenError: it broke off, after all that came of it.
        """
        opened = open_source(self._source, self._waiting, self._patience)
        with Video(self._source, opened) as video:
            self._video = video
            reader: FrameReader[Image.Image] = FrameReader(
                video, (), frames=self._frames, more=True
            )
            self._sound = SoundReader(video) if self._listen else None
            held, quiet_s, before_s = 0, 0.0, 0.0
            for timed in self._packets(video):
                if self._sound is not None:
                    self._sound.add(timed)
                quiet_s += min(video.now_s - before_s, _STEP_S)
                before_s = video.now_s
                if timed.is_picture:
                    self._images += reader.add(timed)
                    held, quiet_s = held + timed.packet.size, 0.0
                elif quiet_s > SETTLE_S:
                    self._images += reader.until(video.now_s)
                self._note(video)
                while self.duration_s >= self._grid.start_s(self._count + 1) or held > _HELD_BYTES:
                    self._ask(reader, self._grid.start_s(self._count + 1))
                    held = 0
                yield from self._whole_segments()
            self._note(video)
            if self._sound is not None:
                self._sound.finish()
            if not self._waiting.stopped:
                self._ask_rest(reader)
            self._images += reader.finish()
            yield from self._whole_segments()
            self._finish(video, reader)

    def _packets(self, video: Video) -> Iterator[TimedPacket]:
        """Its packets; FFmpeg's own waiting for a stream of the network counts as waiting."""
        is_url, before = "://" in self._source, time.monotonic()
        for timed in video.packets():
            if is_url and time.monotonic() - before > self._waiting.poll_s:
                self._waiting.note()
            yield timed
            before = time.monotonic()

    def _note(self, video: Video) -> None:
        """Take over how far the video is, and tell what its clock did."""
        self.duration_s, self.has_pictures = video.duration_s, video.has_pictures
        self.has_sound = video.heard is not None
        for each in video.clock.breaks[self._told :]:
            self._waiting.report(f"{self._source}: {each}")
        self._told = len(video.clock.breaks)

    def _ask(self, reader: FrameReader[Image.Image], end_s: float) -> None:
        """Ask for the pictures of the next segment."""
        start_s = self._grid.start_s(self._count)
        self._asked.append((self._count, start_s, end_s))
        self._count += 1
        self._images += reader.extend(frame_times(start_s, end_s, self._per_segment))

    def _ask_rest(self, reader: FrameReader[Image.Image]) -> None:
        """Ask for the last segment, now that the room's end is known."""
        count = self._grid.count(self.duration_s)
        for _ in range(self._count, count):
            end_s = min(self._grid.start_s(self._count + 1), self.duration_s)
            self._ask(reader, end_s)
        if self._asked and self._asked[-1][0] == count - 1:
            number, start_s, end_s = self._asked.pop()
            self._asked.append((number, start_s, min(end_s, self.duration_s)))

    def _whole_segments(self) -> Iterator[WatchedSegment]:
        while self._asked and len(self._images) >= self._per_segment:
            number, start_s, end_s = self._asked[0]
            if end_s > self.duration_s or (self._sound is not None and end_s > self._sound.known_s):
                break
            self._asked.popleft()
            images = self._images[: self._per_segment]
            del self._images[: self._per_segment]
            yield WatchedSegment(
                index=number,
                start_s=start_s,
                end_s=end_s,
                pictures=tuple(image for image in images if image is not None),
                sound=self._take_sound(start_s, end_s),
            )

    def _take_sound(self, start_s: float, end_s: float) -> Samples | None:
        if self._sound is None:
            return None
        samples = self._sound.take(start_s - CONTEXT_S, end_s)
        self._sound.drop_before(end_s - CONTEXT_S)
        return samples

    def _finish(self, video: Video, reader: FrameReader[Image.Image]) -> None:
        bad = video.bad + reader.decoder.bad
        if bad:
            self._waiting.report(f"{self._source}: {bad} packets could not be read or decoded")
        if self._sound is not None:
            for line in sound_warnings(self._source, self._sound):
                self._waiting.report(line)
        if reader.missing and video.has_pictures:
            self._waiting.report(
                f"{self._source}: {reader.missing} frames asked for are missing: there are no "
                "pictures there"
            )
        if video.fault and not self._waiting.stopped:
            raise SourceBrokenError(
                f"{self._source}: broke off after {self.duration_s:.1f} s ({video.fault})"
            )
