"""The ID baselines against DeepCTR-Torch 0.3.0: rows a second of training, on one thread.

    pip install "contentctr[parity]"
    python benchmarks/baselines.py [--repeats 7] [--counts dense|buckets]

Both take the same fields of the same made-up rows, in networks of the same sizes: streamer, room,
hour and position as ids, and 8 counts, as dense values beside their missing indicators or as ids
of buckets. Some 4,096 rows a step, no regularisation, no metrics. In one run, interleaved:

- peer fit: one epoch of DeepCTR-Torch's `fit`;
- peer step: the steps of such an epoch on batches at hand (forward, loss, backward, Adam);
- our step: the same of this project's model, from a Batch at hand;
- our loop: an epoch of WindowLoader and `train_step`, which gathers the windows, hides ids,
  checks that losses are finite, and returns them.

Prints rows a second (the best repeat), and the median over the repeats of the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import statistics
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from contentctr.batch import Batch, DataSpec, Vocabulary
from contentctr.config import Config, IdConfig, LossConfig, TrainConfig
from contentctr.models.id_baselines import DCNM, DIFM, DeepFM, IdBaseline, WideDeep
from contentctr.models.id_fields import NUM_COUNTS, dense_values, sparse_ids
from contentctr.train.loop import train_step
from contentctr.train.models import ModelObjective, make_optimizer
from contentctr.windows.rooms import WindowLoader, Windows
from contentctr.windows.segment_data import SegmentData

STREAMERS, ROOMS, WINDOW_LEN, WINDOWS_A_ROOM, BATCH = 1_000, 1_020, 20, 2, 204
VOCABULARY = Vocabulary(
    streamers=[f"streamer{i}" for i in range(STREAMERS)], rooms=[f"room{i}" for i in range(ROOMS)]
)
EMBEDDING, HIDDEN, HEADS, RANK, EXPERTS = 8, 128, 4, 32, 4
MIXTURE = {"cross_num": 2, "low_rank": RANK, "num_experts": EXPERTS, "l2_reg_cross": 0.0}
PAIRS: dict[str, tuple[type[IdBaseline], str, dict[str, Any]]] = {
    "Wide&Deep": (WideDeep, "WDL", {}),
    "DeepFM": (DeepFM, "DeepFM", {}),
    "DIFM": (DIFM, "DIFM", {"att_head_num": HEADS}),
    "DCN-M": (DCNM, "DCNMix", MIXTURE),
}
Work = Callable[[], object]


def make_config(counts: Any) -> Config:
    """Sizes that both packages can have, and the log loss alone."""
    ids = IdConfig(
        embedding_dim=EMBEDDING,
        hidden_dim=HIDDEN,
        hidden_layers=2,
        counts=counts,
        rank=RANK,
        attention_heads=HEADS,
        attention_dim=EMBEDDING // HEADS,
        num_experts=EXPERTS,
    )
    loss = LossConfig(point_weight=1.0, align_weight=0.0, pair_weight=0.0)
    return Config(ids=ids, loss=loss, train=TrainConfig(batch_size=BATCH, learning_rate=1e-3))


def make_data() -> SegmentData:
    """Made-up segments without content: rooms of 40, counts of about 20, some missing."""
    rng = np.random.default_rng(0)
    length = WINDOW_LEN * WINDOWS_A_ROOM
    rows = ROOMS * length
    counts_SA = rng.poisson(rng.gamma(1.0, 20.0, (rows, NUM_COUNTS))).astype(np.float32)
    counts_SA[::length] = np.nan
    room_S, position_S = np.divmod(np.arange(rows), length)
    none = torch.zeros(rows, dtype=torch.bool)
    return SegmentData(
        visual_SV=torch.zeros(rows, 0, dtype=torch.float16),
        text_ST=torch.zeros(rows, 0, dtype=torch.float16),
        has_visual_S=none,
        has_speech_S=none,
        has_comments_S=none,
        streamer_S=torch.from_numpy(rng.integers(0, STREAMERS + 1, ROOMS)[room_S]),
        known_room_S=torch.from_numpy(room_S + 1),
        hour_S=torch.from_numpy(rng.integers(1, 25, rows)),
        next_position_S=torch.from_numpy(position_S),
        counts_SA=torch.from_numpy(counts_SA),
        target_S=torch.from_numpy(rng.random(rows, dtype=np.float32)),
        viewers_S=torch.full((rows,), 100.0),
        room_S=room_S,
        table=pl.DataFrame(),
    )


def make_loader(data: SegmentData, config: Config) -> WindowLoader:
    """Windows beside each other, so that every row is trained on once an epoch."""
    first_W = np.arange(0, len(data), WINDOW_LEN)
    return WindowLoader(
        data=data,
        windows=Windows(first_W, np.full(len(first_W), WINDOW_LEN)),
        window_len=WINDOW_LEN,
        batch_size=config.train.batch_size,
        hide_streamers=config.train.hide_streamers,
        hide_rooms=config.train.hide_rooms,
    )


def our_works(made: type[IdBaseline], config: Config, loader: WindowLoader) -> dict[str, Work]:
    """An epoch of bare steps, and of the loop."""
    torch.manual_seed(0)
    model, accelerator = made(config, DataSpec(), VOCABULARY), Accelerator(cpu=True)
    optimizer = make_optimizer(model, config.train)
    batches = [pieces[0] for pieces in loader.epoch(0)]

    def steps() -> None:
        for batch in batches:
            optimizer.zero_grad()
            logits_BN = model(batch).logits_BN
            F.binary_cross_entropy_with_logits(logits_BN, batch.target_BN).backward()
            optimizer.step()

    def loop() -> None:
        for step, pieces in enumerate(loader.epoch(0)):
            train_step(
                ModelObjective(config),
                model,
                optimizer,
                pieces,
                step=step,
                total_steps=loader.steps,
                accelerator=accelerator,
            )

    return {"our step": steps, "our loop": loop}


def import_peer() -> Any:
    """DeepCTR-Torch, without its look for a newer version: importing it asks a server."""
    quiet = types.ModuleType("deepctr_torch.utils")
    quiet.check_version = lambda version: None  # type: ignore[attr-defined]
    sys.modules.setdefault("deepctr_torch.utils", quiet)
    try:
        import deepctr_torch
    except ImportError as error:
        raise SystemExit(f"{error}: pip install 'contentctr[parity]'") from error
    return deepctr_torch


def peer_works(
    peer: Any, name: str, options: dict[str, Any], config: Config, batches: list[Batch]
) -> dict[str, Work]:
    """An epoch of `fit` on the same rows, and of its bare steps."""
    ids = [sparse_ids(batch, config.ids) for batch in batches]
    dense = [dense_values(batch, config.ids) for batch in batches]
    targets = [batch.target_BN.flatten() for batch in batches]
    inputs = [torch.cat((i.float(), d), dim=1) for i, d in zip(ids, dense, strict=True)]
    sizes = made_sizes(config)
    columns = [peer.inputs.SparseFeat(f"s{i}", n, EMBEDDING) for i, n in enumerate(sizes)]
    if config.ids.counts == "dense":
        columns += [peer.inputs.DenseFeat(f"d{i}", 1) for i in range(NUM_COUNTS)]
        columns.append(peer.inputs.DenseFeat("missing", NUM_COUNTS))
    model = getattr(peer.models, name)(
        columns,
        columns,
        dnn_hidden_units=(HIDDEN, HIDDEN),
        l2_reg_linear=0.0,
        l2_reg_embedding=0.0,
        **options,
    )
    model.compile("adam", "binary_crossentropy")
    all_inputs, all_targets = torch.cat(inputs).numpy(), torch.cat(targets).numpy()
    bounds = [(at, at + 1) for at in range(len(sizes))]
    if config.ids.counts == "dense":
        first = len(sizes)
        bounds += [(first + i, first + i + 1) for i in range(NUM_COUNTS)]
        bounds.append((first + NUM_COUNTS, first + 2 * NUM_COUNTS))

    def fit() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            arrays = [all_inputs[:, start:end] for start, end in bounds]
            model.fit(arrays, all_targets, batch_size=len(targets[0]), epochs=1, verbose=0)

    def steps() -> None:
        model.train()
        for x, y in zip(inputs, targets, strict=True):
            scores = model(x).squeeze(-1)
            model.optim.zero_grad()
            F.binary_cross_entropy(scores, y, reduction="sum").backward()
            model.optim.step()

    return {"peer fit": fit, "peer step": steps}


def made_sizes(config: Config) -> tuple[int, ...]:
    """Ids of each sparse field."""
    return WideDeep(config, DataSpec(), VOCABULARY).fields.sizes


def measure(works: dict[str, Work], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work, interleaved, after one round that is not counted."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--counts", choices=["dense", "buckets"], default="dense")
    args = parser.parse_args()
    torch.set_num_threads(1)
    peer = import_peer()
    config, data = make_config(args.counts), make_data()
    loader = make_loader(data, config)
    # The peer's batches show every id: it has no loader that hides some.
    shown = dataclasses.replace(loader, hide_streamers=0.0, hide_rooms=0.0)
    batches = [pieces[0] for pieces in shown.epoch(0)]
    print(
        f"1 thread, {len(data):,} made-up rows, {BATCH * WINDOW_LEN:,} a step, "
        f"{len(made_sizes(config))} sparse fields, counts {args.counts}"
    )
    names = ("peer fit", "peer step", "our step", "our loop")
    ratios = ("step/step", "loop/step", "loop/fit")
    print(f"{'rows a second':14}" + "".join(f"{name:>11}" for name in (*names, *ratios)))
    for title, (made, name, options) in PAIRS.items():
        works = {
            **peer_works(peer, name, options, config, batches),
            **our_works(made, config, loader),
        }
        times = measure(works, args.repeats)
        rates = [len(data) / min(times[work]) for work in names]
        found = [
            statistics.median(a / b for a, b in zip(times[theirs], times[ours], strict=True))
            for theirs, ours in (
                ("peer step", "our step"),
                ("peer step", "our loop"),
                ("peer fit", "our loop"),
            )
        ]
        print(
            f"{title:14}"
            + "".join(f"{rate:11,.0f}" for rate in rates)
            + "".join(f"{ratio:11.2f}" for ratio in found)
        )
    print("wanted: loop/step at least 1, loop/fit at least 2")


if __name__ == "__main__":
    main()
