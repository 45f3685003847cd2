"""Opening a recording as FFmpeg reads it: by any name, streams, joined files, local playlists.

A local playlist may name files of its own folder only, and nothing else is read for it.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer

from contentctr.errors import InputError
from contentctr.rooms.joined import Joined, Readable, ts_streams

Containers = Generator[InputContainer | None, None, None]
"""The files that a recording was joined from, mostly one, to be closed by who takes them; None for
one that cannot be opened."""
_PLAYLIST = "contentctr.m3u8"
"""FFmpeg finds entries from the playlist's name: this one has no folder that it could misread, as
it does "#" in "rooms #1/stream.m3u8"."""
_BUFFER = 1 << 18
"""Bytes that FFmpeg asks Python for at once."""
_TABLES = 1 << 16
"""Bytes of an MPEG-TS that hold its first tables."""
_PARTED = re.compile(rb"#EXT-X-(MAP|BYTERANGE|KEY:METHOD=(?!NONE))")
"""A playlist whose entries are no whole files by themselves."""


def file_url(path: Path) -> str:
    """A path as FFmpeg takes it: alone, "20:00 live.mp4" would be a protocol to it."""
    return f"file:{os.path.abspath(path)}"


def open_file(path: Path, *, missing: list[str] | None = None) -> Containers:
    """Open a recording on disk.

    Args:
        path: its file.
        missing: entries of a playlist that are not there, or not in its folder, are added to it.

    Raises:
        InputError: there is no such file, or FFmpeg cannot open it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such video file")
    with path.open("rb") as file:
        head = file.read(16)
        if head.startswith(b"#EXTM3U"):
            yield from open_playlist(path, missing=missing)
            return
        if head[4:8] == b"ftyp":
            starts = [*_mp4_starts(file), os.fstat(file.fileno()).st_size]
            if len(starts) > 2:
                parts = (_Part(file, *span) for span in zip(starts, starts[1:], strict=False))
                yield from _open_all(parts, path)
                return
        file.seek(0)
        joined = Joined(file)
        if joined.joinable:
            yield from _open_all(_files(joined), path)
            return
    yield _open(file_url(path), path)


def describe_streams(path: Path) -> list[str]:
    """Codecs of a recording's pictures and sound, by FFmpeg's names, pictures first.

    Raises:
        InputError: there is no such file, or FFmpeg cannot open it.
    """
    containers = open_file(path)
    try:
        first = next(containers)
        assert first is not None
        streams = [*first.streams.video, *first.streams.audio]
        names = [s.codec_context.name for s in streams if s.codec_context is not None]
        first.close()
    finally:
        containers.close()
    return list(dict.fromkeys(names))


def open_stream(file: Readable, name: Path | str) -> Containers:
    """Open what can only be read on and on.

    Raises:
        InputError: FFmpeg cannot open it.
    """
    yield from _open_all(_files(Joined(file)), name)


def open_url(url: str, *, timeout_s: tuple[float, float]) -> Containers:
    """Open a stream of the network.

    Args:
        url: as FFmpeg takes it.
        timeout_s: to open it, and to read from it.

    Raises:
        InputError: FFmpeg cannot open it.
    """
    yield _open(url, url, timeout=timeout_s)


def open_playlist(
    path: Path,
    *,
    growing: Callable[[bytes], bool] = lambda text: False,
    missing: list[str] | None = None,
) -> Containers:
    """Open a local HLS playlist, whose entries must be files of its folder.

    Args:
        path: its file.
        growing: told a playlist's text, whether more entries may come; else it ends there.
        missing: entries that are not there, or not in the folder, are added to it.

    Raises:
        InputError: FFmpeg cannot open it.
    """
    entries = _Entries(path, growing, [] if missing is None else missing)
    found = False
    try:
        while entries.next_file():
            # Else a playlist that grows is begun near its end.
            options = {"live_start_index": "0"}
            try:
                container = _open(entries.text(), path, io_open=entries.open, options=options)
            except InputError as error:
                if found:
                    yield None
                elif entries.missing:
                    hint = f"{entries.missing[0]} is not in its folder"
                    raise InputError(f"{error}: {hint}") from None
                else:
                    raise
            else:
                found = True
                yield container
    finally:
        entries.close()


class _Entries:
    """A playlist's files as FFmpeg asks for them.

    To FFmpeg they are one stream, of which it never meets streams that are new in the middle (an
    advertisement's, with pids of their own). So with an entry whose streams are others a file of
    its own begins, as where files are joined.
    """

    def __init__(self, path: Path, growing: Callable[[bytes], bool], missing: list[str]) -> None:
        self.missing = missing
        self._path, self._growing = path, growing
        self._folder = path.resolve().parent
        self._files: list[BinaryIO] = []
        self._names: list[str] = []
        """Entries of the playlist as it was read last, from number `_first` on."""
        self._first = 0
        self._last = -1
        """Number of the entry that was opened last."""
        self._begin = 0
        """Number of the entry that the file at hand begins with ..."""
        self._end: int | None = 0
        """... and the next one; None: not met yet."""
        self._streams: frozenset[tuple[int, int]] = frozenset()

    def next_file(self) -> bool:
        """Go to the next file; False if there is none."""
        if self._end is None:
            return False
        self._begin, self._end, self._streams = self._end, None, frozenset()
        self._last = self._begin - 1
        return True

    def text(self) -> _Playlist:
        """The playlist, from the first entry of the file at hand on."""
        text = self._path.read_bytes()
        if self._end is not None:
            return _read_playlist(text, lambda text: False)
        if b"#EXTINF" in text and not _PARTED.search(text):
            self._first, self._names, text = _entries_from(text, self._begin)
        return _read_playlist(text, self._growing)

    def open(self, url: str, flags: int, options: dict[str, str]) -> BinaryIO:
        """Open what FFmpeg asks for; what is not in the folder is empty, which ends nothing."""
        target = self._path if url == _PLAYLIST else self._folder / url.removeprefix("file:")
        self._files[:] = [file for file in self._files if not file.closed]
        try:
            if not target.resolve().is_relative_to(self._folder):
                raise PermissionError
            if target.suffix.lower() in (".m3u8", ".m3u"):
                if target.samefile(self._path):
                    return self.text()
                return _read_playlist(target.read_bytes(), self._growing)
            if self._end is not None:
                return io.BytesIO()
            self._count(url)
            file = target.open("rb")
        except OSError:
            self.missing.append(url)
            return io.BytesIO()
        self._files.append(file)
        if self._names and self._is_new(file):
            self._end = self._last
            return io.BytesIO()
        return file

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()

    def _count(self, url: str) -> None:
        begin = max(self._last + 1, self._first)
        later = self._names[begin - self._first :]
        self._last = begin + (later.index(url) if url in later else 0)

    def _is_new(self, file: BinaryIO) -> bool:
        """Whether an entry's streams are others than those of the entries before it."""
        streams = ts_streams(file.read(_TABLES))
        file.seek(0)
        before, self._streams = self._streams, self._streams or streams
        return bool(before and streams and streams != before)


def _files(joined: Joined) -> Iterator[Joined]:
    yield joined
    while joined.next_file():
        yield joined


def _open_all(files: Iterator[Any], name: Path | str) -> Containers:
    """Each file that can be opened; the fault of the first if none can."""
    fault: InputError | None = None
    found = False
    for file in files:
        try:
            container = _open(file, name)
        except InputError as error:
            fault = fault or error
            if found:
                yield None
            continue
        found = True
        yield container
    if fault is not None and not found:
        raise fault


def _open(source: Any, name: Path | str, **options: Any) -> InputContainer:
    try:
        container: InputContainer = av.open(
            source, metadata_errors="replace", buffer_size=_BUFFER, **options
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be opened as a video ({reason})") from None
    return container


class _Part:
    """A part of a file, as if it were a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end
        file.seek(start)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, max(self._end - self._file.tell(), 0)))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._end}
        return self._file.seek(max(base[whence] + offset, self._start)) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start


def _mp4_starts(file: BinaryIO) -> list[int]:
    """Where the MP4 files begin that a file was joined from; FFmpeg reads only the first."""
    size = file.seek(0, os.SEEK_END)
    starts, at = [], 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if kind == b"ftyp":
            starts.append(at)
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length < 8:  # the rest of the file, or damage
            break
        at += length
    return starts


class _Playlist(io.BytesIO):
    name = _PLAYLIST


def _read_playlist(text: bytes, growing: Callable[[bytes], bool]) -> _Playlist:
    if b"#EXTINF" in text and b"#EXT-X-ENDLIST" not in text and not growing(text):
        text += b"\n#EXT-X-ENDLIST\n"  # without its end, FFmpeg would wait for more
    return _Playlist(text)


def _entries_from(text: bytes, begin: int) -> tuple[int, list[str], bytes]:
    """Number of a playlist's first entry from `begin` on, these entries, and the playlist of them.

    Entries are numbered as the playlist does it, also where its beginning is gone.
    """
    stated = re.search(rb"#EXT-X-MEDIA-SEQUENCE:\s*(\d{1,15})", text)
    number = int(stated[1]) if stated else 0
    first, names, kept = max(number, begin), list[str](), list[bytes]()
    for line in text.splitlines():
        if line.startswith(b"#EXTINF") and number < begin:
            continue
        if line.startswith(b"#") or not line.strip():
            kept.append(line)
            continue
        if number >= begin:
            kept.append(line)
            names.append(line.strip().decode(errors="replace"))
        number += 1
    text = b"\n".join(kept) + b"\n"
    if stated:
        return first, names, text.replace(stated[0], b"#EXT-X-MEDIA-SEQUENCE:%d" % first)
    return first, names, text
