"""A source that is started again: its room begins anew at the service."""

from live_service import make_post, running


def test_a_new_run_begins_the_room_anew_and_an_old_one_is_late():
    with running() as (client, backend):

        def post(index, run, **fields):
            body = make_post("x", index, run=run, **fields)
            return client.post("/v1/segments", json=body).json()

        first = [post(index, "one") for index in range(4)]
        assert [answer["status"] for answer in first] == ["scored"] * 4
        again = post(0, "two")
        assert (again["status"], again["score"]) == ("scored", first[0]["score"])
        assert [point["index"] for point in again["curve"]] == [0]
        assert post(4, "one")["status"] == "late"
        assert post(0, "two")["status"] == "repeated"
        assert post(1, "two")["score"] == first[1]["score"]
        told = client.get("/v1/rooms/x").json()
        assert [point["index"] for point in told["curve"]] == [0, 1]
        kinds = [event.kind for event in backend.events._events]
        assert kinds == ["score"] * 4 + ["end"] + ["score"] * 2
        assert client.post("/v1/segments", json=make_post(run="x" * 65)).status_code == 422
