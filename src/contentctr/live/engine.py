"""A checkpoint's scorer for callers that do not trust each other: one's error is not another's."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config
from contentctr.devices import find_device
from contentctr.errors import InputError
from contentctr.live.drift import InputDrift
from contentctr.live.ranking import RankSettings
from contentctr.live.scorer import RoomScorer
from contentctr.live.scorer_segments import (
    LiveSegment,
    RawSegment,
    Scored,
    as_batch,
    check_segments,
)
from contentctr.live.shares import SegmentShares, has_shares, segment_shares
from contentctr.score.calibration import Calibration
from contentctr.score.checkpoint import Checkpoint, load_for
from contentctr.score.inputs import InputFacts, read_inputs

_LOG = logging.getLogger("contentctr.live")


class RoomsFullError(Exception):
    """A new room, where there are as many as there may be."""


class StreamerChangedError(Exception):
    """A segment's streamer is not its room's."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A segment that was taken, and what the Perceiver looked at."""

    scored: Scored
    shares: SegmentShares | None


Refused = InputError | RoomsFullError


def parts_by_run(segments: Sequence[LiveSegment | RawSegment]) -> list[list[int]]:
    """Places of segments in the order in which they are taken, cut where a room begins anew.

    Within a part that order is the one of their numbers; segments of another run come after all of
    the run before, whatever their numbers.
    """
    parts: list[list[int]] = []
    runs: dict[str, str] = {}
    for place, segment in enumerate(segments):
        if not parts or segment.run != runs.setdefault(segment.room_id, segment.run):
            parts.append([])
            runs = {segment.room_id: segment.run}
        parts[-1].append(place)
    return [sorted(part, key=lambda place: segments[place].index) for part in parts]


def _is_new(taken: Taken | Refused) -> bool:
    return isinstance(taken, Taken) and taken.scored.status == "scored"


class Engine:
    """A RoomScorer, the shares of each score, and an outcome of its own for each segment.

    Not for use by two threads at once.

    Args:
        model: as RoomScorer's.
        config: the model's.
        spec: of the features it was trained on.
        vocabulary: its known streamers.
        max_rooms: rooms at once.
        batch_size: rooms computed at once.
        device: where to compute.
        shares: whether to compute the shares, where the model has them: about as dear as the
            projections once more.
        model_id: names the model in all that is told of its scores; None: its states' revision.
        inputs: what its training segments were like; None: nobody knows.
        calibration: as RoomScorer's.

    Raises:
        InputError: the model cannot be run live.
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
        shares: bool = True,
        model_id: str | None = None,
        inputs: InputFacts | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.scorer = RoomScorer(
            model,
            config,
            spec,
            vocabulary,
            max_rooms=max_rooms,
            batch_size=batch_size,
            device=device,
            calibration=calibration,
        )
        self.config, self.spec = config, spec
        self.model_id = self.scorer.revision if model_id is None else model_id
        self.drift = None if inputs is None else InputDrift(inputs)
        """How far what is scored is from training; None: nobody knows."""
        self.has_shares = shares and has_shares(model)
        self._model, self._device = model, device
        self._rows = {name: row for row, name in enumerate(vocabulary.streamers, start=1)}

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint | Path | str,
        *,
        max_rooms: int = 4096,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
        shares: bool = True,
    ) -> Self:
        """An engine with a checkpoint's model; arguments as above.

        Raises:
            InputError: the checkpoint cannot be read, or its model cannot be run live.
        """
        checkpoint, device = load_for(checkpoint, "rooms"), find_device(device)
        return cls(
            checkpoint.load_model(device),
            checkpoint.config,
            checkpoint.spec,
            checkpoint.vocabulary,
            max_rooms=max_rooms,
            batch_size=batch_size,
            device=device,
            shares=shares,
            model_id=checkpoint.model_id,
            inputs=read_inputs(checkpoint.folder, checkpoint.spec),
            calibration=checkpoint.calibration,
        )

    @cached_property
    def ranking(self) -> RankSettings:
        """How rooms are ranked by the model's scores alone."""
        return RankSettings(segment_seconds=self.spec.segment_seconds)

    def check(self, segment: LiveSegment) -> None:
        """Stop where a segment is not what the model takes; needs no turn with the engine.

        Raises:
            InputError: names the room, the segment, the field, the rule and the value.
        """
        check_segments([segment], self.spec)

    def score(self, segments: Sequence[LiveSegment]) -> list[Taken | Refused]:
        """Take segments; one that is refused does not keep the others from being scored.

        Returns:
            What became of each, in the order given.
        """
        found = dict(self.take(segments))
        return [found[k] for k in range(len(segments))]

    def take(self, segments: Sequence[LiveSegment]) -> list[tuple[int, Taken | Refused]]:
        """As `score`; each with its place in `segments`, in the order in which they were taken."""
        found: list[tuple[int, Taken | Refused]] = []
        for places in parts_by_run(segments):
            part = self._score_part([segments[k] for k in places])
            found += zip(places, part, strict=True)
        self._note([segments[k] for k, taken in found if _is_new(taken)])
        return found

    def _note(self, segments: Sequence[LiveSegment]) -> None:
        """Hold segments to those of training."""
        if self.drift is None:
            return
        try:
            self.drift.add(segments, time.time())
        except Exception:  # a fault of ours: what is measured beside must never cost a score
            _LOG.exception("drift of inputs is not told any more")
            self.drift = None

    def _score_part(self, segments: Sequence[LiveSegment]) -> list[Taken | Refused]:
        """Segments of which no room's are of two runs."""
        try:
            results: list[Scored | Refused] = [*self.scorer.score(segments)]
        except InputError:  # nothing has changed: each alone tells whose it is
            results = [InputError("")] * len(segments)
            for k in sorted(range(len(segments)), key=lambda k: segments[k].index):
                results[k] = self._score_alone(segments[k])
        return self.with_shares(segments, results)

    def _score_alone(self, segment: LiveSegment) -> Scored | Refused:
        try:
            return self.scorer.score([segment])[0]
        except InputError as error:
            if len(self.scorer) == self.scorer.max_rooms:
                if segment.room_id not in self.scorer.rooms:
                    return RoomsFullError(
                        f"there may be at most {self.scorer.max_rooms} live rooms"
                    )
            return error

    def with_shares(
        self, segments: Sequence[LiveSegment], results: Sequence[Scored | Refused]
    ) -> list[Taken | Refused]:
        """What the scorer said of segments, with what the Perceiver looked at in each new one."""
        shares: dict[int, SegmentShares] = {}
        if self.has_shares:
            new = [
                k for k, r in enumerate(results) if isinstance(r, Scored) and r.status == "scored"
            ]
            for start in range(0, len(new), self.scorer.batch_size):
                part = new[start : start + self.scorer.batch_size]
                rows = [self._rows.get(segments[k].streamer_id, 0) for k in part]
                read = [s.statistics_X for k in part if isinstance(s := results[k], Scored)]
                batch = as_batch(
                    [segments[k] for k in part],
                    rows,
                    self.spec,
                    read if self.config.model.statistics else [],
                    sound=self.config.model.sound,
                    words=self.config.model.words,
                )
                found = segment_shares(self._model, batch.to(self._device))
                shares.update(zip(part, found, strict=True))
        return [
            result if isinstance(result, Refused) else Taken(scored=result, shares=shares.get(k))
            for k, result in enumerate(results)
        ]
