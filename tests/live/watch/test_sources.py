"""Where a watched room comes from: pipes, playlists, MP4, and what cannot be watched."""

import io
import os
import threading
import time

import pytest

from contentctr.errors import InputError
from contentctr.live.watch.sources import Pipe, mp4_state
from contentctr.live.watch.video import WatchedVideo
from recordings import record
from videos import make_video
from watched import SPEC, as_offline, feed, in_thread, make_pipe, offline, require_equal, waiting


def watched(source, idle_s=0.05, **options):
    return as_offline(WatchedVideo(str(source), SPEC, waiting(idle_s, **options)).segments())


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv", "mp4"])
def test_a_named_pipe(tmp_path, suffix):
    fragments = {"movflags": "frag_keyframe+empty_moov"} if suffix == "mp4" else None
    path = record(tmp_path / f"v.{suffix}", 20.0, bframes=2, options=fragments)
    pipe, lines = make_pipe(tmp_path / "pipe"), []
    with in_thread(feed, pipe, path.read_bytes()):
        found = watched(pipe, report=lines.append)
    require_equal(found, offline(path))
    assert lines == [f"{pipe}: waiting for its writer"]


def test_a_silent_pipe_is_not_over(tmp_path):
    path = record(tmp_path / "v.ts", 13.0)
    pipe = make_pipe(tmp_path / "pipe")
    with in_thread(feed, pipe, path.read_bytes(), 3, 0.2, threading.Event()):
        require_equal(watched(pipe), offline(path))


def test_standard_input(tmp_path, monkeypatch):
    path = record(tmp_path / "v.flv", 13.0)
    with path.open("rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        require_equal(watched("-"), offline(path))


def test_a_pipe_of_nothing_and_of_a_plain_mp4(tmp_path):
    pipe = make_pipe(tmp_path / "pipe")
    with in_thread(feed, pipe, b""):
        with pytest.raises(InputError, match="pipe: ended before anything came"):
            watched(pipe)
    path, lines = record(tmp_path / "v.mp4", 13.0), []
    with in_thread(feed, pipe, path.read_bytes()[:5000], 1):
        with pytest.raises(InputError, match="pipe: cannot be opened as a video"):
            watched(pipe, report=lines.append)
    assert "an MP4 whose index may come at its end: such a one cannot be read from" in lines[1]


def test_a_terminal_is_no_video(monkeypatch):
    class Terminal(io.BytesIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(InputError, match="the standard input is a terminal; pipe a stream into"):
        watched("-")


def test_what_cannot_be_watched(tmp_path):
    (tmp_path / "bad.ts").write_bytes(b"x" * 5000)
    (tmp_path / "empty.ts").touch()
    (tmp_path / "empty.m3u8").write_text("#EXTM3U\n#EXT-X-VERSION:3\n")
    for source, message in {
        str(tmp_path / "none.ts"): "no such file",
        str(tmp_path): "is a folder",
        str(tmp_path / "bad.ts"): "cannot be opened as a video",
        str(tmp_path / "empty.ts"): "is empty, and nothing came for 0.05 s",
        str(tmp_path / "empty.m3u8"): "a playlist that names nothing",
        "http://127.0.0.1:9/none.m3u8": "cannot be opened as a video",
        "file:///etc/passwd": "must be a file, or a URL of http, https",
        "concat:a.ts|b.ts": "no such file",
    }.items():
        with pytest.raises(InputError, match=message):
            watched(source)


def test_a_plain_mp4_is_read_once_it_is_finished(tmp_path):
    whole, path, lines = record(tmp_path / "whole.mp4", 20.0), tmp_path / "v.mp4", []
    data = whole.read_bytes()
    path.write_bytes(data[:3000])

    def write():
        time.sleep(0.1)
        with path.open("ab") as file:
            file.write(data[3000:])

    with in_thread(write):
        found = watched(path, idle_s=2.0, report=lines.append)
    require_equal(found, offline(whole))
    assert lines == [
        f"{path}: an MP4 whose index comes at its end: it can be read once it is finished"
    ]


def test_an_mp4_that_was_cut_off(tmp_path):
    path = record(tmp_path / "v.mp4", 20.0)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="an MP4 without its index, which is written at the end"):
        watched(path)


def test_how_far_an_mp4_is(tmp_path):
    def state(data):
        return mp4_state(io.BytesIO(data))

    def box(kind, payload=b"", size=None):
        return (8 + len(payload) if size is None else size).to_bytes(4) + kind + payload

    head, index = box(b"ftyp", b"isom"), box(b"moov", b"x" * 50)
    data = box(b"mdat", b"y" * 50)
    assert state(head + data) == "open"
    assert state(head + data + index) == "finished"
    assert state(head + data + index[:-1]) == "open"
    assert state(head + index + data[:-1]) == "open"
    # 0: as far as the file goes; its index can only lie before.
    assert state(head + box(b"mdat", b"y" * 50, size=0)) == "open"
    assert state(head + index + box(b"mdat", b"y" * 50, size=0)) == "finished"
    wide = (1).to_bytes(4) + b"mdat" + (66).to_bytes(8) + b"y" * 50
    assert state(head + wide + index) == "finished"
    fragments = head + box(b"moov", b"..mvex..") + box(b"moof") + data
    assert state(fragments) == state(fragments[:-20]) == "fragmented"
    assert state(fragments * 2) == "finished"  # joined
    assert state(head + box(b"junk", size=3)) == state(b"") == "open"


@pytest.fixture
def hls(tmp_path):
    """A playlist of pieces of 2 s in a folder with a character that FFmpeg misreads."""
    folder = tmp_path / "room #1"
    folder.mkdir()
    options = {"hls_time": "2", "hls_list_size": "0"}
    make_video(folder / "v.m3u8", seconds=20, rate=4, gop=8, fmt="hls", options=options)
    return folder / "v.m3u8"


def test_a_finished_playlist_is_not_waited_for(hls):
    begin = time.monotonic()
    require_equal(watched(hls, idle_s=60.0), offline(hls))
    assert time.monotonic() - begin < 20.0


@pytest.mark.parametrize("ends", [True, False])
def test_a_playlist_that_grows(tmp_path, hls, ends):
    expected = offline(hls)
    lines = hls.read_text().replace("TARGETDURATION:2", "TARGETDURATION:1").splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("#EXTINF"))
    pieces = [lines[n : n + 2] for n in range(first, len(lines) - 1, 2)]
    away = tmp_path / "away"
    away.mkdir()
    for _, name in pieces[1:]:
        (hls.parent / name).rename(away / name)
    text = "\n".join(lines[:first]) + "\n"
    hls.write_text(text)

    def write():
        nonlocal text
        for number, piece in enumerate(pieces):
            time.sleep(0.15)
            if number:
                (away / piece[1]).rename(hls.parent / piece[1])
            text += "\n".join(piece) + "\n"
            new = hls.with_name("new")
            new.write_text(text + "#EXT-X-ENDLIST\n" * (ends and number == len(pieces) - 1))
            new.rename(hls)

    with in_thread(write):
        found = watched(hls, idle_s=2.5)
    require_equal(found, expected)


def test_pieces_whose_streams_have_other_pids(hls):
    other = {"mpegts_start_pid": "500"}
    record(hls.with_name("ad.ts"), 8.0, at=1000.0, options=other)
    lines = hls.read_text().splitlines()
    lines[-7:-7] = ["#EXT-X-DISCONTINUITY", "#EXTINF:8.0,", "ad.ts", "#EXT-X-DISCONTINUITY"]
    hls.write_text("\n".join(lines) + "\n")
    expected = offline(hls)
    assert len(expected) == 5 and all(len(segment[2]) == 3 for segment in expected)
    require_equal(watched(hls), expected)


def test_a_playlist_whose_pieces_are_not_there(hls):
    lines = []
    [missing] = [path for path in hls.parent.iterdir() if path.name.endswith("v4.ts")]
    missing.unlink()
    expected = offline(hls)
    require_equal(watched(hls, report=lines.append), expected)
    assert any("1 of its entries were not there" in line and "v4.ts" in line for line in lines)


def test_the_user_is_told_when_silence_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr("contentctr.live.watch.waiting.TOLD_S", 0.02)
    path, lines = record(tmp_path / "v.ts", 13.0), []
    watched(path, idle_s=0.1, report=lines.append)
    assert lines == ["nothing new comes; done after 0.1 s of that (--idle)"]


def test_nothing_is_waited_for_once_the_user_has_ended_it(tmp_path):
    stopped = waiting(60.0, stopped=lambda: True)
    reading, writing = os.pipe()
    begin = time.monotonic()
    with Pipe(reading, stopped) as pipe:
        assert pipe.read(10) == b""
    os.close(writing)
    open_mp4 = record(tmp_path / "v.mp4", 13.0)
    open_mp4.write_bytes(open_mp4.read_bytes()[:3000])
    for source in (make_pipe(tmp_path / "pipe"), open_mp4):
        with pytest.raises(InputError):
            list(WatchedVideo(str(source), SPEC, stopped).segments())
    assert time.monotonic() - begin < 5.0
