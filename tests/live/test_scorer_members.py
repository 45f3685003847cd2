"""An ensemble's live scores are those of its offline windows, whatever its members read."""

import dataclasses

import numpy as np
import pytest
import torch

from contentctr.errors import InputError
from contentctr.live.scorer import RoomScorer
from contentctr.live.scorer_segments import as_batch
from contentctr.live.shares import has_shares, segment_shares
from contentctr.models.ensemble import members_of
from live_scorer import (
    KNOWN,
    SPEC,
    changed,
    interrupt,
    make_config,
    make_rooms,
    make_scorer,
    offline,
    play,
)

ALL = {"statistics": True, "residual": True, "sound": True, "wide": True, "words": True}


def two(horizon=0, **settings):
    return make_config(horizon=horizon, members=2, rotary=True, **settings)


@pytest.mark.parametrize("horizon", [0, 1])
@pytest.mark.parametrize("settings", [{}, {"statistics": True}, ALL], ids=["paper", "one", "all"])
@pytest.mark.parametrize("lookback", ["", "2,1,3"])
def test_every_score_is_the_offline_windows(settings, lookback, horizon):
    scorer = make_scorer(two(horizon, decoder_lookback=lookback, **settings))
    data, rooms = make_rooms([30, 1, 7, 8, 9, 2], horizon=horizon)
    found = play(scorer, rooms, apart=2)
    expected = offline(scorer, data, horizon)
    assert np.nanmax(expected) - np.nanmin(expected) > 0.1
    at = {room_id: data.table["room_id"].index_of(room_id) for room_id in rooms}
    for room_id, scores in found.items():
        kept = scores[: len(scores) - horizon]
        aligned = expected[at[room_id] + horizon : at[room_id] + len(scores)]
        assert np.abs(np.array(kept) - aligned).max(initial=0) <= 1e-6


def test_a_score_is_the_mean_of_what_the_members_say_alone():
    scorer, (_, rooms) = make_scorer(two(**ALL)), make_rooms([12, 5])
    alone = dataclasses.replace(scorer_config := two(**ALL), train=make_config().train)
    assert scorer_config.train.members == 2 and alone.train.members == 1
    each = [
        play(RoomScorer(member, alone, SPEC, KNOWN, max_rooms=8), rooms)
        for member in members_of(scorer._model)
    ]
    for room_id, scores in play(scorer, rooms).items():
        one, other = (np.array(found[room_id]) for found in each)
        assert np.abs(one - other).max() > 0.01
        odds = np.mean([np.log(s / (1 - s)) for s in (one, other)], axis=0)
        assert np.allclose(scores, 1 / (1 + np.exp(-odds)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("lookback", ["", "3,4,3"])
def test_a_restored_room_goes_on_with_the_same_bits(lookback):
    config = two(decoder_lookback=lookback, **ALL)
    _, rooms = make_rooms([20, 20])
    # A gap, so that what is missing is counted by each member.
    start = {room_id: [*room[:5], *room[8:11]] for room_id, room in rooms.items()}
    rest = {room_id: room[11:] for room_id, room in rooms.items()}
    scorer = make_scorer(config)
    play(scorer, start)
    state = scorer.save()
    expected = play(scorer, rest)
    other = make_scorer(config)
    assert other.restore(state) == list(rooms) and other.save() == state
    assert play(other, rest) == expected


def test_the_state_is_as_many_rooms_states_and_no_other_models():
    _, rooms = make_rooms([12])
    one, both = make_scorer(make_config(rotary=True)), make_scorer(two())
    for scorer in (one, both):
        play(scorer, rooms)
    small, large = (
        sum(t.nbytes for name, t in s.state_of().tensors.items() if name != "score")
        for s in (one, both)
    )
    assert large == 2 * small
    for scorer, state in ((one, both.save()), (both, one.save())):
        with pytest.raises(InputError, match="revision must be"):
            scorer.restore(state)


def test_members_in_another_order_are_another_model():
    scorer = make_scorer(two())
    members = members_of(scorer._model)
    turned = type(scorer._model)(members[::-1])
    assert RoomScorer(turned, two(), SPEC, KNOWN).revision != scorer.revision


def test_an_interrupted_call_can_be_made_again(monkeypatch):
    """Between two members, of which one has kept the segment already."""
    config = two(statistics=True)
    _, rooms = make_rooms([7, 7])
    segments = [s for room in rooms.values() for s in room]
    expected = make_scorer(config, batch_size=1).score(segments)
    scorer = make_scorer(config, batch_size=1)
    _, decoder = [one.decoder for one in scorer._live.members]
    interrupt(monkeypatch, decoder, at=9)
    with pytest.raises(KeyboardInterrupt):
        scorer.score(segments)
    for before, after in zip(expected, scorer.score(segments), strict=True):
        assert before.score == after.score


def test_shares_are_the_members_mean():
    scorer, (_, rooms) = make_scorer(two(sound=True)), make_rooms([6], gone=0.0)
    segments = rooms["room000"]
    batch = as_batch(segments, [1] * len(segments), SPEC, sound=True)
    assert has_shares(scorer._model)
    found = segment_shares(scorer._model, batch)
    each = [segment_shares(member, batch) for member in members_of(scorer._model)]
    for mine, one, other in zip(found, *each, strict=True):
        for layer in ("first", "last"):
            values, first, second = (vars(getattr(s, layer)) for s in (mine, one, other))
            assert sum(values.values()) == pytest.approx(1)
            for name, value in values.items():
                assert value == pytest.approx((first[name] + second[name]) / 2, abs=1e-6)
            assert first["visual"] != second["visual"]


def test_an_ensemble_of_models_that_cannot_be_live_is_refused():
    with pytest.raises(InputError, match="model.kind must be contentctr or .*, not 'mlp'"):
        make_scorer(make_config("mlp", members=2))


def test_a_segment_of_which_nothing_is_there_is_scored_by_all():
    scorer, (_, rooms) = make_scorer(two(**ALL)), make_rooms([4])
    bare = [
        changed(s, visual=None, text=None, has_speech=False, has_comments=False, sound=None)
        for s in rooms["room000"]
    ]
    assert all(0 < score < 1 for score in play(scorer, {"room000": bare})["room000"])
    assert torch.is_inference_mode_enabled() is False
