"""What prepared data and models know of where their speech is from."""

from __future__ import annotations

from collections.abc import Iterable

FILES, NONE = "files", "none"
"""Sources beside recognisers (`source_of`): transcripts of any origin; no speech in any room."""
_BETWEEN = " | "


def join_sources(sources: Iterable[str]) -> str:
    """Some rooms' sources as one text; NONE if there are none."""
    return _BETWEEN.join(sorted(set(sources))) or NONE


def split_sources(text: str) -> list[str]:
    """The sources in a text of `join_sources`; "" is of data that does not say."""
    return [source for source in text.split(_BETWEEN) if source not in ("", NONE)]


def recogniser_name(text: str) -> str | None:
    """The one recogniser among sources, as a user names it; None if there is none, or several."""
    names = [source.rpartition("@")[0] for source in split_sources(text) if source != FILES]
    return names[0] if len(names) == 1 else None


def difference(trained: str, given: str) -> str:
    """What to tell a user of speech from other sources than a model was trained on; "" if nothing.

    Args:
        trained: sources of the model's data, of `join_sources`; "": not known.
        given: those of what it is used on.
    """
    known = {_version(source) for source in split_sources(trained)}
    new = [source for source in split_sources(given) if _version(source) not in known]
    if not trained or not new:
        return ""
    had = "without speech" if trained == NONE else f"on speech from {trained}"
    return f"speech is from {_BETWEEN.join(new)}; the model was trained {had}"


def _version(source: str) -> str:
    return source.rpartition("@")[2]  # under which name a recogniser was given, does not matter
