"""Floods of their kinds that are known: of fields, of addresses, of bodies that never come."""

import contextlib
import json
import socket
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from contentctr.live.service.addresses import client_of
from contentctr.live.service.connections import BoundedProtocol, ConnectionLimits, Connections
from contentctr.live.service.schemas import RankIn, SegmentIn
from contentctr.live.service.settings import ServiceSettings
from live_service import make_post, running

MANY = {f"k{k}": "x" for k in range(20_000)}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (SegmentIn, MANY),
        (SegmentIn, make_post(counts=MANY)),
        (SegmentIn, make_post(index=9, earlier=[{"index": 1, **MANY}] * 40)),
        (SegmentIn, make_post(index=9, earlier=[{"index": k} for k in range(10_000)])),
        (SegmentIn, make_post(visual=["x"] * 16_000, text=["x"] * 16_000)),
        (RankIn, MANY),
        (RankIn, {"candidates": [MANY]}),
        (RankIn, {"candidates": [{"room_id": "a", "base": MANY}]}),
        (RankIn, {"candidates": [{"room_id": "a", "base": {"k": "x"}}] * 5000}),
        (RankIn, {"candidates": [], "base_weights": MANY}),
    ],
)
def test_many_wrong_fields_are_a_few_errors(model, value):
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    assert caught.value.error_count() < 10


def test_json_of_more_fields_than_a_segment_has_is_not_read():
    texts = {"comments": ['"a", \\' * 60] * 200, "speech": '",' * 10_000}
    with running() as (client, _):
        whole = json.dumps(make_post(**texts, title='\\"')).replace("speech", "title2")
        answer = client.post("/v1/segments", content=whole, headers=JSON)
        assert answer.status_code == 422 and "title2" in answer.json()["detail"]  # was read
        for value in (MANY, [0] * 300_000, {"visual": [[]] * 300_000}):
            answer = client.post("/v1/segments", content=json.dumps(value), headers=JSON)
            assert answer.status_code == 422 and "more fields" in answer.json()["detail"]


def test_bodies_that_nobody_reads_take_no_memory_from_those_that_are():
    settings = ServiceSettings(max_body=10_000, body_memory=20_000)
    with running(settings=settings) as (client, _), contextlib.ExitStack() as stack:
        address = client.base_url.host, client.base_url.port
        for _ in range(4):
            one = stack.enter_context(socket.create_connection(address, timeout=5))
            one.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 200")
        assert client.post("/v1/segments", json=make_post()).status_code == 200


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("x" * 10_000, "x" * 64),
    ],
)
def test_clients_are_addresses_or_networks_of_64_bits(address, client):
    assert client_of(address) == client


def test_addresses_of_one_network_share_its_connections():
    class Silent:
        def __init__(self, address):
            self.address, self.dropped = address, None

        def drop(self, reason):
            self.dropped = reason
            connections.leave(self)

    connections = Connections(ConnectionLimits(total=8, per_address=2, reserve=1))
    mine = [Silent(f"2001:db8::{k}") for k in range(4)]
    for one in mine:
        assert connections.enter(one) == "open"
        connections.wait(one)
    assert [one.dropped for one in mine] == ["crowded", "crowded", None, None]
    assert connections.enter(Silent("2001:db8:0:1::1")) == "open" and len(connections) == 3


def test_a_slow_client_that_reads_on_keeps_its_connection():
    """By hand: what the kernel takes at once is more than a test can wait for."""
    left, due, aborted = [100_000], [], []
    protocol = object.__new__(BoundedProtocol)
    protocol._limits = ConnectionLimits(unread_s=2.0, slowest=1000)
    protocol._places, protocol._timer = Connections(protocol._limits), None
    protocol.loop = SimpleNamespace(
        call_later=lambda s, work, *words: due.append(lambda: work(*words)) or TimerHandle()
    )
    protocol.transport = SimpleNamespace(
        get_write_buffer_size=lambda: left[0], abort=lambda: aborted.append(True)
    )
    protocol.flow = SimpleNamespace(pause_writing=lambda: None)
    protocol._unread = None
    protocol.pause_writing()
    protocol._wait()
    for _ in range(20):
        left[0] -= 2000
        for work in [due.pop(0) for _ in range(len(due))]:  # the reader's time, and the request's
            work()
    assert not aborted and len(due) == 2
    left[0] -= 1999
    for work in list(due):
        work()
    assert aborted


class TimerHandle:
    def cancel(self):
        pass
