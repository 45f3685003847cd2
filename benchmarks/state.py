"""What keeping the rooms on the disk costs a batch (`serve --state`), and a switch of the model.

    OMP_NUM_THREADS=1 python -u benchmarks/state.py [--rooms 64] [--batches 60] [--folder DIR]

The scorer's work alone, without HTTP: batches of one segment each of 1, 16 and all rooms, with the
paper's sizes and with a tiny model, features of 2 x 1,024; each batch once without a state and once
with it, in turn, in processor time and in time. Then the file, and what leading a second model
along and switching take a room. Ratios are what is claimed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, DataConfig, ModelConfig
from contentctr.live.engine import Engine
from contentctr.live.known_rooms import Shown
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service.keeping import Keeper
from contentctr.live.service.scoring import Item, Scoring
from contentctr.live.service.warm import Warm
from contentctr.models.registry import build_model
from contentctr.recipes import paper

WIDTH = 1024
TINY = Config(data=DataConfig(), model=ModelConfig(d_model=16, num_heads=2))
SPEC, KNOWN = DataSpec(visual_dim=WIDTH, text_dim=WIDTH), Vocabulary(streamers=["a"])


def make_engine(config: Config, seed: int = 0) -> Engine:
    torch.manual_seed(seed)
    return Engine(build_model(config, SPEC, KNOWN), config, SPEC, KNOWN)


def batch(rooms: int, index: int) -> list[Item]:
    rng = np.random.default_rng(index)
    return [
        Item(
            LiveSegment(
                room_id=f"r{room}",
                streamer_id="a",
                index=index,
                visual=rng.standard_normal(WIDTH).astype(np.float32),
                text=rng.standard_normal(WIDTH).astype(np.float32),
                has_speech=True,
                has_comments=True,
            ),
            Shown(ended_at=1.0, comments=("hello",)),
        )
        for room in range(rooms)
    ]


def timed(scoring: Scoring, items: list[Item]) -> tuple[float, float]:
    begun, used = time.perf_counter(), time.process_time()
    scoring.work(items)
    return time.perf_counter() - begun, time.process_time() - used


def measure(name: str, config: Config, rooms: int, batches: int, folder: Path) -> None:
    keeper = Keeper(folder, forget_after_s=600.0, report=print)
    plain, kept = Scoring(make_engine(config)), Scoring(make_engine(config), keeper=keeper)
    index = 0
    for size in (1, 16, rooms):
        times: dict[str, list[tuple[float, float]]] = {"plain": [], "kept": []}
        for _ in range(batches):
            items = batch(size, index)
            index += 1
            times["plain"].append(timed(plain, items))
            times["kept"].append(timed(kept, items))
        (wall, cpu), (kept_wall, kept_cpu) = (np.median(times[k], axis=0) for k in times)
        print(
            f"{name}, batches of {size}: {cpu * 1000:.1f} ms of processor without, with a state "
            f"{kept_cpu * 1000:.1f} ms: {kept_cpu / cpu:.2f} (time {kept_wall / wall:.2f}); "
            f"{(kept_cpu - cpu) / size * 1e6:.0f} us a segment"
        )
    size_kb = sum(path.stat().st_size for path in folder.iterdir()) / 1024
    print(f"{name}: the folder has {size_kb / rooms:.0f} KB a room, {size_kb / 1024:.0f} MB in all")
    warm, begun = Warm(make_engine(config, 1)), time.process_time()
    warm.lead(kept.behind(warm))
    led = time.process_time() - begun
    begun = time.perf_counter()
    kept.switch(warm, reason="")
    took = time.perf_counter() - begun
    print(
        f"{name}: led along in {led / rooms * 1000:.1f} ms of processor a room; the switch of "
        f"{rooms} rooms held batches up for {took * 1000:.1f} ms"
    )
    begun = time.perf_counter()
    kept.stop()
    print(f"{name}: all of it written anew in {(time.perf_counter() - begun) * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, default=64)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, config in (("tiny", TINY), ("paper", paper())):
            measure(name, config, options.rooms, options.batches, Path(folder) / name)


if __name__ == "__main__":
    main()
