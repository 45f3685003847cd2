"""Text of others, for a terminal or a page: what would control it is made visible."""

from __future__ import annotations

_JOINERS = "\u200c\u200d"
"""Of no width, and part of Persian words and of emoji."""
_BREAKS = "\x1c\x1d\x1e\x1f\x85\u2028\u2029"
"""Count as space, but some programs break lines at them."""


def visible(text: str) -> str:
    r"""Text in which control and direction characters are escaped.

    A name with an escape sequence could clear a terminal or colour what follows; one with a
    direction override could show another name than it is.

    Args:
        text: of any kind, lone surrogates among it.

    Returns:
        The same text on one line: printable characters and joiners as they are, spaces of any kind
        as " ", all else as `\x1b`, `\u202e` and so on.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(c) for c in text)


def _shown(c: str) -> str:
    if c.isprintable() or c in _JOINERS:
        return c
    if c.isspace() and c not in _BREAKS:
        return " "
    return c.encode("unicode_escape").decode()
