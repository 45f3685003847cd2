"""A watched room beside the same room offline, as `predict` reads it."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager

import numpy as np

from contentctr.batch import DataSpec
from contentctr.encode import words
from contentctr.encode.segments import segment_spans
from contentctr.encode.sound import DIM, SoundEncoder
from contentctr.live.watch.waiting import Waiting
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.folder import room_from_video
from contentctr.rooms.media import frame_times, frames_at
from contentctr.store.statistics import WIDTH
from videos import number

SPEC = DataSpec(
    segment_seconds=6.0,
    frames_per_segment=3,
    visual_dim=16,
    text_dim=16,
    simulated=True,
    target="comment_rate",
    statistics_dim=WIDTH,
    sound_dim=DIM,
    sound_revision=SoundEncoder().revision,
    words_dim=words.DIM,
    words_revision=words.REVISION,
)


def waiting(idle_s=0.05, **options):
    return Waiting(idle_s=idle_s, **{"poll_s": 0.01, **options})


def offline(path, spec=SPEC, **logs):
    """Segments as `predict` has them: (start, end, pictures, speech, comments)."""
    room = room_from_video(path, **logs)
    table = segment_rooms([room], segment_seconds=spec.segment_seconds)
    spans, count = segment_spans(table), spec.frames_per_segment
    times = [time for span in spans for time in frame_times(*span, count)]
    found = [None] * len(times)
    if room.media is not None:
        found = list(frames_at(room.media, times, frames=spec.frames))
    return [
        (*spans[k], _kept(found[k * count : (k + 1) * count]), row["speech"], row["comments"])
        for k, row in enumerate(table.iter_rows(named=True))
    ]


def _kept(images):
    return [image for image in images if image is not None]


def as_offline(segments):
    """Watched segments in the same form."""
    return [(s.start_s, s.end_s, list(s.pictures), s.speech, s.comments) for s in segments]


def require_equal(watched, expected):
    """Times, texts and every pixel."""
    assert [s[:2] for s in watched] == [s[:2] for s in expected]
    assert [[number(i) for i in s[2]] for s in watched] == [
        [number(i) for i in s[2]] for s in expected
    ]
    for one, other in zip(watched, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one[2], other[2], strict=True))
        assert [t or "" for t in one[3:]] == [t or "" for t in other[3:]]


@contextmanager
def in_thread(work, *arguments):
    """Runs `work` beside what the block does, and sees to it that it ended well."""
    faults = []

    def run():
        try:
            work(*arguments)
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
    assert not thread.is_alive() and not faults, faults


def feed(path, data, pieces=20, pause_s=0.0, gate=None):
    """Writes `data` into a named pipe, or at a file's end, bit by bit."""
    size = len(data) // pieces + 1
    with open(path, "ab", buffering=0) as file:
        for start in range(0, len(data), size):
            file.write(data[start : start + size])
            if gate is not None:
                gate.wait(pause_s)


def make_pipe(path):
    os.mkfifo(path)
    return path
