"""Numbers and sentences of evaluation pages, as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from contentctr.batch import target_words
from contentctr.report.blocks import Bars, Block, Fold, Grid, Notice

# Numbers


def show_number(value: float | None) -> str:
    """A metric with three digits after the point, four where it is small."""
    if value is None or np.isnan(value):
        return "undefined"
    return f"{value:.4f}" if abs(value) < 0.01 and value else f"{value:.3f}"


def show_value(value: object) -> str:
    """A setting or a count."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(show_value, value)) or "–"
    return "–" if value is None or value == "" else str(value)


# What an evaluation is of


def target_name(metrics: Mapping[str, Any]) -> str:
    """What a model of live rooms predicts, for people."""
    return target_words(str(metrics["target"]))


def split_name(metrics: Mapping[str, Any]) -> str:
    """The split, for people; "simulated" before it where it is."""
    split = str(metrics["split"])
    name = {"train": "training", "val": "validation"}.get(split, split)
    return f"simulated {name}" if metrics["simulated"] else name


def simulated_note(metrics: Mapping[str, Any]) -> str:
    """The word "simulated" or nothing, for pictures and sections."""
    return "simulated" if metrics["simulated"] else ""


def simulated_mark(metrics: Mapping[str, Any]) -> str:
    """The same behind a name: a table or card may be shown without its page."""
    return " (simulated)" if metrics["simulated"] else ""


def model_kind(metrics: Mapping[str, Any]) -> str:
    """The model's name in the settings; "" where they have none."""
    model = metrics["config"].get("model")
    return str(model.get("kind", "")) if isinstance(model, dict) else ""


def reference_name(known: Mapping[str, tuple[str, str]], key: str) -> tuple[str, str]:
    """Name of a reference, and what it does; of one that is not `known` its key alone."""
    return known.get(key, (key.replace("_", " ").capitalize(), ""))


def metric_bars(
    metrics: Mapping[str, Any], metric: str, known: Mapping[str, tuple[str, str]]
) -> Bars:
    """A metric of the model above the same of the references; `known` as `reference_name` has."""
    rows = [("This model", model_kind(metrics), metrics["metrics"][metric])]
    for key, reference in metrics["references"].items():
        rows.append((*reference_name(known, key), reference[metric]))
    return Bars(rows=rows)


def comparison(
    value: float | None,
    below: tuple[str, float | None],
    ceiling: tuple[str, float | None],
) -> str:
    """How far the model is above a simple reference, and how near to the ceiling; "" if neither.

    Args:
        value: the model's number.
        below: words for the simple reference, and its number.
        ceiling: words for the ceiling's number, and that number.
    """
    words = []
    if value is not None and below[1] is not None:
        side = "above" if value >= below[1] else "below"
        words.append(f"is {abs(value - below[1]):.3f} {side} {below[0]}")
    # Beside a ceiling at or below 0 a share would say nothing.
    if value is not None and ceiling[1] is not None and ceiling[1] > 0:
        words.append(f"reaches {100 * value / ceiling[1]:.0f} % of {ceiling[0]}")
    return f"The model {' and '.join(words)}." if words else ""


def notices(metrics: Mapping[str, Any], things: str, made: str) -> Sequence[Notice]:
    """What the page's numbers come from, where that is not the world; none where it is.

    Args:
        metrics: of metrics.json.
        things: what the data is of, such as "rooms".
        made: what a simulation makes, such as "live rooms and simulated viewers".
    """
    if metrics["simulated"]:
        text = (
            f"every number and curve on this page comes from simulated {made}, not from real ones."
        )
        return [Notice(label=f"Simulated {things}:", text=text)]
    if metrics.get("trained_on_simulated") is True:
        text = f"the {things} here are real; the model's training {things} were not."
        return [Notice(label=f"Trained on simulated {things}:", text=text)]
    return []


# Setup


def setup_blocks(metrics: Mapping[str, Any], counts: Mapping[str, Any]) -> list[Block]:
    """Counts, and folded beneath them the data and the settings."""
    rows = [[name.replace("_", " "), show_value(value)] for name, value in counts.items()]
    head = ["Counted", "Number"]
    blocks: list[Block] = [Grid(name="Counts", head=head, rows=rows, numbers=[1], small=True)]
    for title, name in (("Data", "data_spec"), ("Settings", "config")):
        table = value_table(title, metrics[name])
        if table.rows:
            blocks.append(Fold(summary=title, blocks=[table]))
    return blocks


def value_table(title: str, block: Mapping[str, Any]) -> Grid:
    """A table of a block's names and values."""
    rows = [[name, show_value(value)] for name, value in _flat(block)]
    return Grid(name=title, head=[title, "Value"], rows=rows, small=True)


def _flat(block: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Names and values of a block; a name inside another block has that one's before it."""
    for name, value in block.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
