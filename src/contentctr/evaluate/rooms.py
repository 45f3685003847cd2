"""A model of live rooms: predictions.parquet and metrics.json (Section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.evaluate.comparison import compare_with_floors, or_none
from contentctr.evaluate.floors import Measured
from contentctr.metrics.ctr import calibration, log_loss, mean_ratio, summary
from contentctr.metrics.labels import label_summary
from contentctr.metrics.ranking import LABEL_PERCENTILE, percentile_by_room, ranking_summary
from contentctr.models.registry import model_type
from contentctr.progress import progress_bar
from contentctr.score.checkpoint import Checkpoint
from contentctr.score.evaluation import write_evaluation
from contentctr.score.rooms import RoomsScorer, segments_for
from contentctr.shards import run_over
from contentctr.store.rooms import LABEL, PreparedRooms
from contentctr.store.vectors import data_spec
from contentctr.windows.rooms import is_sample, require_windows, sample_windows
from contentctr.windows.segment_data import SegmentData

Floats = npt.NDArray[np.float64]
_ROOMS_AT_ONCE = 16
"""Rooms whose windows share batches, and that a worker of a cluster scores together."""
HIGHLIGHT = "highlight_label"
"""A column of segments.parquet, 1 for a highlight, where the data says which segments are."""


def evaluate_rooms(
    checkpoint: Checkpoint,
    data: PreparedRooms,
    out: Path,
    *,
    split: str,
    batch_size: int,
    device: torch.device | str,
    ray: str | None,
    show_progress: bool,
) -> dict[str, Any]:
    """What `evaluate_model` does with live rooms.

    OUT/predictions.parquet has one row a scored segment. Beside our own metrics stand those of
    KuaiLive-M3's highlight benchmark, under "ranking".

    Raises:
        InputError: the data does not fit the checkpoint, or has no sample in the split.
    """
    config = checkpoint.config.data
    spec = data_spec(data, inputs=checkpoint.finetuned)
    checkpoint.require_fits(spec, data.root)
    segments = segments_for(checkpoint, data, split)
    require_windows(
        sample_windows(segments, config, spec.target), segments, config, f"{data.root}: {split}"
    )
    scoring = _Scoring(
        checkpoint, data.root, split, batch_size, torch.device(device), torch.get_num_threads()
    )
    raw_S = _score(scoring, segments, ray, show_progress=show_progress)
    table = _predictions(segments, raw_S, checkpoint, data)
    calibrated = _calibration(table, checkpoint)
    table = table.with_columns(score=pl.Series(checkpoint.calibration(table["score"].to_numpy())))
    own = data.segments(texts=False)
    if HIGHLIGHT in own.columns:
        labels = _labels(own, data.root)
        table = table.join(labels, on=["room_id", "segment"], how="left", maintain_order="left")
    what = Measured(
        target=spec.target,
        scale=spec.target_scale,
        is_label=data.has_label_target(),
        min_viewers=config.min_viewers,
    )
    metrics = {
        "warnings": _warnings(checkpoint, spec),
        "horizon": config.horizon,
        "later_segments": checkpoint.later_segments,
        **_measure(table, own, what.is_label),
        "calibration": calibrated,
        "floors": compare_with_floors(table, own, what),
        "labels": _classes(table, own, data),
        "ranking": _ranking(table, own),
    }
    return write_evaluation(
        out, {"predictions": table}, metrics, checkpoint=checkpoint, data=spec, split=split
    )


def _calibration(table: pl.DataFrame, checkpoint: Checkpoint) -> dict[str, Any]:
    """The block `calibration` of metrics.json: the model's own scores beside the calibrated ones.

    Args:
        table: of predictions.parquet, with the model's own scores.
        checkpoint: the model.
    """
    samples, found = table.filter("is_sample"), checkpoint.calibration
    raw_M, targets_M = samples["score"].to_numpy(), samples["target"].to_numpy()
    return {
        "method": found.method,
        "why": found.why_none,
        "fitted": dict(found.about),
        **{
            name: {
                "log_loss": log_loss(scores_M, targets_M),
                "calibration_error": calibration(scores_M, targets_M).error,
                "mean_ratio": or_none(mean_ratio(scores_M, targets_M)[0]),
            }
            for name, scores_M in (("before", raw_M), ("after", found(raw_M)))
        },
    }


def _warnings(checkpoint: Checkpoint, spec: DataSpec) -> list[str]:
    """What a reader of the numbers must know."""
    config = checkpoint.config
    notes = checkpoint.speech_warnings(spec.speech_source)
    if config.ids.same_segment:
        notes += ["leaks: the model reads counts of the very segments it scores (ids.same_segment)"]
    if model_type(config.model.kind).sees_later:
        notes += [
            f"no forecast: with model.kind={config.model.kind} a segment's score may depend on up "
            f"to {checkpoint.later_segments} segments after it; it is of recordings, and not "
            "comparable with a live score"
        ]
    return notes


@dataclass(frozen=True)
class _Scoring:
    """What scores which segments: all that a worker needs."""

    checkpoint: Checkpoint
    root: Path
    split: str
    batch_size: int
    device: torch.device
    threads: int

    def segments(self) -> SegmentData:
        """The segments of the split."""
        return segments_for(self.checkpoint, PreparedRooms(self.root), self.split)

    def scorer(self, segments: SegmentData) -> RoomsScorer:
        """The model, ready to score rooms of them."""
        checkpoint, config = self.checkpoint, self.checkpoint.config.data
        load = checkpoint.load_end_to_end if checkpoint.finetuned else checkpoint.load_model
        return RoomsScorer(
            load(self.device),
            segments,
            window_len=config.window_len,
            horizon=config.horizon,
            batch_size=self.batch_size,
            device=self.device,
        )

    def worker(self) -> RoomsScorer:
        """The same on a machine of a cluster, where Ray shows a worker its own GPU alone."""
        torch.set_num_threads(self.threads)
        here = replace(self, device=torch.device(self.device.type))
        return here.scorer(here.segments())


def _score(
    scoring: _Scoring, segments: SegmentData, ray: str | None, *, show_progress: bool
) -> Floats:
    """Scores of all segments; the same rooms together wherever they are scored."""
    count = len(segments.room_bounds[0])
    chunks = [(n, min(n + _ROOMS_AT_ONCE, count)) for n in range(0, count, _ROOMS_AT_ONCE)]
    make = scoring.worker if ray else lambda: scoring.scorer(segments)
    on_gpu = scoring.device.type != "cpu"
    found: list[Floats] = []
    with progress_bar("evaluate", len(segments), show=show_progress) as bar:
        for scores_S in run_over(
            chunks, make, ray=ray, cpus=1 if on_gpu else scoring.threads, gpus=int(on_gpu)
        ):
            found.append(scores_S)
            bar.advance(len(scores_S))
    return np.concatenate(found)


def _predictions(
    segments: SegmentData, scores_S: Floats, checkpoint: Checkpoint, data: PreparedRooms
) -> pl.DataFrame:
    """One row a segment that has a score; with the truth of simulated rooms."""
    config, target = checkpoint.config.data, checkpoint.spec.target
    sample_S = is_sample(segments, config, target)
    if config.horizon:
        # A window's sample is the segment it predicts. Where that would be another room's, it has
        # no target and the window is no sample, so nothing rolls across rooms.
        sample_S = np.roll(sample_S, config.horizon)
    table = segments.table.select(
        "room_id",
        "streamer_id",
        "segment",
        "start_s",
        "end_s",
        "target",
        pl.Series("score", scores_S),
        "viewers",
        pl.Series("is_sample", sample_S),
    )
    truth = data.truth()
    if truth is None:
        table = table.with_columns(truth=pl.lit(None, pl.Float64))
    else:
        truth = truth.select("room_id", "segment", truth="click_probability")
        table = table.join(truth, on=["room_id", "segment"], how="left", maintain_order="left")
    return table.filter(pl.col("score").is_not_nan())


def _measure(table: pl.DataFrame, own: pl.DataFrame, is_label: bool) -> dict[str, Any]:
    """Metrics on the samples, what simpler predictors reach on them, and counts."""
    samples = table.filter("is_sample")
    targets, rooms = samples["target"].to_numpy(), samples["room_id"].to_numpy()
    references = {"streamer_mean": summary(streamer_mean(samples, own), targets, rooms)}
    if samples["truth"].null_count() == 0:
        references["oracle"] = summary(samples["truth"].to_numpy(), targets, rooms)
    scores = samples["score"].to_numpy()
    labels = label_summary(scores, targets, rooms) if is_label else {}
    return {
        "metrics": {**summary(scores, targets, rooms), **labels},
        "references": references,
        "counts": {
            "rooms": table["room_id"].n_unique(),
            "segments": table.height,
            "segments_with_target": table.height - table["target"].null_count(),
            "samples": samples.height,
            "rooms_with_samples": samples["room_id"].n_unique(),
        },
    }


def _classes(table: pl.DataFrame, own: pl.DataFrame, data: PreparedRooms) -> dict[str, Any]:
    """How well the scores find each class of a table of labels, whatever they were trained on.

    Returns:
        `mean_average_precision` over the classes that have a positive sample, and `classes` by
        name, each with average precision, base rate and positives; of "label", any of them, too.
    """
    classes = data.manifest().get("labels", {}).get("classes", [])
    names = [name for name in (LABEL, *classes) if name in own.columns]
    samples = table.filter("is_sample").select("room_id", "segment", "score")
    samples = samples.join(
        own.select("room_id", "segment", *names),
        on=["room_id", "segment"],
        how="left",
        maintain_order="left",
    )
    found = {}
    for name in names:
        block = label_summary(samples["score"], samples[name], samples["room_id"])
        found[name] = {k: block[k] for k in ("average_precision", "base_rate", "positives")}
    defined = [
        block["average_precision"]
        for name, block in found.items()
        if name != LABEL and block["average_precision"] is not None
    ]
    return {
        "mean_average_precision": sum(defined) / len(defined) if defined else None,
        "classes": found,
    }


def _ranking(table: pl.DataFrame, own: pl.DataFrame) -> dict[str, Any]:
    """The highlight benchmark's metrics on the samples, and what its labels are.

    Labels are the data's, where it has them for the samples; else a segment is a highlight whose
    target is at or above the 70th percentile of its room's, which is how the data's are made.

    Args:
        table: of predictions.parquet.
        own: all rooms' segments.

    Returns:
        `labels`, in words, and what `ranking_summary` gives.
    """
    samples = table.filter("is_sample")
    if HIGHLIGHT in samples.columns and not samples[HIGHLIGHT].null_count():
        source, labels = HIGHLIGHT, samples[HIGHLIGHT]
    else:
        source = f"target at or above its room's {LABEL_PERCENTILE}th percentile"
        labels = samples["target"] >= _cuts(samples, own)
    scores, targets, rooms = (samples[name].to_numpy() for name in ("score", "target", "room_id"))
    return {"labels": source, **ranking_summary(scores, targets, labels.to_numpy(), rooms)}


def _labels(own: pl.DataFrame, where: Path) -> pl.DataFrame:
    """HIGHLIGHT of every segment.

    Raises:
        InputError: a label is not 0, 1 or null.
    """
    label = pl.col(HIGHLIGHT).cast(pl.String).cast(pl.Float64, strict=False)
    bad = own.filter(pl.col(HIGHLIGHT).is_not_null() & ~label.is_in([0.0, 1.0]).fill_null(False))
    if bad.height:
        row = bad.row(0, named=True)
        raise InputError(
            f"{where / 'segments.parquet'}: {HIGHLIGHT} must be 0, 1 or null, not "
            f"{row[HIGHLIGHT]!r} (room {row['room_id']!r}, segment {row['segment']})"
        )
    return own.select("room_id", "segment", label.cast(pl.UInt8).alias(HIGHLIGHT))


def _cuts(samples: pl.DataFrame, own: pl.DataFrame) -> pl.Series:
    """Each sample's LABEL_PERCENTILE of its room's targets, samples or not."""
    rooms = samples.select(pl.col("room_id").unique())
    known = own.filter(pl.col("target").is_not_null()).join(rooms, on="room_id", how="semi")
    counts = known.group_by("room_id", maintain_order=True).agg(rows=pl.len().cast(pl.Int64))
    first_G1 = np.append(0, np.cumsum(counts["rows"].to_numpy()))
    cuts = counts.with_columns(
        cut=pl.Series(percentile_by_room(known["target"].to_numpy(), first_G1))
    )
    return samples.join(cuts, on="room_id", how="left", maintain_order="left")["cut"]


def streamer_mean(samples: pl.DataFrame, own: pl.DataFrame) -> Floats:
    """What a predictor says that knows only each streamer's mean target in the training rooms.

    A streamer without one gets the mean over all training segments.

    Args:
        samples: with streamer_id.
        own: all rooms' segments.
    """
    known = own.filter((pl.col("split") == "train") & pl.col("target").is_not_null())
    means = known.group_by("streamer_id").agg(mean=pl.col("target").mean())
    # Without any training target nothing tells, and a constant has no tau either way.
    overall = known["target"].mean() if known.height else 0.5
    joined = samples.join(means, on="streamer_id", how="left", maintain_order="left")
    return joined["mean"].fill_null(overall).to_numpy()
