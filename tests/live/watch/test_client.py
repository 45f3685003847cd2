"""The HTTP client: what it sends, when it tries again, and what it says in the end."""

import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.live.watch.client import Client, base64_of
from live_service import half


@contextmanager
def answering(*answers):
    """A server that gives one answer after the other: (status, body, headers)."""
    left, requests = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            requests.append((self.path, self.headers["X-API-Key"], self.rfile.read(length)))
            status, body, *headers = left.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in dict(*headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_DELETE = do_POST

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        with closing(Client(f"http://127.0.0.1:{server.server_port}", api_key="secret")) as client:
            try:
                yield client, requests
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr("contentctr.live.watch.client.FIRST_WAIT_S", 0.01)


def test_a_busy_service_is_tried_again_and_a_refusal_is_told(fast):
    busy = (503, b'{"detail": "512 segments wait"}')
    taken, refused = (200, b'{"score": 0.5}'), (422, b'{"detail": "index: no"}')
    with answering(busy, (429, b""), taken, refused) as (client, requests):
        lines = []
        assert client.post("/v1/segments", {"index": 1}, report=lines.append) == {"score": 0.5}
        assert requests == [("/v1/segments", "secret", b'{"index":1}')] * 3
        assert lines == [
            f"{client.url}: 503: 512 segments wait; trying again",
            f"{client.url}: takes segments again",
        ]
        with pytest.raises(InputError, match=f"{client.url}/v1/segments: 422: index: no"):
            client.post("/v1/segments", {"index": 1})


def test_tries_are_counted(fast):
    with answering(*[(503, b'{"detail": "busy"}')] * 3) as (client, requests):
        with pytest.raises(InputError, match="/v1/segments: 503: busy, at 3 tries"):
            client.post("/v1/segments", {}, tries=3)
        assert len(requests) == 3


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"), [("1", 1.0, 5.0), ("Wed, 21 Oct 2065 07:28:00 GMT", 0.0, 0.9)]
)
def test_the_service_says_when_to_come_again(fast, header, least_s, most_s):
    with answering((429, b"", {"Retry-After": header}), (200, b"{}")) as (client, _):
        start = time.monotonic()
        assert client.post("/v1/segments", {}) == {}
        assert least_s <= time.monotonic() - start < most_s


def test_a_caller_that_stops_is_not_kept_waiting():
    with answering((503, b"", {"Retry-After": "60"})) as (client, requests):
        assert client.post("/v1/segments", {}, stopped=lambda: bool(requests)) is None
        assert len(requests) == 1


def test_waits_grow_to_a_limit(monkeypatch):
    waits = []
    monkeypatch.setattr("contentctr.live.watch.client._sleep", lambda s, stopped: waits.append(s))
    with closing(Client("http://127.0.0.1:9")) as client:
        with pytest.raises(InputError, match=r"cannot be reached \(.*\), at 7 tries"):
            client.post("/v1/segments", {}, tries=7)
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_answers_of_something_else_are_refused():
    with answering((200, b"<html>"), (302, b"", {"Location": "/x"}), (404, b"{}")) as (client, _):
        with pytest.raises(InputError, match="/v1/info: must answer a JSON object"):
            client.get("/v1/info")
        with pytest.raises(InputError, match="/v1/info: answered 302"):
            client.get("/v1/info")
        client.delete("/v1/rooms/x")  # it has none: as good as deleted


def test_a_service_behind_a_prefix(fast):
    with answering((200, b"{}"), (200, b"{}")) as (client, requests):
        for url in (f"{client.url}/prefix", f"{client.url}/prefix/"):
            with closing(Client(url)) as inner:
                assert inner.get("/v1/info") == {}
    assert [path for path, _, _ in requests] == ["/prefix/v1/info"] * 2


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost:8000", "ftp://host", "http://", "x"])
def test_a_url_is_checked(url):
    with pytest.raises(InputError, match=r"url must be like http://127.0.0.1:8000"):
        Client(url)


def test_a_service_that_is_not_there_is_named():
    with closing(Client("http://127.0.0.1:9")) as client:
        with pytest.raises(InputError, match="127.0.0.1:9/v1/info: the service cannot be reached"):
            client.get("/v1/info")
        client.delete("/v1/rooms/x")


def test_a_proxy_of_the_environment_is_not_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with answering((200, b"{}")) as (client, _):
        assert client.get("/v1/info") == {}


def test_a_feature_is_posted_as_float16():
    values = np.array([0.5, -1.25, 3.0], np.float32)
    assert base64_of(values) == half(values) and base64_of(None) is None


@pytest.mark.parametrize("body", [b"[]", b"7", b"[" * 100_000, b"9" * 5000, b"\xff"])
def test_answers_that_are_no_object_are_refused(body):
    with answering((200, body), (400, body)) as (client, _):
        with pytest.raises(InputError, match="must answer a JSON object"):
            client.get("/v1/info")
        with pytest.raises(InputError, match="answered 400"):
            client.get("/v1/info")
