"""The sound of segments, given out in the pass in which pictures are read."""

import numpy as np
import pytest

from contentctr.rooms import listening
from contentctr.rooms.listening import SoundListener, listen
from contentctr.rooms.media import frames_at
from contentctr.rooms.room import Media
from contentctr.rooms.sound import RATE, SoundReader
from contentctr.rooms.video import Video
from recordings import record
from videos import number

SPANS = [(0.0, 6.0), (6.0, 12.0), (12.0, 18.0), (18.0, 20.9)]


def whole(path, end_s):
    with Video(path) as video:
        reader = SoundReader(video)
        for timed in video.packets():
            reader.add(timed)
        reader.finish()
        return reader.take(0, end_s)


def require_spans(found, path):
    samples = whole(path, SPANS[-1][1])
    assert [len(part) for part in found] == [round(b * RATE) - round(a * RATE) for a, b in SPANS]
    assert np.array_equal(np.concatenate(found), samples) and samples.any()


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_one_pass_gives_pictures_and_sound(tmp_path, suffix):
    path = record(tmp_path / f"v{suffix}", 21.0)
    media, times = Media(path=path, kind="video"), [1.0, 3.0, 7.5]
    found, warnings = [], []
    listener = SoundListener(SPANS, found.append)
    images = list(frames_at(media, times, warnings=warnings, listener=listener))
    alone = list(frames_at(media, times))
    # The last picture stands at 7.5 s: the pass goes on to the end of the last segment.
    assert [number(i) for i in images] == [number(i) for i in alone]
    assert listener.done and warnings == []
    require_spans(found, path)


def test_sound_alone_is_read_no_further_than_it_is_wanted(tmp_path, monkeypatch):
    path = record(tmp_path / "v.ts", 40.0, pictures=(0.0, 0.0))
    seen = []

    class Counting(SoundReader):
        def add(self, timed):
            seen.append(timed.show_s)
            super().add(timed)

    monkeypatch.setattr(listening, "SoundReader", Counting)
    found, warnings = [], []
    listener = SoundListener(SPANS, found.append)
    listen(path, listener, warnings)
    require_spans(found, path)
    assert max(seen) < 25 and warnings == []


def test_where_there_is_no_sound_there_is_silence(tmp_path):
    path = record(tmp_path / "v.mkv", 12.0, sound=None)
    found = []
    listener = SoundListener(SPANS, found.append)
    list(frames_at(Media(path=path, kind="video"), [1.0], listener=listener))
    assert len(found) == 4 and not np.concatenate(found).any()
