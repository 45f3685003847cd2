"""Watch a room as it runs: a recording that is still being written, or a stream, and its chat.

Pictures are decoded once, forward; of each segment those are kept that its frames' times show, as
offline (rooms/media.py). A segment is given out once a frame of its end, or later, has come. What
is left at the end, less than a segment, is not scored.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
from PIL import Image

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.rooms.lines import BadLine, identifier, seconds, string
from contentctr.rooms.media import frame_times
from contentctr.rooms.video import picture

_NET_TIMEOUT_S = (10.0, 30.0)
"""To open a stream, and to read from it."""


class GrowingFile:
    """A file that is still being written, as PyAV reads it: the end is waited at.

    Args:
        file: open for reading, in binary.
        idle_s: seconds without growth after which it is finished.
        poll_s: seconds between two looks.
        stopped: whether to take it for finished at once.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        idle_s: float,
        poll_s: float = 0.2,
        stopped: Callable[[], object] = lambda: False,
    ) -> None:
        self._file, self._idle_s, self._poll_s, self._stopped = file, idle_s, poll_s, stopped

    def read(self, size: int) -> bytes:
        """Some bytes as soon as there are any; none once the file is finished."""
        until = time.monotonic() + self._idle_s
        while not (data := self._file.read(size)):
            if time.monotonic() >= until or self._stopped():
                return b""
            time.sleep(self._poll_s)
        return data


@dataclass(frozen=True, kw_only=True)
class WatchedSegment:
    """A segment of which all has been seen."""

    index: int
    start_s: float
    end_s: float
    pictures: tuple[Image.Image, ...]


def watch_video(
    source: str,
    spec: DataSpec,
    *,
    idle_s: float = 60.0,
    poll_s: float = 0.2,
    stopped: Callable[[], object] = lambda: False,
) -> Iterator[WatchedSegment]:
    """Segments of a video as they come, until it ends.

    Args:
        source: a file, which may grow, in a container that can be read from its start while it is
            written (MPEG-TS, FLV, Matroska, fragmented MP4); or a URL that FFmpeg opens, where the
            room begins with the first frame that is seen.
        spec: length of a segment, and its frames.
        idle_s: seconds without growth after which a file is finished.
        poll_s: seconds between two looks at a file.
        stopped: whether to wait no more.

    Raises:
        InputError: it cannot be opened, or has no video.
    """
    if "://" in source:
        with _open(source, source, timeout=_NET_TIMEOUT_S) as container:
            yield from _segments(container, source, spec)
        return
    if not Path(source).is_file():
        raise InputError(f"{source}: no such video file")
    with Path(source).open("rb") as file:
        growing = GrowingFile(file, idle_s=idle_s, poll_s=poll_s, stopped=stopped)
        with _open(growing, source) as container:
            yield from _segments(container, source, spec)


def _open(file: Any, name: str, **options: Any) -> Any:
    try:
        return av.open(file, metadata_errors="replace", **options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be opened as a video ({reason})") from None


def _segments(container: Any, name: str, spec: DataSpec) -> Iterator[WatchedSegment]:
    if not container.streams.video:
        raise InputError(f"{name}: has no video stream (sound only?)")
    length, index = spec.segment_seconds, 0
    shown: Any = None
    kept: list[Image.Image] = []
    for time_s, frame in _frames(container, container.streams.video[0]):
        # Before the first frame the first is shown; later, the last one that has begun.
        now = shown if shown is not None else frame
        while True:
            start, end = index * length, (index + 1) * length
            wanted = frame_times(start, end, spec.frames_per_segment)[len(kept) :]
            kept += [picture(now) for moment in wanted if moment < time_s]
            if time_s < end:
                break
            yield WatchedSegment(index=index, start_s=start, end_s=end, pictures=tuple(kept))
            index, kept = index + 1, []
        shown = frame


def _frames(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """Frames with their seconds since the first; what is damaged is passed over."""
    origin: int | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError, OSError):
            return
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, OSError):
            continue
        for frame in frames:
            if frame.pts is not None:
                origin = frame.pts if origin is None else origin
                yield float((frame.pts - origin) * stream.time_base), frame


class GrowingChat:
    """A chat log that is still being written: JSONL with `t`, `user_id` and `text`.

    Comments are kept until their segment is given out. A line that comes later than that is too
    late, and counted; so is a bad one.

    Args:
        path: the file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self._rest = b""
        self._comments: dict[tuple[float, str, str], None] = {}
        self._given_s = -math.inf
        self.late = 0
        self.bad = 0

    def until(self, end_s: float) -> list[str]:
        """Texts of the comments before `end_s` that were not given before, by their time."""
        self._read()
        due = sorted((key for key in self._comments if key[0] < end_s), key=lambda key: key[0])
        for key in due:
            del self._comments[key]
        self._given_s = end_s
        texts = [text.strip() for _, _, text in due]
        return [text for text in texts if text]

    def _read(self) -> None:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._add(line)

    def _add(self, line: bytes) -> None:
        try:
            record = json.loads(line.decode())
            if not isinstance(record, dict):
                raise BadLine("must be an object")
            key = (
                seconds(record.get("t"), "t"),
                identifier(record.get("user_id"), "user_id"),
                string(record.get("text"), "text"),
            )
        except (BadLine, ValueError, RecursionError):
            self.bad += 1
            return
        if key[0] < self._given_s:
            self.late += 1
        elif key[0] >= 0:
            self._comments[key] = None  # the same comment twice is one


def watch(
    source: str,
    spec: DataSpec,
    take: Callable[[WatchedSegment, list[str]], None],
    *,
    chat: GrowingChat | None = None,
    chat_delay_s: float = 2.0,
    idle_s: float = 60.0,
    poll_s: float = 0.2,
    stopped: Callable[[], object] = lambda: False,
) -> int:
    """Give out a room's segments with their comments, as they come.

    Args:
        source: as in `watch_video`.
        spec: length of a segment, and its frames.
        take: called with each segment and its comments.
        chat: the room's comments.
        chat_delay_s: seconds that a segment waits for comments that are still being written.
        idle_s: seconds without growth after which a file is finished.
        poll_s: seconds between two looks at a file.
        stopped: whether to end, looked at after every segment and while a file is silent.

    Returns:
        Segments given out.

    Raises:
        InputError: the source cannot be opened.
    """
    count = 0
    for segment in watch_video(source, spec, idle_s=idle_s, poll_s=poll_s, stopped=stopped):
        if chat is not None and chat_delay_s:
            time.sleep(chat_delay_s)
        take(segment, [] if chat is None else chat.until(segment.end_s))
        count += 1
        if stopped():
            break
    return count
