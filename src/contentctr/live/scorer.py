"""RoomScorer: the rolling state of live rooms, and a score for every new segment. No I/O.

A score is that of the offline window (score/rooms.py) to 1e-6, from a room's first segment on.
What is new is computed: the segment's projections and Perceiver block, and what the decoder cannot
keep (scorer_decoders.py). What becomes of segments that do not come one by one
(docs/decisions.md, "Live scoring"):

- first: a room begins with the first segment that is seen, whatever its number.
- missing: where a number is skipped, the skipped segments are taken as segments without frames,
  speech and comments. They have no score. More than MAX_GAP_S of them are refused.
- repeated: a segment that was scored is not scored again; its score is given once more, whatever
  it holds now, as long as it is among the room's last n.
- counts: a model with statistics reads what was counted in a room's earlier segments, which comes
  with them, or late with a segment that follows (scorer_statistics.py).
- late: a segment whose place was taken as missing, or is older than the last n, is left out: what
  was scored since would only be corrected exactly by computing it anew.
- anew: with a segment of another run the room begins anew; of a run that was replaced, all is late.
- together: segments of one call are taken in the order of their numbers.

Shape suffixes as in batch.py, and: R rows, one a new segment; M members of an ensemble.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config
from contentctr.errors import InputError
from contentctr.live.scorer_decoders import Ring, Step
from contentctr.live.scorer_members import LiveModel, Perceived
from contentctr.live.scorer_plan import Plan, Room, Task
from contentctr.live.scorer_segments import (
    MAX_GAP_S,
    LiveSegment,
    Runs,
    Scored,
    Status,
    as_batch,
    check_segments,
)
from contentctr.live.scorer_state import RoomState, from_bytes, revision_of, to_bytes
from contentctr.live.scorer_statistics import Followed, LiveStatistics, Next, known_before
from contentctr.models.contentctr import ContentCTR
from contentctr.models.ensemble import members_of
from contentctr.score.calibration import Calibration
from contentctr.score.checkpoint import require_live

T = TypeVar("T")
Floats = NDArray[np.float64]


class RoomScorer:
    """Scores live rooms, many in one batch, each new segment from the room's last n.

    Not for use by two threads at once. The model must not change while rooms are live.

    Args:
        model: any ContentCTR or variant of it, or an ensemble of them; put on the device, and into
            evaluation mode.
        config: the model's.
        spec: of the features it was trained on.
        vocabulary: its known streamers.
        max_rooms: rooms at once. On a CPU, memory is taken as they come.
        batch_size: rooms computed at once; scores do not depend on it beyond rounding.
        device: where to compute and to keep what is kept.
        calibration: what becomes of the model's scores when they are told; rooms' state does not
            depend on it.

    Raises:
        InputError: the model cannot be run live, or a number is below 1.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Config,
        spec: DataSpec,
        vocabulary: Vocabulary,
        *,
        max_rooms: int = 4096,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
        calibration: Calibration | None = None,
    ) -> None:
        require_live(config)
        if not all(isinstance(member, ContentCTR) for member in members_of(model)):
            raise InputError(
                "model.kind must be contentctr or an attention variant of it to score live "
                f"rooms, not {config.model.kind!r}"
            )
        for name, value in (("max_rooms", max_rooms), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        self.window_len, self.horizon = config.data.window_len, config.data.horizon
        self.max_rooms, self.batch_size = max_rooms, batch_size
        self.revision = revision_of(model, config, spec, vocabulary)
        self._model = model.to(device).eval()
        self._calibration = calibration or Calibration()
        self._spec, self._device = spec, torch.device(device)
        self._streamers = {name: row for row, name in enumerate(vocabulary.streamers, start=1)}
        self._live = LiveModel(self._model, self.window_len, max_rooms, device)
        self._scores = Ring(max_rooms, self.window_len, dtype=torch.float64)
        reads_counts = config.model.reads_counts
        self._statistics = (
            LiveStatistics(max_rooms, self.horizon, spec.target, spec.target_scale)
            if reads_counts
            else None
        )
        self._has_token, self._has_sound = config.model.statistics, config.model.sound
        self._has_words = config.model.words
        self._rooms: dict[str, Room] = {}
        self._free = list(range(max_rooms - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def rooms(self) -> dict[str, int]:
        """The number of the last segment of every room."""
        return {room_id: room.last for room_id, room in self._rooms.items()}

    def stand(self, room_id: str) -> tuple[int, Runs] | None:
        """Number of a room's last segment, and its runs; None: there is no such room."""
        room = self._rooms.get(room_id)
        return None if room is None else (room.last, room.runs)

    def forget(self, room_id: str) -> bool:
        """Free a room's place; whether there was such a room."""
        room = self._rooms.pop(room_id, None)
        if room is not None:
            self._free.append(room.slot)
        return room is not None

    def begin(
        self,
        room_id: str,
        streamer_id: str,
        index: int,
        runs: Runs,
        counted_AC: Floats | None,
    ) -> None:
        """Let in a room that was live before its segment `index`, the first to come here.

        Args:
            room_id: of the room; one of that name makes place.
            streamer_id: the room's.
            index: number of the segment.
            runs: the room's.
            counted_AC: state of its statistics before the segment; None: nothing was counted.

        Raises:
            InputError: there would be more than `max_rooms`.
        """
        if room_id not in self._rooms and len(self) >= self.max_rooms:
            raise InputError(
                f"room {room_id!r}: the number of live rooms must be at most {self.max_rooms}"
            )
        room = self._new_room(streamer_id, first=index, last=index - 1, runs=runs)
        self._let_in({room_id: room})
        if self._statistics is not None and counted_AC is not None:
            self._statistics.keep(torch.tensor([room.slot]), [counted_AC])
            room.counted = True

    def reach_back(self, room_id: str, first: int) -> None:
        """Say that a room began with segment `first`, where its window does not reach it any more.

        Args:
            room_id: a live room.
            first: number of the segment.
        """
        room = self._rooms[room_id]
        if room.last - room.first + 1 >= self.window_len:
            room.first = first

    @torch.inference_mode()
    def score(self, segments: Sequence[LiveSegment]) -> list[Scored]:
        """Take new segments of any rooms, and score them.

        If computing is interrupted, each room is as after the last segment that was finished, and
        the same call can be made again.

        Args:
            segments: any number, of any rooms; several of one room too.

        Returns:
            What became of each, in the order given.

        Raises:
            InputError: a segment is not what the model takes, its streamer is not the room's, it
                lies too far after the room's last, or there would be more than `max_rooms`. Then
                nothing has changed.
        """
        check_segments(segments, self._spec)
        plan = self._plan(segments)
        self._let_in(plan.new_rooms)
        self._follow(plan)
        perceived = self._perceive(plan)
        found: dict[int, float] = {}
        for tasks in plan.rounds:
            for part in _parts(tasks, self.batch_size):
                found.update(self._take(part, perceived, plan.followed))
        return [self._result(segment, k, plan, found) for k, segment in enumerate(segments)]

    def _plan(self, segments: Sequence[LiveSegment]) -> Plan:
        plan = Plan(share_blanks=self._statistics is None)
        ahead: dict[str, tuple[int, int]] = {}  # each room's last number in this call, its place
        for k in sorted(range(len(segments)), key=lambda k: segments[k].index):
            segment, index = segments[k], int(segments[k].index)
            room = self._room(segment, plan.new_rooms)
            if room.runs.are_over(segment.run):
                plan.kept[k] = None
                continue
            last, twin = ahead.get(segment.room_id, (room.last, -1))
            if index > last:
                self._require_near(segment, last)
                # No window reaches further back than n - 1 segments.
                for missing in range(max(last + 1, index - self.window_len + 1), index):
                    plan.add(room, missing, None, None, known_before(segment, missing))
                plan.add(room, index, k, segment, segment.earlier)
                ahead[segment.room_id] = index, k
            elif index == last and twin >= 0:
                plan.twins[k] = twin
            else:
                plan.kept[k] = self._kept_score(room, index)
        count = len(self._rooms) + sum(name not in self._rooms for name in plan.new_rooms)
        if count > self.max_rooms:
            first = next(reversed(plan.new_rooms))
            raise InputError(
                f"room {first!r}: the number of live rooms must be at most {self.max_rooms} "
                f"(max_rooms), not {count}; forget those that have ended"
            )
        return plan

    def _require_near(self, segment: LiveSegment, last: int) -> None:
        most = last + max(1, int(MAX_GAP_S / self._spec.segment_seconds))
        if segment.index > most:
            raise InputError(
                f"room {segment.room_id!r}, segment {segment.index}: index must be at most {most}, "
                f"a day after the room's last, {last}; end the room first, if it begins anew"
            )

    def _room(self, segment: LiveSegment, new_rooms: dict[str, Room]) -> Room:
        """The segment's room, which may be a new one."""
        room = new_rooms.get(segment.room_id) or self._rooms.get(segment.room_id)
        if room is None or room.runs.begin_anew(segment.run):
            before, index = room, int(segment.index)
            room = self._new_room(
                segment.streamer_id if before is None else before.streamer_id,
                first=index,
                last=index - 1,
                runs=Runs(segment.run) if before is None else before.runs.then(segment.run),
            )
            new_rooms[segment.room_id] = room
        if room.streamer_id != segment.streamer_id:
            raise InputError(
                f"room {segment.room_id!r}, segment {segment.index}: streamer_id must be "
                f"{room.streamer_id!r}, as in the room's first segment, not "
                f"{segment.streamer_id!r}"
            )
        return room

    def _new_room(self, streamer_id: str, *, first: int, last: int, runs: Runs) -> Room:
        streamer = self._streamers.get(streamer_id, 0)
        return Room(streamer_id=streamer_id, streamer=streamer, first=first, last=last, runs=runs)

    def _kept_score(self, room: Room, index: int) -> float | None:
        if index <= room.last - self.window_len or index < room.first:
            return None
        score = float(self._scores.entries[room.slot * self.window_len + index % self.window_len])
        return None if score != score else score

    def _let_in(self, new_rooms: dict[str, Room]) -> None:
        for room_id, room in new_rooms.items():
            self.forget(room_id)  # a run before, or what is restored
            room.slot = self._free.pop()
            self._rooms[room_id] = room

    def _perceive(self, plan: Plan) -> Perceived:
        """The Perceivers' outputs of each content."""
        found = []
        for rows in _parts(range(len(plan.contents)), self.batch_size):
            part = slice(rows[0], rows[-1] + 1)
            read = [row.values_X for row in plan.followed[part]] if self._has_token else []
            batch = as_batch(
                plan.contents[part],
                plan.streamers[part],
                self._spec,
                read,
                sound=self._has_sound,
                words=self._has_words,
            )
            found.append(self._live.perceive(batch.to(self._device)))
        return Perceived.joined(found)

    def _follow(self, plan: Plan) -> None:
        """What the earlier segments, those of this call among them, say of each content."""
        if self._statistics is None:
            return
        found: dict[int, Followed] = {}
        ahead: dict[int, tuple[int, Floats]] = {}  # each room's last number so far, its state
        for tasks in plan.rounds:  # no room is twice in one
            rooms = []
            for task in tasks:
                slot, last, state_AC = task.room.slot, task.room.last, None
                if slot in ahead:
                    last, state_AC = ahead[slot]
                elif last >= task.room.first or task.room.counted:
                    state_AC = self._statistics.state(slot)
                content = plan.contents[task.row]
                rooms.append(Next(state_AC, last, task.index, content, task.earlier))
            for task, row in zip(tasks, self._statistics.follow(rooms), strict=True):
                found[task.row] = row
                ahead[task.room.slot] = task.index, row.state_AC
        plan.followed = [found[row] for row in range(len(plan.contents))]

    def _take(
        self, tasks: Sequence[Task], perceived: Perceived, followed: Sequence[Followed]
    ) -> dict[int, float]:
        """Take one segment each of some rooms; the scores by place."""
        index_R, slot_R, first_R, row_R = torch.tensor(
            [(task.index, task.room.slot, task.room.first, task.row) for task in tasks]
        ).T
        wanted_R = torch.tensor([task.place is not None for task in tasks])
        to = self._device
        step = Step(
            slot_R=slot_R.to(to),
            index_R=index_R.to(to),
            wanted_R=wanted_R.to(to),
            count_R=(index_R - first_R + 1).to(to),
        )
        known = [followed[task.row] for task in tasks if followed and task.place is not None]
        logits = self._live.logits(step, perceived.of(row_R.to(to)), known)
        score_R = torch.full(wanted_R.shape, torch.nan, dtype=torch.float64)
        score_R[wanted_R] = torch.sigmoid(logits).cpu().double()
        assert torch.isfinite(score_R[wanted_R]).all(), "finite features gave no finite score"
        self._scores.write(slot_R, index_R, score_R)
        # Last, and with the numbers that say so: a state that was advanced twice would be wrong.
        if self._statistics is not None:
            self._statistics.keep(slot_R, [followed[task.row].state_AC for task in tasks])
        for task in tasks:
            task.room.last = task.index
        pairs = zip(tasks, score_R.tolist(), strict=True)
        return {task.place: score for task, score in pairs if task.place is not None}

    def _result(self, segment: LiveSegment, k: int, plan: Plan, found: dict[int, float]) -> Scored:
        score: float | None
        status: Status
        read, late = None, 0
        if k in plan.kept:
            score = plan.kept[k]
            status = "late" if score is None else "repeated"
        else:
            score = found[plan.twins.get(k, k)]
            status = "repeated" if k in plan.twins else "scored"
            if self._statistics is not None:
                followed = plan.followed[plan.rows[plan.twins.get(k, k)]]
                read = followed.values_X if self._has_token else None
                late = 0 if k in plan.twins else followed.late_counts
        index = int(segment.index)
        room = self._rooms[segment.room_id]
        if index + self.horizon < room.first <= index and not room.runs.are_over(segment.run):
            score, status = None, "early"
        return Scored(
            room_id=segment.room_id,
            index=index,
            target_index=index + self.horizon,
            score=self._calibration.one(score),
            status=status,
            statistics_X=read,
            late_counts=late,
        )

    @property
    def _rings(self) -> dict[str, Ring]:
        rings = {"score": self._scores, **self._live.rings}
        return rings if self._statistics is None else {**rings, "counts": self._statistics.ring}

    @property
    def entry_shapes(self) -> dict[str, tuple[int, tuple[int, ...], torch.dtype]]:
        """Of each ring, as a state's tensors stand: length, and an entry's shape and kind."""
        return {
            name: (ring.length, tuple(ring.entries.shape[1:]), ring.entries.dtype)
            for name, ring in self._rings.items()
        }

    def save(self, room_ids: Sequence[str] | None = None) -> bytes:
        """The state of some rooms, or of all, to go on with the same bits elsewhere.

        Args:
            room_ids: which; None: all.

        Returns:
            Bytes of a safetensors file.

        Raises:
            InputError: no such room.
        """
        return to_bytes(self.state_of(room_ids))

    def state_of(self, room_ids: Sequence[str] | None = None, most: int | None = None) -> RoomState:
        """What `save` makes bytes of; with `most`, no more than so many entries of each ring.

        Raises:
            InputError: no such room.
        """
        names = list(self._rooms) if room_ids is None else list(dict.fromkeys(room_ids))
        unknown = [name for name in names if name not in self._rooms]
        if unknown:
            raise InputError(f"room {unknown[0]!r}: must be one of the {len(self)} live rooms")
        rooms = [self._rooms[name] for name in names]
        first_R, last_R, slot_R = (
            torch.tensor([(room.first, room.last, room.slot) for room in rooms], dtype=torch.long)
            .view(-1, 3)
            .T
        )
        tensors = {
            name: ring.read_seen(slot_R, first_R, last_R, most)
            for name, ring in self._rings.items()
        }
        return RoomState(
            revision=self.revision,
            room_ids=names,
            tensors=tensors,
            streamer_ids=[room.streamer_id for room in rooms],
            first_R=first_R.tolist(),
            last_R=last_R.tolist(),
            runs=[(room.runs.current, *room.runs.replaced) for room in rooms],
        )

    def restore(self, data: bytes) -> list[str]:
        """Go on with rooms that `save` kept, in place of rooms of the same names.

        Args:
            data: what `save` returned, here or elsewhere.

        Returns:
            The rooms' ids.

        Raises:
            InputError: damaged bytes, a state of another model, or more than `max_rooms`. Then
                nothing has changed.
        """
        return self.go_on(from_bytes(data, self.revision))

    def go_on(self, state: RoomState) -> list[str]:
        """As `restore`, from a state of this scorer's revision."""
        first_R = torch.tensor(state.first_R, dtype=torch.long)
        last_R = torch.tensor(state.last_R, dtype=torch.long)
        self._require_tensors(state, first_R, last_R)
        new = [name for name in state.room_ids if name not in self._rooms]
        if len(self) + len(new) > self.max_rooms:
            raise InputError(
                f"state of rooms: the number of live rooms must be at most {self.max_rooms} "
                f"(max_rooms), not {len(self) + len(new)}"
            )
        rooms = [
            self._new_room(streamer_id, first=first, last=last, runs=Runs(run, tuple(replaced)))
            for streamer_id, first, last, (run, *replaced) in zip(
                state.streamer_ids, state.first_R, state.last_R, state.runs, strict=True
            )
        ]
        self._let_in(dict(zip(state.room_ids, rooms, strict=True)))
        slot_R = torch.tensor([room.slot for room in rooms], dtype=torch.long)
        for name, ring in self._rings.items():
            ring.write_all(slot_R, last_R, state.tensors[name])
        return list(state.room_ids)

    def _require_tensors(self, state: RoomState, first_R: Tensor, last_R: Tensor) -> None:
        for name, ring in self._rings.items():
            wanted = (ring.seen_shape(first_R, last_R), ring.entries.dtype)
            tensor = state.tensors.get(name)
            found = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
            if found != wanted:
                raise InputError(f"state of rooms: {name!r} must be {wanted}, not {found}")
            assert tensor is not None
            if name != "score" and not torch.isfinite(tensor).all():
                raise InputError(f"state of rooms: {name!r} must be finite, and is not")


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
