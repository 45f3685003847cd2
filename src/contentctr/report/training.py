"""How a model was trained, as a report shows it: losses and the validation metric by step."""

from __future__ import annotations

import numpy as np
import polars as pl

from contentctr.report import figures
from contentctr.report.blocks import Beside, Block, Card, Figure, Legend
from contentctr.report.canvas import Canvas

_Lines = list[figures.Series]
"""One for each member of an ensemble, or one."""

_PANELS = {
    "total": "Total loss",
    "point": "Pointwise loss",
    "pair": "Pairwise loss",
    "align": "Alignment loss",
    "kendall_tau": "Kendall's tau (validation)",
    "kendall_tau_in_rooms": "Kendall's tau inside a room (validation)",
    "average_precision": "Average precision (validation)",
    "map": "mAP (validation)",
}
"""Titles of the log's numbers; a number that the log does not have, or only as 0, has no panel."""


def training_blocks(log: pl.DataFrame | None, validated: str, canvas: Canvas) -> list[Block]:
    """A card a panel, and one PNG of all; nothing where no log was kept.

    Args:
        log: as `read_log` gives it.
        validated: what validation is done on, such as "rooms".
        canvas: draws them.
    """
    panels = {} if log is None else _panels(log)
    if not panels:
        return []
    cards = [_card(number, canvas, *panel) for number, panel in enumerate(panels.items(), 1)]
    figure, axes = figures.new_figure(360 * len(panels), 280, columns=len(panels))
    for ax, (title, (train, val)) in zip(axes, panels.items(), strict=True):
        figures.draw_training(ax, train, val)
        figures.heading(ax, title, canvas.note)
    figures.save_png(figure, canvas.folder / "training.png")
    each = ", a line a member" if log is not None and log["member"].n_unique() > 1 else ""
    lines = [("target", f"Training batches{each}"), ("predicted", f"Validation {validated}")]
    return [Legend(items=lines), Beside(cards=cards)]


def _panels(log: pl.DataFrame) -> dict[str, tuple[_Lines, _Lines]]:
    """Training and validation of each panel, by its title."""
    panels = {}
    for name, title in _PANELS.items():
        known = log.filter(pl.col(name).is_not_null())
        if (known[name] != 0).any():  # a loss of weight 0 is logged as 0
            panels[title] = _lines(known, name, "train"), _lines(known, name, "val")
    return panels


def _card(number: int, canvas: Canvas, title: str, panel: tuple[_Lines, _Lines]) -> Card:
    train, val = panel
    last = ", ".join(
        f"{name} {np.mean([values[-1] for _, values in lines]):.4f}"
        for name, lines in (("train", train), ("validation", val))
        if lines
    )
    alt = canvas.describe(f"{title} by training step; at the end: {last}")
    drawings = figures.draw_svgs(
        lambda ax: figures.draw_training(ax, train, val), (("", 320, 210),), alt, f"log{number}"
    )
    return Card(title=title, blocks=[Figure(drawings=drawings)])


def _lines(log: pl.DataFrame, name: str, split: str) -> _Lines:
    rows = log.filter(pl.col("split") == split)
    return [
        (own["step"].to_numpy().astype(np.float64), own[name].to_numpy())
        for own in rows.partition_by("member", maintain_order=True)
    ]
