"""What a client may send: the size of a body, how long it takes, how often.

Plain ASGI, in front of the application: a request that is refused is not read, let alone parsed.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contentctr.live.service.addresses import client_of
from contentctr.live.service.budget import Budget
from contentctr.live.service.connections import PROBES
from contentctr.live.service.keys import ANYONE, MAX_KEYS, ApiKeys, Caller, Role
from contentctr.live.service.refusals import refusal, retry_after
from contentctr.live.service.settings import ServiceSettings

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
DOCS_POLICY = (
    SECURITY_HEADERS["content-security-policy"]
    .replace("blob:", "blob: data:")
    .replace("style-src 'self'", f"style-src 'self' {_EMPTY}")
)
"""Swagger UI's style sheet has its arrows in it; ReDoc fills an empty style element by script."""
_ADMINS = ("/v1/models", "/v1/outcomes")
"""Which model serves, and what is said of it and rings the alarm, is no matter of the owner of some
rooms."""
_CHUNKED = b"transfer-encoding"
_HEADERS = [(k.encode(), v.encode()) for k, v in SECURITY_HEADERS.items()]
_DOCS_HEADERS = [(b"content-security-policy", DOCS_POLICY.encode()), *_HEADERS[1:]]


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
    """Host, key, rate, size and time of every request, and the security headers of every answer.

    What a request's route may know of its client stands in its state: `caller`, and `client`, the
    name under which it has its part of what is bounded.

    Args:
        app: the application behind it.
        keys: who may call guarded paths; None: everybody.
        buckets: of all paths but probes, by the client's address; None: no limit.
        busy: whether segments are refused now; then none is read.
        settings: sizes, times and hosts.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ApiKeys | None = None,
        buckets: TokenBuckets | None = None,
        busy: Callable[[], bool] = lambda: False,
        settings: ServiceSettings | None = None,
    ) -> None:
        self._app, self._buckets, self._busy = app, buckets, busy
        self._keys = keys or ApiKeys()
        self._of_key: dict[tuple[str, float], TokenBuckets] = {}
        settings = settings or ServiceSettings()
        self._max_body, self._body_timeout_s = settings.max_body, settings.body_timeout_s
        self._bodies = Budget(max(settings.body_memory, 2 * settings.max_body))
        self._hosts = {host.lower().encode() for host in settings.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        safe = _DOCS_HEADERS if scope["path"] in ("/docs", "/redoc") else _HEADERS

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *safe]}
            await send(message)

        headers = dict(scope["headers"])
        refused = self._refused(scope, headers)
        if refused is not None:
            await refused(scope, receive, send_safe)
            return
        size = self._announced(scope["method"], headers)
        with self._bodies.hold(scope["state"]["client"], size) as room:
            if room:
                await self._app(scope, self._bounded(receive), send_safe)
            else:
                busy = refusal(503, "bodies fill the memory there is for them", retry_after(1))
                await busy(scope, receive, send_safe)

    def _announced(self, method: str, headers: dict[bytes, bytes]) -> int:
        """Bytes that the body may have; what is not told may be the most."""
        if method != "POST":  # no other body is read: an event stream would hold its part for ever
            return 0
        return self._max_body if _CHUNKED in headers else int(headers.get(b"content-length", b"0"))

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        """The answer to a request that is not let in."""
        path = scope["path"]
        if path in PROBES:
            _note(scope, ANYONE)
        else:
            host = headers.get(b"host", b"").lower()
            if self._hosts and _without_port(host) not in self._hosts:
                return refusal(421, "this service is not for the host that was asked for")
            refused = self._not_let_in(scope, headers.get(b"x-api-key", b""))
            if refused is not None:
                return refused
        # Reading what will be refused would take the time of what was accepted.
        if path == "/v1/segments" and scope["method"] == "POST" and self._busy():
            reason = "as many segments wait as may wait, or the service ends"
            return refusal(503, reason, retry_after(1))
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return refusal(400, "header Content-Length must be a whole number")
        if len(length) > 15 or int(length) > self._max_body:
            return refusal(413, self._too_large(), {"connection": "close"})
        return None

    def _not_let_in(self, scope: Scope, key: bytes) -> Response | None:
        """The answer to a client that may not do this; else it is noted whose request it is."""
        wait = self._buckets.take(_address(scope)) if self._buckets else 0.0
        if wait > 0:  # the page's files too: each is read by one of a few threads
            return refusal(429, "too many requests", retry_after(wait))
        if not (scope["path"].startswith("/v1/") or scope["path"] == "/rank"):
            _note(scope, ANYONE)
            return None
        caller = self._keys.caller(key)
        if caller is None:
            reason = "header X-API-Key must hold a key of the service"
            return refusal(401, reason, {"www-authenticate": "X-API-Key"})
        _note(scope, caller)
        scope["state"]["allowed"] = lambda: self._keys.caller(key) is not None
        if caller.rate is not None:
            wait = self._bucket(caller, caller.rate).take(caller.name)
            if wait > 0:
                return refusal(429, "too many requests with this key", retry_after(wait))
        needed = _needed(scope)
        if not caller.may(needed):
            return refusal(403, f"the key must have the role {needed}, not {caller.role}")
        return None

    def _bucket(self, caller: Caller, rate: float) -> TokenBuckets:
        found = self._of_key.get((caller.name, rate))
        if found is None:
            if len(self._of_key) >= 2 * MAX_KEYS:  # of keys that are no more
                self._of_key.clear()
            found = self._of_key[caller.name, rate] = TokenBuckets(rate, max(1.0, 2 * rate))
        return found

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


def _note(scope: Scope, caller: Caller) -> None:
    """Keep in the request's state whose it is."""
    state = scope.setdefault("state", {})
    state["caller"] = caller
    state["client"] = f"key {caller.name}" if caller.name else _address(scope)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client_of(client[0]) if client else ""


def _needed(scope: Scope) -> Role:
    """The role that a request needs: one that changes rooms, or what is told of all of them."""
    method, path = scope["method"], scope["path"]
    if method != "GET" and path in _ADMINS:
        return "admin"
    posts = method == "POST" and path == "/v1/segments"
    return "write" if posts or method not in ("GET", "HEAD", "OPTIONS", "POST") else "read"


def _without_port(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    return name if colon and port.isdigit() else host
