"""FCPXML 1.8, which Final Cut Pro, DaVinci Resolve and others read: cuts exact to the frame.

Every time is a whole number of frame durations as a fraction of seconds, as the format wants it:
https://developer.apple.com/documentation/professional-video-applications/fcpxml-reference
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from xml.etree import ElementTree

from contentctr.predict.export.cuts import FrameCut
from contentctr.report.player.contents import visible
from contentctr.rooms.footage import Footage

_SEQUENCE_RATES = {32000: "32k", 44100: "44.1k", 48000: "48k", 88200: "88.2k", 96000: "96k"}
"""Rates of sound that a sequence may have."""


def fcpxml_text(name: str, cuts: Sequence[FrameCut], footage: Footage) -> str:
    """The timeline as FCPXML."""
    title = visible(name)
    root = ElementTree.Element("fcpxml", version="1.8")
    _resources(root, footage)
    event = ElementTree.SubElement(ElementTree.SubElement(root, "library"), "event", name=title)
    project = ElementTree.SubElement(event, "project", name=f"{title} highlights")
    numbering = "DF" if footage.drop else "NDF"
    layout = {
        "format": "r1",
        "duration": _time(sum(cut.length for cut in cuts), footage),
        "tcStart": "0s",
        "tcFormat": numbering,
    }
    if footage.channels:
        layout["audioLayout"] = "mono" if footage.channels == 1 else "stereo"
        layout["audioRate"] = _SEQUENCE_RATES.get(footage.sample_rate, "48k")
    spine = ElementTree.SubElement(ElementTree.SubElement(project, "sequence", layout), "spine")
    offset = 0
    for cut in cuts:
        clip = ElementTree.SubElement(
            spine,
            "asset-clip",
            ref="r2",
            name=cut.title,
            offset=_time(offset, footage),
            start=_time(footage.start_frame + cut.first, footage),
            duration=_time(cut.length, footage),
            format="r1",
            tcFormat=numbering,
        )
        ElementTree.SubElement(
            clip,
            "marker",
            start=_time(footage.start_frame + cut.peak, footage),
            duration=_time(1, footage),
            value=f"Peak {cut.rank}",
        )
        offset += cut.length
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{body}\n'


def _resources(root: ElementTree.Element, footage: Footage) -> None:
    resources = ElementTree.SubElement(root, "resources")
    ElementTree.SubElement(
        resources,
        "format",
        id="r1",
        frameDuration=_seconds(1 / footage.rate),
        width=str(footage.width),
        height=str(footage.height),
    )
    asset = {
        "id": "r2",
        "name": visible(footage.path.name),
        "src": footage.path.resolve().as_uri(),
        "start": _time(footage.start_frame, footage),
        "duration": _time(footage.frames, footage),
        "hasVideo": "1",
        "format": "r1",
    }
    if footage.channels:
        asset |= {"hasAudio": "1", "audioSources": "1", "audioChannels": str(footage.channels)}
        asset["audioRate"] = str(footage.sample_rate)
    ElementTree.SubElement(resources, "asset", asset)


def _time(frames: int, footage: Footage) -> str:
    return _seconds(frames / footage.rate)


def _seconds(time: Fraction) -> str:
    whole = time.denominator == 1
    return f"{time.numerator}s" if whole else f"{time.numerator}/{time.denominator}s"
