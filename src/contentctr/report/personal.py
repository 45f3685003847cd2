"""The report of an evaluation of personalized highlights: what stands in each of its sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contentctr.counting import counted
from contentctr.metrics.average_precision import chance_precision
from contentctr.report import figures
from contentctr.report.blocks import Beside, Block, Card, Grid, Legend, Paragraph
from contentctr.report.canvas import Canvas
from contentctr.report.cards import CurveCard, best_median_worst, curve_cards
from contentctr.report.page import Page, Section
from contentctr.report.training import training_blocks
from contentctr.report.words import (
    comparison,
    metric_bars,
    notices,
    setup_blocks,
    show_number,
    simulated_mark,
    simulated_note,
    split_name,
)
from contentctr.score.evaluation import FORMS, Evaluation
from contentctr.score.highlights import clock

METRICS = FORMS["personal"].metrics

HISTORY_GROUPS = ((0, 0), (1, 4), (5, 9), (10, 14), (15, 19), (20, None))
"""Fewest and most clips of each group of users."""
_REFERENCES = {
    "random": ("Random order", "scores drawn by chance, mean of many draws"),
    "oracle": ("Oracle", "knows the chance that the simulated user selects a frame"),
}
_ABOUT = {
    "map": ("mAP", "over frames, ranked by score: average precision of each user, then the mean"),
    "map_published": (
        "mAP as published",
        "as the evaluation published with PHD has it: frames have the mean score of their 5 s, "
        "and the precision is interpolated",
    ),
    "map_stretches": (
        "mAP over stretches",
        "of 5 s, by their mean score; one selected frame counts",
    ),
    "map_top5": ("Top-5 mAP", "average precision among the five best stretches of 5 s"),
}
assert tuple(_ABOUT) == METRICS


def personal_contents(found: Evaluation, pictures: Path, most: int) -> Page:
    """The page of an evaluation of personalized highlights.

    Args:
        found: its files.
        pictures: folder into which figures are written as PNGs too.
        most: users whose scores are shown.
    """
    metrics, counts = found.metrics, found.metrics["counts"]
    canvas = Canvas(folder=pictures, note=simulated_note(metrics))
    training = training_blocks(found.log, "users", canvas)
    return Page(
        title=f"Personalized highlights of {split_name(metrics)} users",
        lead="Each score says how likely one user is to select one frame of a video, given what "
        f"the user selected before. The metrics are taken over {counted(counts['frames'], 'frame')}"
        f" of {counted(counts['videos'], 'video')}, for {counted(counts['users'], 'user')}.",
        notices=notices(metrics, "videos", "videos and simulated users"),
        mark=canvas.note,
        sections=[
            Section(key="result", title="Result", blocks=_result(metrics)),
            Section(key="spread", title="Users", blocks=_spread(found, canvas)),
            Section(key="groups", title="History and captions", blocks=_groups(found)),
            Section(key="users", title="Scores over time", blocks=_users(found, most, canvas)),
            Section(key="training", title="Training", blocks=training),
            Section(key="setup", title="Setup", blocks=setup_blocks(metrics, _counts(metrics))),
        ],
        warning=canvas.lost(),  # of the pictures that the sections above have drawn
    )


def _result(metrics: dict[str, Any]) -> list[Block]:
    block, references, mark = metrics["metrics"], metrics["references"], simulated_mark(metrics)
    compared = comparison(
        block["map"],
        ("a random order", references.get("random", {}).get("map")),
        ("the oracle's mAP", references.get("oracle", {}).get("map")),
    )
    words = (
        f"Average precision{mark} says how well a user's scores rank the frames that the user "
        "selected above the others: 1 is perfect, and chance depends on how much of the video is "
        f"selected. {compared}"
    )
    cards = []
    for name in METRICS:
        title, about = _ABOUT[name]
        bars = metric_bars(metrics, name, _REFERENCES)
        cards.append(Card(title=title + mark, blocks=[Paragraph(text=about, note=True), bars]))
    note = Paragraph(text=_users_note(block), note=True)
    return [Paragraph(text=words), Beside(cards=cards, wide=True), note]


def _users_note(block: dict[str, Any]) -> str:
    words = f"Means over {counted(block['users'], 'user')}."
    if block["users_undefined"]:
        words += f" {block['users_undefined']:,} more selected no frame and have no precision."
    if block["users_all_positive"]:
        words += (
            f" {block['users_all_positive']:,} of them selected every frame, which is 1 whatever "
            "the scores."
        )
    return words


def _counts(metrics: dict[str, Any]) -> dict[str, Any]:
    block = metrics["metrics"]
    return {
        **metrics["counts"],
        "users_who_selected_nothing": block["users_undefined"],
        "users_who_selected_every_frame": block["users_all_positive"],
        "parameters_of_the_model": metrics["parameters"],
    }


# Users


def ranked_users(found: Evaluation) -> pl.DataFrame:
    """The users who have an average precision, from the best down, with `chance` beside it."""
    users = found.users.filter(pl.col("ap").is_not_null())
    chance_U = chance_precision(users["frames"].to_numpy(), users["highlight_frames"].to_numpy())
    return users.with_columns(chance=chance_U).sort("ap", "user_id", descending=[True, False])


def _spread(found: Evaluation, canvas: Canvas) -> list[Block]:
    """Each user's average precision, ranked, beside the user's chance."""
    users = ranked_users(found)
    if not users.height:
        return [Paragraph(text="No user has an average precision.")]
    values, chance = users["ap"].to_numpy(), users["chance"].to_numpy()
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    above = int((values > chance).sum())
    of_users = counted(users.height, "user")
    quartiles = f"quartiles {low:.3f}, {middle:.3f} and {high:.3f}"
    lines = [("predicted", "This model"), ("target dot", "Expected of a random order, same user")]
    figure = canvas.draw(
        "users",
        f"Average precision of {of_users}",
        f"Average precision of {of_users} from the best down, {quartiles}; {above:,} above chance",
        lambda ax: figures.draw_users(ax, values, chance),
        (("wide", 960, 260), ("narrow", 350, 240)),
        legend=lines,
        caption=f"Users above what a random order is expected to give them: {above:,} of "
        f"{users.height:,}; {quartiles}{simulated_mark(found.metrics)}.",
    )
    return [Legend(items=lines), Card(blocks=[figure])]


# History and captions


def _groups(found: Evaluation) -> list[Block]:
    """A table of mAP by length of history, and with and without captions."""
    users = ranked_users(found)
    groups = [("All users", pl.lit(True))]
    for low, high in HISTORY_GROUPS:
        inside = pl.col("history") >= low
        if high is not None:
            inside &= pl.col("history") <= high
        groups.append((f"History of {_clips(low, high)}", inside))
    groups += [("With captions", pl.col("captions")), ("Without captions", ~pl.col("captions"))]
    rows = []
    for name, inside in groups:
        chosen = users.filter(inside)
        if chosen.height:
            ap, chance = chosen["ap"].to_numpy(), chosen["chance"].to_numpy()
            gain = f"{float((ap - chance).mean()):+.3f}".replace("-", "−")
            means = [show_number(float(values.mean())) for values in (ap, chance)]
            rows.append([name, f"{chosen.height:,}", *means, gain])
    if not rows:
        return []
    words = (
        "How long a history is, and whether the video has captions, differ with the video too: "
        "compare the gain over chance. Chance is the average precision that a random order is "
        "expected to have."
    )
    head = ["Users", "Number", f"mAP{simulated_mark(found.metrics)}", "By chance", "Gain"]
    table = Grid(name="mAP of groups of users", head=head, rows=rows, numbers=range(1, 5))
    return [Paragraph(text=words), table]


def _clips(low: int, high: int | None) -> str:
    if high is None:
        return f"{counted(low, 'clip')} or more"
    return counted(low, "clip") if low == high else f"{low} to {high} clips"


# Scores over time


def choose_users(users: pl.DataFrame, most: int) -> list[tuple[str, str]]:
    """Label and id of the users to show, by average precision.

    Users who selected every frame have 1 whatever the scores: they, and those without an average
    precision, are shown only where there is nobody else.

    Args:
        users: as `ranked_users` gives them, or unranked ones without an average precision.
        most: at least 1.
    """
    telling = users.filter(
        pl.col("ap").is_not_null() & (pl.col("highlight_frames") < pl.col("frames"))
    )
    if not telling.height:
        return [("Precision tells nothing", user) for user in users["user_id"].head(most)]
    return best_median_worst(telling["user_id"].to_list(), most, "The only user to tell")


def _users(found: Evaluation, most: int, canvas: Canvas) -> list[Block]:
    """Scores of the chosen users over time."""
    ranked = ranked_users(found)
    chosen = choose_users(ranked if ranked.height else found.users, most)
    lines = [("predicted", "Score"), ("highlight box", "Selected by the user")]
    intro = (
        "Chosen by the user's average precision (AP), among users who did not select every frame. "
        "Time runs from the video's start."
    )
    cards = [_user_card(found, label, user_id) for label, user_id in chosen]
    return [Paragraph(text=intro), *curve_cards(cards, "user", lines, canvas)]


def _user_card(found: Evaluation, label: str, user_id: str) -> CurveCard:
    rows = found.predictions.filter(pl.col("user_id") == user_id)
    user = found.users.row(by_predicate=pl.col("user_id") == user_id, named=True)
    starts, ends, scores = (rows[name].to_numpy() for name in ("start_s", "end_s", "score"))
    spans = selected_spans(rows)
    times = ", ".join(f"{clock(start)} to {clock(end)}" for start, end in spans) or "nothing"
    ap = f"AP {show_number(user['ap'])}"
    facts = [f"Video {user['video_id']}"]
    if user["ap"] is not None:
        chance = float(chance_precision([user["frames"]], [user["highlight_frames"]])[0])
        facts.append(f"{show_number(chance)} by chance")
    facts.append(f"history of {user['history']:,}")
    facts.append("with captions" if user["captions"] else "no captions")
    facts.append(f"{user['highlight_frames']:,} of {counted(user['frames'], 'frame')} selected")
    return CurveCard(
        label=label,
        heading=f"User {user_id}: {ap}",
        facts=" · ".join(facts),
        alt=f"Scores of the video {user['video_id']} until {clock(float(ends[-1]))} for user "
        f"{user_id}, {ap}. Selected: {times}.",
        png_title=ap,
        curve=(starts, ends, scores),
        style={"selections": spans},
    )


def selected_spans(rows: pl.DataFrame) -> list[tuple[float, float]]:
    """Start and end, in seconds, of each run of selected frames of one user's sorted rows."""
    run = pl.col("frame") - pl.int_range(pl.len(), dtype=pl.Int32)
    chosen = rows.filter("selected").with_columns(run=run)
    spans = chosen.group_by("run", maintain_order=True).agg(
        pl.col("start_s").first(), pl.col("end_s").last()
    )
    return list(spans.select("start_s", "end_s").iter_rows())
