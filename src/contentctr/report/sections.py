"""The sections of the report that hold figures: rooms, predicted against true, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contentctr import figures
from contentctr.highlights import Highlight, clock, find_highlights
from contentctr.metrics import kendall_tau
from contentctr.report.pieces import escaped, html_table, show_number
from contentctr.report.saved import Evaluation

_Series = tuple[figures.Floats, figures.Floats]
"""Steps and values."""

_LOG_PANELS = {
    "total": "Total loss",
    "point": "Pointwise loss",
    "pair": "Pairwise loss",
    "align": "Alignment loss",
    "kendall_tau": "Kendall's tau (validation)",
}


@dataclass(frozen=True)
class RoomCurve:
    """One room's rows of the predictions, and how well they rank its segments."""

    rows: pl.DataFrame
    tau: float
    """Kendall's tau over the room's samples; NaN where undefined."""
    samples: int

    @property
    def room_id(self) -> str:
        """The room."""
        return str(self.rows["room_id"][0])


def target_name(found: Evaluation) -> str:
    """What the model predicts, for people."""
    name = str(found.metrics["target"])
    return "CTR" if name == "ctr" else name.replace("_", " ")


def choose_rooms(predictions: pl.DataFrame, max_rooms: int) -> list[tuple[str, RoomCurve]]:
    """The rooms to show, each with its label, by Kendall's tau inside the room.

    Best, median (the better of two middle ones) and worst come first, then others evenly spread
    over the ranks. Rooms whose tau is undefined are shown only where no room has one.
    """
    rooms = [_room_curve(rows) for rows in predictions.partition_by("room_id", maintain_order=True)]
    ranked = sorted((r for r in rooms if not np.isnan(r.tau)), key=lambda r: (-r.tau, r.room_id))
    n = len(ranked)
    if not n:
        return [("Tau undefined", room) for room in rooms[:max_rooms]]
    labels: dict[int, str] = {}
    for place, name in ((0, "Best"), ((n - 1) // 2, "Median"), (n - 1, "Worst")):
        labels.setdefault(place, f"{name} of {n:,}" if n > 1 else "The only room with a tau")
    others = [place for place in range(n) if place not in labels]
    extra = min(max(0, max_rooms - len(labels)), len(others))
    for i in np.linspace(0, len(others) - 1, extra).round().astype(int).tolist():
        labels[others[i]] = f"Rank {others[i] + 1:,} of {n:,}"
    return [(label, ranked[place]) for place, label in labels.items()][:max_rooms]


def _room_curve(rows: pl.DataFrame) -> RoomCurve:
    samples = _samples(rows)
    tau = kendall_tau(samples["score"].to_numpy(), samples["target"].to_numpy())
    return RoomCurve(rows, tau, samples.height)


def _samples(predictions: pl.DataFrame) -> pl.DataFrame:
    known = pl.col("score").is_not_null() & pl.col("target").is_not_null()
    return predictions.filter(pl.col("is_sample") & known)


# Rooms


def rooms_section(found: Evaluation, max_rooms: int, pictures: Path) -> str:
    """Curves of the chosen rooms; also writes them to the folder `pictures`."""
    chosen = choose_rooms(found.predictions, max_rooms)
    cards = [
        _room_card(found, label, room, number, pictures)
        for number, (label, room) in enumerate(chosen, 1)
    ]
    has_truth = any(room.rows["truth"].null_count() < room.rows.height for _, room in chosen)
    legend = [("", "Predicted"), ("target", f"True {target_name(found)}")]
    legend += [("truth", "True click probability (simulated)")] * has_truth
    legend += [("highlight", "Highlights, numbered from the best")]
    items = "".join(f'<li><i class="{c}"></i>{escaped(name)}</li>' for c, name in legend)
    intro = (
        "<p>Chosen by Kendall's tau inside the room. Highlights are where the predicted curve is "
        "highest in its room. Time runs from the room's start.</p>"
        f'<ul class="legend">{items}</ul>'
    )
    named = sum(not label.startswith("Rank") for label, _ in chosen)
    more = "\n".join(cards[named:])
    count = len(cards) - named
    label = f"{count} more room{'s' * (count > 1)}"
    folded = f"<details><summary>{label}</summary>\n{more}\n</details>" if more else ""
    return "\n".join([intro, *cards[:named], folded])


def _room_card(found: Evaluation, label: str, room: RoomCurve, number: int, pictures: Path) -> str:
    starts, ends, scores, target, truth = (
        room.rows[name].fill_null(np.nan).to_numpy()
        for name in ("start_s", "end_s", "score", "target", "truth")
    )
    best = find_highlights(scores, starts, ends)
    style: dict[str, Any] = {
        "targets": None if np.isnan(target).all() else target,
        "truth": None if np.isnan(truth).all() else truth,
        "highlights": best,
    }
    alt, drawings = _curve_alt(found, room, best), []
    for css_class, width, height in (("wide", 960, 230), ("narrow", 350, 220)):
        figure, axes = figures.new_figure(width, height)
        figures.draw_curve(axes[0], starts, ends, scores, legend=False, **style)
        drawings.append(figures.to_svg(figure, alt, f"room{number}{css_class}", css_class))
    word = label.split()[0].lower()
    name = word if word in ("best", "median", "worst") else f"{number:02d}"
    said = "simulated" if found.metrics["simulated"] else ""
    style |= {"title": f"{label} rooms by tau", "label": said}
    figures.draw_curve(pictures / f"curve-{name}.png", starts, ends, scores, **style)
    streamer = str(room.rows["streamer_id"][0])
    facts = f"Streamer {streamer} · " if streamer else ""
    facts += f"tau {show_number(room.tau)} over {room.samples:,} "
    facts += "segment" if room.samples == 1 else "segments"
    items = "".join(
        f"<li><b>{i}</b>{clock(h.start_s)}–{clock(h.end_s)}</li>" for i, h in enumerate(best, 1)
    )
    listed = f'<ol class="highlights" aria-label="Highlights">{items}</ol>' if best else ""
    return (
        f'<article class="card"><header><span class="badge">{escaped(label)}</span>'
        f"<h3>Room {escaped(room.room_id)}</h3>"
        f'<span class="facts">{escaped(facts)}</span></header>\n'
        f"<figure>{''.join(drawings)}</figure>\n{listed}</article>"
    )


def _curve_alt(found: Evaluation, room: RoomCurve, best: Sequence[Highlight]) -> str:
    times = ", ".join(f"{clock(h.start_s)} to {clock(h.end_s)}" for h in best) or "none"
    end = clock(float(room.rows["end_s"].to_numpy().max()))
    simulated = "Simulated. " if found.metrics["simulated"] else ""
    return (
        f"{simulated}Predicted and true {target_name(found)} of room {room.room_id} until {end}. "
        f"Highlights: {times}."
    )


# Predicted against true


def fit_section(found: Evaluation, pictures: Path) -> str:
    """Predicted against true, segment by segment and bin by bin; PNGs too."""
    samples, bins = _samples(found.predictions), found.metrics["metrics"]["calibration"]
    if not samples.height or not bins:
        return "<p>No segment has both a score and a target.</p>"
    rows = [
        [str(i), f"{b['count']:,}", show_number(b["mean_score"]), show_number(b["mean_target"])]
        for i, b in enumerate(bins, 1)
    ]
    head = ["Bin", "Segments", "Mean predicted", "Mean true"]
    table = html_table("Calibration bins", head, rows, range(1, 4), css_class="small")
    return (
        f'<div class="pair">{_against_card(found, samples, pictures)}\n'
        f"{_calibration_card(found, bins, pictures)}</div>\n"
        f"<details><summary>Calibration bins as a table</summary>{table}</details>"
    )


def _against_card(found: Evaluation, samples: pl.DataFrame, pictures: Path) -> str:
    target, count = target_name(found), f"{samples.height:,} segments"
    figure, axes = figures.new_figure(440, 360)
    fullest, outside = figures.draw_against(
        axes[0], samples["score"].to_numpy(), samples["target"].to_numpy()
    )
    alt = f"Predicted against true {target} of {count}, with the diagonal"
    svg = figures.to_svg(figure, alt, "against")
    figures.heading(axes[0], f"Predicted against true {target}", _note(found))
    figures.save_png(figure, pictures / "against.png")
    beyond = f" {outside:,} segments lie above the axes." if outside else ""
    return (
        f'<article class="card"><h3>Each segment</h3><figure>{svg}<figcaption>{count}; the '
        f"stronger the colour, the more of them (at most {fullest:,} in a cell). Dashed: predicted "
        f"equals true.{beyond}</figcaption></figure></article>"
    )


def _calibration_card(
    found: Evaluation, bins: Sequence[Mapping[str, float]], pictures: Path
) -> str:
    x, y = [b["mean_score"] for b in bins], [b["mean_target"] for b in bins]
    figure, axes = figures.new_figure(440, 360)
    figures.draw_calibration(axes[0], x, y)
    pairs = "; ".join(f"{s:.3f}, {t:.3f}" for s, t in zip(x, y, strict=True))
    alt = f"Mean predicted and mean true {target_name(found)} of each bin: {pairs}"
    svg = figures.to_svg(figure, alt, "calibration")
    figures.heading(axes[0], "Calibration", _note(found))
    figures.save_png(figure, pictures / "calibration.png")
    fewest, most = (f"{f(int(b['count']) for b in bins):,}" for f in (min, max))
    each = fewest if fewest == most else f"{fewest} to {most}"
    return (
        f'<article class="card"><h3>Calibration</h3><figure>{svg}<figcaption>{len(bins)} bins of '
        f"{each} segments each, by predicted value. Dashed: predicted equals true."
        "</figcaption></figure></article>"
    )


def _note(found: Evaluation) -> str:
    return "simulated" if found.metrics["simulated"] else ""


# Training


def training_section(found: Evaluation, pictures: Path) -> str:
    """Losses and validation tau by step; nothing where no log was kept. A PNG too."""
    if found.log is None:
        return ""
    panels: dict[str, list[_Series]] = {}
    for name, title in _LOG_PANELS.items():
        known = found.log.filter(pl.col(name).is_not_null())
        if known.height and (known[name] != 0).any():  # a loss of weight 0 is logged as 0
            panels[title] = [_series(known, name, split) for split in ("train", "val")]
    if not panels:
        return ""
    cards = [_training_card(i, title, *panel) for i, (title, panel) in enumerate(panels.items(), 1)]
    figure, axes = figures.new_figure(360 * len(panels), 280, columns=len(panels))
    for ax, (title, (train, val)) in zip(axes, panels.items(), strict=True):
        figures.draw_training(ax, train, val)
        figures.heading(ax, title, _note(found))
    figures.save_png(figure, pictures / "training.png")
    return (
        '<ul class="legend"><li><i class="target"></i>Training batches</li>'
        '<li><i class="dots"></i>Validation rooms</li></ul>\n'
        f'<div class="pair">{"".join(cards)}</div>'
    )


def _training_card(number: int, title: str, train: _Series, val: _Series) -> str:
    figure, axes = figures.new_figure(320, 210)
    figures.draw_training(axes[0], train, val)
    ends = {"train": train[1][-1:], "validation": val[1][-1:]}
    last = ", ".join(f"{name} {values[0]:.4f}" for name, values in ends.items() if len(values))
    svg = figures.to_svg(figure, f"{title} by training step; at the end: {last}", f"log{number}")
    return f'<article class="card"><h3>{escaped(title)}</h3><figure>{svg}</figure></article>'


def _series(log: pl.DataFrame, name: str, split: str) -> _Series:
    rows = log.filter(pl.col("split") == split)
    return rows["step"].to_numpy().astype(np.float64), rows[name].to_numpy()
