"""The page of a reproduction: our numbers beside the paper's, as HTML and as Markdown.

Tables are drawn from saved metrics.json files alone; Figure 6 also reads a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from contentctr.files import write_text
from contentctr.report.blocks import Block, Paragraph
from contentctr.report.canvas import Canvas
from contentctr.report.page import Section, page_html
from contentctr.reproduce.figures import draw
from contentctr.reproduce.markdown import page_markdown
from contentctr.reproduce.page_head import head_of
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
    shown = [item for item in study.known if item in study.items or _complete(study, item)]
    head = head_of(study)
    sections = [*head.sections, Section(key="notes", title="Notes", blocks=_notes(study.out))]
    for item in shown:
        if isinstance(item, Table):
            blocks = table_blocks(study, item, failures, simulated)
        else:
            blocks = draw(study, item, canvas)
        sections.append(Section(key=item.key, title=item.title, blocks=blocks))
    pictures = any(isinstance(item, Picture) for item in shown)
    page = replace(
        head, sections=[s for s in sections if s.blocks], footer=_footer(pictures=pictures)
    )
    path = study.out / "reproduction.html"
    write_text(path.with_suffix(".md"), page_markdown(page))
    write_text(path, page_html(page))
    return path


def _footer(*, pictures: bool) -> list[str]:
    pngs = [", the figures as PNG in ", f"{PICTURE_FOLDER}/"] if pictures else []
    return ["The same as Markdown is in ", "reproduction.md", *pngs, ", the runs in ", "runs/", "."]


def _complete(study: Study, item: Table | Picture) -> bool:
    """Whether an item has all its runs."""
    return all(study.job(run, seed).finished for run in item.runs for seed in study.seeds)


def _notes(out: Path) -> list[Block]:
    """The user's own words in OUT/notes.md, a paragraph between blank lines each."""
    path = out / "notes.md"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    return [Paragraph(text=" ".join(part.split())) for part in text.split("\n\n") if part.strip()]
