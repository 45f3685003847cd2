"""Where the speech of prepared rooms is from: their own transcripts, or their sound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from contentctr.counting import counted
from contentctr.files import ROOM_FILE, remove_leftovers, room_file
from contentctr.hashes import ContentHashes
from contentctr.rooms.grid import Grid
from contentctr.rooms.room import Room
from contentctr.transcribe.recogniser import Choice, source_of
from contentctr.transcribe.recording import Sound
from contentctr.transcribe.rooms import Task, hear_rooms
from contentctr.transcribe.source import FILES
from contentctr.transcribe.transcript import SPEECH_FILE, made_from

_FOLDER = "speech"


@dataclass(kw_only=True)
class RoomSpeech:
    """Where some rooms' speech is from."""

    rooms: list[str] = field(default_factory=list)
    """All of them, by id."""
    sounds: dict[str, Sound] = field(default_factory=dict)
    """Rooms with sound and no transcript."""
    sources: list[str] = field(default_factory=list)
    """Of the others' transcripts, and of what was heard."""
    heard: int = 0
    """Rooms that were heard."""

    def add(self, folder: Path, room: Room, grid: Grid) -> None:
        """Note one more room."""
        self.rooms.append(room.room_id)
        if room.speech is not None:
            self.sources.append(made_from(folder / SPEECH_FILE) or FILES)
        elif room.sound is not None:
            self.sounds[room.room_id] = Sound(path=room.sound, spans=grid.spans(room.duration_s))

    def merge(self, later: RoomSpeech) -> None:
        """Take over what was noted of later rooms."""
        self.rooms += later.rooms
        self.sounds |= later.sounds
        self.sources += later.sources

    def know(self, hashes: ContentHashes) -> None:
        """Tell what the sounds hold from hashes that are known already."""
        self.sounds = {
            room_id: replace(sound, content=hashes.of(sound.path))
            for room_id, sound in self.sounds.items()
        }

    def hear(
        self,
        out: Path,
        choice: Choice,
        warnings: list[str],
        *,
        ray: str | None,
        show_progress: bool,
    ) -> pl.DataFrame:
        """Hear the rooms with sound and no transcript.

        Args:
            out: the prepared folder, in which transcripts are kept.
            choice: what hears them.
            warnings: messages are added to it.
            ray: of `hear_rooms`.
            show_progress: of `hear_rooms`.

        Returns:
            Their texts: room_id, segment, heard.
        """
        _clean(out / _FOLDER, self.rooms)
        texts: list[tuple[str, int, str]] = []
        if self.sounds and choice.lacks:
            warnings.append(
                f"sound without a transcript in {counted(len(self.sounds), 'room')}, whose speech "
                f"is not recognised: {choice.lacks}"
            )
        elif self.sounds:
            recogniser = choice.load()
            tasks = [
                Task(
                    sound=replace(sound, language=choice.language),
                    store=out / _FOLDER / f"{room_file(room_id)}.jsonl",
                )
                for room_id, sound in self.sounds.items()
            ]
            found = hear_rooms(tasks, recogniser, choice, ray=ray, show_progress=show_progress)
            for room_id, (heard, notes) in zip(self.sounds, found, strict=True):
                texts += [(room_id, each.segment, each.text) for each in heard]
                warnings += notes
            self.sources.append(source_of(recogniser))
            self.heard = len(tasks)
        schema = {"room_id": pl.String, "segment": pl.Int32, "heard": pl.String}
        return pl.DataFrame(texts, schema=schema, orient="row")


def with_speech(segments: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Segments with what was heard, in rooms that have no transcript."""
    joined = segments.join(texts, on=("room_id", "segment"), how="left", maintain_order="left")
    return joined.with_columns(speech=pl.coalesce("speech", "heard")).drop("heard")


def _clean(folder: Path, rooms: Iterable[str]) -> None:
    """Remove transcripts of rooms that are gone."""
    remove_leftovers(folder)
    wanted = {room_file(room_id) for room_id in rooms}
    for path in folder.glob("*.jsonl"):
        if ROOM_FILE.fullmatch(path.stem) and path.stem not in wanted:
            path.unlink()
