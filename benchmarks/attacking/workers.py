"""Attacks on workers and their Redis, on recordings, on files and on disks."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import av
import httpx

from attacking.stage import Outcome, Stage, attack, status


def worker_on(stage: Stage, url: str, *words: object) -> subprocess.Popen[str]:
    """A worker that has its partitions."""
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import connect

    process = stage.command("worker", stage.checkpoint(), "--redis", url, "--lease", 1, *words)
    with connect(url) as client:
        assert _wait(lambda: bool(client.keys(Keys(model="*").lease(0))), 90), (
            "the worker did not start"
        )
    return process


def _put(client: object, partitions: int, rooms: range, indices: range) -> None:
    from live_redis import add

    for room in rooms:
        for index in indices:
            add(client, f"r{room}", index, partitions=partitions)


def _waiting(client: object, partitions: int = 32) -> int:
    from contentctr.live.redis.keys import Keys

    return sum(client.xlen(Keys().stream(p)) for p in range(partitions))


def _wait(ready: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.1)
    return ready()


@attack("Redis is full, a replica, without replicas, without its groups: a worker", 400)
def redis_refuses(stage: Stage) -> Outcome:
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import connect

    def groups(client: object) -> None:
        for partition in range(4):
            for group in client.xinfo_groups(Keys().stream(partition)):
                client.xgroup_destroy(Keys().stream(partition), group["name"])

    kinds = {
        "OOM": (
            lambda c: c.config_set("maxmemory", "100kb"),
            lambda c: c.config_set("maxmemory", 0),
        ),
        "READONLY": (lambda c: c.replicaof("127.0.0.1", 1), lambda c: c.replicaof("NO", "ONE")),
        "NOREPLICAS": (
            lambda c: c.config_set("min-replicas-to-write", 1),
            lambda c: c.config_set("min-replicas-to-write", 0),
        ),
        "NOGROUP": (groups, lambda c: None),
    }
    url, found = stage.redis(), {}
    for number, (kind, (refuse, allow)) in enumerate(kinds.items()):
        with connect(url) as client:
            client.flushall()
            stage.folder = stage.folder.parent / f"{stage.folder.name}-{number}"
            process = worker_on(stage, url, "--partitions", 4)
            _put(client, 4, range(3), range(5))
            refuse(client)
            time.sleep(2)
            allow(client)
            if process.poll() is None:
                _put(client, 4, range(3), range(5, 10))
            done = _wait(lambda: _waiting(client) == 0, 8)
            ended = process.poll() is not None
            found[kind] = "ended" if ended else "went on" if done else "stands still"
            process.kill()
    return set(found.values()) == {"went on"}, str(found)


@attack("a full Redis: what is read", 150)
def full_redis_reads(stage: Stage) -> Outcome:
    from contentctr.live.redis.messages import connect

    redis = stage.redis()
    url = stage.serve("--redis", redis)
    time.sleep(1)
    with connect(redis) as client:
        client.config_set("maxmemory", "100kb")
        found = status(url, "/v1/rooms")
    return found.startswith("200"), f"/v1/rooms {found}"


@attack("2,000 segments of 64 kB wait in one partition", 120)
def waiting_bytes(stage: Stage) -> Outcome:
    from contentctr.live.known_rooms import Shown
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import add_segment, connect, settle_partitions
    from live_redis import segment

    shown = Shown(ended_at=0.0, thumbnail=b"\xff" * 65_536)
    with connect(stage.redis()) as client:
        settle_partitions(client, Keys(), 1)
        try:
            for index in range(2000):
                add_segment(client, Keys(), 1, segment("x", index), shown)
        except Exception as error:
            held, seen = True, f"{type(error).__name__}: {error}"
        else:
            held, seen = False, "all were taken"
        megabytes = client.info("memory")["used_memory"] / 2**20
    return held and megabytes < 100, f"{seen}; Redis takes {megabytes:.0f} MB"


@attack("Redis loses its data; another comes with the default number of partitions", 200)
def lost_data(stage: Stage) -> Outcome:
    from contentctr.live.redis.keys import Keys
    from contentctr.live.redis.messages import connect, settle_partitions

    url = stage.redis()
    with connect(url) as client:
        worker_on(stage, url, "--partitions", 4)
        client.flushall()
        time.sleep(1)
        count = settle_partitions(client, Keys())
        _put(client, count, range(40), range(2))
        done = _wait(lambda: _waiting(client) == 0, 20)
        left = _waiting(client)
    return done, f"{count} partitions; {left} of 80 segments are read by nobody"


@attack("a room's number jumps to 2^31 - 1", 150)
def number_jumps(stage: Stage) -> Outcome:
    from live_service import make_post

    url = stage.serve()
    with httpx.Client(base_url=url) as client:
        answers = [
            client.post("/v1/segments", json=make_post("x", index)) for index in (0, 2**31 - 1, 1)
        ]
    after = answers[-1].json().get("status")
    return after == "scored", f"the jump: {answers[1].status_code}; the next honest one: {after}"


@attack("one stamp of a recording lies 1e6 s ahead", 60)
def stamp_jumps(stage: Stage) -> Outcome:
    from contentctr.rooms.media import probe
    from recordings import record

    found = {}
    for suffix in ("ts", "mkv", "flv"):
        source = record(stage.folder / f"a.{suffix}", 20.0, bframes=2)
        path = stage.folder / f"b.{suffix}"
        with av.open(str(source)) as whole, av.open(str(path), "w") as out:
            streams = {s.index: out.add_stream_from_template(s) for s in whole.streams}
            count = 0
            for packet in whole.demux():
                if packet.dts is None:
                    continue
                count += packet.stream.type == "video"
                if packet.stream.type == "video" and count == 50:
                    packet.pts += round(1e6 / packet.time_base)
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
        found[suffix] = round(probe(path).duration_s / 30.0)
    return max(found.values()) <= 1, f"segments of 20 s: {found}"


@attack("JSON nested 100,000 deep, and of 5,000 digits, as one of two rooms", 240)
def strange_json(stage: Stage) -> Outcome:
    found = {}
    for name, text in (("deep", "[" * 100_000), ("digits", '{"room_id": ' + "9" * 5000 + "}")):
        rooms = stage.folder / name
        for room in ("good", "bad"):
            (rooms / room).mkdir(parents=True)
            head = {"room_id": room, "streamer_id": "s", "duration_s": 120}
            head["started_at"] = "2024-05-01T20:00:00+08:00"
            (rooms / room / "room.json").write_text(json.dumps(head))
            (rooms / room / "comments.csv").write_text("t,user_id,text\n1,u,hello\n")
        (rooms / "bad" / "room.json").write_text(text)
        out = stage.folder / f"{name}-data"
        process = stage.command("prepare", rooms, out, "--skip-bad-rooms")
        process.communicate()
        found[name] = process.returncode
    return set(found.values()) == {0}, f"exit codes of prepare --skip-bad-rooms: {found}"


@attack("a disk that takes no more", 200)
def full_disk(stage: Stage) -> Outcome:
    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    out = stage.folder / "data"
    words = ("simulate", "features", out, "--rooms", 12)
    command = [sys.executable, "-m", "contentctr", *map(str, words)]
    found = subprocess.run(command, capture_output=True, text=True, preexec_fn=bound)
    last = found.stderr.strip().splitlines()[-1]
    held = "Traceback" not in found.stderr and str(out) in last
    lines = len(found.stderr.strip().splitlines())
    return held, f"{lines} lines, the last {last.replace(str(stage.folder), '...')[:100]!r}"


@attack("--resume beside a run that trains", 400)
def two_trainings(stage: Stage) -> Outcome:
    data, run = stage.folder / "data", stage.folder / "run"
    stage.command("simulate", "features", data, "--rooms", 12).communicate()
    words = ("train", "small", "--data", data, "--out", run, "epochs=200", "patience=0")
    one = stage.command(*words)
    _wait(lambda: (run / "config.json").is_file(), 60)
    other = stage.command(*words, "--resume")
    _wait(lambda: other.poll() is not None, 150)
    code = other.poll()
    one.kill()
    return code == 2, "refused (2)" if code == 2 else f"both train (exit code {code})"
