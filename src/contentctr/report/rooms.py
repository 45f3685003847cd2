"""The report of an evaluation of live rooms: its head, the result, and the metrics."""

from __future__ import annotations

from pathlib import Path

from contentctr.report.pieces import (
    Contents,
    bars,
    comparison,
    escaped,
    html_table,
    model_kind,
    notice,
    setup_section,
    show_number,
    simulated_note,
    split_name,
)
from contentctr.report.room_sections import fit_section, rooms_section, target_name
from contentctr.report.training import training_section
from contentctr.score.evaluation import FORMS, Evaluation

METRICS = FORMS["rooms"].metrics
_REFERENCES = {
    "streamer_mean": ("Streamer mean", "knows only each streamer's mean in the training rooms"),
    "global_mean": ("Global mean", "says the training rooms' mean for every segment"),
    "oracle": ("Oracle (ceiling)", "knows the true click probability of the simulated rooms"),
}


def rooms_contents(found: Evaluation, pictures: Path, most: int) -> Contents:
    """The page of an evaluation of live rooms.

    Args:
        found: its files.
        pictures: folder into which figures are written as PNGs too.
        most: rooms whose curve is shown.
    """
    metrics = found.metrics
    return Contents(
        title=escaped(f"Predicted {target_name(found)} on {split_name(metrics)} rooms"),
        lead=_lead(found),
        notice=notice(metrics, "rooms", "live rooms and simulated viewers"),
        mark=simulated_note(metrics),
        sections=[
            ("result", "Result", _result(found)),
            ("metrics", "Metrics", _metrics_table(found)),
            ("rooms", "Rooms", rooms_section(found, most, pictures)),
            ("fit", "Predicted against true", fit_section(found, pictures)),
            ("training", "Training", training_section(found.log, metrics, "rooms", pictures)),
            ("setup", "Setup", setup_section(metrics, metrics["counts"])),
        ],
    )


def _lead(found: Evaluation) -> str:
    counts = found.metrics["metrics"]["counts"]
    horizon = found.metrics["horizon"]
    ahead = f" {horizon} segment{'s' * (horizon > 1)} ahead" if horizon else ""
    return escaped(
        f"Each score predicts the {target_name(found)} of one segment of a live room{ahead}. The "
        f"metrics are taken over {counts['samples']:,} segments of {counts['rooms']:,} rooms."
    )


def _result(found: Evaluation) -> str:
    tau, references = found.metrics["metrics"]["kendall_tau"], found.metrics["references"]
    mark = " (simulated)" if found.metrics["simulated"] else ""
    rows = [("This model", model_kind(found.metrics), tau)]
    rows += [(*_reference_name(name), r["kendall_tau"]) for name, r in references.items()]
    compared = comparison(
        tau,
        ("the streamer mean", references.get("streamer_mean", {}).get("kendall_tau")),
        (
            "the oracle's tau, the ceiling that chance in the clicks leaves",
            references.get("oracle", {}).get("kendall_tau"),
        ),
    )
    return (
        f"<p>Kendall's tau{mark} says how well the scores rank all segments: 1 is the true order, "
        f"0 is chance. {compared}</p>\n{bars(rows)}\n"
    )


def _reference_name(name: str) -> tuple[str, str]:
    return _REFERENCES.get(name, (name.replace("_", " ").capitalize(), ""))


def _metrics_table(found: Evaluation) -> str:
    block = found.metrics["metrics"]
    counts, share = block["counts"], f"{100 * block['top_share']:g} %"
    about = {
        "kendall_tau": (
            "Kendall's tau",
            "rank agreement over all segments; higher is better",
            f"{counts['samples']:,} segments",
        ),
        "kendall_tau_in_rooms": (
            "Kendall's tau inside a room",
            "mean over rooms; higher is better",
            _rooms_over(counts, "tau"),
        ),
        "log_loss": (
            "Log loss",
            "cross-entropy in nats; lower is better",
            f"{counts['samples']:,} segments",
        ),
        "mean_ratio": (
            "Mean predicted / true",
            "1 is unbiased, but few viewers pull it up",
            f"{counts['samples_with_positive_target']:,} segments above 0",
        ),
        "calibration_error": (
            "Calibration error",
            "mean gap over score bins; lower is better",
            f"{counts['samples']:,} segments",
        ),
        "precision_at_top": (
            f"Precision at the top {share}",
            f"share of a room's predicted top {share} in its true top; higher is better",
            _rooms_over(counts, "top"),
        ),
    }
    # References that have tau alone stand in the bars above.
    others = {
        _reference_name(name)[0]: reference
        for name, reference in found.metrics["references"].items()
        if any(metric in reference for metric in METRICS if metric != "kendall_tau")
    }
    rows = []
    for metric in METRICS:
        name, meaning, over = about[metric]
        values = [show_number(block[metric])]
        values += [show_number(r[metric]) if metric in r else "–" for r in others.values()]
        rows.append([f"{escaped(name)}<small>{escaped(meaning)}</small>", *values, escaped(over)])
    head = ["Metric", "This model", *map(escaped, others), "Taken over"]
    return html_table("Metrics", head, rows, numbers=range(1, len(head) - 1))


def _rooms_over(counts: dict[str, int], what: str) -> str:
    undefined = counts[f"rooms_without_{what}"]
    more = f"; undefined in {undefined:,} more" if undefined else ""
    return f"{counts[f'rooms_with_{what}']:,} rooms{more}"
