"""A real Redis for each file of tests, empty at the start of each test."""

import pytest

from contentctr.live.redis.messages import connect
from redis_server import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = RedisServer(tmp_path_factory.mktemp("redis"))
    yield found
    found.kill()


@pytest.fixture
def client(server):
    with connect(server.url) as found:
        found.flushall()
        yield found
