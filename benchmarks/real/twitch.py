"""How busy a streamer's chat will be in the next 30 s, told from real broadcasts.

    python benchmarks/real/twitch.py FOLDER -o OUT [--test 0.26] [--choose]

FOLDER holds room folders with a chat each. The target is the rate of comments; a segment's score
knows what came up to the segment before. The latest rooms (--test) are kept out; --choose does not
look at them and cross-validates among the others, for choosing settings. Measured is Kendall's tau
inside each room, over all its segments but the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import polars as pl

from common import KEYS, Fold, Row, Study, by_room, by_time, parser
from contentctr.store.rooms import PreparedRooms
from tables import over_rooms, tau_in_rooms

FOLDS = 4
ROWS = (Row("all of the recipe"),)


def measured(study: Study, data: PreparedRooms, folds: Sequence[Fold], rows: Sequence[Row]) -> None:
    """Print each row's tau, and how far it is from the best floor."""
    floors = study.floors(data, folds).filter(pl.col("segment") > 0)
    for row in rows:
        found = study.scores(data, folds, row).filter(pl.col("segment") > 0)
        table = found.join(floors, on=KEYS, how="left", maintain_order="left")
        names = [name for name in floors.columns if name not in KEYS]
        taus = {name: tau_in_rooms(table, name) for name in ("score", "seed_0", *names)}
        best = max(names, key=lambda name: np.nanmean(taus[name]))
        print(row.name, {name: str(over_rooms(tau_G)) for name, tau_G in taus.items()}, flush=True)
        print("over", best, over_rooms(taus["score"] - taus[best]).signed, flush=True)


def main() -> None:
    """Run the study."""
    arguments = parser(__doc__)
    arguments.add_argument("--test", type=float, default=0.26, help="share that is kept out (0.26)")
    arguments.add_argument("--choose", action="store_true", help="cross-validate among the others")
    arguments.add_argument("--set", nargs="*", default=[], help="further settings of the row")
    given: argparse.Namespace = arguments.parse_args()
    study = Study.of(given)
    data = study.prepare("rate", target="comment_rate", target_scale="odds")
    folds = by_time(data, test=given.test)
    if given.choose:
        folds = by_room(data, FOLDS, among=folds[0].train)
    rows = [Row(" ".join(given.set), tuple(given.set))] if given.set else ROWS
    measured(study, data, folds, rows)


if __name__ == "__main__":
    main()
