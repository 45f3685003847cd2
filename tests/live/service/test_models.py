"""Another model in place of the one that serves, while rooms are live."""

import asyncio
import json
import shutil
import threading
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
import torch

from contentctr.cli.live import model_path
from contentctr.errors import InputError
from contentctr.live.known_rooms import Shown
from contentctr.live.outcomes import LateCounts
from contentctr.live.service.backend import LocalBackend
from contentctr.live.service.keeping import Keeper
from contentctr.live.service.models import load_served
from contentctr.live.service.scoring import Item, Scoring
from contentctr.live.service.settings import ServiceSettings
from contentctr.live.service.warm import Warm
from contentctr.metrics.ctr import kendall_tau
from live_redis import wait_for
from live_service import KNOWN, MORE, N, make_engine, make_post, running
from live_state import OPEN, Kept, close_all, segment

OTHER = {"decoder_layers": 3}


@pytest.fixture(autouse=True)
def _close():
    yield
    close_all()


def other_engine(**options):
    return make_engine(sizes=OTHER, max_rooms=64, **options)


def switchable(backend, engines):
    """Let the backend load engines by name; every one of them may be asked for."""
    backend.models.load = lambda name: engines[name]()
    backend.models.open_to_all = True


def post(client, room, index, **fields):
    answer = client.post("/v1/segments", json=make_post(room, index, **fields))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_switch_is_one_step_for_all_rooms():
    old, new = make_engine(), other_engine()
    with running(old) as (client, backend), running(other_engine()) as (whole, _):
        switchable(backend, {"new": lambda: new})
        for index in range(N + 2):
            for room in ("x", "y"):
                before, expected = post(client, room, index), post(whole, room, index)
        assert before["model"] == old.model_id != new.model_id
        assert abs(before["score"] - expected["score"]) > 1e-4
        cursor = next(iter_events(client))["id"]
        answer = client.post("/v1/models", json={"name": "new"})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told == client.get("/v1/models").json() and told["state"] == "serving"
        assert told["current"]["id"] == new.model_id and told["current"]["name"] == "new"
        assert told["previous"]["id"] == old.model_id and told["candidate"] is None
        assert client.get("/v1/info").json()["model"] == new.model_id
        assert f'model_info{{model="{new.model_id}"}} 1.0' in client.get("/metrics").text
        assert old.model_id not in client.get("/metrics").text
        rooms, expected = (c.get("/v1/rooms").json() for c in (client, whole))
        assert rooms["model"] == new.model_id and rooms["total"] == 2
        for room, other in zip(by_id(rooms), by_id(expected), strict=True):
            assert room["model"] == new.model_id and room["index"] == N + 1
            assert room["score"] == pytest.approx(other["score"], abs=1e-6)
            assert room["curve"][-1]["score"] == room["score"] and len(room["curve"]) == N + 2
            assert room["shares"] is not None
        ranked = client.post(
            "/v1/rank", json={"candidates": [{"room_id": "x", "base": {}}], "content_weight": 1}
        ).json()
        assert ranked["model"] == new.model_id
        assert ranked["ranking"][0]["score"] == by_id(rooms)[0]["score"]
        for index in range(N + 2, N + 5):
            after, expected = post(client, "x", index), post(whole, "x", index)
            assert after["score"] == pytest.approx(expected["score"], abs=1e-6)
            assert after["model"] == new.model_id
        events = iter_events(client, cursor)
        kinds = [next(events) for _ in range(4)]
        assert [event["kind"] for event in kinds] == ["reset", "score", "score", "score"]
        assert {event["data"]["model"] for event in kinds[1:]} == {new.model_id}


def by_id(rooms):
    return sorted(rooms["rooms"], key=lambda room: room["room_id"])


def iter_events(client, cursor="0-0"):
    """Events after the cursor; of an unknown one, a reset first, which tells where it stands."""
    with client.stream("GET", "/v1/events", headers={"last-event-id": cursor}) as stream:
        event = {}
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "data":
                yield {"id": event["id"], "kind": event["event"], "data": json.loads(value)}
            event[name] = value


@pytest.mark.parametrize(
    "sizes", [OTHER, {"decoder_lookback": "3,4"}, {"streamer_dim": 8}, {"members": 2}]
)
def test_what_a_model_is_led_to_is_where_it_would_stand(sizes):
    scoring, whole = Scoring(make_engine()), Scoring(make_engine(sizes=sizes))
    warm = Warm(make_engine(sizes=sizes))
    for index in range(2 * N):
        for room in ("x", "y") if index != 5 else ("y",):
            for one in (scoring, whole):
                one.work([Item(segment(room, index), Shown(ended_at=1.0))])
        if index in (3, 4, N + 2):  # led along while rooms go on
            warm.lead(scoring.behind(warm))
            assert scoring.behind(warm) == []
    scoring.switch(warm, reason="")
    for index in range(2 * N, 3 * N):
        found, expected = (
            one.work([Item(segment("x", index), Shown(ended_at=1.0))])[0]
            for one in (scoring, whole)
        )
        assert found.taken.scored.score == pytest.approx(expected.taken.scored.score, abs=1e-6)


def test_a_model_with_a_longer_window_keeps_as_much_from_then_on():
    scoring = Scoring(make_engine())
    config = replace(scoring.engine.config, data=replace(scoring.engine.config.data, window_len=12))
    engine = make_engine()
    longer = type(engine)(engine._model, config, engine.spec, KNOWN, max_rooms=8)
    for index in range(20):
        scoring.work([Item(segment("x", index), Shown(ended_at=1.0))])
    scoring.switch(Warm(longer), reason="")
    for index in range(20, 40):
        scoring.work([Item(segment("x", index), Shown(ended_at=1.0))])
    assert len(scoring.rooms["x"].inputs) == 12


def test_under_load_nothing_is_lost_and_no_list_is_mixed():
    old, new = make_engine(max_rooms=64), other_engine()
    rooms, count = [f"r{k}" for k in range(8)], 30
    failures, lists, stop = [], [], threading.Event()
    with running(old, settings=ServiceSettings(rate=0)) as (client, backend):
        switchable(backend, {"new": lambda: new})
        url = str(client.base_url)

        def send(room):
            with httpx.Client(base_url=url) as mine:
                for index in range(count):
                    answer = mine.post("/v1/segments", json=make_post(room, index))
                    if answer.status_code != 200 or answer.json()["status"] != "scored":
                        failures.append(answer.text)

        def look():
            with httpx.Client(base_url=url) as mine:
                while not stop.is_set():
                    found = mine.get("/v1/rooms").json()
                    models = {room["model"] for room in found["rooms"]}
                    lists.append((found["model"], models, found["total"]))

        threads = [threading.Thread(target=send, args=(room,)) for room in rooms]
        looking = threading.Thread(target=look)
        for thread in (*threads, looking):
            thread.start()
        while backend.metrics.registry.get_sample_value(
            "contentctr_segments_total", {"status": "scored"}
        ) in (None, *range(60)):
            time.sleep(0.002)
        answer = client.post("/v1/models", json={"name": "new"}, timeout=60)
        assert answer.status_code == 200, answer.text
        sent_before = threads[0].is_alive()
        for thread in threads:
            thread.join()
        stop.set()
        looking.join()
        final = by_id(client.get("/v1/rooms").json())
    assert not failures and sent_before  # the switch came while segments did
    assert all(models <= {model} for model, models, _ in lists)
    assert {model for model, *_ in lists} == {old.model_id, new.model_id}
    totals = [total for *_, total in lists]
    assert totals == sorted(totals)  # no room was ever without a score
    whole = Scoring(other_engine())
    for room, shown in zip(rooms, final, strict=True):
        for index in range(count):
            post_ = make_post(room, index)
            [done] = whole.work([Item(to_live(post_), Shown(ended_at=1.0))])
        assert shown["score"] == pytest.approx(done.taken.scored.score, abs=1e-6)
        assert len(shown["curve"]) == count


def to_live(fields):
    from contentctr.live.service.decode import to_segment
    from contentctr.live.service.schemas import SegmentIn

    return to_segment(SegmentIn(**fields))


def test_a_model_that_does_not_load_or_fit_changes_nothing():
    def missing():
        raise InputError("run9: no such run")

    engines = {
        "": missing,
        "features": lambda: make_engine(spec=replace(make_engine().spec, visual_revision="v2")),
        "target": lambda: make_engine(spec=replace(make_engine().spec, target="likes")),
        "horizon": lambda: make_engine(sizes={"horizon": -2}),
        "broken": broken_engine,
        "crashes": lambda: 1 / 0,
        "same": make_engine,
    }
    said = []
    with running(report=said.append) as (client, backend):
        post(client, "x", 0)
        assert client.post("/v1/models", json={}).status_code == 403  # nobody said that it may
        switchable(backend, engines)
        words = {
            "": "no such run",
            "features": "visual_revision",
            "target": "target must be 'ctr'",
            "horizon": "horizon must be 0, not -2",
            "broken": "finite",
            "crashes": "ZeroDivisionError",
        }
        for name, word in words.items():
            answer = client.post("/v1/models", json={"name": name})
            assert answer.status_code == 422 and word in answer.json()["detail"], answer.text
            assert word in said[-1] and said[-1].endswith(f"{backend.engine.model_id} serves on")
        assert client.post("/v1/models", json={"name": "same"}).json()["previous"] is None
        assert said[-1] == f"model {backend.engine.model_id} serves already"
        assert post(client, "x", 1)["model"] == backend.models.current.id
        for name in ("../x", "a/b", ".hidden", "x" * 200):
            assert client.post("/v1/models", json={"name": name}).status_code == 422


def broken_engine():
    engine = other_engine()
    for parameter in engine._model.parameters():
        parameter.data.fill_(torch.nan)
    return engine


def test_one_switch_at_a_time():
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(10)
        return other_engine()

    with running() as (client, backend):
        switchable(backend, {"slow": slow})
        thread = threading.Thread(
            target=client.post, args=("/v1/models",), kwargs={"json": {"name": "slow"}}
        )
        thread.start()
        begun.wait(10)
        told = client.get("/v1/models").json()
        assert told["state"] == "loading" and told["candidate"]["name"] == "slow"
        assert client.post("/v1/models", json={"name": "slow"}).status_code == 409
        assert post(client, "x", 0)["model"] == told["current"]["id"]  # meanwhile all goes on
        go_on.set()
        thread.join()
        assert client.get("/v1/models").json()["previous"]["id"] == told["current"]["id"]


@pytest.mark.parametrize("how", ["raises", "not finite"])
def test_a_model_that_fails_makes_way_for_the_one_before(how):
    said, new = [], other_engine()
    with running(report=said.append) as (client, backend), running() as (whole, _):
        switchable(backend, {"new": lambda: new})
        for index in range(N + 3):
            for room in ("x", "y"):
                post(client, room, index), post(whole, room, index)
        assert client.post("/v1/models", json={"name": "new"}).status_code == 200
        for index in range(N + 3, N + 6):
            after = post(client, "x", index)
            post(whole, "x", index)
        assert after["model"] == new.model_id
        if how == "raises":
            new.score = lambda segments: 1 / 0
        else:
            for parameter in new._model.parameters():
                parameter.data.fill_(torch.nan)
        for room, index in (("y", N + 3), ("x", N + 6), ("y", N + 4)):
            found, expected = post(client, room, index), post(whole, room, index)
            assert found["score"] == pytest.approx(expected["score"], abs=1e-6)
            assert found["model"] == backend.models.current.id != new.model_id
        told = client.get("/v1/models").json()
        assert told["previous"] is None and f"model {new.model_id} failed" in told["last"]
        assert said[-1] == told["last"] and told["last"].endswith("serves again")
        rooms, expected = (by_id(c.get("/v1/rooms").json()) for c in (client, whole))
        for room, other in zip(rooms, expected, strict=True):
            assert room["score"] == pytest.approx(other["score"], abs=1e-6)
            assert room["model"] == told["current"]["id"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_room_in_its_first_early_segments_has_no_score_after_a_switch(fails):
    def ahead(**sizes):
        return make_engine(sizes={"horizon": -2, **sizes}, max_rooms=64)

    new = ahead(**OTHER)
    with running(ahead()) as (client, backend):
        switchable(backend, {"new": lambda: new})
        for index in range(4):
            post(client, "x", index, run="one")
            post(client, "y", index)
        if fails:
            assert client.post("/v1/models", json={"name": "new"}).status_code == 200
        assert post(client, "x", 0, run="two")["status"] == "early"
        old = client.get("/v1/info").json()["model"]
        if fails:
            new.score = lambda segments: 1 / 0
            post(client, "y", 4)
        else:
            assert client.post("/v1/models", json={"name": "new"}).status_code == 200
        rooms = client.get("/v1/rooms").json()
        assert rooms["model"] != old
        assert [(r["room_id"], r["model"]) for r in rooms["rooms"]] == [("y", rooms["model"])]
        found = [post(client, "x", index, run="two") for index in (1, 2)]
        assert [one["status"] for one in found] == ["early", "scored"]
        assert found[1]["model"] == rooms["model"] and len(found[1]["curve"]) == 1
        assert len(client.get("/v1/rooms").json()["rooms"]) == 2


def test_a_model_before_that_cannot_serve_at_once_is_tried_again():
    scoring, new = Scoring(make_engine()), other_engine()
    [first] = scoring.work([Item(segment("x", 0), Shown(ended_at=1.0))])
    scoring.switch(Warm(new), reason="")
    before, lead = scoring.previous, scoring.previous.lead
    new.score = lambda segments: 1 / 0

    def fail(rooms):
        raise InputError("not now")

    before.lead = fail
    with pytest.raises(InputError, match="not now"):
        scoring.work([Item(segment("x", 1), Shown(ended_at=1.0))])
    assert scoring.previous is before
    before.lead = lead
    [done] = scoring.work([Item(segment("x", 1), Shown(ended_at=1.0))])
    assert done.model == first.model and scoring.previous is None


def test_a_model_that_was_asked_for_by_name_serves_again_after_a_kill(tmp_path):
    kept, said = Kept(tmp_path / "a"), []
    kept.scoring.switch(Warm(other_engine()), reason="", name="new")  # without a room so far
    kept.post(segment("x", 0))

    def start(folder, load):
        shutil.copytree(tmp_path / "a", tmp_path / folder)
        keeper = Keeper(tmp_path / folder, forget_after_s=600.0, report=said.append)
        OPEN.append(keeper)
        engine = load_served(keeper, make_engine(), load, said.append)
        scoring = Scoring(engine, None, keeper)
        scoring.start()
        return scoring

    def gone(name):
        raise InputError(f"model {name!r}: no such run")

    again = start("b", lambda name: {"new": other_engine}[name]())
    assert said[0] == f"model {other_engine().model_id} serves again, asked for as 'new' then"
    [done] = again.work([Item(segment("x", 1), Shown(ended_at=1.0))])
    assert [done.taken.scored.score] == kept.post(segment("x", 1))
    assert again._keeper.served() == ("new", other_engine().model_id)
    said.clear()
    assert start("c", gone).rooms["x"].room.model == make_engine().model_id
    ids = f"model {other_engine().model_id} served before, and {make_engine().model_id} serves now"
    assert said[0] == f"{ids}: model 'new': no such run"


def test_only_admins_may_switch(tmp_path):
    (tmp_path / "keys").write_text("write w key-of-w\nread r key-of-r\nadmin a key-of-a\n")
    with running(settings=ServiceSettings(keys_file=tmp_path / "keys")) as (client, backend):
        backend.models.load = lambda name: other_engine()
        for name, status in (("w", 403), ("r", 403), ("a", 200)):
            headers = {"x-api-key": f"key-of-{name}"}
            assert client.post("/v1/models", json={}, headers=headers).status_code == status
            assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.get("/v1/models").status_code == 401
        text = client.get("/metrics").text
        assert 'contentctr_requests_total{path="/v1/models",status="403"} 2.0' in text


def test_names_stay_inside_the_folder(tmp_path):
    (tmp_path / "models" / "run1").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    first, models = tmp_path / "run", tmp_path / "models"
    assert model_path("", first, None) == first
    assert model_path("run1", first, models) == models / "run1"
    for name in ("run2", "../secret", "..", ".", "run1/../run1", str(tmp_path / "secret")):
        with pytest.raises(InputError, match="no such run"):
            model_path(name, first, models)
    with pytest.raises(InputError, match="--models"):
        model_path("run1", first, None)


@pytest.mark.parametrize("flushed", [False, True])
def test_a_switch_is_kept_too(tmp_path, monkeypatch, flushed):
    monkeypatch.setattr("contentctr.live.service.keeping._OTHERS", 1)
    kept, rooms = Kept(tmp_path / "a"), [f"r{k}" for k in range(4)]
    for index in range(N + 2):
        for room in rooms:
            kept.post(segment(room, index))
    kept.scoring.switch(Warm(other_engine()), reason="")
    if flushed:
        for _ in range(3):
            kept.scoring.forget("none")
            kept.post(segment("r0", N + 1))  # repeated: with each batch another room is written
    again = kept.killed(tmp_path / "b", other_engine())
    for room in rooms:
        [found], [expected] = again.post(segment(room, N + 2)), kept.post(segment(room, N + 2))
        assert found == (expected if flushed else pytest.approx(expected, abs=1e-6))
        assert again.rooms[room].room.model == again.scoring.engine.model_id


def test_counts_go_over_to_a_model_that_reads_them():
    scoring, whole = Scoring(make_engine()), Scoring(make_engine(sizes=MORE))
    for index in range(3 * N):
        for one in (scoring, whole):
            [done] = one.work([Item(segment("x", index), Shown(ended_at=1.0))])
            came = LateCounts(room_id="x", run="", number=index, counts={"exits": 5})
            one.wait_for_next([came])
    assert [len(i.segment.earlier or ()) for i in scoring.rooms["x"].inputs] == [1] * N
    scoring.switch(Warm(make_engine(sizes=MORE)), reason="")
    assert scoring.rooms["x"].room.score == pytest.approx(done.taken.scored.score, abs=1e-6)
    for one in (scoring, whole):  # what waited still does
        assert one.rooms["x"].waiting == {3 * N - 1: {"exits": 5}}
        [done] = one.work([Item(segment("x", 3 * N), Shown(ended_at=1.0))])
    assert scoring.rooms["x"].room.score == pytest.approx(done.taken.scored.score, abs=1e-6)


def test_inputs_take_half_the_memory_where_no_bit_is_lost():
    scoring, exact = Scoring(make_engine()), np.arange(6, dtype=np.float32) / 4
    fields = [{"visual": exact}, {"visual": exact + np.float32(1e-6), "text": None}]
    for index, given in enumerate(fields):
        one = segment("x", index, **{"has_speech": index == 0, **given})
        scoring.work([Item(one, Shown(ended_at=1.0))])
        kept = scoring.rooms["x"].inputs[-1].segment
        assert kept.visual.dtype == (np.float32 if index else np.float16)
        assert np.array_equal(kept.visual, one.visual)


def test_a_candidate_scores_in_the_shadow_until_it_serves(monkeypatch):
    monkeypatch.setattr("contentctr.live.service.shadow.LOOK_S", 0.02)
    old, new, whole, said = make_engine(), other_engine(), Scoring(other_engine()), []
    backend = LocalBackend(old, report=said.append)
    switchable(backend, {})
    backend.models.first_candidate = lambda: new
    with running(old, backend=backend) as (client, _):
        ours, theirs = {}, {}
        for index in range(N + 2):
            for room in ("x", "y", "z"):
                ours[room] = post(client, room, index)["score"]
                item = Item(to_live(make_post(room, index)), Shown(ended_at=1.0))
                theirs[room] = whole.work([item])[0].taken.scored.score
        gaps = [abs(ours[room] - theirs[room]) for room in ours]

        def agreed():
            told = client.get("/v1/models").json()
            found = told["agreement"]
            same = found is not None and found["largest"] == pytest.approx(max(gaps), abs=1e-6)
            return told if same and found["rooms"] == 3 else None

        told = wait_for(agreed)
        assert told["agreement"]["mean"] == pytest.approx(sum(gaps) / 3, abs=1e-6)
        assert told["agreement"]["tau"] == pytest.approx(
            kendall_tau(list(ours.values()), list(theirs.values()))
        )
        assert told["candidate"]["id"] == new.model_id and told["current"]["id"] == old.model_id
        assert client.get("/v1/rooms").json()["model"] == old.model_id
        both = {"candidate": True, "name": "x"}
        assert client.post("/v1/models", json=both).status_code == 422
        told = client.post("/v1/models", json={"candidate": True}).json()
        assert told["current"]["id"] == new.model_id and told["previous"]["id"] == old.model_id
        assert told["candidate"] is None and told["agreement"] is None
        assert client.post("/v1/models", json={"candidate": True}).status_code == 409
        for room in by_id(client.get("/v1/rooms").json()):
            assert room["score"] == pytest.approx(theirs[room["room_id"]], abs=1e-6)


def test_a_candidate_reads_what_came_back_as_if_it_had_served(monkeypatch):
    monkeypatch.setattr("contentctr.live.service.shadow.LOOK_S", 0.02)
    old, new = make_engine(model_id="old"), make_engine(sizes=MORE, model_id="new")
    whole, backend = Scoring(make_engine(sizes=MORE)), LocalBackend(old)
    switchable(backend, {})
    backend.models.first_candidate = lambda: new
    with running(old, backend=backend) as (client, _):
        for index in range(2 * N):
            post(client, "x", index)
            item = Item(to_live(make_post("x", index)), Shown(ended_at=1.0))
            [done] = whole.work([item])
            counts = {"viewers": 40, "clickers": index}
            came = [{"room_id": "x", "target_index": index, **counts}]
            answer = client.post("/v1/outcomes", json={"outcomes": came}).json()
            assert answer["for_statistics"] == 1
            whole.wait_for_next([LateCounts(room_id="x", run="", number=index, counts=counts)])
        wait_for(lambda: client.get("/v1/models").json()["agreement"])
        told = client.post("/v1/models", json={"candidate": True}).json()
        assert told["current"]["id"] == "new"
        score = client.get("/v1/rooms/x").json()["score"]
        assert score == pytest.approx(done.taken.scored.score, abs=1e-6)
        [found] = whole.work([Item(to_live(make_post("x", 2 * N)), Shown(ended_at=1.0))])
        score = post(client, "x", 2 * N)["score"]
        assert score == pytest.approx(found.taken.scored.score, abs=1e-6)


def test_a_candidate_that_fails_is_told_and_disturbs_nobody(monkeypatch):
    monkeypatch.setattr("contentctr.live.service.shadow.LOOK_S", 0.02)
    said = []
    backend = LocalBackend(make_engine(), report=said.append)
    backend.models.first_candidate = broken_engine
    with running(backend.engine, backend=backend) as (client, _):
        for index in range(5):
            post(client, "x", index)
        told = wait_for(lambda: "none any more" in client.get("/v1/models").json()["last"])
        assert told and client.get("/v1/models").json()["candidate"] is None
        assert "finite" in said[-1] and post(client, "x", 5)["status"] == "scored"


def test_a_candidate_that_cannot_serve_is_named_as_the_candidate(monkeypatch):
    said = []
    backend = LocalBackend(make_engine(), report=said.append)
    switchable(backend, {})
    backend.models.first_candidate = other_engine
    with running(backend.engine, backend=backend) as (client, _):
        post(client, "x", 0)
        wait_for(lambda: client.get("/v1/models").json()["candidate"])
        monkeypatch.setattr(backend._scoring, "switch", lambda *_, **__: 1 / 0)
        assert client.post("/v1/models", json={"candidate": True}).status_code == 422
        assert said[-1].startswith("the candidate does not serve: ZeroDivisionError")
        assert client.get("/v1/models").json()["candidate"] is None


@pytest.mark.parametrize("by_signal", [True, False])
def test_a_candidate_that_failed_is_tried_again(monkeypatch, by_signal):
    """By SIGHUP in the shadow; by a post it serves at once."""
    monkeypatch.setattr("contentctr.live.service.shadow.LOOK_S", 0.02)
    old, said, loaded = make_engine(), [], []
    backend = LocalBackend(old, report=said.append)
    switchable(backend, {"": lambda: old})

    def load():
        loaded.append(True)
        return broken_engine() if len(loaded) == 1 else other_engine()

    backend.models.first_candidate = load
    with running(old, backend=backend) as (client, _):
        for index in range(5):
            post(client, "x", index)
        wait_for(lambda: "none any more" in client.get("/v1/models").json()["last"])
        if by_signal:
            loop = backend._candidate._task.get_loop()
            asyncio.run_coroutine_threadsafe(backend.models.reload(), loop).result(10)
            told = wait_for(lambda: (t := client.get("/v1/models").json())["agreement"] and t)
            assert told["candidate"]["id"] == other_engine().model_id
            assert told["current"]["id"] == old.model_id
        told = client.post("/v1/models", json={"candidate": True}).json()
        assert told["current"]["id"] == other_engine().model_id and len(loaded) == 2
        assert client.post("/v1/models", json={"candidate": True}).status_code == 409


def test_a_candidate_that_did_not_take_over_is_loaded_anew(monkeypatch):
    said, loaded = [], []
    backend = LocalBackend(make_engine(), report=said.append)
    switchable(backend, {})
    backend.models.first_candidate = lambda: loaded.append(True) or other_engine()
    with running(backend.engine, backend=backend) as (client, _):
        post(client, "x", 0)
        wait_for(lambda: client.get("/v1/models").json()["candidate"])
        with monkeypatch.context() as patch:
            patch.setattr(backend._scoring, "switch", lambda *_, **__: 1 / 0)
            assert client.post("/v1/models", json={"candidate": True}).status_code == 422
        told = client.post("/v1/models", json={"candidate": True}).json()
        assert told["current"]["id"] == other_engine().model_id and len(loaded) == 2
