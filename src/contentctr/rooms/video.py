"""A recording as packets on the room's clock: its pictures and its sound, whatever the container.

The file is read once, forward, and never sought in: where its clock starts again, seeking by time
leads astray, and what FLV tells of a new picture size stands once, in the stream. Reading without
decoding costs little beside decoding. What cannot be read is counted, not raised.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from contentctr.errors import InputError
from contentctr.rooms.clock import JITTER_S, KEPT_S, PICTURE, Clock
from contentctr.rooms.containers import Containers, open_file
from contentctr.rooms.interleaved import interleaved
from contentctr.rooms.steady import Steady

_LOOK_AHEAD = 100
"""Pictures of one stream after which another that had one alone counts as a still."""
_NO_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
_GUESSED = ("matroska,webm",)
"""Containers without decoding times: FFmpeg's guesses step back by some frames."""
GUESSED_FRAMES = 5
"""So many at most; no stream reorders more."""
_NO_HEADER = ("mpegts", "mpeg", "hls")
"""Containers whose length FFmpeg makes up from stamps or a playlist."""


@dataclass(frozen=True, slots=True)
class _Track:
    """How packets of a stream are read."""

    number: int
    """To the clock."""
    base_s: float
    """Seconds of a stamp."""
    jitter_s: float
    """Of `Clock.add`."""
    is_picture: bool
    is_heard: bool


@dataclass(slots=True)
class TimedPacket:
    """A packet with its times on the room's clock, which its own stamps follow too."""

    packet: Packet[Any]
    show_s: float
    """When it is shown, in seconds of the room."""
    decode_s: float
    """When it is decoded; ascending, but for disorder in the file."""
    is_picture: bool
    is_heard: bool
    """Whether it is of the sound that is listened to: a recording may have several."""


class Video:
    """An open recording: packets of its pictures and its sound, on one clock.

    Pictures are the default video stream, else the largest; never a cover, nor a still beside a
    stream that moves. The sound that is heard is the default one, else that of the most channels.

    Args:
        path: the recording, or what to call it where `containers` are given.
        containers: what is read in place of the file, such as a stream, or a file that grows.
        steady: what the first reading of the file found: its pictures come without its sound.
        keys_alone: with that, whether no pictures come but keyframes.

    Raises:
        InputError: the file is missing, cannot be opened, or has neither pictures nor sound.
    """

    def __init__(
        self,
        path: Path | str,
        containers: Containers | None = None,
        *,
        steady: Steady | None = None,
        keys_alone: bool = False,
    ) -> None:
        self.path = path
        self.bad = 0
        """Packets that could not be read or decoded."""
        self.fault = ""
        """What ended the reading before its end; "" if nothing did."""
        self.now_s = 0.0
        """How far the room's clock is, by the packets given out."""
        self.has_pictures = False
        """Whether a stream of pictures has been met."""
        self.guessed = False
        """Whether the pictures' decoding times are guesses."""
        self.missing: list[str] = []
        """Entries of a playlist that are not there, or not in its folder."""
        if containers is None:
            containers = open_file(Path(path), missing=self.missing)
        self._containers = containers
        self.container: InputContainer | None = None
        self._count = 0
        """Streams that the clock knows by a number."""
        self._waiting: deque[tuple[int, Packet[Any], _Track]] = deque()
        self.clock = Clock() if steady is None else steady.clock
        self._steady = steady
        self._odd = False
        """Whether packets came in a way that a second reading would have to look at again."""
        try:
            first = next(self._containers)
            assert first is not None
            self._open(first)
            if steady is not None:
                self._leave_out(keys_alone)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self.container is not None:
            self.container.close()
        self._containers.close()

    @property
    def duration_s(self) -> float:
        """From the first picture or sound to the end of the last, by the packets given out."""
        ends = [self.clock.end_s(PICTURE), self.sound_end_s()]
        # Stamps are fractions: what sums of floats add to 30 s must not make it more.
        return round(max((end for end in ends if end is not None), default=0.0), 6)

    def sound_begin_s(self) -> float | None:
        """Where its sound begins, by the packets given out; None if there was none."""
        begins = (self.clock.begin_s(n) for n in range(PICTURE + 1, self._count))
        return min((begin for begin in begins if begin is not None), default=None)

    def sound_end_s(self) -> float | None:
        """Where its sound ends, by the packets given out; None if there was none."""
        ends = (self.clock.end_s(n) for n in range(PICTURE + 1, self._count))
        return max((end for end in ends if end is not None), default=None)

    def packets(self) -> Iterator[TimedPacket]:
        """All packets of its pictures and sound, in the order of the file."""
        if self._steady is not None:
            yield from self._pictures_alone(self._steady.offset_s)
            return
        for packet in self._demux_all():
            track = self._tracks.get(packet.stream_index)
            if track is None:
                continue
            session = self._tell_clock(packet, track)
            offset_s = self.clock.offset(session)
            if offset_s is not None and not self._waiting:
                yield self._timed(packet, track, offset_s)
                continue
            self._waiting.append((session, packet, track))
            while (offset_s := self._first_offset()) is not None:
                yield self._timed(*self._waiting.popleft()[1:], offset_s)
        self.clock.close()
        while (offset_s := self._first_offset()) is not None:
            yield self._timed(*self._waiting.popleft()[1:], offset_s)
        assert not self._waiting

    @property
    def only_offset_s(self) -> float | None:
        """The one offset of all packets, once they are read, of an MP4 without faults or oddities.

        None for all else.
        """
        assert self.container is not None
        # Of other containers, what is left out may change how FFmpeg dates the rest.
        is_plain = "mp4" in self.container.format.name and self.container.file is None
        if self._odd or self.bad or self.missing or self.picture is None or not is_plain:
            return None
        return self.clock.only_offset_s

    def _leave_out(self, keys_alone: bool) -> None:
        """Have FFmpeg leave out all but the pictures."""
        assert self.container is not None and self.picture is not None
        for stream in self.container.streams:
            if stream.index != self.picture.index:
                stream.discard = Discard.all
        if keys_alone:
            self.picture.discard = Discard.nonkey

    def _pictures_alone(self, offset_s: float) -> Iterator[TimedPacket]:
        """Packets of the pictures, by what the first reading found."""
        assert self.picture is not None
        track = self._tracks[self.picture.index]
        for packet in self._demux_all():
            if packet.stream_index == self.picture.index:
                yield self._timed(packet, track, offset_s)

    def _first_offset(self) -> float | None:
        """The offset of the packet that has waited longest; None if none waits or it is unknown."""
        return self.clock.offset(self._waiting[0][0]) if self._waiting else None

    def _demux_all(self) -> Iterator[Packet[Any]]:
        """Packets of every file that the recording was joined from."""
        yield from self._demux()
        for container in self._containers:
            try:
                if container is not None:
                    self._open(container)
            except InputError:
                container = None
            if container is None:
                self.bad += 1
            else:
                yield from self._demux()

    def _open(self, container: InputContainer) -> None:
        # The one before is not closed here: packets of it may still wait for their time.
        joined, self.container = self.container is not None, container
        self.fault = ""  # of the file before: what was joined to it goes on
        if joined:
            self._odd = True
            self.clock.next_file()
        self.claimed_s: float | None = None
        """The length that the header claims; None if there is none that does, or are several."""
        if container.duration and not joined and container.format.name not in _NO_HEADER:
            self.claimed_s = container.duration / av.time_base
        self._packets = container.demux()
        self._ahead: list[Packet[Any]] = []
        self.picture = self._choose_picture(container)
        self.sounds: list[AudioStream] = [
            s for s in container.streams.audio if s.codec_context is not None
        ]
        self.heard = max(
            self.sounds,
            key=lambda s: (bool(s.disposition & Disposition.default), s.channels, -s.index),
            default=None,
        )
        """The sound that is listened to; None if there is none."""
        numbers = {s.index: number for number, s in enumerate(self.sounds, PICTURE + 1)}
        jitter_s = JITTER_S
        self._dated: dict[int, int] = {}
        self._undated = 0
        if self.picture is not None:
            self.has_pictures = True
            numbers[self.picture.index] = PICTURE
            self.guessed = container.format.name in _GUESSED
            if self.guessed and self.picture.average_rate:
                guessed_s = GUESSED_FRAMES / float(self.picture.average_rate)
                jitter_s = max(JITTER_S, guessed_s)
        if not numbers:
            raise InputError(f"{self.path}: has neither pictures nor sound that can be decoded")
        self._count = max(self._count, *(number + 1 for number in numbers.values()))
        self._tracks = {
            index: _Track(
                number=number,
                base_s=float(container.streams[index].time_base or 1),
                jitter_s=jitter_s if number == PICTURE else JITTER_S,
                is_picture=number == PICTURE,
                is_heard=self.heard is not None and index == self.heard.index,
            )
            for index, number in numbers.items()
        }
        for stream in container.streams:
            if stream.index not in self._tracks:
                stream.discard = Discard.all

    def _choose_picture(self, container: InputContainer) -> VideoStream | None:
        streams = [
            s
            for s in container.streams.video
            if s.codec_context is not None and not s.disposition & _NO_PICTURES
        ]
        if len(streams) > 1:
            streams = self._moving(streams)
        return max(
            streams,
            key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index),
            default=None,
        )

    def _moving(self, streams: list[VideoStream]) -> list[VideoStream]:
        """Those of which a second picture comes; all if there is none."""
        seen, self._odd = {s.index: 0 for s in streams}, True
        for packet in self._read():
            self._ahead.append(packet)
            if packet.stream_index in seen:
                seen[packet.stream_index] += 1
            if min(seen.values()) > 1 or max(seen.values()) == _LOOK_AHEAD:
                break
        return [s for s in streams if seen[s.index] > 1] or streams

    def _demux(self) -> Iterator[Packet[Any]]:
        ahead, self._ahead = self._ahead, []
        packets: Iterator[Packet[Any]] = chain(ahead, self._read())
        container = self.container
        assert container is not None
        is_stream = container.file is not None and not hasattr(container.file, "seek")
        if is_stream and "mp4" in container.format.name:
            packets = interleaved(
                packets, {index: track.base_s for index, track in self._tracks.items()}
            )
        yield from packets

    def _read(self) -> Iterator[Packet[Any]]:
        """Packets from here on; a fault ends and counts them."""
        while True:
            try:
                packet = next(self._packets)
            except (StopIteration, IndexError):
                # PyAV raises IndexError at the end of a file in which streams have come late.
                return
            except (av.error.FFmpegError, OSError) as error:
                self.bad += 1
                self.fault = str(error.strerror or error)
                return
            if packet.pts is not None or packet.dts is not None:
                yield packet

    def _tell_clock(self, packet: Packet[Any], track: _Track) -> int:
        """Show a packet to the clock; its session."""
        base_s, show, decode = track.base_s, packet.pts, packet.dts
        if decode is None:
            decode = self._guessed_stamp(packet, track)
        elif track.is_picture:
            self._undated = 0
        self._dated[track.number] = decode
        if show is None:
            show = decode
        elif abs(show - decode) * base_s > KEPT_S:
            # No reordering lasts so long: believed, one broken stamp would make days of nothing.
            packet.pts = show = decode
            self._odd = True
        return self.clock.add(
            track.number,
            decode * base_s,
            show * base_s,
            (packet.duration or 0) * base_s,
            shown=not packet.is_discard,
            jitter_s=track.jitter_s,
        )

    def _guessed_stamp(self, packet: Packet[Any], track: _Track) -> int:
        """What is known of the decoding time of a packet that has none."""
        last, self._odd = self._dated.get(track.number), True
        self._undated += 1
        assert packet.pts is not None
        # Only the time of showing is there, which may lie far ahead, by reordering.
        many = self._undated > GUESSED_FRAMES
        return packet.pts if last is None or many or not track.is_picture else last

    def _timed(self, packet: Packet[Any], track: _Track, offset_s: float) -> TimedPacket:
        """A packet whose time is known, with stamps on the room's clock."""
        shift = round(offset_s / track.base_s)
        show, decode = packet.pts, packet.dts
        if decode is not None:
            packet.dts = decode = decode + shift
        # Without a time of showing, the order of decoding has to do.
        packet.pts = show = show + shift if show is not None else decode
        assert show is not None
        show_s = show * track.base_s
        decode_s = decode * track.base_s if decode is not None else show_s
        if decode_s > self.now_s:
            self.now_s = decode_s
        return TimedPacket(packet, show_s, decode_s, track.is_picture, track.is_heard)


_UPRIGHT = {
    (1, 0, 0, 1): None,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""What a display matrix of x' = ax + cy, y' = bx + dy (y down) does, by the signs of a, b, c, d."""


Turns = dict[int, Image.Transpose | None]
"""How frames of a stream are turned, by their rotation."""


def picture(frame: VideoFrame, turns: Turns | None = None) -> Image.Image:
    """A decoded frame in RGB, upright: turned and flipped as its display matrix tells players.

    Args:
        frame: what a decoder gave.
        turns: kept from frame to frame of one stream, so that few matrices are read: PyAV holds
            each frame whose is until Python's collector finds it, and frames are large.
    """
    turn = _turn(frame, {} if turns is None else turns)
    # As to_image makes it, which copies row by row and takes up to ten times as long.
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    return image if turn is None else image.transpose(turn)


def pixels(frame: VideoFrame, turns: Turns) -> NDArray[np.uint8]:
    """The same as an array [H, W, 3], in a third of the time: Pillow keeps four bytes a pixel."""
    if _turn(frame, turns) is not None:
        return np.array(picture(frame, turns))
    found: Any = frame.to_ndarray(format="rgb24")
    return np.asarray(found, np.uint8)


def _turn(frame: VideoFrame, turns: Turns) -> Image.Transpose | None:
    if frame.rotation not in turns:
        data: Iterator[Any] = iter(frame.side_data)
        matrix = next((d for d in data if d.type.name == "DISPLAYMATRIX"), None)
        turns[frame.rotation] = None if matrix is None else _UPRIGHT.get(_signs(bytes(matrix)))
    return turns[frame.rotation]


def grey_picture(frame: VideoFrame, size: tuple[int, int]) -> Image.Image:
    """A decoded frame's brightness at another width and height, as it lies: a fifth of the time."""
    small = frame.reformat(*size, format="gray", interpolation="AREA")
    return Image.fromarray(small.to_ndarray())


def _signs(matrix: bytes) -> tuple[int, int, int, int]:
    """Signs of a, b, c, d of a display matrix; for an odd angle, those of the nearest right one."""
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _sign(a), 0, 0, _sign(d)
    return 0, _sign(b), _sign(c), 0


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
