"""Attacks on the HTTP service."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx

from attacking.stage import Outcome, Stage, attack, status


@contextlib.contextmanager
def silent(url: httpx.URL, count: int) -> Iterator[None]:
    """Connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            one = socket.create_connection((url.host, url.port), timeout=10)
            stack.enter_context(one)
        time.sleep(0.5)
        yield


@attack("2,005 silent connections", 60)
def silent_connections(stage: Stage) -> Outcome:
    url = stage.serve()
    with silent(url, 2005):
        found = {path: status(url, path) for path in ("/healthz", "/v1/rooms")}
    return all(f.startswith("200") for f in found.values()), str(found)


@attack("1,100 silent connections, 1,024 file descriptors", 90)
def few_descriptors(stage: Stage) -> Outcome:
    url = stage.serve(descriptors=1024)
    with silent(url, 1100):
        time.sleep(5)
        found = [status(url, "/healthz", within=5) for _ in range(3)]
    size = stage.log.stat().st_size
    held = all(f.startswith("200") for f in found) and size < 100_000
    return held, f"/healthz {found[-1]}; {size:,} bytes of log"
