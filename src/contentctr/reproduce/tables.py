"""The blocks of a table: our numbers beside the paper's, and words on their order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from contentctr.report.blocks import Block, Grid, Items, Notice, Paragraph
from contentctr.reproduce.results import (
    Agreement,
    Measured,
    Spread,
    Verdict,
    against_floor,
    agreement,
    difference,
    measure,
    ours_of,
)
from contentctr.reproduce.rows import Metric, Reference, Table
from contentctr.reproduce.study import Study

NO_BREAK = "\N{NO-BREAK SPACE}"


def table_blocks(
    study: Study, table: Table, failures: Mapping[Path, str], simulated: bool
) -> list[Block]:
    """A table, what failed of it, and how its order goes with the paper's."""
    rows = measure(study, table)
    blocks: list[Block] = [Paragraph(text=table.about)] if table.about else []
    blocks.append(_grid(study, table, rows, simulated))
    failed = [
        f"{job.label}: {failures[job.folder]}"
        for row in table.trained
        for seed in study.seeds
        if (job := study.job(row.run, seed)).folder in failures
    ]
    if failed:
        blocks.append(Notice(text=f"Failed runs, left out: {' | '.join(failed)}"))
    blocks += agreement_blocks(agreement(rows, table.main), len(study.seeds))
    return [*blocks, *floor_blocks(rows, table)]


def _grid(study: Study, table: Table, rows: Sequence[Measured], simulated: bool) -> Grid:
    mark, main, name = " (simulated)" if simulated else "", table.main, table.task.name
    head = [
        "Model",
        f"Ours: {main.heading}{mark}",
        f"Paper: {main.heading}",
        f"Ours: minus {name}{mark}",
        f"Paper: minus {name}",
    ]
    others = table.metrics[1:]
    in_paper = {metric.key for metric in others for row in table.rows if metric.key in row.paper}
    for metric in others:
        head.append(f"Ours: {metric.heading}{'' if metric.fixed else mark}")
        head += [f"Paper: {metric.heading}"] if metric.key in in_paper else []
    head.append("Seeds")
    cells, group = list[list[str]](), ""
    for m in rows:
        if m.row.group != group:
            group = m.row.group
            cells.append([group, *[""] * (len(head) - 1)])
        line = _main_cells(m, ours_of(rows, table), main)
        for metric in others:
            line.append(_value(m, metric))
            line += [metric.show(m.row.paper.get(metric.key))] if metric.key in in_paper else []
        seeds = "" if isinstance(m.row, Reference) else f"{len(m.metrics)} of {len(study.seeds)}"
        cells.append([*line, seeds.replace(" ", NO_BREAK)])
    return Grid(name=table.title, head=head, rows=cells, numbers=range(1, len(head)))


def _main_cells(m: Measured, ours: Measured, metric: Metric) -> list[str]:
    """A row's label, its main metric and the paper's, and both differences to our model."""
    paper, papers_ours = m.row.paper.get(metric.key), ours.row.paper.get(metric.key)
    both = [m.row.label, _value(m, metric) if m.metrics else "missing", metric.show(paper)]
    if m is ours:
        return [*both, "", ""]
    gap = None if paper is None or papers_ours is None else paper - papers_ours
    return [
        *both,
        show_spread(difference(m, ours, metric), metric, sign="+"),
        metric.show(gap, sign="+"),
    ]


def _value(m: Measured, metric: Metric) -> str:
    """A metric of a row; references are the same at every seed, so they have no spread."""
    found = m.spread(metric)
    if metric.fixed or isinstance(m.row, Reference):
        found = Spread(values=found.values[:1])
    return show_spread(found, metric)


def show_spread(values: Spread, metric: Metric, sign: str = "") -> str:
    """Mean ± sample standard deviation over seeds; the mean alone for one seed."""
    if not values.values:
        return metric.show(None)
    spread = "" if math.isnan(values.deviation) else f" ± {metric.show(values.deviation)}"
    return f"{metric.show(values.mean, sign)}{spread.replace(' ', NO_BREAK)}"


def agreement_blocks(found: Agreement, seeds: int) -> list[Block]:
    """In words: where our order agrees with the paper's, where not, and what is open."""
    counts = {name: len(pairs) for name, pairs in found.pairs.items()}
    total = sum(counts.values())
    if not total or not found.rows:
        return [Paragraph(text="There is nothing yet to compare with the paper's order.")]
    words = [f"The paper orders {total} pairs of these rows."]
    if counts["unknown"] == total:
        words.append(
            "With fewer than two seeds nothing says how much of a difference is chance, so whether "
            "ours are ordered the same cannot be told."
        )
    else:
        words.append(
            f"Ours are ordered the same in {counts['same']}, the opposite way in "
            f"{counts['opposite']}, and too close to tell in {counts['close']}: there the mean "
            "difference, paired over seeds, lies within two of its standard errors of 0."
        )
        if counts["unknown"]:
            words.append(f"{counts['unknown']} more lack two seeds of both rows.")
        if seeds < 5:
            words.append(f"With {seeds} seeds that rule is loose: a few pairs pass it by chance.")
        if not counts["opposite"]:
            words.append("No pair stands against the paper.")
    if not math.isnan(found.tau):
        words.append(
            f"Kendall's tau between the paper's order and that of our means is {found.tau:+.2f} "
            f"over {found.rows} rows (1: the same order, 0: none in common, −1: the reverse)."
        )
    blocks: list[Block] = [Paragraph(text=" ".join(words))]
    for key, title in (("opposite", "Against the paper"), ("close", "Too close to tell")):
        pairs = [pair for name, pairs in found.pairs.items() if name == key for pair in pairs]
        if pairs:
            lines = [f"{better} above {worse} in the paper" for better, worse in pairs]
            blocks.append(Items(summary=f"{title} ({len(pairs)})", lines=lines))
    return blocks


_VERDICTS: dict[Verdict, str] = {
    "same": "Above it",
    "opposite": "Below it",
    "close": "Too close to tell, by the same rule",
    "unknown": "Open, with fewer than two seeds",
}


def floor_blocks(rows: Sequence[Measured], table: Table) -> list[Block]:
    """In words: which of the paper's models are above the rows that they must beat."""
    blocks: list[Block] = []
    for floor in rows:
        if floor.row.label in table.floors and floor.metrics:
            found = against_floor(rows, floor, table.main)
            words = [
                f"{text}: {', '.join(found[key])}." for key, text in _VERDICTS.items() if found[key]
            ]
            first = f"A personal model should be above “{floor.row.label}”."
            blocks.append(Paragraph(text=" ".join([first, *words])))
    return blocks
