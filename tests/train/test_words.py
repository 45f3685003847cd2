"""model.words: what is fitted, on which rooms, and that a run with it is as any other."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from contentctr.config import override
from contentctr.errors import InputError
from contentctr.metrics.average_precision import average_precision
from contentctr.models.registry import build_model
from contentctr.models.words import SCORES
from contentctr.score.checkpoint import load
from contentctr.score.rooms import score_segments, segments_for
from contentctr.store.vectors import data_spec
from contentctr.train import words as fitting
from contentctr.train.init_from import open_init, take_over
from contentctr.train.loop import train_model
from contentctr.train.words import WordsFit
from contentctr.windows.rooms import WindowLoader, sample_windows
from contentctr.windows.segment_data import known_ids, load_segments
from spoken import MEANT, SAID, write_spoken
from training import TINY, same, weights

OWN = 11
CONFIG = override(TINY, ["window_len=4", "batch_size=32", "epochs=2", "words=true", "prior=0.08"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_spoken(tmp_path_factory.mktemp("spoken") / "data", own_word=OWN)


def loader_of(data):
    known = known_ids(data.segments())
    segments = load_segments(data, known, split="train", horizon=0, model=CONFIG.model)
    windows = sample_windows(segments, CONFIG.data, "goal")
    loader = WindowLoader(
        data=segments, windows=windows, window_len=4, batch_size=4, num_negatives=1, seed=0
    )
    return build_model(CONFIG, data_spec(data), known), loader


def fit_words(model, loader):
    return WordsFit()(model, loader)


def fitted(data, monkeypatch, least=2):
    monkeypatch.setattr(fitting, "LEAST_SEGMENTS", least)
    model, loader = loader_of(data)
    return model.words, fit_words(model, loader).data


def said(words, word):
    """What a segment says with one word alone, [K]."""
    return words.of_words(torch.tensor([[[0.0, float(word)]]]))[0, 0]


def test_a_word_says_most_of_the_segment_it_was_said_before(data, monkeypatch):
    words, _ = fitted(data, monkeypatch)
    by_lag_K = said(words, SAID)
    assert by_lag_K.argmax() == MEANT and by_lag_K[MEANT] > 5 * said(words, 25).abs().max()


@pytest.mark.parametrize("first_lag", [0, -2])
def test_targets_so_many_segments_later_are_of_the_same_room(data, first_lag):
    _, loader = loader_of(data)
    segments = loader.data
    found_SK = fitting._later(segments, first_lag, 4)
    for row in (0, 1, 18, 19, 20, 41, len(segments) - 1):
        for k in range(4):
            later = row + first_lag + k
            there = 0 <= later < len(segments) and segments.room_S[later] == segments.room_S[row]
            wanted = float(segments.target_S[later]) if there else np.nan
            np.testing.assert_equal(float(found_SK[row, k]), wanted)


def test_weights_are_those_of_ridge_regression(data, monkeypatch):
    words, segments = fitted(data, monkeypatch)
    assert segments.extra.keys() == {SCORES}  # no batch has to carry the words
    read = loader_of(data)[1].data.extra["words"]
    values = read.values_SX[torch.arange(len(segments))].float()
    low_SW = values[:, 4:].long().numpy()
    x_SU = np.zeros((len(segments), 64))
    np.put_along_axis(x_SU, low_SW, 1.0, axis=1)
    x_SU *= words.idf_V[words.row_U[:64].long()].numpy()
    x_SU /= np.linalg.norm(x_SU, axis=1, keepdims=True)
    target_S = segments.target_S.numpy()
    later_S = np.where(np.diff(segments.room_S, append=-1) == 0, np.roll(target_S, -1), np.nan)
    y_S = np.where(np.isnan(later_S), 0, later_S - np.nanmean(later_S))
    wanted = Ridge(alpha=fitting.RIDGE_WORDS, fit_intercept=False).fit(x_SU, y_S).coef_
    for word in (SAID, OWN, 25):
        assert said(words, word)[1] == pytest.approx(wanted[word], abs=1e-3)


def test_a_room_is_scored_by_what_other_rooms_taught(data, monkeypatch):
    words, segments = fitted(data, monkeypatch)
    assert said(words, OWN)[0] > 0.05
    first_S = torch.from_numpy(segments.room_S == 0)
    assert (segments.target_S[first_S] > 0).any()
    folds = int(min(fitting.FOLDS, segments.room_S.max() + 1))
    model, loader = loader_of(data)
    without = fitting._Said(loader.data, words)
    own_S = loader.data.room_S // 2 % folds == 0
    without.fit(model.words, ~own_S)
    assert not said(model.words, OWN).any()  # nobody else says it
    model.words.scale.load_state_dict(words.scale.state_dict())
    raw_SC = torch.from_numpy(without.raw(model.words, own_S))
    wanted = model.words.scale(raw_SC)
    found = segments.extra[SCORES].values_SX[torch.from_numpy(own_S)]
    assert torch.allclose(found, wanted, atol=1e-5)


def test_scores_have_mean_0_and_deviation_1(data, monkeypatch):
    _, segments = fitted(data, monkeypatch)
    scores_SC = segments.extra[SCORES].values_SX
    assert scores_SC.mean(0).abs().max() < 0.05
    assert (scores_SC.std(0) - 1).abs().max() < 0.1


def test_rare_words_have_no_weight_and_most_rooms_are_fitted_on(data, monkeypatch):
    words, _ = fitted(data, monkeypatch, least=12)
    assert not said(words, OWN).any() and said(words, SAID).any()
    monkeypatch.setattr(fitting, "MOST_SEGMENTS", 100)
    model, loader = loader_of(data)
    kept_S = fitting._Said(loader.data, words).fitted_S
    assert 60 <= kept_S.sum() <= 100
    rooms = loader.data.room_S
    assert all(kept_S[rooms == room].all() or not kept_S[rooms == room].any() for room in rooms)
    assert fit_words(model, loader).data.extra[SCORES].values_SX.isfinite().all()


def test_each_of_several_parts_keeps_what_it_learned(data):
    both = torch.nn.ModuleList(loader_of(data)[0] for _ in range(2))
    before = [{k: v.clone() for k, v in one.named_parameters()} for one in both]
    fit_words(both, loader_of(data)[1])
    for one, old in zip(both, before, strict=True):
        assert all(torch.equal(weight, old[name]) for name, weight in one.named_parameters())
    one, other = (dict(model.words.named_buffers()) for model in both)
    assert one["by_feature_TK"].any() and all(torch.equal(one[n], other[n]) for n in one)
    assert not torch.equal(*(model.words.missing for model in both))


@pytest.mark.parametrize("most_rooms", [10, 5])
def test_rooms_that_are_fitted_on_are_evenly_among_the_folds(data, monkeypatch, most_rooms):
    model, loader = loader_of(data)
    rooms = int(loader.data.room_S.max()) + 1
    monkeypatch.setattr(fitting, "MOST_SEGMENTS", -(-len(loader.data) * most_rooms // rooms))
    fold_S = fitting._folds(loader.data)
    assert rooms == 20
    fitted_S = fitting._Said(loader.data, model.words).fitted_S
    own = [set(loader.data.room_S[fitted_S & (fold_S == fold)]) for fold in range(4)]
    assert min(map(len, own)) >= 1 and sum(map(len, own)) == most_rooms


@pytest.mark.parametrize("spoken_in", [(), (0, 1), (0, 8)])
def test_texts_in_one_part_of_the_rooms_are_refused(data, spoken_in):
    model, loader = loader_of(data)
    silent_S = torch.from_numpy(~np.isin(loader.data.room_S, spoken_in))
    for has_S in (loader.data.has_speech_S, loader.data.has_comments_S):
        has_S[silent_S] = False
    with pytest.raises(InputError, match=r"texts with model\.words in at least 2 of the 4 parts"):
        fit_words(model, loader)


def test_rooms_without_text_say_nothing_and_leave_the_others_folds(data, monkeypatch):
    monkeypatch.setattr(fitting, "LEAST_SEGMENTS", 2)
    model, loader = loader_of(data)
    before_S = fitting._folds(loader.data)
    silent_S = torch.from_numpy(loader.data.room_S % 5 == 0)
    for has_S in (loader.data.has_speech_S, loader.data.has_comments_S):
        has_S[silent_S] = False
    loader.data.extra["words"].has_S[silent_S] = False
    scores_SC = fit_words(model, loader).data.extra[SCORES].values_SX
    assert np.array_equal(fitting._folds(loader.data), before_S)
    assert scores_SC.isfinite().all() and not scores_SC[silent_S].any()
    assert all(buffer.isfinite().all() for buffer in model.words.buffers())


def test_a_run_finds_what_is_told_by_a_word_alone(data, tmp_path):
    found = {}
    for name, on in (("plain", "false"), ("words", "true")):
        config = override(CONFIG, [f"words={on}"])
        train_model(config, data, tmp_path / name, show_progress=False)
        checkpoint = load(tmp_path / name)
        segments = segments_for(checkpoint, data, "test")
        scores_S = score_segments(checkpoint.load_model(), segments, window_len=4)
        found[name] = average_precision(segments.target_S.numpy() > 0, scores_S)
    assert found["words"] > 0.5 > 0.3 > found["plain"]


def test_a_resumed_run_is_equal_to_the_bit(data, tmp_path):
    train_model(CONFIG, data, tmp_path / "whole", show_progress=False)
    train_model(override(CONFIG, ["epochs=1"]), data, tmp_path / "cut", show_progress=False)
    train_model(CONFIG, data, tmp_path / "cut", resume=True, show_progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_a_run_from_another_fits_its_own_words(data, tmp_path):
    run = train_model(CONFIG, data, tmp_path / "run", show_progress=False)
    more = write_spoken(tmp_path / "more", seed=5)
    train_model(CONFIG, more, tmp_path / "next", init_from=run, show_progress=False)
    before, after = (load(tmp_path / name).load_model().state_dict() for name in ("run", "next"))
    assert not torch.equal(before["words.by_word_VK"], after["words.by_word_VK"])
    told = load(tmp_path / "next").info["init_from"]
    fitted = {f"words.{name}" for name, _ in load(run).load_model().words.named_buffers()}
    assert set(told["new"]) == fitted and len(fitted) == 8
    assert {"words.head.0.weight", "words.missing", "words.share_PK"} <= set(told["taken"])


def test_what_was_learned_of_words_starts_anew_with_other_lags_or_another_target(data, tmp_path):
    run = train_model(override(CONFIG, ["epochs=1"]), data, tmp_path / "run", show_progress=False)
    config, known = override(CONFIG, ["window_len=3"]), known_ids(data.segments())
    spec = data_spec(data)
    init = open_init(run, "rooms")
    told = take_over(build_model(config, spec, known), init, config, spec, known)
    assert told["new"] == [name for name in sorted(told["left"]) if name.startswith("words.")]
    init = dataclasses.replace(init, new_head=True)
    told = take_over(build_model(CONFIG, spec, known), init, CONFIG, spec, known)
    assert "words.share_PK" in told["new"] and "words.missing" in told["taken"]


def test_one_room_teaches_no_words(data):
    model, loader = loader_of(data)
    keep = torch.from_numpy(loader.data.room_S == 0)
    assert keep.any()
    one = load_segments(data, known_ids(data.segments()), split="train", horizon=0)
    one.room_S[:] = 0
    with pytest.raises(InputError, match=r"training rooms must be at least 2 with model\.words"):
        fit_words(model, WindowLoader(**{**vars(loader), "data": one}))
