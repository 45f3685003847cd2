"""Connections: silent ones keep nobody out, and a full service still says that it lives."""

import contextlib
import logging
import resource
import socket
import time

import httpx
import pytest

from contentctr.errors import InputError
from contentctr.live.service.connections import ConnectionLimits
from contentctr.live.service.logs import Repeats
from live_server import serving_process
from live_service import make_post, running

SLOW = b"POST /v1/segments HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"


@contextlib.contextmanager
def sockets(url, count, source="127.0.0.1", first=b""):
    """Open connections that say `first`, and nothing more."""
    address = url.host, url.port
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = socket.create_connection(address, timeout=10, source_address=(source, 0))
            found.append(stack.enter_context(one))
            if first:
                one.sendall(first)
        yield found


def is_closed(one, within):
    """Whether the other side closes it; what it says before is passed over."""
    one.settimeout(within)
    try:
        while one.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.slow
def test_two_thousand_silent_connections_keep_nobody_out(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2500:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
    with serving_process(tmp_path / "log") as (_, url), sockets(httpx.URL(url), 2005):
        for path in ("/healthz", "/readyz", "/v1/rooms"):
            assert httpx.get(url + path, timeout=5).status_code == 200, path
    assert (tmp_path / "log").stat().st_size < 10_000


@pytest.mark.slow
def test_with_few_descriptors_more_connections_neither_hang_it_nor_fill_its_log(tmp_path):
    with serving_process(tmp_path / "log", descriptors=1024) as (_, url):
        with sockets(httpx.URL(url), 1100):
            for _ in range(10):
                assert httpx.get(url + "/healthz", timeout=2).status_code == 200
                time.sleep(0.2)
            answer = httpx.post(url + "/v1/segments", json=make_post(), timeout=5)
            assert answer.status_code == 200
    assert (tmp_path / "log").stat().st_size < 10_000


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_a_head_that_does_not_come_in_time_ends_its_connection(first):
    limits = ConnectionLimits(request_s=0.4)
    with running(server={"limits": limits}) as (client, backend):
        with sockets(client.base_url, 1, first=first) as (one,):
            with contextlib.suppress(ConnectionError):
                for piece in (b"GET / HTTP/1.1\r\nx: ", *[b"y"] * 30):  # a byte now and then
                    one.sendall(piece)
                    time.sleep(0.05)
            assert is_closed(one, 0.2)
        assert 'contentctr_closed_connections_total{reason="idle"} 1.0' in metrics(client)
        assert client.get("/healthz").status_code == 200


def is_answered(one):
    """Whether it says, to the end, that the service is well."""
    found = b""
    while not found.endswith(b"}") and (piece := one.recv(65536)):
        found += piece
    return found.startswith(b"HTTP/1.1 200")


def test_what_came_while_the_service_stood_still_is_answered():
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    with running(server={"limits": ConnectionLimits(request_s=0.9)}) as (client, backend):
        loop = backend._batcher._batches._task.get_loop()
        with sockets(client.base_url, 1, first=request) as (one,):
            assert is_answered(one)

            def stand_still():  # as a stopped process: all times are up, and nothing was read
                time.sleep(1.2)
                loop.call_soon(one.sendall, request)

            loop.call_soon_threadsafe(stand_still)
            assert is_answered(one)


def metrics(client):
    return client.get("/metrics").text


def test_a_request_that_takes_longer_than_its_head_may_is_answered():
    with running(server={"limits": ConnectionLimits(request_s=0.2)}) as (client, _):
        with client.stream("GET", "/v1/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            time.sleep(0.5)
            client.post("/v1/segments", json=make_post())
            assert any(line.startswith("data: ") for line, _ in zip(lines, range(9), strict=False))


def test_one_address_has_a_part_of_the_connections_and_probes_are_answered():
    limits = ConnectionLimits(total=6, per_address=4, reserve=2)
    with running(server={"limits": limits}) as (client, _):
        url = client.base_url
        with sockets(url, 4, source="127.0.0.2", first=SLOW):
            time.sleep(0.1)
            other = httpx.HTTPTransport(local_address="127.0.0.2")
            with httpx.Client(transport=other, base_url=url) as same:
                full = same.get("/v1/rooms")
                assert full.status_code == 503 and full.headers["retry-after"] == "1"
                for path in ("/healthz", "/readyz", "/metrics"):
                    assert same.get(path).status_code == 200
            assert client.get("/v1/rooms").status_code == 200
            client.close()
            with sockets(url, 2, first=SLOW):  # all places
                time.sleep(0.1)
                with sockets(url, 2):  # and the reserve
                    assert httpx.get(url.join("/healthz")).status_code == 200
                    assert httpx.get(url.join("/v1/rooms")).status_code == 503


def test_behind_a_proxy_one_address_is_many_clients():
    limits = ConnectionLimits(total=8, per_address=1)
    server = {"limits": limits, "trusted_proxies": ["127.0.0.0/8"]}
    with running(server=server) as (client, _):
        with sockets(client.base_url, 4, first=SLOW):
            time.sleep(0.1)
            assert client.get("/v1/rooms").status_code == 200
    with pytest.raises(InputError, match="must be an address or a network, not 'proxy'"):
        with running(server={"trusted_proxies": ["proxy"]}):
            pass


def test_the_longest_waiting_connection_gives_way():
    limits = ConnectionLimits(total=3, per_address=3)
    with running(server={"limits": limits}) as (client, _):
        client.close()
        with sockets(client.base_url, 3) as (first, second, third):
            assert httpx.get(client.base_url.join("/v1/rooms")).status_code == 200
            assert is_closed(first, 1)
            assert not is_closed(third, 0.05) and not is_closed(second, 0.05)


def test_a_client_that_does_not_read_is_dropped():
    limits = ConnectionLimits(unread_s=0.3)
    with running(server={"limits": limits}) as (client, _):
        with sockets(client.base_url, 1) as (one,):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(0.2)
            asked, end = (
                b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 2000,
                time.monotonic() + 60,
            )
            while 'reason="unread"} 1.0' not in metrics(client) and time.monotonic() < end:
                # A service that is slow to come to it has not answered enough so far: ask on.
                with contextlib.suppress(OSError):
                    asked = asked[one.send(asked) :]
                time.sleep(0.05)
            assert 'reason="unread"} 1.0' in metrics(client)


def test_lines_that_repeat_are_counted_and_not_written():
    now, lines = [0.0], []
    logger = logging.Logger("test")
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addFilter(repeats := Repeats(10.0, kinds=2, clock=lambda: now[0]))
    for k in range(1000):
        logger.warning("connection %d was refused", k)
    assert lines == ["connection 0 was refused"] and repeats.unwritten == 999
    for error in (ValueError("a"), ValueError("b"), OSError("c")):
        try:
            raise error
        except Exception:
            logger.exception("fault")
    assert lines[1:] == ["fault", "fault"]  # of two kinds
    now[0] = 10.0
    logger.warning("connection %d was refused", 7)
    logger.error("connection %d was refused", 8)
    assert lines[3:] == ["connection 7 was refused", "connection 8 was refused"]  # was forgotten
    logger.error("connection %d was refused", 9)
    now[0] = 20.0
    logger.error("connection %d was refused", 9)
    assert lines[5:] == ["connection 9 was refused (1 more such lines since the last)"]
