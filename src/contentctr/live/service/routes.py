"""What the service answers, path by path; the work itself is the backend's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from contentctr import __version__
from contentctr.errors import InputError
from contentctr.live.engine import Engine
from contentctr.live.service.backend import Answer, Backend, LocalBackend
from contentctr.live.service.batching import BusyError
from contentctr.live.service.decode import picture_type, to_segment, to_shown
from contentctr.live.service.decoding import Decoding
from contentctr.live.service.keys import Caller
from contentctr.live.service.models import Models
from contentctr.live.service.ranks import Ranks
from contentctr.live.service.refusals import (
    Json,
    json_in_pieces,
    refusal,
    retry_after,
    whole_body,
)
from contentctr.live.service.schemas import (
    LIST_POINTS,
    ROOM_ID,
    ErrorOut,
    InfoOut,
    RoomOut,
    RoomsOut,
    ScoreOut,
    SegmentIn,
    StatusOut,
    points,
    room_out,
    shares_out,
)
from contentctr.live.service.settings import ServiceSettings

if TYPE_CHECKING:
    from contentctr.live.encoding import LiveEncoder  # brings what opens recordings


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the routes work with."""

    backend: Backend
    described: Engine
    """The model as of the start."""
    settings: ServiceSettings
    encoder: LiveEncoder | None
    clock: Callable[[], float]
    from_wall: Callable[[float], float]
    """What a client's Unix seconds are on that clock."""
    decoding: Decoding
    ranks: Ranks

    @property
    def engine(self) -> Engine:
        """The model that scores now."""
        return self.backend.engine if isinstance(self.backend, LocalBackend) else self.described

    @property
    def models(self) -> Models | None:
        """What may serve in its place; None: workers score, elsewhere."""
        return self.backend.models if isinstance(self.backend, LocalBackend) else None


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """A route's refusals, for OpenAPI."""
    return {code: {"model": ErrorOut} for code in codes}


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


async def _client(request: Request) -> str:
    client: str = request.state.client
    return client


_MAX_STRINGS, _MAX_COMMAS = 4_000, 200_000
"""In a body: about twice the strings that the largest segment has, and many times the numbers."""


class Sparing(APIRoute):
    """Reads no JSON of hundreds of thousands of fields: in the loop that takes half a second."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.method == "POST" and (rule := self.broken_rule(await whole_body(request))):
                raise HTTPException(422, f"body: {rule}")
            return await answer(request)

        return handle

    def broken_rule(self, body: bytes) -> str:
        """The rule that a body breaks by how much it has; "": none."""
        strings = body.count(b'"') - body.count(b'\\"')
        many = strings > _MAX_STRINGS or body.count(b",") > _MAX_COMMAS
        return "must not have more fields than a segment has" if many else ""


router = APIRouter(route_class=Sparing)
TheService = Annotated[Service, Depends(_service)]
TheCaller = Annotated[Caller, Depends(_caller)]
TheClient = Annotated[str, Depends(_client)]
RoomIdPath = Annotated[str, Path(pattern=ROOM_ID)]
_POST_ERRORS = errors(400, 401, 403, 408, 413, 422, 429, 503)
_ROOM_ERRORS = errors(401, 403, 404, 422, 429)


@router.get(
    "/v1/info", summary="What is served", response_model=InfoOut, responses=errors(401, 429)
)
async def get_info(service: TheService) -> Response:
    """What is served."""
    engine = service.engine
    spec, data, ranking = engine.spec, engine.config.data, engine.ranking
    return Json(
        {
            "version": __version__,
            "model": service.backend.model or engine.model_id,
            "state": service.backend.state if isinstance(service.backend, LocalBackend) else "kept",
            "simulated": spec.simulated,
            "target": spec.target,
            "target_name": spec.target_name,
            "segment_seconds": spec.segment_seconds,
            "window_len": data.window_len,
            "horizon": data.horizon,
            "visual_dim": spec.visual_dim,
            "text_dim": spec.text_dim,
            "frames_per_segment": spec.frames_per_segment,
            "frames": spec.frames,
            "encodes": service.encoder is not None,
            "has_shares": engine.has_shares,
            "sound_dim": spec.sound_dim if engine.config.model.sound else 0,
            "words_dim": spec.words_dim if engine.config.model.words else 0,
            "reads_counts": engine.config.model.reads_counts,
            "max_rooms": engine.scorer.max_rooms,
            "full_age": ranking.full_age,
            "gone_age": ranking.gone_age,
        }
    )


@router.post(
    "/v1/segments",
    summary="Score a segment",
    response_model=ScoreOut,
    responses={202: {"model": ScoreOut}, **_POST_ERRORS, **errors(409)},
)
async def post_segment(
    service: TheService, caller: TheCaller, client: TheClient, post: SegmentIn
) -> Response:
    """Score a segment: features, or frames and texts to be encoded here."""
    shown = to_shown(post, service.clock(), service.from_wall)
    encoder = service.encoder
    comments_alone = post.comments and post.visual is None and post.text is None
    if not (post.to_encode or (encoder is not None and comments_alone)):
        segment = to_segment(post)
        service.engine.check(segment)
        answer = await service.backend.submit(segment, shown, caller)
    elif encoder is None:
        raise InputError("frames, speech: this service does not encode; post features")
    else:
        with service.decoding.place(client):
            raw = await service.decoding.read(post, encoder.preprocess, client)
            answer = await service.backend.submit(raw, shown, caller)
    return Json(
        _score_out(post, answer, shown.ended_at),
        status_code=202 if answer.status == "queued" else 200,
    )


def _score_out(post: SegmentIn, answer: Answer, ended_at: float) -> dict[str, Any]:
    curve = [] if answer.room is None else points(answer.room, LIST_POINTS)
    marked = any(p["highlight"] for p in curve if p["index"] == post.index)
    return {
        "room_id": post.room_id,
        "index": post.index,
        "target_index": answer.target_index,
        "status": answer.status,
        "score": answer.score,
        "highlight": marked and answer.score is not None,
        "ended_at": ended_at,
        "model": answer.model,
        "shares": shares_out(answer.shares),
        "curve": curve,
    }


@router.get(
    "/v1/rooms",
    summary="Live rooms, best first",
    response_model=RoomsOut,
    responses=errors(401, 422, 429),
)
async def list_rooms(
    service: TheService,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """Live rooms, ranked by our faded score."""
    now = service.clock()
    standing = await service.backend.standing()
    places = standing.page(offset, limit, now)
    rooms = await service.backend.rooms([p.room_id for p in places], standing.model)
    rows = (
        room_out(room, place, LIST_POINTS)
        for room, place in zip(rooms, places, strict=True)
        if room is not None  # it may have ended just now
    )
    head = {"now": now, "total": len(standing), "model": standing.model}
    return await json_in_pieces(head, "rooms", rows)


@router.get(
    "/v1/rooms/{room_id}", summary="One live room", response_model=RoomOut, responses=_ROOM_ERRORS
)
async def get_room(service: TheService, room_id: RoomIdPath) -> Response:
    """One live room, with its whole curve."""
    now = service.clock()
    standing = await service.backend.standing()
    [found] = await service.backend.rooms([room_id], standing.model)
    if found is None or room_id not in standing:
        raise _no_room(room_id)
    return Json(room_out(found, standing.place(room_id, now)))


@router.delete(
    "/v1/rooms/{room_id}",
    summary="End a room",
    status_code=204,
    responses={**_ROOM_ERRORS, **errors(503)},
)
async def end_room(service: TheService, caller: TheCaller, room_id: RoomIdPath) -> Response:
    """A room has ended: forget it."""
    if not await service.backend.end(room_id, caller):
        raise _no_room(room_id)
    return Response(status_code=204)


@router.get(
    "/v1/rooms/{room_id}/thumbnail",
    summary="A room's latest thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}, **_ROOM_ERRORS},
)
async def get_thumbnail(service: TheService, room_id: RoomIdPath) -> Response:
    """A room's latest thumbnail."""
    data = await service.backend.thumbnail(room_id)
    if data is None:
        raise HTTPException(404, f"room {room_id!r}: there is no thumbnail of it")
    kind = picture_type(data)
    assert kind is not None
    return Response(data, media_type=kind, headers={"cache-control": "private, max-age=60"})


def _no_room(room_id: str) -> HTTPException:
    return HTTPException(404, f"room {room_id!r}: there is no such live room")


class EventStream(StreamingResponse):
    """A stream that ends with its request: the collector may take long to end its generator."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


@router.get(
    "/v1/events",
    summary="New scores as server-sent events",
    response_class=EventStream,
    responses={200: {"content": {"text/event-stream": {}}}, **errors(401, 422, 429, 503)},
)
async def stream_events(
    request: Request,
    service: TheService,
    client: TheClient,
    room_id: Annotated[str | None, Query(pattern=ROOM_ID)] = None,
    last_event_id: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
) -> Response:
    """Server-sent events of new scores."""
    log = service.backend.events
    if log.closed:
        raise BusyError("the service is ending")
    allowed = request.state.allowed  # a key that is taken away must not go on listening
    stream = log.listen(cursor or last_event_id, room_id=room_id, client=client, allowed=allowed)
    return EventStream(stream, headers={"cache-control": "no-store"})


@router.get("/healthz", summary="Whether the process answers", response_model=StatusOut)
async def get_health() -> Response:
    """The process answers."""
    return Json({"status": "ok"})


@router.get(
    "/readyz",
    summary="Whether segments are accepted",
    response_model=StatusOut,
    responses=errors(503),
)
async def get_readiness(service: TheService) -> Response:
    """Segments are accepted."""
    if not service.backend.ready:
        return refusal(503, "segments are not accepted now", retry_after(5))
    return Json({"status": "ready"})


@router.get("/metrics", include_in_schema=False)
async def get_metrics(service: TheService) -> Response:
    """For Prometheus."""
    text = await asyncio.to_thread(service.backend.metrics.text)  # tau of an hour takes its time
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
