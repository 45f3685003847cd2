"""Live rooms: the service and the stream worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contentctr.cli.common import Device, device_name, print_warnings
from contentctr.cli.common import Engine as InferenceEngine
from contentctr.errors import InputError
from contentctr.extras import require_installed

if TYPE_CHECKING:
    from contentctr.live.encoding import LiveEncoder
    from contentctr.live.engine import Engine
    from contentctr.live.redis.backend import RedisBackend

KEY_VARIABLE = "CONTENTCTR_API_KEY"
_Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint, or a run's folder.")]
_Redis = Annotated[str, typer.Option("--redis", help="redis://HOST:PORT/DATABASE")]
_Partitions = Annotated[
    int | None, typer.Option(min=1, help="Of a new Redis: workers at once. \\[default: 16]")
]
_Prefix = Annotated[str, typer.Option(help="Of all keys in Redis.")]
_Forget = Annotated[float, typer.Option(min=0.1, help="Seconds of silence that end a room.")]


def serve(
    checkpoint: _Checkpoint,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    encode: Annotated[
        bool, typer.Option("--encode", help="Take frames and texts too, and encode them.")
    ] = False,
    redis: Annotated[
        str | None, typer.Option(help="Rooms in Redis, scored by workers. \\[default: here]")
    ] = None,
    partitions: _Partitions = None,
    prefix: _Prefix = "contentctr",
    api_key_file: Annotated[
        Path | None, typer.Option(help=f"Its text is the API key. \\[default: ${KEY_VARIABLE}]")
    ] = None,
    max_rooms: Annotated[int, typer.Option(min=1, help="Live rooms at once.")] = 4096,
    batch_size: Annotated[int, typer.Option(min=1, help="Segments scored at once.")] = 64,
    wait_ms: Annotated[float, typer.Option(min=0, help="A batch waits so long for more.")] = 2.0,
    queue_size: Annotated[
        int | None, typer.Option(min=1, help="Segments that wait. \\[default: 512; 64 to encode]")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="Requests/s of one address; 0: any.")] = 1000.0,
    max_body: Annotated[int, typer.Option(min=1000, help="Bytes of a body.")] = 4 * 2**20,
    max_listeners: Annotated[int, typer.Option(min=1, help="Open event streams.")] = 256,
    forget_after: _Forget = 600.0,
    device: Device = "cpu",
    engine: InferenceEngine = "auto",
) -> None:
    """Serve live scores over HTTP: segments in, scores, ranking and events out; a page at /."""
    require_extra()
    from contentctr.live.encoding import LiveEncoder
    from contentctr.live.engine import Engine
    from contentctr.live.service.app import create_app
    from contentctr.live.service.backend import Backend, LocalBackend
    from contentctr.live.service.server import make_server
    from contentctr.live.service.settings import ServiceSettings
    from contentctr.score.checkpoint import load_for

    place = device_name(device)
    found = load_for(checkpoint, "rooms")
    # With Redis it only checks segments and describes the model.
    scorer = Engine.from_checkpoint(found, max_rooms=max_rooms, batch_size=batch_size, device=place)
    encoder, notes = None, list[str]()
    if encode:
        encoder = LiveEncoder.from_checkpoint(found, place, engine=engine, notes=notes)
    print_warnings(notes)
    backend: Backend
    if redis is None:
        backend = LocalBackend(
            scorer,
            encoder=encoder,
            queue_size=queue_size or (64 if encode else 512),
            wait_s=wait_ms / 1000,
            forget_after_s=forget_after,
        )
    else:
        backend = _redis_backend(redis, prefix, partitions, scorer, encoder, queue_size or 10_000)
    settings = ServiceSettings(
        api_key=_api_key(api_key_file),
        rate=rate,
        burst=max(1.0, 2 * rate),
        max_body=max_body,
        max_listeners=max_listeners,
    )
    make_server(
        create_app(backend, scorer, settings, encoder=encoder),
        backend,
        host=host,
        port=port,
        report=lambda url: print(f"serving {found.folder} on {url}", flush=True),
    ).run()


def worker(
    checkpoint: _Checkpoint,
    redis: _Redis,
    partitions: _Partitions = None,
    prefix: _Prefix = "contentctr",
    max_rooms: Annotated[int, typer.Option(min=1, help="Rooms kept in memory.")] = 4096,
    batch_size: Annotated[int, typer.Option(min=1, help="Segments scored at once.")] = 64,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds after which a silent worker is given up.")
    ] = 10.0,
    forget_after: _Forget = 600.0,
    device: Device = "cpu",
) -> None:
    """Score segments from Redis streams; any number of workers share them."""
    require_extra()
    from redis.exceptions import RedisError

    from contentctr.live.engine import Engine
    from contentctr.live.redis.messages import Keys, connect
    from contentctr.live.redis.worker import Worker
    from contentctr.progress import stop_signals

    engine = Engine.from_checkpoint(
        checkpoint, max_rooms=max_rooms, batch_size=batch_size, device=device_name(device)
    )
    with stop_signals() as caught:
        try:
            stream_worker = Worker(
                connect(redis),
                engine,
                keys=Keys(prefix),
                partitions=partitions,
                lease_s=lease,
                forget_after_s=forget_after,
            )
        except RedisError as error:
            raise InputError(f"--redis {redis}: does not answer ({error})") from None
        stream_worker.run(lambda: caught)


def _redis_backend(
    url: str,
    prefix: str,
    partitions: int | None,
    engine: Engine,
    encoder: LiveEncoder | None,
    queue_size: int,
) -> RedisBackend:
    """Rooms in the Redis at `url`, scored by workers with the engine's model."""
    from redis.exceptions import RedisError

    from contentctr.live.redis.backend import RedisBackend
    from contentctr.live.redis.messages import Keys, connect

    if encoder is not None and engine.spec.comment_lag:
        raise InputError(
            "--encode with --redis: the model reads earlier comments (comment_lag "
            f"{engine.spec.comment_lag}), which services do not share; post features"
        )
    try:
        return RedisBackend(
            connect(url),
            horizon=engine.config.data.horizon,
            keys=Keys(prefix),
            partitions=partitions,
            encoder=encoder,
            queue_size=queue_size,
            max_rooms=engine.scorer.max_rooms,
        )
    except RedisError as error:
        raise InputError(f"--redis {url}: does not answer ({error})") from None


def _api_key(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable text file ({error})") from None
    if not key:
        raise InputError(f"{path}: must hold the API key, and is empty")
    return key


def require_extra() -> None:
    """Raises InputError where the extra `live` is not installed."""
    for name in ("fastapi", "httpx", "uvicorn", "redis", "prometheus_client"):
        require_installed(name, "live")
