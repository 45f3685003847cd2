"""Timelines through OpenTimelineIO: its own .otio, and an edit decision list (CMX 3600).

Its adapter for Final Cut Pro X writes no frame duration at 29.97 frames a second, no picture size
and no sound, so that fcpxml.py writes that format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.predict.export.cuts import FrameCut
from contentctr.report.player.contents import one_line
from contentctr.rooms.footage import Footage

_DROPPING = re.compile(r"^\d{3} .*\d\d:\d\d:\d\d;\d\d", re.MULTILINE)
"""An event whose timecodes drop numbers."""
_EVENT = re.compile(r"(?<=^\d{3}  .{8} )V    (?= C )", re.MULTILINE)
"""The channels of an event: pictures alone."""
EXTRA = "editors"


def otio_text(name: str, cuts: Sequence[FrameCut], footage: Footage) -> str:
    """The timeline as OpenTimelineIO's own JSON.

    Raises:
        InputError: OpenTimelineIO is not installed.
    """
    otio = _otio()
    return str(otio.adapters.write_to_string(make_timeline(name, cuts, footage), "otio_json"))


def edl_text(name: str, cuts: Sequence[FrameCut], footage: Footage) -> str:
    """The timeline as an edit decision list.

    Raises:
        InputError: OpenTimelineIO or its adapter is not installed, or the rate has no timecode.
    """
    otio = _otio()
    # Editors find the media of such a list by the clips' names.
    timeline = make_timeline(name, cuts, footage, by_file=True)
    try:
        text = otio.adapters.write_to_string(timeline, "cmx_3600", rate=float(footage.rate))
    except ValueError:
        raise InputError(
            f"{footage.path}: no edit decision list has {float(footage.rate):.5g} frames a second; "
            "use otio or fcpxml"
        ) from None
    except otio.exceptions.OTIOError as error:
        raise InputError(
            f"the edit decision list was not written ({error}); {install_hint(EXTRA)}"
        ) from None
    # The adapter counts 29.97 with dropped numbers, and does not say so; and writes pictures alone.
    mode = "DROP FRAME" if _DROPPING.search(str(text)) else "NON-DROP FRAME"
    if footage.channels:
        text = _EVENT.sub("B    " if footage.channels == 1 else "AA/V ", str(text))
    title, rest = str(text).split("\n", 1)
    return f"{title}\nFCM: {mode}\n{rest}"


def make_timeline(
    name: str, cuts: Sequence[FrameCut], footage: Footage, *, by_file: bool = False
) -> Any:
    """An OpenTimelineIO timeline of the cuts one after the other, with a marker at each peak.

    Args:
        name: of the timeline.
        cuts: by time.
        footage: of the recording.
        by_file: clips are called as the file, and their markers as the cuts; else clips as the
            cuts.

    Raises:
        InputError: OpenTimelineIO is not installed.
    """
    otio = _otio()
    rate = float(footage.rate)

    def time(frame: int) -> Any:
        return otio.opentime.RationalTime(frame, rate)

    def span(first: int, length: int) -> Any:
        return otio.opentime.TimeRange(time(footage.start_frame + first), time(length))

    timeline = otio.schema.Timeline(one_line(name))
    kinds = [otio.schema.TrackKind.Video]
    kinds += [otio.schema.TrackKind.Audio] if footage.channels else []
    for kind in kinds:
        track = otio.schema.Track(f"{kind[0]}1", kind=kind)
        for cut in cuts:
            media = otio.schema.ExternalReference(
                target_url=footage.path.resolve().as_uri(), available_range=span(0, footage.frames)
            )
            clip = otio.schema.Clip(
                one_line(footage.path.name) if by_file else cut.title,
                media_reference=media,
                source_range=span(cut.first, cut.length),
                metadata={"contentctr": {"rank": cut.rank}},
            )
            if kind == otio.schema.TrackKind.Video:
                told = cut.title if by_file else f"Peak {cut.rank}"
                peak = otio.schema.Marker(told, span(cut.peak, 1))
                clip.markers.append(peak)
            track.append(clip)
        timeline.tracks.append(track)
    return timeline


def _otio() -> Any:
    try:
        import opentimelineio
    except ModuleNotFoundError:
        raise InputError(f"otio and edl need OpenTimelineIO: {install_hint(EXTRA)}") from None
    return opentimelineio
