"""Comments as the text encoder reads them: what is joined, what is kept, in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contentctr.encode.comments import condense, encoder_pair, shorten


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        ("", ""),
        (" \n\n  ", ""),
        ("one", "one"),
        ("first\nsecond", "second\nfirst"),
        ("lol lol lol", "lol ×3"),
        ("lol\nnice\nLOL\nlol lol lol", "lol ×5\nnice"),
        ("nice\nlol", "lol\nnice"),
        ("Lol\nLOL", "LOL ×2"),
        ("so  good\nso good ", "so good ×2"),
        ("omg KEKW KEKW kekw wow", "omg KEKW ×3 wow"),
        ("we go we go we go now", "we go ×3 now"),
        ("we go we go", "we go ×2"),
        ("very very good", "very very good"),
        ("a b a b a b c c c", "a b ×3 c ×3"),
        ("哈哈哈哈哈哈哈\n哈哈哈哈", "哈哈哈 ×2"),
        ("nooooooo\nnooooo way", "nooo way\nnooo"),
        ("aha hahahahaha", "aha hahaha"),
        ("[doge][doge][doge][doge]", "[doge][doge][doge]"),
        ("😂😂😂😂😂 ok", "😂😂😂 ok"),
        ("1000000\n233333", "233333\n1000000"),
        ("lol ×3", "lol ×3"),
    ],
)
def test_by_hand(comments: str, expected: str) -> None:
    assert condense(comments) == expected


def test_an_emote_of_many_viewers_leaves_the_newest_of_the_others() -> None:
    lines = [f"question {number}" for number in range(3)]
    flood = ["PogChamp"] * 300
    assert condense("\n".join([*lines, *flood])) == (
        "PogChamp ×300\nquestion 2\nquestion 1\nquestion 0"
    )
    assert condense("\n".join([*flood, *lines])).endswith("\nPogChamp ×300")


def test_a_phrase_longer_than_eight_words_counts_only_as_a_whole_comment() -> None:
    phrase = "a b c d e f g h i"
    assert shorten(" ".join([phrase] * 3)) == (phrase, 3)
    assert shorten(" ".join([phrase] * 3) + " z") == (" ".join([phrase] * 3) + " z", 1)


def test_speech_is_only_stripped() -> None:
    assert encoder_pair("  so so so good \n", "b\nb ") == ("so so so good", "b ×2")


WORDS = st.lists(st.sampled_from(["a", "A", "b", "ha", "1", "  ", "\n", "😂"]), max_size=30)


@given(WORDS)
def test_it_never_has_more_words_and_every_comment_is_in_it(words: list[str]) -> None:
    comments = " ".join(words)
    after = condense(comments)
    assert len(after.split()) <= len(comments.split())
    assert bool(after) == bool(comments.strip())
    lines = [line for line in comments.split("\n") if line.strip()]
    assert len(after.split("\n")) <= max(len(lines), 1)
    held = "\n".join(after.casefold().split("\n"))
    assert all(shorten(line)[0].casefold() in held for line in lines)


@given(st.text(max_size=60))
def test_any_text_goes_through(text: str) -> None:
    after = condense(text)
    assert after == condense(text)
    assert not after or after == after.strip()
