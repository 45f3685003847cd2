"""How a recording's bytes are opened: streams, joined files, playlists of a folder."""

import io
import time
from pathlib import Path

import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.rooms.containers import file_url, open_file, open_playlist
from contentctr.rooms.joined import Joined
from contentctr.rooms.media import frames_at, probe
from contentctr.rooms.room import Media
from contentctr.rooms.video import Video
from recordings import RATE, join, record
from videos import number


class Pieces(io.RawIOBase):
    """Bytes in pieces of one size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._size))


def files(data: bytes, size: int) -> list[bytes]:
    joined = Joined(Pieces(data, size))
    found = []
    while True:
        found.append(b"".join(iter(lambda: joined.read(5000), b"")))
        if not joined.next_file():
            return found


def shown(path: Path, times: list[float]) -> list[int | None]:
    return [number(i) for i in frames_at(Media(path=path, kind="video"), times)]


def is_in_step(path: Path, times: list[float]) -> bool:
    """Whether the pictures are those of the times, but for the priming of the sound at joints."""
    found = shown(path, times)
    return all(n is not None and abs(n - t * RATE) <= 3 for n, t in zip(found, times, strict=True))


@pytest.mark.parametrize("suffix", ["flv", "mkv", "webm"])
@pytest.mark.parametrize("size", [1, 7, 79, 80, 81, 4096, 1 << 20])
def test_joined_files_come_apart_again(tmp_path: Path, suffix: str, size: int) -> None:
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    parts = [
        record(tmp_path / f"{i}.{suffix}", 1 + i, sound=None, codec=codec).read_bytes()
        for i in range(3)
    ]
    assert files(b"".join(parts), size) == parts
    # The beginning of a header at the end of all is no header.
    assert files(parts[0] + parts[1][:3], size) == [parts[0] + parts[1][:3]]


@pytest.mark.parametrize("size", [50, 187, 189, 1000, 1 << 20])
def test_mpeg_ts_comes_apart_where_its_streams_change(tmp_path: Path, size: int) -> None:
    pids = {"mpegts_start_pid": "0x200"}
    one = record(tmp_path / "a.ts", 2).read_bytes()
    two = record(tmp_path / "b.ts", 2, options=pids).read_bytes()
    other = {"mpegts_start_pid": "0x200", "mpegts_pmt_start_pid": "0x1100"}
    three = record(tmp_path / "c.ts", 2, options=other).read_bytes()
    assert files(one + one, size) == [one + one]
    found = files(one + two + three, size)
    assert len(found) == 3
    # Up to the new table; where that is the programs' own alone, its list of programs comes first.
    assert found[0].startswith(one) and len(found[0]) - len(one) <= 3 * 188
    assert len(found[1]) - len(two) <= 4 * 188 and b"".join(found)[-2000:] == three[-2000:]
    for each in found:
        assert len(each) % 188 == 0 and set(each[::188]) == {0x47}


def test_mpeg_ts_with_lost_and_strange_bytes(tmp_path: Path) -> None:
    data = record(tmp_path / "a.ts", 20).read_bytes()
    rng = np.random.default_rng(0)
    half = len(data) // 2 + 100
    for name, damaged in (
        ("cut in front", data[100:]),
        ("cut in the middle", data[:half] + data[half + 99 :]),
        ("zeros", data[:half] + bytes(50_001) + data[half:]),
        ("noise", data[:half] + rng.bytes(20_003) + data[half:]),
        ("zeros behind", data + bytes(400_000)),
    ):
        found = files(damaged, 1 << 16)
        assert b"".join(found) == damaged, name
        path = tmp_path / f"{name}.ts"
        path.write_bytes(damaged)
        assert probe(path).duration_s == pytest.approx(20, abs=0.6), name
        if name != "cut in front":
            assert shown(path, [2.5, 18.5]) == [12, 92], name


def test_what_is_none_of_these_passes_as_it_is() -> None:
    for data in (b"", b"x", b"FLV", bytes(5000), b"\x00\x00\x00\x18ftypmp42" + bytes(5000)):
        assert files(data, 100) == [data]


def test_joined_mp4(tmp_path: Path) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    for options in ({}, fragments, {"movflags": "faststart"}):
        parts = [record(tmp_path / f"{i}.mp4", 10, first=50 * i, options=options) for i in range(3)]
        path = join(tmp_path / "all.mp4", *parts)
        assert is_in_step(path, [0.5, 9.5, 10.5, 19.5, 20.5, 29.5])
    (tmp_path / "junk.mp4").write_bytes(parts[0].read_bytes() + b"junk" * 500)
    assert probe(tmp_path / "junk.mp4").duration_s == pytest.approx(10, abs=0.2)


def test_a_piece_that_cannot_be_opened_is_passed_over(tmp_path: Path) -> None:
    whole = record(tmp_path / "a.flv", 10).read_bytes()
    later = record(tmp_path / "b.flv", 10, first=50).read_bytes()
    times = [0.5, 9.5, 10.5, 19.5]
    for name, data in (
        ("in front", whole[:13] + whole + later),
        ("between", whole + later[:13] + later),
        ("behind", whole + later + whole[:13]),
    ):
        path = tmp_path / f"{name}.flv"
        path.write_bytes(data)
        assert shown(path, times) == [int(t * RATE) for t in times], name
    path.write_bytes(whole[:13])
    with pytest.raises(InputError, match=r"behind\.flv: cannot be opened"):
        probe(path)


def playlist(path: Path, *entries: str, end: bool = True, seconds: int = 10) -> Path:
    lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{seconds}", "#EXT-X-MEDIA-SEQUENCE:0"]
    for entry in entries:
        lines += [f"#EXTINF:{seconds}.0,", entry]
    path.write_text("\n".join(lines + ["#EXT-X-ENDLIST"] * end) + "\n")
    return path


@pytest.fixture
def hls(tmp_path: Path) -> Path:
    folder = tmp_path / "rooms #1? 20:00 %41【主播】"
    folder.mkdir()
    for i in range(3):
        record(folder / f"{i}.ts", 10, first=50 * i, at=10 * i)
    record(folder / "again.ts", 10, first=150)
    return folder


def test_playlists(hls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = playlist(hls / "stream.m3u8", "0.ts", "1.ts", "2.ts")
    assert is_in_step(path, [0.5, 9.5, 10.5, 29.5])
    assert probe(path).warnings == []
    # A stream that begins again in it, and one whose end was never written.
    path = playlist(hls / "again.m3u8", "0.ts", "1.ts", "2.ts", "again.ts", end=False)
    begun = time.monotonic()
    assert is_in_step(path, [0.5, 29.5, 30.5, 39.5])
    assert "starts again" in probe(path).warnings[0]
    assert time.monotonic() - begun < 5
    # One of playlists; and by a relative path.
    (hls / "sub").mkdir()
    record(hls / "sub" / "0.ts", 10)
    playlist(hls / "sub" / "low.m3u8", "0.ts")
    master = hls / "master.m3u8"
    master.write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nsub/low.m3u8\n")
    monkeypatch.chdir(hls)
    assert shown(Path("master.m3u8"), [0.5, 9.5]) == [2, 47]


def test_entries_whose_streams_have_other_pids(hls: Path) -> None:
    """As advertisements have them; to FFmpeg they would be streams that it never met."""
    for i, start in ((1, 0), (2, 1000)):  # by the same clock, and by one of its own
        other = {"mpegts_start_pid": "500"}
        record(hls / f"ad{i}.ts", 10, first=50 * i, at=10 * i + start, options=other)
    path = playlist(hls / "v.m3u8", "0.ts", "ad1.ts", "ad1.ts", "2.ts", "again.ts", "ad2.ts")
    found = shown(path, [0.5, 9.5, 10.5, 19.5, 20.5, 30.5, 40.5, 49.5, 50.5, 59.5])
    wanted = [2, 47, 52, 97, 52, 102, 152, 197, 102, 147]
    assert all(a is not None and abs(a - b) <= 4 for a, b in zip(found, wanted, strict=True))
    info = probe(path)
    assert info.duration_s == pytest.approx(60, abs=0.6)
    assert not [note for note in info.warnings if "hole" in note or "faults" in note]
    # An entry that is not there between them, and one that is no recording.
    (hls / "bad.ts").write_bytes(b"nothing " * 100)
    path = playlist(hls / "w.m3u8", "0.ts", "ad1.ts", "gone.ts", "bad.ts", "2.ts", end=False)
    assert is_in_step(path, [0.5, 9.5, 10.5, 19.5, 20.5, 29.5])
    assert f"{path}: 1 of its entries are not in its folder, as gone.ts" in probe(path).warnings


def test_entries_that_are_not_there(hls: Path) -> None:
    path = playlist(hls / "v.m3u8", "0.ts", "gone.ts", "2.ts")
    assert f"{path}: 1 of its entries are not in its folder, as gone.ts" in probe(path).warnings
    assert is_in_step(path, [9.5, 20.5])


@pytest.mark.parametrize(
    "entry", ["../secret.ts", "/etc/passwd", "http://127.0.0.1:9/x.ts", "file:///etc/passwd"]
)
def test_a_playlist_reads_its_folder_alone(hls: Path, entry: str) -> None:
    record(hls.parent / "secret.ts", 5)
    if entry.startswith("/etc"):
        (hls / "link.ts").symlink_to(hls.parent / "secret.ts")
        entry = "link.ts"
    path = playlist(hls / "v.m3u8", entry)
    with pytest.raises(InputError, match=r"v\.m3u8: cannot be opened"):
        probe(path)
    # In the middle, it is left out.
    path = playlist(hls / "v.m3u8", "0.ts", entry, "again.ts")
    try:
        info = probe(path)
    except InputError as error:
        assert "file:///" in entry and "cannot be opened" in str(error)
    else:
        assert info.duration_s == pytest.approx(20, abs=0.3)
        assert entry in "".join(info.warnings)
        assert shown(path, [0.5, 19.5]) == [2, 197]


def test_a_growing_playlist(hls: Path) -> None:
    path = playlist(hls / "live.m3u8", "0.ts", end=False, seconds=1)  # the wait for more
    with Video(path, open_playlist(path, growing=lambda text: True)) as video:
        packets = video.packets()
        seen = [next(packets) for _ in range(40)]
        assert seen[0].show_s == pytest.approx(0, abs=0.2)
        playlist(path, "0.ts", "1.ts", seconds=1)
        last = max(timed.show_s for timed in packets)
    assert last == pytest.approx(20, abs=0.4)


@pytest.mark.parametrize("slides", [False, True])
def test_a_playlist_that_grows_by_other_pids(hls: Path, slides: bool) -> None:
    record(hls / "ad.ts", 10, first=50, at=10, options={"mpegts_start_pid": "500"})
    names = ["0.ts", "ad.ts", "2.ts", "again.ts"]

    def write(first: int, last: int, end: bool) -> Path:
        path = playlist(hls / "live.m3u8", *names[first : last + 1], end=end, seconds=1)
        path.write_text(path.read_text().replace("SEQUENCE:0", f"SEQUENCE:{first}"))
        return path

    path = write(0, 0, False)
    waits = []
    with Video(path, open_playlist(path, growing=lambda text: waits.append(1) or True)) as video:
        seen = []
        for timed in video.packets():
            seen.append(timed.show_s)
            reached = int(timed.show_s / 9.0)
            if reached < 4:
                write(max(reached - 1, 0) if slides else 0, reached, False)
            else:
                write(3 if slides else 0, 3, True)
    assert seen[-1] == pytest.approx(40, abs=0.6) and len(waits) < 100
    assert max(np.diff(sorted(seen))) < 0.5


def test_urls_and_names() -> None:
    assert file_url(Path("/a/20:00 -x.mp4")) == "file:/a/20:00 -x.mp4"
    assert file_url(Path("20:00.mp4")).startswith("file:/")
    with pytest.raises(InputError, match="no such video file"):
        next(open_file(Path("gone.mp4")))
