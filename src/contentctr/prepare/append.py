"""What a prepared folder already holds of rooms, for a `prepare` that adds others to it."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.files import digest, is_leftover
from contentctr.hashes import ContentHashes
from contentctr.outputs import LOCK
from contentctr.rooms.room_json import read_head
from contentctr.store.folder import MANIFEST
from contentctr.store.rooms import PreparedRooms
from contentctr.transcribe.source import split_sources


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A prepared folder as it was; empty where there is none, or where it is made anew."""

    root: Path
    manifest: Mapping[str, Any] = field(default_factory=dict)
    rooms: pl.DataFrame | None = None
    segments: pl.DataFrame | None = None
    truth: pl.DataFrame | None = None
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By folder, the room and the content that were read there."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """By folder of a bad room, its content."""

    @property
    def counts(self) -> dict[str, int]:
        """Of rows left out and the like; those of the tables themselves are made anew."""
        counts = self.manifest.get("counts", {})
        return {name: count for name, count in counts.items() if isinstance(count, int)}

    @property
    def speech_sources(self) -> list[str]:
        """Of the rooms' speech, as RoomSpeech has them."""
        return split_sources(str(self.manifest.get("speech_source", "")))

    def require_same(self, settings: Mapping[str, Any]) -> None:
        """Stop where rooms would be added that were prepared otherwise.

        Raises:
            InputError: names the first setting that differs.
        """
        for name, value in settings.items():
            before = self.manifest.get(name)
            if self.manifest and before != value:
                raise InputError(
                    f"{self.root}: {name} must be {before!r} to append to it, not {value!r}; "
                    "prepare all rooms again without --append to change it"
                )

    def folders_of(self, room_ids: Container[str]) -> set[str]:
        """The folders that rooms were read in."""
        return {folder for folder, (room_id, _) in self.sources.items() if room_id in room_ids}

    def left(self, contents: Mapping[Path, str]) -> list[Path]:
        """The folders whose rooms are not there yet, or have changed since, or lie elsewhere."""
        return [
            folder
            for folder, content in contents.items()
            if self.sources.get(str(folder.resolve()), ("", ""))[1] != content
        ]

    def require_same_places(self, read: Sequence[tuple[str, Path]]) -> None:
        """Stop where a room that was read has the id of another one, in a folder that is not read.

        Args:
            read: ids of rooms and their folders. A room that was moved has left its old one.

        Raises:
            InputError: names both folders.
        """
        now = {str(folder.resolve()) for _, folder in read}
        before = {room: folder for folder, (room, _) in self.sources.items() if folder not in now}
        for room_id, folder in read:
            other = before.get(room_id)
            if other is not None and Path(other).is_dir():
                raise InputError(
                    f"room_id {room_id!r} is in both {other} and {folder}; give each room an id of "
                    "its own"
                )

    def kept(self, read: Sequence[tuple[str, Path]], keep_from: datetime | None) -> Kept:
        """Its tables without the rooms that were read again.

        Args:
            read: ids of rooms and their folders. A room goes too whose folder holds another now.
            keep_from: rooms that started before go too.
        """
        if self.rooms is None or self.segments is None:
            return Kept()
        renamed = self._renamed(read)
        gone = [*(room_id for room_id, _ in read), *renamed.values()]
        rooms = self.rooms.filter(~pl.col("room_id").is_in(gone))
        before = rooms.height
        if keep_from is not None:
            rooms = rooms.filter((pl.col("started_at") >= keep_from).fill_null(True))
        ids = rooms.select("room_id")
        return Kept(
            rooms=[rooms],
            segments=[self.segments.join(ids, on="room_id", how="semi")],
            truth=[] if self.truth is None else [self.truth.join(ids, on="room_id", how="semi")],
            dropped=before - rooms.height,
            renamed=renamed,
        )

    def _renamed(self, read: Sequence[tuple[str, Path]]) -> dict[str, str]:
        """By the ids of rooms that were read, the other ids that their folders' rooms had."""
        now = {room_id for room_id, _ in read}
        old = {
            room_id: self.sources.get(str(folder.resolve()), (room_id, ""))[0]
            for room_id, folder in read
        }
        return {room_id: before for room_id, before in old.items() if before not in now}


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Tables of an earlier folder that stay, each in a list to be joined with others."""

    rooms: list[pl.DataFrame] = field(default_factory=list)
    segments: list[pl.DataFrame] = field(default_factory=list)
    truth: list[pl.DataFrame] = field(default_factory=list)
    dropped: int = 0
    """Rooms that were too old."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """By a room's id, the one that it had."""

    @property
    def room_ids(self) -> list[str]:
        """Ids of the rooms."""
        return [room_id for rooms in self.rooms for room_id in rooms["room_id"]]


def read_earlier(out: Path, *, append: bool) -> Earlier:
    """What rooms are appended to; without `append`, or where nothing is yet, nothing.

    Raises:
        InputError: the folder's rooms are not of room folders.
    """
    data = PreparedRooms(out)
    if not append or not (out / MANIFEST).is_file():
        return Earlier(root=out)
    manifest, sources = data.manifest(), data.sources()
    if sources is None:
        raise InputError(
            f"{out}: nothing can be appended to it: it does not say which room folders it was "
            "made of (sources.parquet); prepare all rooms again without --append"
        )
    rows = list(sources.iter_rows())
    return Earlier(
        root=out,
        manifest=manifest,
        rooms=data.rooms(),
        segments=data.segments(),
        truth=data.truth(),
        sources={folder: (room, content) for room, folder, content in rows if room},
        skipped={folder: content for room, folder, content in rows if not room},
    )


def room_contents(
    folders: Sequence[Path], hashes: ContentHashes, keep_from: datetime | None
) -> dict[Path, str]:
    """A hash of all files of each room folder, by name and content.

    Args:
        folders: of rooms.
        hashes: of files, as far as they are known.
        keep_from: folders of rooms that started before are left out; None: none is.
    """
    return {
        folder: _content(folder, hashes) for folder in folders if not _is_old(folder, keep_from)
    }


def _is_old(folder: Path, keep_from: datetime | None) -> bool:
    if keep_from is None:
        return False
    try:
        started_at = read_head(folder / "room.json").started_at
    except InputError:  # who reads the room will tell
        return False
    return started_at is not None and started_at < keep_from


def _content(folder: Path, hashes: ContentHashes) -> str:
    found, seen = [], set()
    try:
        # Parts may be links; `seen` breaks the circles that links can make.
        for place, folders, files in os.walk(folder, onerror=_stop, followlinks=True):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            for name in files:
                path = Path(place, name)
                if not is_leftover(name) and name != LOCK and path.is_file():
                    found.append((str(path.relative_to(folder)), hashes.of(path)))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error})") from None
    return digest(sorted(found))


def _stop(error: OSError) -> None:
    """A folder that cannot be listed must not be taken for an empty one."""
    raise error
