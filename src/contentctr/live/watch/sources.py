"""What can be watched: files that grow, pipes, local playlists, streams of the network.

A plain MP4 has its index at its end, and a local playlist names its pieces one by one: the first is
read once it is finished, the second as its pieces come. Whatever is finished is opened as `predict`
opens it, so that both see the same packets.
"""

from __future__ import annotations

import os
import select
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from av.container import InputContainer

from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.live.watch.waiting import Waiting
from contentctr.rooms.containers import (
    Containers,
    open_file,
    open_playlist,
    open_stream,
    open_url,
)

SCHEMES = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps", "rtp", "srt", "udp", "tcp")
"""Protocols of the network that may be asked for; others reach files and devices."""
_NET_TIMEOUT_S = (10.0, 30.0)
"""To open a stream, and to read from it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0
"""Between two tries to open a stream that broke."""
_PROGRESS_S = 5.0
"""A stream that has gone on for so long since it broke is waited for as at first."""
_HEAD = 4096
"""Bytes by which a container is told: a file that grows is looked at once so many have come."""
_RUN_HEAD = 4096
"""Bytes by which a recording is told from another that took its name."""
_SETTLED_S = 1.0
"""A finished MP4 must not have changed for so long: its index may still move to the front."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""What an MP4 or MOV may begin with."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How a stream of the network that breaks is waited for."""

    reconnect_s: float = 60.0
    """Seconds to try again before it counts as broken off; 0: not at all."""
    is_broken: Callable[[], bool] = lambda: False
    """Whether what was opened last broke, and did not end."""
    seen_s: Callable[[], float] = lambda: 0.0
    """How much of the room has been seen, in seconds."""


def run_id(source: str) -> str:
    """Names this run of a source: whoever watches from the same beginning gives the same name.

    A recording that is watched again is the same run, and its segments are known already. A stream
    or a pipe begins with what is seen first: each time it is another.

    Args:
        source: of `open_source`; of a recording, the first segment must be there.
    """
    path = Path(source)
    if source == "-" or not path.is_file():
        return uuid.uuid4().hex
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        # The number alone may come again once a file was deleted.
        return digest(str(path.absolute()), facts.st_dev, facts.st_ino, file.read(_RUN_HEAD).hex())


def open_source(source: str, waiting: Waiting, patience: Patience | None = None) -> Containers:
    """Open what the user named.

    Args:
        source: a file, which may still be written; "-", the standard input; a named pipe; a local
            HLS playlist; a URL of SCHEMES.
        waiting: how it is waited for.
        patience: with a stream of the network.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    if source == "-":
        return _standard_input(waiting)
    path = Path(source)
    if "://" in source and not path.exists():
        return _network(source, waiting, patience or Patience())
    if not path.exists():
        raise InputError(f"{source}: no such file (what is watched must be there already)")
    if path.is_dir():
        raise InputError(
            f"{source}: is a folder, and must be a recording, a pipe, a playlist or a URL"
        )
    if not path.is_file():
        waiting.report(f"{source}: waiting for its writer")
        return _pipe(os.open(path, os.O_RDONLY | os.O_NONBLOCK), source, waiting)
    return _file(path, waiting)


def _standard_input(waiting: Waiting) -> Containers:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "-: the standard input is a terminal; pipe a stream into it, as in "
            "`streamlink -O URL best | contentctr watch RUN -`"
        )
    return _pipe(os.dup(sys.stdin.fileno()), "standard input", waiting)


def _network(url: str, waiting: Waiting, patience: Patience) -> Containers:
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise InputError(f"{url}: must be a file, or a URL of {', '.join(SCHEMES)}")
    return _connections(url, waiting, patience)


def _connections(url: str, waiting: Waiting, patience: Patience) -> Containers:
    """A stream, opened again as often as it breaks; the room's clock goes on from one to the next.

    A file of the network is not opened again: it would begin at its beginning.
    """
    container = next(open_url(url, timeout_s=_NET_TIMEOUT_S))
    yield container
    seen_s, until = -_PROGRESS_S, 0.0
    while container is not None and patience.is_broken() and _is_live(container):
        # A stream that breaks again and again, and gives nothing, is not tried for ever.
        if patience.seen_s() >= seen_s + _PROGRESS_S:
            seen_s, until = patience.seen_s(), time.monotonic() + patience.reconnect_s
            waiting.report(f"{url}: broke off; trying again for {patience.reconnect_s:g} s")
        container = _opened_again(url, waiting, until)
        if container is not None:
            yield container
    if not patience.is_broken():
        waiting.why = "the stream ended"


def _is_live(container: InputContainer) -> bool:
    """Whether what the network gives is a stream without an end that is known."""
    return container.size <= 0 and not container.duration


def _opened_again(url: str, waiting: Waiting, until: float) -> InputContainer | None:
    """The stream, once it can be opened; None if it cannot before the moment `until`."""
    pause_s = _FIRST_PAUSE_S
    while time.monotonic() + pause_s < until:
        if not waiting.settled(time.monotonic() + pause_s):
            return None
        waiting.note()
        with suppress(InputError):
            container = next(open_url(url, timeout_s=_NET_TIMEOUT_S))
            waiting.report(f"{url}: goes on")
            return container
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return None


def _pipe(descriptor: int, name: str, waiting: Waiting) -> Containers:
    with Pipe(descriptor, waiting) as pipe:
        head = pipe.peek(_HEAD)
        if not head:
            raise InputError(f"{name}: ended before anything came")
        if head[4:8] in _BOXES and b"moov" not in head and b"moof" not in head:
            waiting.report(
                f"{name}: an MP4 whose index may come at its end: such a one cannot be read from "
                "a pipe; send MPEG-TS, FLV, Matroska or fragmented MP4, or give the file itself"
            )
        yield from open_stream(pipe, name)


def _file(path: Path, waiting: Waiting) -> Containers:
    with path.open("rb") as file:
        head = GrowingFile(file, waiting).peek(16)
        if not head:
            raise InputError(f"{path}: is empty, and nothing came for {waiting.idle_s:g} s")
        if head.startswith(b"#EXTM3U"):
            yield from _playlist(path, waiting)
        elif head[4:8] in _BOXES and _finished_mp4(file, path, waiting):
            yield from open_file(path)
        else:
            file.seek(0)
            growing = GrowingFile(file, waiting)
            growing.peek(_HEAD)
            yield from open_stream(growing, path)


class _Reader:
    """What is read on and on, and waited at; its first bytes can be looked at before."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """The first bytes, `size` or more unless it ends before."""
        while len(self._ahead) < size and (data := self._take(size)):
            self._ahead += data
        return self._ahead

    def read(self, size: int, /) -> bytes:
        """Some bytes as soon as there are any; none once it has ended."""
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._take(size)

    def _take(self, size: int) -> bytes:
        raise NotImplementedError


class GrowingFile(_Reader):
    """A file that may still be written: its end is waited at, until it is silent for too long.

    Args:
        file: open for reading, in binary.
        waiting: how it is waited for.
    """

    def __init__(self, file: BinaryIO, waiting: Waiting) -> None:
        super().__init__(waiting)
        self._file = file

    def _take(self, size: int) -> bytes:
        found: list[bytes] = []

        def ready() -> bool:
            found[:] = [self._file.read(size)]
            return bool(found[0])

        return found[0] if self._waiting.until(ready) else b""


class Pipe(_Reader):
    """A pipe: it ends when its writer closes it, however long that is silent before.

    Args:
        descriptor: open for reading; closed with the pipe.
        waiting: how it is waited for.
    """

    def __init__(self, descriptor: int, waiting: Waiting) -> None:
        super().__init__(waiting)
        self._descriptor = descriptor

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def _take(self, size: int) -> bytes:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        # Not a read that blocks: a signal must be able to end it.
        while not poll.poll(1000 * self._waiting.poll_s):
            if self._waiting.stopped:
                return b""
            self._waiting.note()
        data = os.read(self._descriptor, size)
        if not data:
            self._waiting.why = "its writer closed it"
        return data


def _playlist(path: Path, waiting: Waiting) -> Containers:
    def has_entry() -> bool:
        text = path.read_bytes()
        return b"#EXTINF" in text or b"#EXT-X-STREAM-INF" in text

    if not waiting.until(has_entry):
        raise InputError(f"{path}: a playlist that names nothing")
    missing: list[str] = []
    yield from open_playlist(path, growing=_growth(waiting), missing=missing)
    if missing:
        waiting.report(
            f"{path}: {len(missing)} of its entries were not there or not files of its folder, "
            f"such as {missing[0]}"
        )


def _growth(waiting: Waiting) -> Callable[[bytes], bool]:
    """What tells by a playlist's text whether it may still grow: it was new within `idle_s`."""
    seen: deque[bytes] = deque(maxlen=16)  # with variants, FFmpeg reads several in turn
    since = time.monotonic()

    def growing(text: bytes) -> bool:
        nonlocal since
        if text not in seen:
            seen.append(text)
            since = time.monotonic()
        waiting.note()
        goes_on = not waiting.stopped and time.monotonic() - since < waiting.idle_s
        if not goes_on:
            waiting.why = f"the playlist grew no more for {waiting.idle_s:g} s"
        return goes_on

    return growing


def _finished_mp4(file: BinaryIO, path: Path, waiting: Waiting) -> bool:
    """Whether it is a plain MP4, which is finished now; False for one in fragments.

    Raises:
        InputError: it is plain, grows no more and has no index.
    """
    told, size, since = False, -1, time.monotonic()
    while not waiting.stopped:
        state, now = mp4_state(file), os.fstat(file.fileno())
        if state == "fragmented":
            return False
        if now.st_size != size:
            size, since = now.st_size, time.monotonic()
        # By its own time at once, if it is old; that may lie ahead, where a clock was set.
        quiet_s = max(time.time() - now.st_mtime, time.monotonic() - since)
        if state == "finished" and quiet_s >= _SETTLED_S:
            return True
        if state == "open" and not told:
            told = True
            waiting.report(
                f"{path}: an MP4 whose index comes at its end: it can be read once it is finished"
            )
        if state == "open" and time.monotonic() - since >= waiting.idle_s:
            raise InputError(
                f"{path}: an MP4 without its index, which is written at the end: it was cut off, "
                f"or is still being written and was silent for {waiting.idle_s:g} s (--idle); "
                "record as MPEG-TS, FLV, Matroska or fragmented MP4 to watch while it is written"
            )
        waiting.pause()
    return False


def mp4_state(file: BinaryIO) -> Literal["fragmented", "finished", "open"]:
    """How far an MP4 is: in fragments, each with its own index; plain and finished; or not yet."""
    size = file.seek(0, os.SEEK_END)
    at, fragmented = 0, False
    kinds: list[bytes] = []
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length == 0:  # to the end of the file, which is known once the index is there
            length = size - at + (b"moov" not in kinds)
        if length < 8:
            break
        whole = at + length <= size
        fragmented |= kind == b"moof"
        fragmented |= kind == b"moov" and whole and b"mvex" in file.read(length)
        kinds.append(kind)
        at += length
    # Joined files of fragments are opened as `predict` opens them: FFmpeg reads but the first.
    if fragmented and not (at == size and kinds.count(b"ftyp") > 1):
        return "fragmented"
    return "finished" if at == size and b"moov" in kinds else "open"
