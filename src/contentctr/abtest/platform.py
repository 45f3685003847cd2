"""The simulated platform of a replay: rooms with truth, our scores of them, when they are on air.

Shape suffixes: S segments of all rooms in a row, P rooms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.batch import IN_ROOM_SCALES
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.score.evaluation import read_evaluation
from contentctr.store.rooms import SPLITS, PreparedRooms

MIN_SLOTS = 20
"""Segments that a day of the test must last at least."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Where our scores come from: exactly one of the two."""

    evaluation: Path | None = None
    """Folder that `contentctr evaluate` wrote: a trained model's predictions."""
    stand_in_noise: float | None = None
    """In place of a model: the true click probability, with normal noise of this standard
    deviation on its log-odds."""

    def __post_init__(self) -> None:
        if (self.evaluation is None) == (self.stand_in_noise is None):
            raise InputError(
                "say where scores come from: an evaluation (--scores) or a stand-in "
                f"(--stand-in), not {'neither' if self.evaluation is None else 'both'}"
            )
        noise = self.stand_in_noise
        if noise is not None and not (math.isfinite(noise) and noise >= 0):
            raise InputError(f"the stand-in's noise must be at least 0, not {noise!r}")


@dataclass(frozen=True, kw_only=True)
class Platform:
    """Rooms in the order of their ids, and their segments in a row."""

    room_ids: list[str]
    streamer_P: Ints
    """Number of each room's streamer."""
    num_streamers: int
    level_P: Floats
    """Log-odds of the streamer's CTR in the training rooms: what a base ranker knows."""
    length_P: Ints
    """Segments of a room."""
    first_P: Ints
    """Its first row among the S segments."""
    probability_S: Floats
    """True click probability."""
    ready_score_S: Floats
    """Latest score that is ready while this segment is on screen; NaN where there is none."""
    ready_lag_S: Floats
    """Segments between the end of the one it was made from and this one's start; NaN likewise."""
    mean_score: float
    segment_seconds: float
    scores_name: str
    """Where the scores come from, in words."""

    @cached_property
    def logit_S(self) -> Floats:
        """Log-odds of the true click probability."""
        return np.log(self.probability_S / (1 - self.probability_S))

    @cached_property
    def mean_probability(self) -> float:
        """Mean true click probability of all segments."""
        return float(self.probability_S.mean())

    @cached_property
    def end_S(self) -> Ints:
        """Row after the last of the segment's room."""
        return np.repeat(self.first_P + self.length_P, self.length_P)


def load_platform(data: PreparedRooms, scores: Scores, *, split: str, seed: int) -> Platform:
    """Read the rooms of a split, their truth, and our scores of them.

    Args:
        data: prepared simulated rooms.
        scores: where scores come from.
        split: train, val or test.
        seed: of the stand-in's noise.

    Raises:
        InputError: the rooms are not simulated, the split is empty, there are no training rooms to
            take the streamers' levels from, or the scores are not of these rooms.
    """
    manifest, truth = data.manifest(), data.truth()
    if manifest.get("simulated") is not True or truth is None:
        raise InputError(f"{data.root}: a replay needs simulated rooms, whose truth is known")
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    segments = data.segments()
    table = segments.filter(pl.col("split") == split)
    table = table.select("room_id", "streamer_id", "segment").join(
        truth, on=["room_id", "segment"], how="left", maintain_order="left"
    )
    if not table.height:
        raise InputError(f"{data.root}: has no room in the split {split!r}")
    if table["click_probability"].null_count():
        raise InputError(f"{data.root}/truth.parquet: must hold every segment of the split")
    rooms = table.group_by("room_id", maintain_order=True).agg(
        pl.col("streamer_id").first(), length=pl.len()
    )
    streamers = rooms["streamer_id"].unique().sort()
    length_P = rooms["length"].to_numpy().astype(np.int64)
    first_P = np.concatenate([[0], np.cumsum(length_P)[:-1]])
    score_S, horizon, name = _scores(table, scores, seed)
    ready_S, lag_S = _latest_ready(score_S, first_P, length_P, horizon)
    return Platform(
        room_ids=rooms["room_id"].to_list(),
        streamer_P=streamers.search_sorted(rooms["streamer_id"]).to_numpy().astype(np.int64),
        num_streamers=len(streamers),
        level_P=_levels(data.root, segments, rooms),
        length_P=length_P,
        first_P=first_P,
        probability_S=table["click_probability"].to_numpy(),
        ready_score_S=ready_S,
        ready_lag_S=lag_S,
        mean_score=float(np.nanmean(score_S)),
        segment_seconds=float(manifest["segment_seconds"]),
        scores_name=name,
    )


def air_rooms(
    platform: Platform, live_rooms: float, days: int, rng: np.random.Generator
) -> tuple[Ints, int]:
    """Draw when each room begins, so that `live_rooms` are live at once on average.

    Time runs in slots of one segment, to which all rooms keep. A room of S segments begins
    anywhere from S - 1 slots before the test to its last slot, so that it is evenly busy.

    Returns:
        First slot of each room [P], and the number of slots, a multiple of `days`.

    Raises:
        InputError: the rooms are too few for days of MIN_SLOTS.
    """
    length_P = platform.length_P
    # A room is live in a slot with chance S / (slots + S - 1); the last S is taken at its mean.
    slots = length_P.sum() / live_rooms - (length_P**2).sum() / length_P.sum() + 1
    per_day = int(slots // days)
    if per_day < MIN_SLOTS:
        raise InputError(
            f"too few rooms, {len(length_P)}, for {counted(days, 'day')} with {live_rooms:g} live "
            "at once: "
            f"a day must last {MIN_SLOTS} segments, not {max(per_day, 0)}; simulate more rooms, "
            "or ask for fewer live at once or fewer days"
        )
    start_P = rng.integers(1 - length_P, days * per_day)
    return start_P, days * per_day


def _levels(root: Path, segments: pl.DataFrame, rooms: pl.DataFrame) -> Floats:
    """Log-odds [P] of each room's streamer's clickers / viewers in the training rooms.

    A streamer without any has that of all training rooms.
    """
    known = segments.filter((pl.col("split") == "train") & (pl.col("viewers") > 0))
    if not known.height or not known["clickers"].sum():
        raise InputError(f"{root}: has no training rooms with clicks to know the streamers from")
    ratio = pl.col("clickers").sum() / pl.col("viewers").sum()
    levels = known.group_by("streamer_id").agg(level=ratio)
    overall = known.select(ratio).item()
    joined = rooms.join(levels, on="streamer_id", how="left", maintain_order="left")
    # Clipped: a streamer nobody clicked would be at minus infinity, and never shown.
    level_P = joined["level"].fill_null(overall).to_numpy().clip(1e-4, 1 - 1e-4)
    found: Floats = np.log(level_P / (1 - level_P))
    return found


def _scores(table: pl.DataFrame, scores: Scores, seed: int) -> tuple[Floats, int, str]:
    """Score of each segment [S], NaN where there is none; its horizon; and its source in words.

    Where later segments are seen, the horizon is the one of a score that is ready as late.
    """
    truth_S = table["click_probability"].to_numpy()
    if scores.evaluation is None:
        assert scores.stand_in_noise is not None
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
        logit_S = np.log(truth_S / (1 - truth_S))
        logit_S = logit_S + scores.stand_in_noise * rng.standard_normal(len(truth_S))
        name = (
            "stand-in for a model: the segment's true click probability with noise of "
            f"{scores.stand_in_noise:g} on its log-odds"
        )
        return 1 / (1 + np.exp(-logit_S)), 0, name
    return _model_scores(table, scores.evaluation)


def _model_scores(table: pl.DataFrame, folder: Path) -> tuple[Floats, int, str]:
    found = read_evaluation(folder, "rooms")
    if found.metrics["target"] != "ctr":
        raise InputError(
            f"{folder / 'metrics.json'}: target must be 'ctr' to be ranked with, not "
            f"{found.metrics['target']!r}"
        )
    scale = found.metrics["data_spec"].get("target_scale")
    if scale in IN_ROOM_SCALES:  # such scores compare the segments of a room, and no two rooms
        raise InputError(
            f"{folder / 'metrics.json'}: data_spec.target_scale must be one that compares rooms to "
            f"be ranked with, not {scale!r}"
        )
    predictions = found.predictions.select("room_id", "segment", "score", "truth")
    joined = table.join(predictions, on=["room_id", "segment"], how="left", maintain_order="left")
    if joined["score"].null_count() == joined.height:
        raise InputError(f"{folder / 'predictions.parquet'}: has no score of any of the rooms")
    other = (pl.col("truth") - pl.col("click_probability")).abs() > 1e-9
    if joined.select(other.any()).item():
        raise InputError(
            f"{folder / 'predictions.parquet'}: its truth is another than that of the rooms: it "
            "was made from other data"
        )
    horizon, later = (int(found.metrics[name]) for name in ("horizon", "later_segments"))
    name = f"a trained model's predictions, horizon {horizon}"
    if later > max(0, -horizon):
        name += f", each ready {counted(later, 'segment')} later"
    return joined["score"].fill_null(np.nan).to_numpy(), max(0, horizon) - later, name


def _latest_ready(
    score_S: Floats, first_P: Ints, length_P: Ints, horizon: int
) -> tuple[Floats, Floats]:
    """Latest score that is ready while each segment is on screen, and how many segments late.

    A score is ready when the segment it was *made from* has ended: with horizon 0 that is the
    segment it stands at, with horizon 1 the one before. So a segment on screen has at best the
    score standing at the segment before it (horizon 0), its own (horizon 1), or that of the
    segment k + 1 before (horizon -k).
    """
    shift = 1 - horizon
    place_S = np.arange(len(score_S))
    first_S = np.repeat(first_P, length_P)
    known_S = place_S >= first_S + max(1, shift)
    # Before the first row of all there is none, however late a score is ready.
    known_S &= ~np.isnan(score_S[np.maximum(place_S - shift, 0)])
    latest_S = np.maximum.accumulate(np.where(known_S, place_S, -1))
    there_S = latest_S >= first_S
    score = np.where(there_S, score_S[np.maximum(latest_S - shift, 0)], np.nan)
    return score, np.where(there_S, place_S - latest_S, np.nan)
