"""What pre-training on rooms' own data gains: a linear probe for the activity of simulated rooms.

Two small encoders from nothing, a Swin Transformer on frames and a BERT on speech and comments;
their frozen features are probed before and after. Everything is of simulated rooms. One thread.

    python benchmarks/pretraining.py
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from contentctr.encode import encoders
from contentctr.prepare.rooms import prepare_rooms
from contentctr.pretrain.masked import PretrainConfig
from contentctr.pretrain.text import pretrain_text, untrained_text
from contentctr.pretrain.vision import pretrain_vision, untrained_visual
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_room_folders
from contentctr.store.rooms import PreparedRooms
from probe import ProbeResult, probe_text, probe_visual

ROOMS = SimulatorConfig(num_rooms=64, num_streamers=16, min_segments=40, max_segments=60, seed=1)
VISION = {"epochs": 8, "batch_size": 32, "learning_rate": 1e-3}
TEXT = {"epochs": 10, "batch_size": 32, "learning_rate": 1e-3}
MAX_TOKENS = 64


def rooms(folder: Path) -> PreparedRooms:
    """Simulated rooms with pictures; test rooms are later than all others."""
    write_room_folders(ROOMS, folder / "rooms", video_share=0.0)
    return prepare_rooms(
        folder / "rooms", folder / "data", val=0.15, test=0.25, frames_per_segment=2
    )


def visual(data: PreparedRooms, out: Path, seed: int) -> tuple[ProbeResult, ProbeResult]:
    """The probe before and after."""
    settings = PretrainConfig(seed=seed, **VISION)  # type: ignore[arg-type]
    before = probe_visual(data, untrained_visual(seed=seed))
    folder = pretrain_vision(data, None, out, config="small", settings=settings)
    return before, probe_visual(data, encoders.load_visual(str(folder)))


def text(data: PreparedRooms, out: Path, seed: int) -> tuple[ProbeResult, ProbeResult]:
    """The probe before and after."""
    settings = PretrainConfig(seed=seed, **TEXT)  # type: ignore[arg-type]
    before = probe_text(data, untrained_text(data, max_tokens=MAX_TOKENS, seed=seed))
    folder = pretrain_text(
        data, None, out, config="small", max_tokens=MAX_TOKENS, settings=settings
    )
    return before, probe_text(data, encoders.load_text(str(folder), max_tokens=MAX_TOKENS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=["vision", "text", "both"], default="both")
    arguments = parser.parse_args()
    seeds = arguments.seeds
    torch.set_num_threads(1)
    parts: dict[str, Callable[..., Any]] = {"vision": visual, "text": text}
    print(f"simulated rooms: {ROOMS.num_rooms}; accuracy of a linear probe for the activity")
    print(f"{'':8} {'seed':>4} {'majority':>9} {'untrained':>10} {'pre-trained':>12} {'gain':>7}")
    with tempfile.TemporaryDirectory() as name:
        data = rooms(Path(name))
        for part, measure in parts.items():
            if arguments.part not in (part, "both"):
                continue
            gains = []
            for seed in range(seeds):
                before, after = measure(data, Path(name) / f"{part}-{seed}", seed)
                gains.append(after.accuracy - before.accuracy)
                print(
                    f"{part:8} {seed:4} {after.majority:9.3f} {before.accuracy:10.3f} "
                    f"{after.accuracy:12.3f} {gains[-1]:+7.3f}",
                    flush=True,
                )
            print(
                f"{part:8} {'mean':>4} {'':9} {'':10} {'':12} {statistics.mean(gains):+7.3f} "
                f"({after.test_segments} test segments)"
            )


if __name__ == "__main__":
    main()
