"""Runs beside each other: how they were set, how far they came, and how they were measured."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.config import Config, to_dict
from contentctr.errors import InputError
from contentctr.files import read_json
from contentctr.score.evaluation import read_metrics
from contentctr.settings import show_setting
from contentctr.train.run_folder import read_log

DEPTH = 6
"""Runs are looked for in folders of folders, so many deep."""
_INNER = {"checkpoints", "tensorboard", "features", "inputs", "best", "last"}
"""Of runs and prepared folders: no run lies inside."""
_OF_RUN = {"members"}
"""Of an ensemble's run: what lies inside is a part of it."""
METRICS = ("average_precision", "map", "kendall_tau_in_rooms", "kendall_tau")
"""What decides which epoch is best, by what is predicted: labels, picks, ranks, or a share."""
FACTS = {
    "run": pl.String,
    "epochs": pl.Int64,
    "metric": pl.String,
    "best_validation": pl.Float64,
    "best_epoch": pl.Int64,
    "evaluation": pl.String,
    "split": pl.String,
    "simulated": pl.Boolean,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
"""Columns that every table of runs has; the settings that differ follow."""


@dataclass(kw_only=True)
class _Run:
    name: str
    settings: dict[str, str]
    facts: dict[str, Any]
    evaluations: list[dict[str, Any]] = field(default_factory=list)


def compare_runs(folder: Path | str) -> pl.DataFrame:
    """A table of the runs at or below a folder, and of their evaluations there.

    An evaluation is told to be of a run by its settings and where its training was, so that both
    may have been moved; one whose run is not there has a row of its own.

    Args:
        folder: is looked through DEPTH folders deep; links to folders are not followed.

    Returns:
        One row a run, or an evaluation of it: FACTS (`best_validation` of `metric` over the
        epochs; `value` of the same metric in the evaluation, with its interval over rooms where
        there is one), then, as text, each setting in which the runs differ. Best first.

    Raises:
        InputError: there is no such folder, or no run in it; or a file of one is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    runs: list[_Run] = []
    known: dict[str, _Run] = {}
    measured: list[tuple[str, dict[str, Any]]] = []
    for place, files in _folders(root):
        name = str(place.relative_to(root))
        if {"config.json", "log.jsonl"} <= files and (run := _read_run(place, name)) is not None:
            runs.append(run)
            known.setdefault(_identity(place), run)  # of copies of a run the first
        elif "metrics.json" in files:
            measured.append((name, read_metrics(place)))
    for name, metrics in measured:
        key = _key(metrics["config"], metrics["checkpoint"].get("position"))
        if key not in known:
            known[key] = _Run(name="", settings=_settings(metrics["config"]), facts={})
            runs.append(known[key])
        known[key].evaluations.append(_measured(name, metrics))
    if not runs:
        raise InputError(f"{root}: no run in it (a folder that `train` wrote)")
    return _table(runs)


def _folders(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Folders that may be of a run or an evaluation, with the names of their files."""
    for place, folders, files in os.walk(root):
        deep = len(Path(place).relative_to(root).parts) >= DEPTH
        inner = _INNER | _OF_RUN if "config.json" in files else _INNER
        folders[:] = [] if deep else sorted(name for name in folders if name not in inner)
        yield Path(place), set(files)


def _read_run(place: Path, name: str) -> _Run | None:
    """A run of `train`; None where it is of something else, as a pre-training."""
    config = read_json(place / "config.json")
    if not all(isinstance(config.get(part), dict) for part in to_dict(Config())):
        return None
    rows = read_log(place / "log.jsonl")
    validated = [row for row in rows if row["split"] == "val"]
    found = [metric for metric in METRICS if any(metric in row for row in validated)]
    facts: dict[str, Any] = {"epochs": int(rows[-1]["epoch"]) if rows else 0}
    if found:
        # What an ensemble says together, each member's best epoch, is what its run has made.
        together = [row for row in rows if row["split"] == "ensemble" and found[0] in row]
        measured = together or [row for row in validated if found[0] in row]
        best = max(measured, key=lambda row: row[found[0]])
        facts |= {
            "metric": found[0],
            "best_validation": best[found[0]],
            "best_epoch": None if together else round(best["epoch"]),
        }
    return _Run(name=name, settings=_settings(config), facts=facts)


def _identity(run: Path) -> str:
    """What an evaluation of the run's best checkpoint knows of it; "" where that is gone."""
    path = run / "best" / "checkpoint.json"
    if not path.is_file():
        return ""
    checkpoint = read_json(path)
    return _key(checkpoint["config"], checkpoint["info"].get("position"))


def _key(config: Mapping[str, Any], position: Any) -> str:
    return json.dumps([config, position], sort_keys=True)


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{part}.{name}": show_setting(value)
        for part in to_dict(Config())
        for name, value in config[part].items()
    }


def _measured(name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metric that chose the best epoch, of an evaluation."""
    floors = metrics.get("floors", {})
    metric = floors.get("metric") or next(m for m in METRICS if m in metrics["metrics"])
    limits = floors.get("model", {}).get(metric, {}).get("interval") or (None, None)
    return {
        "evaluation": name,
        "split": metrics["split"],
        "simulated": metrics["simulated"],
        "metric": metric,
        "value": metrics["metrics"].get(metric),
        "low": limits[0],
        "high": limits[1],
    }


def _table(runs: list[_Run]) -> pl.DataFrame:
    """The rows, best first, and the settings that are not the same in all."""
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    differ = [n for n in names if len({run.settings.get(n) for run in runs}) > 1]
    rows = [
        {"run": run.name, **run.facts, **measured, **{n: run.settings.get(n) for n in differ}}
        for run in runs
        for measured in run.evaluations or [{}]
    ]
    table = pl.DataFrame(rows, schema={**FACTS, **dict.fromkeys(differ, pl.String)})
    return table.sort(
        "value", "best_validation", "run", descending=[True, True, False], nulls_last=True
    )
