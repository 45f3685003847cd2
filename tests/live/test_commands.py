"""serve, worker and watch as commands: they start, work together, and end when they are told to."""

import json
import os
import signal
import subprocess
import sys

import httpx
import pytest

from contentctr.batch import DataSpec
from contentctr.encode import encoders
from contentctr.score import checkpoint
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
    """A command as a process; ended with SIGTERM, and must end well."""

    def __init__(self, *arguments, **environment):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "contentctr", *map(str, arguments)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    def __enter__(self):
        return self

    def line(self):
        return self._process.stdout.readline()

    def __exit__(self, *failed):
        self._process.send_signal(signal.SIGTERM)
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
        watching = ["watch", video, folder, "--comments", chat, "--room", "x", "--idle", 0.5]
        with Command(*watching, "--url", url, **key) as watch:
            lines = [watch.line() for _ in range(3)]
        room = httpx.get(f"{url}/v1/rooms/x", headers=headers).json()
    assert [p["index"] for p in room["curve"]] == [0, 1, 2] and room["comments"] == ["hello"]
    out = tmp_path / "scores.jsonl"
    with Command(*watching, "--out", out) as watch:
        alone = [watch.line() for _ in range(3)]
    assert alone == lines and all("(simulated)" in line for line in lines)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [f["score"] for f in found] == pytest.approx([p["score"] for p in room["curve"]])


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
        (["worker", "--redis", "http://x"], "Redis URL"),
        (["serve", "--api-key-file", "/none"], "/none"),
        (["watch", "video.mp4", "--out", __file__], "holds no scores of `watch` to append to"),
    ],
)
def test_wrong_use(folder, words, message):
    at = 2 if words[0] == "watch" else 1
    command = [sys.executable, "-m", "contentctr", *words[:at], str(folder), *words[at:]]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and message in found.stderr, found.stderr
