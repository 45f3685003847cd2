"""The stream worker, what it put aside, and where Redis is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from contentctr.cli.common import Device, device_name, require_extra
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.files import read_secret
from contentctr.printing import say

if TYPE_CHECKING:
    from contentctr.live.redis.worker import Worker

T = TypeVar("T")
REDIS_VARIABLE = "CONTENTCTR_REDIS"
Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint, or a run's folder.")]
Redis = Annotated[
    str | None,
    typer.Option(
        "--redis",
        help=f"redis://HOST:PORT/DATABASE. With a password rather by --redis-file or "
        f"${REDIS_VARIABLE}: what stands on a command line is read by everybody on the machine.",
    ),
]
RedisFile = Annotated[Path | None, typer.Option("--redis-file", help="Its text is that URL.")]
Partitions = Annotated[
    int | None, typer.Option(min=1, help="Of a new Redis: workers at once. \\[default: 16]")
]
Prefix = Annotated[str, typer.Option(help="Of all keys in Redis.")]
Forget = Annotated[float, typer.Option(min=0.1, help="Seconds of silence that end a room.")]


def worker(
    checkpoint: Checkpoint,
    redis: Redis = None,
    redis_file: RedisFile = None,
    partitions: Partitions = None,
    prefix: Prefix = "contentctr",
    max_rooms: Annotated[int, typer.Option(min=1, help="Rooms kept in memory.")] = 4096,
    batch_size: Annotated[int, typer.Option(min=1, help="Segments scored at once.")] = 64,
    lease: Annotated[
        float,
        typer.Option(min=1, max=3600, help="Seconds after which a silent worker is given up."),
    ] = 10.0,
    forget_after: Forget = 600.0,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Tell /healthz, /readyz and /metrics on this port; 0: a free one.",
        ),
    ] = None,
    health_host: Annotated[str, typer.Option(help="Address for it.")] = "127.0.0.1",
    device: Device = "cpu",
) -> None:
    """Score segments from Redis streams; any number of workers share them.

    It ends by a signal alone (0): what Redis refuses meanwhile is said once, and waited for.
    """
    require_extra()
    from contentctr.live.engine import Engine
    from contentctr.live.redis.health import health_server
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import eviction_warning
    from contentctr.live.redis.worker import Worker
    from contentctr.progress import stop_signals

    client = redis_client(redis_url(redis, redis_file))
    engine = Engine.from_checkpoint(
        checkpoint, max_rooms=max_rooms, batch_size=batch_size, device=device_name(device)
    )

    def make() -> Worker:
        return Worker(
            client,
            engine,
            keys=Keys(prefix),
            partitions=partitions,
            lease_s=lease,
            forget_after_s=forget_after,
            report=say,
        )

    with stop_signals() as caught:
        found = _when_it_can(make, lambda: caught)
        if found is None:
            return
        if (warning := eviction_warning(client)) is not None:
            say(f"warning: {warning}")
        with ExitStack() as stack:
            if health_port is not None:
                server = health_server(found.health, health_host, health_port)
                say(f"health and metrics: {stack.enter_context(server)}")
            found.run(lambda: caught)


def list_rejected(
    redis: Redis = None, redis_file: RedisFile = None, prefix: Prefix = "contentctr"
) -> None:
    """List messages that workers put aside: id, room, segment and reason, a line each."""
    require_extra()
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.rejected import list_rejected as rejected

    client = redis_client(redis_url(redis, redis_file))
    found = answered(lambda: list(rejected(client, Keys(prefix))))
    for one in found:
        say(f"{one.id}  {one.room_id or '-'}  {one.index or '-'}  {one.reason}", result=True)
    say(f"{counted(len(found), 'message')} put aside")


def replay_rejected(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As `rejected list` shows them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    redis: Redis = None,
    redis_file: RedisFile = None,
    prefix: Prefix = "contentctr",
) -> None:
    """Put messages that were put aside back, behind what waits in their rooms' streams."""
    require_extra()
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import StreamFullError
    from contentctr.live.redis.rejected import replay_rejected as replay

    if bool(ids) == every:
        raise InputError("rejected replay: give ids, or --all")
    client = redis_client(redis_url(redis, redis_file))
    try:
        back, unknown = answered(lambda: replay(client, Keys(prefix), ids or None))
    except StreamFullError as error:
        raise InputError(f"{error}; replay the rest later") from None
    say(f"{counted(len(back), 'message')} put back", result=True)
    if unknown:
        raise InputError(f"no message put aside has the id {', '.join(map(repr, unknown))}")


def redis_url(url: str | None, path: Path | None) -> str | None:
    """Where Redis is: by option, by file, by variable; None where none of them says it.

    Raises:
        InputError: both options are given, or the file cannot be read, or the variable is blank.
    """
    if url is not None and path is not None:
        raise InputError("--redis-file: must not be given beside --redis")
    return secret(path, REDIS_VARIABLE, "the URL of Redis") if url is None else url


def secret(path: Path | None, variable: str, what: str) -> str | None:
    """A secret in a file, or else in a variable; None where neither is there.

    Raises:
        InputError: the file cannot be read, or what should hold the secret is blank.
    """
    if path is not None:
        return read_secret(path, what)
    text = os.environ.get(variable)
    if text is not None and not text.strip():
        # Set but blank is a mistake of a script, never the wish to do without.
        raise InputError(f"${variable}: must hold {what}, and is blank")
    return text


def redis_client(url: str | None) -> Any:
    """A client of the Redis at `url`.

    Raises:
        InputError: none is given, or it is no URL of a Redis.
    """
    from contentctr.live.redis.messages import connect

    if url is None:
        raise InputError(f"Redis: needs --redis, --redis-file or ${REDIS_VARIABLE}")
    return connect(url)


def answered(work: Callable[[], T]) -> T:
    """What Redis answers.

    Raises:
        InputError: it does not; the URL, which may hold a password, is not told.
    """
    from redis.exceptions import RedisError

    try:
        return work()
    except RedisError as error:
        raise InputError(f"--redis: does not answer ({error})") from None


def _when_it_can(make: Callable[[], T], stopped: Callable[[], object]) -> T | None:
    """What `make` makes, once Redis lets it; None where the user wants an end before.

    Raises:
        InputError: nobody answers there, or it refuses the name and password.
    """
    from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, TimeoutError

    told = False
    while not stopped():
        try:
            return make()
        except RedisError as error:
            away = isinstance(error, ConnectionError | TimeoutError)
            if away and not isinstance(error, BusyLoadingError):
                raise InputError(f"--redis: does not answer ({error})") from None
            if not told:
                say(f"Redis refuses commands ({error}); trying again")
            told = True
            time.sleep(0.5)
    return None
