"""Files joined end to end, as `cat` and some recorders do it, read as the files that they were.

FFmpeg reads on over a joint, but not well: a header of FLV in the middle is a tag of megabytes to
it, and the parameters of a second Matroska file or the new streams of an MPEG-TS it never meets. So
a joint ends what is read, as the end of a file does, and what follows is a file of its own.
"""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np

_CHUNK = 1 << 18
_HEAD = 1024
"""Bytes that tell the container."""
_TS, _SYNC = 188, 0x47
_SYNCS = 5
"""Packets in a row that begin as those of MPEG-TS do are no chance."""
_BESIDES = {0x05, 0x0D, 0x15, 0x86}
"""MPEG-TS stream types of tables, time marks and cues: they come and go with advertising."""


class Readable(Protocol):
    """What can be read on and on, such as standard input or a file that grows."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class Joined:
    """Reads one file after the other out of joined ones.

    Args:
        file: all of them.
    """

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._data = b""
        self._ended = False
        while len(self._data) < _HEAD and not self._ended:
            new = file.read(_CHUNK)
            self._data += new
            self._ended = not new
        self._finder = _find_finder(self._data)
        self._joint = False
        self._ready = 0
        self._scan()

    @property
    def joinable(self) -> bool:
        """Whether this is a container in which joints can be found."""
        return self._finder is not None

    def read(self, size: int) -> bytes:
        """Some bytes of the file at hand; none at its end."""
        while not self._ready:
            if self._joint or self._ended:
                return b""
            new = self._file.read(size)
            self._ended = not new
            self._data += new
            self._scan()
        size = min(size, self._ready)
        data, self._data = self._data[:size], self._data[size:]
        self._ready -= size
        return data

    def next_file(self) -> bool:
        """Go to the next file; False if there is none."""
        while self.read(_CHUNK):
            pass
        if not self._joint:
            return False
        assert self._finder is not None
        self._data = self._finder.begin() + self._data
        self._joint = False
        self._scan()
        return True

    def _scan(self) -> None:
        if self._finder is None or self._ended:
            self._ready = len(self._data)
        else:
            self._ready, self._joint = self._finder.scan(self._data)


class _Finder(Protocol):
    def begin(self) -> bytes:
        """A new file begins; what must be read before its own bytes."""

    def scan(self, data: bytes) -> tuple[int, bool]:
        """How many bytes belong to the file, and whether a new one begins after them.

        What is not given out now is given again, with more.
        """


def _find_finder(data: bytes) -> _Finder | None:
    if data.startswith(_Header.FLV):
        return _Header(_Header.FLV, rb"FLV\x01[\x00-\x07]\x00\x00\x00\x09\x00\x00\x00\x00")
    if data.startswith(_Header.MATROSKA):
        return _Header(_Header.MATROSKA, rb"\x1a\x45\xdf\xa3.{1,64}?(?:matroska|webm)")
    return _Tables() if _sync(data) is not None else None


class _Header:
    """Finds a container's header."""

    FLV = b"FLV\x01"
    MATROSKA = b"\x1a\x45\xdf\xa3"
    _LONGEST = 80

    def __init__(self, mark: bytes, pattern: bytes) -> None:
        self._mark, self._pattern = mark, re.compile(pattern, re.DOTALL)
        self._first = 1  # the file's own is none

    def begin(self) -> bytes:
        self._first = 1
        return b""

    def scan(self, data: bytes) -> tuple[int, bool]:
        at = data.find(self._mark, self._first)
        while at >= 0:
            if self._pattern.match(data, at):
                return at, True
            at = data.find(self._mark, at + 1)
        # A header may be cut in two by the reads: what could be its beginning waits.
        ready = max(len(data) - self._LONGEST, 0)
        self._first = 0 if ready else self._first
        return ready, False


class _Tables:
    """Finds where the streams of an MPEG-TS change, by its tables of programs (PAT, PMT)."""

    def __init__(self) -> None:
        self._last: dict[int, bytes] = {}
        """The last packet of each table's pid, without its counter."""
        self._programs: set[int] = set()
        self.streams: dict[int, set[tuple[int, int]]] = {}
        """Types and pids of a program's streams, by the pid of its table."""
        self._pat = b""
        self._lead = b""

    def begin(self) -> bytes:
        lead, self._lead = self._lead, b""
        self._last, self._programs, self.streams = {}, set(), {}
        return lead

    def scan(self, data: bytes) -> tuple[int, bool]:
        count = len(data) // _TS
        packets = np.frombuffer(data, np.uint8, count * _TS).reshape(count, _TS)
        lost = np.flatnonzero(packets[:, 0] != _SYNC)
        if len(lost):
            count = int(lost[0])
            if not count:
                start = _sync(data[1:])
                return max(len(data) - _SYNCS * _TS, 0) if start is None else start + 1, False
        pids = (packets[:count, 1] & 0x1F).astype(np.int64) << 8 | packets[:count, 2]
        at, programs = 0, None
        while programs != self._programs:  # the table of programs tells which tables to look at
            programs = set(self._programs)
            for number in np.flatnonzero(np.isin(pids, [0, *programs])).tolist():
                if number < at:
                    continue
                if self._is_new(int(pids[number]), data[number * _TS : (number + 1) * _TS]):
                    return number * _TS, True
                if programs != self._programs:
                    at = number + 1
                    break
        return count * _TS, False

    def _is_new(self, pid: int, packet: bytes) -> bool:
        """Whether the streams change with a table's packet."""
        if self._last.get(pid) == packet[4:]:
            return False
        self._last[pid] = packet[4:]
        section = _section(packet)
        if section is None:
            return False
        if pid == 0 and section[0] == 0:
            programs = {pid for number, pid in _programs(section) if number}
            changed = bool(self._programs) and programs != self._programs
            self._programs, self._pat = programs, packet
            return changed
        if section[0] != 2:
            return False
        streams = _streams(section)
        changed = self.streams.setdefault(pid, streams) != streams
        self._lead = self._pat if changed else b""
        return changed


def ts_streams(data: bytes) -> frozenset[tuple[int, int]]:
    """Types and pids of an MPEG-TS's streams, by its first tables; empty where there are none."""
    start, tables = _sync(data), _Tables()
    if start is None:
        return frozenset()
    tables.scan(data[start:])
    return frozenset().union(*tables.streams.values())


def _section(packet: bytes) -> bytes | None:
    """The table that begins and ends in a packet, up to its checksum."""
    if not packet[1] & 0x40:
        return None
    start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    if start >= _TS:
        return None
    start += 1 + packet[start]
    length = int.from_bytes(packet[start + 1 : start + 3], "big") & 0xFFF
    section = packet[start : start + 3 + length - 4]
    return section if length >= 9 and len(section) == length - 1 else None


def _programs(section: bytes) -> list[tuple[int, int]]:
    words = [int.from_bytes(section[at : at + 2], "big") for at in range(8, len(section) - 1, 2)]
    return [(number, pid & 0x1FFF) for number, pid in zip(words[::2], words[1::2], strict=False)]


def _streams(section: bytes) -> set[tuple[int, int]]:
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    streams = set()
    while at + 5 <= len(section):
        if section[at] not in _BESIDES:
            streams.add((section[at], int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF))
        at += 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF)
    return streams


def _sync(data: bytes) -> int | None:
    """Where packets of an MPEG-TS begin."""
    for start in range(min(_TS, len(data))):
        marks = data[start : start + _SYNCS * _TS : _TS]
        if len(marks) > 1 and set(marks) == {_SYNC}:
            return start
    return None
