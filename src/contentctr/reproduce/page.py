"""The page of a reproduction: our numbers beside the paper's, as HTML and as Markdown.

Tables are drawn from saved metrics.json files alone; Figure 6 also reads a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from contentctr.files import write_text
from contentctr.report.pieces import escaped
from contentctr.reproduce.blocks import (
    Block,
    Notice,
    Paragraph,
    Section,
    as_html,
    as_markdown,
    markdown_text,
)
from contentctr.reproduce.figures import Canvas, draw
from contentctr.reproduce.page_head import Head, head_of
from contentctr.reproduce.plan import ITEMS
from contentctr.reproduce.rows import Picture, Table
from contentctr.reproduce.study import Study
from contentctr.reproduce.tables import table_blocks

PICTURE_FOLDER = "reproduction"


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
    head = head_of(study)
    sections = [Section(key="setup", title="Data and settings", blocks=head.setup)]
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
    write_text(page.with_suffix(".md"), _markdown(head, sections))
    figures = any(isinstance(ITEMS[key], Picture) for key in shown)
    write_text(page, _html(head, sections, figures=figures))
    return page


def _complete(study: Study, item: Table | Picture) -> bool:
    """Whether an item of the study's task has all its runs."""
    return item.task == study.task and all(
        study.job(run, seed).finished for run in item.runs for seed in study.seeds
    )


def _notes(path: Path) -> list[Block]:
    """The user's own words, a paragraph between blank lines each."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    return [Paragraph(text=" ".join(part.split())) for part in text.split("\n\n") if part.strip()]


# Both forms


def _html(head: Head, sections: Sequence[Section], *, figures: bool) -> str:
    pngs = f", the figures as PNG in <code>{PICTURE_FOLDER}/</code>" if figures else ""
    template = resources.files("contentctr.report").joinpath("page.html").read_text("utf-8")
    return Template(template).substitute(
        title=escaped(head.title),
        lead=escaped(head.lead),
        notices=as_html(Notice(text=head.notice)) if head.notice else "",
        nav=" ".join(f'<a href="#{s.key}">{escaped(s.title)}</a>' for s in sections),
        sections="\n".join(
            f'<section aria-labelledby="{s.key}"><h2 id="{s.key}">{escaped(s.title)}</h2>\n'
            + "\n".join(as_html(block) for block in s.blocks)
            + "</section>"
            for s in sections
        ),
        footer=f"The same as Markdown is in <code>reproduction.md</code>{pngs}, the runs in "
        "<code>runs/</code>.",
    )


def _markdown(head: Head, sections: Sequence[Section]) -> str:
    parts = [f"# {markdown_text(head.title)}", markdown_text(head.lead)]
    if head.notice:
        parts.append(as_markdown(Notice(text=head.notice)))
    for section in sections:
        parts.append(f"## {markdown_text(section.title)}")
        parts += [as_markdown(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"
