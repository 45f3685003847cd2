"""The file of `serve --state`: rooms as rows of SQLite, a transaction a batch. Knows no model.

    DIR/rooms.sqlite           the rooms (and -wal, -shm beside it while it is open)
    DIR/contentctr.lock        tells the folder for ours, and is locked by the service that uses it
    DIR/rooms.aside-*.sqlite   what could not be used and was set aside

A transaction that was committed survives the process' death at any moment; of a machine that loses
its power the last seconds may be missing, never half of a transaction (docs/decisions.md, "The
state of the embedded service").
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from contentctr.errors import InputError
from contentctr.files import parse_json

APPLICATION = 0x43435452
"""SQLite's application_id of ours."""
SCHEMA = 2
LOCK_NAME, FILE_NAME = "contentctr.lock", "rooms.sqlite"
_LOCK_TEXT = "contentctr: the state of a service\n"
_ROOMS = """CREATE TABLE rooms (
    id INTEGER PRIMARY KEY, room_id TEXT NOT NULL UNIQUE, last INTEGER NOT NULL,
    revision TEXT NOT NULL, owner TEXT, seen REAL NOT NULL, about BLOB NOT NULL
)"""
_COLUMNS = "room_id, last, revision, owner, seen, about"
"""Of a room; the last is checked together with those before it."""
_TABLES = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
{_ROOMS};
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE waiting (id INTEGER PRIMARY KEY, counts BLOB NOT NULL);
CREATE TABLE segments (id INTEGER PRIMARY KEY, entry BLOB, input BLOB, comments BLOB);
"""
_NUMBERS = 31
"""Bits of a segment's number; before them, in its id, stands its room's."""
_ROOM_OF = f"id >> {_NUMBERS}"
_CACHE_KB = 8 * 1024


class StateError(Exception):
    """The state cannot be kept; the message says why."""


class DamagedError(StateError):
    """What is in the file is not what was written."""


class DamagedRoom(DamagedError):
    """What is kept of one room is not what was written."""

    def __init__(self, room_id: str, reason: str) -> None:
        super().__init__(f"room {room_id!r}, as it was kept: {reason}")
        self.room_id = room_id


@dataclass(frozen=True, kw_only=True)
class SegmentRow:
    """What is kept of a segment."""

    number: int
    entry: bytes | None
    """What the model's state got of it; None of one that lies before its window."""
    input: bytes | None
    """As live/inputs.py makes it; None of a missing segment."""
    comments: str | None = None
    """Of a segment that was encoded here, where a later one reads them."""


@dataclass(frozen=True, kw_only=True)
class RoomRow:
    """What is kept of a room."""

    room_id: str
    last: int
    revision: str
    """Of the model that the entries are of."""
    owner: str | None
    seen: float
    """Unix seconds."""
    about: bytes
    thumbnail: bytes | None = None
    """None: as it was."""
    waiting: bytes | None = None
    """Counts that wait for the room's next segment; empty: none do. None: as it was."""
    segments: Sequence[SegmentRow] = ()
    """New ones; of a room that is `whole`, all."""
    oldest: int = 0
    """Segments of smaller numbers are not kept."""
    whole: bool = True
    """Whether nothing stays of what was kept of the room before."""


class StateFile:
    """The open file, locked. For one thread at a time.

    Args:
        folder: made, if it is not there.

    Raises:
        InputError: another service uses the folder.
        StateError: it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.path = folder, folder / FILE_NAME
        self.told: list[str] = []
        """What was damaged, and what became of it; told by whoever opens this."""
        self._lock = _lock(folder)
        try:
            self._base = self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self.path, self.told)
        except (DamagedError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.OperationalError):  # no word on what is in the file
                raise StateError(f"{self.path}: cannot be opened ({error})") from None
            self.told.append(self._rename(f"is damaged ({error})"))
        try:
            return _connect(self.path, self.told)
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: cannot be opened ({error})") from None

    def put_aside(self, reason: str) -> str:
        """Begin anew with an empty file; what there was has another name, which the answer tells.

        Raises:
            StateError: that cannot be done; the file is as it was, and closed.
        """
        self._base.close()
        told = self._rename(reason)
        self._base = self._open()
        return told

    def _rename(self, reason: str) -> str:
        """Give what cannot be used another name; nothing is deleted."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        place = self._folder / f"rooms.aside-{stamp}-{time.monotonic_ns() % 10**6:06d}.sqlite"
        moved: list[tuple[Path, Path]] = []
        try:
            for end in ("-wal", "-shm", ""):
                old, new = Path(f"{self.path}{end}"), Path(f"{place}{end}")
                if old.exists():
                    old.rename(new)
                    moved.append((old, new))
        except OSError as error:
            # Without its log beside it the file would lack what was written last.
            for old, new in moved:
                with suppress(OSError):  # what was wrong before is told
                    new.rename(old)
            raise StateError(f"{self.path}: {reason}, and cannot be renamed ({error})") from None
        return f"{self.path}: {reason}; it is {place.name} now, and rooms begin anew"

    def close(self) -> None:
        """Close it, and let another service have the folder."""
        try:
            self._base.close()
        finally:
            self._lock.close()

    def facts(self) -> dict[str, Any]:
        """What was kept beside the rooms.

        Raises:
            DamagedError: it is not what was written.
            StateError: it cannot be read.
        """
        try:
            rows = self._base.execute("SELECT name, value FROM facts").fetchall()
            return {name: parse_json(_same(value, name)) for name, value in rows}
        except (_Changed, ValueError) as error:
            raise DamagedError(f"is damaged ({error})") from None
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: cannot be read ({error})") from None

    @property
    def has_rooms(self) -> bool:
        """Whether a room is kept.

        Raises:
            StateError: the file cannot be read.
        """
        try:
            return self._base.execute("SELECT 1 FROM rooms LIMIT 1").fetchone() is not None
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: cannot be read ({error})") from None

    def write(
        self,
        rooms: Iterable[RoomRow],
        ended: Iterable[str],
        facts: Mapping[str, Any] | None = None,
        waiting: Mapping[str, bytes] | None = None,
    ) -> None:
        """All of it or nothing, in one transaction.

        Args:
            rooms: what is new of some.
            ended: those of which nothing stays.
            facts: what is kept beside the rooms.
            waiting: of rooms that stay as they are otherwise, the counts that wait.

        Raises:
            StateError: it could not be written.
        """
        try:
            with self._base:
                self._base.execute("BEGIN IMMEDIATE")
                self._base.executemany(
                    "REPLACE INTO facts VALUES (?, ?)",
                    [
                        (name, _checked(json.dumps(value).encode(), name))
                        for name, value in (facts or {}).items()
                    ],
                )
                for room_id in ended:
                    self._remove(room_id)
                for room in rooms:
                    self._put(room)
                for room_id, counts in (waiting or {}).items():
                    if (number := self._number(room_id)) is not None:
                        self._put_waiting(number, counts)
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._base.rollback()
            raise StateError(f"{self.path}: cannot be written ({error})") from None

    def _number(self, room_id: str) -> int | None:
        found = self._base.execute(
            # As bytes: what is damaged may be no UTF-8, which no text is bound as.
            "SELECT id FROM rooms WHERE room_id = CAST(? AS TEXT)",
            (room_id.encode(errors="surrogateescape"),),
        ).fetchone()
        return None if found is None else int(found[0])

    def _put(self, room: RoomRow) -> None:
        number = self._number(room.room_id)
        if number is not None and room.whole:
            self._forget_segments(number, 1 << _NUMBERS)
        head = (room.last, room.revision, room.owner, float(room.seen))
        row = (*head, _checked(room.about, room.room_id, *head))
        if number is None:
            number = self._base.execute(
                "INSERT INTO rooms (last, revision, owner, seen, about, room_id) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (*row, room.room_id),
            ).lastrowid
            assert number is not None
        else:
            self._base.execute(
                "UPDATE rooms SET last = ?, revision = ?, owner = ?, seen = ?, about = ? "
                "WHERE id = ?",
                (*row, number),
            )
            self._forget_segments(number, room.oldest)
        self._base.executemany(
            "REPLACE INTO segments VALUES (?, ?, ?, ?)",
            [
                (
                    number << _NUMBERS | one.number,
                    _checked(one.entry),
                    _checked(one.input),
                    _checked(None if one.comments is None else one.comments.encode()),
                )
                for one in room.segments
            ],
        )
        if room.thumbnail is not None:
            picture = (number, _checked(room.thumbnail))
            self._base.execute("REPLACE INTO thumbnails VALUES (?, ?)", picture)
        elif room.whole:
            self._base.execute("DELETE FROM thumbnails WHERE id = ?", (number,))
        if room.waiting is not None or room.whole:
            self._put_waiting(number, room.waiting or b"")

    def _put_waiting(self, number: int, counts: bytes) -> None:
        if counts:
            row = (number, _checked(counts))
            self._base.execute("REPLACE INTO waiting VALUES (?, ?)", row)
        else:
            self._base.execute("DELETE FROM waiting WHERE id = ?", (number,))

    def _forget_segments(self, number: int, before: int) -> None:
        begin = number << _NUMBERS
        self._base.execute(
            "DELETE FROM segments WHERE id >= ? AND id < ?", (begin, begin + max(before, 0))
        )

    def _remove(self, room_id: str) -> None:
        number = self._number(room_id)
        if number is not None:
            self._forget_segments(number, 1 << _NUMBERS)
            for table in ("thumbnails", "waiting", "rooms"):
                self._base.execute(f"DELETE FROM {table} WHERE id = ?", (number,))

    def rooms(self) -> Iterator[RoomRow | DamagedRoom]:
        """All rooms, the one heard of last first; in the place of one that is damaged, its error.

        Raises:
            StateError: the file cannot be read.
        """
        try:
            rows = self._base.execute(
                f"SELECT id, {_COLUMNS} FROM rooms ORDER BY seen DESC"
            ).fetchall()
            for row in rows:
                try:
                    yield self._read(*row)
                except _Changed:
                    yield DamagedRoom(row[1], "is damaged")
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: cannot be read ({error})") from None

    def _read(
        self,
        number: int,
        room_id: str,
        last: int,
        revision: str,
        owner: str | None,
        seen: float,
        about: bytes,
    ) -> RoomRow:
        begin = number << _NUMBERS
        rows = self._base.execute(
            "SELECT id, entry, input, comments FROM segments WHERE id >= ? AND id < ? ORDER BY id",
            (begin, begin + (1 << _NUMBERS)),
        ).fetchall()
        picture = self._base.execute(
            "SELECT data FROM thumbnails WHERE id = ?", (number,)
        ).fetchone()
        counts = self._base.execute("SELECT counts FROM waiting WHERE id = ?", (number,)).fetchone()
        return RoomRow(
            room_id=room_id,
            last=last,
            revision=revision,
            owner=owner,
            seen=seen,
            about=_same(about, room_id, last, revision, owner, seen),
            thumbnail=None if picture is None else _same(picture[0]),
            waiting=None if counts is None else _same(counts[0]),
            segments=[
                SegmentRow(
                    number=key - begin,
                    entry=None if entry is None else _same(entry),
                    input=None if given is None else _same(given),
                    comments=None if comments is None else _same(comments).decode(),
                )
                for key, entry, given, comments in rows
            ],
        )


def _lock(folder: Path) -> IO[str]:
    """The folder's lock, which the system takes back when this process ends, however it ends."""
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() and any(folder.iterdir()):
            raise StateError(f"{folder}: holds files, and none of a service's state; left alone")
        handle = path.open("a+")
    except OSError as error:
        raise StateError(f"{folder}: cannot be used ({error.strerror})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise InputError(f"{folder}: another service keeps its rooms there") from None
    try:
        handle.seek(0)
        if handle.read(len(_LOCK_TEXT)) != _LOCK_TEXT:
            handle.write(_LOCK_TEXT)
            handle.flush()
    except OSError as error:
        handle.close()
        raise StateError(f"{path}: cannot be written ({error.strerror})") from None
    return handle


def _connect(path: Path, told: list[str]) -> sqlite3.Connection:
    """The database, made where there is none.

    Args:
        path: the file.
        told: gets a line of each room that is damaged and was removed.

    Raises:
        DamagedError: it is damaged, or of another schema.
        sqlite3.Error: SQLite cannot open it.
    """
    # The scorer's thread is the only writer; the one that opens and closes it is another.
    base = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    # What is no UTF-8 is for the row's checksum to find: an error here would cost every room.
    base.text_factory = lambda data: data.decode(errors="surrogateescape")
    try:
        found = [base.execute(f"PRAGMA {name}").fetchone()[0] for name in _MARKS]
        tables = base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found == [0, 0] and not tables:
            # Pages as large as a segment's rows; the log of changes is kept small by its own rule.
            base.execute("PRAGMA page_size = 16384")
            base.execute("PRAGMA journal_mode = WAL")
            marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"
            base.executescript(f"BEGIN; {_TABLES} {marks} COMMIT;")
        elif found != [APPLICATION, SCHEMA]:
            raise DamagedError(f"marks of another program or version, {found}")
        elif (fault := base.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise DamagedError(str(fault)[:200].replace("\n", " "))
        base.execute("PRAGMA journal_mode = WAL")
        # In WAL mode this loses nothing to a killed process, and waits for no disk at each batch.
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        base.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        # The check before leaves out whether an index says what its table does.
        if base.execute("PRAGMA integrity_check(rooms)").fetchone()[0] != "ok":
            told += _make_rooms_anew(base)
    except BaseException:
        base.close()
        raise
    return base


def _make_rooms_anew(base: sqlite3.Connection) -> list[str]:
    """Write the table of rooms and its index again, without what is damaged; a line of each."""
    told = []
    with base:
        base.execute("BEGIN IMMEDIATE")
        rows = base.execute(f"SELECT id, {_COLUMNS} FROM rooms ORDER BY seen DESC").fetchall()
        # A single row cannot be deleted, nor the index made again: neither fits the other.
        base.execute("DROP TABLE rooms")
        base.execute(_ROOMS)
        for row in rows:
            try:
                _same(row[-1], *row[1:-1])
                # A room whose index was lost may have begun again: of two rows the newest stays.
                base.execute("INSERT INTO rooms VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            except (_Changed, sqlite3.IntegrityError):
                told.append(f"{DamagedRoom(row[1], 'is damaged')}; it is removed")
        for table, room in (("thumbnails", "id"), ("waiting", "id"), ("segments", _ROOM_OF)):
            base.execute(f"DELETE FROM {table} WHERE {room} NOT IN (SELECT id FROM rooms)")
    return told


_MARKS = ("application_id", "user_version")


class _Changed(Exception):
    """A value is not what was written."""


def _checked(data: bytes | None, *beside: object) -> bytes | None:
    """With a checksum, of what stands beside it in its row too: SQLite has none of its own."""
    if data is None:
        return None
    return zlib.crc32(data, zlib.crc32(repr(beside).encode())).to_bytes(4, "little") + data


def _same(data: Any, *beside: object) -> bytes:
    """What `_checked` was given.

    Raises:
        _Changed: it is something else.
    """
    if not isinstance(data, bytes) or _checked(data[4:], *beside) != data:
        raise _Changed("its checksum is another")
    return data[4:]
