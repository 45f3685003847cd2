"""The service under load: requests a second and p99, twice the load it can hold, and its memory.

    OMP_NUM_THREADS=1 python -u benchmarks/service.py [--seconds 15] [--minutes 10] [--small]
        [--state] [--rate 40]

A server process of its own (the paper's sizes with random weights; --small: a tiny model), and
clients in this one, over loopback, on the same cores; --state: it keeps its rooms on the disk.
Bodies hold 2 x 1,024 features as base64 float16; rooms end after 40 segments and others begin.
Three parts:

1. 32 connections, each sending its next segment when the last is answered; then as many as may
   wait, which is the most that the service holds.
2. Segments at twice that rate, on four times as many connections as may wait: every one must be
   answered, by 200 or 503, and in bounded time.
3. The same for --minutes: the server's memory, every 5 s. With --rate R only this part, at so many
   segments a second on 32 connections: a machine that does other work still tells whether memory
   grows.

Absolute numbers are of the machine it runs on; the ratios are what is claimed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import faulthandler
import json
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, DataConfig, ModelConfig
from contentctr.live.engine import Engine
from contentctr.live.service.app import create_app
from contentctr.live.service.backend import LocalBackend
from contentctr.live.service.keeping import Keeper
from contentctr.live.service.server import make_server
from contentctr.live.service.settings import ServiceSettings
from contentctr.models.registry import build_model
from contentctr.recipes import paper

WIDTH, QUEUE, CONNECTIONS, ROOM_SEGMENTS = 1024, 128, 32, 40
TIMEOUT_S = 30.0


def serve(port: int, small: bool, state: Path | None) -> None:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = DataSpec(visual_dim=WIDTH, text_dim=WIDTH)
    config = paper()
    if small:
        config = Config(data=DataConfig(), model=ModelConfig(d_model=16, num_heads=2))
    known = Vocabulary(streamers=["a"])
    engine = Engine(build_model(config, spec, known), config, spec, known)
    keeper = None if state is None else Keeper(state, forget_after_s=600.0, report=print)
    backend = LocalBackend(engine, queue_size=QUEUE, keeper=keeper)
    app = create_app(backend, engine, ServiceSettings(rate=0))
    make_server(app, backend, port=port).run()


class Connection:
    """One client: its rooms one after the other, their segments in order."""

    def __init__(self, port: int, number: int) -> None:
        self.port, self.number = port, number
        self.room, self.index, self.reader, self.writer = 0, 0, None, None
        rng = np.random.default_rng(number)
        self.features = [
            base64.b64encode(rng.standard_normal(WIDTH).astype("<f2").tobytes()).decode()
            for _ in range(2)
        ]

    async def request(self, method: str, path: str, body: bytes = b"") -> int:
        """The status, once the whole answer is there."""
        if self.writer is None or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        self.writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        status, length = int(answer.split(b" ", 2)[1]), 0
        for line in answer.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        await self.reader.readexactly(length)
        return status

    def leave(self) -> None:
        """Begin with a new connection: what comes on this one answers a request given up."""
        if self.writer is not None:
            self.writer.transport.abort()
        self.writer = None

    async def next(self) -> int:
        """Post the next segment; or end the room, and begin another."""
        name = f"c{self.number}-{self.room}"
        if self.index == ROOM_SEGMENTS:
            await self.request("DELETE", f"/v1/rooms/{name}")
            self.room, self.index = self.room + 1, 0
            return await self.next()
        post = {
            "room_id": name,
            "streamer_id": "a",
            "index": self.index,
            "visual": self.features[0],
            "text": self.features[1],
            "has_speech": True,
            "has_comments": True,
        }
        status = await self.request("POST", "/v1/segments", json.dumps(post).encode())
        if status == 200:
            self.index += 1
        return status


class Tally:
    """Statuses, and the seconds of answers with 200."""

    def __init__(self) -> None:
        self.codes: Counter[int | str] = Counter()
        self.seconds: list[float] = []
        self.worst = 0.0


async def client(one: Connection, until: float, interval: float, tally: Tally) -> None:
    """Segments of one connection, `interval` apart if the answers allow it."""
    due = time.perf_counter() + np.random.default_rng(one.number).uniform(0, interval or 1e-6)
    while (now := time.perf_counter()) < until:
        if due > now:
            await asyncio.sleep(due - now)
        due = max(due + interval, time.perf_counter() - 1.0)
        start = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status: int | str = await one.next()
        except TimeoutError:
            status = "hang"
            one.leave()
        took = time.perf_counter() - start
        tally.codes[status] += 1
        tally.worst = max(tally.worst, took)
        if status == 200:
            tally.seconds.append(took)


async def load(port: int, count: int, seconds: float, interval: float, first: int) -> Tally:
    tally = Tally()
    until = time.perf_counter() + seconds
    clients = [Connection(port, first + k) for k in range(count)]
    await asyncio.gather(*(client(one, until, interval, tally) for one in clients))
    for one in clients:
        if one.writer is not None:
            one.writer.close()
    return tally


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def stopped(pid: int) -> bool:
    """Whether somebody has stopped the server (SIGSTOP): then it is not its fault that it hangs."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def processor_s(pid: int) -> float:
    """Seconds of processor that the server has used, which other work changes little."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def show(title: str, tally: Tally, seconds: float) -> float:
    rate = tally.codes[200] / seconds
    assert tally.seconds, tally.codes
    p50, p99 = np.percentile(tally.seconds, (50, 99))
    print(
        f"{title}: {rate:,.0f} scored/s of {sum(tally.codes.values()) / seconds:,.0f} sent/s; "
        f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest answer of any kind "
        f"{tally.worst * 1000:.0f} ms; {dict(tally.codes)}"
    )
    return rate


async def run(port: int, pid: int, seconds: float, minutes: float, rate: float | None) -> None:
    for _ in range(600):
        try:
            if await Connection(port, 0).request("GET", "/readyz") == 200:
                break
        except OSError:
            await asyncio.sleep(0.1)
    await load(port, CONNECTIONS, 3.0, 0.0, 10_000)  # warm
    if rate is None:
        many, rate = 4 * QUEUE, 2 * await hold(port, pid, seconds)
    else:
        many = CONNECTIONS
    if minutes:
        await remember(port, pid, many, rate, minutes)


async def hold(port: int, pid: int, seconds: float) -> float:
    """What it scores a second with all that may wait, and that twice as much changes nothing."""
    show(f"{CONNECTIONS} connections", await load(port, CONNECTIONS, seconds, 0.0, 15_000), seconds)
    used = processor_s(pid)
    tally = await load(port, QUEUE, seconds, 0.0, 20_000)
    used = processor_s(pid) - used
    held = show(f"{QUEUE} connections", tally, seconds)
    print(f"processor of the server: {used / tally.codes[200] * 1000:.2f} ms a segment")
    many = 4 * QUEUE
    twice = await load(port, many, seconds, many / (2 * held), 30_000)
    rate = show("twice", twice, seconds)
    print(f"scored at twice the load / held: {rate / held:.2f}")
    assert set(twice.codes) <= {200, 429, 503}, twice.codes
    return held


async def remember(port: int, pid: int, many: int, rate: float, minutes: float) -> None:
    """The server's memory over time, on `many` connections that send `rate` segments a second."""
    samples: list[float] = []
    looks: Counter[bool] = Counter()

    async def watch() -> None:
        while True:
            samples.append(resident_mb(pid))
            looks[stopped(pid)] += 1
            await asyncio.sleep(5)

    watching = asyncio.create_task(watch())
    tally = await load(port, many, 60 * minutes, many / rate, 40_000)
    watching.cancel()
    if tally.codes["hang"]:
        print(f"the server was stopped (state T) at {looks[True]} of {looks.total()} looks")
        os.kill(pid, signal.SIGUSR1)  # it writes where its threads are
    show(f"{minutes:g} minutes at {rate:.0f} a second", tally, 60 * minutes)
    half = len(samples) // 2
    print(f"memory of the server, MB, every minute: {[round(s) for s in samples[::12]]}")
    print(
        f"mean of the second half / mean of the first: "
        f"{np.mean(samples[half:]) / np.mean(samples[:half]):.3f}"
    )
    assert set(tally.codes) <= {200, 429, 503}, tally.codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--state", action="store_true")
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    state = Path(tempfile.mkdtemp()) / "state" if options.state else None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(port, options.small, state)
    )
    server.start()
    try:
        asyncio.run(run(port, server.pid, options.seconds, options.minutes, options.rate))
    finally:
        server.terminate()
        server.join(60)
        server.kill()  # one that is stopped, or hangs, never ends
        if state is not None:
            print(f"the state: {sum(p.stat().st_size for p in state.iterdir()) / 2**20:.0f} MB")
            shutil.rmtree(state.parent)


if __name__ == "__main__":
    main()
