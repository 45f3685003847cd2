"""A folder of downloaded videos: which file is which video, its length, its captions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from contentctr.errors import InputError
from contentctr.files import parse_json
from contentctr.progress import progress_bar
from contentctr.rooms.media import probe
from contentctr.rooms.speech import SUFFIXES as CAPTION_SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".m4v", ".flv", ".ts", ".avi", ".3gp")
_LANGUAGE = re.compile(r"(?P<stem>.+)\.(?P<language>[A-Za-z]{2,3}(?:-[A-Za-z0-9-]+)?)")
_IN_BRACKETS = re.compile(r".*\[(?P<id>[A-Za-z0-9_-]+)\]")
_AT_THE_END = re.compile(r".*-(?P<id>[A-Za-z0-9_-]{11})")


@dataclass(frozen=True, kw_only=True)
class Downloads:
    """The files of a folder, by video id."""

    videos: Mapping[str, Path]
    captions: Mapping[str, Path]
    """In the language asked for."""
    other_captions: int
    """Caption files of wanted videos in other languages, left out."""


def find_downloads(folder: Path, wanted: Iterable[str], *, language: str = "en") -> Downloads:
    """Find videos and captions by the video's id, in the folder and below it.

    A file is a video's if its name, without the suffix and, of captions, without the language, is
    the id, or ends in [id] (yt-dlp) or in -id (youtube-dl).

    Args:
        folder: where to look.
        wanted: ids of videos.
        language: of the captions: exactly this (`id.en.vtt`) before a variant of it
            (`id.en-GB.vtt`) before a file that names none (`id.vtt`).

    Raises:
        InputError: there is no such folder, or two files are the same video.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of videos")
    ids = set(wanted)
    videos: dict[str, Path] = {}
    captions: dict[str, tuple[int, Path]] = {}
    others = 0
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            video_id = _video_id(path.stem, ids)
            if video_id in videos:
                raise InputError(
                    f"{path}: is video {video_id!r}, and so is {videos[video_id]}; remove one"
                )
            if video_id is not None:
                videos[video_id] = path
        elif suffix in CAPTION_SUFFIXES:
            rank, video_id = _caption(path.stem, ids, language)
            if video_id is not None and rank is None:
                others += 1
            elif video_id is not None and rank is not None:
                best = captions.get(video_id)
                captions[video_id] = min(best, (rank, path)) if best else (rank, path)
    return Downloads(
        videos=videos,
        captions={video_id: path for video_id, (_, path) in captions.items()},
        other_captions=others,
    )


def probe_all(
    videos: Mapping[str, Path], notes: Path, *, show_progress: bool = True
) -> tuple[dict[str, float], list[str]]:
    """Length of every video in seconds; what cannot be opened is left out with a warning.

    Args:
        videos: file of each id.
        notes: file to note lengths in as they are found, so that a killed run goes on where it
            was; a file that has changed since is opened again.
        show_progress: show a bar on a terminal.

    Returns:
        Lengths by id, and the warnings.
    """
    known = _read_notes(notes)
    found: dict[str, float] = {}
    warnings: list[str] = []
    notes.parent.mkdir(parents=True, exist_ok=True)
    with (
        notes.open("a", encoding="utf-8") as file,
        progress_bar("Opening videos", len(videos), show=show_progress) as bar,
    ):
        # The last line may have been cut off by a kill.
        file.write("\n")
        for video_id, path in videos.items():
            state = path.stat()
            key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
            if key not in known:
                known[key] = _length(path, warnings)
                file.write(json.dumps([key, known[key]]) + "\n")
                file.flush()
            elif known[key] is None:
                warnings.append(f"{path}: cannot be read as a video (noted in {notes.name})")
            length = known[key]
            if length is not None:
                found[video_id] = length
            bar.advance()
    return found, warnings


def _length(path: Path, warnings: list[str]) -> float | None:
    try:
        info = probe(path)
    except InputError as error:
        warnings.append(str(error))
        return None
    warnings += info.warnings
    return info.duration_s


def _read_notes(notes: Path) -> dict[str, float | None]:
    known: dict[str, float | None] = {}
    lines = notes.read_text(encoding="utf-8").split("\n") if notes.is_file() else []
    for line in lines:
        try:
            key, length = parse_json(line)
        except (ValueError, TypeError):  # a line that a kill cut off
            continue
        known[key] = length
    return known


def _video_id(stem: str, ids: set[str]) -> str | None:
    """The wanted id that a file name without suffix stands for."""
    if stem in ids:
        return stem
    for pattern in (_IN_BRACKETS, _AT_THE_END):
        match = pattern.fullmatch(stem)
        if match is not None and match["id"] in ids:
            return match["id"]
    return None


def _caption(stem: str, ids: set[str], language: str) -> tuple[int | None, str | None]:
    """How well a caption file's language suits (lower is better; None: not), and its video."""
    plain = _video_id(stem, ids)
    if plain is not None:
        return 2, plain
    match = _LANGUAGE.fullmatch(stem)
    if match is None:
        return None, None
    found = match["language"].lower()
    exact, variant = found == language.lower(), found.startswith(language.lower() + "-")
    return (0 if exact else 1 if variant else None), _video_id(match["stem"], ids)
