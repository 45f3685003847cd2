"""Makes the page of one recording: one file of HTML that asks no other host for anything.

The recording stays where it is and is named by a relative reference. Scripts and styles stand in
the page and are allowed by their hash alone; data is JSON that no script runs.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from importlib import resources
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from contentctr.report.player.contents import (
    MAX_NAME,
    Chapter,
    Contents,
    thin,
    thin_curve,
    utterances,
    visible,
)
from contentctr.score.highlights import clock

_SCRIPTS = ("words.js", "curve.js", "lines.js", "player.js", "app.js")
_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"} | {"\u2028": "\\u2028", "\u2029": "\\u2029"}
)
"""No text may end the script element that it stands in, nor be a line end to JavaScript."""


def player_html(contents: Contents) -> str:
    """The page as HTML; every text on it is escaped."""
    style = _asset("style.css")
    scripts = [_asset(name) for name in _SCRIPTS]
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src {' '.join(map(_hash, scripts))}; style-src {_hash(style)}; "
        "img-src data:; media-src 'self' file: blob:"
    )
    found, left_out = _data(contents)
    return (
        _templates()
        .get_template("page.html")
        .render(
            contents=contents,
            title=visible(contents.title),
            facts=[visible(fact) for fact in contents.facts],
            warnings=[visible(warning, 600) for warning in contents.warnings],
            files=[(visible(name), what) for name, what in contents.files],
            left_out=left_out,
            policy=policy,
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
            data=Markup(json_for_script(found)),
            clock=clock,
        )
    )


def json_for_script(value: Any) -> str:
    """JSON that may stand inside a script element, whatever its texts are."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _data(contents: Contents) -> tuple[dict[str, Any], list[str]]:
    """What the page's scripts show, and sentences on what was left out of it."""
    spans = [(chapter.start_s, chapter.end_s) for chapter in contents.chapters]
    left_out: list[str] = []
    comments, speech = contents.comments, contents.speech
    chat: list[list[Any]] = []
    if comments is not None:
        kept = thin(comments, "t", spans)
        left_out += _told(comments.height, kept.height, "comment")
        chat = [
            [round(t, 2), visible(user, MAX_NAME), visible(text)]
            for t, user, text in kept.select("t", "user_id", "text").iter_rows()
        ]
    said: list[list[Any]] = []
    if speech is not None:
        lines = utterances(speech)
        kept = thin(lines, "start", spans)
        left_out += _told(lines.height, kept.height, "line of speech", "lines of speech")
        said = [[round(s, 2), round(e, 2), visible(text)] for s, e, text in kept.iter_rows()]
    video = contents.video
    return {
        "duration": round(contents.duration_s, 3),
        "score": {"name": contents.score_name, "percent": contents.percent},
        "curve": _curve(thin_curve(contents.curve)),
        "parts": {
            visible(name, MAX_NAME): {"title": visible(title, MAX_NAME), "text": visible(text)}
            for name, (title, text) in contents.parts.items()
        },
        "highlights": [_chapter(chapter) for chapter in contents.chapters],
        "chat": chat,
        "speech": said,
        "video": None
        if video is None
        else {
            "href": video.href,
            "name": visible(video.name),
            "format": visible(video.format),
            "playable": video.playable,
        },
    }, left_out


def _told(there: int, shown: int, noun: str, nouns: str = "") -> list[str]:
    if shown == there:
        return []
    nouns = nouns or f"{noun}s"
    return [
        f"{shown:,} of {there:,} {nouns} are shown: those around the highlights first, then "
        "evenly over the rest."
    ]


def _curve(curve: pl.DataFrame) -> dict[str, Any]:
    parts = {
        visible(name.removeprefix("part_"), MAX_NAME): _numbers(curve[name], 3)
        for name in curve.columns
        if name.startswith("part_")
    }
    return {
        "start": _numbers(curve["start_s"], 2),
        "end": _numbers(curve["end_s"], 2),
        "score": _numbers(curve["score"], 5),
        "parts": parts,
    }


def _numbers(column: pl.Series, digits: int) -> list[float | None]:
    return column.cast(pl.Float64).fill_nan(None).round(digits).to_list()


def _chapter(chapter: Chapter) -> dict[str, Any]:
    picture = base64.b64encode(chapter.picture).decode() if chapter.picture else ""
    return {
        "rank": chapter.rank,
        "start": round(chapter.start_s, 3),
        "end": round(chapter.end_s, 3),
        "peak": round(chapter.peak_s, 3),
        "score": round(chapter.score, 5),
        "reasons": [
            {"part": visible(r.part, MAX_NAME), "text": visible(r.text), "score": r.score}
            for r in chapter.reasons
        ],
        "clip": chapter.clip,
        "clipStart": round(chapter.clip_start_s, 3),
        "picture": f"data:image/jpeg;base64,{picture}" if picture else "",
    }


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("contentctr.report.player", "assets"),
        autoescape=True,  # names of rooms, files and people are other people's words
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
