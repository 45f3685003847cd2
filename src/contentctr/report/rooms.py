"""The report of an evaluation of live rooms: what stands in each of its sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contentctr.batch import IN_ROOM_SCALES
from contentctr.counting import counted
from contentctr.metrics.ctr import kendall_tau
from contentctr.report import figures
from contentctr.report.blocks import (
    Beside,
    Block,
    Card,
    Cell,
    Fold,
    Grid,
    Notice,
    Paragraph,
)
from contentctr.report.canvas import Canvas
from contentctr.report.cards import CurveCard, best_median_worst, curve_cards
from contentctr.report.floors import floors_blocks
from contentctr.report.page import Page, Section
from contentctr.report.training import training_blocks
from contentctr.report.words import (
    comparison,
    notices,
    reference_name,
    setup_blocks,
    show_number,
    simulated_mark,
    simulated_note,
    split_name,
    target_name,
)
from contentctr.score.choose import HighlightChoice, choose_highlights
from contentctr.score.evaluation import FORMS, Evaluation, sample_rule
from contentctr.score.highlights import clock

METRICS = FORMS["rooms"].metrics

SQUARE: figures.Sizes = (("", 440, 360),)
_REFERENCES = {
    "streamer_mean": ("Streamer mean", "knows only each streamer's mean in the training rooms"),
    "global_mean": ("Global mean", "says the training rooms' mean for every segment"),
    "oracle": ("Oracle (ceiling)", "knows the true click probability of the simulated rooms"),
}


def rooms_contents(found: Evaluation, pictures: Path, most: int) -> Page:
    """The page of an evaluation of live rooms.

    Args:
        found: its files.
        pictures: folder into which figures are written as PNGs too.
        most: rooms whose curve is shown.
    """
    metrics, counts = found.metrics, found.metrics["metrics"]["counts"]
    horizon = metrics["horizon"]
    where = "ahead" if horizon > 0 else "before the one it was made after"
    ahead = f" {counted(abs(horizon), 'segment')} {where}" if horizon else ""
    later = metrics["later_segments"] if horizon == 0 else 0
    canvas = Canvas(folder=pictures, note=simulated_note(metrics))
    training = training_blocks(found.log, "rooms", canvas)
    return Page(
        title=f"Predicted {target_name(metrics)} on {split_name(metrics)} rooms",
        lead=f"Each score predicts the {target_name(metrics)} of one segment of a live room"
        f"{ahead}. The metrics are taken over {counted(counts['samples'], 'segment')} of "
        f"{counted(counts['rooms'], 'room')}{_left_out(metrics)}.",
        notices=[
            *notices(metrics, "rooms", "live rooms and simulated viewers"),
            *([_no_forecast(later)] if later else []),
        ],
        mark=canvas.note,
        sections=[
            Section(key="result", title="Result", blocks=_result(found)),
            Section(key="metrics", title="Metrics", blocks=_metrics(found)),
            Section(key="rooms", title="Rooms", blocks=_rooms(found, most, canvas)),
            Section(key="fit", title="Predicted against true", blocks=_fit(found, canvas)),
            Section(key="training", title="Training", blocks=training),
            Section(key="setup", title="Setup", blocks=setup_blocks(metrics, metrics["counts"])),
        ],
        warning=canvas.lost(),  # of the pictures that the sections above have drawn
    )


def _no_forecast(later: int) -> Notice:
    """What a reader must know of scores of a model that sees later segments."""
    text = (
        f"a segment's score may depend on up to {counted(later, 'segment')} after it, which live "
        "nobody knows when it is due. It is no forecast, and not comparable with scores of models "
        "of live rooms; the rules of thumb beside it know earlier segments alone."
    )
    return Notice(label="Knows what comes after:", text=text)


def _result(found: Evaluation) -> list[Block]:
    tau, references = found.metrics["metrics"]["kendall_tau"], found.metrics["references"]
    ceiling = "the oracle's tau"
    if found.metrics["target"] == "ctr":
        ceiling += ", the ceiling that chance in the clicks leaves"
    compared = comparison(
        tau,
        ("the streamer mean", references.get("streamer_mean", {}).get("kendall_tau")),
        (ceiling, references.get("oracle", {}).get("kendall_tau")),
    )
    blocks = floors_blocks(found.metrics, _REFERENCES)
    # Of ranks inside rooms, tau over all rooms has no ceiling: two rooms' ranks do not compare.
    if compared and found.metrics["data_spec"].get("target_scale") not in IN_ROOM_SCALES:
        words = f"Kendall's tau over all segments{simulated_mark(found.metrics)}: {compared}"
        blocks.append(Paragraph(text=words))
    return blocks


# Metrics


def _metrics(found: Evaluation) -> list[Block]:
    labels = found.metrics.get("labels", {}).get("classes", {})
    blocks: list[Block] = [_metrics_table(found)]
    if "calibration" in found.metrics:
        blocks.append(Paragraph(text=_calibration_words(found.metrics["calibration"]), note=True))
    return [*blocks, *([_labels_table(labels)] if labels else [])]


def _calibration_words(block: Mapping[str, Any]) -> str:
    """What became of the model's own scores."""
    if block["method"] == "none":
        return f"The scores are the model's own: no calibration ({block['why']})."
    before, after = block["before"], block["after"]
    return (
        f"The scores are calibrated ({block['method']}, fitted on validation rooms; ranks stay): "
        f"log loss {show_number(before['log_loss'])} before, {show_number(after['log_loss'])} "
        f"after; calibration error {show_number(before['calibration_error'])} before, "
        f"{show_number(after['calibration_error'])} after."
    )


def _labels_table(labels: Mapping[str, Any]) -> Grid:
    """How well the scores find each class of the table of labels."""
    rows = [
        [
            name.removeprefix("label:") if name != "label" else "any label",
            f"{of['positives']:,}",
            show_number(of["base_rate"]),
            show_number(of["average_precision"]),
        ]
        for name, of in labels.items()
    ]
    head = ["Label", "Segments", "Base rate, which is chance", "Average precision"]
    return Grid(name="Labels", head=head, rows=rows, numbers=range(1, 4), small=True)


def _metrics_table(found: Evaluation) -> Grid:
    block = found.metrics["metrics"]
    # References that have tau alone stand in the bars above.
    others = {
        reference_name(_REFERENCES, name)[0]: reference
        for name, reference in found.metrics["references"].items()
        if any(metric in reference for metric in METRICS if metric != "kendall_tau")
    }
    about = _metric_names(block)
    rows: list[list[Cell]] = []
    for metric in about:
        name, says, over = about[metric]
        values = [show_number(block[metric])]
        values += [show_number(r[metric]) if metric in r else "–" for r in others.values()]
        rows.append([(name, says), *values, over])
    head = ["Metric", "This model", *others, "Taken over"]
    return Grid(name="Metrics", head=head, rows=rows, numbers=range(1, len(head) - 1))


def _metric_names(block: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Each metric's name, what it says, and what it is taken over; labels have some more."""
    counts, share = block["counts"], f"{100 * block['top_share']:g} %"
    segments = counted(counts["samples"], "segment")
    return {
        "kendall_tau": (
            "Kendall's tau",
            "rank agreement over all segments; higher is better",
            segments,
        ),
        "kendall_tau_in_rooms": (
            "Kendall's tau inside a room",
            "mean over rooms; higher is better",
            _rooms_over(counts, "tau"),
        ),
        "log_loss": ("Log loss", "cross-entropy in nats; lower is better", segments),
        "mean_ratio": (
            "Mean predicted / true",
            "1 is unbiased, but few viewers pull it up",
            f"{counted(counts['samples_with_positive_target'], 'segment')} above 0",
        ),
        "calibration_error": (
            "Calibration error",
            "mean gap over score bins; lower is better",
            segments,
        ),
        "precision_at_top": (
            f"Precision at the top {share}",
            f"share of a room's predicted top {share} in its true top; higher is better",
            _rooms_over(counts, "top"),
        ),
        **(_label_names(block, segments) if "base_rate" in block else {}),
    }


def _label_names(block: Mapping[str, Any], segments: str) -> dict[str, tuple[str, str, str]]:
    chance = f"chance is {show_number(block['base_rate'])}; higher is better"
    over = f"{segments}, {block['positives']:,} of them positive"
    return {
        "average_precision": ("Average precision", chance, over),
        "average_precision_in_rooms": (
            "Average precision inside a room",
            "mean over rooms; higher is better",
            f"{counted(block['rooms_with_positives'], 'room')} with a positive segment",
        ),
        "roc_auc": ("ROC AUC", "chance is 0.5; higher is better", over),
    }


def _rooms_over(counts: Mapping[str, int], what: str) -> str:
    undefined = counts[f"rooms_without_{what}"]
    more = f"; undefined in {undefined:,} more" if undefined else ""
    return f"{counted(counts[f'rooms_with_{what}'], 'room')}{more}"


def _left_out(metrics: Mapping[str, Any]) -> str:
    """Why not all segments are measured; "" where they are."""
    return sample_rule(metrics)


# Rooms


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


def choose_rooms(predictions: pl.DataFrame, max_rooms: int) -> list[tuple[str, RoomCurve]]:
    """The rooms to show, each with its label, by Kendall's tau inside the room.

    Best, median (the better of two middle ones) and worst come first, then others evenly spread
    over the ranks. Rooms whose tau is undefined are shown only where no room has one.
    """
    rooms = room_curves(predictions)
    ranked = sorted((r for r in rooms if not np.isnan(r.tau)), key=lambda r: (-r.tau, r.room_id))
    if not ranked:
        return [("Tau undefined", room) for room in rooms[:max_rooms]]
    return best_median_worst(ranked, max_rooms, "The only room with a tau")


def room_curves(predictions: pl.DataFrame) -> list[RoomCurve]:
    """Every room, in the order of the table."""
    curves = []
    for rows in predictions.partition_by("room_id", maintain_order=True):
        samples = _samples(rows)
        tau = kendall_tau(samples["score"].to_numpy(), samples["target"].to_numpy())
        curves.append(RoomCurve(rows, tau, samples.height))
    return curves


def _samples(predictions: pl.DataFrame) -> pl.DataFrame:
    known = pl.col("score").is_not_null() & pl.col("target").is_not_null()
    return predictions.filter(pl.col("is_sample") & known)


def _rooms(found: Evaluation, max_rooms: int, canvas: Canvas) -> list[Block]:
    """Curves of the chosen rooms."""
    chosen = choose_rooms(found.predictions, max_rooms)
    has_truth = any(room.rows["truth"].null_count() < room.rows.height for _, room in chosen)
    lines = [("predicted", "Predicted"), ("target", f"True {target_name(found.metrics)}")]
    lines += [("truth dotted", "True click probability (simulated)")] * has_truth
    lines += [("highlight box", "Highlights, numbered from the best")]
    intro = (
        "Chosen by Kendall's tau inside the room. Highlights are where the predicted curve is "
        "highest in its room. Time runs from the room's start."
    )
    cards = [_room_card(found, label, room) for label, room in chosen]
    return [Paragraph(text=intro), *curve_cards(cards, "room", lines, canvas)]


def _room_card(found: Evaluation, label: str, room: RoomCurve) -> CurveCard:
    starts, ends, scores, target, truth = (
        room.rows[name].fill_null(np.nan).to_numpy()
        for name in ("start_s", "end_s", "score", "target", "truth")
    )
    best, verdict = choose_highlights(scores, starts, ends, HighlightChoice())
    times = ", ".join(f"{clock(h.start_s)} to {clock(h.end_s)}" for h in best) or "none"
    streamer, tau = str(room.rows["streamer_id"][0]), f"tau {show_number(room.tau)}"
    facts = f"{tau} over {counted(room.samples, 'segment')}"
    if verdict:
        facts += f" · {verdict}"
    return CurveCard(
        label=label,
        heading=f"Room {room.room_id}",
        facts=f"Streamer {streamer} · {facts}" if streamer else facts,
        alt=f"Predicted and true {target_name(found.metrics)} of room {room.room_id} until "
        f"{clock(float(ends.max()))}. Highlights: {times}.",
        png_title=tau,
        curve=(starts, ends, scores),
        style={
            "targets": None if np.isnan(target).all() else target,
            "truth": None if np.isnan(truth).all() else truth,
            "highlights": best,
        },
        highlights=[f"{clock(h.start_s)}–{clock(h.end_s)}" for h in best],
    )


# Predicted against true


def _fit(found: Evaluation, canvas: Canvas) -> list[Block]:
    """Predicted against true, segment by segment and bin by bin."""
    samples, bins = _samples(found.predictions), found.metrics["metrics"]["calibration"]
    if not samples.height or not bins:
        return [Paragraph(text="No segment has both a score and a target.")]
    rows = [
        [str(i), f"{b['count']:,}", show_number(b["mean_score"]), show_number(b["mean_target"])]
        for i, b in enumerate(bins, 1)
    ]
    head = ["Bin", "Segments", "Mean predicted", "Mean true"]
    table = Grid(name="Calibration bins", head=head, rows=rows, numbers=range(1, 4), small=True)
    cards = [_against_card(found, samples, canvas), _calibration_card(found, bins, canvas)]
    return [Beside(cards=cards), Fold(summary="Calibration bins as a table", blocks=[table])]


def _against_card(found: Evaluation, samples: pl.DataFrame, canvas: Canvas) -> Card:
    target, count = target_name(found.metrics), counted(samples.height, "segment")
    scores, targets = samples["score"].to_numpy(), samples["target"].to_numpy()
    _, axes = figures.new_figure(*SQUARE[0][1:])
    fullest, outside = figures.draw_against(axes[0], scores, targets)
    caption = (
        f"{count}; the stronger the colour, the more of them (at most {fullest:,} in a cell). "
        "Dashed: predicted equals true."
    )
    if outside:
        caption += f" Above the axes: {counted(outside, 'segment')}."
    figure = canvas.draw(
        "against",
        f"Predicted against true {target}",
        f"Predicted against true {target} of {count}, with the diagonal",
        lambda ax: figures.draw_against(ax, scores, targets),
        SQUARE,
        caption=caption,
    )
    return Card(title="Each segment", blocks=[figure])


def _calibration_card(
    found: Evaluation, bins: Sequence[Mapping[str, float]], canvas: Canvas
) -> Card:
    x, y = [b["mean_score"] for b in bins], [b["mean_target"] for b in bins]
    pairs = "; ".join(f"{s:.3f}, {t:.3f}" for s, t in zip(x, y, strict=True))
    fewest, most = (f(int(b["count"]) for b in bins) for f in (min, max))
    each = counted(most, "segment") if fewest == most else f"{fewest:,} to {most:,} segments"
    figure = canvas.draw(
        "calibration",
        "Calibration",
        f"Mean predicted and mean true {target_name(found.metrics)} of each bin: {pairs}",
        lambda ax: figures.draw_calibration(ax, x, y),
        SQUARE,
        caption=f"{counted(len(bins), 'bin')} of {each}, by predicted value. Dashed: predicted "
        "equals true.",
    )
    return Card(title="Calibration", blocks=[figure])
