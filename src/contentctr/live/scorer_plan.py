"""What a call of RoomScorer will do, found before anything is changed. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from contentctr.live.scorer_segments import Earlier, LiveSegment, Runs
from contentctr.live.scorer_statistics import Followed


@dataclass(kw_only=True)
class Room:
    """A live room of a scorer."""

    streamer_id: str
    streamer: int
    """Row in the model's table."""
    first: int
    last: int
    runs: Runs
    slot: int = -1
    """Place in the rings; -1 until the room is let in."""
    counted: bool = False
    """Whether its statistics are kept from before its first segment."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One segment to take."""

    room: Room
    index: int
    row: int
    """Of its content in the plan."""
    place: int | None
    """Among the segments of the call; None for a missing one."""
    earlier: Earlier | None
    """Counts of segments before it that have become known."""


@dataclass(kw_only=True)
class Plan:
    """What a call will do; making it changes nothing."""

    new_rooms: dict[str, Room] = field(default_factory=dict)
    contents: list[LiveSegment | None] = field(default_factory=list)
    streamers: list[int] = field(default_factory=list)
    """Row of each content's streamer."""
    rounds: list[list[Task]] = field(default_factory=list)
    """Tasks one after the other; no room twice in a round."""
    rows: dict[int, int] = field(default_factory=dict)
    """Row of the content at each place that is to be scored."""
    kept: dict[int, float | None] = field(default_factory=dict)
    """Scores, by place, of segments that are not to be scored; None: late."""
    twins: dict[int, int] = field(default_factory=dict)
    """Places of segments that are repeated in the call, and of the first of each."""

    followed: list[Followed] = field(default_factory=list)
    """What the statistics say of each content, where the model reads them."""

    share_blanks: bool = True
    """Whether missing segments of a streamer are one content, computed once."""
    blanks: dict[int, int] = field(default_factory=dict)
    depths: dict[int, int] = field(default_factory=dict)

    def add(
        self,
        room: Room,
        index: int,
        place: int | None,
        content: LiveSegment | None,
        earlier: Earlier | None,
    ) -> None:
        """Take a segment of the room after those that were added before."""
        row = self.blanks.get(room.streamer) if content is None and self.share_blanks else None
        if row is None:
            row = len(self.contents)
            self.contents.append(content)
            self.streamers.append(room.streamer)
            if content is None:
                self.blanks[room.streamer] = row
        if place is not None:
            self.rows[place] = row
        depth = self.depths.get(id(room), 0)
        self.depths[id(room)] = depth + 1
        if depth == len(self.rounds):
            self.rounds.append([])
        task = Task(room=room, index=index, row=row, place=place, earlier=earlier)
        self.rounds[depth].append(task)
