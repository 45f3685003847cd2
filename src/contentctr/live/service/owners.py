"""Whose rooms are whose: a room belongs to the key that opened it, and a key has so many."""

from __future__ import annotations

from collections import Counter

from contentctr.live.engine import RoomsFullError
from contentctr.live.service.keys import Caller


class NotOwnerError(Exception):
    """The room was opened with another key."""


def not_owner(room_id: str) -> NotOwnerError:
    """The error; it does not tell whose the room is."""
    return NotOwnerError(f"room {room_id!r}: was opened with another key")


def too_many_rooms(caller: Caller) -> RoomsFullError:
    """The error of a key that has as many rooms as it may."""
    return RoomsFullError(f"there may be at most {caller.rooms} live rooms of one key")


class Owners:
    """The owners of rooms, in this process's memory. For one thread."""

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}
        self._rooms: Counter[str] = Counter()

    def require(self, room_id: str, caller: Caller) -> None:
        """Raises NotOwnerError where the room is another's, and the caller no admin."""
        owner = self._owner.get(room_id, caller.name)
        if owner != caller.name and not caller.may("admin"):
            raise not_owner(room_id)

    def claim(self, room_id: str, caller: Caller) -> None:
        """The room is the caller's, if it is nobody's yet.

        Raises:
            NotOwnerError: it is another's, and the caller no admin.
            RoomsFullError: the caller has as many as it may.
        """
        self.require(room_id, caller)
        if room_id in self._owner:
            return
        if caller.rooms is not None and self._rooms[caller.name] >= caller.rooms:
            raise too_many_rooms(caller)
        self.keep(room_id, caller.name)

    def of(self, room_id: str) -> str | None:
        """The name of the key that the room is of; None: it is nobody's."""
        return self._owner.get(room_id)

    def keep(self, room_id: str, name: str) -> None:
        """A room that is there is that key's, if it is nobody's."""
        if room_id not in self._owner:
            self._owner[room_id] = name
            self._rooms[name] += 1

    def release(self, room_id: str) -> None:
        """The room is over."""
        owner = self._owner.pop(room_id, None)
        if owner is not None:
            self._rooms[owner] -= 1
            if not self._rooms[owner]:
                del self._rooms[owner]
