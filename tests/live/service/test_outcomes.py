"""Outcomes over HTTP: what is taken, refused, told again, and to Prometheus."""

import re
from dataclasses import replace

import numpy as np
import pytest

from contentctr.live.engine import Engine
from contentctr.live.service.decode import to_segment
from contentctr.live.service.schemas import SegmentIn
from contentctr.live.service.settings import ServiceSettings
from contentctr.score.inputs import InputFacts, measure_features
from live_service import KNOWN, MORE, SPEC, T, V, make_engine, make_model, make_post, running


def send(client, *outcomes, **options):
    return client.post("/v1/outcomes", json={"outcomes": list(outcomes)}, **options)


def outcome(room="r1", **fields):
    if not {"index", "target_index"} & fields.keys():
        fields["target_index"] = 0
    if "value" not in fields:
        fields = {"viewers": 10, "clickers": 2, **fields}
    return {"room_id": room, **fields}


def live(room, index):
    return to_segment(SegmentIn.model_validate(make_post(room, index)))


def fresh(client, backend):
    backend.observed._until = 0.0
    return client.get("/v1/outcomes").json()["models"]


def test_they_stand_beside_the_scores_that_predicted_them():
    with running(make_engine(sizes={"horizon": 1}, model_id="abc")) as (client, backend):
        scores = [
            client.post("/v1/segments", json=make_post("r1", k)).json()["score"] for k in range(3)
        ]
        # From the start: Prometheus sees no increase from a number that was not there.
        assert 'contentctr_outcomes_total{status="taken"} 0.0' in client.get("/metrics").text
        assert client.get("/v1/outcomes").json() == {"simulated": True, "models": []}
        answer = send(
            client,
            outcome(index=0, viewers=100, clickers=10),
            outcome(target_index=1),  # the same segment
            outcome(target_index=2, viewers=0, clickers=0),
            outcome(target_index=3, value=0.5),
            outcome(target_index=0),  # no segment before it
            outcome(index=7),
            outcome("other"),
        )
        assert answer.status_code == 200
        counts = {"taken": 2, "repeated": 1, "unknown": 3, "empty": 1, "for_statistics": 4}
        assert answer.json() == counts
        assert send(client, outcome(index=0)).json()["repeated"] == 1
        [found] = fresh(client, backend)
        assert found["model_id"] == "abc" and found["hour"] == found["day"]
        assert found["hour"]["segments"] == 2 and found["hour"]["viewers"] == 101
        assert found["hour"]["observed"] == pytest.approx(10.5 / 101)
        assert found["hour"]["predicted"] == pytest.approx((100 * scores[0] + scores[2]) / 101)
        text = client.get("/metrics").text
        value = re.search(r'contentctr_outcome_observed\{model="abc",span="hour"\} (\S+)', text)
        assert float(value[1]) == pytest.approx(10.5 / 101)
        assert 'contentctr_outcomes_total{status="unknown"} 3.0' in text


@pytest.mark.parametrize("horizon", [0, 1])
def test_the_next_score_reads_them(horizon):
    sizes = {**MORE, "horizon": horizon}
    alone = make_engine(sizes=sizes).scorer
    with running(make_engine(sizes=sizes)) as (client, backend):
        first = client.post("/v1/segments", json=make_post("r1", 100)).json()
        alone.score([live("r1", 100)])
        came = [outcome(target_index=k) for k in (100, 99, 102, 52, 149)]
        answer = send(client, *came, outcome(target_index=98, value=0.5)).json()
        assert (answer["taken"], answer["unknown"]) == (1 - horizon, 5 + horizon)
        assert answer["for_statistics"] == 3  # the others are too far away, or no counts
        counts = {"viewers": 10, "clickers": 2}
        brings = {101: {99: counts, 100: counts}, 102: {}, 103: {102: counts}}
        for index, earlier in brings.items():
            found = client.post("/v1/segments", json=make_post("r1", index)).json()
            [expected] = alone.score([replace(live("r1", index), earlier=earlier)])
            assert found["score"] == pytest.approx(expected.score, abs=1e-6)
        without = make_engine(sizes=sizes).scorer
        scores = [without.score([live("r1", index)])[0].score for index in range(100, 104)]
        assert abs(scores[-1] - expected.score) > 1e-4
        again = client.post("/v1/segments", json=make_post("r1", 100)).json()
        assert (again["status"], again["score"]) == ("repeated", first["score"])
        assert backend._scoring.rooms["r1"].waiting == {}
        # 52 and 149: told at once, and not when a segment comes that cannot read them.
        assert 'contentctr_late_counts_total{reason="too_far"} 2.0' in client.get("/metrics").text


def test_what_is_said_to_wait_is_read():
    with running(make_engine(sizes=MORE)) as (client, backend):
        client.post("/v1/segments", json=make_post("r1", 100))
        assert send(client, outcome(target_index=53)).json()["for_statistics"] == 1
        assert send(client, outcome(target_index=52)).json()["for_statistics"] == 0
        client.post("/v1/segments", json=make_post("r1", 101))
        assert backend._scoring.rooms["r1"].waiting == {}
        assert 'contentctr_late_counts_total{reason="too_far"} 1.0' in client.get("/metrics").text
        send(client, *[outcome(target_index=k) for k in range(100, 150)])  # two more than may wait
        assert 'contentctr_late_counts_total{reason="too_many"} 2.0' in client.get("/metrics").text


def test_other_counts_are_read_too_and_a_value_is_none():
    with running(make_engine(sizes=MORE)) as (client, backend):
        client.post("/v1/segments", json=make_post("r1", 3))
        came = [
            outcome(target_index=3, value=0.5, counts={"likes": 4, "exits": None}),
            outcome(target_index=2, counts={"likes": 1}),
            outcome(target_index=1, value=0.5, counts={}),
        ]
        assert send(client, *came).json()["for_statistics"] == 2
        assert backend._scoring.rooms["r1"].waiting == {
            3: {"likes": 4},
            2: {"likes": 1, "viewers": 10, "clickers": 2},
        }


def test_a_room_that_has_ended_is_another_when_it_comes_again():
    with running() as (client, backend):
        client.post("/v1/segments", json=make_post("r1", 0))
        assert send(client, outcome()).json()["taken"] == 1
        client.delete("/v1/rooms/r1")
        assert send(client, outcome()).json()["unknown"] == 1
        client.post("/v1/segments", json=make_post("r1", 0))
        assert send(client, outcome()).json()["taken"] == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"index": 0, "target_index": 0}, "either index or target_index"),
        ({"clickers": 11}, "clickers must be at most viewers"),
        ({"value": 0.5, "viewers": 1}, "not both"),
        ({"viewers": None}, "viewers and clickers, or value"),
        ({"value": 1.5}, "less than or equal to 1"),
        ({"room_id": "a b"}, "pattern"),
        ({"target_index": -1}, "greater than or equal to 0"),
        ({"likes": 3}, "Extra inputs"),
        ({"counts": {"viewers": 3}}, "which have their own place"),
        ({"counts": {"likes": -1}}, "greater than or equal to 0"),
    ],
)
def test_what_is_none_is_refused_with_its_place(fields, words):
    with running() as (client, _):
        answer = send(client, {**outcome(), **fields})
        assert answer.status_code == 422
        assert "outcomes" in answer.json()["detail"] and words in answer.json()["detail"]


def test_there_is_a_limit_of_each_request():
    with running() as (client, _):
        assert send(client, *[outcome(target_index=k) for k in range(1001)]).status_code == 422
        answer = client.post("/v1/outcomes", content=b'{"outcomes":[' + b'"",' * 40_000 + b'""]}')
        assert answer.status_code == 422 and "1000 outcomes" in answer.json()["detail"]


def test_only_an_admin_may_say_what_came_of_a_model(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("write w wwwwwwwwwwwwwwww1\nadmin a aaaaaaaaaaaaaaaa1\n")
    keys.chmod(0o600)
    with running(settings=ServiceSettings(keys_file=keys)) as (client, _):
        answers = [
            send(client, outcome(), headers={"x-api-key": key}).status_code
            for key in ("wwwwwwwwwwwwwwww1", "aaaaaaaaaaaaaaaa1", "nobody")
        ]
        assert answers == [403, 200, 401]


def test_drift_is_told_by_model():
    rng = np.random.default_rng(0)
    facts = InputFacts(
        segments=100,
        missing={"visual": 0.0, "speech": 0.5, "comments": 0.5},
        features={
            "visual": measure_features(rng.normal(size=(100, V))),
            "text": measure_features(rng.normal(size=(100, T))),
        },
    )
    model, config = make_model()
    engine = Engine(model, config, SPEC, KNOWN, inputs=facts, model_id="abc", max_rooms=64)
    with running(engine) as (client, _):
        for room in range(40):
            client.post("/v1/segments", json=make_post(f"r{room}", 0))
        text = client.get("/metrics").text
        labels = 'model="abc",part="speech",span="hour"'
        assert f"contentctr_drift_missing{{{labels}}} 0.0" in text
        assert f"contentctr_drift_trained_missing{{{labels}}} 0.5" in text
        assert "contentctr_drift_shift{" in text and "contentctr_drift_stability{" in text
