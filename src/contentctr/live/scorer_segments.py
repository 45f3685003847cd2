"""What a live room gives and gets: one segment in, one score out. Shape suffixes as in batch.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from contentctr.batch import Batch, DataSpec, ExtraInput
from contentctr.errors import InputError
from contentctr.models.words import DIGITS
from contentctr.store.statistics import COLUMNS, LATEST, MAX_COUNT

Counts = Mapping[str, int]
"""Of a segment, by the columns of store/statistics.py; those not told are unknown."""
Earlier = Mapping[int, Counts]
"""Of segments that have passed, by their numbers."""
Status = Literal["scored", "repeated", "late", "early"]
MAX_INDEX = 2**31 - 1
"""Largest number of a segment in its room."""
MAX_RUN = 64
"""Characters of the name of a run."""
MAX_GAP_S = 86_400.0
"""A segment this long after its room's last one is not of that room: believed, one wrong number
would make every right one that follows late."""
MAX_FEATURE = 65504.0
"""Largest size of a feature, float16's: features are stored so, and no model saw a larger one."""
VALUES = ("visual", "text", "sound", "words")
"""Fields of a segment that hold numbers, or None."""
RUNS_KEPT = 8
"""Runs of a source whose late segments are known for such."""


@dataclass(frozen=True)
class Runs:
    """The run of a source that a room is of, and those before it, the latest first.

    "" is a run that is not named: it never begins anew, and is never over.
    """

    current: str = ""
    replaced: tuple[str, ...] = ()

    def begin_anew(self, run: str) -> bool:
        """Whether a room begins anew with a segment of `run`."""
        return bool(run) and run != self.current and run not in self.replaced

    def are_over(self, run: str) -> bool:
        """Whether `run` was replaced: all that still comes of it is late."""
        return bool(run) and run in self.replaced

    def then(self, run: str) -> Runs:
        """With `run` in place of the current one."""
        return Runs(run, (self.current, *self.replaced)[:RUNS_KEPT])


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveSegment:
    """One segment of a live room, encoded as the model's training rooms were."""

    room_id: str
    streamer_id: str
    """One room has one streamer; "" or one that the model does not know is the unknown one."""
    index: int
    """Number of the segment in its room, from 0: segment k starts k segment lengths after it."""
    visual: NDArray[np.floating] | None
    """Mean feature of its frames, [V]; None where it has no frame."""
    text: NDArray[np.floating] | None
    """Feature of the pair (speech, comments), [T]; not read where it has neither."""
    has_speech: bool
    """Whether the streamer said anything."""
    has_comments: bool
    """Whether anybody commented."""
    sound: NDArray[np.floating] | None = None
    """Features of its sound, [X]; None where it has none, or the model reads none."""
    words: NDArray[np.floating] | None = None
    """Its words (encode/words.py), [X]; None where it has none, or the model reads none."""
    run: str = ""
    """Names the run of a source that the segment is of; "": none is named. With a new one the room
    begins anew, and what still comes of an older one is late."""
    counts: Counts | None = None
    """What was counted in it. A model with statistics reads it from the next score on, never in the
    segment's own."""
    earlier: Earlier | None = None
    """Counts of earlier segments that have become known since they passed. A model with statistics
    reads them from this segment's score on. What was known of a segment before stays as it was."""


@dataclass(frozen=True)
class RawSegment:
    """A segment whose features are still to be computed."""

    room_id: str
    streamer_id: str
    index: int
    pictures: tuple[NDArray[np.uint8], ...]
    """As the visual encoder's `preprocess` makes them: small, however large the pictures are."""
    speech: str
    """Stripped; "" where nothing was said."""
    comments: str
    """The segment's own, a line each; "" where there are none."""
    counts: Counts | None = None
    """As of LiveSegment."""
    earlier: Earlier | None = None
    """As of LiveSegment."""
    run: str = ""
    """As of LiveSegment."""
    sound: NDArray[np.floating] | None = None
    """As of LiveSegment: its features, which `hear` makes."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What became of a segment."""

    room_id: str
    index: int
    target_index: int
    """The segment whose target the score predicts: `index` + the model's horizon."""
    score: float | None
    """Predicted target in (0, 1); None where the segment came too late to be scored, or
    so early that the room has no segment yet that its score would predict."""
    status: Status
    """scored: new; repeated: scored before, and this is that score; late: a later segment of the
    room was scored before, so it was taken for missing, and stays so; early: a model with
    look-ahead has a score of a segment before the room's first, which is none."""
    statistics_X: NDArray[np.float32] | None = None
    """What the statistics' token was made of; None without one, or where nothing was known."""
    late_counts: int = 0
    """Earlier segments whose counts came too late for the statistics (LATEST)."""


def earlier_json(earlier: Earlier) -> dict[str, dict[str, int]]:
    """What `earlier_from` reads again, of numbers that JSON can hold."""
    return {str(k): {name: int(n) for name, n in c.items()} for k, c in earlier.items()}


def earlier_from(values: Any) -> dict[int, Counts]:
    """Counts of earlier segments from JSON; what is in them is `check_segments`' to tell.

    Raises:
        ValueError: they are none, or too many.
    """
    if not isinstance(values, dict) or len(values) > 2 * LATEST:
        raise ValueError
    for key, counts in values.items():
        whole = key.isascii() and key.isdigit() and len(key) <= 10
        if not whole or not isinstance(counts, dict):
            raise ValueError
    return {int(key): counts for key, counts in values.items()}


def check_segments(segments: Sequence[LiveSegment], spec: DataSpec) -> None:
    """Stop where a segment is not what the model takes.

    Raises:
        InputError: names the room, the segment, the field, the rule and the value.
    """
    for segment in segments:
        _check_fields(segment)
        _check_counts(segment, "counts", segment.counts or {})
        for index, counts in (segment.earlier or {}).items():
            _check_earlier(segment, index)
            _check_counts(segment, f"earlier[{index}]", counts)
        _check_width(segment, "visual", spec.visual_dim)
        _check_width(segment, "text", spec.text_dim)
        for name, width in (("sound", spec.sound_dim), ("words", spec.words_dim)):
            if getattr(segment, name) is not None and not width:
                raise _refuse(segment, name, "left out, as the model's data has none", "there")
            _check_width(segment, name, width)
    for name in VALUES:
        _check_values([s for s in segments if getattr(s, name) is not None], name)


def _refuse(segment: LiveSegment, field: str, rule: str, value: object) -> InputError:
    return InputError(
        f"room {segment.room_id!r}, segment {segment.index!r}: {field} must be {rule}, not {value}"
    )


def _check_fields(segment: LiveSegment) -> None:
    if not isinstance(segment.room_id, str) or not segment.room_id:
        raise _refuse(segment, "room_id", "text, and not empty", repr(segment.room_id))
    if not isinstance(segment.streamer_id, str):
        raise _refuse(segment, "streamer_id", "text", repr(segment.streamer_id))
    whole = isinstance(segment.index, int | np.integer) and not isinstance(segment.index, bool)
    if not whole or not 0 <= segment.index <= MAX_INDEX:
        raise _refuse(segment, "index", f"a whole number from 0 to {MAX_INDEX}", segment.index)
    if not isinstance(segment.run, str) or len(segment.run) > MAX_RUN:
        rule = f"text of at most {MAX_RUN} characters"
        raise _refuse(segment, "run", rule, repr(segment.run)[:100])
    for name in ("has_speech", "has_comments"):
        if not isinstance(getattr(segment, name), bool | np.bool_):
            raise _refuse(segment, name, "true or false", repr(getattr(segment, name)))
    if segment.text is None and (segment.has_speech or segment.has_comments):
        raise _refuse(segment, "text", "there, as the segment has speech or comments", "missing")


def _check_earlier(segment: LiveSegment, index: Any) -> None:
    whole = isinstance(index, int | np.integer) and not isinstance(index, bool)
    if not whole or not 0 <= index < segment.index:
        rule = f"numbers of segments before {segment.index}"
        raise _refuse(segment, "earlier", rule, repr(index)[:100])


def _check_counts(segment: LiveSegment, field: str, counts: Counts) -> None:
    for name, value in counts.items():
        if name not in COLUMNS:
            raise _refuse(segment, field, f"of {', '.join(COLUMNS)}", repr(name))
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not 0 <= value <= MAX_COUNT:
            rule = f"a whole number from 0 to {MAX_COUNT}"
            raise _refuse(segment, f"{field}.{name}", rule, repr(value))
    if "viewers" in counts and counts.get("clickers", 0) > counts["viewers"]:
        rule = f"at most {field}.viewers ({counts['viewers']})"
        raise _refuse(segment, f"{field}.clickers", rule, counts["clickers"])


def _check_width(segment: LiveSegment, name: str, width: int) -> None:
    values = getattr(segment, name)
    if values is None:
        return
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise _refuse(segment, name, "an array of floats", found)
    if values.shape != (width,):
        raise _refuse(segment, name, f"{width} numbers, of shape ({width},)", values.shape)


def _check_values(segments: Sequence[LiveSegment], name: str) -> None:
    """All values at once; one by one they would cost more than the decoder's bookkeeping."""
    if not segments:
        return
    values_RV = np.stack([getattr(segment, name) for segment in segments])
    if name == "words":  # halves of hashes: others would stand for other words than they seem to
        good_RV = (values_RV >= 0) & (values_RV < DIGITS) & (values_RV == np.floor(values_RV))
        rule = f"a whole number from 0 to {DIGITS - 1}"
    else:
        good_RV = np.abs(values_RV) <= MAX_FEATURE
        rule = f"finite and at most {MAX_FEATURE:g} in size"
    if not good_RV.all():  # of NaN each comparison is false
        row, column = np.argwhere(~good_RV)[0]
        raise _refuse(segments[row], f"{name}[{column}]", rule, values_RV[row, column])


def as_batch(
    segments: Sequence[LiveSegment | None],
    streamer_R: Sequence[int],
    spec: DataSpec,
    statistics: Sequence[NDArray[np.float32] | None] = (),
    *,
    sound: bool = False,
    words: bool = False,
) -> Batch:
    """R windows of one segment each; None is a segment of which nothing is there.

    Args:
        segments: checked.
        streamer_R: row of each one's streamer in the model's table.
        spec: widths of the features.
        statistics: what each one's token is made of; none for a model without.
        sound: whether the model reads sound.
        words: whether it reads words.
    """
    count = len(segments)
    visual_RV = np.zeros((count, 1, spec.visual_dim), np.float32)
    text_RT = np.zeros((count, 1, spec.text_dim), np.float32)
    flags_R3 = np.zeros((count, 3), np.bool_)
    for row, segment in enumerate(segments):
        if segment is None:
            continue
        flags_R3[row] = segment.visual is not None, segment.has_speech, segment.has_comments
        if segment.visual is not None:
            visual_RV[row, 0] = segment.visual
        if segment.text is not None:
            text_RT[row, 0] = segment.text
    extra = {"statistics": _extra(statistics, spec.statistics_dim)} if statistics else {}
    if sound:
        heard = [None if segment is None else segment.sound for segment in segments]
        extra["sound"] = _extra(heard, spec.sound_dim)
    if words:
        said = [None if segment is None else segment.words for segment in segments]
        extra["words"] = _extra(said, spec.words_dim)
    visual, speech, comments = torch.from_numpy(flags_R3).unbind(1)
    return Batch(
        visual_BNV=torch.from_numpy(visual_RV),
        text_BNT=torch.from_numpy(text_RT),
        has_visual_BN=visual[:, None],
        has_speech_BN=speech[:, None],
        has_comments_BN=comments[:, None],
        streamer_B=torch.tensor(streamer_R, dtype=torch.long),
        valid_BN=torch.ones(count, 1, dtype=torch.bool),
        target_BN=torch.full((count, 1), torch.nan),
        window_B=torch.arange(count),
        extra=extra,
    )


def _extra(rows: Sequence[NDArray[np.floating] | None], width: int) -> ExtraInput:
    """What an extra token of R windows of one segment each is made of."""
    values_RX = np.zeros((len(rows), 1, width), np.float32)
    for row, values_X in enumerate(rows):
        if values_X is not None:
            values_RX[row, 0] = values_X
    has_R1 = torch.tensor([[values_X is not None] for values_X in rows])
    return ExtraInput(values_BNX=torch.from_numpy(values_RX), has_BN=has_R1)
