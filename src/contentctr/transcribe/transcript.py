"""Transcripts as files: one that grows segment by segment, and one that a user reads and mends.

The first is ours alone: a line that says what it is of, then a line a segment, so that a killed run
goes on after the last whole line. The second is the room folder's speech.jsonl, of which every line
carries a mark with the hash of the whole: who changes, adds or takes away a line makes it his own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contentctr.files import append_text, digest, parse_json, remove_leftovers, write_text
from contentctr.transcribe.segments import Heard, RoomLanguage, Utterance

SPEECH_FILE = "speech.jsonl"
_MARK = "made_by"
_MAKER = "contentctr transcribe"


class Growing:
    """The transcript of a room, as far as it is.

    Args:
        path: its file; made if it is not there, made anew if it is of anything else than `key`.
        key: all that it depends on, JSON-ready.
        language: the room's; goes on from what the file says.
    """

    def __init__(self, path: Path, key: dict[str, Any], language: RoomLanguage) -> None:
        self.path = path
        self.heard: list[Heard] = []
        """Segments so far."""
        head = json.dumps(key, sort_keys=True) + "\n"
        lines = _lines(path)
        end = len(head.encode())
        if not lines or lines[0] != head:
            write_text(path, head)
            return
        for line in lines[1:]:
            if not self._take(line, language):
                break
            end += len(line.encode())
        with path.open("r+b") as file:
            file.truncate(end)

    def write(self, heard: Heard, language: RoomLanguage) -> None:
        """Store one more segment, and what is known of the room's language after it."""
        row = {
            "segment": heard.segment,
            "language": heard.language,
            "voiced_s": heard.voiced_s,
            "utterances": [[each.start_s, each.end_s, each.text] for each in heard.utterances],
            "room_language": language.state(),
        }
        append_text(self.path, json.dumps(row, ensure_ascii=False) + "\n")

    def _take(self, line: str, language: RoomLanguage) -> bool:
        """Take over a segment that was stored; False if its line is not whole."""
        try:
            row = parse_json(line)
            heard = Heard(
                segment=row["segment"],
                utterances=tuple(Utterance(*each) for each in row["utterances"]),
                voiced_s=row["voiced_s"],
                language=row["language"],
            )
            known = RoomLanguage(**row["room_language"])
        except (ValueError, KeyError, TypeError):
            return False
        if heard.segment != len(self.heard):
            return False
        self.heard.append(heard)
        language.voiced_s, language.votes = known.voiced_s, known.votes
        return True


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    # Not splitlines(): to Python, some characters inside of a text end a line, too.
    return [f"{line}\n" for line in text.split("\n")[:-1]]


def write_speech(path: Path, heard: Sequence[Heard], source: str) -> None:
    """Write a room's speech.jsonl, marked as made from the source and not mended."""
    rows: list[dict[str, Any]] = [
        {"start": each.start_s, "end": each.end_s, "text": each.text}
        for segment in heard
        for each in segment.utterances
    ]
    # A room in which nobody spoke needs a line, too, to carry the mark.
    rows = rows or [{"start": 0.0, "end": 0.0, "text": ""}]
    mark = _mark(source, rows)
    lines = [json.dumps({**row, _MARK: mark}, ensure_ascii=False) + "\n" for row in rows]
    remove_leftovers(path.parent, path.name)
    write_text(path, "".join(lines))


def made_from(path: Path) -> str | None:
    """The source that a transcript was recognised by; None for any that we did not write so."""
    if path.name != SPEECH_FILE:
        return None
    try:
        lines = _lines(path)
        if not lines or f'"{_MARK}"' not in lines[0]:  # many rooms have transcripts of others
            return None
        rows = [parse_json(line) for line in lines]
        marks = {str(row.pop(_MARK)) for row in rows}
        [mark] = marks
        source = mark.removeprefix(f"{_MAKER}: ").rpartition(" ")[0]
        return source if mark == _mark(source, rows) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _mark(source: str, rows: Sequence[dict[str, Any]]) -> str:
    return f"{_MAKER}: {source} {digest(source, *rows)[:12]}"
