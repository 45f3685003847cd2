"""Whole-room mode against window mode: the same gradients, more training samples a second.

    python benchmarks/whole_rooms.py [--blocks 1 8 48] [--repeats 3]

Steps of the paper's recipe (48 windows of 20 segments at stride 1, features of width 2 x 1,024),
interleaved in one run. Random features; no claim about what is learned.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time

import numpy as np
import torch
from accelerate import Accelerator

from contentctr.batch import Batch, DataSpec, Vocabulary
from contentctr.models.losses import loss_counts, loss_sums, total_loss
from contentctr.models.registry import build_model
from contentctr.recipes import paper
from contentctr.train.loop import train_step
from contentctr.train.models import ModelObjective, make_optimizer
from contentctr.windows.loader import shuffles
from contentctr.windows.rooms import WindowLoader, Windows, gather
from contentctr.windows.segment_data import SegmentData

WIDTH, ROOM, ROOMS = 1024, 240, 8


def make_data() -> SegmentData:
    """Rooms of 2 hours with random features and targets."""
    count, g = ROOMS * ROOM, torch.Generator().manual_seed(0)
    there, zero = torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.long)
    return SegmentData(
        visual_SV=torch.randn(count, WIDTH, generator=g).half(),
        text_ST=torch.randn(count, WIDTH, generator=g).half(),
        has_visual_S=there,
        has_speech_S=there,
        has_comments_S=there,
        streamer_S=zero,
        known_room_S=zero,
        hour_S=zero,
        next_position_S=zero,
        counts_SA=torch.zeros(count, 10),
        target_S=torch.rand(count, generator=g),
        viewers_S=torch.full((count,), 20.0),
        room_S=np.repeat(np.arange(ROOMS), ROOM),
        table=None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 8, 48])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    config, data = paper(), make_data()
    n, size = config.data.window_len, config.train.batch_size
    first = np.flatnonzero(np.arange(len(data)) % ROOM <= ROOM - n)
    windows = Windows(first, np.full(len(first), n))
    torch.manual_seed(0)
    model = build_model(
        config, DataSpec(visual_dim=WIDTH, text_dim=WIDTH), Vocabulary(streamers=["a"])
    )
    optimizer, accelerator = make_optimizer(model, config.train), Accelerator(cpu=True)

    # Equality: one batch of 48 consecutive windows, both ways, without dropout.
    model.eval()
    which = np.arange(size)
    order = torch.from_numpy(shuffles(which, windows.length_W[which], n, 10, 0, 0))
    results = []
    for shared in (False, True):
        batch: Batch = dataclasses.replace(
            gather(data, windows, which, n, shared=shared), shuffles_BKN=order
        )
        model.zero_grad()
        output = model(batch)
        sums, counts = loss_sums(output, batch, config.loss), loss_counts(batch)
        total_loss(sums, counts, config.loss).backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((output.logits_BN.detach(), gradients))
    (logits, gradients), (logits_shared, gradients_shared) = results
    print(
        f"largest difference: logits {(logits - logits_shared).abs().max():.1e}, gradients "
        f"{(gradients - gradients_shared).abs().max():.1e} (largest gradient "
        f"{gradients.abs().max():.1e})"
    )

    model.train()
    times: dict[int, list[float]] = {block: [] for block in options.blocks}
    distinct: dict[int, list[int]] = {block: [] for block in options.blocks}
    loaders = {
        block: WindowLoader(
            data=data,
            windows=windows,
            window_len=n,
            batch_size=size,
            block=block,
            num_negatives=config.loss.num_negatives,
        ).epoch(0)
        for block in options.blocks
    }
    for repeat in range(options.repeats + 1):
        for block, loader in loaders.items():
            start = time.perf_counter()
            pieces = next(loader)
            train_step(
                ModelObjective(config),
                model,
                optimizer,
                pieces,
                step=0,
                total_steps=1,
                accelerator=accelerator,
            )
            if repeat:
                times[block].append(time.perf_counter() - start)
                rows = pieces[0].distinct
                distinct[block].append(size * n if rows is None else len(rows))
    print(
        f"threads {torch.get_num_threads()}; training samples a second, relative to block "
        f"{options.blocks[0]} (best of {options.repeats}; median)"
    )
    base = times[options.blocks[0]]
    for block in options.blocks:
        print(
            f"block {block:4}: {min(base) / min(times[block]):6.2f} "
            f"{statistics.median(base) / statistics.median(times[block]):6.2f}   segments in "
            f"the Perceiver: {statistics.mean(distinct[block]):.0f}"
        )


if __name__ == "__main__":
    main()
