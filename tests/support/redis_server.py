"""A Redis server of a test's own: on a free port, with its append-only file in a folder."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time

import pytest
from redis.exceptions import RedisError

from contentctr.live.redis.messages import connect


class RedisServer:
    """Can be killed and started again with what it had."""

    def __init__(self, folder):
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self._folder = f"redis://127.0.0.1:{self.port}/0", folder
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--dir",
                str(self._folder),
            ],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(500):
            with connect(self.url) as client:
                try:
                    client.ping()
                    return
                except RedisError:
                    time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def kill(self):
        self._process.kill()
        self._process.wait()
