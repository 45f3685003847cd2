"""Segments on their way to a service, which may be away: kept, and sent later in their order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Condition, Thread
from typing import Any

from contentctr.live.watch.client import Client

KEPT = 512
"""Segments that wait at most, as many as the service's own queue: over four hours of 30 s."""
_PATH = "/v1/segments"
_Item = tuple[dict[str, Any], Callable[[dict[str, Any]], None]]
"""A post, and what is given the answer."""


class ServiceAwayError(Exception):
    """The service was away at the end, for longer than it is waited for."""


class Outbox:
    """Posts one room's segments by a thread of its own, so that the room goes on meanwhile.

    A service that does not know the room any more, because it was started anew, first gets again
    what the model still looks at: the segments after it are then scored as if nothing had been.

    Args:
        client: of the service; used by the thread alone.
        window_len: segments that the model looks at.
        report: given each line that the user should see.
        kept: segments that wait at most; then the oldest ones are left out.
        away_s: seconds that `close` waits for a service that is away.
        stopped: whether the user wants an end: the service is then waited for `STOP_S` at most.
    """

    STOP_S = 5.0

    def __init__(
        self,
        client: Client,
        *,
        window_len: int,
        report: Callable[[str], None],
        kept: int = KEPT,
        away_s: float = 600.0,
        stopped: Callable[[], object] = lambda: False,
    ) -> None:
        self.left_out = 0
        """Segments that were not delivered."""
        self._client, self._report = client, report
        self._kept, self._away_s, self._stopped = kept, away_s, stopped
        self._waiting: deque[_Item] = deque()
        self._delivered: deque[dict[str, Any]] = deque(maxlen=max(window_len - 1, 1))
        self._changed = Condition()
        self._closing = self._given_up = False
        self._fault: BaseException | None = None
        self._thread = Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, post: dict[str, Any], take: Callable[[dict[str, Any]], None]) -> None:
        """Send one more segment; `take` is given the answer, later.

        Raises:
            InputError: the service refused an earlier one.
        """
        with self._changed:
            self._raise()
            self._waiting.append((post, take))
            if len(self._waiting) > self._kept:
                del self._waiting[1]  # the first is on its way
                if not self.left_out:
                    self._report(
                        f"{self._client.url}: {self._kept} segments wait for it; the oldest are "
                        "left out from now on"
                    )
                self.left_out += 1
            self._changed.notify()

    def close(self) -> None:
        """Wait until all has been sent.

        Raises:
            InputError: the service refused a segment.
            ServiceAwayError: it was away for too long.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        begin, waiting_s = time.monotonic(), self._away_s
        while self._thread.is_alive():
            self._thread.join(0.1)
            if self._stopped():
                waiting_s = min(waiting_s, self.STOP_S)
            if time.monotonic() - begin > waiting_s:
                break
        self._given_up = True
        self._thread.join(1.0)
        self._raise()
        self.left_out += len(self._waiting)
        if self.left_out:
            raise ServiceAwayError(
                f"{self._client.url}: the service was away for too long: segments not delivered: "
                f"{self.left_out}"
            )

    def _raise(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                post, take = item
                answer = self._client.post(
                    _PATH,
                    post,
                    stopped=lambda: self._given_up,
                    report=self._report,
                    before=partial(self._remind, post["room_id"]),
                )
                if answer is None:
                    return
                with self._changed:
                    if self._waiting and self._waiting[0] is item:
                        self._waiting.popleft()
                self._delivered.append({**post, "thumbnail": None})
                take(answer)
        except BaseException as error:
            self._fault = error

    def _next(self) -> _Item | None:
        """The oldest segment, which stays in its place until it was taken; None at the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return self._waiting[0] if self._waiting else None

    def _remind(self, room_id: str) -> None:
        """Send again what a service that was started anew has to know of the room."""
        if self._delivered and not self._client.has(f"/v1/rooms/{room_id}"):
            for post in self._delivered:
                self._client.send(_PATH, post)
