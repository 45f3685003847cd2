"""Connections: how many at once, whose, and how long one may wait for its request.

uvicorn alone closes an idle connection only after its first answer, and counts silent ones against
its limit: some thousand sockets that say nothing would keep everybody out. Here a connection that
waits for a request is always the one that gives way: to a new one, where there are as many as may
be, and to the clock.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from contentctr.live.service.addresses import client_of
from contentctr.live.service.refusals import refusal, retry_after

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are answered where nothing else is any more."""
DESCRIPTORS_KEPT = 256
"""File descriptors that are not for connections: files, Redis, those just accepted."""
Reason = Literal["idle", "unread", "crowded", "refused"]


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Of the connections of a server."""

    total: int = 2000
    """Connections at once."""
    per_address: int | None = None
    """Of one address, or one IPv6 network of 64 bits; None: half of all."""
    reserve: int = 32
    """Beyond these, for probes alone: a supervisor must see that a full service lives."""
    request_s: float = 15.0
    """Seconds in which a request's head must have come, from when one could begin."""
    unread_s: float = 30.0
    """Seconds in which a client must take something of an answer that is waiting for it: what it
    would have taken at `slowest` bytes a second."""
    slowest: int = 4096


def descriptor_limit(wanted: int) -> int:
    """How many of the wanted connections the process' file descriptors are enough for.

    The soft limit is raised as far as it may be and has to.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return max(soft - DESCRIPTORS_KEPT, soft // 2, 1)


class Connection(Protocol):
    """What is asked of a connection."""

    address: str

    def drop(self, reason: Reason) -> None:
        """Close it at once."""


class _Places:
    """So many connections; where all are taken, the one that waits longest gives way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held: set[Connection] = set()
        self.waiting: dict[Connection, None] = {}
        """Those that wait for a request, in the order in which they began to."""

    def enter(self, one: Connection) -> bool:
        """Let it in; whether there is a place."""
        if len(self.held) >= self._limit:
            oldest = next(iter(self.waiting), None)
            if oldest is None:
                return False
            oldest.drop("crowded")
        self.held.add(one)
        return True

    def leave(self, one: Connection) -> None:
        """It is gone."""
        self.held.discard(one)
        self.waiting.pop(one, None)


class Connections:
    """All connections of a server. For one thread.

    Args:
        limits: how many.
        shared: whether an address is a proxy's, behind which many clients are.
        closed: told the reason of each connection that is closed by these limits.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        *,
        shared: Callable[[str], bool] = lambda address: False,
        closed: Callable[[Reason], None] = lambda reason: None,
    ) -> None:
        self.limits, self._shared, self.closed = limits, shared, closed
        self._open, self._reserved = _Places(limits.total), _Places(limits.reserve)
        self._of_client: Counter[str] = Counter()
        self._per_address = limits.per_address or max(1, limits.total // 2)

    def __len__(self) -> int:
        return len(self._open.held) + len(self._reserved.held)

    def enter(self, one: Connection) -> Literal["open", "reserved", "refused"]:
        """Where a new connection stands."""
        if self._may_have_more(one.address) and self._open.enter(one):
            self._of_client[client_of(one.address)] += 1
            return "open"
        return "reserved" if self._reserved.enter(one) else "refused"

    def wait(self, one: Connection) -> None:
        """It waits for its client's next request."""
        places = self._open if one in self._open.held else self._reserved
        if one in places.held:
            places.waiting[one] = None

    def work(self, one: Connection) -> None:
        """It has a request."""
        self._open.waiting.pop(one, None)
        self._reserved.waiting.pop(one, None)

    def leave(self, one: Connection) -> None:
        """It is gone."""
        if one in self._open.held:
            client = client_of(one.address)
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]
        self._open.leave(one)
        self._reserved.leave(one)

    def _may_have_more(self, address: str) -> bool:
        client = client_of(address)
        if self._shared(address) or self._of_client[client] < self._per_address:
            return True
        own = (one for one in self._open.waiting if client_of(one.address) == client)
        oldest = next(own, None)
        if oldest is None:
            return False
        oldest.drop("crowded")
        return True


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer on a connection beyond the limit."""
    headers = {**retry_after(1), "connection": "close"}
    await refusal(503, "as many connections are open as may be", headers)(scope, receive, send)


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP, within `Connections`; one timer a connection, and nothing per byte."""

    def __init__(self, *arguments: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.address = ""
        self._places, self._limits = connections, connections.limits
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        _give_up_on_lost(transport, self._limits.unread_s)
        place = self._places.enter(self)
        if place == "refused":
            self.drop("refused")
            return
        if place == "reserved":
            self.app = _only_probes(self.app)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._places.leave(self)
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        super().data_received(data)
        if self._timer is not None and self._busy:
            self._timer.cancel()
            self._timer = None
            self._places.work(self)

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self._busy:
            self._wait()

    def pause_writing(self) -> None:
        """See asyncio: the client does not take what it asked for."""
        super().pause_writing()
        self._watch_reader(None)

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch_reader(self, left: int | None) -> None:
        """Look again later whether of what was `left` for the client it has taken something."""
        now_left = self._left
        if left is not None and left - now_left < self._limits.slowest * self._limits.unread_s:
            self.drop("unread")
            return
        self._unread = self.loop.call_later(self._limits.unread_s, self._watch_reader, now_left)

    @property
    def _left(self) -> int:
        """Bytes of answers that the client has not taken."""
        size: int = self.transport.get_write_buffer_size()
        return size

    def drop(self, reason: Reason) -> None:
        """See Connection."""
        self._places.closed(reason)
        self._places.leave(self)
        self._stop_timers()
        self.transport.abort()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        """For the next request: its whole head must be there in time, however it drips."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._limits.request_s, self._drop_idle)
        self._places.wait(self)

    def _drop_idle(self) -> None:
        if self._unread is not None:  # it still takes the last answer, in a time of its own
            self._timer = self.loop.call_later(self._limits.request_s, self._drop_idle)
        else:
            # After a pause of the machine the time is up before what came meanwhile is read.
            self._timer = self.loop.call_later(0, self.drop, "idle")

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        self._timer = self._unread = None


def _give_up_on_lost(transport: asyncio.Transport, seconds: float) -> None:
    """Have the kernel end a connection whose client is gone without a word.

    It would send what such a client was told again for a quarter of an hour.
    """
    one = transport.get_extra_info("socket")
    if hasattr(socket, "TCP_USER_TIMEOUT") and one.family in (socket.AF_INET, socket.AF_INET6):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * seconds))


def _only_probes(app: Any) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        chosen = app if scope.get("path") in PROBES else _full
        await chosen(scope, receive, send)

    return answer
