"""Simulated watch logs: which user was shown which streamer when, and who clicked.

The streamers are those of the simulated rooms of the same settings: same ids, types, levels and
fame. Users love one type of streamers, some love two, some change their mind. docs/simulator.md
lists every assumption. No number from these logs says anything of real users.

Shape suffixes: I impressions of a user, U streamers, K types.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.errors import require
from contentctr.files import atomic, remove_leftovers, write_json
from contentctr.outputs import require_new
from contentctr.progress import progress_bar
from contentctr.simulate.mechanism import (
    FIRST_START,
    STREAMS,
    SimulatorConfig,
    draw_streamer,
)
from contentctr.simulate.tables import TYPES

_require = partial(require, of="watch-log setting")

LOGS_FILE = "watch_logs.parquet"
STREAMERS_FILE = "streamers.parquet"
TRUTH_FILE = "truth.parquet"
LABEL_FILE = "simulated.json"
CATEGORIES = ("stage", "music", "talk", "shop", "play", "outdoor", "food", "new")
"""What the platform files streamers under; not their types."""
USUAL = ((0, 1), (1, 0), (2, 6), (3, 6), (4, 0))
"""The two categories that a type of streamers is usually filed under, rows of CATEGORIES."""
_USER, _CATEGORY = 1000, 1001
"""Keys of random streams, far beyond those of the rooms, which therefore stay as they are."""
assert len(STREAMS) < _USER

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """What is drawn; user i does not depend on `num_users`."""

    num_streamers: int = 200
    """Streamers, types in turn."""
    num_types: int = 5
    """Types of streamers, the first so many of TYPES."""
    num_users: int = 2000
    """Users."""
    impressions: float = 150.0
    """Median over users of what a user is shown; log-normal."""
    impressions_spread: float = 0.7
    """Standard deviation, over users, of the log of it."""
    days: int = 28
    """Days over which a user's impressions are spread evenly."""
    base_logit: float = -2.2
    """Log-odds of a click before everything else, as in the rooms."""
    affinity: float = 2.0
    """Log-odds that a loved type adds; every other type takes a quarter of it away."""
    mixed_users: float = 0.3
    """Share of users who love two types, each by 0.8 of `affinity`."""
    changing_users: float = 0.2
    """Share of users who at some moment, evenly at random, come to love other types."""
    noise_sd: float = 0.5
    """Standard deviation of an impression's own noise, log-odds."""
    misfiled: float = 0.4
    """Probability that a streamer's category is any of CATEGORIES, evenly at random."""
    seed: int = 0
    """Of everything; as in the rooms whose streamers these are."""

    def __post_init__(self) -> None:
        for name in ("num_streamers", "num_users", "days", "impressions"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(1 <= self.num_types <= len(TYPES), "num_types", "1 to 5", self.num_types)
        for name in ("impressions_spread", "noise_sd", "seed"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in ("mixed_users", "changing_users", "misfiled"):
            _require(0 <= getattr(self, name) <= 1, name, "in [0, 1]", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class _Cast:
    """All streamers, as arrays."""

    kind_U: Ints
    level_U: Floats
    share_U: Floats
    """Share of the impressions that a streamer gets."""


def write_watch_logs(config: WatchConfig, out: Path, *, show_progress: bool = True) -> Path:
    """Draw watch logs and write them as a folder, whole or not at all.

    OUT/watch_logs.parquet  user_id, streamer_id, t (Unix seconds), clicked
    OUT/streamers.parquet   streamer_id, category
    OUT/truth.parquet       streamer_id, type: for judging a table, never for making it
    OUT/simulated.json      the label, and the settings

    Args:
        config: what to draw.
        out: a new or empty folder.
        show_progress: show a bar on a terminal.

    Returns:
        `out`.

    Raises:
        InputError: `out` holds anything.
    """
    require_new(out, "simulated watch logs")
    remove_leftovers(out)
    ids, cast = _cast(config)
    parts = []
    with progress_bar("Simulating users", config.num_users, show=show_progress) as bar:
        for user in range(config.num_users):
            parts.append(_draw_user(config, cast, user))
            bar.advance()
    streamer_I, t_I, clicked_I = (np.concatenate(column) for column in zip(*parts, strict=True))
    logs = pl.DataFrame(
        {
            "user_id": [f"user{user:06d}" for user, part in enumerate(parts) for _ in part[0]],
            "streamer_id": pl.Series(ids).gather(streamer_I),
            "t": t_I,
            "clicked": clicked_I.astype(np.int8),
        }
    ).sort("t", "user_id", maintain_order=True)
    types = pl.DataFrame({"streamer_id": ids, "type": [TYPES[k] for k in cast.kind_U]})
    with atomic(out) as temporary:
        temporary.mkdir()
        logs.write_parquet(temporary / LOGS_FILE)
        categories = [CATEGORIES[c] for c in draw_categories(config, cast.kind_U)]
        pl.DataFrame({"streamer_id": ids, "category": categories}).write_parquet(
            temporary / STREAMERS_FILE
        )
        types.write_parquet(temporary / TRUTH_FILE)
        settings = {"config": dataclasses.asdict(config)}
        write_json(temporary / LABEL_FILE, {"simulated": True, "kind": "watch logs", **settings})
    return out


def draw_categories(config: WatchConfig, kind_U: Ints) -> Ints:
    """The category [U] each streamer is filed under: telling of the type, but only partly."""
    rng = _stream(config, _CATEGORY, 0)
    usual_U = np.array(USUAL)[kind_U, rng.integers(2, size=len(kind_U))]
    any_U = rng.integers(len(CATEGORIES), size=len(kind_U))
    return np.where(rng.random(len(kind_U)) < config.misfiled, any_U, usual_U)


def _cast(config: WatchConfig) -> tuple[list[str], _Cast]:
    rooms = SimulatorConfig(
        num_streamers=config.num_streamers, num_types=config.num_types, seed=config.seed
    )
    streamers = [draw_streamer(rooms, index) for index in range(config.num_streamers)]
    fame_U = np.exp([s.log_fame for s in streamers])
    return [s.streamer_id for s in streamers], _Cast(
        kind_U=np.array([s.kind for s in streamers]),
        level_U=np.array([s.level for s in streamers]),
        share_U=fame_U / fame_U.sum(),
    )


def _draw_user(config: WatchConfig, cast: _Cast, user: int) -> tuple[Ints, Ints, Bools]:
    """Streamer, time in Unix seconds, and whether the user clicked [I] each, by rising time."""
    rng = _stream(config, _USER, user)
    log_count = np.log(config.impressions) + config.impressions_spread * rng.standard_normal()
    count = max(1, round(float(np.exp(log_count))))
    seconds_I = np.sort(rng.integers(config.days * 86_400, size=count))
    streamer_I = rng.choice(len(cast.share_U), count, p=cast.share_U)
    mixed, changing = rng.random(2) < (config.mixed_users, config.changing_users)
    before_K, after_K = (_affinity(config, bool(mixed), rng) for _ in range(2))
    change_at = rng.integers(config.days * 86_400) if changing else config.days * 86_400
    kind_I = cast.kind_U[streamer_I]
    affinity_I = np.where(seconds_I < change_at, before_K[kind_I], after_K[kind_I])
    noise_I = config.noise_sd * rng.standard_normal(count)
    logit_I = config.base_logit + cast.level_U[streamer_I] + affinity_I + noise_I
    clicked_I = rng.random(count) < 1 / (1 + np.exp(-logit_I))
    return streamer_I, int(FIRST_START.timestamp()) + seconds_I, clicked_I


def _affinity(config: WatchConfig, mixed: bool, rng: np.random.Generator) -> Floats:
    """What each type [K] adds for a user with these loves, log-odds."""
    loved = rng.permutation(config.num_types)[: 2 if mixed else 1]
    affinity_K = np.full(config.num_types, -0.25 * config.affinity)
    affinity_K[loved] = config.affinity * (0.8 if mixed else 1.0)
    return affinity_K


def _stream(config: WatchConfig, key: int, index: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(key, index)))
