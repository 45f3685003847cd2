"""What `watch` takes of a core for a room, part by part: how many rooms one core can follow.

    python benchmarks/watch.py [--minutes 4 16] [--chat 60] [--group 2]

A room is a recording of 1080p at 30 pictures a second with chat,
whose sound is half a minute of a reading and half a minute of silence, again and again. `watch`
runs over it as it would over a file that was there before: at full speed, each row in a process of
its own, on one thread. What a minute takes is the difference between the longer recording and the
shorter one, so loading and choosing engines do not count; "rooms a core" is 60 s over that.
Processor time: other work on the machine makes it worse, not shorter. Pictures and comments that
come again are not taken from memory: no real room's do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

ROWS: dict[str, tuple[str, ...]] = {
    "pictures": (),
    "and comments, counts": ("chat",),
    "and sound": ("chat", "sound"),
    "and speech": ("chat", "sound", "speech"),
}


def main() -> None:
    """Make the room and the models, run the rows, print the table."""
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(watch(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=int, nargs=2, default=[4, 16])
    parser.add_argument("--chat", type=int, default=60, help="comments a minute")
    parser.add_argument("--group", type=int, default=2, help="seconds between keyframes")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recordings(folder, chosen.minutes, chosen.chat, chosen.group)
        for sound in (False, True):
            root = folder / ("with-sound" if sound else "plain")
            train(root, folder / str(min(chosen.minutes)), sound)
        print("| frames | parts | core s a minute | rooms a core | peak MB | start, core s |")
        print("|---|---|---|---|---|---|")
        for frames in ("exact", "keyframe"):
            for row, parts in ROWS.items():
                found = [child(folder, str(m), frames, *parts) for m in chosen.minutes]
                used = [each["cpu"] for each in found]
                minute_s = (used[1] - used[0]) / (chosen.minutes[1] - chosen.minutes[0])
                start_s = used[0] - minute_s * chosen.minutes[0]
                print(
                    f"| {frames} | {row} | {minute_s:.2f} | {60 / minute_s:.1f} | "
                    f"{found[1]['peak']} | {start_s:.1f} |",
                    flush=True,
                )


def write_recordings(folder: Path, minutes: list[int], chat: int, group_s: int) -> None:
    """Recordings of each length, silent and with voices, and their chat."""
    from frames import repeat, write_minute
    from speech import kinds

    write_minute(folder / "noise.mkv", group_s, 0)
    lay_sound(folder / "noise.mkv", folder / "minute.mkv", kinds()["half speech"])
    for length in minutes:
        repeat(folder / "minute.mkv", folder / f"{length}.mp4", length)
    rng = np.random.default_rng(0)
    words = ["nice", "goal", "what", "lol", "hello", "who", "is", "that", "again", "play", "wow"]
    for length in minutes:
        with (folder / f"{length}.csv").open("w") as file:
            file.write("t,user_id,text\n")
            for t in np.sort(rng.uniform(0, 60 * length, chat * length)):
                said = " ".join(rng.choice(words, rng.integers(1, 12)))
                file.write(f"{t:.1f},{rng.integers(200)},{said} {rng.integers(1000)}\n")


def lay_sound(video: Path, path: Path, samples: np.ndarray) -> None:
    """The pictures of a recording with other sound, 16 kHz and as long as they are."""
    with av.open(str(video)) as source, av.open(str(path), "w") as out:
        pictures = source.streams.video[0]
        copy = out.add_stream_from_template(pictures)
        sound = out.add_stream("aac", rate=16000, layout="mono")
        for packet in source.demux(pictures):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
        for start in range(0, len(samples) - 1023, 1024):
            values = (samples[None, start : start + 1024] * 32767).astype(np.int16)
            chunk = av.AudioFrame.from_ndarray(values, format="s16", layout="mono")
            chunk.sample_rate, chunk.time_base, chunk.pts = 16000, Fraction(1, 16000), start
            out.mux(sound.encode(chunk))
        out.mux(sound.encode(None))


def train(root: Path, recording: Path, sound: bool) -> None:
    """A model of a few copies of a recording, as small as may be."""
    from contentctr.config import override
    from contentctr.encode.rooms import encode_rooms
    from contentctr.prepare.rooms import prepare_rooms
    from contentctr.recipes import small
    from contentctr.train.loop import train_model

    for number in range(6):
        room = root / "rooms" / f"room{number}"
        room.mkdir(parents=True)
        (room / "video.mp4").hardlink_to(recording.with_suffix(".mp4"))
        (room / "chat.csv").hardlink_to(recording.with_suffix(".csv"))
        started_at = f"2026-01-0{number + 1}T20:00:00+00:00"
        head = {"room_id": room.name, "streamer_id": "s", "started_at": started_at}
        (room / "room.json").write_text(json.dumps(head))
    prepare_rooms(
        root / "rooms",
        root / "data",
        target="comment_rate",
        val=0.2,
        test=0.2,
        asr="none",
        show_progress=False,
    )
    encode_rooms(root / "data", sound=sound, show_progress=False)
    wanted = ["train.epochs=1", "data.min_viewers=0", "model.statistics=true"]
    settings = override(small(), [*wanted, *["model.sound=true"] * sound])
    train_model(settings, root / "data", root / "run", show_progress=False)


def child(folder: Path, *words: str) -> dict[str, Any]:
    """What a row of one length took, in a process of its own on one thread."""
    out = subprocess.run(
        [sys.executable, __file__, "child", str(folder), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if out.returncode:
        raise SystemExit(out.stderr[-2000:])
    found: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return found


def watch(folder: str, minutes: str, frames: str, *parts: str) -> dict[str, Any]:
    """Watch a recording to its end."""
    from typer.testing import CliRunner

    from contentctr.cli import app
    from contentctr.encode import segments

    segments.PICTURES_KEPT = 0  # type: ignore[attr-defined]
    root = Path(folder)
    run = root / ("with-sound" if "sound" in parts else "plain") / "run"
    words = ["watch", str(run), str(root / f"{minutes}.mp4"), "--idle", "0", "--delay", "0"]
    words += ["--frames", frames, "--asr", "embedded" if "speech" in parts else "none"]
    words += ["--comments", str(root / f"{minutes}.csv")] * ("chat" in parts)
    result = CliRunner().invoke(app, words)
    if result.exit_code:
        raise SystemExit(result.output[-2000:])
    scored = sum("scored" in line for line in result.output.splitlines())
    assert scored >= 2 * int(minutes), result.output[-2000:]
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss, in which the memory of the process that started this one counts.
    [peak] = [
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return {"cpu": used.ru_utime + used.ru_stime, "peak": int(peak) // 1024}


if __name__ == "__main__":
    main()
