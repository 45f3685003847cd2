"""The service as a process: it listens, and on a signal finishes what it has accepted."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from contentctr.errors import InputError
from contentctr.live.service.backend import Backend

FINISH_S = 30
"""Seconds that open requests have to finish once the service is told to end."""


class _Server(uvicorn.Server):
    """Ends event streams, which never end by themselves, as soon as a signal comes."""

    def __init__(
        self, config: uvicorn.Config, backend: Backend, report: Callable[[str], None] | None
    ) -> None:
        super().__init__(config)
        self._backend, self._report = backend, report

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started and self._report is not None:
            self._report(url_of(self))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn; but a service that has ended well does not die of the signal again."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self._backend.events.close()


def make_server(
    app: FastAPI,
    backend: Backend,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_connections: int = 2000,
    report: Callable[[str], None] | None = None,
) -> uvicorn.Server:
    """A server of the application; `run` it, or see `serving`.

    Args:
        app: of `create_app`.
        backend: the application's.
        host: address to listen on.
        port: 0: a free one.
        max_connections: more at once are answered with 503.
        report: told the URL once it listens.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=FINISH_S,
        timeout_keep_alive=15,
        server_header=False,
    )
    return _Server(config, backend, report)


def url_of(server: uvicorn.Server) -> str:
    """Where a started server listens."""
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def serving(server: uvicorn.Server) -> Iterator[str]:
    """The server in a thread of its own; gives its URL, and ends it as a signal would.

    Raises:
        InputError: it cannot listen there.
    """

    def run() -> None:
        with suppress(SystemExit):  # uvicorn's way to say that it cannot listen
            server.run()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    while not server.started:
        thread.join(0.01)
        if not thread.is_alive():
            raise InputError(
                f"cannot listen on {server.config.host}, port {server.config.port}: in use?"
            )
    try:
        yield url_of(server)
    finally:
        server.handle_exit(signal.SIGTERM, None)
        thread.join()
