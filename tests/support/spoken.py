"""Made-up rooms in which a word is said one segment before a label, and features tell nothing."""

from __future__ import annotations

import json

import numpy as np

from contentctr.encode.words import REVISION
from contentctr.store import vectors as features
from rare import write_rare

WIDTH = 8
"""Numbers of a segment: up to four words."""
SAID, MEANT = 7, 1
"""The word, and how many segments later the label is."""


def write_spoken(root, *, rooms=40, length=20, share=0.08, seed=0, own_word=None):
    """A prepared folder with words.

    Args:
        root: where.
        rooms: half of them to train on.
        length: segments of each.
        share: of the segments with a label.
        seed: of all numbers.
        own_word: a word that is said at each label of the first room, and nowhere else.
    """
    data = write_rare(root, rooms=rooms, length=length, share=share, shift=0.0, seed=seed)
    label_RN = data.segments()["goal"].to_numpy().reshape(rooms, length) > 0
    rng = np.random.default_rng(seed + 1)
    # Distinct in a segment, as encode/words.py has them.
    low_RNW = rng.integers(0, 10, (rooms, length, WIDTH // 2)) + np.arange(20, 20 + 5 * WIDTH, 10)
    low_RNW[:, :-MEANT, 0] = np.where(label_RN[:, MEANT:], SAID, low_RNW[:, :-MEANT, 0])
    if own_word is not None:
        low_RNW[0, :, 1] = np.where(label_RN[0], own_word, low_RNW[0, :, 1])
    words = np.concatenate((np.zeros_like(low_RNW), low_RNW), axis=2).astype(np.float16)
    whole = features.read_index(data.features_dir)
    stored = [
        features.StoredRoom(
            room_id=room_id,
            tensors={
                **features.read_entry(whole[room_id]),
                "words": words[row],
                "has_words": np.ones(length, np.uint8),
            },
        )
        for row, room_id in enumerate(data.rooms()["room_id"])
    ]
    features.write_shard(data.features_dir, "all", stored)
    path = data.features_dir / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spec"] |= {"words_dim": WIDTH, "words_revision": REVISION}
    path.write_text(json.dumps(manifest))
    return data
