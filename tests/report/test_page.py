from pathlib import Path
from typing import get_args

import jinja2
import numpy as np
import pytest
from markupsafe import Markup

import contentctr.report
from contentctr.counting import counted
from contentctr.report import blocks, canvas
from contentctr.report.cards import CurveCard, curve_cards
from contentctr.report.page import Page as PageOf
from contentctr.report.page import Section, _templates, page_html
from contentctr.report.words import show_value
from html_page import Page

NASTY = "<u>\"x' & {{ 7 * 7 }} ${y}"
LEAVES = (
    blocks.Paragraph(text=NASTY),
    blocks.Paragraph(text=NASTY, note=True),
    blocks.Notice(label=NASTY, text=NASTY),
    blocks.Items(summary=NASTY, lines=[NASTY]),
    blocks.Grid(name=NASTY, head=[NASTY, "n"], rows=[[(NASTY, NASTY), NASTY]], numbers=[1]),
    blocks.Bars(rows=[(NASTY, NASTY, 0.25), (NASTY, NASTY, None), (NASTY, NASTY, -0.5)]),
    blocks.Legend(items=[("target", NASTY)]),
    blocks.Figure(drawings=[Markup("<svg></svg>")], caption=NASTY),
    blocks.Highlights(times=[NASTY]),
)


def page_of(*parts, **changes):
    section = Section(key="a", title=NASTY, blocks=parts)
    return PageOf(**{"title": NASTY, "lead": NASTY, "sections": [section], **changes})


def test_every_kind_of_block_escapes_its_words():
    inner = blocks.Card(title=NASTY, badge=NASTY, facts=NASTY, blocks=LEAVES)
    fold = blocks.Fold(summary=NASTY, blocks=[blocks.Beside(cards=[inner], wide=True)])
    kinds = {type(block) for block in (*LEAVES, inner, fold, *fold.blocks)}
    assert kinds == set(get_args(blocks.Block))
    text = page_html(page_of(fold, mark=NASTY, notices=[LEAVES[2]], footer=[NASTY, NASTY]))
    assert "<u>" not in text and "49" not in text.split("</style>")[1]
    page = Page(text)
    page.assert_asks_no_host()
    assert NASTY in [attrs.get("aria-label") for _, attrs in page.tags]
    # Title and lead, notice, nav, heading and mark, footer; the card's and fold's; the leaves'.
    assert page.text.count(NASTY) == 2 + 2 + 1 + 2 + 2 + 3 + 1 + 2 + 2 + 2 + 4 + 6 + 1 + 1 + 1


def test_bars_have_their_numbers_as_widths():
    text = page_html(page_of(LEAVES[5]))
    assert [w.split('"')[0] for w in text.split('style="width:')[1:]] == ["25.0%", "0.0%", "0.0%"]
    assert "undefined" in text and "None" not in text


def test_sections_without_blocks_are_left_out():
    empty = Section(key="b", title="Nothing here", blocks=[])
    text = page_html(page_of(LEAVES[0], sections=[empty]))
    assert "Nothing here" not in text and "<h2" not in text


def test_a_field_that_is_not_there_stops_the_page():
    with pytest.raises(jinja2.UndefinedError):
        _templates().from_string("{{ page.titel }}").render(page=page_of())


def test_no_template_is_unused():
    folder = Path(contentctr.report.__file__).parent / "templates"
    used = {f"{kind.__name__.lower()}.html" for kind in get_args(blocks.Block)} | {
        "page.html",
        "page.css",
    }
    assert {path.name for path in folder.iterdir()} == used


def test_words_of_counts_and_values():
    assert [counted(n, "room") for n in (0, 1, 1200)] == ["0 rooms", "1 room", "1,200 rooms"]
    values = (True, 12000, 0.5, 7.0891472868, None, "", [], [1, "a"])
    shown = ["true", "12,000", "0.5", "7.08915", "–", "–", "–", "1, a"]
    assert [show_value(value) for value in values] == shown


@pytest.mark.parametrize(
    ("label", "title"),
    [
        ("Best of 12", "Best of 12 rooms: tau 0.5"),
        ("The only room with a tau", "The only room with a tau: tau 0.5"),
    ],
)
def test_a_curves_png_is_named_by_its_label(tmp_path, monkeypatch, label, title):
    titles = []

    monkeypatch.setattr(canvas, "heading", lambda ax, title, note: titles.append(title))
    card = CurveCard(
        label=label,
        heading="Room a",
        facts="",
        alt="a",
        png_title="tau 0.5",
        curve=tuple(map(np.array, ([0.0], [30.0], [0.5]))),
        style={},
    )
    on = canvas.Canvas(folder=tmp_path, note="")
    _, drawn = curve_cards([card], "room", [("predicted", "Predicted")], on)
    assert titles == [title] and drawn.badge == label
