"""Live rooms: the service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contentctr.cli.common import Device, device_name, print_warnings, require_extra
from contentctr.cli.common import Engine as InferenceEngine
from contentctr.cli.worker import (
    Checkpoint,
    Forget,
    Partitions,
    Prefix,
    Redis,
    RedisFile,
    answered,
    redis_client,
    redis_url,
)
from contentctr.errors import InputError
from contentctr.files import read_secret
from contentctr.printing import say

if TYPE_CHECKING:
    from contentctr.live.encoding import LiveEncoder
    from contentctr.live.engine import Engine
    from contentctr.live.redis.backend import RedisBackend

KEY_VARIABLE = "CONTENTCTR_API_KEY"


def serve(
    checkpoint: Checkpoint,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    encode: Annotated[
        bool, typer.Option("--encode", help="Take frames and texts too, and encode them.")
    ] = False,
    redis: Redis = None,
    redis_file: RedisFile = None,
    partitions: Partitions = None,
    prefix: Prefix = "contentctr",
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
    forget_after: Forget = 600.0,
    device: Device = "cpu",
    engine: InferenceEngine = "auto",
) -> None:
    """Serve live scores over HTTP: segments in, scores, ranking and events out; a page at /.

    With a Redis, rooms are there and workers score them; without one, all is done here.
    """
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
    url = redis_url(redis, redis_file)
    if url is None:
        backend = LocalBackend(
            scorer,
            encoder=encoder,
            queue_size=queue_size or (64 if encode else 512),
            wait_s=wait_ms / 1000,
            forget_after_s=forget_after,
        )
    else:
        backend = _redis_backend(url, prefix, partitions, scorer, encoder, queue_size or 10_000)
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
        report=lambda url: say(f"serving {found.folder} on {url}", result=True),
    ).run()


def _redis_backend(
    url: str,
    prefix: str,
    partitions: int | None,
    engine: Engine,
    encoder: LiveEncoder | None,
    queue_size: int,
) -> RedisBackend:
    """Rooms in the Redis at `url`, scored by workers with the engine's model."""
    from contentctr.live.redis.backend import RedisBackend
    from contentctr.live.redis.messages import Keys

    if encoder is not None and engine.spec.comment_lag:
        raise InputError(
            "--encode with --redis: the model reads earlier comments (comment_lag "
            f"{engine.spec.comment_lag}), which services do not share; post features"
        )
    client = redis_client(url)
    return answered(
        lambda: RedisBackend(
            client,
            horizon=engine.config.data.horizon,
            keys=Keys(prefix),
            partitions=partitions,
            encoder=encoder,
            queue_size=queue_size,
            max_rooms=engine.scorer.max_rooms,
        )
    )


def _api_key(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(KEY_VARIABLE) or None
    return read_secret(path, "the API key")
