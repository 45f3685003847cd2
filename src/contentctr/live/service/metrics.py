"""What Prometheus reads of the service."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contentctr.live.exposition import counts_left_out
from contentctr.live.service.access import AccessLog

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_FIXED = {
    *("/v1/segments", "/v1/rooms", "/v1/events", "/v1/rank", "/v1/info", "/v1/outcomes"),
    *("/v1/models", "/rank"),
}


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "contentctr_requests",
            "Requests answered.",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "contentctr_request_seconds",
            "Time to answer, event streams aside.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.segments = Counter(
            "contentctr_segments", "Segments taken.", ["status"], registry=self.registry
        )
        self.late_counts = counts_left_out("contentctr_late_counts", self.registry)
        self.batches = Histogram(
            "contentctr_batch_size",
            "Segments scored at once.",
            buckets=_SIZES,
            registry=self.registry,
        )

        self.closed_connections = Counter(
            "contentctr_closed_connections",
            "Connections closed because they were idle, unread, or too many.",
            ["reason"],
            registry=self.registry,
        )

        self.bad_events = Counter(
            "contentctr_bad_events",
            "Events in Redis that were none, and passed over.",
            registry=self.registry,
        )

        self._models = Gauge(
            "contentctr_model_info",
            "1 for the model that scores, by its id.",
            ["model"],
            registry=self.registry,
        )

    def model(self, model_id: str) -> None:
        """Name the model that scores now, and no other."""
        self._models.clear()
        self._models.labels(model_id).set(1)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when Prometheus asks."""
        Gauge(f"contentctr_{name}", text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        data: bytes = generate_latest(self.registry)
        return data


class Measured:
    """ASGI: counts every request by the path's template, refused ones among them, and logs some."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log: AccessLog) -> None:
        self._app, self._metrics, self._log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            path = getattr(scope.get("route"), "path", None) or _fixed(scope["path"])
            took = time.perf_counter() - start
            self._metrics.requests.labels(path, str(status)).inc()
            self._log.note(scope, status, took)
            if path != "/v1/events":
                self._metrics.seconds.labels(path).observe(took)


def _fixed(path: str) -> str:
    """The path of a request that the router has not seen; clients choose paths, so few count."""
    return path if path in _FIXED else "other"
