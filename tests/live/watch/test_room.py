"""A watched room put together: its texts, its features and its scores are those of offline."""

import dataclasses
import io
import json
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from contentctr.encode import encoders
from contentctr.encode.segments import encode_segments
from contentctr.encode.sound import SoundEncoder
from contentctr.errors import InputError
from contentctr.live.encoding import LiveEncoder
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.watch.client import Client
from contentctr.live.watch.logs import GrowingLog
from contentctr.live.watch.outbox import Outbox
from contentctr.live.watch.room import WatchedRoom
from contentctr.live.watch.waiting import SourceBrokenError
from contentctr.live.watch.watcher import LocalScorer, ServiceScorer, Watcher
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.folder import room_from_video
from contentctr.rooms.media import frame_times, frames_at
from contentctr.rooms.room import Media
from contentctr.store.statistics import COLUMNS
from live_service import MORE, b64, half, make_engine, make_picture, make_post, running
from recordings import join, record
from tiny_models import make_tiny_bert, make_tiny_swin
from videos import make_video
from watched import SPEC, as_offline, feed, in_thread, make_pipe, offline, require_equal, waiting


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    visual = encoders.load_visual(str(make_tiny_swin(folder / "swin")))
    text = encoders.load_text(str(make_tiny_bert(folder / "bert")), pooling="cls", max_tokens=32)
    return visual, text


def offline_scores(models, path, spec=SPEC, **logs):
    """Scores of a recording's features as `predict` makes them."""
    visual, text = models
    room = room_from_video(path, **logs)
    table = segment_rooms([room], segment_seconds=spec.segment_seconds)
    found = encode_segments(
        room.media,
        table,
        visual=visual,
        text=text,
        frames_per_segment=spec.frames_per_segment,
        comment_lag=spec.comment_lag,
        sound=SoundEncoder(),
        recording=room.sound,
        frames=spec.frames,
    )
    engine = make_engine(spec=spec, sizes=MORE)
    scores = []
    for k in range(table.height):
        segment = LiveSegment(
            room_id="x",
            streamer_id="a",
            index=k,
            visual=found.visual[k].astype(np.float32) if found.has_visual[k] else None,
            text=found.text[k].astype(np.float32)
            if found.has_speech[k] or found.has_comments[k]
            else None,
            has_speech=bool(found.has_speech[k]),
            has_comments=bool(found.has_comments[k]),
            sound=found.sound[k].astype(np.float32) if found.has_sound[k] else None,
            words=found.words[k] if found.has_words[k] else None,
            counts={n: v for n in COLUMNS if (v := table[n][k]) is not None},
        )
        scores.append(engine.score([segment])[0].scored.score)
    return scores


def write_logs(folder):
    """A chat and a transcript with lines on borders, over borders and outside of the room."""
    chat, speech = folder / "chat.jsonl", folder / "speech.srt"
    rows = [(1.0, "hello"), (2.0, " dance more "), (2.5, "Dance  more"), (5.9, "wow")]
    rows += [
        (6.0, "border"),
        (13.0, "x\ny"),
        (13.5, "wow wow wow"),
        (14.0, "  "),
        (17.9, "then"),
        (19.5, "end"),
        (90.0, "later"),
        (-2.0, "before"),
    ]
    chat.write_text(
        "".join(json.dumps({"t": t, "user_id": "u", "text": x}) + "\n" for t, x in rows)
    )
    cues = [(1, 4, "welcome everyone"), (5, 9, "one two three four"), (11, 12, "look now")]
    cues += [(16, 22, "this goes on to the very end")]
    speech.write_text(
        "".join(
            f"{n}\n00:00:{a:02d},000 --> 00:00:{b:02d},500\n{x}\n\n"
            for n, (a, b, x) in enumerate(cues, 1)
        )
    )
    return {"comments": chat, "speech": speech}


def watched_room(path, spec=SPEC, logs=None, delay_s=0.0, lines=None, sound=False, **options):
    report = (lambda line: None) if lines is None else lines.append
    opened = {part: GrowingLog(log, part, report=report) for part, log in (logs or {}).items()}
    return WatchedRoom(
        str(path), spec, waiting(report=report, **options), delay_s=delay_s, sound=sound, **opened
    )


def watch(path, **options):
    segments = []
    watched_room(path, **options).watch(segments.append)
    return segments


INPUTS = {
    "plain.ts": {},
    "turned.mp4": {"matrix": (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)},
    "late.mkv": {"pictures": (7.0, 21.4)},
    "jump.flv": {"jumps": [(9.0, 18_000.0, "both")]},
    "silent.ts": {"sound": None, "bframes": 2},
}


@pytest.mark.parametrize(("lag", "frames"), [(0, "exact"), (1, "exact"), (0, "keyframe")])
@pytest.mark.parametrize("name", [*INPUTS, "again.ts", "sized.flv"])
def test_live_is_offline_to_the_bit(models, tmp_path, name, lag, frames):
    spec = dataclasses.replace(SPEC, comment_lag=lag, frames=frames)
    path = tmp_path / name
    if name in INPUTS:
        record(path, 21.4, **INPUTS[name])
    else:
        one = record(tmp_path / f"a{path.suffix}", 9.0)
        other = record(tmp_path / f"b{path.suffix}", 12.4, first=45, height=32 + 16 * (lag + 1))
        join(path, one, other)
    logs, found, segments = write_logs(tmp_path), [], []
    watcher = Watcher(
        LiveEncoder(*models, spec, SoundEncoder()),
        LocalScorer(make_engine(spec=spec, sizes=MORE), found.append),
        room_id="x",
        streamer_id="a",
    )

    def take(segment):
        segments.append(segment)
        watcher.take(segment)

    watched_room(path, spec, logs, sound=True).watch(take)
    require_equal(as_offline(segments), offline(path, spec, **logs))
    expected = offline_scores(models, path, spec, **logs)
    if frames == "keyframe":  # the same pictures at other times would tell nothing
        assert expected != offline_scores(models, path, **logs)
    assert [s.counts["comment_count"] for s in segments] == [4, 1, 4, 1]
    assert any(s.sound.any() for s in segments) is (name != "silent.ts")
    assert len(expected) == 4 and np.ptp(expected) > 1e-4
    assert [f["score"] for f in found] == expected
    assert {f["status"] for f in found} == {"scored"}
    assert found[-1]["end_s"] == pytest.approx(21.4, abs=0.2)


def test_a_pipe_with_a_chat_that_grows(tmp_path):
    path = record(tmp_path / "v.flv", 20.0)
    logs = write_logs(tmp_path)
    expected = offline(path, **logs)
    whole = logs["comments"].read_bytes()
    logs["comments"].write_bytes(b"")
    pipe = make_pipe(tmp_path / "pipe")

    def write():
        with logs["comments"].open("ab", buffering=0) as chat, open(pipe, "wb", 0) as video:
            data = path.read_bytes()
            for k in range(20):  # the chat is a little late
                video.write(data[k * len(data) // 20 : (k + 1) * len(data) // 20])
                time.sleep(0.03)
                chat.write(whole[k * len(whole) // 20 : (k + 1) * len(whole) // 20])

    with in_thread(write):
        found = watch(pipe, logs=logs, delay_s=0.4)
    require_equal(as_offline(found), expected)


def test_a_segment_waits_for_its_lines_only_where_it_is_live(tmp_path):
    path = record(tmp_path / "v.ts", 20.0)
    logs = write_logs(tmp_path)
    # All was there before: nothing is waited for but the end of the file.
    begin, times = time.monotonic(), []
    room = watched_room(path, logs={"comments": logs["comments"]}, delay_s=30.0)
    room.watch(lambda segment: times.append(time.monotonic() - begin))
    assert len(times) == 3 and times[-1] < 10.0
    # The pictures come now, and no line: each segment waits for as long as it may.
    pipe = make_pipe(tmp_path / "pipe")
    logs["comments"].write_text("")
    with in_thread(feed, pipe, path.read_bytes(), 8, 0.05, threading.Event()):
        begin, times = time.monotonic(), []
        room = watched_room(pipe, logs={"comments": logs["comments"]}, delay_s=0.5)
        room.watch(lambda segment: times.append(time.monotonic() - begin))
    assert len(times) == 3 and times[0] >= 0.5


def test_late_lines_are_counted(tmp_path):
    path = record(tmp_path / "v.ts", 13.0)
    chat, lines = tmp_path / "c.jsonl", []
    chat.write_text(json.dumps({"t": 1.0, "user_id": "u", "text": "now"}) + "\n")

    def take(segment):
        with chat.open("a") as file:
            late = {"t": segment.start_s, "user_id": "u", "text": f"late {segment.index}"}
            file.write(json.dumps(late) + "\n")

    watched_room(path, logs={"comments": chat}, lines=lines).watch(take)
    assert lines[-1].endswith("; rows: 1 used, 2 too late")


def test_what_gives_no_segment_is_an_error(tmp_path):
    short = record(tmp_path / "short.ts", 2.0)
    with pytest.raises(InputError, match=r"too short: 2\.\d s, less than half of a segment of 6 s"):
        watch(short)
    sound = record(tmp_path / "v.m4a", 20.0, pictures=(30.0, 30.0))
    with pytest.raises(InputError, match="has sound alone: .* give its --comments or --speech"):
        watch(sound)
    logs = write_logs(tmp_path)
    require_equal(as_offline(watch(sound, logs=logs)), offline(sound, **logs))


def test_what_came_before_a_break_is_given_out(tmp_path, monkeypatch):
    path, lines = record(tmp_path / "v.ts", 20.0), []
    room = watched_room(path, logs=write_logs(tmp_path), lines=lines)

    def broken():
        yield from list(segments())[:2]
        raise SourceBrokenError("broke off")

    segments = room._video.segments
    monkeypatch.setattr(room._video, "segments", broken)
    with pytest.raises(SourceBrokenError):
        room.watch(lambda segment: None)
    assert room.count == 2 and any("rows: 5 used" in line for line in lines)


def test_a_user_who_ends_it_before_it_began_meets_no_error(tmp_path):
    room = watched_room(make_pipe(tmp_path / "pipe"), stopped=lambda: True)
    room.watch(lambda segment: None)
    assert room.count == 0


def test_a_watched_room_shows_in_the_service(models, tmp_path):
    path = record(tmp_path / "v.ts", 19.0)
    logs, found = write_logs(tmp_path), []
    with (
        running(make_engine(spec=SPEC, sizes=MORE)) as (client, _),
        closing(Client(str(client.base_url))) as poster,
    ):

        def watch_it(streamer_id):
            outbox = Outbox(poster, window_len=8, report=found.append)
            scorer = ServiceScorer(outbox, found.append, title="Songs")
            watcher = Watcher(
                LiveEncoder(*models, SPEC, SoundEncoder()),
                scorer,
                room_id="x",
                streamer_id=streamer_id,
            )
            watched_room(path, logs=logs, sound=True).watch(watcher.take)
            scorer.close()

        watch_it("a")
        room = client.get("/v1/rooms/x").json()
        assert room["title"] == "Songs" and room["comments"][:2] == ["hello", "dance more"]
        assert client.get(room["thumbnail"]).headers["content-type"] == "image/jpeg"
        expected = offline_scores(models, path, **logs)
        assert [p["score"] for p in room["curve"]] == pytest.approx(expected, abs=1e-6)
        assert [f["score"] for f in found] == [p["score"] for p in room["curve"]]
        with pytest.raises(InputError, match="409.*streamer_id"):
            watch_it("b")


def test_a_service_that_encodes(models, tmp_path):
    path = tmp_path / "v.mp4"
    make_video(path, seconds=19, rate=4)
    times = [t for k in range(3) for t in frame_times(6.0 * k, 6.0 * (k + 1), 3)]
    frames = []
    for image in frames_at(Media(path=path, kind="video"), times):
        data = io.BytesIO()
        image.save(data, "PNG")
        frames.append(b64(data.getvalue()))
    logs = write_logs(tmp_path)
    segments = offline(path, **logs)
    speech, comments = ([s[n] for s in segments] for n in (3, 4))
    expected = offline_scores(models, path, **logs)
    encoder = LiveEncoder(*models, SPEC)
    with running(make_engine(spec=SPEC, sizes=MORE), encoder=encoder) as (client, _):
        assert client.get("/v1/info").json()["encodes"] is True
        for k in range(3):
            body = {
                "room_id": "x",
                "streamer_id": "a",
                "index": k,
                "frames": frames[3 * k : 3 * k + 3],
                "speech": f" {speech[k]} ",
                "comments": [f" {c}" for c in comments[k].split("\n") if c],
                "counts": {
                    "comment_count": (4, 1, 4)[k],
                    "commenters": 1,
                    "comments_last_sixth": (1, 0, 1)[k],
                    "comments_last_third": (1, 0, 1)[k],
                    "comments_last_two_thirds": (3, 0, 2)[k],
                },
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
