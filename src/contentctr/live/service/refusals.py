"""How the service says no: a status, and one sentence under `detail`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from contentctr.errors import InputError
from contentctr.live.engine import RoomsFullError, StreamerChangedError
from contentctr.live.service.batching import BusyError
from contentctr.live.service.owners import NotOwnerError


class Json(JSONResponse):
    """JSON in ASCII: also what is no valid UTF-8 can be quoted; never NaN."""

    def render(self, content: Any) -> bytes:
        """See JSONResponse."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """One sentence under `detail`."""
    return Json({"detail": detail}, status_code=status, headers=headers)


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when another try may do, in whole seconds."""
    return {"retry-after": str(math.ceil(seconds))}


def handle_errors(app: FastAPI) -> None:
    """Every refusal is one sentence under `detail`."""

    async def invalid(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return refusal(400, f"body: must be JSON: {first.get('ctx', {}).get('error', '')}")
        place = ".".join(str(part) for part in first["loc"])
        return refusal(422, f"{place[:200]}: {first['msg'][:500]}")

    async def http(request: Request, error: Any) -> Response:
        return refusal(error.status_code, str(error.detail), error.headers)

    async def wrong_input(request: Request, error: Any) -> Response:
        return refusal(422, str(error))

    async def streamer(request: Request, error: Any) -> Response:
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
    app.add_exception_handler(NotOwnerError, owner)
    app.add_exception_handler(BusyError, busy)
    app.add_exception_handler(RoomsFullError, rooms_full)
