"""Training from mapped features: the share of time the model waits for data, and the order.

    python benchmarks/loader.py [--gigabytes 2] [--steps 12] [--folder FOLDER] [--skip-order]

1. Waiting. Steps of the paper's recipe (48 windows of 20 segments, features of width 2 x 1,024)
   on a store in FOLDER, in files of one room each. Time in `next` over the time of the steps,
   with the thread and without, from files that were put out of the system's page cache before
   (Linux; elsewhere they stay), and from files in it, beside features in memory. Must be under 5 %.
2. Order (simulated rooms). How random an epoch's order is with blocks of consecutive windows: the
   share of pairs in a batch that stood in one batch in the epoch before, the correlation of
   targets within a batch, and validation tau of a small model.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.numpy import save_file
from torch import nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, override
from contentctr.models.registry import build_model
from contentctr.recipes import paper, recipe
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_features
from contentctr.store.mapped import FileRows, MappedRows, matrix_offsets
from contentctr.train.loop import train_model, train_step
from contentctr.train.models import ModelObjective, make_optimizer
from contentctr.train.run_folder import read_log
from contentctr.windows.prefetch import prefetched
from contentctr.windows.rooms import WindowLoader, Windows, curve_windows
from contentctr.windows.segment_data import SegmentData

WIDTH, ROOM = 1024, 240
"""Width of both features; segments of a room (2 hours)."""


def write_store(folder: Path, rooms: int) -> list[Path]:
    """One file a room, both features; every file holds the same random numbers."""
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal((ROOM, WIDTH), np.float32).astype(np.float16)
        for name in ("visual", "text")
    }
    paths = [folder / f"{room:06d}.safetensors" for room in range(rooms)]
    for path in paths:
        save_file(tensors, path)
    return paths


def make_data(paths: list[Path]) -> SegmentData:
    """Segments of the store, with random targets."""
    count = len(paths) * ROOM
    widths = {"visual": WIDTH, "text": WIDTH}
    offsets = [matrix_offsets(path, widths, ROOM) for path in paths]
    mapped = {
        name: MappedRows(
            name,
            [FileRows(p, o[name], 0, ROOM) for p, o in zip(paths, offsets, strict=True)],
            WIDTH,
        )
        for name in widths
    }
    there, zero = torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.long)
    return SegmentData(
        visual_SV=mapped["visual"],
        text_ST=mapped["text"],
        has_visual_S=there,
        has_speech_S=there,
        has_comments_S=there,
        streamer_S=zero,
        known_room_S=zero,
        hour_S=zero,
        next_position_S=zero,
        counts_SA=torch.zeros(count, 10),
        viewers_S=torch.full((count,), 20.0),
        target_S=torch.rand(count, generator=torch.Generator().manual_seed(0)),
        room_S=np.repeat(np.arange(len(paths)), ROOM),
        table=None,
    )


def drop_cache(paths: list[Path]) -> None:
    """Put the files out of the page cache."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


class Trainer:
    """The paper's model and its step."""

    def __init__(self, config: Config) -> None:
        self.config = config
        torch.manual_seed(0)
        spec = DataSpec(visual_dim=WIDTH, text_dim=WIDTH)
        self.model: nn.Module = build_model(config, spec, Vocabulary(streamers=["a"]))
        self.optimizer = make_optimizer(self.model, config.train)
        self.accelerator = Accelerator(cpu=True)

    def run(self, loader: WindowLoader, steps: int, ahead: int) -> tuple[float, float, float]:
        """Share of time that `steps` steps wait, seconds a step, and the longest wait's share."""
        waits, works = [], []
        with prefetched(loader.epoch(0), "cpu", ahead=ahead) as batches:
            for number in range(steps):
                start = time.perf_counter()
                pieces = next(batches)
                middle = time.perf_counter()
                train_step(
                    ModelObjective(self.config),
                    self.model,
                    self.optimizer,
                    pieces,
                    step=number,
                    total_steps=steps,
                    accelerator=self.accelerator,
                )
                waits.append(middle - start)
                works.append(time.perf_counter() - middle)
        total = sum(waits) + sum(works)
        return sum(waits) / total, total / steps, max(waits[1:]) / total


def waiting(folder: Path, gigabytes: float, steps: int) -> None:
    """Print the first table."""
    rooms = max(2, int(gigabytes * 1e9 / (ROOM * WIDTH * 2 * 2)))
    paths = write_store(folder, rooms)
    data = make_data(paths)
    windows, _ = curve_windows(data, 20)
    config = paper()
    loader = WindowLoader(
        data=data,
        windows=windows,
        window_len=20,
        batch_size=48,
        num_negatives=config.loss.num_negatives,
    )
    # In memory: as many rows as the steps read, so that any machine holds them.
    few = make_data(paths[: max(2, rooms // 10)])
    every = torch.arange(len(few))
    few = dataclasses.replace(few, visual_SV=few.visual_SV[every], text_ST=few.text_ST[every])
    memory = dataclasses.replace(loader, data=few, windows=curve_windows(few, 20)[0])
    trainer = Trainer(config)
    trainer.run(memory, 2, 0)
    print(
        f"{rooms} files, {rooms * ROOM * WIDTH * 4 / 1e9:.1f} GB; {len(windows)} windows; "
        f"threads {torch.get_num_threads()}; {steps} steps of 48 windows each"
    )
    print(f"{'features':28} {'ahead':>6} {'waiting':>9} {'longest wait':>13} {'time/step':>10}")
    base = 0.0
    for what, source, cold in (
        ("in memory", memory, False),
        ("mapped, out of cache", loader, True),
        ("mapped, in cache", loader, False),
    ):
        for ahead in (0, 2):
            drop_cache(paths) if cold else None
            if not cold and source is loader:
                for _ in islice(loader.epoch(0), steps + 2):
                    pass
            share, seconds, longest = trainer.run(source, steps, ahead)
            base = base or seconds
            print(f"{what:28} {ahead:6} {share:9.2%} {longest:13.2%} {seconds / base:10.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"largest resident set of this process: {peak / 1e6:.2f} GB with the mapped pages")


def together(loader: WindowLoader) -> tuple[float, float]:
    """Pairs of a batch that stood in one batch the epoch before, and correlation of targets."""
    count, size = len(loader.windows), loader.batch_size
    batch_of = [np.empty(count, int) for _ in range(2)]
    for epoch, number in enumerate(batch_of):
        number[loader.order(epoch)] = np.arange(count) // size
    order = loader.order(1)
    target_W = loader.data.target_S.numpy()[loader.windows.last_W]
    centred = target_W - target_W.mean()
    again, pairs, products = 0, 0, 0.0
    for start in range(0, count - size + 1, size):
        which = order[start : start + size]
        before = batch_of[0][which]
        again += ((before[:, None] == before).sum() - size) // 2
        pairs += size * (size - 1) // 2
        products += (centred[which].sum() ** 2 - (centred[which] ** 2).sum()) / 2
    return again / pairs, products / pairs / centred.var()


def order_table(folder: Path, blocks: list[int], seeds: int, rooms: int, epochs: int) -> None:
    """Print the second table."""
    from contentctr.windows.rooms import sample_windows
    from contentctr.windows.segment_data import known_ids, load_segments

    prepared = write_features(
        SimulatorConfig(num_rooms=rooms), folder / "rooms", show_progress=False
    )
    small = override(recipe("small"), [f"epochs={epochs}", "stride=1"])
    data = load_segments(prepared, known_ids(prepared.segments()), split="train", horizon=0)
    windows: Windows = sample_windows(data, small.data, "ctr")
    print(
        f"\nsimulated: {rooms} rooms, {len(windows)} training windows at stride 1, batch "
        f"{small.train.batch_size}, {epochs} epochs, {seeds} seeds"
    )
    print(f"{'block':>12} {'pairs again':>21} {'correlation':>12} {'val tau, best epoch':>24}")
    for block in blocks:
        loader = WindowLoader(
            data=data,
            windows=windows,
            window_len=small.data.window_len,
            batch_size=small.train.batch_size,
            block=block,
        )
        again, correlation = together(loader)
        taus = []
        for seed in range(seeds):
            run = folder / f"run-{block}-{seed}"
            config = override(small, [f"seed={seed}", f"block={block}"])
            train_model(config, prepared, run, show_progress=False)
            taus.append(
                max(r["kendall_tau"] for r in read_log(run / "log.jsonl") if r["split"] == "val")
            )
        name = "whole rooms" if block == 1000 else str(block)
        print(
            f"{name:>12} {again:21.2%} {correlation:12.3f} {statistics.mean(taus):15.4f} "
            f"(+- {statistics.stdev(taus) if seeds > 1 else 0:.4f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 8, 20, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rooms", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--skip-order", action="store_true")
    parser.add_argument("--skip-waiting", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if not options.skip_waiting:
            waiting(Path(folder), options.gigabytes, options.steps)
        if not options.skip_order:
            order_table(Path(folder), options.blocks, options.seeds, options.rooms, options.epochs)


if __name__ == "__main__":
    main()
