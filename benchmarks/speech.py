"""The embedded recogniser on real speech: word error, and what it takes beside the sound's length.

    python benchmarks/speech.py [--asr embedded] [--threads 1 2] [--offsets 0 7 13 19]

Word error is of 44 s of a reading (moonshine-voice carries it; MIT), as segments of 30 s at several
offsets, so that their borders fall on other words:

    whole            the recording at once, as faster-whisper does by itself: beam 5
    segments         as rooms are heard
    no context       the same, but that no segment hears what is before it

Time is of a minute of sound by kind: "s" by the clock, "core s" of all threads; "x" is the sound's
length divided by the latter, "voiced" the share in which voice activity is found, the only one that
is recognised. The ratios are the result; times depend on the machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import string
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.rooms.sound import RATE, SoundReader
from contentctr.rooms.video import Video
from contentctr.transcribe import segments
from contentctr.transcribe.recogniser import load_recogniser
from contentctr.transcribe.segments import Heard, Recogniser, RoomLanguage, hear_segment

TWO_CITIES = """It was the best of times, it was the worst of times, it was the age of wisdom, it
was the age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the
season of Light, it was the season of Darkness, it was the spring of hope, it was the winter of
despair, we had everything before us, we had nothing before us, we were all going direct to Heaven,
we were all going direct the other way, in short, the period was so far like the present period,
that some of its noisiest authorities insisted on its being received, for good or for evil, in the
superlative degree of comparison only."""
"""What two_cities.wav reads: the opening of A Tale of Two Cities (1859, public domain)."""
SEGMENT_S = 30.0
Samples = NDArray[np.float32]


def recording(name: str) -> Path:
    """Where a recording lies: two_cities (44 s), endgame_nagg_nell (28 s), beckett (10 s)."""
    found = importlib.util.find_spec("moonshine_voice")
    if found is None or not found.submodule_search_locations:
        raise InputError("recordings of speech come from moonshine-voice: pip install it")
    return Path(found.submodule_search_locations[0]) / "assets" / f"{name}.wav"


def samples(name: str) -> Samples:
    """A recording's samples, as rooms are read."""
    with Video(recording(name)) as video:
        reader = SoundReader(video)
        for timed in video.packets():
            reader.add(timed)
        reader.finish()
        return reader.take(0.0, video.duration_s)


def plain(text: str) -> str:
    """Words alone, in lower case."""
    return " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())


def hear(recogniser: Recogniser, sound: Samples, language: str | None = "en") -> list[Heard]:
    """A room's segments; the last is filled with silence."""
    context, size = round(segments.CONTEXT_S * RATE), round(SEGMENT_S * RATE)
    room, found = RoomLanguage(language), []
    count = -(-len(sound) // size)
    padded = np.concatenate([np.zeros(context, np.float32), sound, np.zeros(size, np.float32)])
    for number in range(count):
        found.append(
            hear_segment(
                recogniser,
                padded[number * size : (number + 1) * size + context],
                segment=number,
                start_s=number * SEGMENT_S,
                end_s=(number + 1) * SEGMENT_S,
                language=room,
            )
        )
    return found


def word_error(recogniser: Recogniser, sound: Samples, offsets: list[float]) -> float:
    """Mean over offsets of the reading's beginning in its first segment."""
    import jiwer

    errors = []
    for offset in offsets:
        shifted = np.concatenate([np.zeros(round(offset * RATE), np.float32), sound])
        text = " ".join(each.text for each in hear(recogniser, shifted))
        errors.append(float(jiwer.wer(plain(TWO_CITIES), plain(text))))
    return float(np.mean(errors))


def print_errors(asr: str, offsets: list[float]) -> None:
    import jiwer

    recogniser, sound = load_recogniser(asr), samples("two_cities")
    found, _ = recogniser._model.transcribe(sound, language="en", vad_filter=True)  # type: ignore[attr-defined]
    text = " ".join(segment.text for segment in found)
    rows = {"whole": float(jiwer.wer(plain(TWO_CITIES), plain(text)))}
    rows["segments"] = word_error(recogniser, sound, offsets)
    with mock.patch.object(segments, "CONTEXT_S", 0.0):
        rows["no context"] = word_error(recogniser, sound, offsets)
    print(f"word error of {asr}, {len(plain(TWO_CITIES).split())} words, {len(offsets)} offsets")
    for name, error in rows.items():
        print(f"  {name:12} {100 * error:5.1f} %")


def kinds() -> dict[str, Samples]:
    """A minute of each kind of sound."""
    length = 60 * RATE
    at = np.arange(length) / RATE
    notes = np.array([262, 330, 392, 523])[(at * 4).astype(int) % 4]
    music = 0.3 * np.sin(2 * np.pi * notes * at) * np.exp(-3 * (at % 0.25))
    speech = np.concatenate([samples("two_cities"), samples("endgame_nagg_nell")])
    return {
        "speech": speech[:length],
        "half speech": np.concatenate([speech[: length // 2], np.zeros(length // 2, np.float32)]),
        "music": music.astype(np.float32),
        "silence": (0.001 * np.random.default_rng(0).standard_normal(length)).astype(np.float32),
    }


def print_times(asr: str, threads: list[int]) -> None:
    print(f"threads {'sound':12} {'s':>6} {'core s':>6} {'x':>7} {'voiced':>7} {'to speech':>9}")
    for number in threads:
        recogniser = load_recogniser(asr, threads=number)
        hear(recogniser, kinds()["speech"][: 5 * RATE])  # what is loaded when it is first used
        first_s = None
        for name, sound in kinds().items():
            begin, core = time.perf_counter(), time.process_time()
            found = hear(recogniser, sound)
            clock_s, taken_s = time.perf_counter() - begin, time.process_time() - core
            first_s = first_s or taken_s
            voiced = sum(each.voiced_s for each in found) / (len(sound) / RATE)
            speed, ratio = len(sound) / RATE / taken_s, taken_s / first_s
            print(
                f"{number:7} {name:12} {clock_s:6.2f} {taken_s:6.2f} {speed:7.1f} {voiced:7.2f} "
                f"{ratio:9.3f}",
                flush=True,
            )
        core = time.process_time()
        recogniser.languages(kinds()["speech"][: 30 * RATE])
        taken_s = time.process_time() - core
        print(f"{number:7} {'language':19} {taken_s:6.2f}  once a room, or twice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--asr", default="embedded")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--offsets", type=float, nargs="+", default=[0.0, 7.0, 13.0, 19.0])
    given = parser.parse_args()
    try:
        print_times(given.asr, given.threads)
        print_errors(given.asr, given.offsets)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
