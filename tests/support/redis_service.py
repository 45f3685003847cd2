"""A service and a worker over a Redis, in this process, that tests share."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import httpx

from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.messages import connect
from contentctr.live.redis.worker import Worker
from contentctr.live.service.app import create_app
from contentctr.live.service.server import make_server, serving
from live_service import make_engine


@contextmanager
def working(url):
    """A worker, in a thread."""
    ended = []
    worker = Worker(connect(url), make_engine(max_rooms=64), partitions=2, poll_s=0.02)
    thread = threading.Thread(target=worker.run, args=(lambda: ended,))
    thread.start()
    try:
        yield worker
    finally:
        ended.append(1)
        thread.join()


@contextmanager
def over_redis(url, settings=None, **options):
    """A service: (client, backend)."""
    engine = make_engine(max_rooms=64)
    backend = RedisBackend(connect(url), horizon=0, partitions=2, **options)
    app = create_app(backend, engine, settings)
    with httpx.Client() as client, serving(make_server(app, backend, port=0)) as base:
        client.base_url = base
        yield client, backend
