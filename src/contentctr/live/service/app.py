"""The HTTP service: segments in, scores, ranking and events out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Path, Query
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from contentctr import __version__
from contentctr.batch import DataSpec
from contentctr.config import Config
from contentctr.errors import InputError
from contentctr.live.encoding import LiveEncoder
from contentctr.live.known_rooms import rank_rooms
from contentctr.live.ranking import Candidate, RankSettings, rank
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service.backend import Answer, Backend
from contentctr.live.service.batching import BusyError
from contentctr.live.service.decode import RawSegment, picture_type, to_raw, to_segment, to_shown
from contentctr.live.service.limits import Guard, TokenBuckets
from contentctr.live.service.metrics import Measured
from contentctr.live.service.refusals import Json, handle_errors, refusal
from contentctr.live.service.schemas import (
    LIST_POINTS,
    ROOM_ID,
    ErrorOut,
    InfoOut,
    RankIn,
    RankOut,
    RoomOut,
    RoomsOut,
    ScoreOut,
    SegmentIn,
    StatusOut,
    points,
    room_out,
    shares_out,
)

PAGE = FilePath(__file__).parents[1] / "page"
_DECODERS = 2
"""Threads that read posted pictures: each may hold a large one."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Limits of the service, and its key."""

    api_key: str | None = None
    """What X-API-Key must hold; None: nothing is asked for."""
    rate: float = 1000.0
    """Requests a second of one address, on average; 0: no limit."""
    burst: float = 2000.0
    """Requests at once of one address."""
    max_body: int = 4 * 2**20
    """Bytes of a body."""
    body_timeout_s: float = 15.0
    """Seconds in which a body must have come."""
    max_listeners: int = 256
    """Open event streams."""
    max_rooms: int = 4096
    """Live rooms, as the info says."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """The model that is served, as the service describes it."""

    config: Config
    spec: DataSpec
    has_shares: bool
    check: Callable[[LiveSegment], None]
    """Raises InputError where a segment is not what the model takes."""
    encoder: LiveEncoder | None = None


def create_app(
    backend: Backend,
    served: Served,
    settings: ServiceSettings | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        backend: scores segments and knows the rooms; started and stopped with the application.
        served: the model.
        settings: limits and key.
        clock: Unix seconds.
    """
    settings = settings or ServiceSettings()
    decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decoder")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await backend.start()
        yield
        await backend.stop()
        decoders.shutdown()

    app = FastAPI(
        title="contentctr",
        version=__version__,
        description="Predicted CTR of every segment of live rooms, and a ranking by it.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
    )
    service = _Service(backend, served, settings, clock, decoders)
    app.include_router(service.router())
    if PAGE.is_dir():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    handle_errors(app)
    buckets = TokenBuckets(settings.rate, settings.burst) if settings.rate else None
    app.add_middleware(
        Guard,
        api_key=settings.api_key,
        buckets=buckets,
        busy=lambda: backend.busy,
        max_body=settings.max_body,
        body_timeout_s=settings.body_timeout_s,
    )
    app.add_middleware(Measured, metrics=backend.metrics)
    return app


RoomIdPath = Annotated[str, Path(pattern=ROOM_ID)]


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": ErrorOut} for code in codes}


class _Service:
    """The routes' work."""

    def __init__(
        self,
        backend: Backend,
        served: Served,
        settings: ServiceSettings,
        clock: Callable[[], float],
        decoders: ThreadPoolExecutor,
    ) -> None:
        self._backend, self._served, self._settings = backend, served, settings
        self._clock, self._decoders = clock, decoders
        self._ranking = RankSettings(segment_seconds=served.spec.segment_seconds)

    def router(self) -> APIRouter:
        """All routes but the page."""
        router = APIRouter()
        add: Any = router.add_api_route
        refused = _errors(400, 401, 408, 413, 422, 429)
        add("/v1/info", self.info, response_model=InfoOut, responses=_errors(401, 429))
        add(
            "/v1/segments",
            self.post_segment,
            methods=["POST"],
            response_model=ScoreOut,
            responses={202: {"model": ScoreOut}, **refused, **_errors(409, 503)},
        )
        add("/v1/rooms", self.rooms, response_model=RoomsOut, responses=_errors(401, 422, 429))
        one = "/v1/rooms/{room_id}"
        known = _errors(401, 404, 422, 429)
        add(one, self.room, response_model=RoomOut, responses=known)
        add(one, self.end_room, methods=["DELETE"], status_code=204, responses=known)
        pictures: dict[str, Any] = {"image/jpeg": {}, "image/png": {}}
        add(
            f"{one}/thumbnail",
            self.thumbnail,
            response_class=Response,
            responses={200: {"content": pictures}, **known},
        )
        add(
            "/v1/events",
            self.events,
            response_class=StreamingResponse,
            responses={200: {"content": {"text/event-stream": {}}}, **_errors(401, 422, 429, 503)},
        )
        ranking: dict[str, Any] = {"methods": ["POST"], "response_model": RankOut}
        add("/v1/rank", self.rank, responses=refused, **ranking)
        add("/rank", self.rank, include_in_schema=False, **ranking)
        add("/healthz", self.health, response_model=StatusOut)
        add("/readyz", self.readiness, response_model=StatusOut, responses=_errors(503))
        add("/metrics", self.metrics, include_in_schema=False)
        return router

    async def info(self) -> Response:
        """What is served."""
        spec, data = self._served.spec, self._served.config.data
        return Json(
            {
                "version": __version__,
                "simulated": spec.simulated,
                "segment_seconds": spec.segment_seconds,
                "window_len": data.window_len,
                "horizon": data.horizon,
                "visual_dim": spec.visual_dim,
                "text_dim": spec.text_dim,
                "frames_per_segment": spec.frames_per_segment,
                "encodes": self._served.encoder is not None,
                "has_shares": self._served.has_shares,
                "max_rooms": self._settings.max_rooms,
                "full_age": self._ranking.full_age,
                "gone_age": self._ranking.gone_age,
            }
        )

    async def post_segment(self, post: SegmentIn) -> Response:
        """Score a segment: features, or frames and texts to be encoded here."""
        shown = to_shown(post, self._clock())
        segment = await self._segment(post)
        answer = await self._backend.submit(segment, shown)
        return Json(
            _answer(post, answer, shown.ended_at),
            status_code=202 if answer.status == "queued" else 200,
        )

    async def _segment(self, post: SegmentIn) -> LiveSegment | RawSegment:
        encoder = self._served.encoder
        alone = post.comments and post.visual is None and post.text is None
        if post.to_encode or (encoder is not None and alone):
            if encoder is None:
                raise InputError("frames, speech: this service does not encode; post features")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._decoders, to_raw, post, encoder.preprocess)
        segment = to_segment(post)
        self._served.check(segment)
        return segment

    async def rooms(
        self,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """Live rooms, ranked by our faded score."""
        now = self._clock()
        places = rank_rooms(await self._backend.scores(), now, self._ranking)
        found = []
        for place in places[offset : offset + limit]:
            room = await self._backend.room(place.room_id)
            if room is not None:  # it may have ended just now
                found.append(room_out(room, place, LIST_POINTS))
        return Json({"now": now, "total": len(places), "rooms": found})

    async def room(self, room_id: RoomIdPath) -> Response:
        """One live room, with its whole curve."""
        now = self._clock()
        room = await self._backend.room(room_id)
        scores = await self._backend.scores()
        if room is None or room_id not in scores:
            raise HTTPException(404, f"room {room_id!r}: there is no such live room")
        places = rank_rooms(scores, now, self._ranking)
        [place] = [place for place in places if place.room_id == room_id]
        return Json(room_out(room, place))

    async def thumbnail(self, room_id: RoomIdPath) -> Response:
        """A room's latest thumbnail."""
        data = await self._backend.thumbnail(room_id)
        if data is None:
            raise HTTPException(404, f"room {room_id!r}: there is no thumbnail of it")
        kind = picture_type(data)
        assert kind is not None
        return Response(data, media_type=kind, headers={"cache-control": "private, max-age=60"})

    async def end_room(self, room_id: RoomIdPath) -> Response:
        """A room has ended: forget it."""
        if not await self._backend.end(room_id):
            raise HTTPException(404, f"room {room_id!r}: there is no such live room")
        return Response(status_code=204)

    async def events(
        self,
        room_id: Annotated[str | None, Query(pattern=ROOM_ID)] = None,
        last_event_id: Annotated[str | None, Query(max_length=64)] = None,
        cursor: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
    ) -> Response:
        """Server-sent events of new scores."""
        log = self._backend.events
        if log.closed:
            raise BusyError("the service is ending")
        if log.listeners >= self._settings.max_listeners:
            raise BusyError(f"{log.listeners} listeners are here already")
        stream = log.listen(cursor or last_event_id, room_id=room_id)
        return StreamingResponse(
            stream, media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def rank(self, request: RankIn) -> Response:
        """Order candidate rooms by Eq. 16: their base scores and our faded one."""
        now = self._clock() if request.now is None else request.now
        settings = RankSettings(
            content_weight=request.content_weight,
            neutral_score=request.neutral_score,
            base_weights=request.base_weights,
            segment_seconds=self._served.spec.segment_seconds,
        )
        candidates = [Candidate(room_id=c.room_id, base=c.base) for c in request.candidates]
        scores = await self._backend.scores([c.room_id for c in candidates])
        places = rank(candidates, scores, now, settings)
        return Json({"now": now, "ranking": [vars(place) for place in places]})

    async def health(self) -> Response:
        """The process answers."""
        return Json({"status": "ok"})

    async def readiness(self) -> Response:
        """Segments are accepted."""
        if not self._backend.ready:
            return refusal(503, "segments are not accepted now", retry_s=5)
        return Json({"status": "ready"})

    async def metrics(self) -> Response:
        """For Prometheus."""
        return Response(
            self._backend.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


def _answer(post: SegmentIn, answer: Answer, ended_at: float) -> dict[str, Any]:
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
        "shares": shares_out(answer.shares),
        "curve": curve,
    }
