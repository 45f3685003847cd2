"""Who calls: keys with roles and quotas, from a file that may change while the service runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from contentctr.errors import InputError

Role = Literal["read", "write", "admin"]
_RANK: dict[Role, int] = {"read": 0, "write": 1, "admin": 2}
MAX_KEYS = 256
"""Every request is compared with each."""
_MAX_BYTES = 1 << 20
CHECK_S = 1.0
"""Seconds between two looks at the file."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LOG = logging.getLogger("contentctr.service")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose request it is."""

    name: str
    """Of the key; "" where no keys are asked for."""
    role: Role
    rooms: int | None = None
    """Rooms that it may have open at once; None: as many as there may be."""
    rate: float | None = None
    """Requests a second; None: no limit of its own."""

    def may(self, role: Role) -> bool:
        """Whether its role is that one, or a higher one."""
        return _RANK[self.role] >= _RANK[role]


ANYONE = Caller(name="", role="admin")
"""The caller where no keys are asked for."""


@dataclass(frozen=True)
class _Key:
    digest: bytes = field(repr=False)
    caller: Caller


class ApiKeys:
    """The keys of a service. For one thread.

    Args:
        single: one key with the role admin, beside those of the file.
        path: the file of keys; read again within `CHECK_S` of a change. A file that cannot be
            read, or has a bad line, changes nothing until it is right.
        rooms: rooms that a key with the role write may have open, where the file says nothing.
        clock: seconds.

    Raises:
        InputError: the file cannot be read, or a line of it is no key.
    """

    def __init__(
        self,
        single: str | None = None,
        path: Path | None = None,
        *,
        rooms: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._rooms, self._clock = path, rooms, clock
        self._single = []
        if single is not None:
            caller = Caller(name="admin", role="admin")
            self._single = [_Key(_digest(require_key(single, "API key")), caller)]
        self._of_file: list[_Key] = []
        self._state: tuple[int, ...] | None = None
        self._next_check = clock() + CHECK_S
        if path is not None:
            self._state = self._stat(path)
            self._of_file = read_keys(path, rooms)

    @property
    def needed(self) -> bool:
        """Whether a key is asked for."""
        return bool(self._single) or self._path is not None

    def caller(self, given: bytes) -> Caller | None:
        """Whose key it is; None: nobody's."""
        if not self.needed:
            return ANYONE
        self._look()
        digest, found = hashlib.sha256(given).digest(), None
        for key in (*self._single, *self._of_file):
            # All of them, each in the same time: how long it takes tells nothing of a key.
            if hmac.compare_digest(digest, key.digest):
                found = key.caller
        return found

    def _look(self) -> None:
        """Read the file again if it has changed."""
        if self._path is None or self._clock() < self._next_check:
            return
        self._next_check = self._clock() + CHECK_S
        try:
            state = self._stat(self._path)
            if state == self._state:
                return
            self._state = state
            self._of_file = read_keys(self._path, self._rooms)
        except InputError as error:
            self._state = None
            _LOG.error("%s; the keys stay as they were", error)

    @staticmethod
    def _stat(path: Path) -> tuple[int, ...]:
        try:
            found = os.stat(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read_keys(path: Path, rooms: int | None = None) -> list[_Key]:
    """The keys of a file, a line each: ROLE NAME KEY [rooms=N] [rate=N].

    ROLE is read, write or admin; KEY may be `sha256:` and the hexadecimal SHA-256 of the key, so
    that the file does not tell it. Empty lines and those that begin with # are passed over.

    Raises:
        InputError: names the file, the line and the rule; never what the line holds.
    """
    try:
        if not path.is_file() and path.exists():  # a pipe would hold the service up for ever
            raise InputError(f"{path}: must be a file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InputError(f"{path}: must have at most {_MAX_BYTES} bytes")
        lines = data.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: not a readable text file ({reason})") from None
    found: list[_Key] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if words and not words[0].startswith("#"):
            found.append(_read_line(words, f"{path}, line {number}", rooms))
    for what, values in (
        ("name", [key.caller.name for key in found]),
        ("key", [key.digest for key in found]),
    ):
        if len(set(values)) < len(values):
            raise InputError(f"{path}: every {what} must be there once")
    if not 1 <= len(found) <= MAX_KEYS:
        raise InputError(f"{path}: must hold 1 to {MAX_KEYS} keys, not {len(found)}")
    return found


def _read_line(words: list[str], place: str, rooms: int | None) -> _Key:
    if len(words) < 3 or words[0] not in get_args(Role):
        raise InputError(f"{place}: must be ROLE NAME KEY, with the role read, write or admin")
    role: Role = words[0]  # type: ignore[assignment]
    if not _NAME.fullmatch(words[1]):
        raise InputError(f"{place}: a name must be 1 to 64 of A-Z a-z 0-9 _ . -")
    digest = _digest(words[2])
    if words[2].startswith("sha256:"):
        try:
            digest = bytes.fromhex(words[2][7:])
        except ValueError:
            digest = b""
        if len(digest) != 32:
            raise InputError(f"{place}: sha256: must be followed by 64 hexadecimal digits")
    quota: dict[str, int] = {} if rooms is None or role == "admin" else {"rooms": rooms}
    for word in words[3:]:
        name, _, value = word.partition("=")
        if name not in ("rooms", "rate") or not re.fullmatch(r"[1-9][0-9]{0,8}", value):
            raise InputError(f"{place}: after the key there may be rooms=N and rate=N")
        quota[name] = int(value)
    caller = Caller(name=words[1], role=role, rooms=quota.get("rooms"), rate=quota.get("rate"))
    return _Key(digest, caller)


def require_key(text: str, name: str) -> str:
    """The key in a text, without the space around it.

    Raises:
        InputError: there is none, or it cannot stand in a header.
    """
    key = text.strip()
    if not key:
        raise InputError(f"{name}: must hold a key, and is blank")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(f"{name}: a key must be printable ASCII without spaces")
    return key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
