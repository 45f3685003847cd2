"""The page of a reproduction: our numbers beside the paper's, as HTML and as Markdown.

Tables are drawn from saved metrics.json files alone; Figure 6 also reads a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from contentctr.experiments.blocks import (
    Block,
    Grid,
    Items,
    Notice,
    Paragraph,
    Section,
    as_html,
    as_markdown,
    markdown_text,
)
from contentctr.experiments.figures import Canvas, draw
from contentctr.experiments.plan import ID_SETTINGS, ITEMS, OURS, Picture, Run, Table
from contentctr.experiments.results import (
    Agreement,
    Measured,
    Spread,
    agreement,
    difference,
    evaluations,
    measure,
    ours_of,
)
from contentctr.experiments.study import Study
from contentctr.files import write_text
from contentctr.report.pieces import escaped

PICTURE_FOLDER = "reproduction"
NO_BREAK = "\N{NO-BREAK SPACE}"


def write_page(study: Study, failures: Mapping[Path, str]) -> Path:
    """Write OUT/reproduction.html, the same as .md, and the figures as PNG.

    On the page is what was asked for, and whatever else has all its runs by now.

    Args:
        study: the reproduction.
        failures: why runs failed, by their folder.

    Returns:
        The HTML page.
    """
    simulated = bool(study.manifest()["simulated"])
    canvas = Canvas(folder=study.out / PICTURE_FOLDER, note="simulated" if simulated else "")
    shown = [key for key, item in ITEMS.items() if item in study.items or _complete(study, item)]
    sections = [Section(key="setup", title="Data and settings", blocks=_setup(study))]
    notes = _notes(study.out / "notes.md")
    if notes:
        sections.append(Section(key="notes", title="Notes", blocks=notes))
    for key in shown:
        item = ITEMS[key]
        if isinstance(item, Table):
            blocks = table_blocks(study, item, failures, simulated)
        else:
            blocks = draw(study, item, canvas)
        sections.append(Section(key=key, title=item.title, blocks=blocks))
    page = study.out / "reproduction.html"
    write_text(page.with_suffix(".md"), _markdown(study, sections, simulated))
    write_text(page, _html(study, sections, simulated))
    return page


def _complete(study: Study, item: Table | Picture) -> bool:
    return all(study.job(run, seed).finished for run in item.runs for seed in study.seeds)


# The head of the page


def _title(study: Study, simulated: bool) -> str:
    rooms = "simulated rooms" if simulated else "rooms"
    return f"The paper's experiments on {rooms}: {study.data.root.resolve().name}"


LEAD = (
    "Models of the paper “ContentCTR: Frame-level Live Streaming Click-Through Rate Prediction "
    "with Multimodal Transformer”, trained and tested on the data below. The paper's own numbers, "
    "beside ours, are of its data set KLive: only orders and differences can agree, not heights."
)
ROWS_OWN = (
    "Whatever the recipe and the settings say, the ID baselines have "
    f"{', '.join(ID_SETTINGS)}, Models 1 to 5 of Table 4 loss.align_weight=0 and a loss.pair of "
    "their own, and the last row of Table 4 loss.align=similarity."
)
SIMULATED = (
    "Simulated rooms: every number, curve and figure of ours on this page comes from simulated "
    "live rooms and simulated viewers, not from real ones."
)


def _setup(study: Study) -> list[Block]:
    manifest, facts = study.manifest(), _first_metrics(study)
    counts = manifest["counts"]
    by_split = ", ".join(f"{n:,} {split}" for split, n in counts["rooms_by_split"].items())
    rows = [
        ["Data", str(study.data.root.resolve().name)],
        ["Source", f"{manifest['source']}{' (simulated)' if manifest['simulated'] else ''}"],
        ["Target", str(manifest["target"])],
        ["Rooms", f"{counts['rooms']:,} ({by_split})"],
        ["Segments", f"{counts['segments']:,} of {manifest['segment_seconds']:g} s"],
    ]
    if facts:
        spec, references = facts["data_spec"], facts["references"]
        rows.append(["Test samples", f"{facts['metrics']['counts']['samples']:,}"])
        for part in ("visual", "text"):
            name = f"{spec[f'{part}_encoder']} (width {spec[f'{part}_dim']})"
            rows.append([f"{part.capitalize()} encoder", name])
        for key, name in (("streamer_mean", "Streamer mean"), ("oracle", "Oracle (ceiling)")):
            if references.get(key, {}).get("kendall_tau") is not None:
                rows.append([f"{name}, tau", f"{references[key]['kendall_tau']:.4f}"])
    rows += [
        ["Recipe", study.recipe],
        ["Settings", " ".join(study.settings) or "the recipe's"],
        ["Seeds", ", ".join(map(str, study.seeds))],
    ]
    words = (
        "The streamer mean knows each streamer's mean in the training rooms alone; the oracle, "
        "where rooms are simulated, knows the true click probability. A model's checkpoint is that "
        "of its best validation epoch; numbers are of the test rooms."
    )
    words += f" {ROWS_OWN} {_apart(study)}"
    return [
        Grid(name="Data and settings", head=["What", "Value"], rows=rows, small=True),
        Paragraph(text=words),
    ]


def _apart(study: Study) -> str:
    """What sets these experiments apart from the paper's, and may turn an order."""
    config = study.config(OURS)
    if config.train.finetune_encoders:
        encoders = "both encoders are trained too, as in the paper"
    else:
        encoders = "both encoders are frozen, where the paper trains them too"
    test = study.manifest()["counts"]["rooms_by_split"]["test"]
    return (
        "Where an order differs from the paper's, the data may be the reason (KLive's rooms, "
        "viewers and number of rooms are others), the sizes (here the model is "
        f"{config.model.d_model} wide and is trained for {config.train.epochs} epochs), the "
        f"encoders (here {encoders}), or chance: {test:,} test rooms and the seeds above are what "
        "a difference rests on. The spread over seeds does not hold what other rooms would change."
    )


def _first_metrics(study: Study) -> dict[str, Any] | None:
    """metrics.json of any finished run: the references do not depend on the model."""
    runs: list[Run] = [run for item in study.items for run in item.runs]
    found = (block for run in runs for block in evaluations(study, run).values())
    return next(found, None)


def _notes(path: Path) -> list[Block]:
    """The user's own words, a paragraph between blank lines each."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    return [Paragraph(text=" ".join(part.split())) for part in text.split("\n\n") if part.strip()]


# Tables


def table_blocks(
    study: Study, table: Table, failures: Mapping[Path, str], simulated: bool
) -> list[Block]:
    """A table, what failed of it, and how its order goes with the paper's."""
    rows = measure(study, table)
    blocks: list[Block] = [Paragraph(text=table.about)] if table.about else []
    blocks.append(_grid(study, table, rows, simulated))
    failed = [
        f"{job.label}: {failures[job.folder]}"
        for row in table.rows
        for seed in study.seeds
        if (job := study.job(row.run, seed)).folder in failures
    ]
    if failed:
        blocks.append(Notice(text=f"Failed runs, left out: {' | '.join(failed)}"))
    return [*blocks, *agreement_blocks(agreement(rows), len(study.seeds))]


def _grid(study: Study, table: Table, rows: Sequence[Measured], simulated: bool) -> Grid:
    mark = " (simulated)" if simulated else ""
    head = ["Model", f"Ours: tau{mark}", "Paper: tau", f"Ours: minus ContentCTR{mark}",
            "Paper: minus ContentCTR"]  # fmt: skip
    if table.with_ratio:
        head += [f"Ours: mean s/y{mark}", "Paper: mean s/y", "Seeds"]
    else:
        head += [f"Ours: tau inside a room{mark}", "Seeds"]
    ours, cells, group = ours_of(rows), list[list[str]](), ""
    for m in rows:
        if m.row.group != group:
            group = m.row.group
            cells.append([group, *[""] * (len(head) - 1)])
        own = m is ours
        paper = None if own or m.row.tau is None else m.row.tau - (ours.row.tau or 0)
        line = [
            m.row.label,
            show_spread(m.spread("kendall_tau")) if m.metrics else "missing",
            _number(m.row.tau),
            "" if own else show_spread(difference(m, ours), sign="+"),
            "" if own else _number(paper, sign="+"),
        ]
        if table.with_ratio:
            line += [show_spread(m.spread("mean_ratio")), _number(m.row.ratio)]
        else:
            line.append(show_spread(m.spread("kendall_tau_in_rooms")))
        cells.append([*line, f"{len(m.metrics)} of {len(study.seeds)}".replace(" ", NO_BREAK)])
    return Grid(name=table.title, head=head, rows=cells, numbers=range(1, len(head)))


def show_spread(values: Spread, sign: str = "") -> str:
    """Mean ± sample standard deviation over seeds; the mean alone for one seed."""
    if not values.values:
        return "–"
    spread = (
        "" if math.isnan(values.deviation) else f" ± {values.deviation:.4f}".replace(" ", NO_BREAK)
    )
    return f"{_number(values.mean, sign)}{spread}"


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.4f}".replace("-", "−")


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
            .replace("+-", "-")
        )  # fmt: skip
    blocks: list[Block] = [Paragraph(text=" ".join(words))]
    for key, title in (("opposite", "Against the paper"), ("close", "Too close to tell")):
        pairs = [pair for name, pairs in found.pairs.items() if name == key for pair in pairs]
        if pairs:
            lines = [f"{better} above {worse} in the paper" for better, worse in pairs]
            blocks.append(Items(summary=f"{title} ({len(pairs)})", lines=lines))
    return blocks


# Both forms


def _html(study: Study, sections: Sequence[Section], simulated: bool) -> str:
    template = resources.files("contentctr.report").joinpath("page.html").read_text("utf-8")
    return Template(template).substitute(
        title=escaped(_title(study, simulated)),
        lead=escaped(LEAD),
        notices=as_html(Notice(text=SIMULATED)) if simulated else "",
        nav=" ".join(f'<a href="#{s.key}">{escaped(s.title)}</a>' for s in sections),
        sections="\n".join(
            f'<section aria-labelledby="{s.key}"><h2 id="{s.key}">{escaped(s.title)}</h2>\n'
            + "\n".join(as_html(block) for block in s.blocks)
            + "</section>"
            for s in sections
        ),
        footer="The same as Markdown is in <code>reproduction.md</code>, the figures as PNG in "
        f"<code>{PICTURE_FOLDER}/</code>, the runs in <code>runs/</code>.",
    )


def _markdown(study: Study, sections: Sequence[Section], simulated: bool) -> str:
    parts = [f"# {markdown_text(_title(study, simulated))}", markdown_text(LEAD)]
    if simulated:
        parts.append(as_markdown(Notice(text=SIMULATED)))
    for section in sections:
        parts.append(f"## {markdown_text(section.title)}")
        parts += [as_markdown(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"
