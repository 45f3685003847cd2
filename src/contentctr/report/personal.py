"""The report of an evaluation of personalized highlights: its head, the result, the groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contentctr.report.pieces import (
    Contents,
    bars,
    comparison,
    escaped,
    model_kind,
    notice,
    setup_section,
    simulated_note,
    split_name,
)
from contentctr.report.saved_personal import METRICS, PersonalEvaluation
from contentctr.report.training import training_section
from contentctr.report.user_sections import groups_section, spread_section, users_section

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
    "map_top5": ("Top-5 mAP", "average precision among the five best segments of 5 s"),
}
assert tuple(_ABOUT) == METRICS


def personal_contents(found: PersonalEvaluation, pictures: Path, most: int) -> Contents:
    """The page of an evaluation of personalized highlights.

    Args:
        found: its files.
        pictures: folder into which figures are written as PNGs too.
        most: users whose scores are shown.
    """
    metrics = found.metrics
    counts = metrics["counts"]
    return Contents(
        title=escaped(f"Personalized highlights of {split_name(metrics)} users"),
        lead=escaped(
            "Each score says how likely one user is to select one frame of a video, given what "
            f"the user selected before. The metrics are taken over {_count(counts, 'frames')} of "
            f"{_count(counts, 'videos')}, for {_count(counts, 'users')}."
        ),
        notice=notice(metrics, "videos", "videos and simulated users"),
        mark=simulated_note(metrics),
        sections=[
            ("result", "Result", _result(metrics)),
            ("spread", "Users", spread_section(found, pictures)),
            ("groups", "History and captions", groups_section(found)),
            ("users", "Scores over time", users_section(found, most, pictures)),
            ("training", "Training", training_section(found.log, metrics, "users", pictures)),
            ("setup", "Setup", setup_section(metrics, _counted(metrics))),
        ],
    )


def _result(metrics: dict[str, Any]) -> str:
    block, references = metrics["metrics"], metrics["references"]
    mark = " (simulated)" if metrics["simulated"] else ""
    compared = comparison(
        block["map"],
        ("a random order", references.get("random", {}).get("map")),
        ("the oracle's mAP", references.get("oracle", {}).get("map")),
    )
    tiles = "\n".join(_tile(metrics, name, mark) for name in METRICS)
    return (
        f"<p>Average precision{mark} says how well a user's scores rank the frames that the user "
        "selected above the others: 1 is perfect, and chance depends on how much of the video is "
        f'selected. {compared}</p>\n<div class="pair tiles">{tiles}</div>\n{_users_note(block)}'
    )


def _tile(metrics: dict[str, Any], name: str, mark: str) -> str:
    """One metric of the model beside the references'."""
    title, about = _ABOUT[name]
    rows = [("This model", model_kind(metrics), metrics["metrics"][name])]
    for key, reference in metrics["references"].items():
        known = _REFERENCES.get(key, (key.replace("_", " ").capitalize(), ""))
        rows.append((*known, reference[name]))
    return (
        f'<article class="card"><h3>{escaped(title + mark)}</h3>'
        f'<p class="note">{escaped(about)}</p>\n{bars(rows)}</article>'
    )


def _users_note(block: dict[str, Any]) -> str:
    words = f"Means over {_count(block, 'users')}."
    if block["users_undefined"]:
        words += f" {block['users_undefined']:,} more selected no frame and have no precision."
    if block["users_all_positive"]:
        words += (
            f" {block['users_all_positive']:,} of them selected every frame, which is 1 whatever "
            "the scores."
        )
    return f'<p class="note">{words}</p>'


def _count(counts: dict[str, Any], name: str) -> str:
    """A count and its noun, such as "12 users"."""
    number = counts[name]
    return f"{number:,} {name[:-1] if number == 1 else name}"


def _counted(metrics: dict[str, Any]) -> dict[str, Any]:
    block = metrics["metrics"]
    return {
        **metrics["counts"],
        "users_who_selected_nothing": block["users_undefined"],
        "users_who_selected_every_frame": block["users_all_positive"],
        "parameters_of_the_model": metrics["parameters"],
    }
