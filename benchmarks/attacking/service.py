"""Attacks on the HTTP service."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

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


@attack("2,005 silent connections", 180)
def silent_connections(stage: Stage) -> Outcome:
    url = stage.serve()
    with silent(url, 2005):
        found = {path: status(url, path) for path in ("/healthz", "/v1/rooms")}
    return all(f.startswith("200") for f in found.values()), str(found)


@attack("1,100 silent connections, 1,024 file descriptors", 180)
def few_descriptors(stage: Stage) -> Outcome:
    url = stage.serve(descriptors=1024)
    with silent(url, 1100):
        time.sleep(5)
        found = [status(url, "/healthz", within=5) for _ in range(3)]
    size = stage.log.stat().st_size
    held = all(f.startswith("200") for f in found) and size < 100_000
    return held, f"/healthz {found[-1]}; {size:,} bytes of log"


@attack("lists and rankings of 4,096 rooms, asked for without end", 180)
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


@attack("segments and rankings of 290,000 wrong fields, without end", 180)
def many_fields(stage: Stage) -> Outcome:
    """How long others wait for /healthz meanwhile."""
    url = stage.serve("--rate", 0)
    body = json.dumps({f"k{k:06d}": 1 for k in range(290_000)})
    headers = {"content-type": "application/json"}
    found = {}
    for path in ("/v1/segments", "/v1/rank"):

        def ask(client: httpx.Client, path: str = path) -> object:
            return client.post(path, content=body, headers=headers)

        waits = waits_while(url, ask, seconds=5)
        found[path] = f"{np.median(waits) * 1000:.0f}, {max(waits) * 1000:.0f}"
    worst = max(float(text.split(", ")[1]) for text in found.values())
    return worst < 700, f"ms that /healthz waits, median and longest: {found}"


@attack("64 event streams that announce a body of 4 MB each", 180)
def announced_bodies(stage: Stage) -> Outcome:
    """An honest segment beside them."""
    url = stage.serve()
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            one = socket.create_connection((url.host, url.port), timeout=10)
            stack.enter_context(one)
            one.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 4194304\r\n\r\n")
            one.recv(100)
        code = httpx.post(url.join("/v1/segments"), json=post_of("a"), timeout=20).status_code
    return code == 200, f"the segment: {code}"


def waits_while(
    url: httpx.URL, ask: Callable[[httpx.Client], object], seconds: float
) -> list[float]:
    """Seconds that each /healthz waits while another client asks for something without a pause."""
    ended: list[int] = []

    def bother() -> None:
        # Its service may be ended before it is.
        with suppress(httpx.HTTPError), httpx.Client(base_url=url, timeout=30) as client:
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


@attack("900 listeners at once, of 256 that may be", 180)
def listeners(stage: Stage) -> Outcome:
    url = stage.serve()
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(900):
            one = socket.create_connection((url.host, url.port), timeout=20)
            socks.append(stack.enter_context(one))
        for one in socks:
            one.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        codes = Counter(one.recv(12)[-3:].decode() for one in socks)
    return codes["200"] <= 256, f"answers: {dict(codes)}"


@attack("a post with a PNG that has a short iCCP chunk", 180)
def short_profile(stage: Stage) -> Outcome:
    url = stage.serve(encode=True)
    bad = png(8, 8, chunk(b"iCCP", b"name\0"))
    body = {"room_id": "x", "index": 0, "frames": [b64(bad)]}
    answer = httpx.post(url.join("/v1/segments"), json=body, timeout=20)
    return answer.status_code == 422, f"{answer.status_code}: {answer.text[:100]}"


@attack("a post with a picture of 1 x 9,000,000", 180)
def long_picture(stage: Stage) -> Outcome:
    url = stage.serve(encode=True)
    body = {"room_id": "x", "index": 0, "frames": [b64(png(1, 9_000_000))]}
    before = peak_mb(stage)
    answer = httpx.post(url.join("/v1/segments"), json=body, timeout=60)
    grown = peak_mb(stage) - before
    held = answer.status_code == 422 and grown < 100
    return held, f"{answer.status_code}; memory + {grown:.0f} MB"


@attack("a thumbnail of 50 kB with 400 million pixels", 180)
def large_thumbnail(stage: Stage) -> Outcome:
    url = stage.serve()
    data = png(20_000, 20_000)
    post = {**post_of("x"), "thumbnail": b64(data)}
    answer = httpx.post(url.join("/v1/segments"), json=post, timeout=20)
    return answer.status_code == 422, f"{len(data):,} bytes: {answer.status_code}"


@attack("40 posts of 3.7 MB of pictures, and an honest one", 240)
def large_posts(stage: Stage) -> Outcome:
    url = stage.serve(encode=True)
    picture = b64(png(3072, 3072))  # of few bytes: space fills the post up
    body = {"room_id": "x", "index": 0, "frames": [picture] * 16}
    data = json.dumps(body).encode() + b" " * (3_700_000 - 16 * len(picture))
    assert len(data) < 4 * 2**20

    def post(k: int) -> str:
        try:
            headers = {"content-type": "application/json"}
            path = url.join("/v1/segments")
            return str(httpx.post(path, content=data, headers=headers, timeout=110).status_code)
        except httpx.HTTPError as error:
            return type(error).__name__

    with ThreadPoolExecutor(40) as pool:
        posts = [pool.submit(post, k) for k in range(40)]
        time.sleep(2)
        start = time.perf_counter()
        honest = {"room_id": "honest", "index": 0, "frames": [b64(png(640, 360))]}
        code = "nothing"
        transport = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=transport, base_url=url, timeout=100) as client:
            with suppress(httpx.HTTPError):
                code = str(client.post("/v1/segments", json=honest).status_code)
        took = time.perf_counter() - start
        codes = Counter(one.result() for one in posts)
    held = code in ("200", "503") and took < 20 and set(codes) <= {"200", "422", "503"}
    return held, f"{code} in {took:.1f} s; the 40: {dict(codes)}"


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A black PNG; a large one is small."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 9)
    parts = (chunk(b"IHDR", head), *chunks, chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def b64(data: bytes) -> str:
    """Base64, as text."""
    return base64.b64encode(data).decode()


def peak_mb(stage: Stage) -> float:
    """The most memory that the service has had so far."""
    text = Path(f"/proc/{stage.process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


@attack("one client posts 4,100 rooms, and to another's; deletes another's", 180)
def squatting(stage: Stage) -> Outcome:
    keys = stage.folder / "keys"
    keys.write_text("write honest honest-key\nwrite greedy greedy-key\n")
    url = stage.serve("--keys", keys, "--rate", 0)
    honest, greedy = ({"x-api-key": f"{name}-key"} for name in ("honest", "greedy"))
    with httpx.Client(base_url=url, timeout=30) as client:

        def post(room: str, headers: dict[str, str]) -> int:
            return client.post("/v1/segments", json=post_of(room), headers=headers).status_code

        mine = post("mine", honest)
        with ThreadPoolExecutor(16) as pool:
            codes = Counter(pool.map(lambda k: post(f"room{k}", greedy), range(4100)))
        other = post("mine", greedy), client.delete("/v1/rooms/mine", headers=greedy).status_code
        new = post("another", honest)
    held = (mine, new) == (200, 200) and codes[200] <= 1024 and other == (403, 403)
    return held, f"rooms: {dict(codes)}; another's: {other}; an honest new room: {new}"


@attack("an event without `kind` in Redis", 180)
def bad_event(stage: Stage) -> Outcome:
    from contentctr.live.redis.messages import connect

    redis = stage.redis()
    url = stage.serve("--redis", redis)
    model = stage.folder / "model" / "best"
    stage.command("worker", model, "--redis", redis)
    code = 0
    for _ in range(200):
        code = httpx.post(url.join("/v1/segments"), json=post_of("x"), timeout=20).status_code
        if code == 200:
            break
        time.sleep(0.1)
    with connect(redis) as client:
        client.xadd("contentctr:events", {"room": "x", "data": "{}"})
    time.sleep(1)
    after = httpx.post(url.join("/v1/segments"), json=post_of("x", 1), timeout=20).status_code
    ready = status(url, "/readyz")
    return (code, after) == (200, 200), f"a post before: {code}, after: {after}; /readyz {ready}"


@attack("no worker on Redis: /readyz", 180)
def no_worker(stage: Stage) -> Outcome:
    url = stage.serve("--redis", stage.redis())
    time.sleep(2)
    found = status(url, "/readyz")
    return found.startswith("503"), found


@attack("SIGHUP while 100 posts are answered", 180)
def hangup(stage: Stage) -> Outcome:
    return _end_under_load(stage, signal.SIGHUP)


@attack("SIGTERM while 100 posts are answered", 180)
def terminate(stage: Stage) -> Outcome:
    return _end_under_load(stage, signal.SIGTERM)


def _end_under_load(stage: Stage, number: int) -> Outcome:
    """Every post that the service has read is answered."""
    url = stage.serve("--wait-ms", 1500)
    with httpx.Client(base_url=url, timeout=20) as client, ThreadPoolExecutor(100) as pool:

        def post(k: int) -> str:
            try:
                return str(client.post("/v1/segments", json=post_of(f"r{k}")).status_code)
            except httpx.HTTPError as error:
                return type(error).__name__

        posts = [pool.submit(post, k) for k in range(100)]
        time.sleep(1.2)
        stage.process.send_signal(number)
        codes = Counter(one.result() for one in posts)
    ended = stage.process.wait(20)
    held = ended == 0 and set(codes) <= {"200", "503"}
    return held, f"answers: {dict(codes)}; exit code {ended}"


@attack("`--host 0.0.0.0` without a key, and with an empty one", 180)
def open_to_all(stage: Stage) -> Outcome:
    found, checkpoint = {}, stage.checkpoint()
    for name, words, environment in (
        ("no key", ["--host", "0.0.0.0"], {}),
        ("empty variable", [], {"CONTENTCTR_API_KEY": ""}),
    ):
        process = stage.command("serve", checkpoint, "--port", 0, *words, **environment)
        assert process.stdout is not None
        found[name] = "serves" if process.stdout.readline() else f"exit code {process.wait(20)}"
    return set(found.values()) == {"exit code 2"}, str(found)
