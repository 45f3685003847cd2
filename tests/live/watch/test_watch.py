"""A room watched while it is written: pictures, comments and features as offline."""

import dataclasses
import functools
import http.server
import json
import threading
import time
from contextlib import closing

import numpy as np
import polars as pl
import pytest

from contentctr.batch import DataSpec
from contentctr.encode import encoders
from contentctr.encode.segments import encode_segments
from contentctr.errors import InputError
from contentctr.live.encoding import LiveEncoder
from contentctr.live.watch.client import Client
from contentctr.live.watch.video import GrowingChat, watch, watch_video
from contentctr.live.watch.watcher import Watcher, score_at, score_here
from contentctr.rooms.media import frame_times, frames_at
from contentctr.rooms.room import Media
from contentctr.store.rooms import SEGMENTS_SCHEMA
from live_service import b64, half, make_engine, make_picture, make_post, running
from make import make_table
from tiny_models import make_tiny_bert, make_tiny_swin
from videos import make_video, number

SPEC = DataSpec(
    segment_seconds=6.0, frames_per_segment=3, visual_dim=16, text_dim=16, simulated=True
)
WATCH = {"idle_s": 0.3, "poll_s": 0.01}


def numbers(segments):
    return [[number(picture) for picture in segment.pictures] for segment in segments]


def offline(path, count, spec=SPEC):
    times = [
        t
        for k in range(count)
        for t in frame_times(6.0 * k, 6.0 * (k + 1), spec.frames_per_segment)
    ]
    found = [number(image) for image in frames_at(Media(path=path, kind="video"), times)]
    return np.reshape(found, (count, spec.frames_per_segment)).tolist()


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv"])
@pytest.mark.parametrize("frames", [1, 3, 4])
def test_the_pictures_are_the_offline_ones(tmp_path, suffix, frames):
    path = tmp_path / f"v.{suffix}"
    make_video(path, seconds=20, rate=4, offset=1.5 if suffix == "ts" else 0.0)
    spec = dataclasses.replace(SPEC, frames_per_segment=frames)
    segments = list(watch_video(str(path), spec, **WATCH))
    assert [s.index for s in segments] == [0, 1, 2]  # and 2 s that are not scored
    assert (segments[2].start_s, segments[2].end_s) == (12.0, 18.0)
    assert numbers(segments) == offline(path, 3, spec)


def test_few_and_uneven_frames(tmp_path):
    path = tmp_path / "v.ts"
    make_video(path, stamps=[0, 500, 900, 5900, 14_000, 14_100, 30_100])
    segments = list(watch_video(str(path), SPEC, **WATCH))
    assert numbers(segments) == offline(path, 5)


def test_segments_come_while_the_file_is_written(tmp_path):
    whole, path = tmp_path / "whole.ts", tmp_path / "v.ts"
    make_video(whole, seconds=60, rate=4, gop=8)
    data = whole.read_bytes()
    path.write_bytes(data[:1000])
    sizes, segments = [], []

    def write():
        with path.open("ab") as file:
            for start in range(1000, len(data), 20_000):
                file.write(data[start : start + 20_000])
                file.flush()
                time.sleep(0.03)

    def take(segment, comments):
        segments.append(segment)
        sizes.append(path.stat().st_size)

    writer = threading.Thread(target=write)
    writer.start()
    assert watch(str(path), SPEC, take, **WATCH) == 9
    writer.join()
    assert sizes[0] < len(data) / 2
    assert numbers(segments) == offline(whole, 9)


def test_a_stream_over_http(tmp_path):
    make_video(
        tmp_path / "live.m3u8",
        seconds=20,
        rate=4,
        gop=8,
        fmt="hls",
        options={"hls_time": "2", "hls_list_size": "0"},
    )
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/live.m3u8"
        segments = list(watch_video(url, SPEC))
        server.shutdown()
        thread.join()
    plain = tmp_path / "v.ts"
    make_video(plain, seconds=20, rate=4, gop=8)
    assert numbers(segments) == offline(plain, 3)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_what_cannot_be_watched(tmp_path):
    bad = tmp_path / "bad.ts"
    bad.write_bytes(b"x" * 1000)
    for source in (str(tmp_path / "none.ts"), str(bad), "http://127.0.0.1:9/none.m3u8"):
        with pytest.raises(InputError, match="no such|cannot be opened"):
            list(watch_video(source, SPEC, **WATCH))


def line(t, text, user="u"):
    return json.dumps({"t": t, "user_id": user, "text": text}) + "\n"


def test_a_growing_chat(tmp_path):
    path = tmp_path / "chat.jsonl"
    chat = GrowingChat(path)
    assert chat.until(6.0) == []
    cut = line(13.0, "cut")
    path.write_text(
        line(8.0, "b")
        + line(7.0, " a ")
        + line(8.0, "b")
        + line(5.0, "late")
        + "{\n[]\n"
        + line(9.0, "  ")
        + line(12.0, "next")
        + cut[:10]
    )
    assert chat.until(12.0) == ["a", "b"]
    assert (chat.late, chat.bad) == (1, 2)
    with path.open("a") as file:
        file.write(cut[10:] + line(8.0, "b"))
    assert chat.until(18.0) == ["next", "cut"] and chat.late == 2
    assert chat.until(24.0) == []


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    visual = encoders.load_visual(str(make_tiny_swin(folder / "swin")))
    text = encoders.load_text(str(make_tiny_bert(folder / "bert")), pooling="cls", max_tokens=32)
    return visual, text


def expected_scores(models, path, comments, speech=None, spec=SPEC):
    """Scores of the offline features of a video and texts."""
    visual, text = models
    count = len(comments)
    table = (
        make_table([count])
        .with_columns(
            start_s=pl.col("segment") * 6.0,
            end_s=(pl.col("segment") + 1) * 6.0,
            speech=pl.Series(speech or [""] * count),
            comments=pl.Series(comments),
        )
        .select(list(SEGMENTS_SCHEMA))
    )
    found = encode_segments(
        Media(path=path, kind="video"),
        table,
        visual=visual,
        text=text,
        frames_per_segment=spec.frames_per_segment,
        comment_lag=spec.comment_lag,
    )
    engine = make_engine(spec=spec)
    scores = []
    for k in range(count):
        segment = dataclasses.replace(
            live_segment(k),
            visual=found.visual[k] if found.has_visual[k] else None,
            text=found.text[k] if found.has_speech[k] or found.has_comments[k] else None,
            has_speech=bool(found.has_speech[k]),
            has_comments=bool(found.has_comments[k]),
        )
        scores.append(engine.score([segment])[0].scored.score)
    return scores


def live_segment(index):
    from contentctr.live.scorer_segments import LiveSegment

    return LiveSegment(
        room_id="x",
        streamer_id="a",
        index=index,
        visual=None,
        text=None,
        has_speech=False,
        has_comments=False,
    )


def chat_of(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(
        line(1.0, "hello")
        + line(2.0, "dance more")
        + line(3.0, "Dance  more", user="v")
        + line(13.0, "wow wow wow")
    )
    return path, ["hello\ndance more\nDance  more", "", "wow wow wow"]


@pytest.mark.parametrize("lag", [0, 1])
def test_scores_are_those_of_the_stored_features(models, tmp_path, lag):
    spec = dataclasses.replace(SPEC, comment_lag=lag)
    path = tmp_path / "v.ts"
    make_video(path, seconds=19, rate=4)
    chat, comments = chat_of(tmp_path)
    found = []
    watcher = Watcher(
        LiveEncoder(*models, spec),
        score_here(make_engine(spec=spec)),
        room_id="x",
        streamer_id="a",
        report=found.append,
    )
    watch(str(path), spec, watcher.take, chat=GrowingChat(chat), chat_delay_s=0, **WATCH)
    expected = expected_scores(models, path, comments, spec=spec)
    assert np.ptp(expected) > 1e-3
    assert np.abs(np.array([f["score"] for f in found]) - expected).max() <= 1e-6
    assert [(f["start_s"], f["status"]) for f in found] == [
        (0.0, "scored"),
        (6.0, "scored"),
        (12.0, "scored"),
    ]


def test_a_watched_room_shows_in_the_service(models, tmp_path):
    path = tmp_path / "v.ts"
    make_video(path, seconds=19, rate=4)
    chat, comments = chat_of(tmp_path)
    found = []
    with (
        running(make_engine(spec=SPEC)) as (client, _),
        closing(Client(str(client.base_url))) as poster,
    ):
        score = score_at(poster, title="Songs")
        watcher = Watcher(
            LiveEncoder(*models, SPEC), score, room_id="x", streamer_id="a", report=found.append
        )
        watch(str(path), SPEC, watcher.take, chat=GrowingChat(chat), chat_delay_s=0, **WATCH)
        room = client.get("/v1/rooms/x").json()
        assert (room["title"], room["comments"]) == (
            "Songs",
            ["hello", "dance more", "Dance  more", "wow wow wow"],
        )
        assert client.get(room["thumbnail"]).headers["content-type"] == "image/jpeg"
        expected = expected_scores(models, path, comments)
        assert np.abs(np.array([p["score"] for p in room["curve"]]) - expected).max() <= 1e-6
        other = Watcher(
            LiveEncoder(*models, SPEC), score, room_id="x", streamer_id="b", report=found.append
        )
        with pytest.raises(InputError, match="409.*streamer_id"):
            watch(str(path), SPEC, other.take, **WATCH)


def test_a_service_that_encodes(models, tmp_path):
    path = tmp_path / "v.mp4"
    make_video(path, seconds=19, rate=4)
    times = [t for k in range(3) for t in frame_times(6.0 * k, 6.0 * (k + 1), 3)]
    frames = []
    for image in frames_at(Media(path=path, kind="video"), times):
        import io

        data = io.BytesIO()
        image.save(data, "PNG")
        frames.append(b64(data.getvalue()))
    speech = ["welcome everyone", "", "look now"]
    comments = ["hello\ndance more\nhello", "", "wow wow wow"]
    expected = expected_scores(models, path, comments, speech)
    encoder = LiveEncoder(*models, SPEC)
    with running(make_engine(spec=SPEC), encoder=encoder) as (client, _):
        assert client.get("/v1/info").json()["encodes"] is True
        for k in range(3):
            body = {
                "room_id": "x",
                "streamer_id": "a",
                "index": k,
                "frames": frames[3 * k : 3 * k + 3],
                "speech": f" {speech[k]} ",
                "comments": [f" {c}" for c in comments[k].split("\n")],
            }
            answer = client.post("/v1/segments", json=body).json()
            assert abs(answer["score"] - expected[k]) <= 1e-6
        alone = {"room_id": "y", "index": 0, "comments": ["wow"]}
        assert client.post("/v1/segments", json=alone).json()["status"] == "scored"
        for change, reason in (
            ({"frames": ["!!"]}, "frames"),
            ({"frames": [b64(b"\xff\xd8\xff damaged")]}, "damaged"),
            ({"frames": [b64(make_picture()[:50])]}, "damaged"),
            ({"frames": [b64(make_picture(size=(4096, 2305)))]}, "pixels"),
            ({"frames": [b64(make_picture())], "visual": half([0.5] * 16)}, "beside"),
            ({"frames": [b64(make_picture())] * 17}, "frames"),
            ({"speech": "x", "has_speech": True}, "has_speech"),
        ):
            answer = client.post("/v1/segments", json={"room_id": "y", "index": 1, **change})
            assert answer.status_code == 422 and reason in answer.json()["detail"], answer.text
    with running() as (client, _):
        body = {**make_post("x", 0), "frames": [], "visual": None, "text": None}
        assert client.post("/v1/segments", json=body).status_code == 422
