"""A segment's words: each in the segment in which it ends, whatever is heard around it."""

import numpy as np
import pytest

from contentctr.rooms.sound import RATE
from contentctr.transcribe.segments import (
    CONTEXT_S,
    LANGUAGE_S,
    WINDOW_S,
    RoomLanguage,
    Word,
    hear_segment,
)
from ears import FakeEars, said


def heard(ears, samples, seconds=6.0, language=None):
    """All segments of a room's samples."""
    context = round(CONTEXT_S * RATE)
    padded = np.concatenate([np.zeros(context, np.float32), samples])
    room, found = language or RoomLanguage("en"), []
    length_s = len(samples) / RATE
    for number in range(int(-(-length_s // seconds))):
        start_s, end_s = number * seconds, min((number + 1) * seconds, length_s)
        window = padded[round(start_s * RATE) : round(end_s * RATE) + context]
        found.append(
            hear_segment(ears, window, segment=number, start_s=start_s, end_s=end_s, language=room)
        )
    return found


def numbers(segments):
    return [segment.text for segment in segments]


def test_a_word_is_heard_once_where_it_ends():
    # Words 3 and 5 go over a border; word 4 ends so near to one that it might.
    words = [(1.0, 1), (2.0, 2), (5.7, 3), (11.55, 4), (17.8, 5), (19.0, 6)]
    found = heard(FakeEars(), said(words, 24.0))
    assert numbers(found) == ["1 2", "3", "4", "5 6"]
    assert [segment.segment for segment in found] == [0, 1, 2, 3]
    assert [segment.language for segment in found] == ["en"] * 4
    times = [(each.start_s, each.end_s) for one in found for each in one.utterances]
    expected = [(1.0, 2.4), (6.0, 6.1), (12.0, 12.0), (18.0, 18.2), (19.0, 19.4)]
    # What is read back must lie in the segment: what began before it, begins with it.
    np.testing.assert_allclose(np.array(times), np.array(expected), atol=0.021)
    assert all(
        one.segment * 6.0 <= each.start_s <= each.end_s <= one.segment * 6.0 + 6.0
        for one in found
        for each in one.utterances
    )
    assert found[0].voiced_s == pytest.approx(2 * 0.6 + 0.4, abs=0.02)


def test_where_nobody_speaks_nothing_is_recognised():
    ears = FakeEars()
    found = heard(ears, said([(1.0, 1)], 30.0))
    assert numbers(found) == ["1", "", "", "", ""] and len(ears.windows) == 1
    assert found[1].voiced_s == 0.0 and found[1].language == ""


def test_what_lies_before_a_segment_takes_no_window_of_its_own():
    # Somebody speaks all the time: 35 s are heard of each segment but the first.
    words = [(0.5 * n, n % 40) for n in range(180)]
    ears = FakeEars()
    found = heard(ears, said(words, 90.0), seconds=30.0)
    assert ears.windows == [30.0, 30.0, 30.0]
    assert [len(text.split()) for text in numbers(found)] == [pytest.approx(60, abs=1)] * 3
    # With less to hear, all of it is: 25 s and the 5 s before them.
    ears = FakeEars()
    heard(ears, said([(0.5 * n, 1) for n in range(110)], 60.0), seconds=30.0)
    assert ears.windows[1] == pytest.approx(CONTEXT_S + 25.0, abs=0.2)


def test_long_segments_take_a_window_each_thirty_seconds():
    words = [(0.5 * n, n % 40) for n in range(140)]
    ears = FakeEars()
    [found] = heard(ears, said(words, 70.0), seconds=70.0)
    assert [length <= WINDOW_S for length in ears.windows] == [True] * 3
    assert found.text.split()[:55] == [str(n) for n in [*range(40), *range(15)]]


def test_the_language_is_that_of_most_speech_at_first():
    # 6 s of which each has 4.6 s of speech: the tenth segment is past LANGUAGE_S.
    words = [(6.0 * k + 0.5 + 0.5 * n, n) for k in range(12) for n in range(9)]
    ears = FakeEars(languages=[{"en": 0.6, "de": 0.4}, {"de": 0.9, "en": 0.1}, {"de": 1.0}])
    found = heard(ears, said(words, 72.0), language=RoomLanguage())
    assert [one.language for one in found] == ["en", *["de"] * 11] == ears.spoken
    voiced = np.cumsum([one.voiced_s for one in found])
    assert ears.detected == int(np.searchsorted(voiced, LANGUAGE_S)) + 1 < 9
    given = FakeEars()
    heard(given, said(words, 72.0), language=RoomLanguage("zh"))
    assert given.detected == 0 and set(given.spoken) == {"zh"}


def test_equal_votes_do_not_depend_on_an_order():
    votes = [{"b": 0.5, "a": 0.5}, {"a": 0.5, "b": 0.5}]
    for languages in (votes, votes[::-1]):
        ears = FakeEars(languages=languages)
        found = heard(ears, said([(1.0, 1)], 6.0), language=RoomLanguage())
        assert found[0].language == "a"


def test_words_become_utterances_at_pauses_and_ends_of_sentences():
    class Given(FakeEars):
        def words(self, samples, language):
            times = [0.0, 0.4, 0.9, 3.0, 3.5, 4.0]
            texts = [" Hello", " there.", " And", " so", " on", "\u3002"]
            return [Word(t, t + 0.3, text) for t, text in zip(times, texts, strict=True)]

    samples = said([(0.4 * n, 1) for n in range(14)], 6.0)
    [found] = heard(Given(), samples)
    assert [each.text for each in found.utterances] == ["Hello there.", "And", "so on\u3002"]
    assert found.text == "Hello there. And so on\u3002"
