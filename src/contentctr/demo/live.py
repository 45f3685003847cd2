"""The live demo: a small model of simulated rooms, the service, and rooms that go live."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from contentctr.batch import DataSpec
from contentctr.config import Config
from contentctr.counting import counted
from contentctr.demo.live_rooms import LiveSettings, play_rooms
from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.live.engine import Engine
from contentctr.live.service.app import create_app
from contentctr.live.service.backend import LocalBackend
from contentctr.live.service.server import make_server, serving
from contentctr.live.watch.client import Client
from contentctr.progress import stop_signals
from contentctr.recipes import small
from contentctr.score import checkpoint as checkpoints
from contentctr.score.checkpoint import Checkpoint
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import MECHANISM, write_features
from contentctr.train.loop import train_model

SIMULATOR = SimulatorConfig(num_rooms=120, num_streamers=12)
"""Rooms that the demo's model is trained on; those that go live come after them."""
FIRST_LIVE_ROOM = 100_000
"""Index of the first live room: past the training rooms of any model that is at hand."""
VISUAL_DIM, TEXT_DIM = 64, 48


def live_config() -> Config:
    """The small recipe, cut to some seconds on two cores."""
    base = small()
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, stride=10),
        model=dataclasses.replace(base.model, d_model=64),
        train=dataclasses.replace(base.train, epochs=4, patience=0),
    )


def demo_live(
    out: Path | str = "demo-live",
    *,
    rooms: int = 12,
    speed: float = 30.0,
    checkpoint: Path | str | None = None,
    url: str | None = None,
    api_key: str | None = None,
    port: int = 8000,
    seconds: float | None = None,
    report: Callable[[str], None] = print,
) -> int:
    """Simulated rooms go live, at a running service or at one of the demo's own.

    Args:
        out: folder for the demo's model; one that is there from before is used again.
        rooms: rooms that are live at once.
        speed: how many times faster than real time; 1: a segment in 30 s.
        checkpoint: a model to serve instead, of simulated rooms with the simulator's default seed.
        url: a service that runs already, and has such a model; then none is started.
        api_key: that service's key.
        port: where the demo's own service listens; 0: a free port.
        seconds: stop after so long; None: when interrupted.
        report: told what happens.

    Returns:
        Segments that were posted.

    Raises:
        InputError: the checkpoint's model is not one of such rooms, or the service is not there.
    """
    simulator = SIMULATOR if checkpoint is None and url is None else SimulatorConfig()
    settings = LiveSettings(
        simulator=simulator, first_room=FIRST_LIVE_ROOM, rooms=rooms, speed=speed
    )
    if url is not None:
        return _play(Client(url, api_key=api_key), settings, seconds, report)
    chosen = checkpoint or _trained(Path(out), report)
    with _service(checkpoints.load(chosen), port) as own_url:
        return _play(Client(own_url), settings, seconds, report)


def _play(
    client: Client, settings: LiveSettings, seconds: float | None, report: Callable[[str], None]
) -> int:
    pace = "in real time" if settings.speed == 1 else f"{settings.speed:g} times as fast as life"
    report(f"{settings.rooms} simulated rooms, {pace}: {client.url}/  (stop with Ctrl-C)")
    end = float("inf") if seconds is None else time.monotonic() + seconds
    with closing(client), stop_signals() as caught:
        posted = play_rooms(
            client, settings, stopped=lambda: bool(caught) or time.monotonic() > end, report=report
        )
    report(f"stopped after {counted(posted, 'segment')}")
    return posted


def _trained(out: Path, report: Callable[[str], None]) -> Path:
    """The demo's model, trained if `out` has none yet."""
    best = out / "run" / "best"
    if not best.exists():
        report(f"training a small model on {SIMULATOR.num_rooms} simulated rooms, in {out} ...")
        data = write_features(SIMULATOR, out / "data", visual_dim=VISUAL_DIM, text_dim=TEXT_DIM)
        run = out / "run"
        train_model(live_config(), data.root, run, resume=run.exists())
    return best


@contextmanager
def _service(checkpoint: Checkpoint, port: int) -> Iterator[str]:
    _check_spec(checkpoint.spec)
    engine = Engine.from_checkpoint(checkpoint)
    backend = LocalBackend(engine)
    with serving(make_server(create_app(backend, engine), backend, port=port)) as url:
        yield url


def _check_spec(spec: DataSpec) -> None:
    """Stop where a model cannot read the live rooms' features.

    Raises:
        InputError: it was trained on others.
    """
    seed = SIMULATOR.seed
    wanted = {
        "visual_revision": digest(MECHANISM, seed, "visual", spec.visual_dim),
        "text_revision": digest(MECHANISM, seed, "text", spec.text_dim),
    }
    for name, value in wanted.items():
        if getattr(spec, name) != value:
            raise InputError(
                "the checkpoint must be of simulated features with seed "
                f"{seed} (contentctr simulate features): its {name} is "
                f"{getattr(spec, name)!r}, not {value!r}"
            )
