"""A scorer that takes rooms over from their last inputs stands where one stands that saw them."""

import dataclasses

import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.live.inputs import (
    from_bytes,
    input_spec,
    next_input,
    require_same_inputs,
    take_over,
    to_bytes,
)
from live_scorer import SPEC, N, V, make_config, make_rooms, make_scorer, only, play


def inputs_of(room):
    """All inputs of a room, through their bytes."""
    found, last = [], None
    for segment in room:
        last = next_input(last, segment)
        last = from_bytes(to_bytes(last))
        found.append(last)
    return found


ALL = {"statistics": True, "residual": True, "sound": True, "words": True}
TWO = {"members": 2, **ALL}


@pytest.mark.parametrize("horizon", [0, 1, -3])
@pytest.mark.parametrize("lookback", ["", "3,4,3"])
@pytest.mark.parametrize("settings", [{}, ALL, TWO], ids=["paper", "all", "members"])
def test_a_room_goes_on_from_its_last_inputs_as_if_it_had_been_seen(settings, lookback, horizon):
    settings = {"members": settings.get("members", 1)} if horizon < 0 else settings
    config = make_config(horizon=horizon, decoder_lookback=lookback, rotary=True, **settings)
    _, rooms = make_rooms([30, 24, N, 5, 1], horizon=horizon)
    # Two of the first room's and many of the second's are missing.
    gone = {"room000": [17, 21], "room001": list(range(3, 16))}
    rooms = {
        name: [late(s, room) for s in room if s.index not in gone.get(name, [])]
        for name, room in rooms.items()
    }
    whole, other = make_scorer(config), make_scorer(config)
    for at in (1, N - 2, N, N + 4, 20):
        parts = {name: room[:at] for name, room in rooms.items()}
        expected = {}
        for name, room in parts.items():
            whole.forget(name)
            expected[name] = [only(whole, segment) for segment in room][-1]
        last = [inputs_of(room)[-N:] for room in parts.values()]
        for found, room in zip(take_over(other, last), parts.values(), strict=True):
            wanted = expected[found.room_id]
            assert found.index == wanted.index == room[-1].index
            near(found.score, wanted.score)
        for room in rooms.values():
            for segment in room[at : at + 3]:
                near(only(other, segment).score, only(whole, segment).score)


def late(segment, room):
    """The segment with some counts of two earlier ones, of which it is the first to know."""
    near = [k for k in (segment.index - 3, segment.index - 7) if k >= 0]
    return dataclasses.replace(segment, earlier={k: {**room[k].counts, "likes": 9} for k in near})


def near(found, wanted):
    assert (found is None) == (wanted is None)
    if found is not None:
        assert abs(found - wanted) <= 1e-6


def test_runs_go_on_and_an_anew_begun_room_has_none_of_the_inputs_before():
    _, rooms = make_rooms([12])
    room = [dataclasses.replace(s, run="one" if s.index < 7 else "two") for s in rooms["room000"]]
    entries = inputs_of(room)
    assert [e.begins for e in entries] == [k in (0, 7) for k in range(12)]
    assert entries[7].counted_AC is None and entries[8].counted_AC is not None
    scorer = make_scorer()
    with pytest.raises(InputError, match="of one room and run"):
        take_over(scorer, [entries[5:]])
    take_over(scorer, [entries[7:]])
    late = dataclasses.replace(room[3], run="one", index=40)
    assert only(scorer, late).status == "late"
    unnamed = inputs_of([*room, dataclasses.replace(room[0], run="", index=12)])[-1]
    assert unnamed.runs == entries[-1].runs and unnamed.first == 7


def test_a_longer_window_sees_the_room_begin_with_the_oldest_input():
    _, rooms = make_rooms([20])
    entries = inputs_of(rooms["room000"])
    [found] = take_over(scorer := make_scorer(), [entries[-3:]])
    alone = play(make_scorer(), {"room000": rooms["room000"][-3:]})["room000"]
    near(found.score, alone[-1])
    assert only(scorer, rooms["room000"][0]).status == "late"


def test_what_does_not_fit_leaves_no_room():
    _, rooms = make_rooms([3, 3])
    good, bad = map(inputs_of, rooms.values())
    wide = dataclasses.replace(bad[1].segment, visual=np.zeros(V + 1, np.float32))
    bad[1] = dataclasses.replace(bad[1], segment=wide)
    scorer = make_scorer()
    with pytest.raises(InputError, match=rf"visual must be {V} numbers"):
        take_over(scorer, [good, bad])
    assert len(scorer) == 0
    with pytest.raises(InputError, match="at most 1"):
        take_over(scorer := make_scorer(max_rooms=1), [good, inputs_of(rooms["room001"])])
    assert len(scorer) == 0


def test_damaged_bytes_are_refused():
    _, rooms = make_rooms([3])
    entry = inputs_of(rooms["room000"])[-1]
    data = to_bytes(entry)
    rng = np.random.default_rng(0)
    broken = [b"", data[:-3], data + b"x", b"{}" * 40, bytes(len(data))]
    for _ in range(300):
        one = bytearray(data)
        one[rng.integers(len(data))] = rng.integers(256)
        broken.append(bytes(one))
    refused, scorer = 0, make_scorer(max_rooms=1000)
    for one in broken:
        try:
            take_over(scorer, [[from_bytes(one)]])
        except InputError:
            refused += 1
    assert refused > 50
    wrong = [{"first": entry.segment.index + 1}, {"counted_AC": entry.counted_AC[1:]}]
    wrong += [{"counted_AC": entry.counted_AC + [[0] * 11 + [x]]} for x in (-1e9, 2.0**48)]
    for values in wrong:
        with pytest.raises(InputError):
            from_bytes(to_bytes(dataclasses.replace(entry, **values)))


def test_a_model_of_other_features_is_told():
    require_same_inputs(SPEC, input_spec(dataclasses.replace(SPEC, target="likes")), "m")
    other = dataclasses.replace(SPEC, visual_dim=V + 1, text_revision="x")
    words = f"m: cannot .*visual_dim must be {V}, not {V + 1}; text_revision must be '', not 'x'"
    with pytest.raises(InputError, match=words):
        require_same_inputs(SPEC, input_spec(other), "m")
