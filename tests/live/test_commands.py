"""serve, worker and watch as commands: they start, work together, and end when they are told to."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import httpx
import pytest

from contentctr.batch import DataSpec
from contentctr.encode import encoders
from contentctr.score import checkpoint
from file_server import Short, serving_files
from live_service import KNOWN, b64, make_model, make_picture, make_post
from redis_server import RedisServer
from tiny_models import make_tiny_bert, make_tiny_swin
from videos import make_video

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with tiny encoders beside it."""
    root = tmp_path_factory.mktemp("checkpoint")
    swin, bert = str(make_tiny_swin(root / "swin")), str(make_tiny_bert(root / "bert"))
    spec = DataSpec(
        visual_dim=16,
        text_dim=16,
        segment_seconds=6.0,
        simulated=True,
        visual_encoder=swin,
        text_encoder=bert,
        visual_revision=encoders.load_visual(swin).revision,
        text_revision=encoders.load_text(bert, pooling="cls", max_tokens=128).revision,
    )
    model, config = make_model(spec=spec)
    checkpoint.save(root / "best", model, config=config, spec=spec, vocabulary=KNOWN, info={})
    return root / "best"


class Command:
    """A command as a process; it must end well.

    Args:
        arguments: of the command.
        ended_by: the signal that ends it; None: it ends by itself, and a signal could meet it
            when it no longer listens to any.
    """

    def __init__(self, *arguments, ended_by=signal.SIGTERM, **environment):
        self._ended_by = ended_by
        self._process = subprocess.Popen(
            [sys.executable, "-m", "contentctr", *map(str, arguments)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    def __enter__(self):
        return self

    @property
    def pid(self):
        return self._process.pid

    def signal(self, number):
        self._process.send_signal(number)

    def line(self):
        return self._process.stdout.readline()

    def __exit__(self, *failed):
        if self._ended_by is not None:
            self._process.send_signal(self._ended_by)
        try:
            _, errors = self._process.communicate(timeout=30)
        finally:
            self._process.kill()
        assert failed[0] is not None or self._process.returncode == 0, errors


def url_of(command):
    line = command.line()
    assert "http://" in line, line
    return line.split()[-1]


def test_serve_and_watch(folder, tmp_path):
    video, chat = tmp_path / "v.ts", tmp_path / "chat.jsonl"
    make_video(video, seconds=19, rate=4)
    chat.write_text(json.dumps({"t": 1.0, "user_id": "u", "text": "hello"}) + "\n")
    key = {"CONTENTCTR_API_KEY": "secret"}
    with Command("serve", folder, "--port", 0, "--encode", **key) as serve:
        url, headers = url_of(serve), {"x-api-key": "secret"}
        assert httpx.get(f"{url}/v1/rooms").status_code == 401
        body = {"room_id": "y", "index": 0, "frames": [b64(make_picture())], "speech": "hello"}
        answer = httpx.post(f"{url}/v1/segments", json=body, headers=headers)
        assert answer.json()["status"] == "scored"
        watching = ["watch", folder, video, "--comments", chat, "--room", "x", "--idle", 0.5]
        with Command(*watching, "--url", url, ended_by=None, **key) as watch:
            lines = [watch.line() for _ in range(3)]
        room = httpx.get(f"{url}/v1/rooms/x", headers=headers).json()
    assert [p["index"] for p in room["curve"]] == [0, 1, 2] and room["comments"] == ["hello"]
    out = tmp_path / "scores.jsonl"
    with Command(*watching, "--out", out, ended_by=None) as watch:
        alone = [watch.line() for _ in range(3)]
    # The model has learned from simulated rooms; the recording is none.
    assert alone == lines and not any("(simulated)" in line for line in lines)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [f["score"] for f in found] == pytest.approx([p["score"] for p in room["curve"]])


def run_watch(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "contentctr", "watch", *map(str, arguments)],
        capture_output=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def test_watch_says_how_it_ended(folder, tmp_path):
    video, speech, chat = tmp_path / "v.ts", tmp_path / "v.srt", tmp_path / "v.csv"
    make_video(video, seconds=21, rate=4)
    speech.write_text("1\n00:00:01,000 --> 00:00:04,000\nwelcome\n")
    chat.write_text("when,who,said\n2024-05-01 20:00:02,a,hello\n2024-05-01 21:00:00,a,later\n")
    logs = ["--speech", speech, "--comments", chat, "--columns", "t=when,user_id=who,text=said"]
    logs += ["--started-at", "2024-05-01T20:00:00+08:00", "--frames", "keyframe"]
    with video.open("rb") as file:
        done = run_watch(folder, "-", *logs, stdin=file)
    lines, notes = done.stdout.decode().splitlines(), done.stderr.decode().splitlines()
    assert done.returncode == 0, notes
    assert [line.split("  ")[0] for line in lines] == [
        "00:00-00:06",
        "00:06-00:12",
        "00:12-00:18",
        "00:18-00:21",
    ]
    told = "warning: --frames keyframe: the model was trained on --frames exact; "
    assert [note.startswith(told) for note in notes].count(True) == 1
    assert notes[-4:] == [
        f"{chat}: comments as CSV; rows: 1 used, 1 outside [0, 21) s",
        f"{speech}: SRT; rows: 1 used",
        "over: its writer closed it",
        "ended after 00:21: 4 segments (4 scored)",
    ]
    own = ["--speech", speech, "--frames", "exact"]
    with video.open("rb") as file:
        assert b"warning" not in run_watch(folder, "-", *own, stdin=file).stderr
    away = run_watch(*(folder, video, "--idle", 0.1, "--url", "http://127.0.0.1:9", "--away", 0.1))
    assert (away.returncode, away.stdout) == (4, b"")
    assert b"not delivered: 4" in away.stderr and b"ended after 00:21: 4 segments\n" in away.stderr
    with serving_files(Short, tmp_path) as url:
        broken = run_watch(folder, f"{url}/v.ts")
    assert broken.returncode == 3 and broken.stdout.count(b"\n") >= 3
    assert b"v.ts: broke off after 2" in broken.stderr
    for words, message in {
        (folder, tmp_path / "none.ts"): b"no such file",
        (folder, video, "--comments", tmp_path / "none.xml"): b"none.xml: no such file",
        (folder, video, "--out", tmp_path): b"holds no scores of `watch`",
    }.items():
        wrong = run_watch(*words)
        assert wrong.returncode == 2 and wrong.stdout == b""
        assert wrong.stderr.startswith(b"error: ") and message in wrong.stderr


def test_a_room_folder_is_watched_as_its_parts_are(folder, tmp_path):
    room, out = tmp_path / "room", tmp_path / "scores.jsonl"
    room.mkdir()
    make_video(room / "video.ts", seconds=21, rate=4)
    (room / "speech.srt").write_text("1\n00:00:01,000 --> 00:00:04,000\nwelcome\n")
    (room / "comments.csv").write_text("time,user,text\n2024-05-01 20:00:02,a,hello\n")
    head = {"room_id": "r7", "streamer_id": "a", "started_at": "2024-05-01T20:00:00+08:00"}
    (room / "room.json").write_text(json.dumps(head))
    done = run_watch(folder, room, "--out", out, "--idle", 0.2)
    assert done.returncode == 0, done.stderr.decode()
    logs = ["--speech", room / "speech.srt", "--comments", room / "comments.csv"]
    logs += ["--started-at", head["started_at"], "--streamer", "a", "--idle", 0.2]
    one_by_one = run_watch(folder, room / "video.ts", *logs)
    assert one_by_one.stdout == done.stdout and done.stdout.count(b"\n") == 4
    assert one_by_one.stderr == done.stderr
    assert {json.loads(line)["room_id"] for line in out.read_text().splitlines()} == {"r7"}
    wrong = run_watch(folder, room, "--comments", room / "comments.csv")
    assert wrong.returncode == 2 and b"a room folder names its own parts; --com" in wrong.stderr


def test_watch_ends_when_it_is_told_to(folder, tmp_path):
    video, pipe = tmp_path / "v.ts", tmp_path / "pipe"
    make_video(video, seconds=21, rate=4)
    os.mkfifo(pipe)
    with Command("watch", folder, pipe) as watch, pipe.open("wb", buffering=0) as writer:
        writer.write(video.read_bytes())
        lines = [watch.line() for _ in range(3)]  # the pipe stays open, and silent
    assert lines[2].startswith("00:12-00:18  0.")


def test_serve_ends_well_when_its_terminal_goes(folder):
    ours, theirs = os.openpty()

    def take_terminal():
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    serve = subprocess.Popen(
        [sys.executable, "-m", "contentctr", "serve", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    try:
        assert "http://" in serve.stdout.readline()
        os.close(ours)  # the system sends SIGHUP
        assert serve.communicate(timeout=30) and serve.returncode == 0
    finally:
        serve.kill()
        serve.communicate()


def test_serve_keeps_its_rooms_and_takes_the_model_that_is_there_now(folder, tmp_path):
    run, state = tmp_path / "run", tmp_path / "state"
    shutil.copytree(folder, run / "one")
    (run / "best").symlink_to("one")
    other, config = make_model(spec=checkpoint.load(folder).spec, decoder_layers=3)
    spec = checkpoint.load(folder).spec
    checkpoint.save(run / "two", other, config=config, spec=spec, vocabulary=KNOWN, info={})
    ids = [checkpoint.load(run / name).model_id for name in ("one", "two")]
    posts = [make_post("x", k, visual=[k / 9] * 16, text=[0.1] * 16) for k in range(12)]
    with Command("serve", run, "--port", 0, "--state", state) as serve:
        url = url_of(serve)
        libraries = Path(f"/proc/{serve.pid}/maps").read_text()
        assert not any(name in libraries for name in ("llvmlite", "/av/", "/scipy/"))
        scores = [httpx.post(f"{url}/v1/segments", json=post).json() for post in posts[:9]]
        assert {score["model"] for score in scores} == {ids[0]}
        (run / "next").symlink_to("two")
        (run / "next").rename(run / "best")
        serve.signal(signal.SIGHUP)
        for _ in range(300):
            if httpx.get(f"{url}/v1/info").json()["model"] == ids[1]:
                break
            time.sleep(0.1)
        second = httpx.post(f"{url}/v1/segments", json=posts[9]).json()
        assert second["model"] == ids[1] and len(second["curve"]) == 10
        assert httpx.post(f"{url}/v1/models", json={}).status_code == 403
    with Command("serve", run, "--port", 0, "--state", state, "--models", run) as serve:
        url = url_of(serve)
        assert httpx.get(f"{url}/v1/rooms").json()["rooms"][0]["score"] == second["score"]
        told = httpx.post(f"{url}/v1/models", json={"name": "one"}, timeout=30).json()
        assert (told["previous"]["id"], told["current"]["id"]) == (ids[1], ids[0])


def test_serve_and_worker_over_redis(folder, tmp_path):
    server = RedisServer(tmp_path / "redis")
    try:
        with Command("worker", folder, "--redis", server.url, "--partitions", 2):
            with Command("serve", folder, "--port", 0, "--redis", server.url) as serve:
                url = url_of(serve)
                body = make_post("x", 0, visual=[0.5] * 16, text=[0.1] * 16)
                answer = httpx.post(f"{url}/v1/segments", json=body, timeout=30)
                while answer.status_code in (202, 503):  # the worker may be starting still
                    answer = httpx.post(f"{url}/v1/segments", json=body, timeout=30)
                assert answer.json()["status"] in ("scored", "repeated")
                assert httpx.get(f"{url}/v1/rooms").json()["total"] == 1
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "--redis", "redis://127.0.0.1:9"], "does not answer"),
        (["worker", "--redis", "redis://127.0.0.1:9"], "does not answer"),
        (["worker", "--redis", "http://x"], "must be a Redis URL"),
        (["serve", "--api-key-file", "/none"], "/none"),
        (["watch", "video.mp4", "--out", __file__], "holds no scores of `watch` to append to"),
    ],
)
def test_wrong_use(folder, words, message):
    command = [sys.executable, "-m", "contentctr", words[0], str(folder), *words[1:]]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and message in found.stderr, found.stderr
