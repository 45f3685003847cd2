"""One clock for a recording: its streams' own times, sound and picture together, become the room's.

A file's clock may start again (joined files, a reconnection), jump ahead over nothing (advertising
cut out, a broken stamp), in all streams or in one. The room's runs on, by these rules:

1. The room begins with the first picture, or with the first sound where that is earlier by more
   than LEAD_S, and ends with the last of either.
2. A packet begins a *session*, a stretch of unbroken clock, where its decoding time lies more than
   JITTER_S before the last of its stream, or more than HOLE_S after everything that came. Other
   streams join the session with their first packet within HOLE_S of it.
3. Up to HOLE_S, time just passed; up to PAUSE_S too where no sound runs, since pictures alone may
   be as rare as that. Where a stream goes back to where the clock was within SETTLE_S, the stamps
   between were astray: they are shown in their stream's order, and move nothing.
4. A session to which all running streams jumped ahead, by at most KEPT_S, keeps its time: that
   much was not recorded, and is a hole; of all holes together, HOLES_KEPT_S. Any other goes on
   where what was before it ended, as players and ffmpeg do it, and none of its packets comes before
   the end of its own stream.
5. A stream that starts again or jumps alone goes on by itself, and the others keep their time.

The clock is fed packet by packet, so that a file which still grows has the same as the whole one. A
session's place is known once SETTLE_S of it have come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

PICTURE = 0
"""The number of the stream of pictures; others are sound."""
LEAD_S = 0.25
"""Sound this little before the first picture is an encoder's priming: the room begins with it."""
JITTER_S = 0.5
"""A stamp up to this far behind its stream's last is disorder, not a clock that starts again."""
HOLE_S = 10.0
"""Nothing for longer, though sound ran, is a hole; ffmpeg has the same bound for a jump."""
PAUSE_S = 60.0
"""Pictures without sound may be this far apart: slides, a picture now and then."""
KEPT_S = 300.0
"""A longer hole is closed up: the clock is then more likely broken than the stream was away."""
HOLES_KEPT_S = 6 * 3600.0
"""Holes of a recording in all; from there on each is closed up. Without a bound, jumps every few
seconds would make days of segments in which there is nothing."""
SETTLE_S = 2.0
"""More than muxers put between packets of one moment."""
_FOLLOW_S = 1.0
"""A stream that goes on for longer by its old clock has not followed the others."""
_LONG_S = 1.0
"""A packet that claims to last longer is not believed, except at the recording's end."""


@dataclass(frozen=True, kw_only=True)
class Break:
    """A place where a file's clock did not run on."""

    at_s: float
    """Where what came after it begins, on the room's clock."""
    jump_s: float
    """How far the file's clock jumped; below 0: it started again."""
    kept: bool
    """Whether the time between passed in the room too, as a hole."""
    alone: int | None
    """The stream that did so, if others did not."""
    back: bool = False
    """Whether it went back at once: a few stamps were astray."""

    def __str__(self) -> str:
        if self.back:
            way = f"{abs(self.jump_s):.1f} s {'ahead' if self.jump_s > 0 else 'back'}"
            return f"at {self.at_s:.1f} s its clock goes {way} for a moment: stamps that are astray"
        whose = "its clock"
        if self.alone is not None:
            whose = f"the clock of its {'pictures' if self.alone == PICTURE else 'sound'} alone"
        if self.kept:
            return (
                f"nothing was recorded from {self.at_s - self.jump_s:.1f} to {self.at_s:.1f} s "
                f"({whose} jumps ahead): a hole without pictures"
            )
        if self.jump_s > 0:
            return (
                f"at {self.at_s:.1f} s {whose} jumps {self.jump_s:.1f} s ahead over nothing: the "
                "jump is left out"
            )
        return (
            f"at {self.at_s:.1f} s {whose} starts again ({-self.jump_s:.1f} s back): what follows "
            "goes on from there"
        )


@dataclass(slots=True)
class _Track:
    """Where a stream is."""

    session: int
    last_s: float
    """Decoding time of its last packet, by the file's clock like all times in here."""
    step_s: float = 0.0
    """Between its last two packets."""


@dataclass(slots=True)
class _Span:
    """What came of a stream in a session."""

    first_s: float
    """When it begins to be shown."""
    end_s: float = -math.inf
    """When it ends."""
    last_s: float = -math.inf
    """The same, if what its packets claim to last is believed."""


@dataclass(slots=True)
class _Session:
    begin_s: float
    """Decoding time of its first packet."""
    now_s: float
    """Its latest decoding time."""
    opener: int
    """The stream of its first packet."""
    spans: dict[int, _Span] = field(default_factory=dict)
    """Each stream's."""
    offset_s: float | None = None
    """The room's time less the file's; None while it is not known."""
    jump_s: float = 0.0
    """How far it lies from what was before."""
    before: int = -1
    """The session that the opener was in, or else the one before; -1: it is the first."""
    from_s: float = 0.0
    """What that session's clock was."""
    is_pause: bool = False
    """Whether time may just have passed before it; then it is one with `before` once it settles."""
    is_over: bool = False
    """No stream goes on in it: it was merged into the one before, or its stamps were astray."""
    left: dict[int, float] = field(default_factory=dict)
    """The last decoding time of every other stream then."""

    def first_s(self, stream: int, otherwise_s: float) -> float:
        """When a stream begins to be shown in it; or otherwise, if nothing of it came."""
        return self.spans[stream].first_s if stream in self.spans else otherwise_s


class Clock:
    """A recording's clock, fed with the stamps of its packets in the order of the file."""

    def __init__(self) -> None:
        self.breaks: list[Break] = []
        self.holes: list[tuple[float, float]] = []
        """Where neither sound nor pictures were recorded, in seconds of the room."""
        self._kept_s = 0.0
        """Of the holes together."""
        self._sessions: list[_Session] = []
        self._tracks: dict[int, _Track] = {}
        self._new: set[int] | None = None
        """Streams that have come in the file at hand; None: it is the first."""
        self._oldest = 0
        """The first session that began in it."""
        self._begins: dict[int, float] = {}
        self._ends: dict[int, float] = {}

    def add(
        self,
        stream: int,
        decode_s: float,
        show_s: float,
        length_s: float = 0.0,
        *,
        shown: bool = True,
        jitter_s: float = JITTER_S,
    ) -> int:
        """Take a packet.

        Args:
            stream: its stream's number.
            decode_s: its decoding time by the file's clock, in seconds.
            show_s: when it is shown.
            length_s: how long it lasts; 0: not known.
            shown: whether it is; by edit lists some packets only help decoding.
            jitter_s: JITTER_S, or more where decoding times are guessed.

        Returns:
            The number of its session; see `offset`.
        """
        track = self._tracks.get(stream)
        if track is None or (self._new is not None and stream not in self._new):
            number = self._session_of_new(stream, decode_s)
            track = self._tracks[stream] = _Track(session=number, last_s=decode_s)
            if self._new is not None:
                self._new.add(stream)
        else:
            number, step_s = track.session, decode_s - track.last_s
            session = self._sessions[number]
            ahead_s = decode_s - session.now_s
            if step_s < -jitter_s or (ahead_s > SETTLE_S and self._jumps(number, decode_s)):
                number = self._session_after(stream, track, decode_s)
            elif step_s > 0:
                track.step_s = step_s if step_s < HOLE_S else HOLE_S
            track.session, track.last_s = number, decode_s
        session = self._sessions[number]
        if decode_s > session.now_s:
            session.now_s = decode_s
        if shown:
            self._show(session, stream, track.step_s, show_s, length_s)
        newest = self._sessions[-1]
        if newest.offset_s is None and self._has_lasted(newest):
            self._settle(newest, whole=True)
        return number

    def next_file(self) -> None:
        """What comes now is of another file, to which the recording's first was joined."""
        self._new, self._oldest = set(), len(self._sessions)

    def offset(self, session: int) -> float | None:
        """What makes a session's stamps the room's; None: not known before more packets came."""
        return self._sessions[session].offset_s

    @property
    def only_offset_s(self) -> float | None:
        """The offset of all packets that came; None where the clock did not run on."""
        return self._sessions[0].offset_s if len(self._sessions) == 1 else None

    def close(self) -> None:
        """No more packets come: every session gets its place."""
        self._settle_newest()
        for stream, track in self._tracks.items():
            session = self._sessions[track.session]
            if stream in session.spans and session.offset_s is not None:
                end_s = session.offset_s + session.spans[stream].last_s
                self._ends[stream] = max(end_s, self._ends[stream])

    @property
    def file_end_s(self) -> float:
        """The latest time by the file's own clock."""
        return max((session.now_s for session in self._sessions), default=0.0)

    def _settle_newest(self) -> None:
        if self._sessions and self._sessions[-1].offset_s is None:
            self._settle(self._sessions[-1], whole=False)

    def begin_s(self, stream: int) -> float | None:
        """When a stream is first shown, on the room's clock; None: it has not been yet."""
        return self._begins.get(stream)

    def end_s(self, stream: int) -> float | None:
        """When what came of a stream ends, on the room's clock; None: nothing came."""
        return self._ends.get(stream)

    def _session_of_new(self, stream: int, decode_s: float) -> int:
        """The session of the first packet of a stream in a file."""
        newest = len(self._sessions) - 1
        while newest >= 0 and self._sessions[newest].is_over:
            newest -= 1
        if newest >= self._oldest and self._is_near(newest, decode_s):
            return newest
        if newest >= 0:
            # Another file may go on by the same clock.
            now_s = self._sessions[newest].now_s
            if now_s - SETTLE_S <= decode_s <= now_s + HOLE_S:
                return newest
        return self._open(stream, decode_s, before=newest)

    def _jumps(self, number: int, decode_s: float) -> bool:
        """Whether what is ahead of all in a session may be more than time that passed."""
        session = self._sessions[number]
        if decode_s > session.now_s + HOLE_S or self._is_back(session, decode_s):
            return True
        # Where a stream is alone, the others are no help to tell stray stamps.
        tracks = (self._sessions[track.session] for track in self._tracks.values())
        return all(s is session or (s.offset_s is None and s.before == number) for s in tracks)

    def _session_after(self, stream: int, track: _Track, decode_s: float) -> int:
        """The session of a packet that does not follow on its stream's last."""
        session = self._sessions[track.session]
        if self._is_back(session, decode_s):
            if session.offset_s is None:
                self._leave_astray(session, stream)
            return session.before
        for number in range(len(self._sessions) - 1, track.session, -1):
            if self._is_near(number, decode_s):
                return number
        now_s = session.now_s
        longest_s = HOLE_S if self._sound_runs(track.session) else PAUSE_S
        is_pause = now_s <= decode_s <= now_s + longest_s
        return self._open(stream, decode_s, before=track.session, is_pause=is_pause)

    def _is_near(self, number: int, decode_s: float) -> bool:
        session = self._sessions[number]
        is_near = session.begin_s - HOLE_S <= decode_s <= session.now_s + HOLE_S
        return is_near and not session.is_over

    def _is_back(self, session: _Session, decode_s: float) -> bool:
        """Whether a stream left a session that was none for where the clock was before it."""
        if session.before < 0 or not (session.is_over or session.offset_s is None):
            return False
        is_away = decode_s < session.begin_s - JITTER_S or decode_s > session.now_s + SETTLE_S
        return is_away and session.from_s - JITTER_S <= decode_s <= session.from_s + HOLE_S

    def _leave_astray(self, session: _Session, stream: int) -> None:
        """Give the newest session, whose stamps were astray, its place in its stream's order."""
        begin_s = session.first_s(stream, session.begin_s)
        before_s = self._sessions[session.before].offset_s
        assert before_s is not None
        at_s = self._ends.get(stream, before_s + session.from_s)
        session.offset_s, session.is_over = at_s - begin_s, True
        for other in session.spans:
            self._place(session, other, session.offset_s)
        self.breaks.append(
            Break(at_s=at_s, jump_s=session.jump_s, kept=False, alone=None, back=True)
        )

    def _sound_runs(self, number: int) -> bool:
        session = self._sessions[number]
        ends = [span.end_s for stream, span in session.spans.items() if stream != PICTURE]
        return max(ends, default=-math.inf) >= session.now_s - HOLE_S

    def _open(self, stream: int, decode_s: float, *, before: int, is_pause: bool = False) -> int:
        new = _Session(begin_s=decode_s, now_s=decode_s, opener=stream, is_pause=is_pause)
        if self._sessions:
            self._settle_newest()
            if self._sessions[before].is_over:
                before = self._sessions[before].before
            now_s, track = self._sessions[before].now_s, self._tracks.get(stream)
            new.before, new.from_s, new.jump_s = before, now_s, decode_s - now_s
            if track is not None:
                last_s = track.last_s if decode_s < now_s else now_s
                new.jump_s = decode_s - last_s - track.step_s
            new.left = {s: t.last_s for s, t in self._tracks.items() if s != stream}
        self._sessions.append(new)
        return len(self._sessions) - 1

    def _has_lasted(self, session: _Session) -> bool:
        if session.now_s - session.begin_s >= SETTLE_S:
            return True
        return any(self._went_on(session, stream) >= SETTLE_S for stream in session.left)

    def _went_on(self, session: _Session, stream: int) -> float:
        """How long another stream has gone on by its old clock, since the newest session began."""
        track = self._tracks[stream]
        if self._sessions[track.session] is session:
            return 0.0
        return track.last_s - session.left[stream]

    def _show(
        self, session: _Session, stream: int, step_s: float, show_s: float, length_s: float
    ) -> None:
        """Count a packet in to where its stream begins and ends."""
        # This runs for every packet of a recording: numbers are compared in place.
        span = session.spans.get(stream)
        if span is None:
            span = session.spans[stream] = _Span(show_s)
        elif show_s < span.first_s:
            span.first_s = show_s
        end_s = show_s + min(length_s or step_s, PAUSE_S)
        if end_s > span.last_s:
            span.last_s = end_s
        if length_s <= 0 or length_s > _LONG_S:
            # In MP4 the last packet before a jump claims to last until the next.
            length_s = min(length_s or math.inf, step_s or _LONG_S)
        if show_s + length_s > span.end_s:
            span.end_s = show_s + length_s
            if session.offset_s is not None:
                self._place(session, stream, session.offset_s)

    def _place(self, session: _Session, stream: int, offset_s: float) -> None:
        span = session.spans[stream]
        if stream not in self._begins:
            self._begins[stream] = offset_s + span.first_s
        end_s = offset_s + span.end_s
        if end_s > self._ends.get(stream, -math.inf):
            self._ends[stream] = end_s

    def _settle(self, session: _Session, *, whole: bool) -> None:
        """Give the newest session its place; `whole` if it has lasted for SETTLE_S."""
        begin_s = min((s.first_s for s in session.spans.values()), default=session.begin_s)
        if len(self._sessions) == 1:
            picture_s = session.first_s(PICTURE, math.inf)
            session.offset_s = -(picture_s if picture_s - begin_s <= LEAD_S else begin_s)
        else:
            session.offset_s = self._continued(session, begin_s, whole)
        for stream in session.spans:
            self._place(session, stream, session.offset_s)
        if session.is_pause:
            self._merge(session)

    def _merge(self, session: _Session) -> None:
        """Go on in the session before the newest, which a pause alone parts from it."""
        whole, session.is_over = self._sessions[session.before], True
        whole.now_s = max(whole.now_s, session.now_s)
        for stream, new in session.spans.items():
            span = whole.spans.setdefault(stream, new)
            span.end_s = max(span.end_s, new.end_s)
            span.last_s = max(span.last_s, new.last_s)
        for track in self._tracks.values():
            if self._sessions[track.session] is session:
                track.session = session.before

    def _continued(self, session: _Session, begin_s: float, whole: bool) -> float:
        """The offset by which a session goes on after what was before it; notes the break."""
        gone_on = {s for s in session.left if self._went_on(session, s) > _FOLLOW_S}
        ends = {stream: end_s for stream, end_s in self._ends.items() if stream not in gone_on}
        offset_s = self._sessions[session.before].offset_s
        assert offset_s is not None
        if session.is_pause:
            return offset_s
        # One stray stamp must not make a hole: the session after a real one lasts.
        kept = whole and not gone_on and 0 < session.jump_s <= KEPT_S and session.opener in ends
        kept = kept and self._kept_s + session.jump_s <= HOLES_KEPT_S
        if kept:
            self._kept_s += session.jump_s
            self.holes.append((max(ends.values()), offset_s + begin_s))
        elif session.opener in ends or (self._new is not None and ends):
            offset_s = max(end - session.first_s(s, begin_s) for s, end in ends.items())
        else:
            # A stream whose clock never was the others' begins where they are.
            offset_s += session.from_s - session.begin_s
        at_s = offset_s + begin_s
        self.breaks.append(
            Break(
                at_s=at_s,
                jump_s=session.jump_s,
                kept=kept,
                alone=session.opener if gone_on else None,
            )
        )
        return offset_s
