"""The one error a user's input can raise, and how it is worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class InputError(ValueError):
    """Something the user gave is wrong: the message names the place, the rule and the value.

    The command line prints the message alone and exits with 2; anything else that is raised is a
    fault of ours and keeps its traceback.
    """


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the optimiser has not moved, and `last` holds that state."""


def require(ok: bool, name: str, rule: str, value: object, *, of: str = "") -> None:
    """A setting keeps its rule; `of` says before its name whose setting it is.

    Raises:
        InputError: it does not: names the setting, the rule and the value.
    """
    if not ok:
        raise InputError(f"{of} {name} must be {rule}, not {value!r}".strip())


def near(wrong: str, known: Iterable[str], full: Mapping[str, str] | None = None) -> str:
    """The end of an error about an unknown name: those that it may have meant, nearest first.

    Args:
        wrong: what the user wrote.
        known: the names there are.
        full: how to write a known name, where it is another way.

    Returns:
        Such as "; did you mean 'small'?", or "" where none is near.
    """
    close = difflib.get_close_matches(wrong, list(known), n=3)
    names = [repr((full or {}).get(name, name)) for name in close]
    return f"; did you mean {' or '.join(names)}?" if names else ""
