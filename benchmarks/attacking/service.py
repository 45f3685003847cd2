"""Attacks on the HTTP service."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

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


@attack("lists and rankings of 4,096 rooms, asked for without end", 120)
def loop_lag(stage: Stage) -> Outcome:
    """How long others wait for /healthz meanwhile."""
    url = stage.serve("--rate", 0, "--batch-size", 256, "--queue-size", 2000)
    names = [f"room{k}" for k in range(4096)]
    with httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(32) as pool:
        posts = (post_of(name) for name in names)
        codes = set(pool.map(lambda post: post_with_retry(client, post), posts))
        assert codes == {200}, codes
    base = {"ctr": 0.1, "lvtr": 0.2}
    body = {"candidates": [{"room_id": name, "base": base} for name in names]}
    found = {}
    for name, ask in (
        ("one room", lambda client: client.get("/v1/rooms/room7")),
        ("pages of 500", lambda client: client.get("/v1/rooms?limit=500")),
        ("rank", lambda client: client.post("/v1/rank", json=body)),
    ):
        waits = waits_while(url, ask, seconds=8)
        found[name] = f"{np.median(waits) * 1000:.0f}, {np.percentile(waits, 99) * 1000:.0f}"
    worst = max(float(text.split(", ")[0]) for text in found.values())
    return worst < 100, f"ms that /healthz waits, median and p99: {found}"


def waits_while(
    url: httpx.URL, ask: Callable[[httpx.Client], object], seconds: float
) -> list[float]:
    """Seconds that each /healthz waits while another client asks for something without a pause."""
    ended: list[int] = []

    def bother() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not ended:
                ask(client)

    thread = threading.Thread(target=bother)
    thread.start()
    waits, end = [], time.perf_counter() + seconds
    with httpx.Client(base_url=url, timeout=30) as client:
        while time.perf_counter() < end:
            start = time.perf_counter()
            assert client.get("/healthz").status_code == 200
            waits.append(time.perf_counter() - start)
            time.sleep(0.005)
    ended.append(1)
    thread.join()
    return waits


def post_of(room: str, index: int = 0) -> dict[str, object]:
    """A segment of the tiny model."""
    from live_service import make_post

    return make_post(room, index)


def post_with_retry(client: httpx.Client, post: dict[str, object]) -> int:
    """The status of a post, once the service is not too busy for it."""
    for _ in range(100):
        code = client.post("/v1/segments", json=post).status_code
        if code not in (429, 503):
            return code
        time.sleep(0.1)
    return code
