"""The page of a prediction: OUT/index.html, which plays the recording from where it lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import polars as pl

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.predict.clips import Clip
from contentctr.predict.found import Found
from contentctr.report.player.contents import Chapter, Contents, Reason, VideoLink
from contentctr.report.player.page import player_html
from contentctr.rooms.containers import describe_streams
from contentctr.score.highlights import clock

PAGE = "index.html"
_PLAYED = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".m4a", ".mp3", ".ogg", ".opus", ".wav")
"""Containers that some browser plays; whether it knows the codec, it says itself."""
_CODECS = {"h264": "H.264", "hevc": "HEVC", "av1": "AV1", "vp9": "VP9", "vp8": "VP8"}


def prediction_html(
    out: Path,
    found: Found,
    *,
    chapters: Sequence[Chapter],
    duration_s: float,
    files: Sequence[tuple[str, str]],
) -> str:
    """The page of what was found.

    Args:
        out: the folder that the page is for: references are relative to it.
        found: the curve, and what is known of the recording.
        chapters: its highlights.
        duration_s: of the recording.
        files: names of other files in `out`, and what they are.
    """
    name, percent = _score_name(found)
    parts = [column for column in found.curve.columns if column.startswith("part_")]
    known = [p for p in parts if found.curve[p].null_count() < found.curve.height]
    curve = found.curve.select("start_s", "end_s", *known).with_columns(
        pl.Series("score", found.line_S).fill_nan(None)
    )
    return player_html(
        Contents(
            title=recording_name(found.recording),
            facts=_facts(found, duration_s),
            label=found.label,
            warnings=found.warnings,
            duration_s=duration_s,
            score_name=name,
            percent=percent,
            curve=curve,
            parts={part["part"]: (part["title"], part["text"]) for part in found.parts},
            chapters=chapters,
            comments=found.comments,
            speech=found.speech,
            video=None if found.video is None else _link(found.video, out),
            files=files,
        )
    )


def make_chapters(
    found: Found, clips: Sequence[Clip | None], pictures: Sequence[bytes]
) -> list[Chapter]:
    """The highlights as the page and the exports have them."""
    return [
        Chapter(
            rank=rank,
            start_s=h.start_s,
            end_s=h.end_s,
            peak_s=h.peak_s,
            score=h.score,
            reasons=[Reason(part=r.part, text=r.text, score=r.score) for r in h.reasons],
            clip="" if clip is None else quote(f"clips/{clip.path.name}"),
            clip_start_s=0.0 if clip is None else clip.start_s,
            picture=picture,
        )
        for rank, (h, clip, picture) in enumerate(
            zip(found.highlights, clips, pictures, strict=True), 1
        )
    ]


def recording_name(recording: Path) -> str:
    """What a recording is called, for people."""
    return recording.resolve().name or str(recording)


def _facts(found: Found, duration_s: float) -> list[str]:
    facts = [clock(duration_s)]
    facts += [str(found.facts[key]) for key in ("room_id", "streamer_id") if found.facts.get(key)]
    if found.comments is not None:
        facts.append(counted(found.comments.height, "comment"))
    if found.checkpoint is not None:
        facts.append(f"model {found.checkpoint.folder.name}")
    # A room folder is mostly called as its room.
    seen = [recording_name(found.recording), *facts]
    return [fact for i, fact in enumerate(facts, 1) if fact not in seen[:i]]


def _score_name(found: Found) -> tuple[str, bool]:
    """What a score is called, and whether it is shown in percent."""
    if found.checkpoint is None:
        return "score of the rule", False
    if found.data == "videos":
        return "chance of a pick", False
    target = found.checkpoint.spec.target
    return ("predicted CTR", True) if target == "ctr" else (f"predicted {target}", False)


def _link(video: Path, out: Path) -> VideoLink:
    try:
        href = quote(Path(os.path.relpath(video.resolve(), out.resolve())).as_posix())
    except ValueError:  # on another drive
        href = video.resolve().as_uri()
    try:
        codecs = describe_streams(video)
    except InputError:
        codecs = []
    shown = ", ".join(_CODECS.get(codec, codec.upper()) for codec in codecs)
    suffix = video.suffix.lower()
    return VideoLink(
        href=href,
        name=video.name,
        format=f"{suffix.removeprefix('.').upper() or 'such files'} ({shown})",
        playable=suffix in _PLAYED,
    )
