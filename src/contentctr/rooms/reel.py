"""A reel: clips of one recording joined into one file, without encoding them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
from av.stream import Stream

from contentctr.errors import InputError
from contentctr.files import atomic
from contentctr.rooms.clips import CLIP_FORMATS
from contentctr.rooms.containers import file_url

_FAULTS = (av.error.FFmpegError, ValueError, OSError)


def join_clips(clips: Sequence[Path], out: Path) -> list[Path]:
    """Join clips of one recording, in their order.

    Args:
        clips: files of one container, at least one.
        out: file to write, of the same suffix.

    Returns:
        Clips that were left out: their pictures or sound are of another size or kind than the first
        one's, which one file cannot change.

    Raises:
        InputError: the container cannot hold them.
    """
    left_out = []
    try:
        with atomic(out) as temporary:
            sink = av.open(file_url(temporary), "w", format=CLIP_FORMATS[out.suffix.lower()])
            with sink:
                reel = _Reel(sink)
                for clip in clips:
                    if not reel.add(clip):
                        left_out.append(clip)
    except _FAULTS as error:
        raise InputError(f"{out}: the clips cannot be joined ({error})") from None
    return left_out


class _Reel:
    """Packets of one clip after the other, on one clock."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._kinds: list[tuple[Any, ...]] = []
        self._copies: list[Any] = []
        self._last: dict[int, int] = {}
        self._end_s = 0.0

    def add(self, path: Path) -> bool:
        """Join one more clip on; False: it is of another kind."""
        with av.open(file_url(path)) as clip:
            streams = [*clip.streams.video[:1], *clip.streams.audio]
            kinds = [_kind(stream) for stream in streams]
            if not self._copies:
                self._kinds = kinds
                self._copies = [
                    self._sink.add_stream_from_template(stream, opaque=True) for stream in streams
                ]
            elif kinds != self._kinds:
                return False
            place = {stream.index: i for i, stream in enumerate(streams)}
            begin_s, end_s = self._end_s, self._end_s
            for packet in clip.demux(streams):
                if packet.pts is None or packet.time_base is None:
                    continue
                i = place[packet.stream_index]
                shift = round(begin_s / packet.time_base)
                # Matroska tells no decoding time of its first pictures; and those of one clip may
                # be decoded before the last of the other is shown.
                earliest = self._last.get(i, -(2**62)) + 1
                decode = packet.dts + shift if packet.dts is not None else earliest
                packet.pts += shift
                packet.dts = max(min(decode, packet.pts), earliest)
                packet.pts = max(packet.pts, packet.dts)
                self._last[i] = packet.dts
                end = packet.pts + (packet.duration or 0)
                if i == 0:
                    end_s = max(end_s, float(end * packet.time_base))
                packet.stream = self._copies[i]
                self._sink.mux(packet)
            self._end_s = end_s
        return True


def _kind(stream: Stream) -> tuple[Any, ...]:
    """What must be the same in all clips of a reel."""
    context: Any = stream.codec_context
    size = (context.width, context.height) if stream.type == "video" else (context.sample_rate,)
    return (stream.type, context.name, bytes(context.extradata or b""), size, stream.time_base)
