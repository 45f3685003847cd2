"""The words of a segment as numbers, beside the vector of its text: hashed, in any language.

A sentence encoder's vector says what is talked about, and not which words were said
(docs/tables/real-soccer.md). There is no list of words: a word, cut to its first letters since
languages inflect, is the hash of it, and so is each pair of neighbours. Scripts that put no spaces
between words are taken letter by letter, so that the pairs are what is read.

A hash of 22 bits is stored as two numbers below 2,048, which float16 holds exactly: so words go
where vectors go, in files, in messages and in rooms' state (models/words.py puts them together).
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from contentctr.files import digest
from contentctr.models.words import DIGITS, NO_WORD

MOST = 192
"""Words and pairs that are kept of a segment."""
DIM = 2 * MOST
"""Numbers of a segment: the upper halves of its hashes, then the lower ones."""
LETTERS = 5
MOST_READ = 4096
"""Words of a segment's speech, and of its comments, from which those that are kept are taken: more
is no talk, and would take a posted segment long."""
_RULES = 2
"""Goes up when other numbers come of the same text."""
REVISION = digest("words", _RULES, MOST, MOST_READ, LETTERS, DIGITS)
"""Hash of all that the numbers depend on beside the texts."""
_NO_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_SIGNS = "\u2600-\u27bf\U0001f000-\U0001faff"
"""Emoji: in a chat they are words."""
_MARKED = (
    *((0x0590, 0x0E00), (0x0F00, 0x1000), (0x10A0, 0x1780), (0x1800, 0x1AB0), (0x1B00, 0x1DC0)),
    *((0xA000, 0xFE00), (0x10000, 0x12000)),
)
_MARKS = "".join(
    char
    for char in map(chr, chain.from_iterable(range(*codes) for codes in _MARKED))
    if unicodedata.category(char) in ("Mn", "Mc")
)
r"""Vowels and points beside the letters of Hindi, Tamil, Arabic: of a word, though no \w. Not those
of all scripts, such as accents, which NFKC puts into letters."""
_LETTER = rf"[^\W{_NO_SPACES}]"
_WORD = re.compile(rf"[{_NO_SPACES}{_SIGNS}]|{_LETTER}+(?:[{_MARKS}]{_LETTER}*)*")
_TIMES = re.compile(r" ×\d+(?=$|\s)")
"""How often a comment was said, as encode/comments.py joins equal ones."""


def word_numbers(
    pairs: Sequence[tuple[str, str]],
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """What is stored of the words of some segments.

    Args:
        pairs: (speech, comments) of each, as the text encoder is given them (`encoder_pair`): an
            equal comment is there once, and is one word's worth however often it was said.

    Returns:
        float16 [S, DIM], zeros where a place is left over, and whether there is any word, bool [S].
    """
    found_SX = np.zeros((len(pairs), DIM), np.float16)
    for row, pair in enumerate(pairs):
        # Of more, those of the smallest hashes: a sample that favours no place in the text.
        words = sorted(_hashes(*pair))[:MOST]
        high, low = np.divmod(np.array(words, np.int64), DIGITS)
        found_SX[row, : len(words)] = high
        found_SX[row, MOST : MOST + len(words)] = low
    has_S: NDArray[np.bool_] = np.any(found_SX, axis=1)
    return found_SX, has_S


def _hashes(speech: str, comments: str) -> set[int]:
    """Of distinct words and pairs; the same word said and written are two."""
    found = set(_line_hashes("speech", _stems(speech, MOST_READ)))
    left = MOST_READ
    for line in _TIMES.sub("", comments).split("\n"):
        stems = _stems(line, left)
        left -= len(stems)
        found.update(_line_hashes("comment", stems))
        if not left:
            break
    return found


def _stems(line: str, most: int) -> list[str]:
    text = unicodedata.normalize("NFKC", line).casefold()
    return [word[0][:LETTERS] for word in islice(_WORD.finditer(text), most)]


def _line_hashes(part: str, stems: list[str]) -> Iterator[int]:
    pairs = (f"{a} {b}" for a, b in zip(stems, stems[1:], strict=False))
    for stem in (*stems, *pairs):
        hashed = zlib.crc32(f"{part} {stem}".encode()) % (DIGITS * DIGITS)
        if hashed != NO_WORD:
            yield hashed
