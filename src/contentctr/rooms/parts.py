"""Which file of a room folder is which part, by name; and which are none.

Passed over without a word are room.json, truth.parquet, images beside the video (thumbnails) and
names that begin with a dot or an underscore. Every other file is a part, or named as not read.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contentctr.errors import InputError
from contentctr.rooms import comments, speech, tables
from contentctr.rooms.document import GZIP
from contentctr.rooms.media import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (
    ".mp4",
    ".mkv",
    ".flv",
    ".ts",
    ".mov",
    ".m4v",
    ".webm",
    ".m2ts",
    ".mts",
    ".f4v",
    ".avi",
    ".wmv",
    ".mpg",
    ".mpeg",
    ".3gp",
    ".ogv",
    ".m3u8",
)
SUFFIXES: dict[str, tuple[str, ...]] = {
    "video": VIDEO_SUFFIXES,
    "frames": (),
    "comments": comments.SUFFIXES,
    "speech": speech.SUFFIXES,
    "events": (".parquet", ".csv", ".tsv", ".txt"),
    "columns": (".parquet", ".csv", ".tsv", ".txt"),
}
"""Endings of each part, the preferred first; around them may be .gz, and .part of a recorder."""
OTHER_WORDS = {
    "comments": "comment chat chats chatlog livechat rechat danmaku danmakus danmu messages "
    "弹幕 评论",
    "speech": "subtitles subtitle subs sub captions caption cc transcript transcripts "
    "transcription asr 字幕",
    "events": "event actions interactions",
    "columns": "column metrics",
}
"""First words of other names that a part may have."""
_WORDS = {part: part for part in SUFFIXES} | {
    word: part for part, words in OTHER_WORDS.items() for word in words.split()
}
_PASSED_OVER = ("room.json", "truth.parquet")
_COPIES = ("~", ".bak", ".orig", ".old", ".tmp", ".swp")
"""Endings of copies that editors and programs leave; they are no part."""
_SHOWN = 10
_HEAD = 1 << 16
_SPEECH_MARKS = ('"segments"', '"transcription"', '"words"', '"segs"', '"wireMagic"', '"from"')
_CHAT_MARKS = (
    '"comments"',
    "hatItemAction",
    '"content_offset_seconds"',
    '"message"',
    '"text"',
    '"content"',
    '"danmaku"',
)
_CHAT_LINE = re.compile(r"\[[^\]\n]{1,40}\]\s*<?[^:>\n]{1,80}[:>]\s?\S")

EXACT, OTHER_FORM, WORDED, RENAMED, PAIRED = range(5)
"""How well a file is named: exactly, with an unknown ending, by first word, by another, as pair."""


@dataclass(kw_only=True)
class Found:
    """The parts of a room folder."""

    paths: dict[str, Path] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    """What was taken for what by another name, and what was not read."""


@dataclass(frozen=True, order=True)
class _Candidate:
    rank: int
    suffix: int
    path: Path
    part: str


def find_parts(folder: Path) -> Found:
    """The file (or folder) of each part of a room.

    A part is told by the first word of a name, in any case, and by its ending: comments.json,
    comments.live_chat.json.gz, Chat.txt, video.zh-CN.srt. Files named as the video are its chat and
    speech, as recorders write them; where nothing is called video, a single other video is it.
    Where several files could be a part, the better-named one is.

    Raises:
        InputError: two files have the exact name of one part.
    """
    rest: list[Path] = []
    candidates: dict[str, list[_Candidate]] = {}
    for path in sorted(folder.iterdir()):
        if path.name in _PASSED_OVER or path.name.startswith((".", "_")):
            continue
        found = _by_name(path)
        if found is not None:
            candidates.setdefault(found.part, []).append(found)
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            rest.append(path)
    if "video" not in candidates and "frames" not in candidates:
        videos = [path for path in rest if _ending(path) in VIDEO_SUFFIXES and path.is_file()]
        if videos:
            candidates["video"] = [
                _Candidate(PAIRED, VIDEO_SUFFIXES.index(_ending(path)), path, "video")
                for path in videos
            ]
            rest = [path for path in rest if path not in videos]
    rest = _add_pairs(candidates, rest)
    return _choose(folder, candidates, rest)


def _by_name(path: Path) -> _Candidate | None:
    base, ending = _parted(path)
    if path.name.lower().endswith(_COPIES):
        return None
    words = _words(base)
    part = _WORDS.get(words[0] if words else "")
    if part is None and base.lower().startswith("live_chat"):
        part = "comments"
    if part is None:
        return None
    if part == "frames" or path.is_dir():
        is_table = part in ("events", "columns") and ending in (".parquet", ".csv", "")
        if not path.is_dir() or not (part == "frames" or is_table):
            return None
        exact = base == part
        return _Candidate(EXACT if exact else WORDED, 0, path, part)
    if part == "video" and ending not in VIDEO_SUFFIXES:
        if base == "video" and not is_text(ending) and ending not in IMAGE_SUFFIXES:
            return _Candidate(OTHER_FORM, 0, path, part)
        return None  # its chat or speech, or none
    if ending not in SUFFIXES[part]:
        return _Candidate(OTHER_FORM, 0, path, part) if base == part else None
    rank = EXACT if base == part else WORDED if words[0] == part else RENAMED
    return _Candidate(rank, SUFFIXES[part].index(ending), path, part)


def _add_pairs(candidates: dict[str, list[_Candidate]], rest: Sequence[Path]) -> list[Path]:
    """Files named as the video, as its chat and speech; returns the others."""
    videos = [candidate.path for candidate in candidates.get("video", [])]
    stems = sorted({"video", *(_parted(path)[0].lower() for path in videos)}, key=len, reverse=True)
    others = []
    for path in rest:
        name = path.name.lower()
        stem = next((stem for stem in stems if re.match(re.escape(stem) + r"[._ -]", name)), None)
        part = _pair_part(path, stem) if stem is not None and path.is_file() else None
        if part is None:
            others.append(path)
        else:
            place = SUFFIXES[part].index(_ending(path))
            candidates.setdefault(part, []).append(_Candidate(PAIRED, place, path, part))
    return others


def _pair_part(path: Path, stem: str) -> str | None:
    """Which part a file named as the video is: by its further words, its ending, its content."""
    ending = _ending(path)
    further = [_WORDS.get(word) for word in _words(_parted(path)[0][len(stem) :])]
    if "info" in _words(path.name.lower()):
        return None
    for named in ("comments", "speech"):
        if named in further and ending in SUFFIXES[named]:
            return named
    if ending in (".srt", ".vtt", ".lrc", ".ttml", ".dfxp", ".json3", ".bcc"):
        return "speech"
    part = part_by_content(ending, _head(path))
    return part if part is not None and ending in SUFFIXES[part] else None


def part_by_content(ending: str, head: str) -> str | None:
    """Which part a file is, by its ending (in lower case) and the beginning of its text."""
    if ending == ".xml":
        if "<tt" in head:
            return "speech"
        return "comments" if re.search(r"<(i|d|chat|packet)[\s>]", head) else None
    if ending in (".ass", ".ssa"):
        is_danmaku = r"\move(" in head or "danmaku" in head.lower() or "弹幕" in head
        return "comments" if is_danmaku else "speech"
    if ending in (".json", ".jsonl"):
        if any(mark in head for mark in _SPEECH_MARKS):
            return "speech"
        return "comments" if any(mark in head for mark in _CHAT_MARKS) else None
    first = head.lstrip("\ufeff").split("\n", 1)[0].lower()
    if ending == ".tsv" and first.split() == ["start", "end", "text"]:
        return "speech"
    if ending in (".csv", ".tsv"):
        fields = set(re.split(r"[,;\t\"\s]+", first))
        return "comments" if fields & {"text", "message", "content", "body"} else None
    if ending == ".html":
        return "comments" if "comment-root" in head else None
    return "comments" if ending in (".txt", ".log") and _CHAT_LINE.search(head) else None


def _choose(folder: Path, candidates: dict[str, list[_Candidate]], rest: Iterable[Path]) -> Found:
    found = Found()
    for part, some in candidates.items():
        best, *others = sorted(some)
        exact = [other.path.name for other in others if other.rank == EXACT]
        if exact:
            both = " and ".join(sorted([best.path.name, exact[0]]))
            raise InputError(f"{folder}: {both} are both {part}; keep one of them")
        if not best.path.is_dir() and not best.path.is_file():
            raise InputError(f"{best.path}: no such file")
        found.paths[part] = best.path
        if others:
            names = _names([other.path for other in others])
            found.warnings.append(
                f"{folder}: took {best.path.name} as its {part}, and did not read {names}"
            )
        elif best.rank >= RENAMED:
            found.warnings.append(f"{folder}: took {best.path.name} as its {part}")
    if "video" in found.paths and "frames" in found.paths:
        raise InputError(
            f"{folder}: {found.paths['video'].name} and frames are both its pictures; keep one of "
            "them"
        )
    unread = list(rest)
    if unread:
        found.warnings.append(
            f"{folder}: did not read {_names(unread)}: no name of a part (video, frames, comments, "
            "speech, events, columns)"
        )
    return found


def _names(paths: Sequence[Path]) -> str:
    shown = [path.name + ("/" if path.is_dir() else "") for path in paths[:_SHOWN]]
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(shown) + more


def _parted(path: Path) -> tuple[str, str]:
    """A name's base, and its ending in lower case, without .gz or .part around it."""
    name = path.name
    while name.lower().endswith((".gz", ".part")) and "." in name[:-5].strip("."):
        name = name.rpartition(".")[0]
    base, dot, ending = name.rpartition(".")
    return (base, dot + ending.lower()) if dot else (name, "")


def _ending(path: Path) -> str:
    return _parted(path)[1]


def _words(base: str) -> list[str]:
    return [word for word in re.split(r"[\s._\-]+", base.lower()) if word]


def is_text(ending: str) -> bool:
    """Whether files with such an ending are logs or notes, and no pictures or sound."""
    text = (*comments.SUFFIXES, *speech.SUFFIXES, *tables.SUFFIXES)
    return ending in text or ending in (".nfo", ".description", ".url", ".md")


def _head(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            raw = handle.read(_HEAD)
        if raw.startswith(GZIP):
            raw = zlib.decompressobj(wbits=31).decompress(raw, _HEAD)
    except (OSError, zlib.error):
        return ""
    return raw.decode("utf-8", errors="replace")
