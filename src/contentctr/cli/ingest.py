"""Segments from Kafka for the workers on Redis."""

from __future__ import annotations

from typing import Annotated

import typer

from contentctr.cli.common import require_extra
from contentctr.cli.worker import (
    Partitions,
    Prefix,
    Redis,
    RedisFile,
    answered,
    redis_client,
    redis_url,
)
from contentctr.counting import counted
from contentctr.printing import say


def ingest(
    kafka: Annotated[str, typer.Option(metavar="HOST:PORT,...", help="Brokers to begin with.")],
    topic: Annotated[str, typer.Option(help="Whose records are segments.")],
    group: Annotated[
        str, typer.Option(help="Consumer group: any number of these share the topic.")
    ] = "contentctr",
    redis: Redis = None,
    redis_file: RedisFile = None,
    partitions: Partitions = None,
    prefix: Prefix = "contentctr",
    queue_size: Annotated[
        int, typer.Option(min=1, help="Segments of a partition of Redis that wait.")
    ] = 10_000,
) -> None:
    """Put segments of a Kafka topic into Redis, where the workers score them.

    It ends by a signal alone (0): a Redis that is full or away is waited for.
    """
    require_extra()
    from contentctr.live.redis.kafka import Ingest, make_consumer
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import settle_partitions
    from contentctr.live.redis.store import RedisStore
    from contentctr.progress import stop_signals

    client, keys = redis_client(redis_url(redis, redis_file)), Keys(prefix)
    count = answered(lambda: settle_partitions(client, keys, partitions))
    found = Ingest(
        make_consumer(kafka, topic, group, say),
        RedisStore(client, keys, count),
        report=say,
        limits={"max_count": queue_size},
    )
    with stop_signals() as caught:
        found.run(lambda: caught)
    say(
        f"{counted(found.counts.taken, 'record')} put into Redis, {found.counts.bad} passed over, "
        f"{found.counts.repeated} there already",
        result=True,
    )
