"""The service as a process: it listens, and on a signal finishes what it has accepted."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from contentctr.errors import InputError
from contentctr.live.service.backend import Backend
from contentctr.live.service.connections import (
    BoundedProtocol,
    ConnectionLimits,
    Connections,
    descriptor_limit,
)
from contentctr.live.service.logs import count_repeats

FINISH_S = 30
"""Seconds that open requests have to finish once the service is told to end."""
ACCEPTED_AT_ONCE = 32
"""Connections that are accepted before those already accepted are counted."""
KERNEL_QUEUE = 2048
"""Connections that wait in the kernel to be accepted: a burst must not be turned away there."""


class _Server(uvicorn.Server):
    """Ends event streams, which never end by themselves, as soon as a signal comes."""

    def __init__(
        self,
        config: uvicorn.Config,
        backend: Backend,
        report: Callable[[str], None] | None,
        reload: Callable[[], Coroutine[Any, Any, None]] | None,
    ) -> None:
        super().__init__(config)
        self._backend, self._report, self._reload = backend, report, reload
        self._had_terminal = _has_terminal()
        self._reloads: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if not self.started:
            return
        # asyncio has one number for both: what it accepts in a turn, and what the kernel keeps.
        for listening in self.servers[0].sockets:
            with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
                same.listen(KERNEL_QUEUE)
        if self._report is not None:
            self._report(url_of(self))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn; but a service that has ended well does not die of the signal again."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self._backend.events.close()

    def handle_hangup(self, sig: int, frame: FrameType | None) -> None:
        """Load the model again; but a service whose terminal was closed ends well."""
        if self._reload is None or self._loop is None or self._had_terminal != _has_terminal():
            self.handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._begin_reload, self._reload)

    def _begin_reload(self, reload: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(reload())
        self._reloads.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._reloads.discard)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn; SIGHUP too, unless it is ignored (nohup): a lost terminal loses no post."""
        with super().capture_signals():
            main = threading.current_thread() is threading.main_thread()
            if not main or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
                yield
                return
            old = signal.signal(signal.SIGHUP, self.handle_hangup)
            try:
                yield
            finally:
                signal.signal(signal.SIGHUP, old)


def make_server(
    app: FastAPI,
    backend: Backend,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: ConnectionLimits | None = None,
    trusted_proxies: Sequence[str] = (),
    report: Callable[[str], None] | None = None,
    reload: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> uvicorn.Server:
    """A server of the application; `run` it, or see `serving`.

    Args:
        app: of `create_app`.
        backend: the application's.
        host: address to listen on.
        port: 0: a free one.
        limits: of connections.
        trusted_proxies: addresses or networks that may say, in X-Forwarded-For, who their client
            is; nobody else's word is taken for it.
        report: told the URL once it listens.
        reload: what SIGHUP does; None: it ends the service.

    Raises:
        InputError: a trusted proxy is no address or network.
    """
    limits = limits or ConnectionLimits()
    # Without a descriptor for it a connection could not even be refused.
    limits = replace(limits, total=descriptor_limit(limits.total))
    proxies = [_network(proxy) for proxy in trusted_proxies]
    closed, repeats = backend.metrics.closed_connections, count_repeats()
    connections = Connections(
        limits,
        shared=lambda address: any(ipaddress.ip_address(address) in net for net in proxies),
        closed=lambda reason: closed.labels(reason).inc(),
    )
    backend.metrics.gauge("connections", "Open connections.", lambda: len(connections))
    backend.metrics.gauge(
        "unwritten_log_lines",
        "Lines that came again and were not written.",
        lambda: repeats.unwritten,
    )
    protocol: Any = functools.partial(BoundedProtocol, connections=connections)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        backlog=ACCEPTED_AT_ONCE,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_graceful_shutdown=FINISH_S,
        timeout_keep_alive=86_400,  # ours comes first, also after a pause of the machine
        server_header=False,
    )
    return _Server(config, backend, report, reload)


def _has_terminal() -> bool:
    """Whether this process has a terminal of its own that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InputError(
            f"trusted proxy must be an address or a network, not {text!r} ({error})"
        ) from None


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
