"""Segments from Kafka, put into the workers' streams: any number of these in one consumer group.

A record's value is the JSON of a post to `/v1/segments` (features, no pictures), or
`{"room_id": ..., "end": true}`; its key is the room's id, so that a room's records are in one
partition and stay in order. A record counts as read once its segment is in Redis. One that Kafka
gives again, because this process died in between, is not put there again: an end would end the room
that has begun since under its name.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from redis.exceptions import RedisError

from contentctr.errors import InputError
from contentctr.extras import require_installed
from contentctr.files import JsonError, parse_json
from contentctr.live.redis.messages import (
    Fields,
    LogRecord,
    StreamFullError,
    end_fields,
    segment_fields,
)
from contentctr.live.redis.store import RedisStore
from contentctr.live.service.decode import to_segment, to_shown
from contentctr.live.service.schemas import SegmentIn

MAX_VALUE = 4 * 2**20
"""Bytes of a record, as of a post."""
_POLL_S = 0.5
_TOLD_EVERY_S = 10.0
_CLUSTER_S = 1.0
"""A broker before 0.10.1 tells no id of its cluster: its records wait, and the reason is told."""


@dataclass(kw_only=True)
class Counts:
    """What became of records."""

    taken: int = 0
    bad: int = 0
    """None of ours: told, and passed over."""
    repeated: int = 0
    """Put into Redis before: told, and passed over."""


def make_consumer(brokers: str, topic: str, group: str, report: Callable[[str], None]) -> Any:
    """A consumer of the topic.

    Args:
        brokers: HOST:PORT,...
        topic: its name.
        group: of those who share its partitions.
        report: told in a line what the client says of its brokers.

    Raises:
        InputError: the extra `kafka` is not installed, or a word is none.
    """
    require_installed("confluent_kafka", "kafka")
    kafka = importlib.import_module("confluent_kafka")
    try:
        consumer = kafka.Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": group,
                "auto.offset.reset": "earliest",
                # As a worker's lease: what one that has died was reading is another's so soon.
                "session.timeout.ms": 10_000,
                # Only what `store_offsets` was told of is committed, in the background.
                "enable.auto.offset.store": False,
                "auto.commit.interval.ms": 1000,
                "fetch.message.max.bytes": MAX_VALUE,
                "error_cb": lambda error: report(f"Kafka: {error.str()}"),
            }
        )
        consumer.subscribe([topic])
    except (kafka.KafkaException, ValueError) as error:
        raise InputError(f"--kafka {brokers}: {error}") from None
    return consumer


def read_record(value: bytes, now: float) -> tuple[str, Fields]:
    """A record as the room and the fields of a message.

    Args:
        value: the record's.
        now: when a segment ended that does not say it, Unix seconds.

    Raises:
        InputError: it is none; names the field.
    """
    if len(value) > MAX_VALUE:
        raise InputError(f"must have at most {MAX_VALUE} bytes, not {len(value)}")
    try:
        found = parse_json(value)
        ends = isinstance(found, dict) and found.get("end") is True and set(found) <= _END
        post = SegmentIn.model_validate(
            {"room_id": found["room_id"], "index": 0} if ends else found
        )
    except JsonError as error:
        raise InputError(f"must be JSON: {error}") from None
    except (ValidationError, KeyError) as error:
        raise InputError(_first(error)) from None
    if ends:
        return post.room_id, end_fields(post.room_id)
    if post.to_encode:
        raise InputError("frames, speech: must be left out: features are wanted")
    return post.room_id, segment_fields(to_segment(post), to_shown(post, now))


_END = {"room_id", "end"}


def _first(error: ValidationError | KeyError) -> str:
    if isinstance(error, KeyError):
        return "room_id is missing"
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in found["loc"]) or "the record"
    return f"{place[:200]}: {found['msg'][:300]}"


class Ingest:
    """Takes records as they come, and waits where Redis, or a stream, has no room.

    Args:
        consumer: of `make_consumer`.
        store: where they go.
        report: told in a line what it does.
        limits: of a stream (`RedisStore.add`).
        clock: Unix seconds.
    """

    def __init__(
        self,
        consumer: Any,
        store: RedisStore,
        *,
        report: Callable[[str], None],
        limits: dict[str, int] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._consumer, self._store, self._report = consumer, store, report
        self._limits, self._clock = limits or {}, clock
        self.counts = Counts()
        self._no_cluster = importlib.import_module("confluent_kafka").KafkaException
        self._told = -_TOLD_EVERY_S
        """When a record that was read before was told of."""

    def run(self, stopped: Callable[[], object]) -> None:
        """Take records until `stopped()`; what is in hand is finished, and told to Kafka."""
        try:
            while not stopped():
                record = self._poll()
                if record is not None and self._take(record, stopped):
                    self._consumer.store_offsets(record)
        finally:
            self._consumer.close()  # commits what was stored, and leaves the group

    def _poll(self) -> Any:
        """The next record; None where none came, or word of a fault."""
        record = self._consumer.poll(_POLL_S)
        if record is not None and record.error():
            self._report(f"Kafka: {record.error().str()}")
            return None
        return record

    def _take(self, record: Any, stopped: Callable[[], object]) -> bool:
        """Put a record into its stream.

        Returns:
            False where the end came before there was room, or its partition became another's.
        """
        place = f"{record.topic()}, partition {record.partition()}, offset {record.offset()}"
        try:
            room_id, fields = read_record(record.value() or b"", self._clock())
        except InputError as error:
            self.counts.bad += 1
            self._report(f"{place}: passed over: {error}")
            return True
        told = -_TOLD_EVERY_S
        while not stopped():
            try:
                if self._store.add(room_id, fields, self._origin(record), **self._limits):
                    self.counts.taken += 1
                else:
                    self._pass_over(place)
                return True
            except (RedisError, StreamFullError, self._no_cluster) as error:
                if time.monotonic() >= told + _TOLD_EVERY_S:
                    told = time.monotonic()
                    self._report(f"{place}: waits: {error}")
                if not self._wait(record):
                    return False
        return False

    def _origin(self, record: Any) -> LogRecord:
        """Where it comes from; the client knows its cluster since the first word of a broker."""
        cluster = self._consumer.cluster_id(_CLUSTER_S)
        _, moment = record.timestamp()
        return LogRecord(
            # Of two clusters, topics of one name have offsets of their own.
            log=f"{cluster}/{record.topic()}/{record.partition()}",
            offset=record.offset(),
            moment=max(-1, int(moment)),
        )

    def _pass_over(self, place: str) -> None:
        self.counts.repeated += 1
        if time.monotonic() >= self._told + _TOLD_EVERY_S:
            self._told = time.monotonic()
            self._report(
                f"{place}: passed over: it, or a later one, is in Redis already "
                f"({self.counts.repeated} so far)"
            )

    def _wait(self, record: Any) -> bool:
        """Give way for a moment, and stay in the group; whether the record is still ours to take.

        The group may deal its partitions anew meanwhile: whose the record's is then reads it again.
        """
        held = self._consumer.assignment()
        self._consumer.pause(held)
        early = self._poll()
        self._consumer.resume(held)
        for place in self._consumer.assignment():
            if early is not None and _is_of(early, place):
                # Its partition is ours since just now, and was not paused: it is to come again.
                place.offset = early.offset()
                self._consumer.seek(place)
        return any(_is_of(record, place) for place in self._consumer.assignment())


def _is_of(record: Any, place: Any) -> bool:
    return bool((record.topic(), record.partition()) == (place.topic, place.partition))
