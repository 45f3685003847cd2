"""Segments from Kafka: each is scored once, in order, whatever stands between them.

The broker is the one that the client's library has for tests, in this process.
"""

import json
import threading

import numpy as np
import pytest
from redis.exceptions import InvalidResponse

from contentctr.errors import InputError
from contentctr.live.redis.kafka import Ingest, make_consumer, read_record
from contentctr.live.redis.messages import read_message, settle_partitions
from contentctr.live.redis.store import RedisStore
from live_redis import (
    KEYS,
    PARTITIONS,
    curves,
    drain,
    make_worker,
    offline,
    require_same,
    segment,
    wait_for,
)
from live_service import half

kafka = pytest.importorskip("confluent_kafka")


def value(room, index, **fields):
    one = segment(room, index)
    post = {
        "room_id": room,
        "streamer_id": one.streamer_id,
        "index": index,
        "visual": half(one.visual),
        "text": half(one.text),
        "sound": None if one.sound is None else half(one.sound),
        "words": None if one.words is None else half(one.words),
        "has_speech": True,
        "has_comments": bool(one.has_comments),
        "counts": dict(one.counts),
        "ended_at": 1000.0,
    }
    return json.dumps({**post, **fields}).encode()


def test_a_record_brings_counts_of_earlier_segments():
    room_id, fields = read_record(value("r", 4, earlier=[{"index": 2, "viewers": 9}]), 5.0)
    assert (room_id, json.loads(fields["earlier"])) == ("r", {"2": {"viewers": 9}})
    with pytest.raises(InputError, match="before 4, not 4"):
        read_record(value("r", 4, earlier=[{"index": 4}]), 5.0)


@pytest.fixture(scope="module")
def broker():
    """A producer, and the address of its broker, which lives as long."""
    producer = kafka.Producer(
        {"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0}
    )
    [found] = producer.list_topics(timeout=20).brokers.values()
    return producer, f"{found.host}:{found.port}"


class Running:
    """An ingest in a thread."""

    def __init__(self, client, address, topic, **limits):
        self.lines, self._ended = [], []
        store = RedisStore(client, KEYS, settle_partitions(client, KEYS, PARTITIONS))
        consumer = make_consumer(address, topic, topic, self.lines.append)
        self.ingest = Ingest(
            consumer, store, report=self.lines.append, limits=limits, clock=lambda: 5.0
        )
        self._thread = threading.Thread(target=self.ingest.run, args=(lambda: self._ended,))

    def __enter__(self):
        self._thread.start()
        return self.ingest.counts

    def __exit__(self, *_):
        self._ended.append(1)
        self._thread.join(20)
        assert not self._thread.is_alive()


def send(broker, topic, room, *values):
    for one in values:
        broker[0].produce(topic, key=room, value=one)
    assert broker[0].flush(20) == 0


@pytest.mark.slow  # the broker waits for a session's end before it gives partitions anew
def test_segments_are_scored_once_though_the_way_breaks_off(client, broker):
    rooms = {f"room{k}": range(12) for k in range(5)}
    for room in rooms:
        send(broker, "whole", room, *(value(room, index) for index in range(6)))
    with Running(client, broker[1], "whole") as counts:
        wait_for(lambda: counts.taken == 30)
    for room in rooms:
        # The last of before once more, as after a death between Redis and the commit.
        send(broker, "whole", room, *(value(room, index) for index in range(5, 12)))
    with Running(client, broker[1], "whole") as counts:
        wait_for(lambda: counts.taken == 35)
    assert counts.bad == 0
    drain(make_worker(client))
    require_same(curves(client, rooms), offline(rooms))


def test_what_is_no_segment_is_told_and_passed_over(client, broker):
    bad = [b"{", b"[]", b'{"room_id": "x"}', value("x", 0, frames=["a"]), value("a b", 0)]
    bad += [value("x", 0, visual="!!!!"), b'{"end": true}', b'{"end": true, "room_id": 3}']
    send(broker, "bad", "x", *bad, value("x", 0))
    running = Running(client, broker[1], "bad")
    with running as counts:
        wait_for(lambda: counts.taken == 1)
    assert counts.bad == len(bad)
    told = [line for line in running.lines if "passed over" in line]
    assert len(told) == len(bad) and all("offset" in line for line in told)
    assert "frames, speech: must be left out" in told[3]
    drain(make_worker(client))
    require_same(curves(client, ["x"]), offline({"x": [0]}))


def test_a_room_ends_by_a_record(client, broker):
    send(broker, "end", "x", value("x", 0), b'{"room_id": "x", "end": true}', value("x", 0))
    with Running(client, broker[1], "end") as counts:
        wait_for(lambda: counts.taken == 3)
    drain(make_worker(client))
    kinds = [fields[b"kind"] for _, fields in client.xrange(KEYS.events)]
    assert [kind for kind in kinds if kind != b"model"] == [b"score", b"end", b"score"]


class Again:
    """A consumer that gives records one after another, as after a death between Redis and Kafka."""

    def __init__(self, *records, cluster="one"):
        self._records, self.stored = list(records), []
        self.close = lambda: None
        self.cluster_id = lambda seconds: cluster

    def is_read(self):
        return len(self.stored) == len(self._records)

    def poll(self, seconds):
        return self._records[len(self.stored)]

    def store_offsets(self, record):
        self.stored.append(record.offset())


def told_of(client, *records, cluster="one"):
    """What an ingest says of records, and its counts."""
    store = RedisStore(client, KEYS, settle_partitions(client, KEYS, PARTITIONS))
    consumer, lines = Again(*records, cluster=cluster), []
    ingest = Ingest(consumer, store, report=lines.append, clock=lambda: 5.0)
    ingest.run(consumer.is_read)
    return lines, ingest.counts


def test_an_end_that_is_read_again_does_not_end_the_room_begun_since(client):
    records = [Record(0, "x", k) for k in range(5)]
    records[2].value = lambda: b'{"room_id": "x", "end": true}'
    records[3].value, records[4].value = lambda: value("x", 0), lambda: value("x", 1)
    lines, counts = told_of(client, *records)
    assert (lines, counts.taken) == ([], 5)
    drain(make_worker(client))
    lines, counts = told_of(client, *records[1:])
    assert (counts.taken, counts.repeated) == (0, 4)
    assert lines == [
        "t, partition 0, offset 1: passed over: it, or a later one, is in Redis already (1 so far)"
    ]
    drain(make_worker(client))
    kinds = [fields[b"kind"] for _, fields in client.xrange(KEYS.events)]
    assert [kind for kind in kinds if kind != b"model"] == [*[b"score"] * 2, b"end"] + [
        b"score"
    ] * 2
    require_same(curves(client, ["x"]), offline({"x": range(2)}))
    # Another partition, and a topic that was made anew, have offsets of their own.
    anew = [Record(0, "y", k) for k in (0, 1)]
    for k, record in enumerate(anew):
        record.timestamp = lambda k=k: (1, 9000 - k)
    _, counts = told_of(client, Record(1, "z", 0), *anew)
    assert (counts.taken, counts.repeated) == (2 + 1, 0)
    _, counts = told_of(client, *anew)
    assert (counts.taken, counts.repeated) == (0, 2)


def test_clusters_with_topics_of_one_name_feed_one_redis(client):
    rooms = {"x": "one", "y": "two"}
    for room, cluster in rooms.items():
        lines, counts = told_of(client, *(Record(0, room, k) for k in range(3)), cluster=cluster)
        assert (lines, counts.taken, counts.repeated) == ([], 3, 0)
    drain(make_worker(client))
    known = {room: range(3) for room in rooms}
    require_same(curves(client, known), offline(known))


def test_records_of_a_broker_without_an_id_wait_and_it_is_told(client):
    consumer, lines, asked = Dealt([0], [0], Record(0, "x")), [], []

    def cluster_id(seconds):
        asked.append(seconds)
        if len(asked) < 3:
            raise kafka.KafkaException(kafka.KafkaError(kafka.KafkaError._TIMED_OUT, "no id"))
        return "one"

    consumer.cluster_id = cluster_id
    store = RedisStore(client, KEYS, settle_partitions(client, KEYS, PARTITIONS))
    Ingest(consumer, store, report=lines.append).run(lambda: consumer.stored)
    assert (
        consumer.stored == [0] and len(lines) == 1 and "waits" in lines[0] and "no id" in lines[0]
    )


def test_partitions_that_move_twice_within_one_record_are_followed(client, monkeypatch):
    counts = [PARTITIONS + 1, PARTITIONS + 2]
    store = RedisStore(client, KEYS, settle_partitions(client, KEYS, PARTITIONS))
    adding = store._adding

    def moving(**words):
        if counts:
            client.set(KEYS.partitions, counts.pop(0))
        return adding(**words)

    monkeypatch.setattr(store, "_adding", moving)
    consumer = Again(Record(0, "x"))
    Ingest(consumer, store, report=print).run(consumer.is_read)
    assert consumer.stored == [0] and store.partitions == PARTITIONS + 2
    # And one that moves for ever is an error of Redis, for which everybody waits.
    monkeypatch.setattr(store, "_adding", lambda **_: (b"moved", b"%d" % (store.partitions + 1)))
    with pytest.raises(InvalidResponse, match="changed 10 times"):
        store.end("x")


def test_a_stream_without_room_is_waited_for(client, broker):
    send(broker, "full", "x", *(value("x", index) for index in range(6)))
    running = Running(client, broker[1], "full", max_count=2)
    with running as counts:
        wait_for(lambda: any("waits" in line for line in running.lines))
        assert counts.taken == 2
        worker = make_worker(client)

        def all_taken():
            drain(worker)
            return counts.taken == 6

        wait_for(all_taken)
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": range(6)}))


class Record:
    """A record as the client gives it."""

    def __init__(self, partition, room, offset=0):
        self.partition, self.offset, self.topic = lambda: partition, lambda: offset, lambda: "t"
        self.value, self.error = lambda: value(room, offset), lambda: None
        self.timestamp = lambda: (1, 1000 + offset)


class Dealt:
    """A consumer whose partitions are dealt anew at its second poll."""

    def __init__(self, before, after, *records):
        self._after, self._records, self.polls = after, list(records), 0
        self._ours, self.stored, self.sought = before, [], []
        self.pause = self.resume = lambda places: None
        self.close, self.cluster_id = lambda: None, lambda seconds: "one"

    def assignment(self):
        return [kafka.TopicPartition("t", partition) for partition in self._ours]

    def poll(self, seconds):
        self.polls += 1
        if self.polls == 2:
            self._ours = self._after
        return self._records.pop(0) if self._records else None

    def seek(self, place):
        self.sought.append((place.partition, place.offset))

    def store_offsets(self, record):
        assert record.partition() in self._ours  # the client raises
        self.stored.append(record.partition())


@pytest.mark.parametrize(("after", "stored"), [([1], []), ([0, 1], [0])])
def test_partitions_that_are_dealt_anew_in_a_wait_lose_nothing(client, after, stored):
    store = RedisStore(client, KEYS, settle_partitions(client, KEYS, PARTITIONS))
    store.add("x", read_record(value("x", 0), 5.0)[1])
    consumer = Dealt([0], after, Record(0, "x", 1), Record(1, "y", 7))
    lines = []

    def stopped():
        if consumer.polls == 2:
            drain(worker)
        return consumer.polls == 4

    worker = make_worker(client)
    limits = {"max_count": 1}
    Ingest(consumer, store, report=lines.append, limits=limits, clock=lambda: 5.0).run(stopped)
    # The one that came while the other had no room comes again, and no word of the other's is kept.
    assert consumer.sought == [(1, 7)] and consumer.stored == stored
    assert len(lines) == 1 and "waits" in lines[0]
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": range(1 + len(stored))}))


def test_a_record_is_what_a_post_is():
    room, fields = read_record(value("x", 3), 7.0)
    raw = {k.encode(): v if isinstance(v, bytes) else str(v).encode() for k, v in fields.items()}
    message = read_message(b"1-0", raw)
    assert room == message.room_id == "x" and message.shown.ended_at == 1000.0
    np.testing.assert_array_equal(message.segment.visual, segment("x", 3).visual)
    with pytest.raises(InputError, match="at most 4194304 bytes"):
        read_record(b" " * (4 * 2**20 + 1), 0.0)
