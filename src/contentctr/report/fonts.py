"""Fonts of figures: one that comes with matplotlib, then installed ones for other scripts."""

from __future__ import annotations

import functools
import unicodedata

from matplotlib import font_manager

FONT = "DejaVu Sans"  # ships with matplotlib
OTHERS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC"),
    *("Source Han Sans SC", "Source Han Sans JP", "Source Han Sans KR", "Source Han Sans"),
    *("Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Noto Sans TC"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Meiryo", "MS Gothic", "Malgun Gothic"),
    *("PingFang SC", "Heiti SC", "Heiti TC", "STHeiti", "Hiragino Sans", "Hiragino Sans GB"),
    *("Apple SD Gothic Neo", "AppleGothic", "NanumGothic", "Nanum Gothic", "UnDotum"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "IPAexGothic", "IPAGothic", "TakaoGothic"),
    *("Droid Sans Fallback", "Arial Unicode MS", "Noto Sans Thai", "Noto Sans Devanagari"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Unifont"),
)
"""Families for what FONT lacks, of Linux, Windows and macOS; the first that has a character draws
it. Those of one language before another make its forms of the shared characters."""
_HINTS = (
    ("CJK", "Chinese, Japanese and Korean: Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)"),
    ("HIRAGANA", "Japanese: Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)"),
    ("KATAKANA", "Japanese: Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)"),
    ("HANGUL", "Korean: Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)"),
    ("THAI", "Thai: Noto Sans Thai (Debian, Ubuntu: fonts-noto-core)"),
    ("DEVANAGARI", "Hindi: Noto Sans Devanagari (Debian, Ubuntu: fonts-noto-core)"),
)
"""What to install, by how Unicode names the characters."""


def families(text: str = "") -> list[str]:
    """Families to draw a text with, in the order in which they are asked for a character."""
    found = _installed()
    if any(not _has(found, c) for c in set(text)) and _find_new():
        found = _installed()
    return list(found)


def drawable(text: str) -> str:
    """`text` in one line, with a box for each character that no font here has.

    matplotlib would warn of each.
    """
    line = " ".join(text.split())
    found = tuple(families(line))
    return "".join(c if _has(found, c) else "\N{WHITE SQUARE}" for c in line)


def missing_fonts(text: str) -> str:
    """What to install for the characters of a text that no font here has; "" if there are none."""
    line = " ".join(text.split())
    found = tuple(families(line))
    lost = sorted({c for c in line if not _has(found, c)})
    if not lost:
        return ""
    names = [unicodedata.name(c, "") for c in lost]
    hints = [hint for script, hint in _HINTS if any(script in name for name in names)]
    for_what = hints[0] if hints else "them, such as one of the Noto fonts"
    return (
        f"no installed font has {len(lost)} of the characters of pictures' titles, which are "
        f"boxes there; install one for {for_what}"
    )


@functools.cache
def _installed() -> tuple[str, ...]:
    names = {font.name for font in font_manager.fontManager.ttflist}
    return (FONT, *(name for name in OTHERS if name in names))


@functools.cache
def _find_new() -> bool:
    """Take in fonts that were installed since matplotlib made its list; once a process."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    added = False
    for path in font_manager.findSystemFonts():
        if path in known:
            continue
        try:
            font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError):  # one that FreeType cannot read
            continue
        added = True
    if added:
        _installed.cache_clear()
    return added


def _has(families: tuple[str, ...], character: str) -> bool:
    return any(ord(character) in _charmap(family) for family in families)


@functools.cache
def _charmap(family: str) -> frozenset[int]:
    path = font_manager.findfont(family)
    return frozenset(font_manager.get_font(path).get_charmap())
