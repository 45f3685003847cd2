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
_UNPLAYED = (
    *("mpeg4", "mpeg2video", "mpeg1video", "msmpeg4v3", "msmpeg4v2", "h263", "flv1", "vp6f"),
    *("wmv1", "wmv2", "wmv3", "vc1", "mjpeg", "prores", "dnxhd", "rv30", "rv40", "svq3"),
)
"""Codecs of pictures that none plays."""
_CODECS = {"h264": "H.264", "hevc": "HEVC", "av1": "AV1", "vp9": "VP9", "vp8": "VP8"}
_CODECS |= {"mpeg4": "MPEG-4 Part 2", "mpeg2video": "MPEG-2"}


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
    # A recording is mostly called as its room.
    title = recording_name(found.recording)
    return [fact for fact in dict.fromkeys(facts) if fact not in (title, Path(title).stem)]


def _score_name(found: Found) -> tuple[str, bool]:
    """What a score is called, and whether it is shown in percent."""
    if found.checkpoint is None:
        return "score of the rule", False
    if found.data == "videos":
        return "chance of a pick", False
    spec = found.checkpoint.spec
    return f"predicted {spec.target_name}", spec.target == "ctr"


def _link(video: Path, out: Path) -> VideoLink:
    try:
        href = quote(Path(os.path.relpath(video.resolve(), out.resolve())).as_posix())
    except ValueError:  # on another drive
        href = video.resolve().as_uri()
    pictures: list[str] = []
    sounds: list[str] = []
    try:
        pictures, sounds = describe_streams(video)
    except InputError:
        pass  # the page will say that it cannot be played
    shown = ", ".join(_CODECS.get(codec, codec.upper()) for codec in [*pictures, *sounds])
    suffix = video.suffix.lower()
    return VideoLink(
        href=href,
        name=video.name,
        format=f"{suffix.removeprefix('.').upper() or 'such files'} ({shown})",
        playable=suffix in _PLAYED and not set(pictures) & set(_UNPLAYED),
        has_pictures=bool(pictures),
    )
