"""A model beside the floors: its difference from them, intervals over rooms, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from contentctr.counting import counted
from contentctr.evaluate.floors import KEYS, Measured, floor_scores
from contentctr.metrics.average_precision import average_precision
from contentctr.metrics.ctr import Floats, kendall_tau, mean_over_groups
from contentctr.metrics.intervals import CONFIDENCE, DRAWS, LEAST_ROOMS, RoomDraws, interval
from contentctr.score.evaluation import FLOORS, METRIC_NAMES
from contentctr.score.highlights import is_flat

_Measures = Mapping[str, tuple[float, Floats]]
"""By metric, its value and its values in the draws of rooms."""


def compare_with_floors(table: pl.DataFrame, own: pl.DataFrame, what: Measured) -> dict[str, Any]:
    """The block `floors` of metrics.json.

    Args:
        table: of predictions.parquet.
        own: all rooms' segments, as PreparedRooms gives them.
        what: the target.

    Returns:
        `metric` (the first of Measured.metrics), `model` and `floors` (by name), each with a value
        and an interval by metric; `comparisons` by metric: the best floor, the model's difference
        from it, its interval, and a verdict; `sentence`, in plain words; and counts.
    """
    samples = table.filter("is_sample")
    floors = {
        name: samples.join(scores, on=KEYS, how="left", maintain_order="left")["floor"]
        for name, scores in floor_scores(own, what, samples["room_id"]).items()
    }
    targets, draws = samples["target"].to_numpy(), RoomDraws(samples["room_id"].to_numpy())
    scorers = {"model": samples["score"], **floors}
    found = {
        name: {
            metric: measured(metric, series.to_numpy(), targets, draws) for metric in what.metrics
        }
        for name, series in scorers.items()
        if not series.null_count()
    }
    enough = draws.num_rooms >= LEAST_ROOMS
    block = {
        "metric": what.metrics[0],
        "rooms": draws.num_rooms,
        "samples": samples.height,
        "flat_rooms": _flat_rooms(samples),
        "draws": DRAWS,
        "confidence": CONFIDENCE,
        "model": _shown(found["model"], enough),
        "floors": {name: _shown(of, enough) for name, of in found.items() if name != "model"},
        "without": sorted(set(FLOORS) - set(found)),
        "comparisons": {metric: _comparison(found, metric, enough) for metric in what.metrics},
    }
    return {**block, "sentence": sentence(block)}


def measured(
    metric: str, scores: Floats, targets: Floats, draws: RoomDraws
) -> tuple[float, Floats]:
    """A metric of order: its value, and its values in the draws of rooms."""
    if metric == "kendall_tau":
        return kendall_tau(scores, targets), draws.kendall_tau(scores, targets)
    if metric == "average_precision":
        value = average_precision(targets > 0, scores)
        return value, draws.average_precision(scores, targets)
    inside = mean_over_groups(kendall_tau, scores, targets, draws.room_M)
    return inside.mean, draws.kendall_tau_in_rooms(scores, targets)


def _shown(of: _Measures, enough: bool) -> dict[str, Any]:
    return {
        metric: {"value": or_none(value), "interval": interval(values_D) if enough else None}
        for metric, (value, values_D) in of.items()
    }


def _comparison(found: Mapping[str, _Measures], metric: str, enough: bool) -> dict[str, Any]:
    """How far the model is from the best floor, and whether other rooms could turn that."""
    model, model_D = found["model"][metric]
    floors = {
        name: of[metric]
        for name, of in found.items()
        if name != "model" and not np.isnan(of[metric][0])
    }
    if not floors or np.isnan(model):
        verdict = "no floor is defined" if not floors else "undefined"
        return {"best": None, "difference": None, "interval": None, "verdict": verdict}
    best = max(floors, key=lambda name: floors[name][0])
    limits = interval(model_D - floors[best][1]) if enough else None
    if limits is None:
        verdict = "not told apart" if enough else "too few rooms"
    else:
        verdict = "better" if limits[0] > 0 else "worse" if limits[1] < 0 else "not told apart"
    return {
        "best": best,
        "difference": model - floors[best][0],
        "interval": limits,
        "verdict": verdict,
    }


def sentence(block: Mapping[str, Any]) -> str:
    """What a block `floors` says of the model, in plain words."""
    found, metric = block["comparisons"][block["metric"]], block["metric"]
    best = found["best"]
    words = {
        "better": "Better than",
        "worse": "Worse than",
        "not told apart": "Not told apart from",
        "too few rooms": "Too few rooms to say whether it is better than",
        "undefined": "Not compared, since the model's scores or the targets do not differ",
        "no floor is defined": "Not compared, since no rule of thumb can be made of these rooms",
    }[found["verdict"]]
    if best is not None:
        model, floor = block["model"][metric]["value"], block["floors"][best][metric]["value"]
        words += (
            f" the best floor, the {FLOORS[best][0]}: {METRIC_NAMES[metric]} {model:.3f} against "
            f"{floor:.3f} ({_certainty(block, found)})"
        )
    if block["flat_rooms"]:
        words += (
            f". In {block['flat_rooms']} of {counted(block['rooms'], 'room')} its curve is flat: "
            "the odds that it gives differ by less than a tenth, so its highlights there mean "
            "nothing"
        )
    return f"{words}."


def _certainty(block: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What a sentence says of the interval."""
    rooms = block["rooms"]
    if found["interval"] is not None:
        low, high = found["interval"]
        return (
            f"difference {found['difference']:+.3f}, {100 * block['confidence']:g} % interval over "
            f"{counted(rooms, 'room')} {low:+.3f} to {high:+.3f}"
        )
    if rooms < LEAST_ROOMS:
        return f"samples of {counted(rooms, 'room')}, and an interval needs {LEAST_ROOMS}"
    return f"undefined in too many draws of {counted(rooms, 'room')} for an interval"


def _flat_rooms(samples: pl.DataFrame) -> int:
    rooms = samples.partition_by("room_id")
    return sum(is_flat(room["score"].to_numpy()) for room in rooms)


def or_none(value: float) -> float | None:
    """A metric as JSON has it: None where it is undefined."""
    return None if np.isnan(value) else float(value)
