"""A room that is watched while it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contentctr.cli.common import (
    Asr,
    Columns,
    Device,
    Language,
    StartedAt,
    column_names,
    device_name,
    start_time,
)
from contentctr.cli.live import KEY_VARIABLE, require_extra
from contentctr.errors import InputError

if TYPE_CHECKING:
    from contentctr.live.watch.listener import Listener
    from contentctr.live.watch.waiting import Waiting
    from contentctr.live.watch.watcher import Report, Scorer
    from contentctr.score.checkpoint import Checkpoint
    from contentctr.transcribe.recogniser import Choice
    from contentctr.transcribe.segments import Recogniser

BROKEN, AWAY = 3, 4
"""Exit codes beside 0 (the room, or the user, ended it) and 2 (wrong input)."""


class Frames(StrEnum):
    """Which picture stands for a time."""

    exact = "exact"
    keyframe = "keyframe"


def watch(
    source: Annotated[
        str,
        typer.Argument(
            help="A recording, which may still be written; - or a named pipe; a local .m3u8; "
            "or a stream's URL."
        ),
    ],
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint, or a run's folder.")],
    comments: Annotated[
        Path | None, typer.Option(help="The room's chat, which may still be written.")
    ] = None,
    speech: Annotated[
        Path | None, typer.Option(help="Its subtitles, which may still be written.")
    ] = None,
    asr: Asr = None,
    language: Language = None,
    started_at: StartedAt = None,
    columns: Columns = None,
    url: Annotated[
        str | None, typer.Option(help="Publish to this service, which scores. \\[default: here]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Append scores, JSONL.")] = None,
    room: Annotated[str, typer.Option(help="Room id.")] = "room",
    streamer: Annotated[str, typer.Option(help="Streamer id.")] = "",
    title: Annotated[str, typer.Option(help="Shown by the service.")] = "",
    frames: Annotated[
        Frames, typer.Option(help="keyframe: the keyframe before a time, for less decoding.")
    ] = Frames.exact,
    idle: Annotated[float, typer.Option(min=0, help="A file that is silent so long is done.")] = 60,
    delay: Annotated[
        float, typer.Option(min=0, help="Seconds that a segment waits for its chat and speech.")
    ] = 2.0,
    away: Annotated[
        float, typer.Option(min=0, help="At the end, wait so long for a service that is away.")
    ] = 600,
    device: Device = "cpu",
) -> None:
    """Score a room while it runs: a line every segment, here or published to a service.

    Exits with 0 when the room ends or is ended (Ctrl-C), 2 for wrong input, 3 where the source
    broke off, 4 where segments were not delivered because the service stayed away.
    """
    require_extra()
    from contentctr.live.encoding import LiveEncoder
    from contentctr.live.watch.logs import GrowingLog
    from contentctr.live.watch.outbox import ServiceAwayError
    from contentctr.live.watch.room import WatchedRoom
    from contentctr.live.watch.waiting import SourceBrokenError, Waiting
    from contentctr.live.watch.watcher import Watcher
    from contentctr.progress import stop_signals
    from contentctr.rooms.moments import TimeAxis
    from contentctr.score.checkpoint import load_for
    from contentctr.transcribe.recogniser import NONE, Choice, choice_for

    names, axis = column_names(columns), TimeAxis(started_at=start_time(started_at))
    outcomes = _Outcomes(room, out)
    chat = None
    if comments is not None:
        chat = GrowingLog(comments, "comments", axis=axis, names=names, report=_say)
    words = None if speech is None else GrowingLog(speech, "speech", report=_say)
    found, place = load_for(checkpoint, "rooms"), device_name(device)
    outcomes.simulated = found.spec.simulated
    choice = Choice(asr=asr if speech is None else NONE, language=language, device=place)
    choice = choice_for(found.spec.speech_source, choice)
    with stop_signals() as caught:
        waiting = Waiting(idle_s=idle, stopped=lambda: caught, report=_say)
        listener = _listener(found, choice, waiting)
        watched = WatchedRoom(
            source,
            found.spec,
            waiting,
            comments=chat,
            speech=words,
            delay_s=delay,
            frames=frames.value,
            listener=listener,
            sound=found.config.model.sound,
        )
        encoder = LiveEncoder.from_checkpoint(found, place)
        try:
            with _scoring(found, place, url, title or room, outcomes.take, away, caught) as scorer:
                watched.watch(Watcher(encoder, scorer, room_id=room, streamer_id=streamer).take)
        except SourceBrokenError as error:
            _end(error, BROKEN)
        except ServiceAwayError as error:
            _end(error, AWAY)
        finally:
            if watched.count or caught:
                outcomes.summarise(watched.count, watched.duration_s, stopped=bool(caught))
            if speech is None and watched.has_sound and choice.lacks:
                _say(f"its sound was not heard: {choice.lacks}")
            if listener is not None and listener.skipped:
                _say(
                    f"speech of {listener.skipped} of {watched.count} segments was skipped: this "
                    "machine is too slow for it (a smaller --asr, or none)"
                )


def _listener(checkpoint: Checkpoint, choice: Choice, waiting: Waiting) -> Listener | None:
    """What hears the room, if anything does; the user is told which once there is sound."""
    from contentctr.live.watch.listener import Listener
    from contentctr.transcribe.recogniser import source_of

    if choice.lacks:
        return None
    # What the user named may be wrong: better said now than once there is sound.
    named = None if choice.asr is None else choice.load()

    def load() -> Recogniser:
        recogniser = named or choice.load()
        source = source_of(recogniser)
        for line in (f"speech: {source}", *checkpoint.speech_warnings(source)):
            _say(line)
        return recogniser

    late_s = checkpoint.spec.segment_seconds
    return Listener(load, waiting, language=choice.language, late_s=late_s)


@contextmanager
def _scoring(
    checkpoint: Checkpoint,
    place: str,
    url: str | None,
    title: str,
    report: Report,
    away_s: float,
    caught: list[int],
) -> Iterator[Scorer]:
    """Scores by the service at `url`; without one, by this process."""
    from contentctr.live.engine import Engine
    from contentctr.live.watch.client import Client
    from contentctr.live.watch.outbox import Outbox, ServiceAwayError
    from contentctr.live.watch.waiting import SourceBrokenError
    from contentctr.live.watch.watcher import LocalScorer, ServiceScorer

    if url is None:
        engine = Engine.from_checkpoint(checkpoint, max_rooms=1, device=place, shares=False)
        yield LocalScorer(engine, report)
        return
    with closing(Client(url, api_key=os.environ.get(KEY_VARIABLE))) as client:
        outbox = Outbox(
            client,
            window_len=checkpoint.config.data.window_len,
            report=_say,
            away_s=away_s,
            stopped=lambda: caught,
        )
        scorer = ServiceScorer(outbox, report, title=title)
        try:
            yield scorer
        except (SourceBrokenError, InputError):
            with suppress(ServiceAwayError):
                scorer.close()  # what came before is delivered
            raise
        scorer.close()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _end(error: Exception, code: int) -> None:
    _say(f"error: {error}")
    raise typer.Exit(code)


def _require_scores(path: Path) -> None:
    """Stop at a file that is there and holds no scores: nothing is appended to a user's own."""
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return
    try:
        with path.open(encoding="utf-8") as file:
            row = json.loads(file.readline())
        ours = {"room_id", "start_s", "score", "status"} <= row.keys()
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise InputError(f"{path}: holds no scores of `watch` to append to; choose another file")


class _Outcomes:
    """Prints each segment's outcome, and appends it to a file.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, room_id: str, out: Path | None) -> None:
        self.simulated = False
        self._room_id, self._out = room_id, out
        self._by_status: dict[str, int] = {}
        if out is not None:
            _require_scores(out)
            try:
                out.open("a", encoding="utf-8").close()
            except OSError as error:
                raise InputError(f"{out}: cannot be appended to ({error.strerror})") from None

    def take(self, outcome: dict[str, Any]) -> None:
        """One more segment's."""
        from contentctr.score.highlights import clock

        status = outcome["status"]
        self._by_status[status] = self._by_status.get(status, 0) + 1
        span = f"{clock(outcome['start_s'])}-{clock(outcome['end_s'])}"
        score = "-" if outcome["score"] is None else f"{outcome['score']:.4f}"
        print(f"{span}  {score}{' (simulated)' * self.simulated}  {status}", flush=True)
        if self._out is not None:
            with self._out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"room_id": self._room_id, **outcome}) + "\n")

    def summarise(self, count: int, duration_s: float, *, stopped: bool) -> None:
        """Say what was watched and what became of it."""
        from contentctr.score.highlights import clock

        counts = ", ".join(f"{n} {status}" for status, n in sorted(self._by_status.items()))
        _say(
            f"{'stopped' if stopped else 'ended'} after {clock(duration_s)}: "
            f"{count} segment{'s' * (count != 1)}" + (f" ({counts})" if counts else "")
        )
