"""Server-sent events: a bounded log that any number of listeners read, each at its own place.

A listener holds a number, not a queue: one that is slow costs no memory, and is told to start
anew (`reset`) when the log has moved past it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contentctr.live.service.batching import BusyError
from contentctr.live.service.budget import Budget

ASK_S = 2.0
"""Seconds between two looks whether a listener's key still stands."""
KEPT = 2000
"""Events that a listener may be behind."""


@dataclass(frozen=True)
class Event:
    """One event; `number` rises by one with each."""

    number: int
    kind: str
    room_id: str
    data: str


class EventLog:
    """The last events, and the waking of those who wait for the next. For one event loop.

    Args:
        kept: events kept for listeners that are behind or come back.
        places: of listeners, all of them and those of one client; None: any number.
    """

    def __init__(self, kept: int = KEPT, places: Budget | None = None) -> None:
        self._events: deque[Event] = deque(maxlen=kept)
        self._next = 1
        self._news = asyncio.Event()
        self._boot = uuid.uuid4().hex[:8]
        self.closed = False
        self.places = places or Budget(1_000_000, 1_000_000)

    @property
    def listeners(self) -> int:
        """Listeners that are here."""
        return self.places.held

    def append(self, kind: str, room_id: str, data: Mapping[str, Any]) -> None:
        """Tell all listeners."""
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
        self._events.append(Event(self._next, kind, room_id, text))
        self._next += 1
        self._wake()

    def reset(self) -> None:
        """Tell all listeners to ask anew for what they know, of whichever rooms."""
        self.append("reset", "", {})

    def close(self) -> None:
        """End all streams: the service ends."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _after(self, cursor: str | None) -> int | None:
        """Number of the last event that a listener has seen; None: unknown, or too long ago."""
        if cursor is None:
            return self._next - 1
        boot, _, number = cursor.partition("-")
        if boot != self._boot or not number.isascii() or not number.isdigit() or len(number) > 15:
            return None
        seen = int(number)
        return seen if self._oldest() - 1 <= seen < self._next else None

    def _oldest(self) -> int:
        return self._events[0].number if self._events else self._next

    def listen(
        self,
        cursor: str | None,
        *,
        room_id: str | None = None,
        client: str = "",
        ping_s: float = 15.0,
        allowed: Callable[[], bool] = lambda: True,
    ) -> Listener:
        """The stream's text, from after the cursor on, until the log is closed.

        Args:
            cursor: id of the last event that was seen; None: only new events.
            room_id: events of this room alone; None: of all.
            client: whose place it takes; at once, not when the first text is asked for.
            ping_s: seconds of silence after which a comment line says that the stream is alive.
            allowed: asked every `ASK_S` whether the listener may still listen; if not, it ends.

        Raises:
            BusyError: there are as many listeners as there, or of this client, may be.
        """
        if not self.places.take(client):
            raise BusyError(f"{self.listeners} listeners are here, as many as there may be")
        return Listener(
            self._texts(cursor, room_id, ping_s, allowed), lambda: self.places.give(client)
        )

    async def _texts(
        self, cursor: str | None, room_id: str | None, ping_s: float, allowed: Callable[[], bool]
    ) -> AsyncGenerator[str, None]:
        seen = self._after(cursor)  # before anything is sent, or an event could fall between
        yield "retry: 2000\n\n"
        loop = asyncio.get_running_loop()
        ping_at, ask_at = loop.time() + ping_s, loop.time() + ASK_S
        while not self.closed:
            if loop.time() >= ask_at:
                if not allowed():
                    return
                ask_at = loop.time() + ASK_S
            # A slow listener costs no memory: what the log has moved past is not sent.
            if seen is None or seen < self._oldest() - 1:
                seen = self._next - 1
                yield self._text(seen, "reset", "{}")
            news = self._news
            for event in self._since(seen):
                seen = event.number
                if room_id in (None, event.room_id) or not event.room_id:
                    ping_at = loop.time() + ping_s
                    yield self._text(seen, event.kind, event.data)
            if news.is_set() or seen < self._next - 1:
                continue
            try:
                # Other rooms' news are silence too.
                async with asyncio.timeout_at(min(ping_at, ask_at)):
                    await news.wait()
            except TimeoutError:
                if loop.time() < ping_at:
                    continue
                ping_at = loop.time() + ping_s
                yield ": ping\n\n"

    def _since(self, seen: int) -> list[Event]:
        """Events after `seen`, oldest first; a few at a time, as the log moves on meanwhile."""
        behind = self._next - 1 - seen
        start = len(self._events) - behind
        return [self._events[k] for k in range(start, min(start + 100, len(self._events)))]

    def _text(self, number: int, kind: str, data: str) -> str:
        return f"id: {self._boot}-{number}\nevent: {kind}\ndata: {data}\n\n"


class Listener:
    """One listener's stream of texts; its place is free again once it is closed.

    Args:
        texts: what it is sent.
        leave: told once, when it is closed, also where no text was ever asked for.
    """

    def __init__(self, texts: AsyncGenerator[str, None], leave: Callable[[], None]) -> None:
        self._texts, self._leave = texts, leave
        self._here = True

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> str:
        try:
            return await anext(self._texts)
        except BaseException:
            self._free()
            raise

    async def aclose(self) -> None:
        """End it."""
        self._free()
        await self._texts.aclose()

    def _free(self) -> None:
        if self._here:
            self._here = False
            self._leave()
