"""Time and agreement of the engines that run frozen encoders, and what they save.

    python benchmarks/engines.py [--visual embedded] [--text embedded embedded-en]
    python benchmarks/engines.py rooms DATA... [--before SRC]
    python benchmarks/engines.py hour [--minutes 60] [--before SRC]

The first takes turns over the engines, batch sizes and rounds: least milliseconds a row, and how
near the features are to torch's. `rooms` encodes a prepared folder with each engine, from nothing,
in processes of their own; `hour` predicts a recording of 1080p without sound to be heard, chat or
subtitles, with a small model made for it. With --before they also run an older version, whose
package is in SRC: `git worktree add /tmp/before VERSION`, then SRC is /tmp/before/src. An older
version that cannot read the folder is given one of its own: DATA,OLD_DATA. Wall time and, beside
it, processor time, which does not depend on other work on the machine.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OWN = Path(__file__).parents[1] / "src"
ENGINES = ("torch", "onnx", "openvino")


def main() -> None:
    """One of the three."""
    words = sys.argv[1:]
    if words[:1] == ["child"]:
        print(json.dumps(CHILDREN[words[1]](*words[2:])))
    elif words[:1] in (["rooms"], ["hour"]):
        parser = argparse.ArgumentParser()
        parser.add_argument("kind")
        parser.add_argument("data", nargs="*")
        parser.add_argument("--text", nargs="+", default=["embedded-en", "embedded"])
        parser.add_argument("--engines", nargs="+", default=[*ENGINES, "auto"])
        parser.add_argument("--before", type=Path)
        parser.add_argument("--minutes", type=int, default=60)
        parser.add_argument("--group", type=int, default=2, help="seconds between keyframes")
        parser.add_argument("--repeats", type=int, default=2)
        chosen = parser.parse_args()
        (rooms if chosen.kind == "rooms" else hour)(chosen)
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("--visual", nargs="+", default=["embedded"])
        parser.add_argument("--text", nargs="+", default=["embedded", "embedded-en"])
        parser.add_argument("--tokens", type=int, nargs="+", default=[48, 128])
        parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
        parser.add_argument("--repeats", type=int, default=3)
        table(parser.parse_args())


def table(chosen: argparse.Namespace) -> None:
    """Each engine and precision on the same rows."""
    import torch

    from contentctr.encode.encoders import load_text, load_visual

    print(f"threads: {torch.get_num_threads()}")
    print("| encoder | rows | engine | least cosine | largest difference | ms a row, by batch |")
    print("|---|---|---|---|---|---|")
    for name in chosen.visual:
        encoder = load_visual(name)
        compare(name, "pictures", encoder, (pictures(encoder.size, 16),), chosen)
    for name in chosen.text:
        text = load_text(name)
        for tokens in chosen.tokens:
            compare(name, f"{tokens} tokens", text, texts(text, tokens, 16), chosen)


def compare(name: str, rows: str, encoder: Any, given: tuple[Any, ...], chosen: Any) -> None:
    """Rows of the table."""
    import torch

    from contentctr.encode.encoders import for_inference
    from contentctr.encode.engines import choose, runtime

    plain = for_inference(encoder)
    ways: dict[str, Any] = {"torch, float32": plain}
    trial = choose._Trial(plain)
    for each in runtime.candidates("auto", torch.device("cpu")):
        if each != runtime.TORCH:
            ways[str(each)] = trial._runner(each)
    with torch.inference_mode():
        found = {way: run(*given).double().numpy() for way, run in ways.items()}
        least: dict[tuple[str, int], float] = {}
        for _ in range(chosen.repeats):
            for size in chosen.batches:
                for way, run in ways.items():
                    began = time.perf_counter()
                    for start in range(0, len(given[0]), size):
                        run(*(x[start : start + size] for x in given))
                    took = (time.perf_counter() - began) / len(given[0])
                    least[way, size] = min(took, least.get((way, size), 1e9))
    for way in ways:
        cosine, difference = choose.closeness(found[way], found["torch, float32"])
        times = ", ".join(f"{size}: {least[way, size] * 1e3:.1f}" for size in chosen.batches)
        print(
            f"| {name} | {rows} | {way} | {cosine:.6f} | {difference:.0e} | {times} |", flush=True
        )


def pictures(size: tuple[int, int], count: int) -> Any:
    """Smooth ones with some noise."""
    import torch

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), np.uint8).astype(np.float32)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse).permute(0, 3, 1, 2), size=size, mode="bicubic"
    ).permute(0, 2, 3, 1)
    return (smooth + torch.randn(smooth.shape) * 8).clamp(0, 255).to(torch.uint8)


def texts(encoder: Any, tokens: int, count: int) -> Any:
    """Tokens of so many pieces of the vocabulary."""
    import torch

    ids = torch.from_numpy(
        np.random.default_rng(0).integers(5, len(encoder.tokenizer), (count, tokens))
    )
    return ids, torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool)


def rooms(chosen: argparse.Namespace) -> None:
    """Time to encode prepared folders; the first row is what the others are measured by."""
    ways: list[tuple[str, Path, str, str]] = []
    for text in chosen.text:
        ways += [(f"{engine}, {text}", OWN, text, engine) for engine in chosen.engines]
    if chosen.before:
        ways.insert(0, ("before", chosen.before, "embedded", ""))
    for both in chosen.data:
        own, _, old = both.partition(",")

        def run(way: tuple[str, Path, str, str], own: str = own, old: str = old) -> dict[str, Any]:
            source, data = way[1], Path(own if way[1] == OWN else old or own)
            shutil.rmtree(data / "features", ignore_errors=True)
            return child(source, "encode", str(data), *way[2:])

        measure(ways, run, chosen.repeats)


def hour(chosen: argparse.Namespace) -> None:
    """Time of `predict` for an hour of 1080p."""
    from frames import repeat, write_minute

    ways = [
        (f"{frames}, {engine}", OWN, frames, engine)
        for frames in ("keyframe", "exact")
        for engine in chosen.engines
    ]
    if chosen.before:
        ways.insert(0, ("before", chosen.before, "exact", ""))
    with tempfile.TemporaryDirectory() as folder:
        video, runs = Path(folder) / "hour.mp4", {}
        write_minute(Path(folder) / "minute.mkv", chosen.group, 0)
        repeat(Path(folder) / "minute.mkv", video, chosen.minutes)
        for number, source in enumerate({way[1] for way in ways}):
            runs[source] = child(source, "train", f"{folder}/{number}")["run"]
        measure(
            ways,
            lambda way: child(
                way[1], "predict", runs[way[1]], str(video), f"{folder}/out", *way[2:]
            ),
            chosen.repeats,
        )


def measure(
    ways: list[tuple[str, Path, str, str]],
    run: Callable[[tuple[str, Path, str, str]], dict[str, Any]],
    repeats: int,
) -> None:
    """Ways take turns; medians, and medians of the ratios to the first inside a round."""
    found: dict[str, list[dict[str, Any]]] = {way[0]: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            found[way[0]].append(run(way))
    first = found[ways[0][0]]
    print("| | wall s | ratio | processor s | ratio | peak MB | engines |")
    print("|---|---|---|---|---|---|---|")
    for name, results in found.items():
        cells = []
        for key in ("wall", "cpu"):
            middle = statistics.median(r[key] for r in results)
            ratio = statistics.median(r[key] / f[key] for r, f in zip(results, first, strict=True))
            cells.append(f"{middle:.1f} | {ratio:.2f}")
        said = "; ".join(results[0]["said"])
        print(f"| {name} | {' | '.join(cells)} | {results[0]['peak']} | {said} |", flush=True)


def child(source: Path, *words: str) -> dict[str, Any]:
    """What this file prints when it runs with the package in `source`."""
    out = subprocess.run(
        [sys.executable, __file__, "child", *words],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    if out.returncode:
        raise SystemExit(out.stderr[-2000:])
    found: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return found


def encode(data: str, text: str, engine: str) -> dict[str, Any]:
    """Encode a folder, in a process of its own."""
    from contentctr.encode.rooms import encode_rooms

    options = {"engine": engine} if engine else {}
    began, used = time.perf_counter(), processor()
    counts = encode_rooms(Path(data), text=text, show_progress=False, **options)
    said = [f"{k}: {v}" for k, v in counts.items() if k.endswith("_engine")]
    return taken(began, used) | {"said": [*said, *counts["warnings"]]}


def train(folder: str) -> dict[str, Any]:
    """A model of a few simulated rooms, as small as may be."""
    from contentctr.config import override
    from contentctr.encode.rooms import encode_rooms
    from contentctr.prepare.rooms import prepare_rooms
    from contentctr.recipes import small
    from contentctr.simulate.mechanism import SimulatorConfig
    from contentctr.simulate.rooms import write_room_folders
    from contentctr.train.loop import train_model

    root = Path(folder)
    config = SimulatorConfig(num_rooms=6, num_streamers=2, min_segments=8, max_segments=10)
    write_room_folders(config, root / "rooms", show_progress=False)
    prepare_rooms(root / "rooms", root / "data", val=0.2, test=0.2, show_progress=False)
    encode_rooms(root / "data", show_progress=False)
    settings = override(small(), ["train.epochs=1", "data.min_viewers=1"])
    train_model(settings, root / "data", root / "run", show_progress=False)
    return {"run": str(root / "run")}


def predict(run: str, video: str, out: str, frames: str, engine: str) -> dict[str, Any]:
    """Predict a recording, in a process of its own."""
    import dataclasses

    began, used = time.perf_counter(), processor()
    from contentctr.encode import segments
    from contentctr.predict.rooms import predict_recording
    from contentctr.score.checkpoint import load

    # Its pictures come again every minute, which no real recording's do.
    segments.PICTURES_KEPT = 0  # type: ignore[attr-defined]
    checkpoint, options = load(run), {}
    if "asr" in inspect.signature(predict_recording).parameters:
        options = {"engine": engine, "asr": "none"}
        spec = dataclasses.replace(checkpoint.spec, frames=frames)
        checkpoint = dataclasses.replace(checkpoint, spec=spec)
    shutil.rmtree(out, ignore_errors=True)
    predict_recording(checkpoint, video, out, show_progress=False, **options)
    return taken(began, used) | {"said": []}


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def taken(began: float, used: float) -> dict[str, Any]:
    return {
        "wall": time.perf_counter() - began,
        "cpu": processor() - used,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    "encode": encode,
    "train": train,
    "predict": predict,
}

if __name__ == "__main__":
    main()
