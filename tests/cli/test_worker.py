"""The worker's options, and the messages that were put aside, as commands."""

import pytest

from contentctr.cli import main
from contentctr.live.redis.messages import connect, segment_fields
from contentctr.live.redis.store import RedisStore
from live_redis import KEYS, PARTITIONS, SHOWN, drain, make_worker, segment
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
