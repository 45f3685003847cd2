"""Room folders into a prepared folder: read, segment, set the target, split, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.hashes import ContentHashes
from contentctr.outputs import alone, check_output, output_folder
from contentctr.prepare.append import Earlier, Kept, read_earlier, room_contents
from contentctr.prepare.collect import Collected, Reading, collect_rooms
from contentctr.prepare.labels import add_labels
from contentctr.prepare.long_views import (
    LONG_VIEW,
    LONG_VIEW_SECONDS,
    check_long_view,
)
from contentctr.prepare.speech import with_speech
from contentctr.prepare.splits import Split
from contentctr.prepare.targets import (
    TargetScale,
    check_comment_lag,
    default_comment_lag,
    default_scale,
    set_target,
    typical_in_training,
)
from contentctr.rooms.folder import find_rooms
from contentctr.rooms.grid import Grid
from contentctr.rooms.labels import Labels, find_labels, join_labels, read_labels
from contentctr.store import rooms as prepared
from contentctr.store.rooms import (
    LABEL,
    ROOMS_SCHEMA,
    SOURCES_SCHEMA,
    PreparedRooms,
    is_label_name,
)
from contentctr.transcribe.recogniser import Choice
from contentctr.transcribe.segments import Recogniser
from contentctr.transcribe.source import join_sources

_MAX_WARNINGS = 500
"""The manifest keeps so many; the counts are complete."""


def prepare_rooms(
    rooms_root: Path | str | Sequence[Path],
    out: Path | str,
    *,
    append: bool = False,
    keep_from: datetime | None = None,
    target: str = "ctr",
    target_scale: TargetScale | None = None,
    comment_lag: int | None = None,
    labels: Path | str | None = None,
    long_view_seconds: float = LONG_VIEW_SECONDS,
    segment_seconds: float = 30.0,
    frames_per_segment: int = 3,
    val: float | None = None,
    test: float | None = None,
    val_from: datetime | None = None,
    test_from: datetime | None = None,
    skip_bad_rooms: bool = False,
    names: Mapping[str, str] | None = None,
    asr: Path | str | Recogniser | None = None,
    language: str | None = None,
    device: str = "cpu",
    ray: str | None = None,
    show_progress: bool = True,
) -> PreparedRooms:
    """Read all room folders at or below `rooms_root` and write the prepared folder `out`.

    Nothing is written before every room is read. Then rooms that have sound and no transcript are
    heard; transcripts are kept in OUT/speech, where a killed run goes on. What was left out, and
    why, is in the manifest's `counts` and `warnings`. Features that are in `out` already stay.

    Splits, targets and labels are those that all rooms together have, appended ones or not. An
    interrupted call leaves the folder as it was. Counts are of all calls, warnings of the last.

    Args:
        rooms_root: a folder of room folders, or one room folder; or several such.
        out: the prepared folder: new or empty, or one of an earlier `prepare`.
        append: keep the rooms that are in `out`: only those of `rooms_root` are read that are not
            there yet or have changed, by content. What decides the segments and the raw target must
            be the same; scale (where one is given), labels, split, recogniser and language are
            each call's own.
        keep_from: leave out rooms that started before, also of those that are in `out`.
        target: of `set_target`; among them long_view_rate, and where there is a table of labels
            label, or label:CLASS,CLASS for some of them.
        target_scale: of `set_target`; None for `default_scale`.
        comment_lag: segments between the comments and the segment whose text they are; None for
            `default_comment_lag`.
        labels: table of labels of `read_labels`; None: `find_labels` in each of `rooms_root`. With
            `append`, a room that is in `out` and not in the table keeps its labels.
        long_view_seconds: how long those stay at least whom the long-view rate counts.
        segment_seconds: length of a segment.
        frames_per_segment: frames that `encode` takes from a segment.
        val: share of validation rooms; None, where there is no date: a tenth.
        test: share of test rooms; likewise.
        val_from: in place of shares, of `Split`: a room's split then stays when others come.
        test_from: likewise.
        skip_bad_rooms: leave out rooms that cannot be read, instead of stopping at the first.
        names: the user's own names of columns in the rooms' logs, of `read_room`.
        asr: what hears rooms without a transcript, of `Choice`.
        language: what is spoken in them, of `Choice`.
        device: where they are heard: cpu, cuda or auto.
        ray: the Ray cluster whose machines read, hear and segment, as `run_over` takes it; None:
            here.
        show_progress: show a bar.

    Raises:
        InputError: a setting or a room is wrong, two rooms have one id, `out` holds files of
            somebody else or another process is at work there, or the recogniser cannot be had.
    """
    roots = [Path(rooms_root)] if isinstance(rooms_root, Path | str) else list(rooms_root)
    out = Path(out)
    lag = default_comment_lag(target) if comment_lag is None else comment_lag
    check_comment_lag(target, lag)
    split = Split(val=val, test=test, val_from=val_from, test_from=test_from)
    if frames_per_segment < 1:
        raise InputError(f"frames_per_segment must be at least 1, not {frames_per_segment}")
    check_long_view(long_view_seconds)
    length = Grid(segment_seconds).segment_seconds
    settings: dict[str, Any] = {
        "source": "room folders",
        "segment_seconds": float(segment_seconds),
        "frames_per_segment": frames_per_segment,
        "target": target,
        **({} if target_scale is None else {"target_scale": target_scale}),
        **({"long_view_seconds": float(long_view_seconds)} if target == LONG_VIEW else {}),
        "comment_lag": lag,
        "columns": dict(names or {}),
    }
    folders = [folder for root in roots for folder in find_rooms(root)]
    _require_separate(out, [*roots, *folders])
    check_output(out, prepared.KIND, prepared.FILES)
    # From reading to writing: rooms that another call adds meanwhile would be lost.
    with alone(out, "on the rooms here"):
        earlier = read_earlier(out, append=append)
        # Targets are made anew for all rooms, so their scale may change.
        earlier.require_same({k: v for k, v in settings.items() if k != "target_scale"})
        settings["target_scale"] = target_scale or earlier.manifest.get("target_scale")
        table = _read_labels(roots, labels, target, names)
        reading = Reading(
            segment_seconds=length,
            long_view_seconds=long_view_seconds if target == LONG_VIEW else None,
            skip_bad_rooms=skip_bad_rooms,
            names=names,
            needs_start=split.needs_start,
        )
        hashes = ContentHashes(out)
        contents = room_contents(folders, hashes, keep_from)
        collected = collect_rooms(
            earlier.left(contents), reading, ray=ray, show_progress=show_progress
        )
        kept = earlier.kept(collected.places, keep_from)
        collected.tell_skipped(earlier.skipped, earlier.folders_of(kept.room_ids))
        if keep_from is not None and (old := len(set(folders)) - len(contents)):
            collected.warnings.append(
                f"left out {counted(old, 'room folder')} of before {keep_from.isoformat()}"
            )
        earlier.require_same_places(collected.places)
        if not collected.rooms and not sum(rooms.height for rooms in kept.rooms):
            why = f": {collected.warnings[-1]}" if collected.warnings else ""
            raise InputError(f"{', '.join(map(str, roots))}: no room left{why}")
        settings |= {"source_path": str(roots[0].resolve()), "split": split.described()}
        settings["appended"] = _appended(earlier, kept, collected, len(contents))
        made = _Made(earlier=earlier, kept=kept, collected=collected, settings=settings)
        made.join(split, table)
        choice = Choice(asr=asr, language=language, device=device)
        with output_folder(out, prepared.KIND, prepared.FILES, keep=True):
            hashes.save()
            collected.speech.rooms += kept.room_ids
            collected.speech.sources += earlier.speech_sources if kept.rooms else []
            collected.speech.know(hashes)
            texts = collected.speech.hear(
                out, choice, collected.warnings, ray=ray, show_progress=show_progress
            )
            made.segments = with_speech(made.segments, texts)
            settings["speech_source"] = join_sources(collected.speech.sources)
            collected.counts["rooms_heard"] = collected.speech.heard
            return made.write(out, contents)


def _appended(
    earlier: Earlier, kept: Kept, collected: Collected, found: int
) -> dict[str, int] | None:
    """What a call with `append` did, in rooms; None for one without."""
    if earlier.rooms is None:
        return None
    known = set(earlier.rooms["room_id"])
    read = [room_id for room_id, _ in collected.places]
    changed = [room_id for room_id in read if kept.renamed.get(room_id, room_id) in known]
    for room_id in changed:
        was = f" (it was room {kept.renamed[room_id]!r})" if room_id in kept.renamed else ""
        collected.warnings.append(f"room {room_id!r}: has changed and is prepared again{was}")
    return {
        "new": len(read) - len(changed),
        "changed": len(changed),
        "unchanged": found - len(read) - len(collected.skipped),
        "dropped": kept.dropped,
    }


@dataclass(kw_only=True)
class _Made:
    """The tables of a prepared folder, of rooms that stay and rooms that were read."""

    earlier: Earlier
    kept: Kept
    collected: Collected
    settings: dict[str, Any]
    rooms: pl.DataFrame = field(default_factory=pl.DataFrame)
    segments: pl.DataFrame = field(default_factory=pl.DataFrame)
    label_counts: dict[str, int] = field(default_factory=dict)

    def join(self, split: Split, labels: Labels | None) -> None:
        """Make the tables: all rooms with their splits, all segments with their targets."""
        read, target = self.collected, self.settings["target"]
        rooms = pl.concat([*self.kept.rooms, pl.DataFrame(read.rooms, schema=ROOMS_SCHEMA)])
        self.rooms = split.assign(rooms)
        if labels is not None:
            labels = replace(labels, known=self._known_labels())
        segments = self._segments(labels)
        scale = self.settings["target_scale"] or default_scale(segments, target)
        self.settings["target_scale"] = scale
        before = self.earlier.manifest.get("labels")
        if labels is not None:
            self.settings["labels"] = _labels_manifest(labels, segments)
        elif before is not None and self.kept.segments:
            self.settings["labels"] = before
        segments = segments.drop("split").join(
            self.rooms.select("room_id", "split"), on="room_id", maintain_order="left"
        )
        typical = self._typical(segments) if scale == "odds" else None
        self.segments = set_target(segments, target, scale, typical)
        _warn_of_lacks(read, self.rooms, self.segments, target, split)

    def _typical(self, segments: pl.DataFrame) -> float | None:
        """Of odds: that of the first training rooms, so that the targets of days compare."""
        typical: float | None = self.earlier.manifest.get("target_typical")
        if typical is None or self.earlier.manifest["target_scale"] != "odds":
            typical = typical_in_training(segments, self.settings["target"])
        self.settings["target_typical"] = typical
        return typical

    def _segments(self, labels: Labels | None) -> pl.DataFrame:
        """All rooms' segments, with what else a target can be."""
        read, target = self.collected, self.settings["target"]
        new = pl.concat(read.segments, how="diagonal") if read.segments else None
        if new is not None and target == LONG_VIEW:
            rates = pl.concat(read.long_views).cast({"segment": new.schema["segment"]})
            new = new.join(rates, on=["room_id", "segment"], how="left", maintain_order="left")
        if labels is not None:
            return self._labelled(new, labels)
        segments = pl.concat([*self.kept.segments, *([] if new is None else [new])], how="diagonal")
        named = [name for name in segments.columns if is_label_name(name)]
        if new is not None and self.kept.segments and LABEL in self.kept.segments[0].columns:
            read.warnings.append(
                "there is no table of labels: the segments of "
                f"{counted(len(read.rooms), 'new room')} have label 0"
            )
            segments = segments.with_columns(pl.col(named).fill_null(0.0))
        return segments

    def _labelled(self, new: pl.DataFrame | None, labels: Labels) -> pl.DataFrame:
        """All segments with their labels: of new rooms, and of those that the table names."""
        read, counts = self.collected, Counter[str]()
        read.warnings += labels.warnings
        named = pl.col("room_id").is_in(labels.table["room_id"].unique().to_list())
        again = [
            old.filter(named).drop([name for name in old.columns if is_label_name(name)])
            for old in self.kept.segments
        ]
        todo = pl.concat([*again, *([] if new is None else [new])], how="diagonal")
        done, warnings = add_labels(
            todo.sort("room_id", "segment") if again else todo,
            labels,
            self.settings["target"],
            counts,
            known=self.kept.room_ids,
        )
        read.warnings += warnings
        for name in ("labels", "labels_outside", "rooms_without_labels"):
            counts[name] += self.earlier.counts.get(name, 0)
        self.label_counts = dict(counts)
        stay = [old.filter(~named) for old in self.kept.segments]
        segments = (
            pl.concat([*stay, done], how="diagonal").sort("room_id", "segment") if stay else done
        )
        columns = [name for name in segments.columns if is_label_name(name)]
        return segments.with_columns(pl.col(columns).fill_null(0.0))

    def _known_labels(self) -> list[str]:
        """Classes that the kept rooms have a column of."""
        classes = self.earlier.manifest.get("labels", {}).get("classes", ())
        return [name.removeprefix(f"{LABEL}:") for name in classes] if self.kept.segments else []

    def write(self, out: Path, contents: Mapping[Path, str]) -> PreparedRooms:
        """Write the folder, all at once."""
        read = self.collected
        warnings = read.warnings[:_MAX_WARNINGS]
        if len(read.warnings) > _MAX_WARNINGS:
            warnings.append(f"and {len(read.warnings) - _MAX_WARNINGS} more")
        truth = [*self.kept.truth, *read.truth]
        counts = Counter(self.earlier.counts)
        counts.update(read.counts)
        before = bool(self.kept.rooms) and bool(self.earlier.manifest.get("simulated"))
        return prepared.write(
            out,
            rooms=self.rooms,
            segments=self.segments,
            truth=pl.concat(truth) if truth else None,
            sources=self._sources(contents),
            manifest={
                **{k: v for k, v in self.settings.items() if v is not None},
                "simulated": before or read.simulated > 0,
                "counts": {n: c for n, c in {**counts, **self.label_counts}.items() if c},
                "warnings": warnings,
            },
        )

    def _sources(self, contents: Mapping[Path, str]) -> pl.DataFrame:
        """Where every room is from; those of rooms that are gone are forgotten.

        Those that were too short stay, or the next call would read and count them again.
        """
        places = self.collected.places
        ids, before = set(self.kept.room_ids), self.earlier.rooms
        known = set() if before is None else set(before["room_id"])
        here = {str(folder.resolve()) for folder in contents}
        here -= {str(folder.resolve()) for _, folder in places}
        rows = [
            (room_id, folder, content)
            for folder, (room_id, content) in self.earlier.sources.items()
            if room_id in ids or (room_id not in known and folder in here)
        ]
        rows += [(id_, str(folder.resolve()), contents[folder]) for id_, folder in places]
        rows += self._bad(contents)
        return pl.DataFrame(sorted(rows), SOURCES_SCHEMA, orient="row")

    def _bad(self, contents: Mapping[Path, str]) -> list[tuple[str, str, str]]:
        """Rows of bad rooms, of this call and of those before: the next one counts only others."""
        now = {str(f.resolve()): contents[f] for f, _ in self.collected.skipped}
        looked_at = {str(folder.resolve()) for folder in contents}
        before = {
            folder: content
            for folder, content in self.earlier.skipped.items()
            if folder not in looked_at and Path(folder).is_dir()
        }
        return [("", folder, content) for folder, content in {**before, **now}.items()]


def _read_labels(
    roots: Sequence[Path], given: Path | str | None, target: str, names: Mapping[str, str] | None
) -> Labels | None:
    """The table of labels, where there is one; the tables of several roots are joined.

    Raises:
        InputError: one cannot be read, or there is none and the target is of it.
    """
    found = [path for root in roots if (path := find_labels(root)) is not None]
    if given is not None or found:
        paths = found if given is None else [Path(given)]
        return join_labels([read_labels(path, names) for path in paths])
    if is_label_name(target):
        raise InputError(
            f"target {target!r} needs a table of labels (room_id and t, or start_s and end_s): "
            f"labels.csv in {roots[0]}, or --labels FILE"
        )
    return None


def _labels_manifest(labels: Labels, segments: pl.DataFrame) -> dict[str, Any]:
    columns = [f"{LABEL}:{name}" for name in labels.classes]
    return {
        "path": str(labels.path.resolve()),
        "form": labels.form,
        "classes": [name for name in columns if name in segments.columns],
    }


def _require_separate(out: Path, inputs: Sequence[Path]) -> None:
    if out.resolve() in {path.resolve() for path in inputs}:
        raise InputError(f"{out}: the prepared folder must be another than those of the rooms")


def _warn_of_lacks(
    collected: Collected,
    rooms: pl.DataFrame,
    segments: pl.DataFrame,
    target: str,
    split: Split,
) -> None:
    """Say what will be missed later on."""
    if 0 < collected.simulated < len(collected.rooms):
        collected.warnings.append(
            f"{collected.simulated} of {counted(len(collected.rooms), 'room')} are simulated; all "
            "numbers will be labelled simulated"
        )
    if segments["target"].null_count() == segments.height:
        hint = {
            "ctr": "; rooms without click logs can use comment_rate",
            LONG_VIEW: "; it needs who entered and who left (events.*: enter, exit)",
        }.get(target, "")
        collected.warnings.append(f"no segment has the target {target!r}{hint}")
    for name in ("train", *split.wanted):
        if name in rooms["split"]:
            continue
        if split.by_date:
            collected.warnings.append(f"there is no {name} room by the dates {split.described()}")
        else:
            collected.warnings.append(
                f"there is no {name} room: {counted(rooms.height, 'room')} with "
                f"{counted(rooms['started_at'].n_unique(), 'different start')} cannot be split so"
            )
