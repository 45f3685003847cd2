"""A recording heard segment by segment: in flat memory, resumed to the bit."""

import os

import pytest

from contentctr.errors import InputError
from contentctr.rooms.sound import SoundReader
from contentctr.transcribe.recording import Sound, hear_recording
from ears import FakeEars, speaking

WORDS = [(1.0, 1), (5.8, 2), (7.0, 3), (13.0, 4), (14.0, 5), (22.5, 6)]
SPANS = [(0.0, 6.0), (6.0, 12.0), (12.0, 18.0), (18.0, 24.0)]
TEXTS = ["1", "2 3", "4 5", "6"]


def texts(heard):
    return [segment.text for segment in heard]


@pytest.mark.parametrize("suffix", ["mp4", "ts", "flv", "mkv"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_every_container(tmp_path, suffix, rate):
    path = speaking(tmp_path / f"v.{suffix}", WORDS, 24.0, rate=rate)
    advanced, warnings = [], []
    sound = Sound(path=path, spans=SPANS, language="en")
    heard = hear_recording(FakeEars(), sound, advance=advanced.append, warnings=warnings)
    assert texts(heard) == TEXTS and sum(advanced) == 4 and warnings == []


def test_sound_alone_and_segments_after_its_end(tmp_path):
    path = speaking(tmp_path / "v.m4a", WORDS, 24.0, pictures=False)
    spans = [*SPANS, (24.0, 30.0), (30.0, 33.0)]
    assert texts(hear_recording(FakeEars(), Sound(path=path, spans=spans))) == [*TEXTS, "", ""]


class AllSpeech(FakeEars):
    """All sound is speech."""

    def voiced(self, samples):
        return [(0, len(samples))]


def test_a_language_that_is_not_sure_is_said(tmp_path):
    path = speaking(tmp_path / "v.m4a", WORDS, 24.0, pictures=False)
    unsure = {"la": 0.4, "ru": 0.3, "de": 0.2, "en": 0.1}

    def told(store=None, language=None, ears=unsure):
        warnings = []
        sound = Sound(path=path, spans=SPANS, language=language)
        hear_recording(AllSpeech(languages=[ears]), sound, store=store, warnings=warnings)
        return warnings

    store = tmp_path / "t.jsonl"
    doubts = told(store)
    assert len(doubts) == 1 and "not sure (la 0.40, ru 0.30, de 0.20)" in doubts[0]
    assert told(store) == doubts  # nor is it forgotten where all is stored
    assert told(language="ru") == told(ears={"ru": 0.5, "la": 0.4}) == []


def test_a_word_or_a_hum_tells_no_language(tmp_path):
    path = speaking(tmp_path / "v.m4a", WORDS[:3], 24.0, pictures=False)
    warnings = []
    ears = FakeEars(languages=[{"nn": 0.4, "jw": 0.3}])
    hear_recording(ears, Sound(path=path, spans=SPANS), warnings=warnings)
    assert ears.detected and warnings == []


class OtherTongue(AllSpeech):
    """From the third segment on in a language in which nothing makes sense."""

    def words(self, samples, language):
        found = super().words(samples, language)
        return found if len(self.windows) <= 2 else []


def test_speech_without_words_is_said(tmp_path):
    path = speaking(tmp_path / "v.m4a", WORDS, 24.0, pictures=False)

    def told(ears, spans=SPANS):
        warnings = []
        hear_recording(ears, Sound(path=path, spans=spans, language="en"), warnings=warnings)
        return warnings

    (lost,) = told(OtherTongue())
    assert "in 4 segments, and in 2 of them no words were made out, taken for en" in lost
    assert told(OtherTongue(), SPANS[:2]) == []  # all of them have words
    short = [(second, second + 4.0) for second in range(0, 24, 4)]
    assert told(OtherTongue(), short) == []  # nobody speaks for long


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    path, store = speaking(tmp_path / "v.mp4", WORDS, 24.0), tmp_path / "s" / "t.jsonl"
    sound = Sound(path=path, spans=SPANS)
    votes = [{"en": 0.6, "de": 0.4}, {"de": 0.9, "en": 0.1}]
    whole = hear_recording(FakeEars(languages=votes), sound, store=store)
    stored = store.read_bytes()
    store.unlink()
    for kept in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            hear_recording(FakeEars(languages=votes, breaks_after=kept), sound, store=store)
        ears = FakeEars(languages=votes[1:])
        assert hear_recording(ears, sound, store=store) == whole
        assert len(ears.windows) == 4 - kept and store.read_bytes() == stored
        store.unlink()


def test_what_is_stored_is_not_heard_again_unless_anything_changed(tmp_path):
    path, store = speaking(tmp_path / "v.mp4", WORDS, 24.0), tmp_path / "t.jsonl"
    sound = Sound(path=path, spans=SPANS)

    def windows(sound=sound, version=1):
        ears = FakeEars(version=version)
        hear_recording(ears, sound, store=store)
        return len(ears.windows)

    assert windows() == 4 and windows() == 0
    assert windows(version=2) == 4
    assert windows(Sound(path=path, spans=SPANS, language="en")) == 4
    assert windows(Sound(path=path, spans=SPANS[:3], language="en")) == 3
    assert windows() == 4
    os.utime(path, ns=(1, 1))  # a copy of the same
    assert windows() == 0
    moved = path.rename(tmp_path / "moved.ts")
    assert windows(Sound(path=moved, spans=SPANS)) == 0
    moved.write_bytes(moved.read_bytes() * 2)
    assert windows(Sound(path=moved, spans=SPANS)) == 4


def test_no_more_sound_is_held_than_a_segment_takes(tmp_path, monkeypatch):
    path, held = speaking(tmp_path / "v.ts", WORDS, 60.0), []
    plain = SoundReader.add

    def add(self, timed):
        plain(self, timed)
        held.append(sum(len(piece) for _, piece in self._samples) / 16_000)

    monkeypatch.setattr(SoundReader, "add", add)
    spans = [(3.0 * k, 3.0 * k + 3.0) for k in range(20)]
    hear_recording(FakeEars(), Sound(path=path, spans=spans))
    assert max(held) < 9.0


def test_a_recording_that_is_gone(tmp_path):
    sound = Sound(path=tmp_path / "none.mp4", spans=SPANS)
    with pytest.raises(InputError, match=r"none\.mp4"):
        hear_recording(FakeEars(), sound, store=tmp_path / "t.jsonl")
