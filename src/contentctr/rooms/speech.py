"""Speech: subtitles and transcripts, told by their content."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.document import Document, read_document
from contentctr.rooms.lines import Part, show
from contentctr.rooms.room import SPEECH_SCHEMA
from contentctr.rooms.transcripts.cues import read_cues, require_cues
from contentctr.rooms.transcripts.log import Transcript
from contentctr.rooms.transcripts.others import read_ass, read_lrc, read_tsv, read_ttml
from contentctr.rooms.transcripts.recognised import read_json, read_jsonl

_READERS = (read_json, read_jsonl, read_ttml, read_ass, read_cues, read_tsv, read_lrc)
"""Each reads a form, or says that the file is not of it; in this order."""
SUFFIXES = (
    ".srt",
    ".vtt",
    ".json",
    ".jsonl",
    ".json3",
    ".bcc",
    ".ass",
    ".ssa",
    ".tsv",
    ".lrc",
    ".ttml",
    ".dfxp",
    ".xml",
)
"""Endings that a transcript in a room folder may have; what it is, its content says."""


def read_speech(path: Path) -> Part:
    """Speech as a table of SPEECH_SCHEMA, sorted by start. Utterances without text are left out.

    Args:
        path: SRT, WebVTT (rolling captions and joined pieces too), ASS, TTML, LRC, Whisper's JSON
            and TSV, WhisperX, faster-whisper, whisper.cpp, OpenAI's words, YouTube's json3,
            Bilibili's BCC, or JSONL with `start`, `end` and `text`; gzip around it or not. Where
            every word of a segment has its time, each word is a row of its own whose start and
            end are both the middle of the word, so that a word is never cut.

    Raises:
        InputError: the file as a whole is unreadable or of no known form, or too many of its cues
            are bad (`BadLines.warnings`).
    """
    return speech_of(read_document(path))


def speech_of(document: Document) -> Part:
    """The same, of a document that was read already."""
    path, transcript = document.path, Transcript(document=document)
    require_cues(transcript)
    if transcript.document.text.strip() and not any(read(transcript) for read in _READERS):
        first = next(line for _, line in transcript.document.lines())
        raise InputError(
            f"{path}: no reader of speech knows this form (it begins with {show(first)}); known "
            f"endings: {', '.join(SUFFIXES)}"
        )
    bad, utterances = transcript.bad, transcript.utterances
    warnings = bad.warnings(len(utterances) + bad.count) + transcript.warnings
    rows = [(a, b, text.strip()) for group in utterances for a, b, text in group if text.strip()]
    if not rows:
        warnings.append(f"{path}: holds no speech")
    empty = sum(not any(text.strip() for _, _, text in group) for group in utterances)
    table = pl.DataFrame(rows, schema=SPEECH_SCHEMA, orient="row")
    return Part(
        path=path,
        table=table.sort("start", maintain_order=True),
        bad_lines=bad.count,
        warnings=warnings,
        form=transcript.form or "an empty file",
        left_out={"utterances without text": empty} if empty else {},
    )
