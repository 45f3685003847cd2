"""The paper's recipe on stored features: training steps against this machine's matmul rate.

    python benchmarks/train_step.py [--repeats 5]

Prints a table with ratios. The matmul rate is measured in the same run, interleaved with the
steps, on the model's own shapes (960 segments by 512 by 2048). Steps are timed with and without
L_align; the share of L_align is the difference, and beside it its own time, forward and backward.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from contentctr.batch import Batch, DataSpec, Output, Vocabulary
from contentctr.config import Config
from contentctr.models.losses import align_sum
from contentctr.models.registry import build_model
from contentctr.recipes import paper
from contentctr.train.loop import train_step
from contentctr.train.models import ModelObjective, make_optimizer
from contentctr.windows.loader import shuffles


def make_batch(config: Config, spec: DataSpec) -> Batch:
    """Random features and targets in the paper's sizes."""
    b, n = config.train.batch_size, config.data.window_len
    generator = torch.Generator().manual_seed(0)
    there = torch.ones(b, n, dtype=torch.bool)
    number = np.arange(b)
    orders = shuffles(number, np.full(b, n), n, config.loss.num_negatives, 0, 0)
    return Batch(
        visual_BNV=torch.randn(b, n, spec.visual_dim, generator=generator),
        text_BNT=torch.randn(b, n, spec.text_dim, generator=generator),
        has_visual_BN=there,
        has_speech_BN=there,
        has_comments_BN=there,
        streamer_B=torch.zeros(b, dtype=torch.long),
        valid_BN=there,
        target_BN=torch.rand(b, n, generator=generator),
        window_B=torch.arange(b),
        shuffles_BKN=torch.from_numpy(orders),
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def matmul_work() -> tuple[Callable[[], object], float]:
    """A matrix product of the feed-forward's shape, and its floating-point operations."""
    a, b = torch.randn(960, 512), torch.randn(512, 2048)
    out = torch.empty(960, 2048)
    count = 40
    return lambda: [torch.mm(a, b, out=out) for _ in range(count)], count * 2.0 * 960 * 512 * 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    config, spec = paper(), DataSpec(visual_dim=1024, text_dim=1024)
    batch = make_batch(config, spec)
    torch.manual_seed(0)
    model = build_model(config, spec, Vocabulary(streamers=[str(i) for i in range(1000)]))
    accelerator = Accelerator(cpu=True)
    optimizer = make_optimizer(model, config.train)
    with FlopCounterMode(display=False) as counter:
        model(batch)
    flops = 3.0 * counter.get_total_flops()
    without = dataclasses.replace(config, loss=dataclasses.replace(config.loss, align_weight=0.0))

    def step(settings: Config) -> Callable[[], object]:
        return lambda: train_step(
            ModelObjective(settings),
            model,
            optimizer,
            [batch],
            step=0,
            total_steps=1,
            accelerator=accelerator,
        )

    shape = (*batch.valid_BN.shape, config.model.d_model)
    tokens = [torch.randn(shape, requires_grad=True) for _ in range(2)]

    def align() -> None:
        output = Output(logits_BN=torch.zeros(shape[:2]), visual_BND=tokens[0], text_BND=tokens[1])
        align_sum(output, batch).backward()

    multiply, multiply_flops = matmul_work()
    works = {
        "matmul": multiply,
        "step": step(config),
        "step without L_align": step(without),
        "L_align alone, forward and backward": align,
    }
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(timed(work))
    best = {name: min(values) for name, values in times.items()}
    middle = {name: statistics.median(values) for name, values in times.items()}
    rate = multiply_flops / best["matmul"]
    print(
        f"threads {torch.get_num_threads()}, batch {config.train.batch_size} windows, "
        f"{flops / 1e9:.1f} GFLOP a step (forward and backward)"
    )
    print(f"{'':38} {'best s':>9} {'median s':>9} {'ratio':>7}")
    print(
        f"{'matmul, for the flops of a step':38} {flops / rate:9.3f} "
        f"{flops / multiply_flops * middle['matmul']:9.3f} {1:7.2f}"
    )
    for name in list(works)[1:]:
        share = flops / rate / best[name]
        print(
            f"{name:38} {best[name]:9.3f} {middle[name]:9.3f} "
            + (f"{share:7.2f}" if name.startswith("step") else "")
        )
    print(
        f"rate of a training step / matmul rate: {flops / best['step'] / rate:.2f} (at least 0.75)"
    )
    alone = best["L_align alone, forward and backward"] / best["step"]
    pairs = zip(times["step"], times["step without L_align"], strict=True)
    difference = statistics.median(1 - b / a for a, b in pairs)
    print(f"share of L_align: {alone:.1%} alone, {difference:.1%} by difference (at most 5 %)")


if __name__ == "__main__":
    main()
