"""A room as a row of the state file, and back. No I/O.

Shape suffixes: R rooms, K segments, B bytes of a segment's entries in all rings of the scorer.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contentctr.errors import InputError
from contentctr.files import parse_json
from contentctr.live.inputs import RoomInput, from_bytes, to_bytes
from contentctr.live.known_rooms import LiveRoom
from contentctr.live.scorer import RoomScorer
from contentctr.live.scorer_segments import Counts, earlier_from, earlier_json
from contentctr.live.scorer_state import RoomState
from contentctr.live.service.state_file import DamagedRoom, RoomRow, SegmentRow
from contentctr.live.shares import shares_from

_POINT = struct.Struct("<qd")
_SHOWN = [field.name for field in fields(LiveRoom) if field.name != "curve"]


@dataclass(kw_only=True)
class Known:
    """A room, as the scorer's thread knows it."""

    inputs: deque[RoomInput]
    """Of its last segments, as many as the model looks at."""
    room: LiveRoom | None = None
    """None until it has a score."""
    owner: str | None = None
    thumbnail: bytes | None = None
    comments: dict[int, str] = field(default_factory=dict)
    """Of the last segments that were encoded here, where later ones read them."""
    waiting: dict[int, Counts] = field(default_factory=dict)
    """Counts of its segments that wait for its next one, by number."""


def packed(state: RoomState, count: int) -> NDArray[np.uint8]:
    """The last `count` entries of every ring, side by side: [R, K, B]; 0 beyond a short ring."""
    parts = []
    for tensor in state.tensors.values():
        rooms, found = tensor.shape[:2]
        bytes_RKB = tensor.contiguous().view(torch.uint8).numpy().reshape(rooms, found, -1)
        parts.append(np.pad(bytes_RKB, ((0, 0), (count - found, 0), (0, 0))))
    return np.concatenate(parts, axis=2)


def to_row(
    known: Known,
    state: RoomState,
    row: int,
    entries_KB: NDArray[np.uint8],
    *,
    window_len: int,
    seen: float,
    whole: bool,
    thumbnail: bool,
    waiting: bool,
) -> RoomRow:
    """What is written of a room.

    Args:
        known: the room.
        state: the scorer's, of this room among others.
        row: the room's in it.
        entries_KB: of `packed`, for the segments that are new.
        window_len: segments that the model looks at.
        seen: Unix seconds.
        whole: whether nothing of what is in the file stays.
        thumbnail: whether that is new.
        waiting: whether the counts that wait are others.
    """
    last, count = state.last_R[row], len(entries_KB)
    given = {int(one.segment.index): one for one in known.inputs}
    numbers = set(range(last - count + 1, last + 1)) | (set(given) if whole else set())
    about = {
        "streamer_id": state.streamer_ids[row],
        "first": state.first_R[row],
        "runs": list(state.runs[row]),
    }
    return RoomRow(
        room_id=state.room_ids[row],
        last=last,
        revision=state.revision,
        owner=known.owner,
        seen=seen,
        about=_about(about, known.room),
        thumbnail=known.thumbnail if thumbnail else None,
        waiting=waiting_bytes(known) if waiting else None,
        segments=[
            SegmentRow(
                number=number,
                entry=entries_KB[place].tobytes()
                if (place := number - last + count - 1) >= 0
                else None,
                input=to_bytes(given[number]) if number in given else None,
                comments=known.comments.get(number),
            )
            for number in sorted(numbers)
        ],
        # Behind a gap the oldest input lies before the window, which begins with missing segments.
        oldest=min(last - window_len + 1, *given),
        whole=whole,
    )


def waiting_bytes(known: Known) -> bytes:
    """The counts of a room that wait, as its row has them; empty where none do."""
    if not known.waiting:
        return b""
    return json.dumps(earlier_json(known.waiting), separators=(",", ":")).encode()


def _about(facts: Mapping[str, Any], room: LiveRoom | None) -> bytes:
    """Facts and the room as a line of JSON, and then the curve's points, which JSON makes slow."""
    shown = None if room is None else {name: getattr(room, name) for name in _SHOWN}
    if room is not None and shown is not None:
        shown["shares"] = None if room.shares is None else asdict(room.shares)
    head = json.dumps({**facts, "room": shown}, separators=(",", ":"), allow_nan=False).encode()
    points = b"" if room is None else b"".join(_POINT.pack(*point) for point in room.curve)
    return head + b"\n" + points


def read_known(row: RoomRow, window_len: int) -> tuple[Known, dict[str, Any]]:
    """The room of a row, and the facts that its state needs.

    Raises:
        DamagedRoom: it is none.
    """
    inputs = deque[RoomInput](maxlen=window_len)
    try:
        inputs.extend(from_bytes(one.input) for one in row.segments if one.input is not None)
        facts, room = _read_about(row.about)
        waiting = earlier_from(parse_json(row.waiting)) if row.waiting else {}
        good = bool(inputs) and int(inputs[-1].segment.index) == row.last
        good = good and all(one.segment.room_id == row.room_id for one in inputs)
        if not good or (room is not None and room.room_id != row.room_id):
            raise DamagedRoom(row.room_id, "its segments do not belong together")
    except (InputError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedRoom(row.room_id, f"cannot be read ({error})") from None
    known = Known(
        inputs=inputs,
        room=room,
        owner=row.owner,
        thumbnail=row.thumbnail,
        comments={one.number: one.comments for one in row.segments if one.comments is not None},
        waiting=waiting,
    )
    return known, facts


def _read_about(data: bytes) -> tuple[dict[str, Any], LiveRoom | None]:
    line, _, points = data.partition(b"\n")
    facts: dict[str, Any] = parse_json(line)
    values = facts.pop("room")
    if values is None:
        return facts, None
    curve = tuple((int(index), float(score)) for index, score in _POINT.iter_unpack(points))
    read = {
        "curve": curve,
        "comments": tuple(values["comments"]),
        "models": tuple((int(first), str(name)) for first, name in values["models"]),
        "shares": shares_from(values["shares"]),
    }
    return facts, LiveRoom(**{**values, **read})


def read_state(row: RoomRow, facts: Mapping[str, Any], scorer: RoomScorer) -> RoomState:
    """The scorer's state of a row's room, which its own model wrote.

    Args:
        row: the row.
        facts: of `read_known`.
        scorer: the scorer.

    Raises:
        DamagedRoom: it is none.
    """
    first, found = facts["first"], {one.number: one.entry for one in row.segments}
    tensors: dict[str, Tensor] = {}
    begin = 0
    for name, (length, shape, dtype) in scorer.entry_shapes.items():
        numbers = range(max(first, row.last - length + 1), row.last + 1)
        width = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        pieces = [(found.get(number) or b"")[begin : begin + width] for number in numbers]
        if any(len(piece) != width for piece in pieces):
            raise DamagedRoom(row.room_id, "its state is not whole")
        tensors[name] = torch.frombuffer(bytearray(b"".join(pieces)), dtype=dtype).view(
            1, len(numbers), *shape
        )
        begin += width
    return RoomState(
        revision=row.revision,
        room_ids=[row.room_id],
        streamer_ids=[facts["streamer_id"]],
        first_R=[first],
        last_R=[row.last],
        runs=[facts["runs"]],
        tensors=tensors,
    )
