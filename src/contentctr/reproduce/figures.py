"""The paper's Figures 4, 5 and 6 from finished runs, each with a word on what it shows.

Everything is of one seed, the first. Shape suffixes as in batch.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from contentctr.errors import InputError
from contentctr.models.dtw import dtw_path
from contentctr.models.ensemble import members_of
from contentctr.models.losses import cosine_matrix
from contentctr.report.blocks import Beside, Block, Card, Legend, Paragraph
from contentctr.report.canvas import Canvas, Lines
from contentctr.report.figures import (
    ACROSS,
    PALETTE,
    Sizes,
    draw_curve,
)
from contentctr.report.rooms import room_curves
from contentctr.report.words import show_number, target_name
from contentctr.reproduce.plan import ID_ROWS, MODEL_2, MODEL_3, OURS
from contentctr.reproduce.results import evaluations
from contentctr.reproduce.rows import Picture, Row, Run
from contentctr.reproduce.study import Study
from contentctr.score import checkpoint as checkpoints
from contentctr.score.evaluation import Evaluation, read_evaluation
from contentctr.score.highlights import clock
from contentctr.store.rooms import PreparedRooms
from contentctr.windows.rooms import Windows, gather, sample_windows
from contentctr.windows.segment_data import SegmentData, load_segments

Floats = NDArray[np.float64]
NUM_WINDOWS = 3
SMOOTH_POINTS = 60


SQUARE: Sizes = (("", 400, 340),)


def draw(study: Study, picture: Picture, canvas: Canvas) -> list[Block]:
    """A figure's blocks; a paragraph that says so where its runs are missing or damaged."""
    painters: dict[str, Callable[[Study, Canvas], list[Block]]] = {
        "fig4": draw_curves,
        "fig5": draw_losses,
        "fig6": draw_paths,
    }
    runs = (OURS,) if picture.key == "fig4" else picture.runs
    missing = [run.name for run in runs if not study.job(run, study.seeds[0]).finished]
    if missing:
        return [Paragraph(text=f"Not drawn: no finished run of {', '.join(missing)}.")]
    try:
        return painters[picture.key](study, canvas)
    except InputError as error:  # the rest of the page need not suffer
        return [Paragraph(text=f"Not drawn: {error}.")]


# Figure 4


def draw_curves(study: Study, canvas: Canvas) -> list[Block]:
    """The observed target, ContentCTR and the best ID model in three test rooms."""
    seed = study.seeds[0]
    ours = read_evaluation(study.job(OURS, seed).evaluation)
    best = best_id_row(study)
    other = read_evaluation(study.job(best.run, seed).evaluation) if best else None
    rooms = quartile_rooms(ours)
    if not rooms:
        return [Paragraph(text="Not drawn: no test room in which Kendall's tau is defined.")]
    simulated = bool(ours.metrics["simulated"])
    legend = [("target", f"Observed {target_name(ours.metrics)}"), ("predicted", "ContentCTR")]
    legend += [("truth", best.label)] if best else []
    legend += [("muted dotted", "True click probability, dotted (simulated)")] if simulated else []
    parts = [
        _room(ours, other, best, room, tau, canvas, f"fig4-{number}", legend)
        for number, (room, tau) in enumerate(rooms, 1)
    ]
    words = (
        "The rooms are those at the quartiles of Kendall's tau inside a room, as ContentCTR ranks "
        f"the test rooms at seed {seed}. "
    )
    if best:
        words += f"{best.label} is the ID model of the highest mean tau."
    else:
        words += "No ID model has a finished run."
    return [Paragraph(text=words), Legend(items=legend), *parts]


def best_id_row(study: Study) -> Row | None:
    """The ID baseline of the highest mean tau, among those whose first seed is finished."""
    means = {}
    for row in ID_ROWS:
        found = evaluations(study, row.run)
        taus = [f["metrics"]["kendall_tau"] for f in found.values()]
        known = [tau for tau in taus if tau is not None]
        if study.seeds[0] in found and known:
            means[row] = float(np.mean(known))
    return max(means, key=lambda row: means[row]) if means else None


def quartile_rooms(found: Evaluation) -> list[tuple[str, float]]:
    """Rooms at the quartiles of the tau inside a room, and their tau; the lowest first."""
    rooms = [room for room in room_curves(found.predictions) if not np.isnan(room.tau)]
    rooms.sort(key=lambda room: (room.tau, room.room_id))
    places = {round(share * (len(rooms) - 1)) for share in (0.25, 0.5, 0.75)} if rooms else set()
    return [(rooms[place].room_id, rooms[place].tau) for place in sorted(places)]


def _room(
    ours: Evaluation,
    other: Evaluation | None,
    best: Row | None,
    room: str,
    tau: float,
    canvas: Canvas,
    key: str,
    legend: Lines,
) -> Card:
    def column(found: Evaluation, name: str) -> Floats:
        rows = found.predictions.filter(pl.col("room_id") == room)
        return rows[name].fill_null(np.nan).to_numpy()

    starts, ends = column(ours, "start_s"), column(ours, "end_s")

    def paint(ax: Axes) -> None:
        truth = column(ours, "truth")
        if not np.isnan(truth).all():
            ax.plot(
                (starts + ends) / 2,
                truth,
                color=PALETTE["muted"],
                linewidth=1.2,
                linestyle=(0, (1, 2)),
            )
        if other is not None:
            middle = (column(other, "start_s") + column(other, "end_s")) / 2
            ax.plot(middle, column(other, "score"), color=PALETTE["truth"], linewidth=1.8)
        scores, targets = column(ours, "score"), column(ours, "target")
        draw_curve(ax, starts, ends, scores, targets)

    title = f"Room {room}: tau {show_number(tau)}"
    alt = (
        f"Observed {target_name(ours.metrics)} of room {room} until {clock(float(ends[-1]))}, with "
        f"the predictions of ContentCTR{f' and {best.label}' if best else ''}."
    )
    figure = canvas.draw(key, title, alt, paint, ACROSS, legend=legend)
    return Card(title=title, blocks=[figure])


# Figure 5


def draw_losses(study: Study, canvas: Canvas) -> list[Block]:
    """Pointwise and pairwise loss during training with L0 and with L1."""
    models = (("Model2 (L0)", MODEL_2, "truth"), ("Model3 (L1)", MODEL_3, "predicted"))
    legend = [(role, label) for label, _, role in models]
    parts, said = [], []
    for name, symbol in (("point", "L_point"), ("pair", "L_pair")):
        lines = [(label, role, *smoothed(study, run, name)) for label, run, role in models]
        facts = [f"{label} {_course(values)}" for label, _, _, values in lines]
        said.append(f"{symbol}: {'; '.join(facts)}.")

        def paint(ax: Axes, lines: Any = lines) -> None:
            for _, role, epochs, values in lines:
                ax.plot(epochs, values, color=PALETTE[role], linewidth=1.8)
            ax.set_xlabel("Epoch", fontsize=11, color=PALETTE["muted"])

        alt = f"{symbol} against epochs. {'; '.join(facts)}."
        size = (("", 470, 300),)
        figure = canvas.draw(f"fig5-{name}", symbol, alt, paint, size, legend=legend)
        parts.append(Card(title=symbol, blocks=[figure]))
    words = (
        f"Training loss at seed {study.seeds[0]}, in means over at most {SMOOTH_POINTS} stretches "
        f"of steps. {' '.join(said)} In the paper Model2's pointwise loss rises again while "
        "its pairwise loss falls on. The two pairwise losses count different pairs, so their "
        "heights do not compare; their courses do."
    )
    return [Paragraph(text=words), Legend(items=legend), Beside(cards=parts)]


def smoothed(study: Study, run: Run, name: str) -> tuple[Floats, Floats]:
    """Epochs and a loss of the training steps, averaged in at most SMOOTH_POINTS stretches."""
    found = read_evaluation(study.job(run, study.seeds[0]).evaluation)
    if found.log is None:
        return np.empty(0), np.empty(0)
    rows = found.log.filter((pl.col("split") == "train") & pl.col(name).is_not_null())
    epochs = study.config(run).train.epochs if rows.height else 0
    steps = rows["step"].to_numpy().astype(np.float64)
    per_epoch = _steps_per_epoch(found.log, steps, epochs)
    parts = np.array_split(np.arange(len(steps)), min(len(steps), SMOOTH_POINTS)) if epochs else []
    values = rows[name].to_numpy()
    x = np.array([steps[part].mean() / per_epoch for part in parts])
    return x, np.array([values[part].mean() for part in parts])


def _steps_per_epoch(log: pl.DataFrame, steps: Floats, epochs: int) -> float:
    """From the first validation round, which ends an epoch; else from the last step."""
    rounds = log.filter(pl.col("split") == "val")["step"]
    if len(rounds):
        return float(rounds.to_numpy().min())
    return float(steps[-1]) / epochs if len(steps) else 1.0


def _course(values: Floats) -> str:
    if not len(values):
        return "has no log"
    low = show_number(float(values.min()))
    first, last = show_number(float(values[0])), show_number(float(values[-1]))
    return f"begins at {first}, is lowest at {low}, ends at {last}"


# Figure 6


def draw_paths(study: Study, canvas: Canvas) -> list[Block]:
    """Cosine similarities of some test windows' tokens, with the alignment path."""
    checkpoint = checkpoints.load(study.job(OURS, study.seeds[0]).folder / "run")
    parts, steps = [], []
    for number, (where, cosine_NN) in enumerate(similarities(checkpoint, study), 1):
        path = dtw_path(1.0 - cosine_NN)
        off = sum(i != j for i, j in path)
        steps.append((off, len(path)))
        low, high = float(cosine_NN.min()), float(cosine_NN.max())

        def paint(ax: Axes, values: Tensor = cosine_NN, path: Any = path) -> None:
            draw_matrix(ax, values.numpy(), path)

        alt = (
            f"Cosines of the text and visual tokens of {where}, from {low:.2f} to {high:.2f}. "
            f"{off} of the path's {len(path)} cells lie off the diagonal."
        )
        figure = canvas.draw(f"fig6-{number}", f"Window {number}", alt, paint, SQUARE)
        title = f"{where}: cosines {low:.2f} to {high:.2f}"
        parts.append(Card(title=title, blocks=[figure]))
    if not parts:
        return [Paragraph(text="Not drawn: no test window has both frames and text.")]
    cells = ", ".join(f"{off} of {length}" for off, length in steps)
    words = (
        f"ContentCTR at seed {study.seeds[0]}, over 1 - cosine. Text runs down, pictures across, "
        "one segment each; the darker, the more alike, from the lowest to the highest cosine of "
        "the window, which stand above it. The red line is the alignment path; on the diagonal "
        f"nothing is shifted. Off the diagonal lie {cells} of the cells of the paths. The windows "
        "are spread evenly over the test windows in which every segment has frames and text, or "
        "over all where there is none."
    )
    return [Paragraph(text=words), Beside(cards=parts)]


def similarities(checkpoint: checkpoints.Checkpoint, study: Study) -> Iterator[tuple[str, Tensor]]:
    """Name and cosines float32 [N, N] of the chosen test windows, text down."""
    assert isinstance(study.data, PreparedRooms)
    config, finetuned = checkpoint.config.data, checkpoint.finetuned
    data = load_segments(
        study.data,
        checkpoint.vocabulary,
        split="test",
        horizon=config.horizon,
        inputs=finetuned,
        content=True,
        model=checkpoint.config.model,
    )
    windows = sample_windows(data, config, checkpoint.spec.target)
    chosen = choose_windows(data, windows)
    if not len(chosen):
        return
    # Each member of an ensemble has tokens of its own; the first is the study's first seed.
    model = checkpoint.load_end_to_end() if finetuned else members_of(checkpoint.load_model())[0]
    batch = gather(data, windows, chosen, config.window_len)
    with torch.inference_mode():
        output = model(batch)
    cosine_BNN = cosine_matrix(
        output.text_BND, output.visual_BND, batch.has_text_BN, batch.has_visual_BN
    ).float()
    for row, number in enumerate(chosen):
        first, length = int(windows.first_W[number]), int(windows.length_W[number])
        start, end = data.table["start_s"][first], data.table["end_s"][first + length - 1]
        name = f"Room {data.table['room_id'][first]}, {clock(start)} to {clock(end)}"
        yield name, cosine_BNN[row, :length, :length].clone()


def choose_windows(data: SegmentData, windows: Windows) -> NDArray[np.int64]:
    """NUM_WINDOWS windows, spread evenly over those whose every segment has frames and text."""
    text_S = data.has_speech_S.numpy() | data.has_comments_S.numpy()
    both_S = (data.has_visual_S.numpy().astype(bool)) & text_S.astype(bool)
    spans = [
        slice(first, first + length)
        for first, length in zip(windows.first_W, windows.length_W, strict=True)
    ]
    whole = np.flatnonzero([both_S[span].all() for span in spans])
    some = np.flatnonzero([both_S[span].any() for span in spans])
    among = whole if len(whole) else some
    places = ((np.arange(NUM_WINDOWS) + 0.5) / NUM_WINDOWS * len(among)).astype(int)
    return among[np.unique(places)] if len(among) else among


def draw_matrix(ax: Axes, values_NN: Floats, path: Sequence[tuple[int, int]]) -> None:
    """Values as squares, the darker the higher, row 0 on top, with a path of (row, column)."""
    rows, columns = values_NN.shape
    low, high = float(values_NN.min()), float(values_NN.max())
    strength_NN = 0.04 + 0.9 * (values_NN - low) / max(high - low, 1e-9)
    cells = list(itertools.product(range(rows), range(columns)))
    squares = [Rectangle((j - 0.5, i - 0.5), 1, 1) for i, j in cells]
    colors = [to_rgba(PALETTE["truth"], float(strength_NN[i, j])) for i, j in cells]
    ax.add_collection(PatchCollection(squares, facecolors=colors, edgecolors="none"))
    ax.plot(
        [j for _, j in path],
        [i for i, _ in path],
        color=PALETTE["predicted"],
        linewidth=2,
        marker="o",
        markersize=3.5,
    )
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.grid(False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("Visual segment", fontsize=11, color=PALETTE["muted"])
    ax.set_ylabel("Text segment", fontsize=11, color=PALETTE["muted"])
