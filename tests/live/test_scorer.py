"""RoomScorer against score_segments, the offline windows, and its defined results."""

import dataclasses

import numpy as np
import pytest
import torch

from contentctr.config import Config, InputError
from contentctr.live.engine import Engine
from contentctr.live.scorer_decoders import LookbackDecoder, Ring, WindowDecoder
from contentctr.score import checkpoint
from contentctr.score.calibration import Calibration
from contentctr.score.rooms import score_segments
from live_scorer import (
    CONTENT,
    KNOWN,
    OTHERS,
    SIZES,
    SPEC,
    N,
    changed,
    interrupt,
    make_config,
    make_rooms,
    make_scorer,
    offline,
    only,
    play,
)


@pytest.mark.parametrize(
    ("rotary", "lookback"), [(False, ""), (True, ""), (False, "2,1,3"), (True, "3,4,3")]
)
@pytest.mark.parametrize("kind", CONTENT)
def test_every_score_is_the_offline_windows(kind, rotary, lookback):
    scorer = make_scorer(make_config(kind, rotary=rotary, decoder_lookback=lookback))
    [decoder] = [one.decoder for one in scorer._live.members]
    assert isinstance(decoder, LookbackDecoder if lookback else WindowDecoder)
    data, rooms = make_rooms([30, 1, 7, 8, 9, 2])
    found = np.concatenate(list(play(scorer, rooms, apart=2).values()))
    expected = offline(scorer, data)
    assert np.ptp(expected) > 0.1
    assert np.abs(found - expected).max() <= 1e-6


@pytest.mark.parametrize("horizon", [0, 1])
@pytest.mark.parametrize(
    "settings",
    [
        {"statistics": True},
        {"residual": True},
        {"sound": True},
        {"statistics": True, "wide": True},
        {"words": True},
        {"statistics": True, "residual": True, "sound": True, "wide": True, "words": True},
    ],
    ids=["statistics", "residual", "sound", "wide", "words", "all"],
)
@pytest.mark.parametrize("lookback", ["", "2,1,3"])
def test_further_parts_are_the_offline_ones(settings, lookback, horizon):
    config = make_config(horizon=horizon, decoder_lookback=lookback, **settings)
    scorer = make_scorer(config)
    data, rooms = make_rooms([30, 1, 7, 8, 9, 2], horizon=horizon)
    found = play(scorer, rooms, apart=2)
    expected = offline(scorer, data, horizon)
    at = {room_id: data.table["room_id"].index_of(room_id) for room_id in rooms}
    for room_id, scores in found.items():
        kept = scores[: len(scores) - horizon]
        aligned = expected[at[room_id] + horizon : at[room_id] + len(scores)]
        assert np.abs(np.array(kept) - aligned).max(initial=0) <= 1e-6
    bare = [changed(s, counts=None, sound=None, words=None) for s in rooms["room000"]]
    known, unknown = (
        play(make_scorer(config), {"room000": room}) for room in (rooms["room000"], bare)
    )
    assert known["room000"][9] != unknown["room000"][9]


@pytest.mark.parametrize("horizon", [0, 1])
def test_a_segments_counts_reach_no_score_up_to_its_own(horizon):
    config = make_config(statistics=True, residual=True, wide=True, horizon=horizon)
    _, rooms = make_rooms([12], horizon=horizon)
    room = rooms["room000"]
    other = [*room]
    other[5] = changed(room[5], counts={"viewers": 4000, "clickers": 7, "likes": 90})
    one, two = (play(make_scorer(config), {"room000": r})["room000"] for r in (room, other))
    moved = [k for k in range(12) if one[k] != two[k]]
    # With horizon 1 the score that comes with segment 5 is the next one's.
    assert moved == list(range(6 - horizon, 12))


def test_statistics_of_many_segments_in_one_call_with_gaps_and_a_restored_state():
    config = make_config(statistics=True, residual=True)
    data, rooms = make_rooms([14, 14])
    gone = [4, 5, 9]
    left = {name: [s for s in room if s.index not in gone] for name, room in rooms.items()}
    one_by_one = make_scorer(config)
    expected = {name: [] for name in rooms}
    for name, room in left.items():
        expected[name] = [only(one_by_one, s).score for s in room]
    together, later = make_scorer(config), make_scorer(config, max_rooms=2)
    first = [s for room in left.values() for s in room[:6]]
    rest = [s for room in left.values() for s in room[6:]]
    scores = {(r.room_id, r.index): r.score for r in together.score(first)}
    later.restore(together.save())
    scores |= {(r.room_id, r.index): r.score for r in later.score(rest)}
    for name, room in left.items():
        found = [scores[name, s.index] for s in room]
        assert np.allclose(found, expected[name], rtol=0, atol=1e-6)
    again = later.score([left["room000"][-1]])[0]
    assert again.status == "repeated"
    # A far jump leaves nothing in the window, and old counts with the weight of their age.
    far = changed(left["room000"][-1], index=2800)
    assert only(later, far).status == "scored"


def test_a_linear_part_goes_without_numbers_where_all_of_a_round_are_missing():
    config = make_config(statistics=True, wide=True)
    _, rooms = make_rooms([9])
    scorer = make_scorer(config)
    scorer.score(rooms["room000"][:4])
    far = changed(rooms["room000"][8], index=6)
    assert only(scorer, far).status == "scored"


def test_an_interrupted_call_counts_nothing_twice(monkeypatch):
    config = make_config(statistics=True)
    _, rooms = make_rooms([7, 7])
    segments = [s for room in rooms.values() for s in room]
    expected = make_scorer(config, batch_size=1).score(segments)
    scorer = make_scorer(config, batch_size=1)
    [decoder] = [one.decoder for one in scorer._live.members]
    interrupt(monkeypatch, decoder, at=9)
    with pytest.raises(KeyboardInterrupt):
        scorer.score(segments)
    for before, after in zip(expected, scorer.score(segments), strict=True):
        assert before.score == after.score


BAD_COUNTS = {
    "counts must be of exposures, .*, commenters, .*, not 'coins'": {"coins": 1},
    "counts.likes must be a whole number from 0 to 4294967295, not -1": {"likes": -1},
    "counts.likes must be a whole number from 0 to 4294967295, not 0.5": {"likes": 0.5},
    "counts.likes must be a whole number from 0 to 4294967295, not True": {"likes": True},
    "counts.likes must be a whole number .* not 4294967296": {"likes": 2**32},
    r"counts.clickers must be at most counts.viewers \(3\), not 4": {"viewers": 3, "clickers": 4},
}


@pytest.mark.parametrize("message", BAD_COUNTS)
def test_wrong_counts_are_named(message):
    _, rooms = make_rooms([2])
    scorer = make_scorer(make_config(statistics=True))
    with pytest.raises(InputError, match=message):
        scorer.score([changed(rooms["room000"][0], counts=BAD_COUNTS[message])])
    late = message.replace("counts", r"earlier\[0\]")
    with pytest.raises(InputError, match=late):
        scorer.score([changed(rooms["room000"][1], earlier={0: BAD_COUNTS[message]})])
    assert len(scorer) == 0


@pytest.mark.parametrize("index", [3, 4, -1, True, "2", 1.0])
def test_only_earlier_segments_are(index):
    _, rooms = make_rooms([4])
    scorer = make_scorer(make_config(statistics=True))
    with pytest.raises(InputError, match="earlier must be numbers of segments before 3, not "):
        scorer.score([changed(rooms["room000"][3], earlier={index: {"likes": 1}})])


def delayed(room, delay, gone=()):
    """The room without `gone`; half of each segment's counts come `delay` segments later."""
    found = []
    for segment in room:
        names = sorted(segment.counts)
        late = {n: segment.counts[n] for n in names[: len(names) // 2] if n != "gifts"}
        here = {n: segment.counts[n] for n in names if n not in late}
        found.append((changed(segment, counts=here), late))
    kept = [k for k in range(len(room)) if k not in gone]
    told = {k: min([n for n in kept if n >= k + delay], default=None) for k in kept}
    return [
        changed(found[k][0], earlier={m: found[m][1] for m in kept if told[m] == k}) for k in kept
    ]


EVERYTHING = {"statistics": True, "residual": True, "wide": True}


@pytest.mark.parametrize("horizon", [0, 1])
@pytest.mark.parametrize("together", [False, True])
def test_counts_that_come_before_a_score_are_as_if_they_had_come_in_time(horizon, together):
    config = make_config(horizon=horizon, **EVERYTHING)
    _, rooms = make_rooms([25, 25], horizon=horizon)
    gone = {"room000": [4, 5], "room001": [10]}
    in_time = {n: [s for s in room if s.index not in gone[n]] for n, room in rooms.items()}
    late = {n: delayed(room, 1, gone[n]) for n, room in rooms.items()}
    scorer = make_scorer(config)
    if together:
        found = scorer.score([s for room in late.values() for s in room])
    else:
        found = [only(scorer, s) for room in late.values() for s in room]
    assert not any(one.late_counts for one in found)
    scores = {(one.room_id, one.index): one.score for one in found}
    # With horizon 1 the score that comes with a segment reads that one's counts, in time or not.
    if horizon == 0:
        for room_id, points in play(make_scorer(config), in_time).items():
            wanted = [s.index for s in in_time[room_id]]
            gaps = [scores[room_id, k] - p for k, p in zip(wanted, points, strict=True)]
            assert np.abs(gaps).max() <= 1e-6
    last = {n: changed(room[-1], index=25, counts=None) for n, room in rooms.items()}
    whole = make_scorer(config)
    for room in in_time.values():
        whole.score(room)
    for name, segment in last.items():
        told = changed(segment, earlier={24: rooms[name][24].counts})
        slots = [s._rooms[name].slot for s in (whole, scorer)]
        one, two = only(whole, segment), only(scorer, told)
        assert abs(one.score - two.score) <= (1e-6 if horizon == 0 else 1)
        states = [s._statistics.state(k) for s, k in zip((whole, scorer), slots, strict=True)]
        np.testing.assert_allclose(*states, rtol=1e-12)


def test_late_counts_move_no_score_before_they_come():
    config = make_config(**EVERYTHING)
    _, rooms = make_rooms([30])
    room = rooms["room000"]
    late = [*room]
    late[9] = changed(room[9], counts={})
    late[15] = changed(room[15], earlier={9: room[9].counts})
    found = [play(make_scorer(config), {"room000": r})["room000"] for r in (room, late)]
    moved = [k for k in range(30) if found[0][k] != found[1][k]]
    assert moved[0] == 10 and abs(found[0][9] - found[1][9]) == 0
    state = [make_scorer(config) for _ in range(2)]
    for scorer, one in zip(state, (room, late), strict=True):
        scorer.score(one)
    states = [s._statistics.state(s._rooms["room000"].slot) for s in state]
    np.testing.assert_allclose(*states, rtol=1e-12)


def test_counts_that_are_known_or_too_old_change_nothing():
    config = make_config(**EVERYTHING)
    _, rooms = make_rooms([4])
    room = rooms["room000"]
    one, two = make_scorer(config), make_scorer(config)
    for scorer in (one, two):
        scorer.score(room[:3])
    known = {k: {name: 9 for name in room[k].counts if name != "gifts"} for k in range(3)}
    assert only(one, room[3]).score == only(two, changed(room[3], earlier=known)).score
    far = changed(room[3], index=52)
    told = changed(far, earlier={k: {"likes": 8, "viewers": 3} for k in (0, 1, 2, 3)})
    assert only(one, far).late_counts == 0
    assert only(two, told).late_counts == 4  # segment 4 would be the oldest that is remembered
    states = [s._statistics.state(s._rooms["room000"].slot) for s in (one, two)]
    assert np.array_equal(*states)


def test_a_model_without_statistics_leaves_late_counts_alone():
    _, rooms = make_rooms([4])
    room = rooms["room000"]
    late = [changed(s, earlier={k: {"likes": 8} for k in range(s.index)}) for s in room]
    one, two = (play(make_scorer(), {"room000": r})["room000"] for r in (room, late))
    assert one == two


@pytest.mark.parametrize("lookback", ["", "7,7,8"])
def test_windows_of_20_in_rooms_of_1_to_60(lookback):
    config = Config(model=dataclasses.replace(SIZES, rotary=True, decoder_lookback=lookback))
    scorer = make_scorer(config, max_rooms=60, batch_size=16)
    data, rooms = make_rooms(range(1, 61))
    found = np.concatenate(list(play(scorer, rooms).values()))
    expected = score_segments(scorer._model, data, window_len=20)
    assert np.abs(found - expected).max() <= 1e-6


@pytest.mark.parametrize("layers", [1, 2])
def test_fewer_decoder_layers(layers):
    scorer = make_scorer(make_config(decoder_layers=layers, rotary=True))
    data, rooms = make_rooms([20, 3])
    found = np.concatenate(list(play(scorer, rooms).values()))
    assert np.abs(found - offline(scorer, data)).max() <= 1e-6


@pytest.mark.parametrize("lookback", ["", "3,4,3"])
def test_a_room_joined_late_begins_there(lookback):
    config = make_config(rotary=True, decoder_lookback=lookback)
    data, rooms = make_rooms([20])
    shifted = [changed(s, index=s.index + 2_000_000_000) for s in rooms["room000"]]
    scorer = make_scorer(config)
    found = play(scorer, {"room000": shifted})["room000"]
    assert np.abs(np.array(found) - offline(scorer, data)).max() <= 1e-6


def test_the_horizon_says_which_segment_a_score_is_of():
    data, rooms = make_rooms([12], horizon=1)
    scorer = make_scorer(make_config(horizon=1))
    results = [only(scorer, segment) for segment in rooms["room000"]]
    assert [r.target_index for r in results] == list(range(1, 13))
    expected = offline(scorer, data, horizon=1)
    for result in results[:-1]:
        assert abs(result.score - expected[result.target_index]) <= 1e-6


@pytest.mark.parametrize("lookback", ["", "3,4,3"])
def test_with_look_ahead_a_score_comes_later_and_is_the_offline_one(lookback):
    data, rooms = make_rooms([12, 2], horizon=-3)
    scorer = make_scorer(make_config(horizon=-3, decoder_lookback=lookback))
    results = [only(scorer, segment) for segment in rooms["room000"]]
    assert [r.target_index for r in results] == list(range(-3, 9))
    assert [(r.status, r.score) for r in results[:3]] == [("early", None)] * 3
    expected = offline(scorer, data, horizon=-3)
    for result in results[3:]:
        assert result.status == "scored"
        assert abs(result.score - expected[result.target_index]) <= 1e-6
    assert np.isnan(expected[9:]).all()  # the last three, and a room as short as that
    assert {only(scorer, segment).status for segment in rooms["room001"]} == {"early"}
    assert only(scorer, rooms["room000"][1]).status == "early"
    [first] = scorer.score([dataclasses.replace(rooms["room001"][0], room_id="n", index=5)])
    assert first.status == "early"
    [late] = scorer.score([dataclasses.replace(rooms["room001"][0], room_id="n", index=4)])
    assert late.status == "late"  # before the room's first: taken by nobody


def without(data, rows):
    """The data, with nothing in some rows."""
    flags = {}
    for name in ("has_visual_S", "has_speech_S", "has_comments_S"):
        flags[name] = getattr(data, name).clone()
        flags[name][rows] = False
    return dataclasses.replace(data, **flags)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("lookback", ["", "3,4,3"])
@pytest.mark.parametrize("gap", [[1], [3, 4, 9], range(5, 12), range(2, 9), range(4, 26)])
def test_skipped_segments_are_those_of_which_nothing_is_there(gap, lookback, together):
    scorer = make_scorer(make_config(rotary=True, decoder_lookback=lookback))
    data, rooms = make_rooms([40])
    kept = [s for s in rooms["room000"] if s.index not in gap]
    results = scorer.score(kept) if together else [only(scorer, s) for s in kept]
    expected = offline(scorer, without(data, list(gap)))
    assert np.abs(expected - offline(scorer, data)).max() > 1e-3
    for result in results:
        assert result.status == "scored"
        assert abs(result.score - expected[result.index]) <= 1e-6


@pytest.mark.parametrize("lookback", ["", "3,4,3"])
def test_a_repeated_segment_gets_its_score_again_and_changes_nothing(lookback):
    config = make_config(decoder_lookback=lookback)
    _, rooms = make_rooms([12])
    plain = play(make_scorer(config), rooms)["room000"]
    scorer = make_scorer(config)
    other = make_rooms([12], seed=1)[1]["room000"]
    for moment, segment in enumerate(rooms["room000"]):
        assert only(scorer, segment).score == plain[moment]
        for earlier in range(max(0, moment - N + 1), moment + 1):
            for again in (rooms["room000"][earlier], other[earlier]):
                result = only(scorer, again)
                assert (result.status, result.score) == ("repeated", plain[earlier])
    old = only(scorer, rooms["room000"][12 - N - 1])
    assert (old.status, old.score) == ("late", None)


def test_repeats_in_one_call():
    _, rooms = make_rooms([12])
    segments = rooms["room000"]
    other = make_rooms([12], seed=1)[1]["room000"]
    plain = play(make_scorer(), rooms)["room000"]
    scorer = make_scorer()
    scorer.score(segments[:3])
    call = [segments[0], segments[3], other[3], *segments[4:], other[2], segments[5]]
    results = scorer.score(call)
    again = {0, 2, len(call) - 2, len(call) - 1}
    for k, (segment, result) in enumerate(zip(call, results, strict=True)):
        assert result.status == ("repeated" if k in again else "scored")
        assert abs(result.score - plain[segment.index]) <= 1e-6


def test_a_late_segment_is_left_out_and_its_place_stays_missing():
    data, rooms = make_rooms([14])
    segments = rooms["room000"]
    scorer = make_scorer()
    results = [only(scorer, s) for s in segments[:4] + segments[6:10]]
    late = [only(scorer, segments[k]) for k in (4, 5)]
    assert all((r.status, r.score) == ("late", None) for r in late)
    results += [only(scorer, s) for s in segments[10:]]
    expected = offline(scorer, without(data, [4, 5]))
    assert all(abs(r.score - expected[r.index]) <= 1e-6 for r in results)


def test_before_a_rooms_first_segment_is_late():
    _, rooms = make_rooms([5])
    scorer = make_scorer()
    only(scorer, rooms["room000"][2])
    result = only(scorer, rooms["room000"][1])
    assert (result.status, result.score) == ("late", None)


def test_segments_of_one_call_are_taken_in_the_order_of_their_numbers():
    data, rooms = make_rooms([20, 11])
    segments = [s for room in rooms.values() for s in room]
    order = np.random.default_rng(0).permutation(len(segments))
    scorer = make_scorer()
    results = scorer.score([segments[k] for k in order])
    expected = offline(scorer, data)
    for k, result in zip(order, results, strict=True):
        assert (result.room_id, result.index) == (segments[k].room_id, segments[k].index)
        assert abs(result.score - expected[k]) <= 1e-6
    assert scorer.rooms == {"room000": 19, "room001": 10}
    assert scorer.score([]) == []


@pytest.mark.parametrize("lookback", ["", "3,4,3"])
def test_a_place_that_another_room_left_does_not_show(lookback):
    config = make_config(decoder_lookback=lookback)
    _, rooms = make_rooms([12, 5])
    alone = play(make_scorer(config, max_rooms=1), {"room001": rooms["room001"]})
    scorer = make_scorer(config, max_rooms=1)
    play(scorer, {"room000": rooms["room000"]})
    assert scorer.forget("room000") and not scorer.forget("room000")
    assert len(scorer) == 0
    assert play(scorer, {"room001": rooms["room001"]}) == alone
    result = only(scorer, changed(rooms["room001"][0], index=6))
    assert only(scorer, changed(rooms["room001"][0], index=5)).status == "late"
    assert result.status == "scored"


BAD = {
    "visual must be 6 numbers, of shape .6,., not .5,.": {"visual": np.zeros(5, np.float32)},
    "visual must be an array of floats, not int64": {"visual": np.zeros(6, np.int64)},
    "visual must be an array of floats, not list": {"visual": [0.0] * 6},
    r"text must be 4 numbers, of shape .4,., not .1, 4.": {"text": np.zeros((1, 4))},
    r"text\[2\] must be finite and at most 65504 in size, not nan": {
        "text": np.array([0, 0, np.nan, 0])
    },
    r"visual\[0\] must be finite.* not -?inf": {"visual": np.full(6, -np.inf, np.float32)},
    r"visual\[1\] must be finite.* not 70000": {"visual": np.array([0, 7e4, 0, 0, 0, 0])},
    "text must be there, as the segment has speech": {"text": None},
    "sound must be 5 numbers, of shape .5,., not .4,.": {"sound": np.zeros(4, np.float32)},
    r"sound\[0\] must be finite": {"sound": np.full(5, np.nan, np.float32)},
    "words must be 6 numbers, of shape .6,., not .5,.": {"words": np.zeros(5, np.float32)},
    r"words\[1\] must be a whole number from 0 to 2047, not 2048": {
        "words": np.array([0, 2048, 0, 0, 0, 0], np.float32)
    },
    r"words\[2\] must be a whole number from 0 to 2047, not 0.5": {
        "words": np.array([0, 0, 0.5, 0, 0, 0])
    },
    r"words\[0\] must be a whole number from 0 to 2047, not -1": {"words": np.full(6, -1.0)},
    r"words\[0\] must be a whole number from 0 to 2047, not nan": {"words": np.full(6, np.nan)},
    r"words\[0\] must be a whole number from 0 to 2047, not inf": {"words": np.full(6, np.inf)},
    "index must be a whole number from 0 to 2147483647, not -1": {"index": -1},
    "index must be a whole number from 0 to 2147483647, not 2147483648": {"index": 2**31},
    "index must be a whole number from 0 to 2147483647, not 1.5": {"index": 1.5},
    "index must be a whole number from 0 to 2147483647, not True": {"index": True},
    "has_speech must be true or false, not 1": {"has_speech": 1},
    "room_id must be text, and not empty": {"room_id": ""},
    "streamer_id must be text, not None": {"streamer_id": None},
    "streamer_id must be 'a', as in the room's first segment, not 'b'": {"streamer_id": "b"},
}


@pytest.mark.parametrize("far", [2881 + 2, 2**31 - 1])
def test_a_number_from_far_ahead_is_none_of_the_rooms(far):
    _, rooms = make_rooms([10], gone=0.0)
    scorer, plain = make_scorer(), make_scorer()
    first, second, *rest = rooms["room000"]
    for each in (scorer, plain):
        each.score([first])
    with pytest.raises(InputError, match="index must be at most 2880, a day after"):
        scorer.score([changed(second, index=far)])
    assert scorer.score([second, *rest])[-1].score == plain.score([second, *rest])[-1].score
    assert only(scorer, changed(second, index=scorer.rooms["room000"] + 2880)).status == "scored"


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_named_and_nothing_changes(message):
    _, rooms = make_rooms([10, 10], gone=0.0)
    scorer, plain = make_scorer(), make_scorer()
    for each in (scorer, plain):
        each.score([room[0] for room in rooms.values()])
    before = scorer.save()
    bad = changed(rooms["room000"][1], **BAD[message])
    with pytest.raises(InputError, match=message) as error:
        scorer.score([rooms["room001"][1], bad])
    assert repr(bad.room_id) in str(error.value) and str(bad.index) in str(error.value)
    assert scorer.save() == before
    rest = {room_id: room[1:] for room_id, room in rooms.items()}
    assert play(scorer, rest) == play(plain, rest)


def test_too_many_rooms_change_nothing():
    _, rooms = make_rooms([2] * 4)
    scorer = make_scorer(max_rooms=3)
    scorer.score([room[0] for room in list(rooms.values())[:2]])
    before = scorer.save()
    with pytest.raises(InputError, match="live rooms must be at most 3 .max_rooms., not 4"):
        scorer.score([room[1] for room in rooms.values()])
    assert scorer.save() == before and len(scorer) == 2


@pytest.mark.parametrize("lookback", ["", "3,4,3"])
@pytest.mark.parametrize("moment", [1, 5, 8, 13])
def test_a_restored_room_goes_on_with_the_same_bits(moment, lookback):
    config = make_config(rotary=True, decoder_lookback=lookback)
    _, rooms = make_rooms([20, 20, 20])
    start = {room_id: room[:moment] for room_id, room in rooms.items()}
    rest = {room_id: room[moment:] for room_id, room in rooms.items()}
    scorer = make_scorer(config)
    play(scorer, start)
    whole, single = scorer.save(), scorer.save(["room001"])
    expected = play(scorer, rest)

    other = make_scorer(config)
    play(other, {"x": [changed(s, room_id="x", streamer_id="b") for s in rooms["room002"]]})
    other.forget("x")  # what a place holds must not show
    assert other.restore(whole) == list(rooms)
    assert other.save() == whole
    assert play(other, rest) == expected

    alone = make_scorer(config, max_rooms=1)
    assert alone.restore(single) == ["room001"] and alone.save() == single
    again = only(alone, rooms["room001"][moment - 1])
    assert again.status == "repeated"
    found = play(alone, {"room001": rest["room001"]})["room001"]
    assert np.allclose(found, expected["room001"], rtol=0, atol=1e-6)
    scorer.restore(single)
    assert scorer.rooms["room001"] == moment - 1


def test_rooms_of_different_ages_in_one_state():
    _, rooms = make_rooms([3, 20])
    scorer, other = make_scorer(), make_scorer()
    play(scorer, rooms)
    other.restore(scorer.save())
    later = [changed(room[-1], index=room[-1].index + 1) for room in rooms.values()]
    assert other.score(later) == scorer.score(later)
    assert other.restore(make_scorer().save()) == []


def test_a_state_that_does_not_fit_is_refused():
    _, rooms = make_rooms([3, 3])
    scorer = make_scorer()
    play(scorer, rooms)
    state = scorer.save()
    with pytest.raises(InputError, match="revision must be"):
        make_scorer(seed=1).restore(state)
    with pytest.raises(InputError, match="revision must be"):
        make_scorer(make_config(horizon=1)).restore(state)
    with pytest.raises(InputError, match="not readable safetensors"):
        scorer.restore(state[:-5])
    with pytest.raises(InputError, match="not readable safetensors"):
        scorer.restore(b"")
    with pytest.raises(InputError, match="format must be 'contentctr-rooms-1'"):
        scorer.restore(state.replace(b"contentctr-rooms-1", b"contentctr-rooms-9"))
    with pytest.raises(InputError, match="list of rooms is damaged"):
        scorer.restore(state.replace(b"first", b"fisrt"))
    with pytest.raises(InputError, match="'.*' must be .*, not "):
        scorer.restore(state.replace(b'"key"', b'"kez"'))
    spoilt = bytearray(state)
    spoilt[-4:] = np.float32(np.nan).tobytes()
    with pytest.raises(InputError, match="must be finite"):
        scorer.restore(bytes(spoilt))
    with pytest.raises(InputError, match="at most 1 .max_rooms., not 2"):
        make_scorer(max_rooms=1).restore(state)
    with pytest.raises(InputError, match="room 'nobody': must be one of the 2 live rooms"):
        scorer.save(["nobody"])
    assert scorer.save() == state


def test_an_interrupted_call_can_be_made_again(monkeypatch):
    _, rooms = make_rooms([20, 20])
    segments = [s for room in rooms.values() for s in room]
    expected = {(r.room_id, r.index): r.score for r in make_scorer(batch_size=1).score(segments)}
    scorer = make_scorer(batch_size=1)
    [decoder] = [one.decoder for one in scorer._live.members]
    interrupt(monkeypatch, decoder, at=25)
    with pytest.raises(KeyboardInterrupt):
        scorer.score(segments)
    done = {room_id: last for room_id, last in scorer.rooms.items()}
    assert done == {"room000": 11, "room001": 11}
    results = scorer.score(segments)
    assert {r.status for r in results} == {"scored", "repeated", "late"}
    for result in results:
        if result.status != "late":  # older than the last n when the call was made again
            assert result.score == expected[result.room_id, result.index]


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_are_refused(kind):
    with pytest.raises(InputError, match=f"model.kind must be .*contentctr.*, not '{kind}'"):
        make_scorer(make_config(kind))


def test_a_scorer_has_room():
    with pytest.raises(InputError, match="max_rooms must be at least 1, not 0"):
        make_scorer(max_rooms=0)


def test_a_scorer_of_a_checkpoint(tmp_path):
    scorer = make_scorer()
    checkpoint.save(
        tmp_path / "c", scorer._model, config=make_config(), spec=SPEC, vocabulary=KNOWN, info={}
    )
    other = Engine.from_checkpoint(tmp_path / "c", max_rooms=8, batch_size=3).scorer
    assert other.revision == scorer.revision
    _, rooms = make_rooms([9, 4])
    assert play(other, rooms) == play(scorer, rooms)


def test_a_ring_keeps_the_last_entries_of_each_slot():
    ring = Ring(2, 3, (1,))
    slot = torch.tensor([0, 1])
    for index in range(5):
        value = torch.tensor([[float(index)], [10.0 + index]])
        ring.write(slot, torch.tensor([index, index]), value)
    assert ring.read(slot, torch.tensor([4, 4]), 3)[..., 0].tolist() == [[2, 3, 4], [12, 13, 14]]
    assert ring.read(slot[1:], torch.tensor([4]), 2)[..., 0].tolist() == [[13, 14]]


def test_only_what_is_new_is_computed():
    rows = {}

    def count(name):
        def hook(module, inputs, output):
            rows[name] = rows.get(name, 0) + inputs[0].numel() // inputs[0].shape[-1]

        return hook

    for lookback, expected in (
        ("", {"text": 1, "block": 1, "key0": 1, "ff0": N, "key2": N, "query2": 1, "ff2": 1}),
        ("3,4,3", {"text": 1, "block": 1, "key0": 1, "ff0": 1, "key2": 1, "query2": 1, "ff2": 1}),
    ):
        scorer = make_scorer(make_config(decoder_lookback=lookback))
        _, rooms = make_rooms([20], gone=0.0)
        play(scorer, {"room000": rooms["room000"][:-1]})
        model = scorer._model
        for name, module in {
            "text": model.fusion.text,
            "block": model.block.layers[0].feed_forward,
            "key0": model.decoder[0].attention.key,
            "ff0": model.decoder[0].feed_forward,
            "key2": model.decoder[2].attention.key,
            "query2": model.decoder[2].attention.query,
            "ff2": model.decoder[2].feed_forward,
        }.items():
            module.register_forward_hook(count(name))
        rows.clear()
        only(scorer, rooms["room000"][-1])
        assert rows == expected


def test_with_a_new_run_the_room_begins_anew():
    _, rooms = make_rooms([10], gone=0.0)
    scorer, plain = make_scorer(max_rooms=1), make_scorer()
    one = [changed(segment, run="one") for segment in rooms["room000"]]
    two = [changed(segment, run="two") for segment in rooms["room000"]]
    played = [scorer.score([segment])[0] for segment in one[:6]]
    expected = [plain.score([segment])[0].score for segment in rooms["room000"][:6]]
    assert [scored.score for scored in played] == expected
    assert only(scorer, one[2]).status == "repeated"
    again = [scorer.score([segment])[0] for segment in two[:3]]
    assert [(scored.status, scored.score) for scored in again] == [
        ("scored", score) for score in expected[:3]
    ]
    other = make_scorer(max_rooms=1)
    other.restore(scorer.save())
    for each in (scorer, other):
        assert only(each, one[6]).status == "late"  # of a run that was replaced
        assert only(each, two[1]).status == "repeated"
        assert only(each, rooms["room000"][3]).score == expected[3]  # none named: the room's
        assert each.rooms == {"room000": 3}
    with pytest.raises(InputError, match="run must be text of at most 64"):
        scorer.score([changed(two[4], run="x" * 65)])


def test_runs_in_one_call_are_taken_one_after_the_other():
    from contentctr.live.engine import parts_by_run

    _, rooms = make_rooms([10, 10], gone=0.0)
    x, y = ([changed(s, run="one") for s in room] for room in rooms.values())
    anew = [changed(s, run="two") for s in x]
    batch = [x[1], x[0], y[0], anew[1], anew[0], y[1]]
    assert parts_by_run(batch) == [[1, 2, 0], [4, 3, 5]]


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(method="beta", parameters=(0.6, 1.4, 0.8)),
        Calibration(method="isotonic", knots=((0.0, 0.0), (0.4, 0.2), (0.5, 0.7), (1.0, 1.0))),
    ],
)
def test_a_calibrated_live_score_is_the_offline_one(calibration):
    data, rooms = make_rooms([7, 3])
    plain = make_scorer()
    scorer = make_scorer(calibration=calibration)
    assert scorer.revision == plain.revision  # the state does not depend on it
    found = np.concatenate(list(play(scorer, rooms).values()))
    raw = offline(plain, data)
    np.testing.assert_allclose(found, calibration(raw), atol=1e-6)
    assert np.abs(found - raw).max() > 1e-3
    # A state of the other goes on, and a repeated segment has its score again.
    other = make_scorer(calibration=calibration)
    play(plain, rooms)
    other.restore(plain.save())
    room_id, segments = next(iter(rooms.items()))
    again = only(other, segments[-1])
    assert again.status == "repeated" and again.room_id == room_id
    assert again.score == pytest.approx(calibration(raw)[len(segments) - 1], abs=1e-6)
