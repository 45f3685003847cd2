"""Highlights as cuts: whole frames, by time, counted once for all formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contentctr.report.player.contents import Chapter, visible
from contentctr.rooms.footage import Footage


@dataclass(frozen=True, kw_only=True)
class FrameCut:
    """A highlight in frames, counted from the recording's first picture."""

    rank: int
    first: int
    stop: int
    """The frame after its last one."""
    peak: int
    title: str

    @property
    def length(self) -> int:
        """In frames."""
        return self.stop - self.first


def chapter_title(chapter: Chapter) -> str:
    """A highlight's name in one line: its rank, and its reasons where it has them."""
    # The strongest reasons come first; YouTube shows hardly more than two.
    reasons = ", ".join([reason.text for reason in chapter.reasons if reason.text][:2])
    name = f"Highlight {chapter.rank}"
    return visible(f"{name}: {reasons}" if reasons else name, 100)


def frame_cuts(
    chapters: Sequence[Chapter], footage: Footage, *, pad_s: float = 0.0
) -> list[FrameCut]:
    """The highlights as cuts, by time; what lies wholly before or after the pictures is left out.

    Args:
        chapters: highlights.
        footage: of the recording.
        pad_s: so much more on each side, where the recording goes on.
    """
    cuts = []
    for chapter in sorted(chapters, key=lambda c: (c.start_s, c.rank)):
        first = footage.frame(chapter.start_s - pad_s)
        stop = footage.frame(chapter.end_s + pad_s)
        if first >= stop:
            continue
        peak = min(max(footage.frame(chapter.peak_s), first), stop - 1)
        title = chapter_title(chapter)
        cuts.append(FrameCut(rank=chapter.rank, first=first, stop=stop, peak=peak, title=title))
    return cuts
