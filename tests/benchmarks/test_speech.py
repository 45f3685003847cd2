"""The benchmark of speech measures what rooms are heard by."""

import numpy as np
import pytest

import speech
from ears import FakeEars, said


def test_it_hears_as_rooms_do():
    words = [(1.0, 1), (29.8, 2), (41.0, 3)]
    assert [each.text for each in speech.hear(FakeEars(), said(words, 44.0))] == ["1", "2 3"]


def test_word_error_is_of_words_alone(monkeypatch):
    pytest.importorskip("jiwer")
    monkeypatch.setattr(speech, "TWO_CITIES", "One, two: 3 5!")
    monkeypatch.setattr(FakeEars, "words", _spoken)
    error = speech.word_error(FakeEars(), said([(1.0, 1)], 10.0), [0.0, 4.0])
    assert error == pytest.approx(0.25)


def _spoken(self, samples, language):
    texts = [" one", " TWO", ".", " four", " 5"]
    return [speech.segments.Word(0.2, 0.3, text) for text in texts]


def test_kinds_of_sound_are_a_minute_each(monkeypatch):
    monkeypatch.setattr(speech, "samples", lambda name: np.ones(40 * speech.RATE, np.float32))
    found = speech.kinds()
    assert {len(sound) for sound in found.values()} == {60 * speech.RATE}
    assert found["music"].dtype == np.float32 and np.abs(found["silence"]).max() < 0.01
