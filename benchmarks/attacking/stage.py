"""What attacks share: the commands under attack, and the bound on the time of each."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

Outcome = tuple[bool, str]
"""Whether it held, and what was seen."""
START_S = 60.0


class OutOfTimeError(Exception):
    """The attack took longer than it may: something hangs."""


@dataclass(frozen=True)
class Attack:
    """One attack."""

    name: str
    title: str
    seconds: float
    run: Callable[[Stage], Outcome]


ATTACKS: list[Attack] = []


def attack(title: str, seconds: float) -> Callable[[Callable[[Stage], Outcome]], None]:
    """Register a function as an attack that takes at most `seconds`."""

    def register(run: Callable[[Stage], Outcome]) -> None:
        ATTACKS.append(Attack(run.__name__, title, seconds, run))

    return register


def run_attack(one: Attack, stage: Stage) -> Outcome:
    """Its outcome; one that hangs or breaks off has not held."""

    def ring(number: int, frame: object) -> None:
        raise OutOfTimeError

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, one.seconds)
    try:
        return one.run(stage)
    except OutOfTimeError:
        return False, f"not done after {one.seconds:g} s"
    except Exception as error:
        text = f"{type(error).__name__}: {error}".replace("\n", " ").replace("|", "/")
        return False, text[:200]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        stage.close()


class Stage:
    """A folder for one attack, and the processes it starts, which end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._processes: list[subprocess.Popen[str]] = []
        self._cleanup = contextlib.ExitStack()

    def close(self) -> None:
        """End what was started."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._cleanup.close()

    def checkpoint(self, *, encoders: bool = False) -> Path:
        """A tiny model's, with tiny encoders if frames are to be encoded."""
        from contentctr.score import checkpoint
        from live_service import KNOWN, SPEC, make_model

        spec = _encoding_spec(self.folder) if encoders else SPEC
        model, config = make_model(spec=spec)
        path = self.folder / "model" / "best"
        checkpoint.save(path, model, config=config, spec=spec, vocabulary=KNOWN, info={})
        return path

    def command(
        self, *words: object, descriptors: int | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """`contentctr` with these words; its standard error is the file `log`."""

        def limit() -> None:
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "contentctr", *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                preexec_fn=limit,
            )
        self._processes.append(process)
        return process

    @property
    def log(self) -> Path:
        """What the commands wrote to standard error."""
        return self.folder / "log"

    def serve(self, *words: object, encode: bool = False, **options: object) -> httpx.URL:
        """A service, and its URL."""
        checkpoint = self.checkpoint(encoders=encode)
        more = ["--encode"] if encode else []
        process = self.command("serve", checkpoint, "--port", 0, *more, *words, **options)
        self.process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, self.log.read_text()[-500:]
        return httpx.URL(line.split()[-1])

    def redis(self) -> str:
        """A Redis of its own; its URL."""
        from redis_server import RedisServer

        server = RedisServer(self.folder / "redis")
        self._cleanup.callback(server.kill)
        return server.url


def _encoding_spec(folder: Path) -> object:
    from contentctr.batch import DataSpec
    from contentctr.encode import encoders
    from tiny_models import make_tiny_bert, make_tiny_swin

    swin, bert = str(make_tiny_swin(folder / "swin")), str(make_tiny_bert(folder / "bert"))
    return DataSpec(
        visual_dim=16,
        text_dim=16,
        simulated=True,
        visual_encoder=swin,
        text_encoder=bert,
        visual_revision=encoders.load_visual(swin).revision,
        text_revision=encoders.load_text(bert, pooling="cls", max_tokens=128).revision,
    )


@contextlib.contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds that the block took, as the one entry of a list."""
    found, start = [], time.perf_counter()
    yield found
    found.append(time.perf_counter() - start)


def status(url: httpx.URL, path: str, *, within: float = 10.0, **options: object) -> str:
    """The status of a GET, and the seconds it took, in words."""
    start = time.perf_counter()
    try:
        code = str(httpx.get(url.join(path), timeout=within, **options).status_code)
    except httpx.HTTPError as error:
        code = type(error).__name__
    return f"{code} in {time.perf_counter() - start:.2f} s"
