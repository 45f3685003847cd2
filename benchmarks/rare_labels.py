"""Rare labels: ranked, as they are, and with the settings for them (docs/training.md).

    python benchmarks/rare_labels.py [--seeds 4]

In a checkout: the made-up rooms are those of the tests. 2 % of the segments are positive, which one
number of their text tells. Prints the mean average precision over the seeds on held-out rooms.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from contentctr.config import override
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.metrics.average_precision import average_precision
from contentctr.train.loop import train_model

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from rare import write_rare
from training import TINY

WORDS = ["window_len=4", "batch_size=32", "epochs=5", "align_weight=0", "dropout=0"]
ROWS = {
    "ranked": ("rank", []),
    "as labels": ("none", []),
    "prior=0": ("none", ["prior=0"]),
    "prior=0 positive_weight=0": ("none", ["prior=0", "positive_weight=0"]),
    "prior=0 positive_weight=49": ("none", ["prior=0", "positive_weight=49"]),
}


def measure(folder: Path, seed: int, rate: float, scale: str, words: list[str]) -> float:
    """Average precision of one run."""
    data = write_rare(folder / "data", seed=seed, scale=scale)
    config = override(TINY, [*WORDS, f"learning_rate={rate}", f"seed={seed}", *words])
    train_model(config, data, folder / "run", show_progress=False)
    evaluate_model(folder / "run", data, folder / "out", show_progress=False)
    table = pl.read_parquet(folder / "out" / "predictions.parquet").filter("is_sample")
    goals = data.segments().select("room_id", "segment", "goal")
    table = table.join(goals, on=["room_id", "segment"], maintain_order="left")
    return average_precision(table["goal"] > 0, table["score"])


def main() -> None:
    """Print a row a way to take the label."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4)
    seeds = parser.parse_args().seeds
    for name, (scale, words) in ROWS.items():
        for rate in (3e-4, 1e-3, 3e-3):
            found = []
            for seed in range(seeds):
                with tempfile.TemporaryDirectory() as folder:
                    found.append(measure(Path(folder), seed, rate, scale, words))
            shown = " ".join(f"{x:.3f}" for x in found)
            print(f"{name:28} rate {rate:g}: {np.mean(found):.3f}  ({shown})", flush=True)


if __name__ == "__main__":
    main()
