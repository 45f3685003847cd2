"""What the benchmark of keyframes measures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from contentctr.rooms.media import frames_at
from contentctr.rooms.room import Media
from keyframes import Way, cosine, difference, recode
from videos import make_video, number


def test_a_video_is_written_again_with_other_groups(tmp_path: Path) -> None:
    path, out = tmp_path / "v.mp4", tmp_path / "w.mp4"
    make_video(path, seconds=30, rate=1)
    recode(path, out, 3, 10)
    with av.open(str(out)) as video:
        packets = [p for p in video.demux(video=0) if p.pts is not None]
    assert [float(p.pts * p.time_base) for p in packets if p.is_keyframe] == [0, 3, 13, 23]
    media, times = Media(path=out, kind="video"), [0.5, 2.5, 5.0, 15.0, 29.5]
    assert [number(i) for i in frames_at(media, times)] == [0, 2, 5, 15, 29]
    assert [number(i) for i in frames_at(media, times, frames="keyframe")] == [0, 0, 3, 13, 23]


def test_cosine_and_difference() -> None:
    one = np.array([[1.0, 0], [3, 4], [0, 0]])
    assert cosine(one, np.array([[0.0, 2], [6, 8], [1, 0]])).tolist() == [0, pytest.approx(1), 1]
    ways = [
        Way(0.0, one, np.array(taus), np.array([[0.2, 0.4], [0.2, 0.4]]) + by)
        for taus, by in (([0.5, 0.7], 0.0), ([0.4, 0.4], -0.1))
    ]
    assert difference(ways[1], ways[0]) == "-0.2000 ± 0.1000 | -0.1000 to -0.1000"
