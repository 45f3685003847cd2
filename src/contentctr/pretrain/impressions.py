"""Impressions of watch logs to train on and those held out, and the batches of an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.pretrain.masked import generator
from contentctr.pretrain.sim import SimSettings
from contentctr.pretrain.watch_logs import (
    History,
    WatchLogs,
    index_history,
    read_pairs,
    read_watch_logs,
)

ORDER, HIDDEN, STEP = range(3)
"""What random numbers are for; part of their seed."""
SORTED_BATCHES = 32
"""Impressions of so many batches are put in order of their histories' lengths: less padding."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Impressions:
    """Impressions, and which of them are trained on: all from before the first one held out."""

    logs: WatchLogs
    history: History
    streamers: list[str]
    """Of the training impressions, sorted; others are unknown."""
    categories: list[str]
    """Of known streamers, sorted."""
    cutoff: float
    """Unix seconds; impressions from here on are held out. Infinite where none are."""

    @property
    def train_rows(self) -> Ints:
        """Impressions before the cutoff."""
        return np.flatnonzero(self.history.t_I < self.cutoff)

    @property
    def held_out_rows(self) -> Ints:
        """Impressions from the cutoff on."""
        return np.flatnonzero(self.history.t_I >= self.cutoff)

    def counts(self) -> dict[str, Any]:
        """What a report says of them."""
        length_I = self.history.stop_I - self.history.start_I
        held_out = self.held_out_rows
        return {
            "users": self.logs.table["user_id"].n_unique(),
            "streamers": len(self.streamers),
            "impressions": len(length_I),
            "clicks": len(self.history.click_C),
            "duplicates": self.logs.duplicates,
            "held_out_impressions": len(held_out),
            "held_out_clicks": int(self.history.clicked_I[held_out].sum()),
            "held_out_of_unknown_streamers": int((self.history.streamer_I[held_out] == 0).sum()),
            "without_history": int((length_I == 0).sum()),
            "longest_history": int(length_I.max()),
        }


def load_impressions(
    logs: Path, settings: SimSettings, categories: Path | None = None
) -> Impressions:
    """Read the logs, split them by time, and index every impression's history.

    Raises:
        InputError: a file is wrong; the training impressions lack clicks or anything else; or
            the hard search has no categories.
    """
    if settings.search == "hard" and categories is None:
        raise InputError("search=hard needs a table of categories (streamer_id, category)")
    found = read_watch_logs(logs)
    category_of = {} if categories is None else read_pairs(categories, "category")
    cutoff = math.inf
    if settings.held_out:
        times = found.table["t"].to_numpy()
        cutoff = float(np.quantile(times, 1 - settings.held_out, method="higher"))
    train = found.table.filter(found.table["t"] < cutoff)
    clicks = int(train["clicked"].sum())
    if not 0 < clicks < train.height:
        raise InputError(
            f"{logs}: training impressions must be clicked in part; {clicks} of {train.height} "
            f"are, before the latest {settings.held_out:.0%}, which are held out"
        )
    streamers = sorted(train["streamer_id"].unique().to_list())
    if categories is not None and not category_of.keys() & set(streamers):
        raise InputError(f"{categories}: must have a category for some streamer of {logs}")
    names = sorted({category_of[name] for name in streamers if name in category_of})
    row_of = {name: row for row, name in enumerate(names, 1)}
    category_U = np.array([0] + [row_of.get(category_of.get(name, ""), 0) for name in streamers])
    return Impressions(
        logs=found,
        history=index_history(found, streamers, category_U),
        streamers=streamers,
        categories=names,
        cutoff=cutoff,
    )


def epoch_batches(data: Impressions, settings: SimSettings, epoch: int) -> list[Ints]:
    """The training impressions of each step of an epoch; histories in a batch are alike in length.

    A function of seed and epoch alone.
    """
    rng = generator(settings.seed, ORDER, epoch)
    rows, size = rng.permutation(data.train_rows), settings.batch_size
    length_I = data.history.stop_I - data.history.start_I
    batches = []
    for first in range(0, len(rows), SORTED_BATCHES * size):
        part = rows[first : first + SORTED_BATCHES * size]
        part = part[np.argsort(length_I[part], kind="stable")]
        batches += [part[at : at + size] for at in range(0, len(part), size)]
    return [batches[number] for number in rng.permutation(len(batches))]
