"""What an inspection found, in words for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from contentctr.counting import counted
from contentctr.report.strip import strip_lines
from contentctr.report.ticks import moment
from contentctr.rooms.inspection.facts import Inspection, PartFacts, RecordingFacts
from contentctr.visible import visible

_LABEL = 11
_SEGMENT_S = 30.0
_KINDS = {
    "room": "a room folder",
    "video": "a recording",
    "frames": "images, a room's frames",
    "comments": "a chat log, comments",
    "speech": "speech",
    "events": "an event log",
    "columns": "columns of numbers",
}


def describe(found: Inspection, cells: int, *, unicode: bool = True) -> list[str]:
    """The lines that say what was understood; none has a control character.

    Args:
        found: what was inspected.
        cells: width of the strip of coverage, in characters.
        unicode: whether the terminal can show more than ASCII.
    """
    kind = "" if found.kind is None else f": {_KINDS[found.kind]}, told by {found.told}"
    lines = [f"{found.path}{kind}"]
    lines += [f"  {label:<{_LABEL}}{text}" for label, text in _facts(found)]
    strip = strip_lines(found, cells, unicode=unicode)
    lines += ["", *(f"  {line}" for line in strip)] if strip else []
    shift = found.shift
    if shift is not None:
        lines.append(f"  {'shift':<{_LABEL}}{shift.verdict}: {shift.reason}")
        if shift.facts:
            lines.append(f"  {'':<{_LABEL}}{'; '.join(shift.facts)}")
    lines += [f"  note: {note}" for note in found.notes]
    lines += [f"  problem: {problem}" for problem in found.problems]
    return [visible(line) for line in lines]


def _facts(found: Inspection) -> Iterator[tuple[str, str]]:
    if found.duration_s is not None:
        yield "length", _length(found)
    if found.kind == "room" or found.started_at is not None:
        names = [f"room {found.room_id}"]
        names += [f"streamer {found.streamer_id}"] if found.streamer_id else []
        names += [f"started at {found.started_at}"] if found.started_at else []
        names += ["simulated"] if found.simulated else []
        yield "room", ", ".join(names)
    if found.recording is not None:
        yield from _recording_facts(found.recording)
    for part in found.parts:
        yield from _part_facts(part, found.duration_s)


def _length(found: Inspection) -> str:
    assert found.duration_s is not None
    # As segment_rooms cuts them: a last piece of at least half a segment is one.
    count = int(found.duration_s / _SEGMENT_S + 0.5)
    pieces = f"{counted(count, 'segment')} of {_SEGMENT_S:.0f} s"
    return f"{found.duration_s:.1f} s ({moment(found.duration_s)}), {pieces}"


def _recording_facts(found: RecordingFacts) -> Iterator[tuple[str, str]]:
    yield "video", found.path.name
    yield "container", found.container
    for stream in found.streams:
        codec = f"{stream.kind} {stream.codec or 'of an unknown codec'}"
        flags = ["default"] if stream.default else []
        yield (
            f"stream {stream.index}",
            ", ".join([codec, *([stream.details] if stream.details else []), *flags])
            + f": {stream.use}",
        )
    if found.pictures_s is not None and found.width:
        turned = f", turned by {found.rotation} degrees" if found.rotation else ""
        keys, rate = found.keyframe_every_s, found.frame_rate
        yield (
            "pictures",
            f"{_span(found.pictures_s)}, {found.width}x{found.height} upright{turned}, "
            + (f"{rate:.3g} a second" if rate > 0.5 else f"one every {1 / max(rate, 1e-6):.3g} s")
            + ("" if keys is None else f", a keyframe every {keys:.3g} s"),
        )
    else:
        yield "pictures", "none"
    yield "sound", "none" if found.sound_s is None else _span(found.sound_s)
    if not found.clock:
        yield "clock", "runs on from start to end"
    for number, text in enumerate(found.clock):
        yield "" if number else "clock", text
    said = [note for note in found.warnings if not any(note.endswith(c) for c in found.clock)]
    for note in said:
        yield "", f"note: {note.removeprefix(f'{found.path}: ')}"
    if found.bad_packets:
        yield "", f"note: {counted(found.bad_packets, 'packet')} cannot be read"


def _span(span_s: tuple[float, float]) -> str:
    return f"{span_s[0]:.1f} to {span_s[1]:.1f} s"


def _part_facts(facts: PartFacts, duration_s: float | None) -> Iterator[tuple[str, str]]:
    part = facts.part
    if part is None:
        yield facts.name, f"{facts.path.name}: cannot be read"
        return
    yield facts.name, f"{facts.path.name}: {part.form}"
    outside = facts.outside(duration_s)
    counts = [f"{counted(part.table.height, 'row')}, {part.table.height - outside:,} used"]
    counts += [f"{outside:,} outside the room"] if outside else []
    counts += [counted(part.bad_lines, "bad line")] if part.bad_lines else []
    counts += [counted(part.duplicates, "duplicate")] if part.duplicates else []
    yield "", ", ".join(counts)
    if facts.span_s is not None:
        first_s, last_s = facts.span_s
        yield "", f"from {first_s:.1f} to {last_s:.1f} s ({moment(first_s)} to {moment(last_s)})"
    if part.left_out:
        yield "", "left out: " + ", ".join(f"{n} {why}" for why, n in part.left_out.items())
    if facts.details:
        yield "", "; ".join(f"{name}: {_value(value)}" for name, value in facts.details.items())
    for note in part.warnings:
        yield "", f"note: {note.removeprefix(f'{part.path}: ')}"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
