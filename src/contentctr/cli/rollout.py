"""Another model in place of the one that workers score with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contentctr.cli.common import require_extra
from contentctr.cli.worker import Prefix, Redis, RedisFile, answered, redis_client, redis_url
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.printing import say

if TYPE_CHECKING:
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.rollout import Rollout
    from contentctr.live.redis.store import RedisStore

Force = Annotated[bool, typer.Option("--force", help="Also where the candidate is not ready.")]


def status(
    redis: Redis = None, redis_file: RedisFile = None, prefix: Prefix = "contentctr"
) -> None:
    """Show the model that is served, the candidate, and how far they agree."""
    from contentctr.live.redis.rollout import look

    client, keys, store = _installation(redis, redis_file, prefix)
    for line in _lines(answered(lambda: look(client, keys, store))):
        say(line, result=True)


def promote(
    redis: Redis = None,
    redis_file: RedisFile = None,
    prefix: Prefix = "contentctr",
    force: Force = False,
) -> None:
    """Serve the candidate's scores from now on; the model before goes on in the shadow."""
    from contentctr.live.redis.rollout import promote as promoted

    client, keys, store = _installation(redis, redis_file, prefix)
    found = answered(lambda: promoted(client, keys, store, force=force))
    say(f"{found.candidate} is current; {found.current} is the candidate now", result=True)


def back(
    redis: Redis = None,
    redis_file: RedisFile = None,
    prefix: Prefix = "contentctr",
    force: Force = False,
) -> None:
    """Serve the scores of the model again that was current before."""
    from contentctr.live.redis.rollout import go_back

    client, keys, store = _installation(redis, redis_file, prefix)
    found = answered(lambda: go_back(client, keys, store, force=force))
    say(f"{found.candidate} is current again; {found.current} is the candidate now", result=True)


def drop(redis: Redis = None, redis_file: RedisFile = None, prefix: Prefix = "contentctr") -> None:
    """End the candidate: what it has made is deleted, and its workers stand by."""
    from contentctr.live.redis.models import Models

    client, keys, _ = _installation(redis, redis_file, prefix)
    models = Models(client, keys)
    candidate = answered(models.places).candidate
    if not candidate:
        raise InputError("rollout: there is no candidate")
    answered(lambda: models.drop(candidate))
    say(f"{candidate} is dropped", result=True)


def _installation(redis: str | None, redis_file: Any, prefix: str) -> tuple[Any, Keys, RedisStore]:
    """Client, names of keys and store of the rooms in the Redis that is meant."""
    require_extra()
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import partition_count
    from contentctr.live.redis.store import RedisStore

    client, keys = redis_client(redis_url(redis, redis_file)), Keys(prefix)
    partitions = answered(lambda: client.get(keys.partitions))
    if partitions is None:
        raise InputError(f"--redis: no worker has used it yet (no key {keys.partitions!r})")
    count = answered(lambda: partition_count(partitions))
    return client, keys, RedisStore(client, keys, count)


def _lines(found: Rollout) -> list[str]:
    """What a person wants to know."""
    rooms = counted(found.rooms, "room")
    current = f"{counted(found.workers, 'worker')}, {rooms}" if found.current else "no worker yet"
    lines = [f"current    {found.current or '-'}  {current}"]
    if found.candidate:
        when = datetime.fromtimestamp(found.since or 0, UTC)
        about = (
            f"since {when:%Y-%m-%d %H:%M:%S} UTC",
            counted(found.candidate_workers, "worker"),
            f"{counted(found.candidate_rooms, 'room')} ({found.without} without its score)",
            f"{counted(found.behind, 'segment')} behind ({found.behind_s:.1f} s)",
            f"{found.missed} missed",
        )
        lines.append(f"candidate  {found.candidate}  {', '.join(about)}")
        lines.append(f"agreement  {_agreement(found)}")
    else:
        lines.append("candidate  -")
    return [*lines, f"previous   {found.previous or '-'}"]


def _agreement(found: Rollout) -> str:
    both = found.agreement
    if both.mean is None or both.largest is None:
        return "no segment has two scores yet"
    tau = "not defined" if both.tau is None else f"{both.tau:.3f}"
    return (
        f"tau {tau}, difference {both.mean:.4f} on average and {both.largest:.4f} at most, over "
        f"{counted(both.segments, 'segment')} of {counted(both.rooms, 'room')}"
    )
