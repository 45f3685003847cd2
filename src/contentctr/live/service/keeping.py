"""Keeps the embedded service's rooms in a file, and begins with them again. For one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.live.inputs import input_spec, require_same_inputs
from contentctr.live.service.kept_rooms import (
    Known,
    packed,
    read_known,
    read_state,
    to_row,
    waiting_bytes,
)
from contentctr.live.service.state_file import (
    DamagedError,
    DamagedRoom,
    RoomRow,
    StateError,
    StateFile,
)
from contentctr.live.service.warm import Warm

if TYPE_CHECKING:
    from contentctr.live.engine import Engine

AGAIN_S = 5.0
"""Seconds until a file that could not be written is tried again."""
_OTHERS = 8
"""Rooms that are written beside those of a batch, where all changed: each is a whole window."""
_TOGETHER = 64
"""Rooms of one transaction: it is in memory and in the file's log as a whole."""
State = Literal["none", "kept", "failing"]


class Keeper:
    """The state of `serve --state`; where it cannot be kept, that is told once, and all goes on.

    Args:
        folder: as of StateFile.
        forget_after_s: rooms that were silent so long are over.
        report: told what the operator should know, a sentence each.
        clock: Unix seconds.

    Raises:
        InputError: another service uses the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        forget_after_s: float,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._report, self._clock, self._forget_after_s = report, clock, forget_after_s
        self._folder: Path | None = folder
        """None: nothing is kept any more."""
        self._file: StateFile | None = None
        self._problem: str | None = None
        self._again = 0.0
        self.name = ""
        """Of the model that serves, as it was asked for; "": the one given at the start."""
        self._switched = False
        self._changed: dict[str, bool] = {}
        """Rooms to write, and whether all of each."""
        self._pictures: set[str] = set()
        self._waiting: dict[str, None] = {}
        """Rooms whose waiting counts are others than in the file."""
        self._ended: dict[str, None] = {}
        self._all: dict[str, None] = {}
        """Rooms to write when there is time."""
        self._last: dict[str, int] = {}
        """The last number of each room in the file."""
        try:
            self._file = StateFile(folder)
        except StateError as error:
            self._fail(error)
            return
        for line in self._file.told:
            report(line)

    @property
    def state(self) -> State:
        """Whether what is known now outlives the process."""
        return "kept" if self._problem is None else "failing"

    def _fail(self, error: StateError) -> None:
        if self._problem is None:
            self._report(f"{error}; serving goes on, and rooms are not kept")
        self._problem = str(error)
        self._again = self._clock() + AGAIN_S

    def changed(self, room_id: str, *, whole: bool = False, thumbnail: bool = False) -> None:
        """A room has had a segment; `whole`: it began with it."""
        self._changed[room_id] = whole or self._changed.get(room_id, False)
        if whole:
            self._ended.pop(room_id, None)
        if thumbnail:
            self._pictures.add(room_id)

    def waits(self, room_id: str) -> None:
        """The counts of a room that wait have changed."""
        self._waiting[room_id] = None

    def ended(self, room_id: str) -> None:
        """A room is no more."""
        self._changed.pop(room_id, None)
        self._all.pop(room_id, None)
        self._last.pop(room_id, None)
        self._pictures.discard(room_id)
        self._waiting.pop(room_id, None)
        if self._file is not None:  # one that is opened later is begun without rooms
            self._ended[room_id] = None

    def all_changed(self, rooms: Mapping[str, Known], name: str = "") -> None:
        """Another model's state is every room's now; the inputs stay, until all is written.

        Args:
            rooms: all.
            name: the model's, as it was asked for.
        """
        self._all, self.name, self._switched = dict.fromkeys(rooms), name, True

    def served(self) -> tuple[str, str] | None:
        """Name and id of the model that served when the file was written; None: nobody knows."""
        try:
            found = {} if self._file is None else self._file.facts().get("model", {})
            return str(found["name"]), str(found["id"])
        except (StateError, KeyError, TypeError, AttributeError):
            return None

    def flush(
        self, rooms: Mapping[str, Known], engine: Engine, *, everything: bool = False
    ) -> None:
        """Write what has changed, each room of it in one transaction."""
        if self._folder is None or (self._problem is not None and self._clock() < self._again):
            return
        try:
            file = self._file or self._open_late(self._folder, rooms)
            others = islice(self._all, None if everything else _OTHERS)
            wanted = list(dict.fromkeys((*self._changed, *others)))
            alone = [room_id for room_id in self._waiting if room_id not in wanted]
            if not wanted and not self._ended and not self._switched and not alone:
                return
            waiting = {room_id: waiting_bytes(rooms[room_id]) for room_id in alone}
            for start in range(0, max(len(wanted), 1), _TOGETHER):
                self._write(file, wanted[start : start + _TOGETHER], rooms, engine, waiting)
                waiting = {}
        except StateError as error:
            self._fail(error)
            return
        except Exception as error:  # a fault of ours: keeping must never cost a score
            self._fail(StateError(f"rooms cannot be written ({error!r})"))
            return
        if self._problem is not None:
            self._report("rooms are kept again")
        self._problem = None

    def _write(
        self,
        file: StateFile,
        room_ids: Sequence[str],
        rooms: Mapping[str, Known],
        engine: Engine,
        waiting: Mapping[str, bytes],
    ) -> None:
        """Write some rooms, which have ended, and what waits of others, in one transaction."""
        wanted = {
            room_id: self._changed.get(room_id, False)
            or room_id in self._all
            or room_id not in self._last
            for room_id in room_ids
        }
        model = {"name": self.name, "id": engine.model_id}
        facts = {"inputs": input_spec(engine.spec), "model": model}
        file.write(self._rows(wanted, rooms, engine), list(self._ended), facts, waiting)
        self._ended.clear()
        self._switched = False
        for room_id in waiting:
            del self._waiting[room_id]
        for room_id in room_ids:
            self._changed.pop(room_id, None)
            self._all.pop(room_id, None)
            self._pictures.discard(room_id)
            self._waiting.pop(room_id, None)
            self._last[room_id] = int(rooms[room_id].inputs[-1].segment.index)

    def _open_late(self, folder: Path, rooms: Mapping[str, Known]) -> StateFile:
        """The file that could not be opened at the start, for the rooms that there are by now.

        Raises:
            StateError: it still cannot be.
        """
        try:
            file = StateFile(folder)
        except InputError as error:
            raise StateError(str(error)) from None
        told = file.told
        try:
            if file.has_rooms:
                told = [file.put_aside("holds rooms of a service before, and was opened too late")]
        except BaseException:
            file.close()
            raise
        for line in told:
            self._report(line)
        self._file, self._all = file, dict.fromkeys(rooms)
        return file

    def _rows(
        self, wanted: Mapping[str, bool], rooms: Mapping[str, Known], engine: Engine
    ) -> list[RoomRow]:
        """What is to be written of rooms, read from the scorer for as many at once as may be."""
        scorer, now = engine.scorer, self._clock()
        by_count: dict[int, list[str]] = {}
        for room_id, whole in wanted.items():
            newest = rooms[room_id].inputs[-1]
            before = newest.first - 1 if whole else self._last[room_id]
            count = max(1, min(int(newest.segment.index) - before, scorer.window_len))
            by_count.setdefault(count, []).append(room_id)
        found = []
        for count, room_ids in by_count.items():
            state = scorer.state_of(room_ids, count)
            entries_RKB = packed(state, count)
            for row, room_id in enumerate(room_ids):
                found.append(
                    to_row(
                        rooms[room_id],
                        state,
                        row,
                        entries_RKB[row],
                        window_len=scorer.window_len,
                        seen=now,
                        whole=wanted[room_id],
                        thumbnail=wanted[room_id] or room_id in self._pictures,
                        waiting=wanted[room_id] or room_id in self._waiting,
                    )
                )
        return found

    def start(self, engine: Engine) -> dict[str, Known]:
        """The rooms that were kept, put into the engine; where another model kept them, made anew.

        Args:
            engine: without rooms.
        """
        if self._file is None:
            return {}
        try:
            facts = self._file.facts()
            if facts:
                require_same_inputs(engine.spec, facts.get("inputs", {}), "the model")
            rooms = self._read(engine)
        except (InputError, DamagedError) as error:
            self._begin_anew(str(error))
            return {}
        except StateError as error:
            for room_id in engine.scorer.rooms:  # nobody would end those that were read before it
                engine.scorer.forget(room_id)
            self._give_up(error)
            return {}
        self.flush(rooms, engine, everything=True)
        if rooms:
            self._report(f"{counted(len(rooms), 'room')} of the service before go on")
        return rooms

    def _begin_anew(self, reason: str) -> None:
        assert self._file is not None
        try:
            self._report(self._file.put_aside(reason))
        except StateError as error:
            self._give_up(error)

    def _give_up(self, error: StateError) -> None:
        """Leave a file whose rooms are not those that there are; it is opened late, if ever."""
        assert self._file is not None
        self._file.close()
        self._file = None
        self._fail(error)

    def _read(self, engine: Engine) -> dict[str, Known]:
        assert self._file is not None
        rooms: dict[str, Known] = {}
        others: dict[str, Known] = {}
        for row in self._file.rooms():
            if isinstance(row, DamagedRoom):
                self._report(f"{row}; it begins anew")
                self._ended[row.room_id] = None
            elif row.seen < self._clock() - self._forget_after_s:
                self._ended[row.room_id] = None  # it has been silent for so long as ends a room
            elif len(engine.scorer) + len(others) < engine.scorer.max_rooms:
                self._restore(row, engine, rooms, others)
            else:
                self._report(f"room {row.room_id!r}: there are as many rooms as there may be")
                self._ended[row.room_id] = None
        self._make_anew(engine, others)
        return {**rooms, **others}

    def _restore(
        self, row: RoomRow, engine: Engine, rooms: dict[str, Known], others: dict[str, Known]
    ) -> None:
        """Go on with a room; or have its state made of its inputs."""
        try:
            known, facts = read_known(row, engine.scorer.window_len)
        except DamagedRoom as error:
            self._report(f"{error}; it begins anew")
            self._ended[row.room_id] = None
            return
        # With another calibration a model has the same state, and other scores.
        same = known.room is None or known.room.model == engine.model_id
        if same and row.revision == engine.scorer.revision:
            try:
                engine.scorer.go_on(read_state(row, facts, engine.scorer))
                rooms[row.room_id] = known
                self._last[row.room_id] = row.last
                return
            except (DamagedRoom, InputError, KeyError, TypeError, ValueError) as error:
                if not isinstance(error, DamagedRoom):
                    error = DamagedRoom(row.room_id, f"its state cannot be read ({error})")
                self._report(f"{error}; it is made anew from what the room sent")
        others[row.room_id] = known
        self._all[row.room_id] = None

    def _make_anew(self, engine: Engine, rooms: dict[str, Known]) -> None:
        """State and last score of rooms, by this model."""
        warm = Warm(engine)
        try:
            warm.lead(warm.behind({room_id: known.inputs for room_id, known in rooms.items()}))
        except InputError:  # one by one, to tell whose it is
            for room_id in list(rooms):
                try:
                    warm.lead(warm.behind({room_id: rooms[room_id].inputs}))
                except InputError as error:
                    self._report(f"{error}; it begins anew")
                    warm.forget(room_id)
                    self._all.pop(room_id, None)
                    self._ended[room_id] = None
                    del rooms[room_id]
        for known in rooms.values():
            known.room = None if known.room is None else warm.room(known.room)

    def close(self, rooms: Mapping[str, Known], engine: Engine) -> None:
        """Write what is left, and close the file."""
        if self._file is not None:
            self.flush(rooms, engine, everything=True)
            self._file.close()
        self._file = self._folder = None
