"""Lines for a terminal: the one place where text goes out, whoever wrote it."""

from __future__ import annotations

import re
import sys

from contentctr.visible import visible

_USER = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/@'\"]*@")
"""User and password in a URL."""


def say(line: str, *, result: bool = False) -> None:
    """Print a line, safe for terminals and for logs that others read.

    Ids, names, paths and what libraries say of them are text of others: what would control the
    terminal is made visible, and passwords in URLs are left out.

    Args:
        line: to print; its own line breaks stay.
        result: to the standard output; else to standard error.
    """
    text = "\n".join(map(safe, line.split("\n")))
    stream = sys.stdout if result else sys.stderr
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # A name with a lone surrogate, or a terminal that is not UTF-8, must not end the command.
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def safe(text: str) -> str:
    """One line of text as `say` prints it."""
    return _USER.sub(r"\1***@", visible(text))
