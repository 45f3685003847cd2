"""What the rule without training costs: a chat of many lines, and memory for long recordings.

    python benchmarks/rule.py [--lines 1000000] [--hours 1 6]

1. Chat: made-up JSONL of so many lines over 6 h (words drawn with the frequencies of a language),
   read from disk and scored; seconds by the clock and of the processor, and peak memory.
2. Recordings: made-up video (a small picture a second, sound of 8 kHz) of so many hours, watched
   for loudness and cuts; seconds, and the peak memory of a process of its own beyond what the same
   process takes for a minute.

Made-up inputs: no number here depends on what is said, heard or seen.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from contentctr.rooms.comments import read_comments
from contentctr.rooms.folder import room_from_video
from contentctr.rule.chat import read_chat
from contentctr.rule.curve import read_curve
from contentctr.rule.usual import count_steps

CHAT_S = 6 * 3600


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_chat(path: Path, lines: int) -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, CHAT_S, lines))
    users, words = rng.zipf(1.3, lines) % 50_000, rng.zipf(1.4, (lines, 5)) % 100_000
    with path.open("w") as file:
        for t, user, some in zip(times.tolist(), users.tolist(), words.tolist(), strict=True):
            text = " ".join(f"w{word}" for word in some)
            file.write(json.dumps({"t": t, "user_id": f"u{user}", "text": text}) + "\n")


def write_video(path: Path, seconds: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(-3000, 3000, (1, 8000), np.int16)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=1)
        video.width, video.height, video.pix_fmt, video.gop_size = 64, 64, "yuv420p", 2
        track = out.add_stream("aac", rate=8000, layout="mono")
        for second in range(seconds):
            image = np.full((64, 64, 3), (second // 40 * 97) % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = second, Fraction(1)
            out.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 8000, second * 8000, Fraction(1, 8000)
            out.mux(track.encode(sound))
        for stream in (video, track):
            out.mux(stream.encode(None))


def watch(path: Path) -> None:
    """In a process of its own: seconds and peak memory of one recording."""
    start = time.perf_counter()
    # A transcript without a word: the detector of speech, where installed, takes its own time.
    (path.parent / "none.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nx\n")
    room = room_from_video(path, speech=path.parent / "none.srt")
    read_curve(room, show_progress=False)
    print(json.dumps([time.perf_counter() - start, peak_mb()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--hours", type=float, nargs="*", default=[1.0, 6.0])
    parser.add_argument("--watch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch is not None:
        watch(options.watch)
        return
    with tempfile.TemporaryDirectory() as folder:
        base_mb, chat = 0.0, Path(folder) / "chat.jsonl"
        for hours in [1 / 60, *options.hours]:
            path = Path(folder) / f"{hours:.3f}.mp4"
            write_video(path, round(3600 * hours))
            words = [sys.executable, __file__, "--watch", str(path)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            seconds, mb = json.loads(done.stdout.splitlines()[-1])
            base_mb = base_mb or mb
            print(
                f"recording of {hours:5.2f} h  {seconds:6.1f} s   {mb - base_mb:+6.0f} MB",
                flush=True,
            )
            path.unlink()
        write_chat(chat, options.lines)
        marks = [(time.perf_counter(), time.process_time(), 0.0)]
        part = read_comments(chat)
        marks.append((time.perf_counter(), time.process_time(), peak_mb()))
        read_chat(part.table, count_steps(CHAT_S), 5.0)
        marks.append((time.perf_counter(), time.process_time(), peak_mb()))
        print(f"chat of {options.lines:,} lines, {chat.stat().st_size / 1e6:.0f} MB")
        for name, before, after in zip(("read", "scored"), marks, marks[1:], strict=False):
            wall, cpu = after[0] - before[0], after[1] - before[1]
            print(f"  {name:7} {wall:6.1f} s, {cpu:5.1f} s of processor   peak {after[2]:6.0f} MB")


if __name__ == "__main__":
    main()
