"""A second reading of a recording, of which only what is wanted is read."""

from pathlib import Path

import numpy as np
import pytest

from contentctr.rooms.media import frames_at, probe
from contentctr.rooms.room import Media
from contentctr.rooms.video import Video
from recordings import join, record
from videos import number

SECONDS = 40.0
TIMES = sorted({*np.arange(0, 45, 0.7).tolist(), 0.0, 3.9999999, 4.0, 39.8, 40.0, 40.2, 41.5})
Found = tuple[list[int | None], list[str]]


def shown(media: Media, times: list[float], frames: str) -> Found:
    warnings: list[str] = []
    images = frames_at(media, times, frames=frames, warnings=warnings)  # type: ignore[arg-type]
    return [number(image) for image in images], warnings


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every packet that was given out: whether it is a keyframe's."""
    kept, found = Video.packets, list[bool]()

    def noted(self: Video):  # type: ignore[no-untyped-def]
        for timed in kept(self):
            found.append(timed.is_picture and timed.packet.is_keyframe)
            yield timed

    monkeypatch.setattr(Video, "packets", noted)
    return found


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("gop", [1, 10, 60, 10_000])
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"sound": None},
        {"at": 100.0, "sound": (0.0, 1e9)},
        {"pictures": (3.0, 1e9)},
        {"pictures": (0.0, 25.0)},
        {"pictures": (5.0, 30.0), "sound": (2.0, 38.0)},
    ],
)
def test_the_second_reading_gives_what_the_whole_file_gives(
    tmp_path: Path, bframes: int, gop: int, form: dict[str, object]
) -> None:
    path = record(tmp_path / "v.mp4", SECONDS, gop=gop, bframes=bframes, **form)  # type: ignore[arg-type]
    steady = probe(path).steady
    assert steady is not None
    whole, again = Media(path=path, kind="video"), Media(path=path, kind="video", steady=steady)
    for frames in ("keyframe", "exact"):
        for times in (TIMES, TIMES[1:20], [12.3], [39.9, 44.0], [44.0]):
            assert shown(again, times, frames) == shown(whole, times, frames)


def test_keyframes_are_read_alone_and_exact_frames_without_sound(
    tmp_path: Path, given: list[bool]
) -> None:
    path = record(tmp_path / "v.mp4", SECONDS, gop=10)
    media = Media(path=path, kind="video", steady=probe(path).steady)
    whole = len(given)
    given.clear()
    assert shown(media, [5.0, 15.0, 25.0], "keyframe")[0] == [20, 70, 120]
    assert len(given) <= 15 and all(given)
    given.clear()
    assert shown(media, [5.0, 15.0, 39.9], "exact")[0] == [25, 75, 199]
    assert len(given) == SECONDS * 5 < whole / 2


def test_where_a_keyframe_is_damaged_the_rest_is_read_from_the_whole_file(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mp4", SECONDS, gop=10)
    good = shown(Media(path=path, kind="video", steady=probe(path).steady), TIMES, "keyframe")
    data = bytearray(path.read_bytes())
    with Video(path) as video:
        keys = [t.packet for t in video.packets() if t.is_picture and t.packet.is_keyframe]
    place, size = keys[7].pos, keys[7].size
    assert place is not None
    data[place + 4 : place + size] = bytes(size - 4)
    path.write_bytes(data)
    steady = probe(path).steady
    assert steady is not None
    again, whole = Media(path=path, kind="video", steady=steady), Media(path=path, kind="video")
    found = shown(again, TIMES, "keyframe")
    assert found == shown(whole, TIMES, "keyframe")
    assert found != good and found[0][:20] == good[0][:20]


def test_a_file_that_was_changed_is_read_as_a_new_one(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mp4", SECONDS, gop=10)
    steady = probe(path).steady
    record(path, SECONDS, gop=15, first=200)
    media = Media(path=path, kind="video", steady=steady)
    assert shown(media, [10.0], "exact")[0] == [250]
    assert shown(media, [10.0], "keyframe")[0] == [245]


@pytest.mark.parametrize("suffix", ["mkv", "flv", "ts"])
def test_other_containers_are_read_as_a_whole(tmp_path: Path, suffix: str) -> None:
    assert probe(record(tmp_path / f"v.{suffix}", 10)).steady is None


def test_only_one_clock_without_faults_is_steady(tmp_path: Path) -> None:
    first, second = (record(tmp_path / f"{i}.mp4", 12, first=60 * i) for i in range(2))
    joined = join(tmp_path / "v.mp4", first, second)
    assert probe(joined).duration_s > 23
    assert probe(joined).steady is None
    jump = record(tmp_path / "jump.mp4", 40, jumps=[(20.0, 30.0, "both")])
    assert probe(jump).steady is None


@pytest.mark.parametrize("lost", [10, 2_000, 20_000, 60_000])
def test_a_file_that_was_cut_off_is_read_to_its_end(tmp_path: Path, lost: int) -> None:
    path = record(tmp_path / "cut.mp4", 20, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-lost])
    again = Media(path=path, kind="video", steady=probe(path).steady)
    for frames in ("keyframe", "exact"):
        whole = shown(Media(path=path, kind="video"), TIMES, frames)
        assert shown(again, TIMES, frames) == whole
