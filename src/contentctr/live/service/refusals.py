"""How the service says no: a status, and one sentence under `detail`."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from contentctr.errors import InputError
from contentctr.live.engine import RoomsFullError, StreamerChangedError
from contentctr.live.service.batching import BusyError
from contentctr.live.service.models import SwitchError
from contentctr.live.service.owners import NotOwnerError


class Json(JSONResponse):
    """JSON in ASCII: also what is no valid UTF-8 can be quoted; never NaN."""

    def render(self, content: Any) -> bytes:
        """See JSONResponse."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


_AT_ONCE = 20
"""Rows of a long list that are written before others have their turn."""


async def json_in_pieces(
    head: Mapping[str, Any], name: str, rows: Iterable[Mapping[str, Any]]
) -> Response:
    """An object with a long list under `name`; other requests are answered while it is written."""
    pieces, rest = [], iter(rows)
    while some := list(islice(rest, _AT_ONCE)):
        pieces.append(json.dumps(some, allow_nan=False, separators=(",", ":"))[1:-1])
        await asyncio.sleep(0)
    begin = json.dumps(head, allow_nan=False, separators=(",", ":"))[:-1]
    text = f'{begin}{"," if head else ""}"{name}":[{",".join(pieces)}]}}'
    return Response(text.encode(), media_type="application/json")


async def whole_body(request: Request) -> bytes:
    """The request's body; of a client that has left, none that is read."""
    try:
        return await request.body()
    except ClientDisconnect:
        raise HTTPException(400, "body: must be whole, and the client has left") from None


def refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """One sentence under `detail`."""
    return Json({"detail": detail}, status_code=status, headers=headers)


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when another try may do, in whole seconds."""
    return {"retry-after": str(math.ceil(seconds))}


def _other_methods(routes: Sequence[BaseRoute], scope: Scope) -> set[str]:
    """Methods of the path, of whichever routes, where that of the request is none of them."""
    methods: set[str] = set()
    for route in routes:
        match = route.matches(scope)[0]
        if match is Match.FULL:
            return set()
        if match is Match.PARTIAL:
            methods |= getattr(route, "methods", None) or set()
    return methods


def handle_errors(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Every refusal is one sentence under `detail`; `routes` are all that the application has."""

    async def invalid(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return refusal(400, f"body: must be JSON: {first.get('ctx', {}).get('error', '')}")
        place = ".".join(str(part) for part in first["loc"])
        return refusal(422, f"{place[:200]}: {first['msg'][:500]}")

    async def http(request: Request, error: Any) -> Response:
        status, detail, headers = error.status_code, str(error.detail), error.headers
        if status in (404, 405):
            # Where no route has the method, the files of the page are asked: they know no better.
            methods = _other_methods(routes, request.scope)
            if methods or status == 405:
                allowed = ", ".join(sorted(methods or {"GET", "HEAD"}))
                status, detail, headers = 405, f"allowed: {allowed}", {"allow": allowed}
        return refusal(status, detail, headers)

    async def wrong_input(request: Request, error: Any) -> Response:
        return refusal(422, str(error))

    async def streamer(request: Request, error: Any) -> Response:
        return refusal(409, str(error))

    async def no_switch(request: Request, error: Any) -> Response:
        return refusal(409, str(error))

    async def owner(request: Request, error: Any) -> Response:
        return refusal(403, str(error))

    async def busy(request: Request, error: Any) -> Response:
        return refusal(503, str(error), headers=retry_after(1))

    async def rooms_full(request: Request, error: Any) -> Response:
        return refusal(429, str(error), headers=retry_after(30))

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(InputError, wrong_input)
    app.add_exception_handler(StreamerChangedError, streamer)
    app.add_exception_handler(SwitchError, no_switch)
    app.add_exception_handler(NotOwnerError, owner)
    app.add_exception_handler(BusyError, busy)
    app.add_exception_handler(RoomsFullError, rooms_full)
