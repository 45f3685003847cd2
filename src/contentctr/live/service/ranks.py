"""`/v1/rank`: thousands of candidates are read, ranked and written by a thread of its own.

Done in the loop, one such request would hold everybody up for half a second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from contentctr.live.ranking import Candidate, Ranked, RankSettings, Scores, rank
from contentctr.live.service.batching import BusyError
from contentctr.live.service.budget import Budget
from contentctr.live.service.refusals import whole_body
from contentctr.live.service.schemas import ErrorOut, RankIn, RankOut

T = TypeVar("T")
_WAITING = 32
"""Requests that wait for the thread; one client may have half of them."""
_AT_ONCE = 100
"""Rows that are written at once: the interpreter's lock is held so long."""


class Ranks:
    """The thread that ranks, and those who wait for it."""

    def __init__(self) -> None:
        self.places = Budget(_WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ranks")

    async def run(self, work: Callable[[], T]) -> T:
        """The outcome of something that the thread does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


class _InThread(APIRoute):
    """Read its body itself, and not in the loop."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI; from the endpoint it has the description."""

        async def handle(request: Request) -> Response:
            return await _rank(request)

        return handle


router = APIRouter(route_class=_InThread)
_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorOut} for code in (400, 401, 403, 408, 413, 422, 429, 503)
}


@router.post("/rank", response_model=RankOut, include_in_schema=False)
@router.post("/v1/rank", summary="Rank candidate rooms", response_model=RankOut, responses=_ERRORS)
async def rank_candidates(request: RankIn) -> None:
    """Order candidate rooms by Eq. 16: their base scores and our faded one."""


async def _rank(request: Request) -> Response:
    service = request.app.state.service
    if "json" not in request.headers.get("content-type", ""):
        raise HTTPException(422, "header Content-Type must be application/json")
    ranks: Ranks = service.ranks
    with ranks.places.hold(request.state.client) as there:
        if not there:
            raise BusyError("as many rankings wait as may wait")
        body = await whole_body(request)
        wanted = await ranks.run(lambda: _read(body))
        now = service.clock() if wanted.now is None else service.from_wall(wanted.now)
        scores = await service.backend.scores([c.room_id for c in wanted.candidates])
        ranking = service.engine.ranking
        text = await ranks.run(lambda: _ranked(wanted, scores, now, ranking))
    return Response(text, media_type="application/json")


def _read(body: bytes) -> RankIn:
    try:
        return RankIn.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise HTTPException(400, f"body: must be JSON: {first['msg'][:200]}") from None
        raise RequestValidationError([{**first, "loc": ("body", *first["loc"])}]) from None


def _ranked(wanted: RankIn, scores: Scores, now: float, ranking: RankSettings) -> bytes:
    settings = replace(
        ranking,
        content_weight=wanted.content_weight,
        neutral_score=wanted.neutral_score,
        base_weights=wanted.base_weights,
    )
    candidates = [Candidate(room_id=c.room_id, base=c.base) for c in wanted.candidates]
    places = rank(candidates, scores, now, settings)
    parts = [_rows(places[k : k + _AT_ONCE]) for k in range(0, len(places), _AT_ONCE)]
    head = json.dumps({"now": now, "model": scores.model}, separators=(",", ":"))[:-1]
    return f'{head},"ranking":[{",".join(parts)}]}}'.encode()


def _rows(places: list[Ranked]) -> str:
    rows = [vars(place) for place in places]
    return json.dumps(rows, allow_nan=False, separators=(",", ":"))[1:-1]
