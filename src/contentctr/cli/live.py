"""Live rooms: the service and the stream worker."""

from __future__ import annotations

import ipaddress
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
    secret,
)
from contentctr.errors import InputError
from contentctr.printing import say

if TYPE_CHECKING:
    from contentctr.live.encoding import LiveEncoder
    from contentctr.live.engine import Engine
    from contentctr.live.redis.backend import RedisBackend
    from contentctr.live.service.settings import ServiceSettings
    from contentctr.score.checkpoint import Checkpoint as Loaded

KEY_VARIABLE = "CONTENTCTR_API_KEY"


def serve(
    checkpoint: Checkpoint,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    encode: Annotated[
        bool, typer.Option("--encode", help="Take frames and texts too, and encode them.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(help="Keep the rooms in this folder, to go on after any end.")
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="Folder of runs that POST /v1/models may name.")
    ] = None,
    candidate: Annotated[
        Path | None,
        typer.Option(help="Run of a model that scores beside it, and is only compared."),
    ] = None,
    redis: Redis = None,
    redis_file: RedisFile = None,
    partitions: Partitions = None,
    prefix: Prefix = "contentctr",
    api_key_file: Annotated[
        Path | None, typer.Option(help=f"Its text is the API key. \\[default: ${KEY_VARIABLE}]")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="Keys with roles: lines ROLE NAME KEY; may change.")
    ] = None,
    rooms_per_key: Annotated[
        int | None, typer.Option(min=1, help="Rooms of a key of --keys. \\[default: a quarter]")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let other machines in without any key.")
    ] = False,
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(help="Address whose X-Forwarded-For is believed.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Names in the header Host. \\[default: any]")
    ] = None,
    max_rooms: Annotated[int, typer.Option(min=1, help="Live rooms at once.")] = 4096,
    batch_size: Annotated[int, typer.Option(min=1, help="Segments scored at once.")] = 64,
    wait_ms: Annotated[float, typer.Option(min=0, help="A batch waits so long for more.")] = 2.0,
    queue_size: Annotated[
        int | None, typer.Option(min=1, help="Segments that wait. \\[default: 512; 64 to encode]")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="Requests/s of one address; 0: any.")] = 1000.0,
    max_body: Annotated[int, typer.Option(min=1000, help="Bytes of a body.")] = 4 * 2**20,
    max_connections: Annotated[int, typer.Option(min=2, help="Connections at once.")] = 2000,
    max_listeners: Annotated[int, typer.Option(min=1, help="Open event streams.")] = 256,
    access_log: Annotated[
        float, typer.Option(min=0, max=1, help="Share of requests logged, as JSON, to stderr.")
    ] = 0.0,
    forget_after: Forget = 600.0,
    device: Device = "cpu",
    engine: InferenceEngine = "auto",
) -> None:
    """Serve live scores over HTTP: segments in, scores, ranking and events out; a page at /."""
    require_extra()
    from contentctr.live.clocks import SteadyClock
    from contentctr.live.engine import Engine
    from contentctr.live.service.app import create_app
    from contentctr.live.service.backend import Backend, LocalBackend
    from contentctr.live.service.connections import ConnectionLimits
    from contentctr.live.service.keeping import Keeper
    from contentctr.live.service.models import load_served
    from contentctr.live.service.server import make_server
    from contentctr.live.service.settings import ServiceSettings
    from contentctr.score.checkpoint import load_for

    settings = ServiceSettings(
        api_key=api_key(api_key_file),
        keys_file=keys,
        rooms_per_key=rooms_per_key or max(1, max_rooms // 4),
        allowed_hosts=tuple(allowed_host or ()),
        rate=rate,
        burst=max(1.0, 2 * rate),
        max_body=max_body,
        max_encoding=min(queue_size or 64, 1000),
        max_listeners=max_listeners,
        access_log=access_log,
    )
    _require_key(host, settings, insecure)
    url = redis_url(redis, redis_file)
    _require_embedded(url, state, models, candidate)
    place = device_name(device)
    found = load_for(checkpoint, "rooms")

    def load(given: Loaded | Path) -> Engine:
        return Engine.from_checkpoint(
            given, max_rooms=max_rooms, batch_size=batch_size, device=place
        )

    def named(name: str) -> Engine:
        return load(model_path(name, checkpoint, models))

    # With Redis it only checks segments and describes the model.
    scorer = load(found)
    encoder, notes = None, list[str]()
    if encode:
        from contentctr.live.encoding import LiveEncoder

        encoder = LiveEncoder.from_checkpoint(found, place, engine=engine, notes=notes)
    print_warnings(notes)
    backend: Backend
    clock: SteadyClock | None = None
    reload = None
    if url is None:
        kept = None if state is None else Keeper(state, forget_after_s=forget_after, report=say)
        if kept is not None:
            scorer = load_served(kept, scorer, named, say)
        backend = LocalBackend(
            scorer,
            encoder=encoder,
            queue_size=queue_size or (64 if encode else 512),
            wait_s=wait_ms / 1000,
            forget_after_s=forget_after,
            keeper=kept,
            report=say,
        )
        backend.models.load = named
        backend.models.open_to_all = models is not None
        if candidate is not None:
            load_for(candidate, "rooms")  # a wrong one is told at once
            backend.models.first_candidate = lambda: load(candidate)
        reload = backend.models.reload
    else:
        queue = queue_size or 10_000
        shared = _redis_backend(url, prefix, partitions, scorer, encoder, queue, forget_after)
        backend, clock = shared, shared.clock
    make_server(
        create_app(backend, scorer, settings, encoder=encoder, clock=clock),
        backend,
        host=host,
        port=port,
        limits=ConnectionLimits(total=max_connections),
        trusted_proxies=trusted_proxy or (),
        report=lambda url: say(f"serving {found.folder} on {url}", result=True),
        reload=reload,
    ).run()


def _require_embedded(
    url: str | None, state: Path | None, models: Path | None, candidate: Path | None
) -> None:
    """Stop where what is kept, and which model scores, is another's to say."""
    for name, value in (("--state", state), ("--models", models), ("--candidate", candidate)):
        if url is not None and value is not None:
            raise InputError(f"{name}: must not be given with Redis, where workers score")
    if models is not None and not models.is_dir():
        raise InputError(f"--models {models}: must be a folder of runs")


def model_path(name: str, first: Path, folder: Path | None) -> Path:
    """Where the model of a name lies.

    Args:
        name: of a run or checkpoint in the folder; "": the one given at the start.
        first: that one.
        folder: of --models.

    Raises:
        InputError: there is no such model.
    """
    if not name:
        return first
    if folder is None:
        raise InputError(f"model {name!r}: this service has no folder of models (--models)")
    path = folder / name
    if Path(name).name != name or name.startswith(".") or not path.is_dir():
        raise InputError(f"model {name!r}: there is no such run in the folder of models")
    return path


def _redis_backend(
    url: str,
    prefix: str,
    partitions: int | None,
    engine: Engine,
    encoder: LiveEncoder | None,
    queue_size: int,
    forget_after_s: float,
) -> RedisBackend:
    """Rooms in the Redis at `url`, scored by workers with the engine's model."""
    from contentctr.live.redis.backend import RedisBackend
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import eviction_warning
    from contentctr.live.redis.models import Models, require_fits

    if encoder is not None and engine.spec.comment_lag:
        raise InputError(
            "--encode with --redis: the model reads earlier comments (comment_lag "
            f"{engine.spec.comment_lag}), which services do not share; post features"
        )
    client, keys = redis_client(url), Keys(prefix)
    models = Models(client, keys)
    current = answered(lambda: models.about(models.places().current))
    require_fits(engine, current, f"model {engine.model_id}")
    if (warning := eviction_warning(client)) is not None:
        print_warnings([warning])
    return answered(
        lambda: RedisBackend(
            client,
            horizon=engine.config.data.horizon,
            segment_seconds=engine.spec.segment_seconds,
            keys=keys,
            partitions=partitions,
            encoder=encoder,
            queue_size=queue_size,
            max_rooms=engine.scorer.max_rooms,
            forget_after_s=forget_after_s,
        )
    )


def api_key(path: Path | None) -> str | None:
    """The key in a file, or else in $CONTENTCTR_API_KEY; None where there is none.

    Raises:
        InputError: the file cannot be read, or what should be a key is blank or cannot be one.
    """
    from contentctr.live.service.keys import require_key

    text = secret(path, KEY_VARIABLE, "the API key")
    return (
        None
        if text is None
        else require_key(text, f"${KEY_VARIABLE}" if path is None else str(path))
    )


def _require_key(host: str, settings: ServiceSettings, insecure: bool) -> None:
    """Stop before other machines could do anything that they like."""
    if insecure or settings.api_key is not None or settings.keys_file is not None:
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise InputError(
            f"--host {host}: other machines could do anything without a key: give --keys or "
            f"--api-key-file (or ${KEY_VARIABLE}), or --insecure if that is wanted"
        )
