"""A watched room's speech from its sound: the text of offline, and never late."""

import time

import pytest

from contentctr.errors import InputError
from contentctr.live.watch import listener as module
from contentctr.live.watch.listener import Listener
from contentctr.live.watch.logs import GrowingLog
from contentctr.live.watch.room import WatchedRoom
from contentctr.live.watch.video import WatchedSegment, WatchedVideo
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.folder import room_from_video
from contentctr.transcribe.rooms import hear_room
from contentctr.transcribe.segments import CONTEXT_S
from ears import FakeEars, said, speaking
from recordings import join
from watched import SPEC, feed, in_thread, make_pipe, waiting

WORDS = [(1.0, 1), (5.8, 2), (7.0, 3), (11.7, 4), (14.0, 5), (22.5, 6), (24.5, 7)]
TEXTS = ["1", "2 3", "4 5", "6", "7"]
SECONDS = 27.5
VOTES = [{"en": 0.6, "de": 0.4}, {"de": 0.9, "en": 0.1}]


def watch(path, ears=None, lines=None, **options):
    wait = waiting(report=(lambda line: None) if lines is None else lines.append, **options)
    ears = ears or FakeEars(languages=VOTES)
    listener = Listener(lambda: ears, wait, language=None, late_s=60.0)
    room, segments = WatchedRoom(str(path), SPEC, wait, delay_s=0.0, listener=listener), []
    room.watch(segments.append)
    assert listener.skipped == 0 and room.has_sound
    return segments, ears


def offline(path):
    """The texts of `predict`, and the languages that were taken for the room's."""
    ears = FakeEars(languages=VOTES)
    room = hear_room(
        room_from_video(path),
        ears,
        language=None,
        segment_seconds=SPEC.segment_seconds,
        warnings=[],
        show_progress=False,
    )
    table = segment_rooms([room], segment_seconds=SPEC.segment_seconds)
    return table["speech"].to_list(), ears


def require_equal(path, **options):
    segments, live = watch(path, **options)
    texts, offline_ears = offline(path)
    assert [segment.speech for segment in segments] == texts
    # The very sound, too, and so the very windows.
    assert live.windows == offline_ears.windows and live.spoken == offline_ears.spoken
    return texts


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv", "mp4"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_live_is_offline(tmp_path, suffix, rate):
    path = speaking(tmp_path / f"v.{suffix}", WORDS, SECONDS, rate=rate)
    assert require_equal(path) == TEXTS


def test_sound_alone_and_fragments(tmp_path):
    path = speaking(tmp_path / "v.m4a", WORDS, SECONDS, pictures=False)
    assert require_equal(path) == TEXTS
    options = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "3000000"}
    path = speaking(tmp_path / "v.mp4", WORDS, SECONDS, options=options)
    assert require_equal(path) == TEXTS


@pytest.mark.parametrize("suffix", ["ts", "flv"])
def test_a_clock_that_starts_again(tmp_path, suffix):
    one = speaking(tmp_path / f"a.{suffix}", WORDS[:3], 9.0)
    other = speaking(tmp_path / f"b.{suffix}", WORDS, SECONDS)
    texts = require_equal(join(tmp_path / f"v.{suffix}", one, other))
    assert " ".join(texts).split() == [*"123", *"1234567"]


def test_a_pipe_and_a_file_that_is_written(tmp_path):
    whole = speaking(tmp_path / "whole.ts", WORDS, SECONDS)
    texts, ears = offline(whole)
    pipe, growing = make_pipe(tmp_path / "pipe"), tmp_path / "growing.ts"
    growing.write_bytes(b"")
    for place, idle_s in ((pipe, 0.05), (growing, 1.0)):
        with in_thread(feed, place, whole.read_bytes()):
            segments, live = watch(place, idle_s=idle_s)
        assert [segment.speech for segment in segments] == texts and live.windows == ears.windows
        assert all(segment.sound is None for segment in segments)  # which nobody needs any more


def test_a_transcript_goes_before_sound_and_a_chat_beside_it(tmp_path):
    path, lines = speaking(tmp_path / "v.ts", WORDS, SECONDS), []
    chat = tmp_path / "chat.csv"
    chat.write_text("t,user_id,text\n1,a,hello\n7,a,there\n")
    wait, ears = waiting(report=lines.append), FakeEars()
    listener = Listener(lambda: ears, wait, language="en", late_s=60.0)
    log, segments = GrowingLog(chat, "comments"), []
    room = WatchedRoom(str(path), SPEC, wait, delay_s=0.0, comments=log, listener=listener)
    room.watch(segments.append)
    assert [(s.speech, s.comments) for s in segments[:3]] == [
        ("1", "hello"),
        ("2 3", "there"),
        ("4 5", ""),
    ]


def test_silence_loads_nothing():
    listener = Listener(lambda: pytest.fail("loaded"), waiting(), language=None, late_s=6.0)
    assert listener.hear(segment(0, [])) == ""


def segment(index, words, start_s=0.0):
    sound = said([(CONTEXT_S + at, number) for at, number in words], CONTEXT_S + 6.0)
    return WatchedSegment(
        index=index, start_s=start_s, end_s=start_s + 6.0, pictures=(), sound=sound
    )


def test_what_cannot_be_heard_in_time_is_skipped(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    class Slow(FakeEars):
        def words(self, samples, language):
            now[0] += 9.0
            return super().words(samples, language)

    wait = waiting()
    listener = Listener(Slow, wait, language="en", late_s=6.0)

    def hear(number):
        return listener.hear(segment(number, [(1.0, 1)]))

    # What was recorded before is heard, however long that takes.
    assert [hear(n) for n in range(3)] == ["1"] * 3
    wait.note()
    assert hear(3) == "1" and listener.skipped == 0
    # Its end came while the one before was heard, and nothing had to be waited for since.
    assert hear(4) == "" and listener.skipped == 1
    wait.note()
    assert hear(5) == "1" and listener.skipped == 1


def test_a_language_that_is_not_sure_is_told(tmp_path):
    class Unsure(FakeEars):
        def voiced(self, samples):
            return [(0, len(samples))]

        def words(self, samples, language):
            return super().words(samples, language) if len(self.spoken) < 3 else []

    path, warnings = speaking(tmp_path / "v.ts", WORDS, SECONDS), []
    ears = Unsure(languages=[{"la": 0.4, "ru": 0.3}])
    room, wait = room_from_video(path), waiting()
    hear_room(
        room, ears, language=None, segment_seconds=6.0, warnings=warnings, show_progress=False
    )
    listener = Listener(lambda: Unsure(languages=ears.known), wait, language=None, late_s=60.0)
    assert listener.doubts() == []
    WatchedRoom(str(path), SPEC, wait, delay_s=0.0, listener=listener).watch(lambda segment: None)
    language, words = listener.doubts()
    assert "not sure (la 0.40, ru 0.30)" in language and "no words were made out" in words
    assert [f"{path}: {doubt}" for doubt in (language, words)] == warnings


def test_a_recogniser_that_cannot_be_had_ends_the_watch(tmp_path):
    path = speaking(tmp_path / "v.ts", WORDS, SECONDS)

    def load():
        raise InputError("no such recogniser")

    wait = waiting()
    listener = Listener(load, wait, language=None, late_s=60.0)
    room = WatchedRoom(str(path), SPEC, wait, delay_s=0.0, listener=listener)
    with pytest.raises(InputError, match="no such recogniser"):
        room.watch(lambda segment: None)


@pytest.mark.parametrize("source", ["http://example.org/v.ts", "v.ts"])
def test_waiting_for_the_network_counts_as_waiting(source):
    class Slow:
        def packets(self):
            yield "one"
            time.sleep(0.05)
            yield "two"

    wait = waiting()
    video = WatchedVideo(source, SPEC, wait)
    assert list(video._packets(Slow())) == ["one", "two"]
    assert (wait.last > float("-inf")) == ("://" in source)
