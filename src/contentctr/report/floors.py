"""The model beside rules of thumb: the first thing that a page of live rooms says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contentctr.report.blocks import Bars, Block, Cell, Grid, Paragraph
from contentctr.report.words import model_kind, reference_name, show_number, simulated_mark
from contentctr.score.evaluation import FLOORS, METRIC_NAMES

_SAYS = {
    "kendall_tau": "how well scores rank the segments of all rooms: 1 is the true order, 0 chance",
    "kendall_tau_in_rooms": "how well scores rank the segments of a room, averaged over rooms: 1 "
    "is the true order, 0 chance",
    "average_precision": "how far up the positive segments of all rooms stand in the scores' "
    "order: 1 is first of all, the base rate {base_rate} chance",
}


def floors_blocks(
    metrics: Mapping[str, Any], references: Mapping[str, tuple[str, str]]
) -> list[Block]:
    """The verdict, bars of the metric it is of, and all numbers with their intervals.

    Args:
        metrics: metrics.json.
        references: as `reference_name` has them.
    """
    block = metrics["floors"]
    metric = block["metric"]
    says = _SAYS[metric].format(base_rate=show_number(metrics["metrics"].get("base_rate")))
    return [
        Paragraph(text=block["sentence"]),
        Paragraph(
            text=f"{_title(METRIC_NAMES[metric])}{simulated_mark(metrics)} says {says}. The floors "
            "need no model: they know what earlier segments did, and whose room it is.",
            note=True,
        ),
        _bars(metrics, references),
        _table(block),
    ]


def _bars(metrics: Mapping[str, Any], references: Mapping[str, tuple[str, str]]) -> Bars:
    """The model, the floors, and what else evaluations compare with."""
    block = metrics["floors"]
    metric = block["metric"]
    shown = [("This model", model_kind(metrics), block["model"])]
    shown += [(*_floor(name), of) for name, of in block["floors"].items()]
    rows = [(name, about, of[metric]["value"]) for name, about, of in shown]
    limits = [of[metric]["interval"] for *_, of in shown]
    for key, reference in metrics["references"].items():
        if key not in block["floors"] and metric in reference:
            rows.append((*reference_name(references, key), reference[metric]))
            limits.append(None)
    return Bars(rows=rows, limits=limits)


def _table(block: Mapping[str, Any]) -> Grid:
    """Every metric of the model and the floors, and the model's difference from the best."""
    names = list(block["comparisons"])
    rows: list[list[Cell]] = [["This model", *(_cell(block["model"][name]) for name in names)]]
    for key, of in block["floors"].items():
        rows.append([_floor(key), *(_cell(of[name]) for name in names)])
    differences: list[Cell] = []
    for found in block["comparisons"].values():
        cell = _cell({"value": found["difference"], "interval": found["interval"]}, sign="+")
        number, limits = cell
        against = f"against the {FLOORS[found['best']][0]}" if found["best"] else ""
        differences.append((number, f"{limits} {against}".strip()))
    rows.append(["Model less best floor", *differences])
    head = ["", *(_title(METRIC_NAMES[name]) for name in names)]
    return Grid(name="Floors", head=head, rows=rows, numbers=range(1, len(head)))


def _cell(of: Mapping[str, Any], sign: str = "") -> tuple[str, str]:
    """A number, and its interval beneath it."""
    value, limits = of["value"], of["interval"]
    number = show_number(value) if value is None else f"{value:{sign}.3f}"
    return number, f"{limits[0]:{sign}.3f} to {limits[1]:{sign}.3f}" if limits else ""


def _floor(key: str) -> tuple[str, str]:
    name, about = FLOORS[key]
    return _title(name), about


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]
