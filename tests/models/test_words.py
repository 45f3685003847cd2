"""What words say: hand-worked sums, each segment by itself, and nothing of what is not there."""

import dataclasses

import pytest
import torch
import torch.distributed as dist

from contentctr.batch import DataSpec, ExtraInput, Vocabulary
from contentctr.config import Config, DataConfig, InputError, ModelConfig
from contentctr.models.registry import MODELS, build_model
from contentctr.models.words import BUCKETS, DIGITS, SCORES, buckets, lags_of
from make import make_batch

SPEC = DataSpec(visual_dim=6, text_dim=4, words_dim=4)
SIZES = ModelConfig(d_model=16, num_heads=2, perceiver_layers=1, decoder_layers=1, streamer_dim=4)
KNOWN = Vocabulary(streamers=["a", "b"])


def make_config(**sizes):
    sizes = {"words": True, **sizes}
    return Config(data=DataConfig(window_len=5), model=dataclasses.replace(SIZES, **sizes))


def make_model(spec=SPEC, **sizes):
    torch.manual_seed(0)
    return build_model(make_config(**sizes), spec, KNOWN)


def with_words(batch, words_BNW):
    """The batch with up to two words a segment, as numbers below DIGITS."""
    low_BNW = torch.as_tensor(words_BNW, dtype=torch.float32)
    values = torch.cat((torch.zeros_like(low_BNW), low_BNW), dim=-1)
    words = ExtraInput(values_BNX=values, has_BN=low_BNW.any(-1))
    return dataclasses.replace(batch, extra={"words": words})


def teach(words):
    """Word 7 and word 9 are known; features say nothing."""
    by_word_VK = torch.arange(1.0, 1 + 2 * words.lags).view(2, words.lags)
    words.know(torch.tensor([7, 9]), torch.tensor([1.0, 1.0]), by_word_VK)
    return by_word_VK


def test_a_hash_is_put_together_of_its_halves():
    numbers = torch.tensor([[[1.0, 3.0, 0.0, 5.0, 2.0, 0.0]]])
    assert buckets(numbers).tolist() == [[[DIGITS + 5, (3 * DIGITS + 2) % BUCKETS, 0]]]


def test_scores_are_the_weights_of_the_words_by_tf_idf_by_hand():
    words = make_model().words
    by_word_VK = teach(words)
    words.idf_V[2] = 2.0
    batch = with_words(make_batch(b=1, n=3, v=6, t=4), [[[7, 9], [9, 8], [0, 0]]])
    found_NK = words.of_words(batch.extra["words"].values_BNX)[0]
    both = (by_word_VK[0] + 2 * by_word_VK[1]) / 5**0.5
    assert torch.allclose(found_NK, torch.stack((both, by_word_VK[1], torch.zeros(5))))


def test_the_sum_is_of_what_each_earlier_segment_says_of_this_one():
    words = make_model().words
    with torch.no_grad():
        words.share_PK.fill_(1.0)
    scores = torch.randn(1, 7, 2 * words.lags, generator=torch.Generator().manual_seed(1))
    batch = make_batch(b=1, n=7, v=6, t=4)
    given = ExtraInput(values_BNX=scores, has_BN=torch.ones(1, 7, dtype=torch.bool))
    found_N = words(dataclasses.replace(batch, extra={SCORES: given}))[0].detach()
    terms_NK = scores[0].view(7, 2, 5).sum(1)
    wanted = [sum(terms_NK[n - k, k] for k in range(min(5, n + 1))) for n in range(7)]
    assert torch.allclose(found_N, torch.stack(wanted), atol=1e-5)


def test_in_a_model_that_sees_later_segments_the_sum_is_of_those_on_both_sides():
    words = make_model(kind="without_mask").words
    assert (words.first_lag, words.lags) == (-2, 5)
    with torch.no_grad():
        words.share_PK.fill_(1.0)
    scores = torch.randn(1, 7, 2 * words.lags, generator=torch.Generator().manual_seed(1))
    batch = make_batch(b=1, n=7, v=6, t=4)  # of which the last two are padding
    given = ExtraInput(values_BNX=scores, has_BN=torch.ones(1, 7, dtype=torch.bool))
    found_N = words(dataclasses.replace(batch, extra={SCORES: given}))[0].detach()
    terms_NK = scores[0].view(7, 2, 5).sum(1)
    wanted = [sum(terms_NK[n - k, 2 + k] for k in range(-2, 3) if 0 <= n - k < 5) for n in range(5)]
    assert torch.allclose(found_N[:5], torch.stack(wanted), atol=1e-5)


def test_unknown_words_and_missing_parts_say_nothing():
    words = make_model().words
    teach(words)
    batch = make_batch(b=2, n=5, v=6, t=4)
    silent = torch.zeros_like(batch.has_speech_BN)
    batch = dataclasses.replace(batch, has_speech_BN=silent, has_comments_BN=silent)
    unknown = with_words(batch, torch.full((2, 5, 2), 1234))
    assert not words.of_words(unknown.extra["words"].values_BNX).any()
    nothing = with_words(batch, torch.zeros(2, 5, 2))
    assert not words.scores(nothing).any()
    assert torch.equal(words.token(nothing), words.missing.expand(2, 5, 16))


def test_words_are_a_token_and_a_part_of_the_score():
    model = make_model()
    teach(model.words)
    batch = make_batch(b=2, n=5, v=6, t=4)
    one, two = (with_words(batch, torch.full((2, 5, 2), word)) for word in (7, 9))
    assert not torch.equal(model(one).logits_BN, model(two).logits_BN)
    tokens, *_ = model.content(one)
    assert tokens.shape[1] == 3
    before, after = (model(x).logits_BN for x in (one, _later(one, two)))
    assert torch.equal(before[:, :3], after[:, :3]) and not torch.equal(before, after)


def _later(one, two):
    """The first batch with the other's words from segment 3 on."""
    words, other = one.extra["words"], two.extra["words"]
    values = torch.cat((words.values_BNX[:, :3], other.values_BNX[:, 3:]), dim=1)
    return dataclasses.replace(one, extra={"words": dataclasses.replace(words, values_BNX=values)})


def test_off_the_other_weights_are_the_same():
    plain, more = make_model(words=False).state_dict(), make_model().state_dict()
    assert all(torch.equal(plain[name], more[name]) for name in plain)
    assert {n for n in more if n not in plain} == {n for n in more if n.startswith("words.")}


def test_processes_can_share_what_is_fitted(tmp_path):
    words = make_model().words
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        for buffer in words.buffers():
            dist.broadcast(buffer, 0)
    finally:
        dist.destroy_process_group()


def test_lags_are_as_far_as_the_model_looks_back():
    assert lags_of(make_config()) == 5
    assert lags_of(make_config(decoder_lookback="3")) == 3
    assert lags_of(Config(data=DataConfig(window_len=200))) == 24


@pytest.mark.parametrize("kind", ["deepfm", "gru"])
def test_models_that_cannot_take_words_say_so(kind):
    with pytest.raises(InputError, match=rf"model\.words must be false with model\.kind={kind}"):
        make_model(kind=kind)
    assert not hasattr(MODELS[kind], "words")


def test_a_model_without_text_reads_no_words():
    with pytest.raises(InputError, match=r"model\.words must be false .* model\.kind=without_text"):
        make_model(kind="without_text")
    assert make_model(kind="without_visual").words is not None


def test_data_without_words_and_settings_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"model\.words must be false with this data"):
        make_model(dataclasses.replace(SPEC, words_dim=0))
    with pytest.raises(InputError, match=r"model\.words must be false without content"):
        make_config(content=False, statistics=True)
    with pytest.raises(InputError, match=r"model\.words must be false with train\.finetune"):
        config = make_config()
        Config(model=config.model, train=dataclasses.replace(config.train, finetune_encoders=True))


@pytest.mark.parametrize("shared", [True, False])
def test_what_words_say_is_computed_once_and_scores_are_the_same_bits(shared, monkeypatch):
    model = make_model().eval()
    teach(model.words)
    batch = with_words(make_batch(b=2, n=5, v=6, t=4), torch.full((2, 5, 2), 9))
    if shared:
        alone = with_words(make_batch(b=5, n=1, v=6, t=4, missing=False), torch.full((5, 1, 2), 9))
        rows = torch.arange(5).expand(2, 5)
        batch = dataclasses.replace(batch, extra={}, distinct=alone, row_BN=rows)
    calls, plain = [], type(model.words).raw
    monkeypatch.setattr(
        type(model.words), "raw", lambda *args: (calls.append(args), plain(*args))[1]
    )
    found = model(batch).logits_BN
    assert len(calls) == 1
    monkeypatch.setattr(type(model.words), "read", lambda self, given: given)
    assert torch.equal(model(batch).logits_BN, found) and len(calls) == 3
