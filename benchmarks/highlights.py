"""Models of personalized highlights: steps of training a second, and an hour of video scored.

    python benchmarks/highlights.py [--recipe highlights_small] [--repeats 5] [--users 60]

Simulated users and videos in a store on disk, features of --width. In one run, the models
interleaved, each number the median of its repeats:

- steps/s: `train_step` on batches at hand (the recipe's: 8 stretches of 192 frames), beside its
  ratio to ContentCTR-HL's in the same round;
- with loader: the same with the batches read from the store as training does, two ahead, beside
  its ratio to the bare step: 1 means that the loader never waits;
- hour: seconds that `score_videos` takes for an hour at a frame a second, with a history of 20
  clips, beside its ratio to ContentCTR-HL's. Encoding the frames comes on top.

The last line is the loader alone against ContentCTR-HL's bare step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from contentctr.batch import Batch
from contentctr.config import DataSpec, override
from contentctr.highlight_scoring import score_videos
from contentctr.models.registry import MODELS, build_model
from contentctr.phd.batches import SegmentLoader
from contentctr.phd.samples import Frames, Segment
from contentctr.phd.simulated import HighlightSimulation, write_simulated
from contentctr.prefetch import prefetched
from contentctr.recipes import RECIPES, recipe
from contentctr.tasks.highlights import HighlightsTask
from contentctr.tasks.opened import open_task
from contentctr.tasks.task import Process
from contentctr.train import make_optimizer, train_step
from contentctr.vocabulary import Vocabulary

OURS = "contentctr_hl"
HOUR_S, CLIPS = 3600, 20


@dataclass
class Hour:
    """An hour of made-up video at a frame a second, as `phd.batches.Videos`."""

    spec: DataSpec

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        widths = (HOUR_S, self.spec.visual_dim), (HOUR_S, self.spec.text_dim)
        visual_TV, text_TC = (rng.normal(size=shape).astype(np.float16) for shape in widths)
        there_T = np.ones(HOUR_S, np.bool_)
        self.whole = Frames(
            visual_TV=visual_TV, text_TC=text_TC, has_visual_T=there_T, has_text_T=there_T
        )
        self.history_KV = rng.normal(size=(CLIPS, self.spec.visual_dim)).astype(np.float32)

    def num_frames(self, user: int) -> int:
        """Frames of the video."""
        return HOUR_S

    def frames(self, segment: Segment) -> Frames:
        """The frames of a stretch."""
        rows = slice(segment.start, segment.stop)
        return Frames(**{name: values[rows] for name, values in vars(self.whole).items()})

    def labels(self, user: int) -> NDArray[np.bool_]:
        """Nothing is picked."""
        return np.zeros(HOUR_S, np.bool_)

    def history(self, user: int) -> NDArray[np.float32]:
        """The user's clips."""
        return self.history_KV


class Trained:
    """A model with what trains it."""

    def __init__(self, kind: str, name: str, task: HighlightsTask) -> None:
        self.config = override(recipe(name), [f"kind={kind}"])
        torch.manual_seed(0)
        self.model = build_model(self.config, task.spec(self.config), Vocabulary(streamers=[]))
        self.optimizer = make_optimizer(self.model, self.config.train)
        self.accelerator = Accelerator(cpu=True)
        self.step = 0

    def parameters(self) -> int:
        """How many the model has."""
        return sum(p.numel() for p in self.model.parameters())

    def train(self, steps: Iterator[list[Batch]]) -> float:
        """Steps a second over these batches."""
        self.model.train()
        start, count = time.perf_counter(), 0
        for pieces in steps:
            train_step(self.model, self.optimizer, pieces, self.config, step=self.step,
                       total_steps=10_000, accelerator=self.accelerator)  # fmt: skip
            self.step += 1
            count += 1
        return count / (time.perf_counter() - start)

    def score(self, hour: Hour) -> float:
        """Seconds to score the hour."""
        start = time.perf_counter()
        next(score_videos(self.model, hour, [0], window_len=self.config.data.window_len))
        return time.perf_counter() - start


def make_task(folder: Path, users: int, width: int) -> HighlightsTask:
    """A store of simulated users, all of them for training."""
    simulation = HighlightSimulation(
        num_users=users, visual_dim=width, text_dim=width, val=0.0, test=0.0
    )
    write_simulated(simulation, folder, show_progress=False)
    task = open_task(folder)
    assert isinstance(task, HighlightsTask)
    return task


def first(loader: SegmentLoader, count: int, epoch: int) -> Iterator[list[Batch]]:
    """The first steps of an epoch."""
    for number, pieces in enumerate(loader.epoch(epoch)):
        if number == count:
            return
        yield pieces


def measure(
    models: dict[str, Trained], loader: SegmentLoader, hour: Hour, repeats: int, steps: int
) -> tuple[dict[str, list[tuple[float, float, float]]], list[float]]:
    """Of each model and repeat: steps a second, the same with the loader, seconds for the hour.

    And of each repeat the loader's own steps a second. The first round is for warming up.
    """
    at_hand = list(first(loader, steps, 0))
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in models}
    alone = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        count = sum(1 for _ in first(loader, steps, repeat))
        alone.append(count / (time.perf_counter() - start))
        for kind, trained in models.items():
            bare = trained.train(iter(at_hand))
            with prefetched(first(loader, steps, repeat), "cpu") as ahead:
                loaded = trained.train(ahead)
            found[kind].append((bare, loaded, trained.score(hour)))
    return {kind: rows[1:] for kind, rows in found.items()}, alone[1:]


def table(
    models: dict[str, Trained], found: dict[str, list[tuple[float, float, float]]]
) -> Iterator[str]:
    """The printed lines."""
    head = ("model", "parameters", "steps/s", "of HL", "with loader", "of bare", "hour", "of HL")
    yield "{:32s} {:>10s} {:>8s} {:>6s} {:>11s} {:>7s} {:>8s} {:>6s}".format(*head)
    for kind, rows in found.items():
        ours = found[OURS]
        bare = statistics.median(r[0] for r in rows)
        ratio = statistics.median(r[0] / o[0] for r, o in zip(rows, ours, strict=True))
        loaded = statistics.median(r[1] for r in rows)
        kept = statistics.median(r[1] / r[0] for r in rows)
        hour = statistics.median(r[2] for r in rows)
        slower = statistics.median(r[2] / o[2] for r, o in zip(rows, ours, strict=True))
        yield (
            f"{kind:32s} {models[kind].parameters() / 1e6:9.2f}M {bare:8.2f} {ratio:6.2f} "
            f"{loaded:11.2f} {kept:7.2f} {hour:7.3f}s {slower:6.2f}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="highlights_small", choices=sorted(RECIPES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="in a repeat")
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--width", type=int, default=1024, help="of both features")
    args = parser.parse_args()
    kinds = [name for name, model in MODELS.items() if model.task == "highlights"]
    with tempfile.TemporaryDirectory() as folder:
        task = make_task(Path(folder) / "data", args.users, args.width)
        models = {kind: Trained(kind, args.recipe, task) for kind in kinds}
        config = models[OURS].config
        loader, _ = task.load(config, Vocabulary(streamers=[]), Process())
        found, alone = measure(
            models, loader, Hour(task.spec(config)), args.repeats, min(args.steps, loader.steps)
        )
    threads = torch.get_num_threads()
    print(f"recipe {args.recipe}, features of width {args.width} (simulated), {threads} threads")
    print("\n".join(table(models, found)))
    bare = [row[0] for row in found[OURS]]
    ours = statistics.median(b / own for b, own in zip(bare, alone, strict=True))
    print(f"the loader alone takes {ours:.2f} of a bare step of {OURS}")


if __name__ == "__main__":
    main()
