"""The sections of live rooms that hold figures: rooms, predicted against true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from contentctr.metrics.ctr import kendall_tau
from contentctr.report import figures
from contentctr.report.cards import CurveCard, curve_cards
from contentctr.report.choice import best_median_worst
from contentctr.report.pieces import html_table, show_number, simulated_note
from contentctr.score.evaluation import Evaluation
from contentctr.score.highlights import Highlight, clock, find_highlights


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
    if not ranked:
        return [("Tau undefined", room) for room in rooms[:max_rooms]]
    return best_median_worst(ranked, max_rooms, "The only room with a tau")


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
    has_truth = any(room.rows["truth"].null_count() < room.rows.height for _, room in chosen)
    legend = [("", "Predicted"), ("target", f"True {target_name(found)}")]
    legend += [("truth", "True click probability (simulated)")] * has_truth
    legend += [("highlight", "Highlights, numbered from the best")]
    intro = (
        "<p>Chosen by Kendall's tau inside the room. Highlights are where the predicted curve is "
        "highest in its room. Time runs from the room's start.</p>"
    )
    cards = [_room_card(found, label, room) for label, room in chosen]
    return intro + curve_cards(cards, "room", legend, pictures)


def _room_card(found: Evaluation, label: str, room: RoomCurve) -> CurveCard:
    starts, ends, scores, target, truth = (
        room.rows[name].fill_null(np.nan).to_numpy()
        for name in ("start_s", "end_s", "score", "target", "truth")
    )
    best = find_highlights(scores, starts, ends)
    streamer = str(room.rows["streamer_id"][0])
    facts = f"Streamer {streamer} · " if streamer else ""
    facts += f"tau {show_number(room.tau)} over {room.samples:,} "
    facts += "segment" if room.samples == 1 else "segments"
    items = "".join(
        f"<li><b>{i}</b>{clock(h.start_s)}–{clock(h.end_s)}</li>" for i, h in enumerate(best, 1)
    )
    return CurveCard(
        label=label,
        heading=f"Room {room.room_id}",
        facts=facts,
        alt=_curve_alt(found, room, best),
        png_title=f"{label} rooms by tau",
        png_label=simulated_note(found.metrics),
        curve=(starts, ends, scores),
        style={
            "targets": None if np.isnan(target).all() else target,
            "truth": None if np.isnan(truth).all() else truth,
            "highlights": best,
        },
        below=f'<ol class="highlights" aria-label="Highlights">{items}</ol>' if best else "",
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
    figures.heading(axes[0], f"Predicted against true {target}", simulated_note(found.metrics))
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
    figures.heading(axes[0], "Calibration", simulated_note(found.metrics))
    figures.save_png(figure, pictures / "calibration.png")
    fewest, most = (f"{f(int(b['count']) for b in bins):,}" for f in (min, max))
    each = fewest if fewest == most else f"{fewest} to {most}"
    return (
        f'<article class="card"><h3>Calibration</h3><figure>{svg}<figcaption>{len(bins)} bins of '
        f"{each} segments each, by predicted value. Dashed: predicted equals true."
        "</figcaption></figure></article>"
    )
