"""Segments for a service that comes and goes: all arrive, in their order, and are scored right."""

import threading
import time
from contextlib import closing

import pytest

from contentctr.errors import InputError
from contentctr.live.watch.client import Client
from contentctr.live.watch.outbox import Outbox, ServiceAwayError
from live_service import N, make_engine, make_post, running


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr("contentctr.live.watch.client.FIRST_WAIT_S", 0.02)
    monkeypatch.setattr("contentctr.live.watch.client.LONGEST_WAIT_S", 0.05)


def free_port():
    with running() as (client, _):
        return client.base_url.port


def scores(count):
    """What one service that never goes away says."""
    with running() as (client, _):
        posts = (make_post("r1", k) for k in range(count))
        return [client.post("/v1/segments", json=post).json()["score"] for post in posts]


class Answers(list):
    """Answers as they come, and a way to wait for them."""

    def __call__(self, answer):
        self.append(answer)

    def wait(self, count):
        end = time.monotonic() + 20
        while len(self) < count and time.monotonic() < end:
            time.sleep(0.005)
        assert len(self) == count


def test_a_service_that_goes_away_and_comes_back(fast):
    port, answers, lines = free_port(), Answers(), []
    with closing(Client(f"http://127.0.0.1:{port}")) as client:
        outbox = Outbox(client, window_len=N, report=lines.append)
        with running(port=port):
            for k in range(4):
                outbox.put(make_post("r1", k), answers)
            answers.wait(4)
        for k in range(4, 12):  # meanwhile it is away
            outbox.put(make_post("r1", k), answers)
            time.sleep(0.02)
        assert len(answers) == 4
        with running(port=port) as (service, _):  # it has forgotten the room
            outbox.close()
            curve = service.get("/v1/rooms/r1").json()["curve"]
    # It was reminded of the four before, so that the others are scored as if nothing had been.
    assert [p["index"] for p in curve] == list(range(12))
    assert [a["score"] for a in answers] == pytest.approx(scores(12), abs=1e-6)
    assert {a["status"] for a in answers} == {"scored"}
    assert len(lines) == 2 and "cannot be reached" in lines[0] and "trying again" in lines[0]
    assert lines[1] == f"http://127.0.0.1:{port}: takes segments again"


def test_a_service_started_anew_between_two_segments(fast):
    port, answers, lines = free_port(), Answers(), []
    with closing(Client(f"http://127.0.0.1:{port}")) as client:
        outbox = Outbox(client, window_len=N, report=lines.append)
        for k in range(0, 12, 4):
            with running(port=port):
                for index in range(k, k + 4):
                    outbox.put(make_post("r1", index), answers)
                answers.wait(k + 4)
        outbox.close()
    assert [a["score"] for a in answers] == pytest.approx(scores(12), abs=1e-6)


def test_a_service_that_is_there_later(fast):
    port, answers, lines = free_port(), Answers(), []
    with closing(Client(f"http://127.0.0.1:{port}")) as client:
        outbox = Outbox(client, window_len=N, report=lines.append, kept=5)
        for k in range(12):
            outbox.put(make_post("r1", k), answers)
        assert outbox.left_out == 7 and "5 segments wait for it" in lines[-1]
        with running(port=port):
            with pytest.raises(ServiceAwayError, match="not delivered: 7$"):
                outbox.close()
    assert [a["target_index"] for a in answers] == [0, 8, 9, 10, 11]


def test_a_service_that_stays_away(fast):
    with closing(Client("http://127.0.0.1:9")) as client:
        outbox = Outbox(client, window_len=N, report=lambda line: None, away_s=0.2)
        for k in range(3):
            outbox.put(make_post("r1", k), print)
        begin = time.monotonic()
        with pytest.raises(ServiceAwayError, match="away for too long: segments not delivered: 3"):
            outbox.close()
    assert 0.2 <= time.monotonic() - begin < 5.0


def test_a_user_who_ends_it_waits_little(fast, monkeypatch):
    monkeypatch.setattr(Outbox, "STOP_S", 0.1)
    stopped = threading.Event()
    with closing(Client("http://127.0.0.1:9")) as client:
        outbox = Outbox(
            client, window_len=N, report=lambda line: None, away_s=600.0, stopped=stopped.is_set
        )
        outbox.put(make_post("r1", 0), print)
        threading.Timer(0.2, stopped.set).start()
        with pytest.raises(ServiceAwayError, match="not delivered: 1$"):
            outbox.close()


def test_nothing_to_send_is_no_fault():
    with closing(Client("http://127.0.0.1:9")) as client:
        Outbox(client, window_len=N, report=lambda line: None).close()


def test_a_refusal_ends_it(fast):
    with running(make_engine()) as (service, _), closing(Client(str(service.base_url))) as client:
        outbox, answers = Outbox(client, window_len=N, report=lambda line: None), Answers()
        outbox.put(make_post("r1", 0), answers)
        outbox.put(make_post("r1", 1, streamer_id="b"), answers)
        with pytest.raises(InputError, match="409.*streamer_id"):
            outbox.close()
        with pytest.raises(InputError, match="409"):
            outbox.put(make_post("r1", 2), answers)
        assert len(answers) == 1
