"""Puts the report page together: its head, the result, the tables; and writes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from contentctr.errors import InputError
from contentctr.files import write_text
from contentctr.report.pieces import escaped, html_table, show_number, show_value
from contentctr.report.saved import METRICS, Evaluation, read_evaluation
from contentctr.report.sections import fit_section, rooms_section, target_name, training_section

_REFERENCES = {
    "streamer_mean": ("Streamer mean", "knows only each streamer's mean in the training rooms"),
    "global_mean": ("Global mean", "says the training rooms' mean for every segment"),
    "oracle": ("Oracle (ceiling)", "knows the true click probability of the simulated rooms"),
}
_OURS = re.compile(r"(curve-(best|median|worst|\d+)|against|calibration|training)\.png")


def write_report(eval_dir: Path | str, out: Path | str | None = None, max_rooms: int = 12) -> Path:
    """Write the report page of an evaluation.

    Args:
        eval_dir: folder with predictions.parquet, metrics.json and perhaps training_log.jsonl.
        out: the HTML file; None: report.html in `eval_dir`. PNGs go into the folder beside it that
            has its name without the suffix; those of an earlier report there are replaced.
        max_rooms: rooms whose curve is shown, at least 1: the best, median and worst by Kendall's
            tau inside the room first, then others spread over the ranks.

    Returns:
        The HTML file.

    Raises:
        InputError: a file is missing or has another form, or `max_rooms` is below 1.
    """
    eval_dir = Path(eval_dir)
    page = eval_dir / "report.html" if out is None else Path(out)
    if max_rooms < 1:
        raise InputError(f"max_rooms must be at least 1, not {max_rooms}")
    if not page.suffix:
        raise InputError(f"{page}: the report must be an HTML file, such as {page}.html")
    found = read_evaluation(eval_dir)
    pictures = page.with_suffix("")
    for old in pictures.glob("*.png"):
        if _OURS.fullmatch(old.name):
            old.unlink()
    write_text(page, _page(found, max_rooms, pictures, eval_dir.resolve().name))
    return page


def _page(found: Evaluation, max_rooms: int, pictures: Path, folder: str) -> str:
    sections = [
        ("result", "Result", _result(found)),
        ("metrics", "Metrics", _metrics_table(found)),
        ("rooms", "Rooms", rooms_section(found, max_rooms, pictures)),
        ("fit", "Predicted against true", fit_section(found, pictures)),
        ("training", "Training", training_section(found, pictures)),
        ("setup", "Setup", _setup(found)),
    ]
    shown = [section for section in sections if section[2]]
    template = resources.files("contentctr.report").joinpath("page.html").read_text("utf-8")
    return Template(template).substitute(
        title=_title(found),
        lead=_lead(found),
        notices=_notices(found),
        nav=" ".join(f'<a href="#{key}">{name}</a>' for key, name, _ in shown),
        sections="\n".join(
            f'<section aria-labelledby="{key}"><h2 id="{key}">{name}</h2>\n{body}</section>'
            for key, name, body in shown
        ),
        footer=f"Made from the files in <code>{escaped(folder)}</code>. The same figures as PNG "
        f"are in <code>{escaped(pictures.name)}/</code>.",
    )


# The head of the page


def _title(found: Evaluation) -> str:
    simulated = "simulated " if found.metrics["simulated"] else ""
    split = {"train": "training", "val": "validation"}.get(
        found.metrics["split"], found.metrics["split"]
    )
    return escaped(f"Predicted {target_name(found)} on {simulated}{split} rooms")


def _lead(found: Evaluation) -> str:
    counts = found.metrics["metrics"]["counts"]
    horizon = found.metrics["horizon"]
    ahead = f" {horizon} segment{'s' * (horizon > 1)} ahead" if horizon else ""
    return escaped(
        f"Each score predicts the {target_name(found)} of one segment of a live room{ahead}. The "
        f"metrics are taken over {counts['samples']:,} segments of {counts['rooms']:,} rooms."
    )


def _notices(found: Evaluation) -> str:
    if found.metrics["simulated"]:
        words = (
            "<strong>Simulated rooms:</strong> every number and curve on this page comes from "
            "simulated live rooms and simulated viewers, not from real ones."
        )
    elif found.metrics.get("trained_on_simulated") is True:
        words = "<strong>Trained on simulated rooms:</strong> the rooms here are real; the model's "
        words += "training rooms were not."
    else:
        return ""
    return f'<p class="notice" role="note">{words}</p>'


# Result and metrics


def _result(found: Evaluation) -> str:
    mark = " (simulated)" if found.metrics["simulated"] else ""
    bars = [_bar("This model", _kind(found), found.metrics["metrics"]["kendall_tau"], "model")]
    for name, reference in found.metrics["references"].items():
        bars.append(_bar(*_reference_name(name), reference["kendall_tau"], "reference"))
    rows = "\n".join(bars)
    return (
        f"<p>Kendall's tau{mark} says how well the scores rank all segments: 1 is the true order, "
        f'0 is chance. {_comparison(found)}</p>\n<ul class="bars">\n{rows}\n</ul>\n'
    )


def _bar(name: str, about: str, value: float | None, css_class: str) -> str:
    width = 100 * max(0.0, value or 0.0)
    return (
        f'<li class="{css_class}"><span class="name">{escaped(name)} '
        f'<small>{escaped(about)}</small></span><span class="number">{show_number(value)}</span>'
        f'<span class="track" aria-hidden="true"><span style="width:{width:.1f}%"></span></span>'
        "</li>"
    )


def _comparison(found: Evaluation) -> str:
    tau, references = found.metrics["metrics"]["kendall_tau"], found.metrics["references"]
    words = []
    mean = references.get("streamer_mean", {}).get("kendall_tau")
    if tau is not None and mean is not None:
        side = "above" if tau >= mean else "below"
        words.append(f"The model is {abs(tau - mean):.3f} {side} the streamer mean")
    oracle = references.get("oracle", {}).get("kendall_tau")
    if tau is not None and oracle is not None and oracle > 0:
        words.append(f"reaches {100 * tau / oracle:.0f} % of the oracle's tau, the ceiling that ")
        words[-1] += "chance in the clicks leaves"
    text = " and ".join(words)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _kind(found: Evaluation) -> str:
    model = found.metrics["config"].get("model")
    return str(model.get("kind", "")) if isinstance(model, dict) else ""


def _reference_name(name: str) -> tuple[str, str]:
    return _REFERENCES.get(name, (name.replace("_", " ").capitalize(), ""))


def _metrics_table(found: Evaluation) -> str:
    block = found.metrics["metrics"]
    counts, share = block["counts"], f"{100 * block['top_share']:g} %"
    about = {
        "kendall_tau": ("Kendall's tau", "rank agreement over all segments; higher is better",
                        f"{counts['samples']:,} segments"),
        "kendall_tau_in_rooms": ("Kendall's tau inside a room", "mean over rooms; higher is better",
                                 _rooms_over(counts, "tau")),
        "log_loss": ("Log loss", "cross-entropy in nats; lower is better",
                     f"{counts['samples']:,} segments"),
        "mean_ratio": ("Mean predicted / true", "1 is unbiased, but few viewers pull it up",
                       f"{counts['samples_with_positive_target']:,} segments above 0"),
        "calibration_error": ("Calibration error", "mean gap over score bins; lower is better",
                              f"{counts['samples']:,} segments"),
        "precision_at_top": (f"Precision at the top {share}",
                             f"share of a room's predicted top {share} in its true top; higher is "
                             "better",
                             _rooms_over(counts, "top")),
    }  # fmt: skip
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


# Setup


def _setup(found: Evaluation) -> str:
    rows = [
        [escaped(k.replace("_", " ")), show_value(v)] for k, v in found.metrics["counts"].items()
    ]
    parts = [html_table("Counts", ["Counted", "Number"], rows, numbers=[1], css_class="small")]
    for title, name in (("Data", "data_spec"), ("Settings", "config")):
        flat = [[escaped(k), show_value(v)] for k, v in _flat(found.metrics[name])]
        if flat:
            table = html_table(title, ["Name", "Value"], flat, css_class="small")
            parts.append(f"<details><summary>{title}</summary>{table}</details>")
    return "\n".join(parts)


def _flat(block: dict[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in block.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
