"""What the service is sent and sends: fields, limits and examples, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from contentctr.config import FrameChoice
from contentctr.live.known_rooms import LiveRoom
from contentctr.live.ranking import Ranked
from contentctr.live.scorer_segments import MAX_FEATURE, MAX_INDEX, MAX_RUN
from contentctr.live.shares import SegmentShares
from contentctr.store.statistics import LATEST, MAX_COUNT

MAX_CANDIDATES = 5000
MAX_TERMS = 50
LIST_POINTS = 60
"""Points of a room's curve in the list of rooms."""
THUMBNAIL_BYTES = 64 * 1024
ROOM_ID = r"^[A-Za-z0-9_][A-Za-z0-9_.:@=+-]{0,127}$"
"""Safe in a path as it is."""
MAX_STREAMER, MAX_TITLE, MAX_LINE, MAX_COMMENTS = 256, 200, 500, 200
"""Characters; and comments of a segment."""


def _base64_length(size: int) -> int:
    return (size + 2) // 3 * 4


RoomId = Annotated[str, Field(pattern=ROOM_ID, examples=["room1"])]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]
Feature = Annotated[float, Field(allow_inf_nan=False, ge=-MAX_FEATURE, le=MAX_FEATURE)]
Floats = Annotated[list[Feature], Field(min_length=1, max_length=16_384, fail_fast=True)]
Base64 = Annotated[str, Field(min_length=4, max_length=_base64_length(2 * 16_384))]
Moment = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e11)]
Line = Annotated[str, Field(max_length=MAX_LINE)]
Count = Annotated[int | None, Field(ge=0, le=MAX_COUNT)]


def _require_few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MAX_TERMS:
        raise ValueError(f"must have at most {MAX_TERMS} fields, not {len(value)}")
    return value


FewFields = BeforeValidator(_require_few)
"""Each wrong field makes an error of its own: hundreds of thousands of them take seconds."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: Any) -> Any:
        return _require_few(value)


class CountsIn(_Request):
    """What was counted in a segment, as far as it is known; as the columns of segments.parquet."""

    exposures: Count = None
    clicks: Count = None
    comment_count: Count = None
    likes: Count = None
    gifts: Count = None
    follows: Count = None
    enters: Count = None
    exits: Count = None
    viewers: Count = Field(None, description="Distinct users who were shown the room.")
    clickers: Count = Field(None, description="Distinct users who clicked; at most the viewers.")
    commenters: Count = Field(None, description="Distinct users who commented.")
    comments_last_sixth: Count = Field(
        None, description="Comments in the segment's last sixth; of 30 s, in the last 5 s."
    )
    comments_last_third: Count = Field(None, description="Comments in its last third.")
    comments_last_two_thirds: Count = Field(None, description="Comments in its last two thirds.")


class EarlierIn(CountsIn):
    """What has become known of an earlier segment of the room."""

    index: int = Field(ge=0, le=MAX_INDEX, description="Its number, below the posted segment's.")


class SegmentIn(_Request):
    """One segment of a live room: features, or frames and texts to be encoded on the server."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "room_id": "room1",
                    "streamer_id": "streamer7",
                    "index": 17,
                    "visual": [0.12, -0.5, 0.33],
                    "text": None,
                    "has_speech": False,
                    "has_comments": False,
                    "title": "Evening songs",
                },
                {
                    "room_id": "room1",
                    "index": 18,
                    "frames": ["/9j/4AAQSkZJRgABAQ=="],
                    "speech": "welcome everyone",
                    "comments": ["hello", "nice song"],
                    "counts": {"comment_count": 2, "commenters": 2},
                    "earlier": [{"index": 17, "viewers": 40, "clickers": 3}],
                },
            ]
        },
    )

    room_id: RoomId
    streamer_id: str = Field("", max_length=MAX_STREAMER, description="One room has one streamer.")
    index: int = Field(ge=0, le=MAX_INDEX, description="Number of the segment in its room.")
    run: str = Field(
        "",
        max_length=MAX_RUN,
        description="Names the run of the source: with a new one the room begins anew.",
    )
    visual: Floats | Base64 | None = Field(
        None, description="Mean feature of the frames: numbers, or base64 of little-endian float16."
    )
    text: Floats | Base64 | None = Field(
        None, description="Feature of speech and comments, as `visual`."
    )
    sound: Floats | Base64 | None = Field(
        None, description="Feature of the sound, as `visual`, for a model that reads it."
    )
    words: Floats | Base64 | None = Field(
        None,
        description="Words of speech and comments, as `encode` stores them, for a model that "
        "reads them; left out, they count as missing.",
    )
    has_speech: bool = Field(False, description="With `text`: whether anything was said.")
    has_comments: bool = Field(False, description="With `text`: whether anybody commented.")
    frames: Annotated[list[str], Field(max_length=16)] | None = Field(
        None, description="JPEG or PNG pictures in base64, to be encoded on the server."
    )
    speech: str | None = Field(
        None, max_length=20_000, description="To be encoded on the server: what was said."
    )
    comments: Annotated[list[Line], Field(max_length=MAX_COMMENTS)] | None = Field(
        None, description="Shown; and encoded, where the server encodes."
    )
    counts: CountsIn | None = Field(
        None,
        description="What was counted in the segment, for a model with statistics: it reads them "
        "in later scores.",
    )
    earlier: Annotated[list[EarlierIn], Field(max_length=LATEST, fail_fast=True)] | None = Field(
        None,
        description="Counts of earlier segments that have become known since, each segment once: "
        "read from this score on. What is known already stays as it is, and what is more than "
        f"{LATEST} segments back comes too late. With a segment that is repeated or late, nothing "
        "of it is taken.",
    )
    title: str = Field("", max_length=MAX_TITLE, description="Only shown.")
    thumbnail: str | None = Field(
        None,
        max_length=_base64_length(THUMBNAIL_BYTES),
        description="Only shown: a JPEG or PNG in base64.",
    )
    ended_at: Moment | None = Field(
        None, description="When the segment ended, Unix seconds; without it, now."
    )

    @property
    def to_encode(self) -> bool:
        """Whether frames or speech were given."""
        return self.frames is not None or self.speech is not None

    @model_validator(mode="after")
    def _has_each_earlier_once(self) -> SegmentIn:
        numbers = [one.index for one in self.earlier or ()]
        if any(number >= self.index for number in numbers):
            raise ValueError(f"earlier must be of segments before {self.index}, not {max(numbers)}")
        if len(set(numbers)) < len(numbers):
            raise ValueError("earlier must have each segment once")
        return self


class CandidateIn(_Request):
    """A live room that may be shown, with the ranker's own scores."""

    room_id: str = Field(min_length=1, max_length=128)
    base: Annotated[dict[Annotated[str, Field(max_length=64)], Number], FewFields] = Field(
        max_length=MAX_TERMS
    )


class RankIn(_Request):
    """Candidates, and how the terms of Eq. 16 are weighed."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "candidates": [
                        {"room_id": "room1", "base": {"ctr": 0.1, "lvtr": 0.2}},
                        {"room_id": "room2", "base": {"ctr": 0.2, "lvtr": 0.1}},
                    ],
                    "content_weight": 1.0,
                }
            ]
        },
    )

    candidates: list[CandidateIn] = Field(max_length=MAX_CANDIDATES, fail_fast=True)
    content_weight: Number = 1.0
    neutral_score: Number = 0.0
    base_weights: Annotated[dict[Annotated[str, Field(max_length=64)], Number], FewFields] = Field(
        default_factory=dict, max_length=MAX_TERMS
    )
    now: Moment | None = Field(None, description="Unix seconds; without it, the server's clock.")


MODEL: Any = Field(description="Id of the model that scores: a hash of what is in its checkpoint.")


class SharesOut(BaseModel):
    """Attention of one Perceiver layer, mean over its heads; sums to 1."""

    visual: float
    text: float
    latent: float
    statistics: float = 0.0
    sound: float = 0.0
    words: float = 0.0


class SegmentSharesOut(BaseModel):
    """Of the first and the last layer."""

    first: SharesOut
    last: SharesOut


class PointOut(BaseModel):
    """One scored segment."""

    index: int
    score: float
    highlight: bool


class ModelOut(BaseModel):
    """A model."""

    id: str
    name: str = Field(description='As it was asked for; "": the one given at the start.')
    since: float = Field(description="Unix seconds.")


class AgreementOut(BaseModel):
    """Scores of two models for the same segments."""

    rooms: int
    segments: int
    tau: float | None = Field(description="Kendall's, of two rankings of the rooms.")
    mean: float | None = Field(description="Absolute difference of two scores, on average.")
    largest: float | None


class ModelsOut(BaseModel):
    """Which model serves, and which are beside it."""

    state: Literal["serving", "loading", "warming up"]
    current: ModelOut
    previous: ModelOut | None = Field(description="Served before, and serves again if this fails.")
    candidate: ModelOut | None = Field(description="Is on its way, or scores in the shadow.")
    agreement: AgreementOut | None = Field(description="Of a candidate in the shadow.")
    last: str = Field(description="What came of the last switch.")


class RolloutOut(BaseModel):
    """The models of workers, some seconds ago; ids are empty where there is none."""

    current: str
    candidate: str
    previous: str
    since: float | None = Field(description="When the candidate came, Unix seconds.")
    rooms: int
    candidate_rooms: int
    without: int = Field(description="Rooms that have no score of the candidate's.")
    behind: int = Field(description="Segments that the candidate alone has to score.")
    behind_s: float
    missed: int = Field(description="Segments that it did not get.")
    workers: int
    candidate_workers: int
    agreement: AgreementOut


class ModelIn(_Request):
    """The model that is to serve."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"name": "run-2026-11-26"}]}
    )

    name: str = Field(
        "",
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$",
        description="Of a run or checkpoint in the folder of --models; without it, what was given "
        "at the start, as it is now.",
    )
    candidate: bool = Field(
        False,
        description="Let the candidate serve, without a name; one that has failed is loaded anew.",
    )

    @model_validator(mode="after")
    def _names_one(self) -> ModelIn:
        if self.candidate and self.name:
            raise ValueError("must not have a name beside candidate")
        return self


class ScoreOut(BaseModel):
    """What became of a posted segment."""

    room_id: str
    index: int
    target_index: int = Field(description="The segment whose target the score predicts.")
    status: Literal["scored", "repeated", "late", "early", "queued"]
    score: float | None = Field(examples=[0.12])
    highlight: bool
    ended_at: float
    model: str | None = MODEL
    shares: SegmentSharesOut | None
    curve: list[PointOut]


class MadeByOut(BaseModel):
    """From which segment on a model made the points of a curve."""

    first: int
    model: str = MODEL


class RoomOut(BaseModel):
    """A room and its place."""

    position: int
    room_id: str
    streamer_id: str
    title: str
    index: int
    target_index: int
    score: float
    ended_at: float
    age_s: float
    fade: float
    highlight: bool
    model: str = MODEL
    shares: SegmentSharesOut | None
    thumbnail: str | None
    comments: list[str]
    curve: list[PointOut]
    models: list[MadeByOut] = Field(description="Which made the curve, the last one last.")


class RoomsOut(BaseModel):
    """Rooms, best first."""

    now: float
    total: int
    model: str = MODEL
    rooms: list[RoomOut]


class RankedOut(BaseModel):
    """A candidate's place, and each term's part."""

    position: int
    room_id: str
    total: float
    parts: dict[str, float]
    score: float | None
    age_s: float | None
    fade: float
    absent: str | None


class RankOut(BaseModel):
    """Candidates, best first."""

    now: float
    model: str = MODEL
    ranking: list[RankedOut]


class InfoOut(BaseModel):
    """What the service scores with, and its limits."""

    version: str
    model: str = MODEL
    simulated: bool = Field(description="The model was trained on simulated rooms.")
    target: str = Field(description="What scores predict; only of `ctr` are they a CTR.")
    target_name: str = Field(description="The same for people, with its scale.")
    segment_seconds: float
    window_len: int
    horizon: int
    visual_dim: int
    text_dim: int
    frames_per_segment: int
    frames: FrameChoice = Field(
        description="Pictures that the model was trained on: those shown at a time, or the "
        "keyframes before it."
    )
    state: Literal["none", "kept", "failing"] = Field(
        description="Whether rooms outlive the process."
    )
    encodes: bool
    has_shares: bool
    sound_dim: int = Field(description="Numbers of `sound`; 0: the model reads none.")
    words_dim: int = Field(description="Numbers of `words`; 0: the model reads none.")
    reads_counts: bool = Field(description="Whether scores depend on the `counts` of segments.")
    max_rooms: int
    full_age: float
    gone_age: float


class StatusOut(BaseModel):
    """Health or readiness."""

    status: str


class ErrorOut(BaseModel):
    """Why a request was refused."""

    detail: str


def points(room: LiveRoom, count: int | None = None) -> list[dict[str, Any]]:
    """The room's curve as POINTs, the last `count` of them."""
    last = slice(None if count is None else -count, None)
    marked = zip(room.curve[last], room.highlights[last], strict=True)
    return [{"index": i, "score": s, "highlight": h} for (i, s), h in marked]


def shares_out(shares: SegmentShares | None) -> dict[str, Any] | None:
    """Shares as JSON."""
    if shares is None:
        return None
    # asdict copies number by number, which is a tenth of what a worker does of a segment.
    return {"first": {**vars(shares.first)}, "last": {**vars(shares.last)}}


def room_event(room: LiveRoom) -> dict[str, Any]:
    """The room as a `score` event tells of it: with the one new point."""
    [point] = points(room, 1)
    return {
        "room_id": room.room_id,
        "streamer_id": room.streamer_id,
        "title": room.title,
        "index": room.index,
        "target_index": room.target_index,
        "score": room.score,
        "ended_at": room.ended_at,
        "highlight": point["highlight"],
        "model": room.model,
        "shares": shares_out(room.shares),
        "thumbnail": thumbnail_path(room),
        "comments": list(room.comments),
        "curve": [point],
    }


def room_out(room: LiveRoom, place: Ranked, count: int | None = None) -> dict[str, Any]:
    """The room as the list shows it, with the last `count` points."""
    return {
        **room_event(room),
        "position": place.position,
        "age_s": place.age_s,
        "fade": place.fade,
        "curve": points(room, count),
        "models": [{"first": first, "model": model} for first, model in room.models],
    }


def thumbnail_path(room: LiveRoom) -> str | None:
    """Where the thumbnail is served; another path for each one."""
    if room.thumbnail_index is None:
        return None
    return f"/v1/rooms/{room.room_id}/thumbnail?v={room.thumbnail_index}"
