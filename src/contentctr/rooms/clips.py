"""Clips of a recording: its packets copied, without decoding or encoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from contentctr.errors import InputError
from contentctr.files import atomic
from contentctr.rooms.containers import file_url
from contentctr.rooms.frames import Decoder
from contentctr.rooms.video import TimedPacket, Video

CLIP_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".flv": "flv",
    ".ts": "mpegts",
}
REACH_S = 60.0
"""A clip begins at a keyframe this far before its start at most."""
_SOUND_S = 10.0
"""Sound lies this far behind the pictures in a file at most."""
_CHANGING = ("flv", "mpegts")
"""Containers in which the pictures' size may change."""
_FAULTS = (av.error.FFmpegError, ValueError, OSError)
"""What FFmpeg says of streams that a container cannot hold, and of a disk that is full."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A part of a recording that is wanted as a file."""

    start_s: float
    """In seconds of the room."""
    end_s: float
    out: Path
    """File to write, of a suffix in CLIP_FORMATS."""


def cut_clip(video: Path, start_s: float, end_s: float, out: Path) -> tuple[float, float]:
    """Copy a part of a video into a file of its own: `cut_clips` of one.

    Returns:
        Where the clip really starts and its pictures end, in seconds of the room.

    Raises:
        InputError: a bad time or suffix, no picture there, or streams that the container refuses.
    """
    (found,) = cut_clips(video, [Cut(start_s=start_s, end_s=end_s, out=out)])
    if isinstance(found, InputError):
        raise found
    return found


def cut_clips(video: Path, cuts: Sequence[Cut]) -> list[tuple[float, float] | InputError]:
    """Copy parts of a video into files of their own, without decoding or encoding, in one pass.

    A clip has the pictures and all sound. It can only start at a keyframe: the last one at or
    before `start_s`, or else, if that is more than REACH_S before it, the next. It ends early where
    the pictures' size changes, if its container cannot tell that. Clips may overlap.

    Args:
        video: the recording.
        cuts: the parts, in any order.

    Returns:
        For each part where its clip really starts and its pictures end, in seconds of the room, or
        why there is none: no picture there, or streams that its container refuses.

    Raises:
        InputError: a bad time or suffix, or the recording cannot be opened.
    """
    clips = [_Clip(cut) for cut in cuts]
    try:
        with Video(video) as source:
            _copy(source, clips)
            return [clip.close(source) for clip in clips]
    finally:
        for clip in clips:
            clip.drop()


def _copy(source: Video, clips: Sequence[_Clip]) -> None:
    parameters: dict[int, Any] = {}
    later = sorted(clips, key=lambda clip: -clip.cut.start_s)
    active: list[_Clip] = []
    for timed in source.packets():
        # A clip may begin with a keyframe REACH_S before it, and with sound from just before that.
        while later and timed.decode_s > later[-1].cut.start_s - REACH_S - _SOUND_S:
            active.append(later.pop())
            active[-1].start.parameters.update(parameters)
        for clip in active:
            clip.take(source, timed)
        active = [clip for clip in active if not clip.done]
        if not active and not later:
            break
        if timed.packet.has_sidedata("new_extradata"):
            told = timed.packet.get_sidedata("new_extradata")
            parameters[timed.packet.stream_index] = told


class _Clip:
    """A clip in the making."""

    def __init__(self, cut: Cut) -> None:
        if not 0 <= cut.start_s < cut.end_s:
            raise InputError(
                f"a clip must start at 0 or later and before its end: {cut.start_s}-{cut.end_s}"
            )
        container = CLIP_FORMATS.get(cut.out.suffix.lower())
        if container is None:
            raise InputError(f"{cut.out}: a clip must end in {', '.join(CLIP_FORMATS)}")
        self.cut, self.start, self.done = cut, _Start(cut.start_s), False
        self._container = container
        self._writer: _Writer | None = None
        self._files = ExitStack()
        self._fault: Exception | None = None

    def take(self, source: Video, timed: TimedPacket) -> None:
        """Take one more packet of the recording, until the clip is done."""
        if timed.decode_s >= self.cut.end_s + (0.0 if timed.is_picture else _SOUND_S):
            self.done = True
            return
        try:
            if self._writer is not None:
                self.done = not self._writer.write(timed, self.cut.end_s)
            elif self.start.add(timed):
                self._writer = self._begin(source)
                held = self.start.held
                self.done = not all(self._writer.write(each, self.cut.end_s) for each in held)
        except _FAULTS as error:
            self._fault, self.done = error, True

    def _begin(self, source: Video) -> _Writer:
        temporary = self._files.enter_context(atomic(self.cut.out))
        sink = av.open(file_url(temporary), "w", format=self._container)
        return _Writer(self._files.enter_context(sink), source, self.start, self._container)

    def close(self, source: Video) -> tuple[float, float] | InputError:
        """Finish the file, or say why there is none."""
        cut, writer = self.cut, self._writer
        try:
            with self._files:
                if self._fault is not None:
                    raise self._fault
                if writer is None or writer.end_s <= cut.start_s:
                    raise InputError(
                        f"{source.path}: has no picture between {cut.start_s:g} and {cut.end_s:g} s"
                    )
        except InputError as error:
            return error
        except _FAULTS as error:
            suffixes = [Path(source.path).suffix.lower(), ".mkv"]
            others = [s for s in suffixes if s in CLIP_FORMATS and s != cut.out.suffix.lower()]
            hint = f"; try a {others[0]}" if others else ""
            return InputError(
                f"{cut.out}: cannot hold the streams of {source.path} ({error}){hint}"
            )
        return writer.start_s, writer.end_s

    def drop(self) -> None:
        """Remove what is half written, if it was not closed."""
        with suppress(*_FAULTS, InputError), self._files:
            raise InputError("the recording cannot be read")


class _Start:
    """Finds the keyframe that a clip begins with, and holds what follows on it."""

    def __init__(self, start_s: float) -> None:
        self.held: list[TimedPacket] = []
        self.parameters: dict[int, Any] = {}
        """What the stream has told of its decoder's parameters, by its index."""
        self._start_s = start_s
        self._key_s: float | None = None

    def add(self, timed: TimedPacket) -> bool:
        """Take one more packet; whether the clip's beginning is held."""
        packet = timed.packet
        is_key = timed.is_picture and packet.is_keyframe
        if self._key_s is not None and timed.decode_s - self._key_s > REACH_S:
            self._drop()
        if is_key and (self._key_s is None or timed.show_s <= self._start_s):
            # Sound is written a little before the pictures of its time.
            sound = [t for t in self.held if not t.is_picture and t.show_s >= timed.show_s]
            self._drop()
            self.held, self._key_s = sound, timed.show_s
        if self._key_s is None:
            self._pass(timed)
            return False
        self.held.append(timed)
        return timed.is_picture and timed.decode_s > self._start_s

    def _drop(self) -> None:
        for timed in self.held:
            self._pass(timed)
        self.held, self._key_s = [], None

    def _pass(self, timed: TimedPacket) -> None:
        if timed.packet.has_sidedata("new_extradata"):
            told = timed.packet.get_sidedata("new_extradata")
            self.parameters[timed.packet.stream_index] = told


class _Writer:
    """Writes packets into a clip, whose clock begins with its first picture."""

    def __init__(self, sink: OutputContainer, source: Video, start: _Start, container: str) -> None:
        key = next(t for t in start.held if t.is_picture)
        self.start_s, self.end_s = key.show_s, -math.inf
        self._sink, self._changing = sink, container in _CHANGING
        self._copies: dict[int, Stream] = {}
        self._told: dict[int, bytes] = {}
        self._last: dict[int, int] = {}
        self._streams = [key.packet.stream, *source.sounds]
        for stream in self._streams:
            told = start.parameters.get(stream.index)
            # As it is: a codec need not be one that can be encoded here.
            copy = sink.add_stream_from_template(stream, opaque=True)
            if told is not None:
                copy.codec_context.extradata = bytes(told)
            self._told[stream.index] = bytes(copy.codec_context.extradata or b"")
            self._copies[stream.index] = copy
            if stream.type == "video" and (told is not None or not stream.width):
                self._set_size(copy, key, told)

    @staticmethod
    def _set_size(copy: Any, key: TimedPacket, told: Any) -> None:
        """The size of the first picture: the header of the recording tells another, or none."""
        if told is not None:
            key.packet.set_sidedata(told)
        decoder = Decoder()
        frames = [*decoder.decode(key.packet, afresh=True), *decoder.drain(key.packet)]
        if frames:
            copy.codec_context.width, copy.codec_context.height = frames[0].width, frames[0].height

    def write(self, timed: TimedPacket, end_s: float) -> bool:
        """Write a packet, if it is the clip's; False: the clip must end before it."""
        packet, stream = timed.packet, timed.packet.stream
        if stream not in self._streams:
            return False  # of another file that the recording was joined from
        if timed.show_s < self.start_s or (timed.show_s >= end_s and not timed.is_picture):
            return True
        if packet.has_sidedata("new_extradata") and not self._changing:
            if bytes(packet.get_sidedata("new_extradata")) != self._told[stream.index]:
                return False
            packet = _plain(packet)  # even what is no news breaks the header of a .mkv
        # Other clips may want the packet too: what is changed of it here is put back.
        own = packet.pts, packet.dts, packet.duration, packet.time_base
        shift = round(self.start_s / packet.time_base)
        show, decode = packet.pts, packet.dts
        if decode is not None:
            # Where the recording's clock started again, its streams may overlap a little.
            decode = max(decode - shift, self._last.get(stream.index, decode - shift - 1) + 1)
            self._last[stream.index] = packet.dts = decode
        if show is not None:
            packet.pts = show - shift if decode is None else max(show - shift, decode)
        if timed.is_picture:
            # Before a jump that was left out, a picture may claim to last as long as that.
            longest = round(max(end_s - timed.show_s, 1.0) / packet.time_base)
            packet.duration = min(packet.duration or 0, longest)
            length_s = float(packet.duration * packet.time_base)
            self.end_s = max(self.end_s, timed.show_s + length_s)
        packet.stream = self._copies[stream.index]
        self._sink.mux(packet)
        packet.stream = stream
        packet.pts, packet.dts, packet.duration, packet.time_base = own
        return True


def _plain(packet: Packet[Any]) -> Packet[Any]:
    """A packet without side data."""
    plain: Packet[Any] = Packet(bytes(packet))
    plain.time_base, plain.duration = packet.time_base, packet.duration
    plain.pts, plain.dts, plain.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return plain
