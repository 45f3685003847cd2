"""Many rooms, one after the other or on a cluster; and their transcripts as files of their own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.progress import progress_bar
from contentctr.rooms.folder import find_rooms
from contentctr.rooms.grid import Grid
from contentctr.rooms.media import probe
from contentctr.rooms.parts import find_parts
from contentctr.rooms.room import SPEECH_SCHEMA, Room
from contentctr.rooms.room_json import read_head
from contentctr.shards import run_over
from contentctr.transcribe.recogniser import EMBEDDED, Choice, source_of
from contentctr.transcribe.recording import Sound, hear_recording
from contentctr.transcribe.segments import Heard, Recogniser
from contentctr.transcribe.transcript import SPEECH_FILE, made_from, write_speech

_GROWING = f".contentctr.{SPEECH_FILE}"
"""What a killed run has of a room; find_parts passes over names that begin with a dot."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A recording to be heard, and where that is stored."""

    sound: Sound
    store: Path


def hear_rooms(
    tasks: Sequence[Task],
    recogniser: Recogniser,
    choice: Choice,
    *,
    ray: str | None = None,
    show_progress: bool = True,
) -> Iterator[tuple[list[Heard], list[str]]]:
    """What is said in each recording, and warnings; what is stored already is taken from there.

    Args:
        tasks: the recordings.
        recogniser: hears them here.
        choice: what it was loaded by, and is on a cluster's machines.
        ray: the Ray cluster whose machines do, as `run_over` takes it; None: here.
        show_progress: show a bar of segments.

    Raises:
        InputError: a recording cannot be read, or a machine has another recogniser.
    """
    total = sum(len(task.sound.spans) for task in tasks)
    # A worker on a cluster takes the threads that it is counted for, not its machine's.
    threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    remote = replace(choice, threads=threads)
    on_gpu = choice.device.startswith("cuda")
    with progress_bar("Recognising speech", total, show=show_progress) as bar:
        make = (
            partial(_remote_worker, remote, recogniser.revision)
            if ray
            else partial(_worker, recogniser, bar.advance)
        )
        cpus, gpus = 1 if on_gpu else threads, int(on_gpu)
        results = run_over(tasks, make, ray=ray, cpus=cpus, gpus=gpus)
        for task, found in zip(tasks, results, strict=True):
            if ray:
                bar.advance(len(task.sound.spans))
            yield found


Hear = Callable[[Task], tuple[list[Heard], list[str]]]


def _worker(recogniser: Recogniser, advance: Callable[[int], None]) -> Hear:
    def hear(task: Task) -> tuple[list[Heard], list[str]]:
        warnings: list[str] = []
        heard = hear_recording(
            recogniser, task.sound, store=task.store, advance=advance, warnings=warnings
        )
        return heard, warnings

    return hear


def _remote_worker(choice: Choice, revision: str) -> Hear:
    recogniser = choice.load()
    if recogniser.revision != revision:
        raise InputError(
            f"the recogniser {recogniser.name!r} must be the same on every machine, and one has "
            "another under this name"
        )
    return _worker(recogniser, lambda segments: None)


def hear_room(
    room: Room,
    recogniser: Recogniser,
    *,
    language: str | None,
    segment_seconds: float,
    warnings: list[str],
    show_progress: bool = True,
) -> Room:
    """A room that has sound and no transcript, with its speech: segments have what was heard.

    Raises:
        InputError: its recording cannot be read.
    """
    assert room.sound is not None
    spans = Grid(segment_seconds).spans(room.duration_s)
    sound = Sound(path=room.sound, spans=spans, language=language)
    with progress_bar("Recognising speech", len(spans), show=show_progress) as bar:
        heard = hear_recording(recogniser, sound, advance=bar.advance, warnings=warnings)
    rows = [(each.start_s, each.end_s, each.text) for one in heard for each in one.utterances]
    return replace(room, speech=pl.DataFrame(rows, schema=SPEECH_SCHEMA, orient="row"))


def transcribe_rooms(
    rooms_root: Path | str,
    *,
    asr: Path | str | Recogniser = EMBEDDED,
    language: str | None = None,
    segment_seconds: float = 30.0,
    device: str = "cpu",
    ray: str | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Write ROOM/speech.jsonl for rooms with sound and no transcript, to be looked at and mended.

    `prepare` and `predict` read it as a transcript of any origin; unmended, it is the very text
    that they would hear themselves. A file that we did not write, or that was mended since, is left
    alone. A killed run goes on where it was.

    Args:
        rooms_root: a folder of room folders, or one room folder.
        asr: of `load_recogniser`, or a recogniser.
        language: what is spoken, as en; None: detected for each room.
        segment_seconds: length of the segments that are heard one by one.
        device: cpu, cuda or auto.
        ray: the Ray cluster whose machines work, as `run_over` takes it; None: here.
        show_progress: show bars.

    Returns:
        Counts of rooms, by what became of them, and under "warnings" what the user should know.

    Raises:
        InputError: a room or the recogniser cannot be read.
    """
    choice = Choice(asr=asr, language=language, device=device)
    if choice.lacks:
        raise InputError(f"transcribe needs a recogniser ({choice.lacks})")
    recogniser, grid = choice.load(), Grid(segment_seconds)
    counts: Counter[str] = Counter()
    tasks = []
    folders = find_rooms(Path(rooms_root))
    with progress_bar("Reading rooms", len(folders), show=show_progress) as bar:
        for folder in folders:
            sound = _sound(folder, source_of(recogniser), grid, language, counts)
            if sound is not None:
                tasks.append(Task(sound=sound, store=folder / _GROWING))
            bar.advance()
    warnings: list[str] = []
    found = hear_rooms(tasks, recogniser, choice, ray=ray, show_progress=show_progress)
    for task, (heard, notes) in zip(tasks, found, strict=True):
        path = task.store.parent / SPEECH_FILE
        # Hearing takes hours, in which somebody may have written or mended it.
        if path.exists() and made_from(path) is None:
            warnings.append(f"{path}: came while the room was heard, and is left alone")
            counts["rooms_with_transcript"] += 1
            continue
        write_speech(path, heard, source_of(recogniser))
        task.store.unlink()
        counts["rooms_transcribed"] += 1
        counts["segments_with_speech"] += sum(bool(each.text) for each in heard)
        warnings += notes
    return {"recogniser": source_of(recogniser), **counts, "warnings": warnings}


def _sound(
    folder: Path, source: str, grid: Grid, language: str | None, counts: Counter[str]
) -> Sound | None:
    """A room's sound, if it is to be heard; else it is counted why not."""
    counts["rooms"] += 1
    head, parts = read_head(folder / "room.json"), find_parts(folder).paths
    if "speech" in parts:
        ours = made_from(parts["speech"])
        if ours is None or (ours == source and not _is_newer(parts, "video", "speech")):
            counts["rooms_with_transcript" if ours is None else "rooms_kept"] += 1
            return None
    info = probe(parts["video"], sound_alone=True) if "video" in parts else None
    if info is None or not info.has_sound:
        counts["rooms_without_sound"] += 1
        return None
    duration_s = info.duration_s if head.duration_s is None else head.duration_s
    spans = grid.spans(duration_s)
    if not spans:
        counts["rooms_too_short"] += 1
        return None
    return Sound(path=parts["video"].resolve(), spans=spans, language=language)


def _is_newer(parts: Mapping[str, Path], one: str, other: str) -> bool:
    return one in parts and parts[one].stat().st_mtime_ns > parts[other].stat().st_mtime_ns
