"""The inputs of rooms' last segments, as bytes: from them any model makes its own state. No I/O.

A scorer's state is its model's alone (scorer_state.py). What it was made from is nobody's: vectors,
flags and counts of the last n segments. Another model scores them once, silently, and stands where
it would stand had it seen the room from its start (docs/decisions.md, "Models with names"):

- the window: whole, where n inputs are kept and the model's window is no longer than n. A model
  with a longer one sees the room begin with the oldest kept.
- statistics look back to the room's start: what was counted before a segment comes with it. What
  became known only with the segment stands in it, so that every model adds it at the same place.
- repeats: scores of the segments before the last are those of windows that begin with the oldest
  kept; only a segment that is posted again is answered with one of them.

A model of other encoders cannot score these inputs at all: `require_same_inputs` tells it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.files import parse_json
from contentctr.live.scorer import RoomScorer
from contentctr.live.scorer_segments import (
    MAX_INDEX,
    VALUES,
    LiveSegment,
    Runs,
    Scored,
    earlier_from,
    earlier_json,
)
from contentctr.live.scorer_statistics import with_earlier
from contentctr.store.statistics import (
    LATEST,
    STATE_SHAPE,
    advance,
    counts_row,
    first_state,
    skip,
)

FORMAT = "contentctr-input-2"
_ABOUT = "contentctr"
_COUNTED, _SEEN = "counted", "seen"
SPEC_FIELDS = (
    *("segment_seconds", "frames_per_segment", "frames", "comment_lag"),
    *("visual_revision", "visual_dim", "text_revision", "text_dim", "text_pooling"),
    *("text_prefix", "max_text_tokens", "sound_dim", "sound_revision"),
    *("words_dim", "words_revision"),
)
"""What must be the same of two models for one to score the other's inputs."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class RoomInput:
    """A segment that was taken, and what its room was before it."""

    segment: LiveSegment
    first: int
    """Number of the first segment of the room's run."""
    runs: Runs
    """The room's, with this segment."""
    counted_AC: Floats | None = None
    """State of the room's statistics before the segment (store/statistics.py), without what it
    brings of earlier ones; None: nothing was counted."""

    @property
    def begins(self) -> bool:
        """Whether the room begins, or begins anew, with it: inputs before it are another's."""
        return int(self.segment.index) == self.first


def next_input(before: RoomInput | None, segment: LiveSegment) -> RoomInput:
    """A room's next input.

    Args:
        before: the input before it; None: the room begins.
        segment: one that was taken (`scored` or `early`), not one that is repeated or late.
    """
    index = int(segment.index)
    if before is None or before.runs.begin_anew(segment.run):
        runs = Runs(segment.run) if before is None else before.runs.then(segment.run)
        return RoomInput(segment=segment, first=index, runs=runs)
    return RoomInput(
        segment=segment, first=before.first, runs=before.runs, counted_AC=_after(before, index)
    )


def _after(before: RoomInput, index: int) -> Floats | None:
    """The statistics just before segment `index`."""
    last = before.segment
    if before.counted_AC is None and not last.counts and not last.earlier:
        return None
    state_AC = first_state(1)[0] if before.counted_AC is None else before.counted_AC
    if last.earlier:
        state_AC, _ = with_earlier(state_AC, int(last.index), last.earlier)
    after_RAC = advance(state_AC[None], counts_row(last.counts)[None])
    found: Floats = skip(after_RAC, index - int(last.index) - 1)[0]
    return found


def to_bytes(entry: RoomInput) -> bytes:
    """One input as the bytes of a safetensors file; vectors with the bits they have."""
    segment = entry.segment
    about = {
        "format": FORMAT,
        "room_id": segment.room_id,
        "streamer_id": segment.streamer_id,
        "index": int(segment.index),
        "has_speech": bool(segment.has_speech),
        "has_comments": bool(segment.has_comments),
        "run": segment.run,
        "counts": None
        if segment.counts is None
        else {k: int(v) for k, v in segment.counts.items()},
        "earlier": earlier_json(segment.earlier or {}),
        "first": entry.first,
        "runs": [entry.runs.current, *entry.runs.replaced],
    }
    tensors = {
        name: np.ascontiguousarray(values)
        for name in VALUES
        if (values := getattr(segment, name)) is not None
    }
    if entry.counted_AC is not None:
        # It comes with every input: float32 keeps it far below 1e-6 of a score, in half the bytes.
        tensors[_COUNTED] = entry.counted_AC[:, :-1].astype(np.float32)
        tensors[_SEEN] = entry.counted_AC[:, -1].astype(np.int64)  # bits, more than float32 holds
    data: bytes = save_bytes(tensors, {_ABOUT: json.dumps(about)})
    return data


def from_bytes(data: bytes) -> RoomInput:
    """The input in what `to_bytes` made; whether it fits a model is `take_over`'s to tell.

    Raises:
        InputError: the bytes are damaged, or of another format.
    """
    try:
        tensors = load_bytes(data)
        length = int.from_bytes(data[:8], "little")
        about = parse_json(parse_json(data[8 : 8 + length])["__metadata__"][_ABOUT])
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"input of a room: not readable safetensors bytes ({error})") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise InputError(f"input of a room: format must be {FORMAT!r}, not {found!r}")
    _require_about(about)
    return RoomInput(
        segment=LiveSegment(
            room_id=about["room_id"],
            streamer_id=about["streamer_id"],
            index=about["index"],
            visual=tensors.get("visual"),
            text=tensors.get("text"),
            sound=tensors.get("sound"),
            words=tensors.get("words"),
            has_speech=about["has_speech"],
            has_comments=about["has_comments"],
            run=about["run"],
            counts=about["counts"],
            earlier=earlier_from(about["earlier"]) or None,
        ),
        first=about["first"],
        runs=Runs(about["runs"][0], tuple(about["runs"][1:])),
        counted_AC=_counted(tensors.get(_COUNTED), tensors.get(_SEEN)),
    )


def _require_about(about: Mapping[str, Any]) -> None:
    kinds = {"room_id": str, "streamer_id": str, "index": int, "first": int, "run": str}
    kinds |= {"has_speech": bool, "has_comments": bool, "runs": list}
    good = all(type(about.get(name)) is kind for name, kind in kinds.items())
    good = good and isinstance(about.get("counts", ""), dict | None)
    good = good and bool(about["runs"]) and all(isinstance(run, str) for run in about["runs"])
    good = good and 0 <= about["first"] <= about["index"] <= MAX_INDEX
    good = good and about["run"] in ("", about["runs"][0])
    try:
        earlier_from(about.get("earlier"))
    except ValueError:
        good = False
    if not good:
        raise InputError("input of a room: what it says of its segment is damaged")


def _counted(values: NDArray[Any] | None, seen_A: NDArray[Any] | None) -> Floats | None:
    if values is None:
        return None
    columns, numbers = STATE_SHAPE
    good = values.shape == (columns, numbers - 1) and values.dtype == np.float32
    good = good and seen_A is not None and seen_A.shape == (columns,) and seen_A.dtype == np.int64
    # The last of each column is the segment before's count, or -1; the others are sums.
    if not good or not np.isfinite(values).all() or not (values >= -1).all():
        raise InputError(f"input of a room: {_COUNTED!r} must be counts of {columns} columns")
    if (values[:, :-1] < 0).any():
        raise InputError(f"input of a room: {_COUNTED!r} must be of sums of 0 or more")
    assert seen_A is not None
    if not ((seen_A >= 0) & (seen_A < 2**LATEST)).all():
        raise InputError(f"input of a room: {_SEEN!r} must be {LATEST} bits of each column")
    return np.concatenate((values, seen_A[:, None]), axis=1, dtype=np.float64)


def take_over(scorer: RoomScorer, rooms: Sequence[Sequence[RoomInput]]) -> list[Scored]:
    """Have a scorer stand in rooms where it would stand had it seen them; in place of what it has.

    Args:
        scorer: of any model that takes these inputs.
        rooms: the last inputs of each, oldest first; no room twice, none empty.

    Returns:
        The last segment's result of each room: its score, if it has one, is the model's.

    Raises:
        InputError: the inputs are not of one room in order, or not what the model takes, or there
            would be too many rooms. Then none of these rooms is in the scorer.
    """
    for entries in rooms:
        _require_order(entries)
    names = [entries[0].segment.room_id for entries in rooms]
    try:
        for entries in rooms:
            oldest = entries[0]
            scorer.begin(
                oldest.segment.room_id,
                oldest.segment.streamer_id,
                int(oldest.segment.index),
                oldest.runs,
                oldest.counted_AC,
            )
        results = scorer.score([entry.segment for entries in rooms for entry in entries])
    except InputError:
        for name in names:
            scorer.forget(name)
        raise
    for name, entries in zip(names, rooms, strict=True):
        scorer.reach_back(name, entries[0].first)
    last = {result.room_id: result for result in results}  # a room's segments stand in order
    return [last[name] for name in names]


def _require_order(entries: Sequence[RoomInput]) -> None:
    first = entries[0]
    for before, after in zip(entries, entries[1:], strict=False):
        one, two = before.segment, after.segment
        same = one.room_id == two.room_id and one.streamer_id == two.streamer_id
        if not same or after.runs != first.runs or not one.index < two.index:
            raise InputError(
                f"inputs of room {first.segment.room_id!r}: must be of one room and run, in the "
                f"order of their numbers, not {one.index} of {one.room_id!r} before {two.index} of "
                f"{two.room_id!r}"
            )


def require_same_inputs(mine: DataSpec, theirs: Mapping[str, Any], what: str) -> None:
    """Stop where a model cannot score the inputs that another was fed.

    Args:
        mine: of the model that is to score them.
        theirs: SPEC_FIELDS of the other's (`input_spec`).
        what: names the model, for the error.

    Raises:
        InputError: names each field, what the model needs and what the inputs have.
    """
    own = input_spec(mine)
    wrong = [name for name in SPEC_FIELDS if own[name] != theirs.get(name)]
    if wrong:
        raise InputError(
            f"{what}: cannot score the segments that are live, which are of other features: "
            + "; ".join(f"{n} must be {own[n]!r}, not {theirs.get(n)!r}" for n in wrong)
        )


def input_spec(spec: DataSpec) -> dict[str, Any]:
    """What of a spec says which inputs a model takes."""
    return {name: getattr(spec, name) for name in SPEC_FIELDS}
