"""The sections of personalized highlights: users' average precision, and scores over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from contentctr.metrics.average_precision import chance_precision
from contentctr.report import figures
from contentctr.report.cards import CurveCard, curve_cards, legend_list
from contentctr.report.choice import best_median_worst
from contentctr.report.pieces import html_table, show_number, simulated_note
from contentctr.score.evaluation import Evaluation
from contentctr.score.highlights import clock

HISTORY_GROUPS = ((0, 0), (1, 4), (5, 9), (10, 14), (15, 19), (20, None))
"""Fewest and most clips of each group of users."""


def ranked_users(found: Evaluation) -> pl.DataFrame:
    """The users who have an average precision, from the best down, with `chance` beside it."""
    users = found.users.filter(pl.col("ap").is_not_null())
    chance_U = chance_precision(users["frames"].to_numpy(), users["highlight_frames"].to_numpy())
    return users.with_columns(chance=chance_U).sort("ap", "user_id", descending=[True, False])


def spread_section(found: Evaluation, pictures: Path) -> str:
    """Each user's average precision, ranked, beside the user's chance; a PNG too."""
    users = ranked_users(found)
    if not users.height:
        return "<p>No user has an average precision.</p>"
    values, chance = users["ap"].to_numpy(), users["chance"].to_numpy()
    note = simulated_note(found.metrics)
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    above = int((values > chance).sum())
    of_users = f"{users.height:,} user{'s' * (users.height > 1)}"
    quartiles = f"quartiles {low:.3f}, {middle:.3f} and {high:.3f}"
    alt = f"Average precision of {of_users} from the best down, {quartiles}; {above:,} above chance"
    drawings = []
    for css_class, width, height in (("wide", 960, 260), ("narrow", 350, 240)):
        figure, axes = figures.new_figure(width, height)
        figures.draw_users(axes[0], values, chance)
        said = f"{note.capitalize()}. {alt}" if note else alt
        drawings.append(figures.to_svg(figure, said, f"spread{css_class}", css_class))
    figure, axes = figures.new_figure(960, 300)
    figures.draw_users(axes[0], values, chance)
    figures.heading(axes[0], f"Average precision of {of_users}; dots: by chance", note)
    figures.save_png(figure, pictures / "users.png")
    lines = [("", "This model"), ("chance", "Expected of a random order, same user")]
    return (
        f'{legend_list(lines)}\n<article class="card"><figure>{"".join(drawings)}<figcaption>'
        f"{above:,} of {of_users} are above what a random order is expected to give them; "
        f"{quartiles}{' (simulated)' if note else ''}.</figcaption></figure></article>"
    )


# History and captions


def groups_section(found: Evaluation) -> str:
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
        return ""
    mark = " (simulated)" if found.metrics["simulated"] else ""
    head = ["Users", "Number", f"mAP{mark}", "By chance", "Gain"]
    return (
        "<p>How long a history is, and whether the video has captions, differ with the video too: "
        "compare the gain over chance. Chance is the average precision that a random order is "
        "expected to have.</p>\n" + html_table("mAP of groups of users", head, rows, range(1, 5))
    )


def _clips(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} clips or more"
    return f"{low} clips" if low == high else f"{low} to {high} clips"


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


def users_section(found: Evaluation, most: int, pictures: Path) -> str:
    """Scores of the chosen users over time; also writes them to the folder `pictures`."""
    ranked = ranked_users(found)
    chosen = choose_users(ranked if ranked.height else found.users, most)
    legend = [("", "Score"), ("highlight", "Selected by the user")]
    intro = (
        "<p>Chosen by the user's average precision (AP), among users who did not select every "
        "frame. Time runs from the video's start.</p>"
    )
    cards = [_user_card(found, label, user_id) for label, user_id in chosen]
    return intro + curve_cards(cards, "user", legend, pictures)


def _user_card(found: Evaluation, label: str, user_id: str) -> CurveCard:
    rows = found.predictions.filter(pl.col("user_id") == user_id)
    user = found.users.row(by_predicate=pl.col("user_id") == user_id, named=True)
    starts, ends, scores = (rows[name].to_numpy() for name in ("start_s", "end_s", "score"))
    spans = selected_spans(rows)
    ap = f"AP {show_number(user['ap'])}"
    facts = f"Video {user['video_id']} · "
    if user["ap"] is not None:
        chance = float(chance_precision([user["frames"]], [user["highlight_frames"]])[0])
        facts += f"{show_number(chance)} by chance · "
    facts += f"history of {user['history']:,} · {'with' if user['captions'] else 'no'} captions · "
    facts += f"{user['highlight_frames']:,} of {user['frames']:,} frames selected"
    note = simulated_note(found.metrics)
    times = ", ".join(f"{clock(start)} to {clock(end)}" for start, end in spans) or "nothing"
    alt = (
        f"{'Simulated. ' if note else ''}Scores of the video {user['video_id']} until "
        f"{clock(float(ends[-1]))} for user {user_id}, {ap}. Selected: {times}."
    )
    return CurveCard(
        label=label,
        heading=f"User {user_id}: {ap}",
        facts=facts,
        alt=alt,
        png_title=f"{label} users: {ap}",
        png_label=note,
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
