"""Exact clips: only their pictures are encoded again, so that they begin and end where asked.

A clip is first copied from the keyframe before it (clips.py), by which all odd clocks are dealt
with; of the copy the pictures that were asked for are encoded, and the sound is copied on.
"""

from __future__ import annotations

import math
import struct
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame

from contentctr.errors import InputError
from contentctr.files import atomic
from contentctr.rooms.clips import CLIP_FORMATS, Cut, cut_clips
from contentctr.rooms.containers import file_url
from contentctr.rooms.video import Video

EXACT_SUFFIX = ".mp4"
"""What every browser and editor opens."""
_OPTIONS = {"preset": "veryfast", "crf": "18"}
"""Of x264: hardly to be told from the recording, at several times real time."""
_SOUNDS = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
"""Codecs of sound that an .mp4 holds."""
_MARGIN_S = 1.0
"""The copy goes on so much longer: its last pictures may be decoded after later ones."""
_FAULTS = (av.error.FFmpegError, ValueError, OSError)


def exact_suffix(video: Path) -> str:
    """The suffix for exact clips of a recording: .mkv where an .mp4 cannot hold its sound.

    Raises:
        InputError: the recording cannot be opened.
    """
    with Video(video) as source:
        fits = all(stream.codec_context.name in _SOUNDS for stream in source.sounds)
    return EXACT_SUFFIX if fits else ".mkv"


def cut_exactly(
    video: Path, cuts: Sequence[Cut], *, vertical: bool = False
) -> list[tuple[float, float] | InputError]:
    """Cut parts of a video to the frame, into files of `exact_suffix`.

    Sound is copied, from its first packet in the part on.

    Args:
        video: the recording.
        cuts: the parts, in any order.
        vertical: crop the middle of wide pictures to 9:16.

    Returns:
        For each part where its pictures really start and end, in seconds of the room, or why there
        is no clip of it.

    Raises:
        InputError: a bad time or suffix, or the recording cannot be opened.
    """
    suffix = video.suffix.lower()
    with tempfile.TemporaryDirectory(prefix="contentctr-") as folder:
        # The recording's own container keeps its stamps; Matroska would round them.
        copies = [
            Path(folder) / f"{i}{suffix if suffix in CLIP_FORMATS else '.mkv'}"
            for i in range(len(cuts))
        ]
        wanted = [
            Cut(start_s=cut.start_s, end_s=cut.end_s + _MARGIN_S, out=copy)
            for cut, copy in zip(cuts, copies, strict=True)
        ]
        found: list[tuple[float, float] | InputError] = []
        for cut, copy, copied in zip(cuts, copies, cut_clips(video, wanted), strict=True):
            if isinstance(copied, InputError):
                found.append(copied)
                continue
            try:
                found.append(_encode(copy, copied[0], cut, vertical))
            except _FAULTS as error:
                found.append(InputError(f"{cut.out}: cannot be encoded ({error})"))
            copy.unlink()
        return found


def _encode(copy: Path, begin_s: float, cut: Cut, vertical: bool) -> tuple[float, float]:
    """Write the part of a copy, which begins at `begin_s` of the room."""
    with av.open(file_url(copy)) as source, atomic(cut.out) as temporary:
        container = CLIP_FORMATS[cut.out.suffix.lower()]
        with av.open(file_url(temporary), "w", format=container) as sink:
            return _Encoder(source, sink, begin_s, cut, vertical).run()


class _Encoder:
    """Encodes the pictures of one part, and copies its sound."""

    def __init__(
        self,
        source: InputContainer,
        sink: OutputContainer,
        begin_s: float,
        cut: Cut,
        vertical: bool,
    ) -> None:
        self.source, self.sink, self.begin_s, self.cut = source, sink, begin_s, cut
        self.vertical = vertical
        self.pictures = source.streams.video[0]
        rate = self.pictures.guessed_rate or self.pictures.average_rate or Fraction(30)
        # The frame that begins nearest to a time is the one, as in the timelines for editors.
        self.half_s = float(1 / rate) / 2
        self.rate = rate
        self.zero: int | None = None
        """The stamp of the copy's first picture, which is at `begin_s`."""
        self.first: int | None = None
        """The stamp of the part's first picture."""
        self.stop_s = begin_s
        self.track: Any = None
        self.graph: Graph | None = None

    def run(self) -> tuple[float, float]:
        sounds = {
            stream.index: self.sink.add_stream_from_template(stream, opaque=True)
            for stream in self.source.streams.audio
        }
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise InputError(
                f"{self.cut.out}: has no picture between {self.cut.start_s:g} and "
                f"{self.cut.end_s:g} s"
            )
        start_s = self._begin(first)
        self._add(first)
        for frame in frames:
            self._add(frame)
        self.sink.mux(self.track.encode(None))
        self._copy_sound(sounds, start_s)
        return start_s, self.stop_s

    def _frames(self) -> Iterator[VideoFrame]:
        """Pictures of the part, in the order in which they are shown."""
        base = self.pictures.time_base
        assert base is not None
        self.pictures.thread_type = "AUTO"
        for frame in self.source.decode(self.pictures):
            if frame.pts is None:
                continue
            if self.zero is None:
                self.zero = frame.pts
            at_s = self.begin_s + float((frame.pts - self.zero) * base)
            if at_s >= self.cut.end_s - self.half_s:
                return
            if at_s >= self.cut.start_s - self.half_s:
                self.stop_s = at_s + 2 * self.half_s
                yield frame

    def _begin(self, frame: VideoFrame) -> float:
        """Set up the encoder for the part's first picture; when that is shown."""
        base = self.pictures.time_base
        assert base is not None and self.zero is not None and frame.pts is not None
        self.first = frame.pts
        track = self.sink.add_stream("libx264", rate=self.rate, options=dict(_OPTIONS))
        deep = frame.format.components[0].bits > 8
        track.pix_fmt = "yuv420p10le" if deep else "yuv420p"
        track.codec_context.time_base = base
        turn = _matrix(frame)
        if turn is not None:
            track.set_display_matrix(turn)
        box = _box(frame, turned=frame.rotation % 180 != 0, vertical=self.vertical)
        self.graph = _cropping(frame, base, box)
        track.width, track.height = box[:2]
        read = self.pictures.codec_context
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(track.codec_context, name, getattr(read, name))
        self.size, self.format, self.track = (frame.width, frame.height), frame.format.name, track
        return self.begin_s + float((frame.pts - self.zero) * base)

    def _add(self, frame: VideoFrame) -> None:
        assert self.graph is not None and self.first is not None and frame.pts is not None
        stamp = frame.pts - self.first
        if (frame.width, frame.height) != self.size or frame.format.name != self.format:
            # A recording may change its size, and an encoder may not.
            frame = frame.reformat(*self.size, format=self.format)
        self.graph.push(frame)
        shown: Any = self.graph.pull()
        shown.pts = stamp
        shown.time_base = self.pictures.time_base
        shown.pict_type = 0  # x264 shall choose where its keyframes are
        self.sink.mux(self.track.encode(shown))

    def _copy_sound(self, sounds: dict[int, Any], start_s: float) -> None:
        if not sounds or self.first is None:
            return
        base = self.pictures.time_base
        assert base is not None
        first_s = float(self.first * base)
        length_s = self.stop_s - start_s
        self.source.seek(0)
        for packet in self.source.demux([self.source.streams[index] for index in sounds]):
            if packet.pts is None or packet.time_base is None:
                continue
            at_s = float(packet.pts * packet.time_base) - first_s
            if not 0 <= at_s < length_s:
                continue
            shift = round(first_s / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = sounds[packet.stream_index]
            self.sink.mux(packet)


def _box(frame: VideoFrame, *, turned: bool, vertical: bool) -> tuple[int, int, int, int]:
    """Width, height, left and top of what is kept of a picture as it lies in the file."""
    width, height = frame.width, frame.height
    long, short = (height, width) if turned else (width, height)
    if vertical and long * 16 > short * 9:
        long = math.floor(short * 9 / 16)
    kept = (short, long) if turned else (long, short)
    w, h = (max(2, size // 2 * 2) for size in kept)  # 4:2:0 has whole pairs alone
    return w, h, (width - w) // 2, (height - h) // 2


def _cropping(frame: VideoFrame, base: Fraction, box: tuple[int, int, int, int]) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=base
    )
    crop = graph.add("crop", ":".join(map(str, box)))
    sink = graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    return graph


def _matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """The display matrix by which players turn a picture; None if they do not."""
    data: Iterator[Any] = iter(frame.side_data)
    found = next((d for d in data if d.type.name == "DISPLAYMATRIX"), None)
    return None if found is None else struct.unpack("=9i", bytes(found)[:36])
