"""A worker's health and metrics, and a small HTTP server that tells them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from threading import BoundedSemaphore, Thread, Timer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from contentctr.errors import InputError
from contentctr.live.engine import Engine
from contentctr.live.exposition import DriftCollector, counts_left_out

_TIMEOUT_S = 5.0
"""In which a request must come, and its answer be taken."""
_MOST_AT_ONCE = 16
"""Connections; one more is closed unanswered."""


class WorkerHealth:
    """What is known of a running worker.

    Args:
        lease_s: a worker that has not turned for so long is held up.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s, self._turned_at, self._trouble = lease_s, time.monotonic(), "not started"
        self.registry = CollectorRegistry()
        self.segments = Counter(
            "contentctr_worker_segments",
            "Segments taken, by what became of them.",
            ["status"],
            registry=self.registry,
        )
        self.late_counts = counts_left_out("contentctr_worker_late_counts", self.registry)
        self._partitions = self._gauge("partitions", "Partitions that this worker has.")
        self._rooms = self._gauge("rooms", "Rooms in its memory.")
        self._model = Gauge(
            "contentctr_worker_model",
            "1 for the worker's model and what that is: current, candidate or standby.",
            ["model", "role"],
            registry=self.registry,
        )
        self._placed = ("", "")
        self._failures = Counter(
            "contentctr_worker_redis_failures",
            "Times that Redis refused or did not answer.",
            registry=self.registry,
        )
        self._gauge("redis_up", "Whether Redis took the last commands.").set_function(
            lambda: not self._trouble
        )
        self._gauge("idle_seconds", "Since the last turn that Redis let end.").set_function(
            lambda: time.monotonic() - self._turned_at
        )

    def watch_drift(self, engine: Callable[[], Engine]) -> None:
        """Tell of the segments that an engine scores, too; of whichever it is then."""
        self.registry.register(DriftCollector(engine))

    def rollout(self, gauges: Iterable[tuple[str, str, Callable[[], float]]]) -> None:
        """Tell of a rollout too, as rollout.gauges says."""
        for name, text, value in gauges:
            self._gauge(name, text).set_function(value)

    def placed(self, model: str, role: str) -> None:
        """The worker's model, and what that is now."""
        if self._placed != (model, role):
            self._model.clear()
            self._model.labels(model, role).set(1)
            self._placed = model, role

    @property
    def fault(self) -> str:
        """Why no segments are scored now; "" where they are."""
        if self._trouble:
            return self._trouble
        idle_s = time.monotonic() - self._turned_at
        return f"held up for {idle_s:.0f} s" if idle_s > self._lease_s else ""

    def turned(self, partitions: int, rooms: int) -> None:
        """All partitions were looked at once more."""
        self._turned_at, self._trouble = time.monotonic(), ""
        self._partitions.set(partitions)
        self._rooms.set(rooms)

    def redis_failed(self, reason: str) -> None:
        """Redis refused, or did not answer."""
        self._trouble = reason
        self._failures.inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        data: bytes = generate_latest(self.registry)
        return data

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"contentctr_worker_{name}", text, registry=self.registry)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], health: WorkerHealth) -> None:
        super().__init__(address, _Handler)
        self.health, self._places = health, BoundedSemaphore(_MOST_AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # The handler's own time begins anew with each byte: a head that drips would never end.
        end = Timer(2 * _TIMEOUT_S, _shut, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._places.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """A client that has gone is no matter of the worker's."""


def _shut(request: socket) -> None:
    with suppress(OSError):
        request.shutdown(SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        health = self.server.health
        if self.path == "/metrics":
            self._answer(200, health.text(), "text/plain; version=0.0.4; charset=utf-8")
        elif self.path == "/healthz":
            self._answer(200, b"ok\n")
        elif self.path == "/readyz":
            fault = health.fault
            self._answer(503 if fault else 200, f"{fault or 'ready'}\n".encode())
        else:
            self._answer(404, b"not found\n")

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: supervisors ask every few seconds."""


@contextmanager
def health_server(health: WorkerHealth, host: str, port: int) -> Iterator[str]:
    """Tell a worker's health over HTTP while the block runs; gives the URL.

    Args:
        health: the worker's.
        host: address to listen on.
        port: 0: a free one.

    Raises:
        InputError: it cannot listen there.
    """
    try:
        server = _Server((host, port), health)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port} ({error.strerror}): in use?"
        ) from None
    thread = Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
