"""Live scoring against full windows, with the paper's recipe on stored features, on one thread.

    OMP_NUM_THREADS=1 python -u benchmarks/live.py [--repeats 5] [--rooms 3000] [--ticks 5]
                                                   [--batch-size 64] [--members 3]

Time of a new segment of each of 256 rooms whose windows are full: RoomScorer's, its checks and
bookkeeping among it, against the model's forward pass on their 256 windows, interleaved in one
run; with the paper's decoder and with one that looks back 7, 7 and 8 segments. Then the time until
all of 3,000 rooms' new segments, which came at the same moment, are scored. With --members only
what an ensemble of so many costs against one model, of the paper's sizes and of the recipe `small`.
Prints tables with ratios; times are of this machine, and the encoders' work is not in them.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from contentctr.batch import Batch, DataSpec, Vocabulary
from contentctr.config import Config, override
from contentctr.live.scorer import RoomScorer
from contentctr.live.scorer_segments import LiveSegment
from contentctr.models.registry import build_model
from contentctr.recipes import paper, recipe

SPEC = DataSpec(visual_dim=1024, text_dim=1024)
KNOWN = Vocabulary(streamers=[f"streamer{i}" for i in range(1000)])
BATCH, SEGMENT_SECONDS = 256, 30.0
LOOKBACKS = {"paper's decoder": "", "look-back 7, 7, 8": "7,7,8"}
TARGETS = {"paper's decoder": 1 / 2, "look-back 7, 7, 8": 1 / 10}


def make_config(lookback: str) -> Config:
    config = paper()
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, decoder_lookback=lookback)
    )


def make_segments(rooms: int, index: int) -> list[LiveSegment]:
    """The segment number `index` of every room, with random features."""
    rng = np.random.default_rng(index)
    features = rng.standard_normal((2, rooms, SPEC.visual_dim), np.float32)
    return [
        LiveSegment(
            room_id=f"room{k}",
            streamer_id=KNOWN.streamers[k % 1000],
            index=index,
            visual=features[0, k],
            text=features[1, k],
            has_speech=True,
            has_comments=True,
        )
        for k in range(rooms)
    ]


def windows(moments: list[list[LiveSegment]]) -> Batch:
    """The windows of the rooms' last segments."""
    n, b = len(moments), len(moments[0])

    def stacked(name: str) -> torch.Tensor:
        rows = [np.stack([getattr(segment, name) for segment in moment]) for moment in moments]
        return torch.from_numpy(np.stack(rows, 1))

    there = torch.ones(b, n, dtype=torch.bool)
    return Batch(
        visual_BNV=stacked("visual"),
        text_BNT=stacked("text"),
        has_visual_BN=there,
        has_speech_BN=there,
        has_comments_BN=there,
        valid_BN=there,
        streamer_B=torch.tensor([1 + k % 1000 for k in range(b)]),
        target_BN=torch.full((b, n), torch.nan),
        window_B=torch.arange(b),
    )


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make_scorer(lookback: str, rooms: int, batch_size: int) -> RoomScorer:
    return scorer_of(make_config(lookback), rooms, batch_size)


def scorer_of(config: Config, rooms: int, batch_size: int) -> RoomScorer:
    torch.manual_seed(0)
    return RoomScorer(
        build_model(config, SPEC, KNOWN),
        config,
        SPEC,
        KNOWN,
        max_rooms=rooms,
        batch_size=batch_size,
    )


@torch.inference_mode()
def compare(repeats: int, batch_size: int) -> dict[str, float]:
    """Print live against full windows; seconds a new segment takes, by decoder."""
    n = paper().data.window_len
    moments = [make_segments(BATCH, index) for index in range(n)]
    scorers = {
        name: make_scorer(lookback, BATCH, batch_size) for name, lookback in LOOKBACKS.items()
    }
    for scorer in scorers.values():
        for moment in moments:
            scorer.score(moment)
    ratios: dict[str, list[float]] = {name: [] for name in scorers}
    least = dict.fromkeys(scorers, float("inf"))
    worst = dict.fromkeys(scorers, 0.0)
    for repeat in range(repeats):
        moments = [*moments[1:], make_segments(BATCH, n + repeat)]
        batch = windows(moments)
        for name, scorer in scorers.items():
            model = scorer._model
            live, full = [], []
            full_s = timed(lambda: full.append(model(batch).scores_BN[:, -1]))  # noqa: B023
            live_s = timed(lambda: live.extend(scorer.score(moments[-1])))  # noqa: B023
            found = torch.tensor([result.score for result in live])
            worst[name] = max(worst[name], float((found - full[0]).abs().max()))
            ratios[name].append(live_s / full_s)
            least[name] = min(least[name], live_s)
    print(f"New segments of {BATCH} rooms, {repeats} repeats, {batch_size} rooms at once:")
    print(
        f"{'decoder':20} {'live/full':>10} {'least':>7} {'target':>7} {'max diff':>9} "
        f"{'rooms a core':>13}"
    )
    for name, ratio in ratios.items():
        rooms = SEGMENT_SECONDS / (least[name] / BATCH)
        print(
            f"{name:20} {statistics.median(ratio):10.3f} {min(ratio):7.3f} "
            f"{TARGETS[name]:7.2f} {worst[name]:9.1e} {rooms:13,.0f}"
        )
        assert worst[name] <= 1e-6
    return {name: value / BATCH for name, value in least.items()}


def many(rooms: int, ticks: int, batch_size: int, least: dict[str, float]) -> None:
    """Print the time until all rooms' new segments are scored."""
    print(f"\nNew segments of {rooms:,} rooms at once, {ticks} times:")
    print(
        f"{'decoder':20} {'p50 s':>7} {'p99 s':>7} {'p50 / (rooms x least)':>22} "
        f"{'MB of state':>12} {'kB to save one':>15}"
    )
    for name, lookback in LOOKBACKS.items():
        scorer = make_scorer(lookback, rooms, batch_size)
        n = scorer.window_len
        scorer.score(make_segments(rooms, 0))
        scorer.score(make_segments(rooms, n - 1))  # a gap fills the windows at once
        segments = [make_segments(rooms, n + tick) for tick in range(ticks)]
        taken = [timed(lambda: scorer.score(moment)) for moment in segments]  # noqa: B023
        p50, p99 = np.percentile(taken, (50, 99))
        size = sum(ring.entries.nbytes for ring in scorer._rings.values())
        print(
            f"{name:20} {p50:7.2f} {p99:7.2f} {p50 / (rooms * least[name]):22.2f} "
            f"{size / 1e6:12,.0f} {len(scorer.save(['room0'])) / 1e3:15,.0f}"
        )


def members(number: int, repeats: int, batch_size: int) -> None:
    """Print what an ensemble costs: time of a new segment, and state, against one model's."""
    print(f"{number} members against one, new segments of {BATCH} rooms, {repeats} repeats:")
    print(f"{'recipe':10} {'time':>6} {'lowest':>7} {'highest':>8} {'state':>6} {'kB a room':>10}")
    for name in ("paper", "small"):
        scorers = [
            scorer_of(override(recipe(name), [f"members={count}"]), BATCH, batch_size)
            for count in (1, number)
        ]
        n = scorers[0].window_len
        for scorer in scorers:
            for index in range(n):
                scorer.score(make_segments(BATCH, index))
        ratios = []
        for repeat in range(repeats):
            moment = make_segments(BATCH, n + repeat)
            one, many = (timed(lambda: scorer.score(moment)) for scorer in scorers)  # noqa: B023
            ratios.append(many / one)
        small, large = (len(scorer.save(["room0"])) / 1e3 for scorer in scorers)
        print(
            f"{name:10} {statistics.median(ratios):6.2f} {min(ratios):7.2f} {max(ratios):8.2f} "
            f"{large / small:6.2f} {large:10,.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rooms", type=int, default=3000)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--members", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.members:
        members(options.members, options.repeats, options.batch_size)
        return
    least = compare(options.repeats, options.batch_size)
    if options.rooms:
        many(options.rooms, options.ticks, options.batch_size, least)


if __name__ == "__main__":
    main()
