"""A segment's comments as the text encoder reads them: equal ones joined, the newest first.

Chat repeats itself: "lol lol lol", one emote from thirty viewers. An encoder reads 128 tokens, so
repeats would push other comments out. Storing, predicting and live scoring all come through
`encoder_pair`, so that they read the same text.
"""

from __future__ import annotations

import re

_RUN = re.compile(r"([^\d\s]{1,24}?)\1{3,}")
"""Inside a word a unit four times or more, as in "nooooo" and "hahahahaha"; digits are numbers."""
_MOST_WORDS = 8
"""Of a phrase whose repeats inside a comment are looked for."""
_LEAST_TIMES = 3
"""A phrase said twice in a row is left: its count would take as many tokens."""


def encoder_pair(speech: str, comments: str) -> tuple[str, str]:
    """Speech and comments of a segment as the text encoder is given them.

    Args:
        speech: what was said.
        comments: a line each, in the order of their times.

    Returns:
        Both stripped, the comments condensed.
    """
    return speech.strip(), condense(comments)


def condense(comments: str) -> str:
    """Comments without what they repeat, newest first, since an encoder cuts off the end.

    Equal comments, but for case and spaces, become one, in the newest's spelling and place, with
    the number of times it was said: "lol ×3". So do phrases said three times or more in a row in a
    comment, and a comment that is nothing but one phrase counts as so many. Inside a word a unit
    said more than three times is cut to three: "nooooo" is "nooo".

    Args:
        comments: a line each, in the order of their times.
    """
    times: dict[str, int] = {}
    newest: dict[str, str] = {}
    for line in comments.split("\n"):
        text, count = shorten(line)
        if text:
            key = text.casefold()
            # Taken out and put back: the last one said comes last.
            times[key] = times.pop(key, 0) + count
            newest[key] = text
    return "\n".join(_counted(newest[key], times[key]) for key in reversed(times))


def _counted(text: str, times: int) -> str:
    return text if times == 1 else f"{text} ×{times}"


def shorten(comment: str) -> tuple[str, int]:
    """A comment without its repeats, and how often it says what is then left.

    A comment of white space alone is "", once.
    """
    words = _RUN.sub(r"\1\1\1", comment).split()
    folded = [word.casefold() for word in words]
    period = _period(folded)
    if period < len(words):
        return " ".join(words[:period]), len(words) // period
    kept: list[str] = []
    place = 0
    while place < len(words):
        length, times = _phrase(folded, place)
        kept.append(_counted(" ".join(words[place : place + length]), times))
        place += length * times
    return " ".join(kept), 1


def _period(words: list[str]) -> int:
    """Words of the shortest phrase that, repeated, is the whole; all of them if there is none."""
    count = len(words)
    for length in range(1, count // 2 + 1):
        if count % length == 0 and words == words[:length] * (count // length):
            return length
    return count


def _phrase(words: list[str], place: int) -> tuple[int, int]:
    """Words of the phrase that is repeated here, and how often; (1, 1) where none is."""
    for length in range(1, min(_MOST_WORDS, (len(words) - place) // _LEAST_TIMES) + 1):
        phrase, times = words[place : place + length], 1
        while words[place + times * length : place + (times + 1) * length] == phrase:
            times += 1
        if times >= _LEAST_TIMES:
            return length, times
    return 1, 1
