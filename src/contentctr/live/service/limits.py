"""What a client may send: the size of a body, how long it takes, how often.

Plain ASGI, in front of the application: a request that is refused is not read, let alone parsed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contentctr.live.service.refusals import refusal, retry_after

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_HEADERS = [(k.encode(), v.encode()) for k, v in SECURITY_HEADERS.items()]


class TokenBuckets:
    """One bucket of tokens a client; a request takes one. For one thread.

    Args:
        rate: tokens a second that flow into a bucket.
        burst: tokens that it holds.
        clients: buckets kept; the one unused longest is given up for a new one.
        clock: seconds.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        clients: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert rate > 0 and burst >= 1
        self._rate, self._burst, self._clients, self._clock = rate, burst, clients, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """0 if the client may go on; else the seconds until it may."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._clients:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rate


class Guard:
    """Key, rate, size and time of every request, and the security headers of every answer.

    Args:
        app: the application behind it.
        api_key: what X-API-Key must hold on guarded paths; None: no key is needed.
        buckets: of the guarded paths, by the client's address; None: no limit.
        busy: whether segments are refused now; then none is read.
        max_body: bytes of a body.
        body_timeout_s: seconds in which a body must have come.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_key: str | None = None,
        buckets: TokenBuckets | None = None,
        busy: Callable[[], bool] = lambda: False,
        max_body: int = 4 * 2**20,
        body_timeout_s: float = 15.0,
    ) -> None:
        self._app, self._buckets, self._busy = app, buckets, busy
        self._key = None if api_key is None else _hash(api_key.encode())
        self._max_body, self._body_timeout_s = max_body, body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, self._bounded(receive), send_safe)
        else:
            await refused(scope, receive, send_safe)

    def _refused(self, scope: Scope) -> Response | None:
        """The answer to a request that is not let in."""
        headers = dict(scope["headers"])
        if scope["path"].startswith("/v1/") or scope["path"] == "/rank":
            client = scope.get("client")
            wait = self._buckets.take(client[0] if client else "") if self._buckets else 0.0
            if wait > 0:
                return refusal(429, "too many requests", retry_after(wait))
            if self._key is not None:
                # Hashes are as long as each other, so that the time tells nothing of the key.
                given = _hash(headers.get(b"x-api-key", b""))
                if not hmac.compare_digest(given, self._key):
                    reason = "header X-API-Key must hold the service's key"
                    return refusal(401, reason, {"www-authenticate": "X-API-Key"})
        # Reading what will be refused would take the time of what was accepted.
        if scope["path"] == "/v1/segments" and scope["method"] == "POST" and self._busy():
            reason = "as many segments wait as may wait, or the service ends"
            return refusal(503, reason, retry_after(1))
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return refusal(400, "header Content-Length must be a whole number")
        if len(length) > 15 or int(length) > self._max_body:
            return refusal(413, self._too_large(), {"connection": "close"})
        return None

    def _too_large(self) -> str:
        return f"the body must have at most {self._max_body} bytes"

    def _bounded(self, receive: Receive) -> Receive:
        """`receive`, that stops a body which grows too large or comes too slowly."""
        size, done, deadline = 0, False, 0.0

        async def bounded() -> Message:
            nonlocal size, done, deadline
            if done:  # what comes after the body is the client's leaving
                return await receive()
            loop = asyncio.get_running_loop()
            deadline = deadline or loop.time() + self._body_timeout_s
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, f"the body must come within {self._body_timeout_s:g} s"
                ) from None
            size += len(message.get("body", b""))
            done = not message.get("more_body", False)
            if size > self._max_body:
                raise HTTPException(413, self._too_large())
            return message

        return bounded


def _hash(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
