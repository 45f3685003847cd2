"""The section that shows how a model was trained: losses and the validation metric by step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contentctr.report import figures
from contentctr.report.cards import legend_list
from contentctr.report.pieces import escaped, simulated_note

_Series = tuple[figures.Floats, figures.Floats]
"""Steps and values."""

_PANELS = {
    "total": "Total loss",
    "point": "Pointwise loss",
    "pair": "Pairwise loss",
    "align": "Alignment loss",
    "kendall_tau": "Kendall's tau (validation)",
    "map": "mAP (validation)",
}
"""Titles of the log's numbers; a number that the log does not have, or only as 0, has no panel."""


def training_section(
    log: pl.DataFrame | None, metrics: Mapping[str, Any], validated: str, pictures: Path
) -> str:
    """A card a panel, and one PNG of all; nothing where no log was kept.

    Args:
        log: as `read_log` gives it.
        metrics: of metrics.json.
        validated: what validation is done on, such as "rooms".
        pictures: folder of the PNG.
    """
    if log is None:
        return ""
    note = simulated_note(metrics)
    panels: dict[str, list[_Series]] = {}
    for name, title in _PANELS.items():
        known = log.filter(pl.col(name).is_not_null())
        if known.height and (known[name] != 0).any():  # a loss of weight 0 is logged as 0
            panels[title] = [_series(known, name, split) for split in ("train", "val")]
    if not panels:
        return ""
    said = f"{note.capitalize()}. " if note else ""
    cards = [
        _training_card(number, title, said, *panel)
        for number, (title, panel) in enumerate(panels.items(), 1)
    ]
    figure, axes = figures.new_figure(360 * len(panels), 280, columns=len(panels))
    for ax, (title, (train, val)) in zip(axes, panels.items(), strict=True):
        figures.draw_training(ax, train, val)
        figures.heading(ax, title, note)
    figures.save_png(figure, pictures / "training.png")
    return (
        legend_list([("target", "Training batches"), ("dots", f"Validation {validated}")])
        + f'\n<div class="pair">{"".join(cards)}</div>'
    )


def _training_card(number: int, title: str, said: str, train: _Series, val: _Series) -> str:
    figure, axes = figures.new_figure(320, 210)
    figures.draw_training(axes[0], train, val)
    ends = {"train": train[1][-1:], "validation": val[1][-1:]}
    last = ", ".join(f"{name} {values[0]:.4f}" for name, values in ends.items() if len(values))
    alt = f"{said}{title} by training step; at the end: {last}"
    svg = figures.to_svg(figure, alt, f"log{number}")
    return f'<article class="card"><h3>{escaped(title)}</h3><figure>{svg}</figure></article>'


def _series(log: pl.DataFrame, name: str, split: str) -> _Series:
    rows = log.filter(pl.col("split") == split)
    return rows["step"].to_numpy().astype(np.float64), rows[name].to_numpy()
