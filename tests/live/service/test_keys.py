"""Keys: who may do what, whose rooms are whose, and how many one key may have."""

import hashlib
import os
import time

import pytest

from contentctr.errors import InputError
from contentctr.live.service.backend import LocalBackend
from contentctr.live.service.keys import ApiKeys, Caller, read_keys
from contentctr.live.service.owners import NotOwnerError
from contentctr.live.service.settings import ServiceSettings
from live_service import make_engine, make_post, running
from redis_server import RedisServer
from redis_service import over_redis, working

LINES = """# the keys of a test
read page r-key

write one w-key-1 rooms=2
write two w-key-2
admin boss a-key
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(LINES)
    return path


def post(client, key, room, index=0):
    return client.post("/v1/segments", json=make_post(room, index), headers={"x-api-key": key})


def delete(client, key, room):
    return client.delete(f"/v1/rooms/{room}", headers={"x-api-key": key}).status_code


def test_roles(file):
    with running(settings=ServiceSettings(keys_file=file)) as (client, _):
        for key, may_read, may_write in (
            ("none", 401, 401),
            ("", 401, 401),
            ("r-key", 200, 403),
            ("w-key-1", 200, 200),
            ("a-key", 200, 200),
        ):
            headers = {"x-api-key": key}
            for path in ("/v1/rooms", "/v1/info"):
                assert client.get(path, headers=headers).status_code == may_read
            ranked = client.post("/v1/rank", json={"candidates": []}, headers=headers)
            assert ranked.status_code == may_read
            assert post(client, key, f"of-{key or 'no'}").status_code == may_write
        assert delete(client, "r-key", "of-a-key") == 403
        refused = post(client, "r-key", "x").json()["detail"]
        assert refused == "the key must have the role write, not read"


def exercise_rooms(client):
    assert [post(client, "w-key-1", f"a{k}").status_code for k in range(3)] == [200, 200, 429]
    assert post(client, "w-key-1", "a0", 1).status_code == 200  # no new room
    # Another's key can neither post to a room nor end it, and is not told whose it is.
    answer = post(client, "w-key-2", "a0", 2)
    assert answer.status_code == 403
    assert answer.json()["detail"] == "room 'a0': was opened with another key"
    assert delete(client, "w-key-2", "a0") == 403
    assert post(client, "w-key-2", "b0").status_code == 200
    assert post(client, "a-key", "b0", 1).status_code == 200  # an admin may, and takes nothing
    assert post(client, "w-key-2", "b0", 2).status_code == 200
    assert delete(client, "a-key", "b0") == 204
    assert delete(client, "w-key-1", "a1") == 204


def test_a_room_is_its_keys_and_a_key_has_so_many(file):
    with running(settings=ServiceSettings(keys_file=file)) as (client, backend):
        exercise_rooms(client)
        assert post(client, "w-key-1", "a2").status_code == 200  # a place is free again
        assert post(client, "w-key-2", "b0").status_code == 200  # as is the name
        wrong = {**make_post("bad"), "visual": [0.0] * 5}
        headers = {"x-api-key": "w-key-2"}
        assert client.post("/v1/segments", json=wrong, headers=headers).status_code == 422
        assert set(backend._owners._owner) == {"a0", "a2", "b0"}


def test_a_listener_whose_key_is_taken_away_hears_no_more(file, monkeypatch):
    monkeypatch.setattr("contentctr.live.service.events.ASK_S", 0.1)
    with running(settings=ServiceSettings(keys_file=file)) as (client, backend):
        with client.stream("GET", "/v1/events", headers={"x-api-key": "r-key"}) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("retry")
            post(client, "w-key-1", "x")
            while not next(lines).startswith("data"):
                pass
            file.write_text(LINES.replace("r-key", "r-key-2"))
            begun = time.monotonic()
            assert [line for line in lines if line] == []  # it ends
            assert time.monotonic() - begun < 5
        assert backend.events.listeners == 0
        with client.stream("GET", "/v1/events", headers={"x-api-key": "r-key-2"}) as stream:
            for index in range(1, 5):
                time.sleep(0.1)
                post(client, "w-key-1", "x", index)
            data = (line for line in stream.iter_lines() if line.startswith("data"))
            assert [next(data) for _ in range(4)]


def test_idle_rooms_are_nobodys_any_more(file):
    settings = ServiceSettings(keys_file=file)
    with running(settings=settings, forget_after_s=0.2) as (client, backend):
        post(client, "w-key-1", "a")
        while len(backend.store):
            client.get("/healthz")
        assert post(client, "w-key-2", "a").status_code == 200


def test_the_quota_of_the_settings_is_that_of_keys_without_one(file):
    settings = ServiceSettings(keys_file=file, rooms_per_key=1)
    with running(make_engine(), settings=settings) as (client, _):
        for key, expected in (
            ("w-key-1", [200, 200]),
            ("w-key-2", [200, 429]),
            ("a-key", [200] * 2),
        ):
            assert [post(client, key, f"{key}{k}").status_code for k in range(2)] == expected


@pytest.mark.slow
def test_services_share_owners_over_redis(file, tmp_path):
    server, settings = RedisServer(tmp_path / "redis"), ServiceSettings(keys_file=file)
    try:
        with working(server.url), over_redis(server.url, settings) as (client, backend):
            while not backend.ready:
                time.sleep(0.02)
            exercise_rooms(client)
            assert post(client, "w-key-1", "a2").status_code == 200
    finally:
        server.kill()


def test_the_file_is_read_again_without_a_restart(file, caplog):
    now = [0.0]
    keys = ApiKeys(None, file, clock=lambda: now[0])
    assert keys.caller(b"r-key").name == "page" and keys.caller(b"new") is None
    file.write_text("read other new\n")
    assert keys.caller(b"new") is None  # it is looked at once a second
    now[0] = 1.0
    assert keys.caller(b"new").name == "other" and keys.caller(b"r-key") is None
    for broken in ("read other\n", ""):
        file.write_text(broken)
        now[0] += 1.0
        assert keys.caller(b"new").name == "other"
    os.remove(file)
    now[0] += 1.0
    assert keys.caller(b"new").name == "other"
    assert caplog.records[0].message.endswith("; the keys stay as they were")
    file.write_text("read third third\n")
    now[0] += 1.0
    assert keys.caller(b"new") is None and keys.caller(b"third").name == "third"


def test_a_file_need_not_tell_its_keys(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"admin a sha256:{hashlib.sha256(b'secret').hexdigest()} rate=5\n")
    [key] = read_keys(path)
    assert (key.caller.role, key.caller.rate) == ("admin", 5)
    assert ApiKeys(None, path).caller(b"secret").name == "a"
    assert "secret" not in repr(ServiceSettings(api_key="secret"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold 1 to 256 keys, not 0"),
        ("root a S3CRET", "line 1: must be ROLE NAME KEY"),
        ("# x\nread a", "line 2: must be ROLE NAME KEY"),
        ("read a/b S3CRET", "line 1: a name must be"),
        ("read a sha256:S3CRET", "line 1: sha256: must be followed by 64"),
        ("read a S3CRET rooms=0", "line 1: after the key there may be"),
        ("read a S3CRET\nread a S3CRET2", "every name must be there once"),
        ("read a S3CRET\nread b S3CRET", "every key must be there once"),
    ],
)
def test_bad_files_are_refused_and_not_told(tmp_path, text, message):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        ApiKeys(None, path)
    assert "S3CRET" not in str(error.value)


@pytest.mark.parametrize("key", ["", " \n", "two words", "naïve"])
def test_a_blank_or_strange_key_is_none(key):
    with pytest.raises(InputError, match="API key"), running(settings=ServiceSettings(api_key=key)):
        pass


def test_a_key_has_a_rate_of_its_own(tmp_path):
    path = tmp_path / "keys"
    path.write_text("read slow k1 rate=1\nread fast k2\n")
    with running(settings=ServiceSettings(keys_file=path)) as (client, _):
        codes = {
            key: [client.get("/v1/rooms", headers={"x-api-key": key}).status_code for _ in range(4)]
            for key in ("k1", "k2")
        }
    assert codes == {"k1": [200, 200, 429, 429], "k2": [200] * 4}


def test_other_hosts_are_refused_and_probes_are_not():
    settings = ServiceSettings(allowed_hosts=("scores.example", "127.0.0.1"))
    with running(settings=settings) as (client, _):
        for host, expected in (
            ("scores.example", 200),
            ("Scores.Example:8000", 200),
            ("127.0.0.1:1", 200),
            ("evil.example", 421),
            ("", 421),
        ):
            assert client.get("/v1/rooms", headers={"host": host}).status_code == expected, host
        assert client.get("/healthz", headers={"host": "10.0.0.7"}).status_code == 200


def test_only_trusted_proxies_are_believed():
    limits = ServiceSettings(rate=1.0, burst=1.0)
    for proxies, expected in (((), [200, 429]), (("127.0.0.1",), [200, 200])):
        server = {"trusted_proxies": proxies}
        with running(settings=limits, server=server) as (client, _):
            codes = [
                client.get("/v1/rooms", headers={"x-forwarded-for": f"10.0.0.{k}"}).status_code
                for k in range(2)
            ]
            assert codes == expected


def test_a_file_of_keys_that_becomes_a_folder_a_pipe_or_huge_changes_nothing(tmp_path):
    path, now = tmp_path / "keys", [0.0]
    path.write_text("read reader key1\n")
    keys = ApiKeys(path=path, clock=lambda: now[0])

    def still_there():
        now[0] += 10
        return keys.caller(b"key1") is not None and keys.caller(b"key2") is None

    path.unlink()
    assert still_there()
    path.mkdir()
    assert still_there()
    path.rmdir()
    os.mkfifo(path)
    assert still_there()
    path.unlink()
    path.symlink_to("/dev/zero")
    assert still_there()
    path.unlink()
    path.write_text("# \n" * 500_000 + "read reader key2\n")
    assert still_there()
    path.write_text("")
    assert still_there()
    path.write_text("read reader key2\n")
    assert not still_there() and keys.caller(b"key2") is not None


def test_a_room_without_a_score_is_its_keys_too(file):
    engine = make_engine(sizes={"horizon": -2})
    with running(engine, settings=ServiceSettings(keys_file=file)) as (client, _):
        assert post(client, "w-key-1", "a").json()["status"] == "early"
        assert post(client, "w-key-2", "a", 1).status_code == 403
        assert [post(client, "w-key-1", f"a{k}").status_code for k in range(2)] == [200, 429]


def test_a_refused_segment_does_not_take_a_room_that_is_on_its_way(file):
    caller = Caller(name="a", role="write")
    backend = LocalBackend(make_engine())
    for _ in range(2):  # two segments of a new room are on their way
        backend._owners.claim("r", caller)
        backend._coming["r"] += 1
    backend._arrived("r", caller)  # one was refused
    with pytest.raises(NotOwnerError):
        backend._owners.require("r", Caller(name="b", role="write"))
    backend._arrived("r", caller)
    backend._owners.require("r", Caller(name="b", role="write"))
    assert not backend._coming
