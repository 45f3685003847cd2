"""Training steps a second of each model, and the time to score an hour of video.

    python benchmarks/highlights.py [--recipe highlights_small] [--repeats 3] [--models NAME ...]

1. Models. Every model of personalized highlights, with the recipe's sizes: `train_step` on a batch
   of StretchLoader at hand (8 stretches of 192 frames, 20 clips of history, features of width 2 x
   1,024), and `score_videos` on one video of an hour at a frame a second (3,600 frames in 19
   stretches; cutting and padding them is part of it). Random features, no claim about what is
   learned. Models take turns in every round; medians over the rounds, ratios inside them.
2. Loader. Steps of ContentCTR-HL on a simulated store on disk: the time in which StretchLoader
   alone makes the batches over that of the steps, which it may hide behind (`prefetched`); once
   with the files out of the system's page cache (Linux; elsewhere they stay), once in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config
from contentctr.models.registry import MODELS, build_model
from contentctr.recipes import recipe
from contentctr.score.personal import score_videos
from contentctr.simulate.personal import PersonalSimulation, write_personal_features
from contentctr.train.loop import train_step
from contentctr.train.models import ModelObjective, make_optimizer
from contentctr.windows.personal import (
    Frames,
    Stretch,
    StretchLoader,
    UserSamples,
    Videos,
    training_stretches,
    whole_video,
)
from loader import drop_cache

WIDTH, CLIPS, HOUR_S = 1024, 20, 3600
BASE = "contentctr_hl"
"""The model that the others are compared with."""
Work = Callable[[], object]


class MadeUp:
    """Users who share one video of an hour at a frame a second, with random features."""

    spec = DataSpec(
        visual_dim=WIDTH,
        text_dim=WIDTH,
        target="highlight",
        frames_per_segment=1,
        segment_seconds=1.0,
    )

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.visual_TV, self.text_TC = (
            rng.standard_normal((HOUR_S, WIDTH), np.float32).astype(np.float16) for _ in range(2)
        )
        self.label_T = rng.random(HOUR_S) < 0.05
        self.clip_KV = rng.standard_normal((CLIPS, WIDTH), np.float32)

    def num_frames(self, user: int) -> int:
        """T of the one video."""
        return HOUR_S

    def frames(self, stretch: Stretch) -> Frames:
        """A stretch of it."""
        here = slice(stretch.start, stretch.stop)
        there = np.ones(len(stretch), np.bool_)
        return Frames(
            visual_TV=self.visual_TV[here],
            text_TC=self.text_TC[here],
            has_visual_T=there,
            has_text_T=there,
        )

    def labels(self, user: int) -> NDArray[np.bool_]:
        """One frame in twenty."""
        return self.label_T

    def history(self, user: int) -> NDArray[np.float32]:
        """The same clips for everyone."""
        return self.clip_KV


def make_loader(videos: Videos, stretches: list[Stretch], config: Config) -> StretchLoader:
    """As training makes it."""
    return StretchLoader(
        videos=videos,
        stretches=stretches,
        window_len=config.data.window_len,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        num_negatives=config.loss.num_negatives if config.loss.align_weight else 0,
    )


def make_model(config: Config, kind: str, spec: DataSpec) -> tuple[nn.Module, Callable[..., Work]]:
    """A model with fresh weights, and what makes a training step of it from a step's pieces."""
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, kind=kind))
    torch.manual_seed(0)
    model = build_model(config, spec, Vocabulary(streamers=[])).train()
    optimizer, accelerator = make_optimizer(model, config.train), Accelerator(cpu=True)

    def step(pieces: list) -> Work:
        return lambda: train_step(
            ModelObjective(config),
            model,
            optimizer,
            pieces,
            step=0,
            total_steps=1,
            accelerator=accelerator,
        )

    return model, step


def timed(work: Work) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(works: dict[str, Work], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work, interleaved, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(repeats + 1):
        for name, work in works.items():
            seconds = timed(work)
            if round_number:
                times[name].append(seconds)
    return times


def compare_models(config: Config, kinds: list[str], repeats: int) -> None:
    """Print the table of the models."""
    videos, length = MadeUp(), config.data.window_len
    stretches = [s for s in whole_video(videos, 0, length) if len(s) == length]
    pieces = next(make_loader(videos, stretches, config).epoch(0))
    sizes: dict[str, int] = {}
    steps: dict[str, Work] = {}
    scorings: dict[str, Work] = {}
    for kind in kinds:
        model, step = make_model(config, kind, videos.spec)
        sizes[kind], steps[kind] = sum(p.numel() for p in model.parameters()), step(pieces)
        scorings[kind] = lambda model=model: list(
            score_videos(model, videos, [0], window_len=length, batch_size=config.train.batch_size)
        )
    print(f"{'':32} {'parameters':>11} {'training steps':>20} {'an hour of video':>26}")
    print(
        f"{'model':32} {'M':>11} {'a second':>11} {'ratio':>8} {'time, ratio':>13} "
        f"{'of real time':>12}"
    )
    step_s, hour_s = measure(steps, repeats), measure(scorings, repeats)
    for kind in kinds:
        faster = statistics.median(np.divide(step_s[BASE], step_s[kind]))
        longer = statistics.median(np.divide(hour_s[kind], hour_s[BASE]))
        print(
            f"{kind:32} {sizes[kind] / 1e6:11.2f} {1 / statistics.median(step_s[kind]):11.2f} "
            f"{faster:8.2f} {longer:13.2f} "
            f"{statistics.median(hour_s[kind]) / HOUR_S:12.4%}"
        )


def compare_loader(config: Config, users: int, steps: int, folder: Path) -> None:
    """Print how long the loader takes to read a store, beside the training steps."""
    simulation = PersonalSimulation(num_users=users, visual_dim=WIDTH, text_dim=WIDTH)
    data = write_personal_features(simulation, folder / "data", show_progress=False)
    files = [path for path in data.features_dir.rglob("*") if path.is_file()]
    samples = UserSamples(data, "train")
    loader = make_loader(samples, training_stretches(samples, config.data.window_len), config)
    steps = min(steps, loader.steps)
    _, step = make_model(config, BASE, samples.spec)
    gigabytes = sum(path.stat().st_size for path in files) / 1e9
    print(
        f"\nsimulated store: {users} users, {gigabytes:.2f} GB, {len(loader)} training stretches; "
        f"{steps} steps of {config.train.batch_size}"
    )
    timed(step(next(loader.epoch(0))))
    for what, cold in (("out of cache", True), ("in cache", False)):
        if cold:
            drop_cache(files)
        batches, loads, works = loader.epoch(0), [], []
        for _ in range(steps):
            start = time.perf_counter()
            pieces = next(batches)
            loads.append(time.perf_counter() - start)
            works.append(timed(step(pieces)))
        print(
            f"files {what:12}: the loader alone takes {sum(loads) / sum(works):.1%} of the "
            f"training steps' time"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [kind for kind, model in MODELS.items() if model.task == "personal"]
    parser.add_argument("--recipe", default="highlights_small")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=every, default=every)
    parser.add_argument("--users", type=int, default=100, help="of the simulated store")
    parser.add_argument("--steps", type=int, default=8, help="that read the store")
    parser.add_argument("--folder", type=Path, help="where the store is made")
    options = parser.parse_args()
    config = recipe(options.recipe)
    kinds = list(dict.fromkeys(itertools.chain([BASE], options.models)))
    print(
        f"threads {torch.get_num_threads()}; recipe {options.recipe}: d_model "
        f"{config.model.d_model}, batch {config.train.batch_size} stretches of "
        f"{config.data.window_len} frames, {CLIPS} clips, random features 2 x {WIDTH}; "
        f"{options.repeats} rounds"
    )
    compare_models(config, kinds, options.repeats)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compare_loader(config, options.users, options.steps, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"largest resident set of this process, all models in it: {peak / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
