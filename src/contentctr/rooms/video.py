"""A video file: packets, keyframes, and the frame shown at a time.

Works for files without an index, with a start other than 0, and with damage: what cannot be read
or decoded is counted, not raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from PIL import Image

from contentctr.errors import InputError

_NEAR_S = 1.0
"""A frame this close is decoded on to; looking for a keyframe would not pay."""
_LAST_SHOWN_S = 1.0
"""The last frame counts as shown for so long, where its own duration is shorter or unknown."""


class Video:
    """An open video file, its first real video stream, and times in seconds of that stream."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad = 0
        """Packets that could not be read or decoded."""
        self._open()

    def _open(self) -> None:
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such video file")
        try:
            # Of a relative name with a colon FFmpeg takes what stands before it for a protocol.
            name = str(self.path.absolute())
            self.container: InputContainer = av.open(name, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.path}: cannot be opened as a video ({reason})") from None
        streams = [
            s
            for s in self.container.streams.video
            if not s.disposition & Disposition.attached_pic and s.codec_context is not None
        ]
        if not streams or streams[0].time_base is None:
            self.container.close()
            raise InputError(f"{self.path}: has no video stream (sound only?)")
        self.stream = streams[0]
        self.stream.thread_type = "AUTO"
        self.time_base: Fraction = streams[0].time_base
        self.origin = self.stream.start_time

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def origin_s(self) -> Fraction:
        """Where the video stream starts, on the file's own clock."""
        return (self.origin or 0) * self.time_base

    def stamp(self, seconds: float) -> int:
        """Timestamp of a time; rounded down, but not for want of a float's last digits."""
        return math.floor(round(seconds / self.time_base, 6)) + (self.origin or 0)

    def seconds(self, packet: Packet[Any], *, decode: bool = False) -> float:
        """When a packet of any stream is shown (or decoded)."""
        stamps = (packet.dts, packet.pts) if decode else (packet.pts, packet.dts)
        stamp = stamps[0] if stamps[0] is not None else stamps[1]
        return float((stamp or 0) * packet.time_base - self.origin_s)

    def packets(self, *streams: Stream) -> Iterator[Packet[Any]]:
        """Packets from here on, of the video stream unless told; a fault ends and counts them."""
        demuxed = self.container.demux(*(streams or (self.stream,)))
        while True:
            try:
                packet = next(demuxed)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError):
                self.bad += 1
                return
            if packet.pts is not None or packet.dts is not None:
                yield packet

    def seek(self, stamp: int) -> bool:
        """Go to a keyframe at or before a timestamp, as far as the container knows one."""
        try:
            self.container.seek(stamp, stream=self.stream, backward=True)
        except (av.error.FFmpegError, OSError):
            return False
        return True

    def keyframe_before(self, stamp: int) -> tuple[int, int] | None:
        """The last keyframe at or before a timestamp, and the timestamp that a seek needs for it.

        Containers search by decoding time or by a coarse index, so the first answer can lie
        behind the wanted time: then ask for earlier ones. None: not by seeking.
        """
        ask, step = stamp, max(round(_NEAR_S / self.time_base), 1)
        while self.seek(ask):
            first = next((p for p in self.packets() if p.is_keyframe and p.pts is not None), None)
            if first is not None and first.pts is not None and first.pts <= stamp:
                return first.pts, ask
            if ask <= (self.origin or 0):
                return None
            ask, step = max(ask - step, self.origin or 0), step * 2
        return None

    def seek_keyframe(self, seconds: float) -> float:
        """Go to the last keyframe at or before a time; returns that keyframe's time."""
        stamp = self.stamp(seconds)
        key = self.keyframe_before(stamp)
        if key is not None and self.seek(key[1]):
            return float((key[0] - (self.origin or 0)) * self.time_base)
        at = 0.0
        self.reopen()
        for packet in self.packets():
            if packet.is_keyframe and packet.pts is not None and packet.pts <= stamp:
                at = self.seconds(packet)
        self.reopen()
        return at

    def reopen(self) -> None:
        """Go back to the start, without seeking."""
        origin = self.origin
        self.container.close()
        self._open()
        self.origin = origin

    def claimed_s(self) -> float | None:
        """The length that the header claims; None if it does not."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        if self.container.duration:
            return self.container.duration / av.time_base
        return None

    def end_s(self, claimed_s: float | None) -> float:
        """Where the last frame ends, from the packets after the last keyframe."""
        key = None if claimed_s is None else self.keyframe_before(self.stamp(claimed_s))
        if key is None or not self.seek(key[1]):
            self.reopen()
        last = step = 0.0
        for packet in self.packets():
            last = max(last, self.seconds(packet))
            step = float((packet.duration or 0) * packet.time_base) or step
        return last + (step or self.frame_s())

    def frame_s(self) -> float:
        """Length of a frame by the stream's rate; 0 if it has none."""
        return float(1 / self.stream.average_rate) if self.stream.average_rate else 0.0


class Player:
    """Decodes forward, and jumps only where a keyframe lies ahead of what is decoded already."""

    def __init__(self, video: Video, scout: Video) -> None:
        self._video, self._scout = video, scout
        self._frames = self._decoded()
        self._shown: VideoFrame | None = None
        self._next = next(self._frames, None)
        if video.origin is None and self._next is not None:
            video.origin = scout.origin = self._next.pts
        self._can_seek = True

    def at(self, seconds: float) -> VideoFrame | None:
        """The frame shown at a time no earlier than the last one asked for."""
        target = self._video.stamp(seconds)
        at = self._next or self._shown
        if at is None:
            return None
        assert at.pts is not None
        if self._can_seek and target - at.pts > _NEAR_S / self._video.time_base:
            self._jump(target, at.pts)
        self._advance(target)
        if self._shown is None:
            return self._next
        if self._next is None and seconds >= self.end_s():
            return None
        return self._shown

    def end_s(self) -> float:
        """How long the last decoded frame is shown, in seconds from the start."""
        if self._shown is None or self._shown.pts is None:
            return 0.0
        start = float((self._shown.pts - (self._video.origin or 0)) * self._video.time_base)
        own = float(self._shown.duration * self._video.time_base)
        return start + max(own, self._video.frame_s(), _LAST_SHOWN_S)

    def _advance(self, target: int) -> None:
        while self._next is not None and _pts(self._next) <= target:
            self._shown, self._next = self._next, next(self._frames, None)

    def _jump(self, target: int, at: int) -> None:
        key = self._scout.keyframe_before(target)
        if key is None or key[0] <= at or not self._video.seek(key[1]):
            return
        before = self._shown, self._next
        self._frames = self._decoded(key[0])
        self._shown, self._next = None, next(self._frames, None)
        if self._next is None:
            # Nothing decodes from there on: what was shown before is the last picture.
            self._shown = before[1] or before[0]
        elif _pts(self._next) > target:
            # The two openings of the file do not seek alike: decode from the start instead.
            self._can_seek = False
            self._video.reopen()
            self._frames = self._decoded()
            self._shown, self._next = None, next(self._frames, None)

    def _decoded(self, since: int | None = None) -> Iterator[VideoFrame]:
        """Frames from here on; after a jump, from the keyframe at `since` on."""
        waiting = since is not None
        for packet in self._video.packets():
            waiting = waiting and not packet.is_keyframe
            if not waiting:
                yield from self._try(packet.decode, since)
        yield from self._try(self._video.stream.decode, since)

    def _try(self, decode: Callable[[], list[VideoFrame]], since: int | None) -> list[VideoFrame]:
        try:
            frames = decode()
        except (av.error.FFmpegError, OSError):
            self._video.bad += 1
            return []
        # Frames before the keyframe refer to pictures that the jump skipped.
        return [f for f in frames if f.pts is not None and (since is None or f.pts >= since)]


def picture(frame: VideoFrame) -> Image.Image:
    """A decoded frame in RGB."""
    image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    return image


def _pts(frame: VideoFrame) -> int:
    assert frame.pts is not None
    return frame.pts
