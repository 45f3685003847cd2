"""The worker's options, and the messages that were put aside, as commands."""

import pytest

from contentctr.cli import main
from contentctr.live.redis.messages import connect, segment_fields
from contentctr.live.redis.store import RedisStore
from live_redis import (
    KEYS,
    MODEL,
    OTHER,
    PARTITIONS,
    SHOWN,
    add,
    drain,
    make_other,
    make_worker,
    segment,
)
from redis_server import RedisServer


@pytest.fixture
def command(monkeypatch, capsys):
    monkeypatch.delenv("CONTENTCTR_REDIS", raising=False)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["contentctr", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0, *capsys.readouterr()

    return run


def test_what_was_put_aside_is_listed_and_put_back(command, tmp_path, monkeypatch):
    server = RedisServer(tmp_path / "redis")
    try:
        with connect(server.url) as client:
            worker = make_worker(client)
            service = RedisStore(client, KEYS, PARTITIONS)
            for index, streamer in ((0, "a"), (1, "b\x1b[2J"), (2, "c")):
                service.add("x", segment_fields(segment("x", index, streamer), SHOWN))
            drain(worker)
            where = tmp_path / "redis-url"
            where.write_text(f"{server.url}\n")
            code, out, err = command("rejected", "list", "--redis-file", where)
            lines = out.splitlines()
            assert code == 0 and len(lines) == 2 and "2 messages" in err
            assert "  x  1  " in lines[0] and r"b\x1b[2J" in lines[0] and "\x1b" not in out
            monkeypatch.setenv("CONTENTCTR_REDIS", server.url)
            code, out, err = command("rejected", "replay", lines[1].split()[0], "1-1")
            assert code == 2 and out == "1 message put back\n" and "'1-1'" in err
            assert command("rejected", "replay")[0] == 2
            assert command("rejected", "replay", "--all")[1] == "1 message put back\n"
            assert client.xlen(KEYS.rejected) == 0 and service.queue().waiting == 2
    finally:
        server.kill()


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hush@127.0.0.1:9/0",
        "http://:hush@x",
        "redis://:hu:sh/hush@x:9/0",
        "redis://:hush?hush@x:z/0",
    ],
)
def test_a_password_is_never_told(command, tmp_path, monkeypatch, url):
    (tmp_path / "url").write_text(url)
    for words in (("--redis", url), ("--redis-file", tmp_path / "url"), ()):
        monkeypatch.setenv("CONTENTCTR_REDIS", url)
        code, out, err = command("rejected", "list", *words)
        assert code == 2 and "hush" not in out + err and "redis" in err.lower(), err
        monkeypatch.delenv("CONTENTCTR_REDIS")
    assert "needs --redis" in command("rejected", "list")[2]
    (tmp_path / "url").write_text(" \n")
    for path in (tmp_path / "url", tmp_path / "none"):
        code, _, err = command("rejected", "list", "--redis-file", path)
        assert code == 2 and str(path) in err


def test_a_rollout_by_commands(command, tmp_path, monkeypatch):
    server = RedisServer(tmp_path / "redis")
    try:
        with connect(server.url) as client:
            monkeypatch.setenv("CONTENTCTR_REDIS", server.url)
            code, _, err = command("rollout", "status")
            assert code == 2 and "no worker has used it yet" in err
            first, second = make_worker(client), make_worker(client, engine=make_other())
            for room in ("x", "y"):
                add(client, room, 0)
            drain(first)
            code, out, _ = command("rollout", "status")
            assert code == 0 and out.splitlines() == [
                f"current    {MODEL}  1 worker, 2 rooms",
                "candidate  -",
                "previous   -",
            ]
            for action in ("promote", "drop"):
                code, _, err = command("rollout", action)
                assert code == 2 and "there is no candidate" in err
            drain(second)
            for room in ("x", "y"):
                add(client, room, 1)
            drain(first)
            drain(second)
            lines = command("rollout", "status")[1].splitlines()
            assert lines[1].startswith(f"candidate  {OTHER}  since 20")
            assert "1 worker, 2 rooms (0 without its score), 0 segments behind (0.0 s)" in lines[1]
            assert lines[2].startswith("agreement  tau ") and lines[2].endswith(
                "4 segments of 2 rooms"
            )
            code, out, _ = command("rollout", "promote")
            assert (code, out) == (0, f"{OTHER} is current; {MODEL} is the candidate now\n")
            assert command("rollout", "status")[1].splitlines()[-1] == f"previous   {MODEL}"
            code, out, _ = command("rollout", "back", "--redis", server.url)
            assert (code, out) == (0, f"{MODEL} is current again; {OTHER} is the candidate now\n")
            assert command("rollout", "drop")[1] == f"{OTHER} is dropped\n"
            assert "candidate  -" in command("rollout", "status")[1]
            code, _, err = command("rollout", "back")
            assert code == 2 and "scores nothing any more" in err
    finally:
        server.kill()
