"""Which picture of a recording is shown when, decoding no more of it than that takes.

The picture at a time is the last one that begins at or before it. By these rules it may be another,
or none:

- Before the first picture that can be decoded, that one stands, for at most HOLD_S.
- A picture stands until the next, but where the next comes later than HOLD_S after it, or never,
  it stands for its own length, at least LAST_S, and then there is none: the pictures have gone. Nor
  is there one in a hole of the clock.
- Where a picture cannot be decoded, the one before it stands for it, for at most DAMAGED_S.
- `keyframe`: the last keyframe at or before the time, where that is at most KEYFRAME_S old.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Generic, TypeVar

import av
from av.packet import Packet
from av.video.frame import VideoFrame

from contentctr.config import FrameChoice
from contentctr.rooms.clock import PICTURE
from contentctr.rooms.video import GUESSED_FRAMES, TimedPacket, Turns, Video, picture

P = TypeVar("P")
"""A picture, as it is wanted."""
Make = Callable[[VideoFrame, Turns], P]

HOLD_S = 60.0
"""The longest that a picture stands in for others."""
LAST_S = 1.0
"""The last picture is shown so long, where its own length is shorter or unknown."""
KEYFRAME_S = 20.0
"""A keyframe this old at most stands in for the exact frame."""
DAMAGED_S = 5.0
"""A picture stands this long at most for one that cannot be decoded."""
PENDING_BYTES = 64 << 20
"""Packets that wait undecoded take no more memory than this."""
_FIELD_S = 0.1
EPS_S = 1e-6
"""Times are floats, stamps were fractions."""


class Decoder:
    """Decodes packets of pictures, of which any may be skipped; counts what cannot be decoded.

    Args:
        in_a_row: whether many pictures are decoded one after the other, by threads then.
    """

    def __init__(self, *, in_a_row: bool = False) -> None:
        self.bad = 0
        # Threads of one picture each gain nothing for lone pictures, and FFmpeg's VP9 crashes with
        # them where a damaged keyframe is decoded, drained and decoded again.
        self._threads = "AUTO" if in_a_row else "SLICE"
        self._parameters: Any = None

    def skip(self, packet: Packet[Any]) -> None:
        """Leave out a packet, but not the parameters that it may bring for those after it."""
        # FLV tells once, in the stream, that the pictures' size changes.
        if packet.has_sidedata("new_extradata"):
            self._parameters = packet.get_sidedata("new_extradata")

    def decode(
        self, packet: Packet[Any], *, afresh: bool = False, wanted: bool = True
    ) -> list[VideoFrame]:
        """Frames that come out after a packet.

        Args:
            packet: the next one in the file.
            afresh: whether it follows on none that came before.
            wanted: whether its picture is; else it need not be decoded if no other refers to it.
        """
        context = packet.stream.codec_context
        if self._parameters is not None and not packet.has_sidedata("new_extradata"):
            packet.set_sidedata(self._parameters)
        self._parameters = None
        if not context.is_open:
            context.thread_type = self._threads
        elif afresh:
            context.flush_buffers()
        # Of other codecs than H.264, FFmpeg also skips pictures to which some do refer.
        context.skip_frame = "DEFAULT" if wanted or context.name != "h264" else "NONREF"
        return self._try(context, packet)

    def drain(self, packet: Packet[Any]) -> list[VideoFrame]:
        """Frames that a packet's decoder still holds; what it decodes next must begin afresh."""
        return self._try(packet.stream.codec_context, None)

    def _try(self, context: Any, packet: Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames: list[VideoFrame] = context.decode(packet)
        except (av.error.FFmpegError, OSError):
            self.bad += 1
            return []
        return frames


class FrameReader(Generic[P]):
    """Pictures at ascending times, from a recording's packets as they come.

    Args:
        video: the recording; `add` is to be given what its `packets` gives.
        times: seconds of the room, ascending.
        frames: which picture stands for a time.
        make: a picture of a frame, as it is wanted.
        more: whether `extend` may give more times, so that no packet is too early.
    """

    def __init__(
        self,
        video: Video,
        times: Iterable[float],
        *,
        frames: FrameChoice = "exact",
        make: Make[P] = picture,  # type: ignore[assignment]
        more: bool = False,
    ) -> None:
        self.decoder = Decoder(in_a_row=frames == "exact")
        self.missing = 0
        """Times for which there was no picture."""
        self.others_wanted = False
        """Whether a keyframe could not stand for a time, so that others were decoded."""
        self._video, self._frames, self._make = video, frames, make
        self._times = iter(times)
        self._target = next(self._times, -math.inf if more else None)
        self._more, self._waits = more, self._target == -math.inf
        """Whether more times may be given, and whether those there are have been told."""
        self._known_s = -math.inf
        """All pictures up to here have come."""
        self._pending: deque[tuple[float, Packet[Any]]] = deque()
        """Packets not decoded yet, with when they are shown; from a keyframe on, or going on from
        what the decoder has."""
        self._bytes = 0
        self._afresh = True
        """Whether they begin afresh."""
        self._begun = False
        """Whether a keyframe has come: what is before the first cannot be decoded."""
        self._ended = False
        self._current_s: float | None = None
        """When the picture of the target begins, by the packets."""
        self._later: list[float] = []
        """When pictures after it begin, as a heap."""
        self._shown: tuple[float, VideoFrame] | None = None
        """The last decoded frame at or before the target."""
        self._ahead: deque[tuple[float, VideoFrame]] = deque()
        """Decoded frames after it, by time."""
        self._decoded_s = -math.inf
        """The latest of them all since the decoder began afresh."""
        self._since_s = -math.inf
        """Frames before this refer to pictures that were skipped."""
        self._key_s: float | None = None
        """The keyframe at the head of the pending packets, if it was decoded alone."""
        self._fed: Packet[Any] | None = None
        self._image: tuple[VideoFrame, P] | None = None
        self._turns: Turns = {}

    @property
    def done(self) -> bool:
        """Whether there is a picture, or none, for every time."""
        return self._target is None

    def add(self, timed: TimedPacket) -> list[P | None]:
        """The pictures, RGB and upright, of the times that can be told with one more packet."""
        if self._target is None or not timed.is_picture:
            return []
        self._queue(timed)
        # What is decoded later is shown later: all pictures up to here have come.
        images = self._told(math.inf if self._video.guessed else timed.decode_s - EPS_S)
        while self._bytes > PENDING_BYTES and not self._waits:
            self._decode_next()
        return images

    def extend(self, times: Iterable[float]) -> list[P | None]:
        """Take more times, after those before; the pictures of all that can be told by now."""
        assert self._more
        self._times = chain(self._times, times)
        if self._waits:
            self._advance()
        return self._told(self._known_s)

    def until(self, now_s: float) -> list[P | None]:
        """The pictures of times that can be told because none came up to `now_s`."""
        if self._target is None or self._later or now_s - HOLD_S <= (self._current_s or 0.0):
            return []
        self._ended = True
        images = self._told(now_s - HOLD_S)
        self._ended = False
        return images

    def note(self, show_s: float) -> None:
        """Know of a picture whose packet does not come."""
        if self._target is not None:
            self._count(show_s)

    def finish(self) -> list[P | None]:
        """The pictures of all other times: no more packets come."""
        self._ended = True
        return self._told(math.inf)

    def _told(self, known_s: float) -> list[P | None]:
        images = []
        self._known_s = max(self._known_s, known_s)
        while self._target is not None and not self._waits and self._target < known_s:
            disorder = self._video.guessed and len(self._later) < GUESSED_FRAMES
            if (disorder and not self._ended) or not self._decode(self._target):
                break
            images.append(self._show(self._target))
            self._advance()
        return images

    def _queue(self, timed: TimedPacket) -> None:
        assert self._target is not None
        at_s, packet = timed.show_s, timed.packet
        if packet.is_keyframe and (not self._begun or at_s <= self._target + EPS_S):
            self._skip(len(self._pending))
            self._begun = True
        self._pending.append((at_s, packet))
        self._bytes += packet.size
        if self._begun:
            self._count(at_s)

    def _count(self, at_s: float) -> None:
        assert self._target is not None
        if at_s > self._target + EPS_S:
            heapq.heappush(self._later, at_s)
        elif self._current_s is None or at_s > self._current_s:
            self._current_s = at_s

    def _begin(self) -> None:
        """Try to decode without a keyframe: none has come for too long."""
        self._begun = True
        for at_s, _ in self._pending:
            self._count(at_s)

    def _skip(self, count: int) -> None:
        """Leave out the first pending packets: the one after them is a keyframe."""
        for _ in range(count):
            _, packet = self._pending.popleft()
            self._bytes -= packet.size
            self.decoder.skip(packet)
        self._afresh, self._key_s = True, None

    def _advance(self) -> None:
        """Go to the next time; what it needs begins with the last keyframe before it."""
        target = next(self._times, None)
        self._waits = target is None and self._more
        if self._waits:
            return
        self._target = target
        if self._target is None:
            self._pending.clear()
            return
        now_s = self._target + EPS_S
        while self._later and self._later[0] <= now_s:
            self._current_s = heapq.heappop(self._later)
        while self._ahead and self._ahead[0][0] <= now_s:
            self._shown = self._ahead.popleft()
        keys = (
            place
            for place in range(len(self._pending) - 1, 0, -1)
            if self._pending[place][1].is_keyframe and self._pending[place][0] <= now_s
        )
        if (place := next(keys, None)) is not None:
            self._skip(place)

    def _is_missing(self, at_s: float) -> bool:
        """Whether the pictures had gone by then, by the packets."""
        if any(begin + LAST_S <= at_s < end for begin, end in self._video.clock.holes):
            return True
        later_s = self._later[0] if self._later else math.inf
        if self._current_s is None:
            return later_s - at_s > HOLD_S
        if later_s - self._current_s <= HOLD_S:
            return False
        end_s = self._video.clock.end_s(PICTURE) if later_s == math.inf else None
        return at_s >= max(self._current_s + LAST_S, end_s or 0.0)

    def _decode(self, at_s: float) -> bool:
        """Decode until the picture of a time is there; False if more packets are needed."""
        if not self._begun:
            newest_s = self._pending[-1][0] if self._pending else -math.inf
            if not self._ended and newest_s - at_s <= HOLD_S:
                return False
            self._begin()
        if self._is_missing(at_s):
            return True
        if self._frames == "keyframe":
            if self._decode_keyframe(at_s):
                return True
            self.others_wanted = True
        while not self._has(self._current_s):
            if self._pending:
                self._decode_next()
            elif self._ended:
                if self._fed is not None:
                    self._collect(self.decoder.drain(self._fed), self._fed)
                    self._afresh = True
                return True
            else:
                return False
        return True

    def _has(self, want_s: float | None) -> bool:
        if want_s is None:  # the first picture is wanted, whichever it is
            return self._shown is not None or bool(self._ahead)
        return self._decoded_s >= want_s - EPS_S

    def _decode_keyframe(self, at_s: float) -> bool:
        """Decode the keyframe at the head of what is pending, if it can stand for the time."""
        if not (self._afresh and self._pending and self._pending[0][1].is_keyframe):
            return False
        key_s, packet = self._pending[0]
        if at_s - key_s > KEYFRAME_S:
            return False
        if self._key_s != key_s:
            frames = self.decoder.decode(packet, afresh=True)
            self._start(key_s)
            self._collect([*frames, *self.decoder.drain(packet)], packet)
            self._key_s = key_s
        return self._has(key_s)

    def _decode_next(self) -> None:
        at_s, packet = self._pending.popleft()
        self._bytes -= packet.size
        if self._fed is not None and not self._afresh and packet.stream is not self._fed.stream:
            self._collect(self.decoder.drain(self._fed), self._fed)
            self._turns.clear()
        afresh, self._afresh = self._afresh, False
        if afresh:
            self._start(at_s)
        # Two fields of a picture may be two packets: the one just before a wanted one is too.
        wanted = self._current_s is None or at_s > self._current_s - _FIELD_S
        self._collect(self.decoder.decode(packet, afresh=afresh, wanted=wanted), packet)
        self._fed = packet

    def _start(self, at_s: float) -> None:
        self._ahead.clear()
        self._since_s, self._decoded_s = at_s, -math.inf

    def _collect(self, frames: list[VideoFrame], packet: Packet[Any]) -> None:
        assert self._target is not None
        base_s = float(packet.time_base)
        for frame in frames:
            at_s = None if frame.pts is None else frame.pts * base_s
            if at_s is None or at_s < self._since_s - EPS_S:
                continue
            self._decoded_s = max(self._decoded_s, at_s)
            if at_s <= self._target + EPS_S:
                self._shown = at_s, frame
            else:
                self._ahead.append((at_s, frame))

    def _show(self, at_s: float) -> P | None:
        found = self._found(at_s)
        if found is None or self._is_missing(at_s):
            self.missing += 1
            return None
        if self._image is None or self._image[0] is not found:
            self._image = found, self._make(found, self._turns)
        return self._image[1]

    def _found(self, at_s: float) -> VideoFrame | None:
        if self._shown is not None:
            # Where the right one cannot be decoded, an earlier one stands for it, but not for long.
            bound_s = KEYFRAME_S if self._frames == "keyframe" else DAMAGED_S
            wanted_s = at_s if self._current_s is None else self._current_s
            return self._shown[1] if wanted_s - self._shown[0] <= bound_s else None
        if self._ahead and self._ahead[0][0] - at_s <= HOLD_S:
            return self._ahead[0][1]
        return None


def reading_notes(video: Video, reader: FrameReader[Any]) -> list[str]:
    """What the user should know once a recording's pictures were read."""
    notes = []
    if bad := video.bad + reader.decoder.bad:
        notes.append(f"{video.path}: {bad} packets could not be read or decoded")
    if reader.missing:
        end_s = video.clock.end_s(PICTURE) or 0.0
        notes.append(
            f"{video.path}: {reader.missing} frames asked for are missing; its pictures end at "
            f"{end_s:.1f} s"
        )
    return notes
