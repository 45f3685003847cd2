"""`/v1/outcomes`: what viewers did comes back, and how predictions stood up to it is told."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field, model_validator

from contentctr.live.outcomes import Outcome
from contentctr.live.scorer_segments import MAX_INDEX
from contentctr.live.service.refusals import Json
from contentctr.live.service.routes import Sparing, TheService, errors
from contentctr.live.service.schemas import CountsIn, RoomId, _Request
from contentctr.store.statistics import LATEST, MAX_COUNT

MAX_OUTCOMES = 1000
_MOST_QUOTES = 40 * MAX_OUTCOMES
"""In a body: more than that many outcomes have."""
Whole = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Index = Annotated[int, Field(ge=0, le=MAX_INDEX)]


class OutcomeIn(_Request):
    """What became of one segment: viewers and clickers, or the target's value; and other counts."""

    room_id: RoomId
    index: Index | None = Field(None, description="The segment whose score it is the outcome of.")
    target_index: Index | None = Field(
        None, description="Or the segment that was counted: `target_index` of the score's answer."
    )
    viewers: Whole | None = Field(None, description="Distinct users who were shown the room in it.")
    clickers: Whole | None = Field(None, description="Distinct users who clicked.")
    value: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="Or the model's target, where that is no CTR."
    )
    counts: CountsIn | None = Field(
        None, description="What else was counted, for the statistics of the room alone."
    )

    @model_validator(mode="after")
    def _is_one_of_each(self) -> OutcomeIn:
        if (self.index is None) == (self.target_index is None):
            raise ValueError("must have either index or target_index")
        if self.value is None:
            if self.viewers is None or self.clickers is None:
                raise ValueError("must have viewers and clickers, or value")
            if self.clickers > self.viewers:
                raise ValueError(f"clickers must be at most viewers ({self.viewers})")
        elif self.viewers is not None or self.clickers is not None:
            raise ValueError("must have viewers and clickers, or value, not both")
        if self.counts is not None and {"viewers", "clickers"} & self.counts.model_fields_set:
            raise ValueError("counts must not have viewers or clickers, which have their own place")
        return self

    def outcome(self, horizon: int) -> Outcome:
        """The same for live/outcomes.py."""
        target = self.target_index
        if target is None:
            assert self.index is not None
            target = self.index + horizon
        counts = {} if self.counts is None else self.counts.model_dump(exclude_none=True)
        if self.value is not None:
            return Outcome(
                room_id=self.room_id,
                target_index=target,
                weight=1.0,
                value=self.value,
                counts=counts or None,
            )
        viewers, clickers = self.viewers or 0, self.clickers or 0
        counts |= {"viewers": viewers, "clickers": clickers}
        return Outcome(
            room_id=self.room_id,
            target_index=target,
            weight=float(viewers),
            value=clickers / max(viewers, 1),
            counts=counts,
        )


class OutcomesIn(_Request):
    """Outcomes of any rooms. One that is sent again changes nothing."""

    outcomes: list[OutcomeIn] = Field(
        max_length=MAX_OUTCOMES,
        fail_fast=True,
        examples=[[{"room_id": "room1", "target_index": 17, "viewers": 40, "clickers": 3}]],
    )


class OutcomesTaken(BaseModel):
    """What became of posted outcomes."""

    taken: int
    repeated: int = Field(description="Known before: each segment counts once.")
    unknown: int = Field(
        description="No live room has a score of the segment among its last 240: it came too late, "
        "or too early, or the room has ended."
    )
    empty: int = Field(description="Without a viewer.")
    for_statistics: int = Field(
        description="Beside these: how many wait with their counts for their room's next segment, "
        "for a model with statistics. Of a live room's last "
        f"{LATEST} segments, or as many ahead; also without a score, or a viewer."
    )


class BinOut(BaseModel):
    """Predictions between two numbers."""

    low: float
    high: float
    segments: int
    predicted: float
    observed: float


class ObservedOut(BaseModel):
    """A model's predictions beside outcomes."""

    segments: int
    viewers: float
    predicted: float = Field(description="Mean over viewers.")
    observed: float
    log_loss: float
    calibration_error: float
    tau: float | None = Field(description="Kendall's tau inside rooms, mean over `tau_rooms`.")
    tau_rooms: int
    bins: list[BinOut]


class ModelWatchedOut(BaseModel):
    """One model; null: nothing came back."""

    model_id: str
    hour: ObservedOut | None
    day: ObservedOut | None


class WatchedOut(BaseModel):
    """How predictions stood up to what then came, by model."""

    simulated: bool
    models: list[ModelWatchedOut]


class _Sparing(Sparing):
    """The same for as many fields as the largest batch has."""

    def broken_rule(self, body: bytes) -> str:
        """See Sparing."""
        many = body.count(b'"') > _MOST_QUOTES
        return f"must have at most {MAX_OUTCOMES} outcomes" if many else ""


router = APIRouter(route_class=_Sparing)


@router.post(
    "/v1/outcomes",
    summary="Tell what came of segments",
    response_model=OutcomesTaken,
    responses=errors(400, 401, 403, 408, 413, 422, 429, 503),
)
async def post_outcomes(service: TheService, post: OutcomesIn) -> Response:
    """Tell what viewers did in segments: held beside the scores, and read by the rooms' next ones.

    A model with statistics reads viewers, clickers and other counts of a segment from its room's
    next segment on, whichever comes first; a value alone is no count.
    """
    horizon = service.engine.config.data.horizon
    found = await service.backend.observe([one.outcome(horizon) for one in post.outcomes])
    return Json(found)


@router.get(
    "/v1/outcomes",
    summary="Predicted beside observed, by model",
    response_model=WatchedOut,
    responses=errors(401, 429),
)
async def get_outcomes(service: TheService) -> Response:
    """Predictions beside outcomes of the last hour and day."""
    summary = await asyncio.to_thread(service.backend.observed.summary)
    models = [
        {
            "model_id": model_id,
            **{s: asdict(spans[s]) if s in spans else None for s in ("hour", "day")},
        }
        for model_id, spans in summary.items()
    ]
    return Json({"simulated": service.engine.spec.simulated, "models": models})
