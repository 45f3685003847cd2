"""The service over HTTP: scores, ranking, events, limits, and how it says no."""

import asyncio
import contextlib
import dataclasses
import gc
import json
import re
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import torch

from contentctr.errors import InputError
from contentctr.live.ranking import Candidate, RankSettings, RoomScore, rank
from contentctr.live.scorer_segments import LiveSegment, as_batch
from contentctr.live.service.batching import Batcher, BusyError
from contentctr.live.service.events import EventLog
from contentctr.live.service.limits import TokenBuckets
from contentctr.live.service.routes import EventStream
from contentctr.live.service.settings import ServiceSettings
from contentctr.live.shares import segment_shares
from live_service import (
    MORE,
    SPEC,
    N,
    W,
    X,
    b64,
    half,
    make_engine,
    make_model,
    make_picture,
    make_post,
    running,
)


@pytest.fixture(scope="module")
def service():
    with running(make_engine(max_rooms=64)) as found:
        yield found


def post(client, *arguments, **fields):
    return client.post("/v1/segments", json=make_post(*arguments, **fields))


def live(room="r1", index=0):
    fields = make_post(room, index)
    return LiveSegment(
        room_id=room,
        streamer_id="a",
        index=index,
        has_speech=True,
        has_comments=False,
        visual=np.array(fields["visual"], np.float32),
        text=np.array(fields["text"], np.float32),
    )


def test_scores_are_the_scorers_and_base64_says_the_same(service):
    client, _ = service
    scorer = make_engine().scorer
    for index in range(N + 3):
        fields = make_post("same", index)
        if index % 2:
            fields |= {name: half(fields[name]) for name in ("visual", "text")}
        answer = client.post("/v1/segments", json=fields)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        [expected] = scorer.score([live("same", index)])
        assert abs(found["score"] - expected.score) <= 1e-6
        assert (found["status"], found["index"], found["target_index"]) == ("scored", index, index)
        assert [p["index"] for p in found["curve"]] == list(range(index + 1))
        assert found["curve"][-1]["score"] == found["score"]
        assert found["highlight"] == found["curve"][-1]["highlight"]
    marks = [p["highlight"] for p in found["curve"]]
    scores = [p["score"] for p in found["curve"]]
    assert marks[int(np.argmax(scores))] and sum(marks) == 3  # ceil(11 / 5)


def test_posted_counts_sound_and_words_are_read():
    scorer = make_engine(sizes=MORE).scorer
    with running(make_engine(sizes=MORE)) as (client, _):
        info = client.get("/v1/info").json()
        assert (info["reads_counts"], info["sound_dim"], info["words_dim"]) == (True, X, W)
        for index in range(4):
            counts = {"viewers": 10, "clickers": index, "likes": 5} if index % 2 else None
            heard = np.full(X, index / 4, np.float32) if index != 2 else None
            sound = None if heard is None else half(heard) if index else heard.tolist()
            words = np.array([0, 0, 0, 3, index, 0], np.float32) if index else None
            said = None if words is None else half(words)
            body = make_post("c", index, counts=counts, sound=sound, words=said)
            found = client.post("/v1/segments", json=body).json()
            one = dataclasses.replace(live("c", index), counts=counts, sound=heard, words=words)
            [expected] = scorer.score([one])
            assert abs(found["score"] - expected.score) <= 1e-6
            assert abs(sum(found["shares"]["last"].values()) - 1) < 1e-6


def test_repeated_and_late_segments(service):
    client, _ = service
    first = post(client, "again", 3).json()
    again = post(client, "again", 3, seed=9).json()
    assert (again["status"], again["score"]) == ("repeated", first["score"])
    late = post(client, "again", 1).json()
    assert (late["status"], late["score"], late["highlight"]) == ("late", None, False)
    assert [p["index"] for p in late["curve"]] == [3]


def test_shares_are_those_of_attention_by_hand():
    model, _ = make_model()
    model.eval()
    batch = as_batch([live(index=k) for k in range(3)], [0, 1, 2], SPEC)
    found = segment_shares(model, batch)
    visual, text = model.fusion(batch)
    latent = model.streamer(batch.streamer_B)
    layer = model.block.layers[0]
    attention = layer.attention
    with torch.no_grad():
        for row in range(3):
            query = layer.norm_latent(latent[row])
            memory = [layer.norm_tokens(visual[row, 0]), layer.norm_tokens(text[row, 0]), query]
            shares = torch.zeros(3)
            width = 8
            for head in range(2):
                part = slice(head * width, (head + 1) * width)
                q = attention.query(query)[part]
                dots = torch.stack([attention.key(m)[part] @ q for m in memory])
                shares += (dots / width**0.5).softmax(0) / 2
            got = found[row].first
            assert torch.allclose(torch.tensor([got.visual, got.text, got.latent]), shares)
            last = found[row].last
            assert abs(last.visual + last.text + last.latent - 1) < 1e-6
            assert last != got


def test_models_without_a_perceiver_have_no_shares(service):
    client, _ = service
    shares = post(client, "shares", 0).json()["shares"]
    assert set(shares) == {"first", "last"} and abs(sum(shares["first"].values()) - 1) < 1e-6
    engine = make_engine(sizes=MORE)
    told = [
        dataclasses.replace(live(index=k), counts={"likes": k}, sound=np.full(X, k, np.float32))
        for k in range(3)
    ]
    for taken in engine.score(told):
        parts = dataclasses.asdict(taken.shares.last)
        assert abs(sum(parts.values()) - 1) < 1e-6 and min(parts.values()) > 0
    assert not make_engine("without_text").has_shares
    assert make_engine("without_text").score([live()])[0].shares is None


def test_rooms_are_ranked_and_fade():
    now = [1000.0]
    with running(clock=lambda: now[0]) as (client, _):
        for room in ("x", "y", "z"):
            post(client, room, 0, title=room.upper(), comments=["hi"])
        found = client.get("/v1/rooms").json()
        assert found["total"] == 3 and found["now"] == 1000.0
        scores = [r["score"] for r in found["rooms"]]
        assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
        assert [r["position"] for r in found["rooms"]] == [1, 2, 3]
        best = found["rooms"][0]
        assert (best["title"], best["comments"]) == (best["room_id"].upper(), ["hi"])
        now[0] += 75.0  # two and a half segments: half of the weight is left
        other = found["rooms"][2]["room_id"]
        post(client, other, 1)
        ranked = client.get("/v1/rooms").json()["rooms"]
        fades = {r["room_id"]: r["fade"] for r in ranked}
        assert fades[best["room_id"]] == 0.5 and fades[other] == 1.0
        assert (
            client.get("/v1/rooms", params={"limit": 1, "offset": 1}).json()["rooms"][0]["room_id"]
            == ranked[1]["room_id"]
        )
        one = client.get(f"/v1/rooms/{other}").json()
        assert [p["index"] for p in one["curve"]] == [0, 1]
        assert one["position"] == [r["room_id"] for r in ranked].index(other) + 1


def test_rank_is_equation_16():
    now = [1000.0]
    with running(clock=lambda: now[0]) as (client, backend):
        score = {room: post(client, room, 0).json()["score"] for room in ("x", "y")}
        now[0] += 66.0
        base = {
            "x": {"ctr": 0.1, "lvtr": 0.3},
            "y": {"ctr": 0.2, "lvtr": 0.1},
            "new": {"ctr": 0.15, "lvtr": 0.2},
        }
        body = {
            "candidates": [{"room_id": r, "base": b} for r, b in base.items()],
            "content_weight": 2.0,
            "base_weights": {"lvtr": 0.5},
        }
        found = client.post("/v1/rank", json=body).json()
        fade = 3 - 66 / 30
        for place in found["ranking"]:
            room, terms = place["room_id"], base[place["room_id"]]
            content = 2 * fade * score.get(room, 0)
            assert place["parts"] == pytest.approx(
                {"ctr": terms["ctr"], "lvtr": terms["lvtr"] / 2, "content": content}
            )
            assert place["total"] == pytest.approx(sum(place["parts"].values()))
            assert place["absent"] == ("no score" if room == "new" else None)
        scores = {r: RoomScore(score=s, ended_at=1000.0) for r, s in score.items()}
        expected = rank(
            [Candidate(room_id=r, base=b) for r, b in base.items()],
            scores,
            now[0],
            RankSettings(content_weight=2.0, base_weights={"lvtr": 0.5}),
        )
        assert [p["room_id"] for p in found["ranking"]] == [p.room_id for p in expected]
        assert client.post("/rank", json=body).json()["ranking"] == found["ranking"]
        assert client.post("/rank", json={"candidates": []}).json()["ranking"] == []


def test_thumbnails(service):
    client, _ = service
    assert client.get("/v1/rooms/thumb/thumbnail").status_code == 404
    for index, kind in enumerate(("PNG", "JPEG")):
        data = make_picture(kind)
        assert post(client, "thumb", index, thumbnail=b64(data)).status_code == 200
        path = client.get("/v1/rooms/thumb").json()["thumbnail"]
        assert path == f"/v1/rooms/thumb/thumbnail?v={index}"
        picture = client.get(path)
        assert (picture.content, picture.headers["content-type"]) == (data, f"image/{kind.lower()}")
    post(client, "thumb", 2)
    assert client.get("/v1/rooms/thumb").json()["thumbnail"].endswith("v=1")
    for wrong in (b64(b"GIF89a......"), "%%%%", b64(make_picture() + bytes(65_536))):
        answer = post(client, "thumb", 3, thumbnail=wrong)
        assert answer.status_code == 422 and "thumbnail" in answer.json()["detail"]


BAD = {
    "nan": (make_post(visual=[float("nan")] * 6), "visual"),
    "infinite": (make_post(text=[float("inf")] + [0.0] * 3), "text"),
    "too large": (make_post(visual=[1e6] * 6), "visual"),
    "nan in base64": (make_post(visual=half([np.nan] * 6)), r"visual\[0\]"),
    "width": (make_post(visual=[0.5] * 7), "6 numbers"),
    "width in base64": (make_post(text=half([0.5] * 3)), "4 numbers"),
    "odd base64": (make_post(text=b64(b"abc")), "float16"),
    "not base64": (make_post(text="ab!c"), "base64"),
    "strings": (make_post(visual=["0.5"] * 6), "visual"),
    "text without flags": (make_post(has_speech=False), "has_speech"),
    "flags without text": (make_post(text=None), "text"),
    "negative index": (make_post(index=-1, seed=0), "index"),
    "index beyond": (make_post(index=2**31, seed=0), "index"),
    "index in words": (make_post(index=1) | {"index": "1"}, "index"),
    "room id": (make_post("a/b"), "room_id"),
    "empty room id": (make_post("", seed=0), "room_id"),
    "unknown field": (make_post(score=0.5), "score"),
    "lone surrogate": (make_post(streamer_id="\ud800"), "streamer_id"),
    "surrogate as a field": (make_post(**{"\ud800": 1}), "unicode"),
    "no encoder": (make_post(visual=None, text=None, has_speech=False, speech="hi"), "encode"),
    "nan time": (make_post(ended_at=float("nan")), "ended_at"),
    "comments": (make_post(comments=["x" * 501]), "comments"),
    "unknown count": (make_post(counts={"coins": 1}), "counts.coins"),
    "negative count": (make_post(counts={"likes": -1}), "counts.likes"),
    "count in parts": (make_post(counts={"likes": 0.5}), "counts.likes"),
    "count beyond": (make_post(counts={"likes": 2**32}), "counts.likes"),
    "sound's width": (make_post(sound=[0.5] * 4), "5 numbers"),
    "sound's base64": (make_post(sound="ab!c"), "sound"),
    "more clickers": (make_post(counts={"clickers": 2, "viewers": 1}), "counts.clickers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_segments_are_told_what_is_wrong(service, name):
    client, backend = service
    body, pattern = BAD[name]
    answer = client.post(
        "/v1/segments", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert re.search(pattern, answer.json()["detail"]), answer.text
    assert backend.store.room("r1") is None


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b'{"room_id": "\xff"}', b"[" * 100_000, b"9" * 5000, b"", b"null"]
)
def test_what_is_no_json_is_refused(service, body):
    client, _ = service
    answer = client.post("/v1/segments", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["detail"]


@pytest.mark.parametrize("depth", [50, 200, 900, 5000])
@pytest.mark.parametrize("path", ["/v1/segments", "/v1/rank"])
def test_deep_json_is_refused(service, path, depth):
    client, _ = service
    headers = {"content-type": "application/json"}
    for begin, inner, end in (
        ("", ("[", "]"), ""),
        ("", ('{"a":', "}"), ""),
        ('{"room_id":"a","index":0,"visual":', ("[", "]"), "}"),
        ('{"candidates":[{"room_id":"a","base":', ('{"a":', "}"), "}]}"),
    ):
        body = begin + inner[0] * depth + "1" + inner[1] * depth + end
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code in (400, 422) and len(answer.text) < 1000


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1e999999", "NaN", "-Infinity"])
def test_huge_numbers_are_refused(service, number):
    client, _ = service
    headers = {"content-type": "application/json"}
    for path, text in (
        ("/v1/segments", '{"room_id":"a","index":%s}'),
        ("/v1/segments", '{"room_id":"a","index":0,"ended_at":%s}'),
        ("/v1/segments", '{"room_id":"a","index":0,"visual":[%s]}'),
        ("/v1/rank", '{"candidates":[],"now":%s}'),
        ("/v1/rank", '{"candidates":[{"room_id":"a","base":{"x":%s}}]}'),
    ):
        answer = client.post(path, content=text % number, headers=headers)
        assert answer.status_code in (400, 422), answer.text


def test_unknown_rooms_and_paths(service):
    client, _ = service
    for method, path in (
        ("GET", "/v1/rooms/none"),
        ("DELETE", "/v1/rooms/none"),
        ("GET", "/v1/none"),
        ("GET", "/%00"),
        ("GET", "/%ff%fe"),
        ("GET", "/..%2f..%2fservice.py"),
        ("GET", "/" + "x" * 5000),
        ("GET", "/page/%2e%2e/service.py"),
    ):
        answer = client.request(method, path)
        assert answer.status_code == 404 and answer.json()["detail"], path
    assert client.get("/v1/rooms/a b").status_code == 422
    assert client.get("/v1/rooms", params={"limit": 501}).status_code == 422
    assert client.delete("/v1/segments").status_code == 405


def test_what_a_path_allows_is_told(service):
    client, _ = service
    for method, path, allowed in (
        ("PUT", "/v1/rooms/x", "DELETE, GET"),
        ("DELETE", "/v1/segments", "POST"),
        ("GET", "/v1/segments", "POST"),
        ("POST", "/v1/rooms", "GET"),
        ("GET", "/v1/rank", "POST"),
        ("POST", "/healthz", "GET"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
        ("POST", "/app.js", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), path


def test_a_room_has_one_streamer(service):
    client, _ = service
    post(client, "one", 0)
    answer = post(client, "one", 1, streamer_id="b")
    assert answer.status_code == 409 and "'a'" in answer.json()["detail"]
    assert post(client, "one", 1).json()["status"] == "scored"


def test_bad_ranking_requests(service):
    client, _ = service
    for body, pattern in (
        (
            {
                "candidates": [
                    {"room_id": "x", "base": {"a": 1}},
                    {"room_id": "x", "base": {"a": 1}},
                ]
            },
            "once",
        ),
        (
            {
                "candidates": [
                    {"room_id": "x", "base": {"a": 1}},
                    {"room_id": "y", "base": {"b": 1}},
                ]
            },
            "same",
        ),
        ({"candidates": [{"room_id": "x", "base": {"content": 1}}]}, "content"),
        ({"candidates": [{"room_id": "x", "base": {"a": 1}}], "base_weights": {"b": 1}}, "'b'"),
        ({"candidates": [{"room_id": "x", "base": {"a": 1e308}}]}, "1000000000000"),
        ({"candidates": [{"room_id": str(k), "base": {}} for k in range(5001)]}, "5000"),
    ):
        answer = client.post("/v1/rank", json=body)
        assert answer.status_code == 422 and pattern in answer.json()["detail"], answer.text


def test_rooms_end_and_are_forgotten():
    with running(make_engine(max_rooms=2)) as (client, backend):
        for room in ("x", "y"):
            post(client, room, 0)
        answer = post(client, "z", 0)
        assert answer.status_code == 429 and answer.headers["retry-after"] == "30"
        assert client.delete("/v1/rooms/x").status_code == 204
        assert client.delete("/v1/rooms/x").status_code == 404
        assert post(client, "z", 0).status_code == 200
        assert list(backend.engine.scorer.rooms) == ["y", "z"]
        assert {r["room_id"] for r in client.get("/v1/rooms").json()["rooms"]} == {"y", "z"}


def test_idle_rooms_end_by_themselves():
    with running(forget_after_s=0.2) as (client, backend):
        post(client, "x", 0)
        for _ in range(100):
            time.sleep(0.02)
            if client.get("/v1/rooms").json()["total"] == 0:
                break
        assert len(backend.store) == 0 and len(backend.engine.scorer) == 0


def test_with_look_ahead_the_first_segments_are_early_and_their_room_ends_too():
    with running(make_engine(sizes={"horizon": -2}), forget_after_s=0.3) as (client, backend):
        answers = [post(client, "x", index).json() for index in range(4)]
        assert [a["status"] for a in answers] == ["early", "early", "scored", "scored"]
        assert [a["target_index"] for a in answers] == [-2, -1, 0, 1]
        assert answers[0]["score"] is None and answers[2]["score"] is not None
        assert post(client, "y", 0).json()["status"] == "early"
        assert len(backend.engine.scorer) == 2
        for _ in range(100):
            time.sleep(0.02)
            if not len(backend.engine.scorer):
                break
        assert len(backend.store) == 0 and len(backend.engine.scorer) == 0


def test_an_early_room_can_be_deleted_once():
    with running(make_engine(sizes={"horizon": -2})) as (client, backend):
        assert post(client, "x", 0).json()["status"] == "early"
        assert client.delete("/v1/rooms/x").status_code == 204
        assert client.delete("/v1/rooms/x").status_code == 404
        assert len(backend.store) == 0 and len(backend.engine.scorer) == 0


def test_a_new_run_without_a_score_yet_keeps_its_room():
    with running(make_engine(sizes={"horizon": -2}), forget_after_s=0.8) as (client, backend):
        for index in range(3):
            post(client, "x", index)
        until = time.monotonic() + 1.6
        for index in range(100):  # more runs than could be told from one another by their age
            post(client, "x", 0, run=f"run{index}")
            assert len(backend.store) == 1
            if time.monotonic() > until:
                break
            time.sleep(0.1)


def test_large_and_slow_bodies():
    settings = ServiceSettings(max_body=10_000, body_timeout_s=0.2)
    with running(settings=settings) as (client, _):

        def pieces(count):
            for _ in range(count):
                yield b" " * 1000

        assert client.post("/v1/segments", content=b"x" * 10_001).status_code == 413
        headers = {"content-type": "application/json"}
        answer = client.post("/v1/segments", content=pieces(11), headers=headers)
        assert answer.status_code == 413 and "10000" in answer.json()["detail"]

        def slow():
            yield b"{"
            time.sleep(0.5)
            yield b"}"

        assert client.post("/v1/segments", content=slow(), headers=headers).status_code == 408
        assert post(client).status_code == 200


def test_keys_are_asked_for():
    with running(settings=ServiceSettings(api_key="secret")) as (client, _):
        for headers in ({}, {"X-API-Key": "secreT"}, {"X-API-Key": "secret "[:-2]}):
            for path in ("/v1/rooms", "/v1/info", "/v1/events"):
                assert client.get(path, headers=headers).status_code == 401
            assert client.post("/rank", json={}, headers=headers).status_code == 401
        assert client.get("/v1/rooms", headers={"X-API-Key": "secret"}).status_code == 200
        for path in ("/healthz", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200


def test_rates_are_limited():
    with running(settings=ServiceSettings(rate=1.0, burst=3.0)) as (client, _):
        codes = [client.get("/v1/rooms").status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        answer = client.get("/v1/rooms")
        assert answer.headers["retry-after"] == "1" and answer.json()["detail"]
        assert client.get("/app.js").status_code == 429
        assert client.get("/healthz").status_code == 200


def test_token_buckets_fill_and_are_bounded():
    now = [0.0]
    buckets = TokenBuckets(2.0, 3.0, clients=2, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]
    now[0] = 100.0
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    buckets.take("b")
    buckets.take("c")
    assert buckets.take("a") == 0 and len(buckets._buckets) == 2


def read_events(lines, count):
    """The next `count` events of an open stream."""
    events, fields = [], {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and "event" in fields:
            events.append((fields["id"], fields["event"], json.loads(fields["data"])))
            fields = {}
            if len(events) == count:
                return events
    return events


def test_events_of_new_scores_and_a_replay_after_a_break():
    with running() as (client, backend):
        with client.stream("GET", "/v1/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            assert next(lines) == "retry: 2000"
            answer = post(client, "x", 0, title="X", thumbnail=b64(make_picture())).json()
            post(client, "y", 0)
            (first, kind, data), second = read_events(lines, 2)
        assert kind == "score" and data["score"] == answer["score"]
        assert data["curve"] == answer["curve"] and data["shares"] == answer["shares"]
        assert (data["title"], data["thumbnail"]) == ("X", "/v1/rooms/x/thumbnail?v=0")
        post(client, "x", 0)  # repeated: nothing new
        post(client, "x", 1)
        client.delete("/v1/rooms/y")
        with client.stream("GET", "/v1/events", headers={"Last-Event-ID": first}) as stream:
            missed = read_events(stream.iter_lines(), 3)
        assert missed[0] == second
        assert [m[1:] for m in missed[1:]][1] == ("end", {"room_id": "y", "reason": "ended"})
        assert (missed[1][2]["room_id"], missed[1][2]["index"]) == ("x", 1)
        params = {"last_event_id": first, "room_id": "y"}
        with client.stream("GET", "/v1/events", params=params) as stream:
            assert read_events(stream.iter_lines(), 2) == [missed[0], missed[2]]
        for cursor in ("other-1", "x", first.split("-")[0] + "-99"):
            with client.stream("GET", "/v1/events", headers={"Last-Event-ID": cursor}) as stream:
                assert read_events(stream.iter_lines(), 1)[0][1] == "reset"
        for _ in range(100):
            if backend.events.listeners == 0:
                break
            time.sleep(0.02)
        assert backend.events.listeners == 0


def test_a_listener_that_the_log_has_passed_starts_anew():
    async def main():
        log = EventLog(kept=3)
        for k in range(5):
            log.append("score", "x", {"k": k})
        stream = log.listen(f"{log._boot}-1")
        texts = [await anext(stream) for _ in range(2)]
        assert "event: reset" in texts[1] and f"id: {log._boot}-5" in texts[1]
        log.append("score", "x", {"k": 5})
        assert '"k":5' in await anext(stream)
        await stream.aclose()
        stream = log.listen(f"{log._boot}-3")
        assert ['"k":3' in t or '"k":4' in t for t in [await anext(stream) for _ in range(3)]] == [
            False,
            True,
            True,
        ]
        quiet = log.listen(None, ping_s=0.01)
        assert [await anext(quiet), await anext(quiet)] == ["retry: 2000\n\n", ": ping\n\n"]
        log.close()
        assert len([text async for text in stream]) <= 1
        assert log.listeners == 1  # `quiet` has not been asked for its end

    asyncio.run(main())


def test_a_listener_of_a_quiet_room_is_told_that_the_stream_lives():
    async def main():
        log = EventLog()
        stream = log.listen(None, room_id="quiet", ping_s=0.1)
        await anext(stream)
        ping = asyncio.create_task(anext(stream))
        for k in range(100):
            if ping.done():
                break
            log.append("score", "loud", {"k": k})
            await asyncio.sleep(0.01)
        assert await ping == ": ping\n\n" and 5 < k < 99
        log.append("score", "quiet", {"k": k})
        assert '"k":' in await anext(stream)
        await stream.aclose()

    asyncio.run(main())


def test_a_client_that_leaves_while_it_is_sent_to_frees_its_place_at_once():
    async def main():
        log, gone = EventLog(), asyncio.Event()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message.get("body"):
                assert log.listeners == 1
                gone.set()
                await asyncio.Event().wait()

        stream = EventStream(log.listen(None))
        await stream({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
        assert log.listeners == 0

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_listeners_are_limited():
    with running(settings=ServiceSettings(max_listeners=1)) as (client, _):
        with client.stream("GET", "/v1/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            refused = client.get("/v1/events")
            assert refused.status_code == 503 and refused.headers["retry-after"] == "1"


def test_listeners_that_come_at_once_are_as_many_as_there_may_be():
    limits = ServiceSettings(max_listeners=8, listeners_per_client=5)
    with running(settings=limits) as (client, backend), contextlib.ExitStack() as stack:
        address = client.base_url.host, client.base_url.port
        socks = []
        for number in range(40):
            source = (f"127.0.0.{2 + number % 2}", 0)
            one = socket.create_connection(address, source_address=source)
            socks.append(stack.enter_context(one))
        for one in socks:
            one.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        codes = [(one.getsockname()[0], one.recv(12)[-3:]) for one in socks]
        counts = Counter(codes)
        let_in = [counts[f"127.0.0.{k}", b"200"] for k in (2, 3)]
        assert sum(let_in) == 8 and max(let_in) <= 5
        assert counts.total() == 40 and {code for _, code in counts} == {b"200", b"503"}
        assert backend.events.listeners == 8
        stack.close()
        for _ in range(100):
            if not backend.events.listeners:
                break
            time.sleep(0.02)
        assert backend.events.listeners == 0


def slow_engine(monkeypatch, seconds, **options):
    engine = make_engine(**options)
    score = engine.score

    def slowly(segments):
        time.sleep(seconds)
        return score(segments)

    monkeypatch.setattr(engine, "score", slowly)
    return engine


def test_a_full_queue_is_503_and_waiting_requests_are_batched(monkeypatch):
    engine = slow_engine(monkeypatch, 0.15, batch_size=4, max_rooms=64)
    with running(engine, queue_size=4) as (client, backend):
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda k: post(client, f"q{k}", 0), range(24)))
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 503} and codes.count(503) >= 12
        refused = next(a for a in answers if a.status_code == 503)
        assert "wait" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "1"
        text = client.get("/metrics").text
        assert f'contentctr_segments_total{{status="scored"}} {codes.count(200):.1f}' in text
        batches = float(text.split("contentctr_batch_size_count ")[1].split("\n")[0])
        assert batches < codes.count(200)
        assert 'contentctr_requests_total{path="/v1/segments",status="503"}' in text


def test_ending_finishes_what_was_accepted(monkeypatch):
    engine = slow_engine(monkeypatch, 0.5)
    answers = []
    with running(engine) as (client, backend):

        def send(k):
            answers.append(post(client, f"e{k}", 0))

        def listen():
            with client.stream("GET", "/v1/events") as stream:
                answers.append(list(stream.iter_lines()))

        threads = [threading.Thread(target=send, args=(k,)) for k in range(4)]
        threads.append(threading.Thread(target=listen))
        for thread in threads:
            thread.start()
        time.sleep(0.25)
        assert not answers and backend.ready
    for thread in threads:
        thread.join(5)
    scored = [a for a in answers if isinstance(a, httpx.Response)]
    assert [a.status_code for a in scored] == [200] * 4
    assert len(answers) == 5  # the stream has ended too
    assert not backend.ready


def test_one_bad_item_is_not_the_others_and_a_fault_is_not_the_end():
    def work(items):
        if "fault" in items:
            raise RuntimeError("fault")
        return [ValueError(item) if item == "bad" else item.upper() for item in items]

    async def main():
        batcher = Batcher(work, wait_s=0.01)
        with pytest.raises(BusyError):
            await batcher.submit("early")
        batcher.start()
        found = await asyncio.gather(
            *(batcher.submit(item) for item in ("a", "bad", "b")), return_exceptions=True
        )
        assert found[0] == "A" and isinstance(found[1], ValueError) and found[2] == "B"
        with pytest.raises(RuntimeError):
            await batcher.submit("fault")
        assert await batcher.submit("c") == "C"
        waiting = [asyncio.create_task(batcher.submit(item)) for item in "defg"]
        await asyncio.sleep(0)
        await batcher.stop()
        assert await asyncio.gather(*waiting) == list("DEFG")
        with pytest.raises(BusyError):
            await batcher.submit("late")

    asyncio.run(main())


def test_what_waits_too_long_is_refused():
    now = [0.0]

    def work(items):
        now[0] += 0.1
        return items

    async def main():
        asyncio.get_running_loop().time = lambda: now[0]  # nothing here is due at a later time
        batcher = Batcher(work, wait_s=0, batch_size=1, max_wait_s=0.15)
        batcher.start()
        found = await asyncio.gather(*map(batcher.submit, range(6)), return_exceptions=True)
        assert found[:2] == [0, 1] and all(isinstance(f, BusyError) for f in found[2:])
        waiting = [asyncio.create_task(batcher.submit(item)) for item in range(4)]
        await asyncio.sleep(0)
        await batcher.stop()  # what was accepted is finished, however long it takes
        assert await asyncio.gather(*waiting) == [0, 1, 2, 3]

    asyncio.run(main())


def test_one_rooms_error_does_not_keep_the_others_from_their_scores():
    engine = make_engine(max_rooms=2)
    plain = make_engine().score([live("x"), live("x", 1), live("y")])
    other = live("x", 1)
    object.__setattr__(other, "streamer_id", "b")
    found = engine.score([live("x", 1), live("y"), other, live("x"), live("z")])
    assert [type(f).__name__ for f in found] == [
        "Taken",
        "Taken",
        "InputError",
        "Taken",
        "RoomsFullError",
    ]
    for got, expected in ((found[3], plain[0]), (found[0], plain[1]), (found[1], plain[2])):
        assert abs(got.scored.score - expected.scored.score) < 1e-6


def test_every_answer_has_the_security_headers(service):
    client, _ = service
    for path in ("/healthz", "/v1/rooms", "/v1/none", "/openapi.json"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_info_and_openapi(service):
    client, _ = service
    info = client.get("/v1/info").json()
    assert info["simulated"] is True and (info["visual_dim"], info["window_len"]) == (6, N)
    assert (info["target"], info["target_name"]) == ("ctr", "CTR")
    schema = client.get("/openapi.json").json()
    assert schema["components"]["schemas"]["SegmentIn"]["examples"]
    assert {"/v1/segments", "/v1/rank", "/v1/events", "/healthz"} <= set(schema["paths"])
    assert client.get("/readyz").json() == {"status": "ready"}


def test_a_port_in_use_is_one_error_and_no_thread_dies_of_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1, port {port}: in use"):
            with running(port=port):
                pass
