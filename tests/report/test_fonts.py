"""Titles in scripts that matplotlib's own font lacks; the fonts are made here."""

import warnings
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from contentctr.report import fonts
from contentctr.report.figures import heading, new_figure, save_png

TITLE = "直播 tonight"


def make_font(path: Path, family: str, characters: str) -> Path:
    """A font in which every character is a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((0, 800))
    pen.lineTo((800, 800))
    pen.lineTo((800, 0))
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"uni{ord(c):04X}" for c in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): f"uni{ord(c):04X}" for c in characters})
    font.setupGlyf(dict.fromkeys(names, square))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, sTypoDescender=-200)
    font.setupPost()
    font.save(path)
    return path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch):
    """A machine with matplotlib's own fonts alone, and a list of what is installed later."""
    own = [f for f in font_manager.fontManager.ttflist if f.name.startswith("DejaVu")]
    later: list[str] = []
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: later)
    caches = (fonts._installed, fonts._find_new, fonts._charmap)
    for cache in caches:
        cache.cache_clear()
    yield later
    for cache in caches:
        cache.cache_clear()


def test_without_a_font_there_are_boxes_and_it_is_said_what_to_install(bare) -> None:
    assert fonts.families(TITLE) == [fonts.FONT]
    assert fonts.drawable(TITLE) == "□□ tonight"
    said = fonts.missing_fonts(TITLE)
    assert "2 of the characters" in said and "fonts-noto-cjk" in said
    assert "Korean: Noto Sans CJK" in fonts.missing_fonts("방송")
    assert "one of the Noto fonts" in fonts.missing_fonts("\U00012000")
    assert fonts.missing_fonts("plain é") == ""


def test_a_font_installed_since_is_found_and_used(bare, tmp_path: Path) -> None:
    bare.append(str(make_font(tmp_path / "cjk.ttf", "Noto Sans CJK SC", "直播")))
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    bare.append(str(tmp_path / "broken.ttf"))
    assert fonts.families("plain") == [fonts.FONT]  # nothing is looked for without need
    assert fonts.families(TITLE) == [fonts.FONT, "Noto Sans CJK SC"]
    assert fonts.drawable(TITLE) == TITLE and fonts.missing_fonts(TITLE) == ""
    figure, axes = new_figure(400, 200)
    heading(axes[0], TITLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a glyph that is missing
        save_png(figure, tmp_path / "x.png")
    assert axes[0].get_title(loc="left") == TITLE
