"""What the benchmark of texts counts as kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from contentctr.encode.encoders import TextPairEncoder, load_text
from texts import kept_lines, measure
from tiny_models import make_tiny_bert


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextPairEncoder:
    folder: Path = make_tiny_bert(tmp_path_factory.mktemp("bert"))
    return load_text(str(folder), max_tokens=8)  # five words, beside [CLS] [SEP] [SEP]


def test_a_line_is_kept_if_it_is_whole(encoder: TextPairEncoder) -> None:
    assert kept_lines(encoder, "hello this\nsong\nis great") == ({0, 1, 2}, 8, False)
    assert kept_lines(encoder, "hello this\nsong\nis great dance") == ({0, 1}, 8, True)
    assert kept_lines(encoder, "wow") == ({0}, 4, False)


def test_what_joining_keeps(encoder: TextPairEncoder) -> None:
    segments = ["wow\nwow\nlove you\nWOW\ngift link\nhello", "now\nnow"]
    plain, joined = (measure(encoder, segments, joined=joined) for joined in (False, True))
    for found in (plain, joined):
        assert found.there == {"distinct": 5, "all": 8, "newest": 8}
    # Of the first segment "wow wow love you WOW".
    assert plain.kept == {"distinct": 3, "all": 6, "newest": 6}
    # "hello gift link wow ×3", and "love you" is cut off.
    assert joined.kept == {"distinct": 4, "all": 7, "newest": 7}
    assert plain.values()["cut"] == joined.values()["cut"] == 0.5
