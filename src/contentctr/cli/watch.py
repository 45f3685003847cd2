"""A room that is watched while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contentctr.cli.common import (
    Asr,
    Columns,
    Device,
    Engine,
    Frames,
    Language,
    StartedAt,
    column_names,
    device_name,
    print_warnings,
    require_extra,
    start_time,
)
from contentctr.cli.live import api_key
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.files import append_text, parse_json
from contentctr.printing import say

if TYPE_CHECKING:
    from contentctr.batch import DataSpec
    from contentctr.live.watch.folder import WatchedParts
    from contentctr.live.watch.listener import Listener
    from contentctr.live.watch.waiting import Waiting
    from contentctr.live.watch.watcher import Report, Scorer
    from contentctr.score.checkpoint import Checkpoint
    from contentctr.transcribe.recogniser import Choice
    from contentctr.transcribe.segments import Recogniser

_LINE = 1 << 16
BROKEN, AWAY = 3, 4
"""Exit codes beside 0 (the room, or the user, ended it) and 2 (wrong input)."""


def watch(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint, or a run's folder.")],
    source: Annotated[
        str,
        typer.Argument(
            help="A recording, which may still be written; a room folder with one; - or a named "
            "pipe; a local .m3u8; or a stream's URL."
        ),
    ],
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
    room: Annotated[
        str | None, typer.Option(help="Room id. \\[default: room.json's, else room]")
    ] = None,
    streamer: Annotated[str, typer.Option(help="Streamer id.")] = "",
    title: Annotated[str, typer.Option(help="Shown by the service.")] = "",
    frames: Annotated[
        Frames | None,
        typer.Option(
            help="keyframe: the keyframe before a time, for less decoding. \\[default: as the "
            "model was trained]"
        ),
    ] = None,
    idle: Annotated[float, typer.Option(min=0, help="A file that is silent so long is done.")] = 60,
    delay: Annotated[
        float, typer.Option(min=0, help="Seconds that a segment waits for its chat and speech.")
    ] = 2.0,
    away: Annotated[
        float, typer.Option(min=0, help="At the end, wait so long for a service that is away.")
    ] = 600,
    reconnect: Annotated[
        float, typer.Option(min=0, help="A stream's URL that broke is tried again for so long.")
    ] = 60,
    device: Device = "cpu",
    engine: Engine = "auto",
) -> None:
    """Score a room while it runs: a line every segment, here or published to a service.

    Exits with 0 when the room ends or is ended (Ctrl-C), 2 for wrong input, 3 where the source
    broke off, 4 where segments were not delivered because the service stayed away. Started again,
    a recording goes on where it was; a stream begins its room anew.
    """
    require_extra()
    from contentctr.live.encoding import LiveEncoder
    from contentctr.live.watch.logs import GrowingLog
    from contentctr.live.watch.outbox import ServiceAwayError
    from contentctr.live.watch.room import WatchedRoom
    from contentctr.live.watch.sources import run_id
    from contentctr.live.watch.waiting import SourceBrokenError, Waiting
    from contentctr.live.watch.watcher import Watcher
    from contentctr.predict.found import simulated_label
    from contentctr.progress import stop_signals
    from contentctr.rooms.moments import TimeAxis
    from contentctr.score.checkpoint import load_for, require_live
    from contentctr.transcribe.recogniser import NONE, Choice, choice_for
    from contentctr.transcribe.source import FILES
    from contentctr.transcribe.transcript import made_from

    parts = _watched_parts(source, comments, speech, start_time(started_at), streamer)
    names, axis = column_names(columns), TimeAxis(started_at=parts.started_at)
    room = room or parts.room_id
    outcomes = _Outcomes(room, out)
    chat, words = None, None
    if parts.comments is not None:
        chat = GrowingLog(parts.comments, "comments", axis=axis, names=names, report=say)
    if parts.speech is not None:
        words = GrowingLog(parts.speech, "speech", report=say)
    found, place = load_for(checkpoint, "rooms"), device_name(device)
    # Also with --url: the service would answer with the scores of another model than the named one.
    require_live(found.config)
    if parts.speech is not None:
        print_warnings(found.speech_warnings(made_from(parts.speech) or FILES))
    outcomes.label = simulated_label(parts.simulated, found.spec.simulated, "rooms")
    choice = Choice(asr=asr if parts.speech is None else NONE, language=language, device=place)
    choice = choice_for(found.spec.speech_source, choice)
    with stop_signals() as caught:
        waiting = Waiting(idle_s=idle, stopped=lambda: caught, report=say)
        listener = _listener(found, choice, waiting)
        watched = WatchedRoom(
            parts.source,
            _watched_spec(found, frames),
            waiting,
            comments=chat,
            speech=words,
            delay_s=delay,
            listener=listener,
            sound=found.config.model.sound,
            reconnect_s=reconnect,
        )
        notes: list[str] = []
        encoder = LiveEncoder.from_checkpoint(found, place, engine=engine, notes=notes)
        print_warnings(notes)
        try:
            with _scoring(found, place, url, title or room, outcomes.take, away, caught) as scorer:
                watcher = Watcher(
                    encoder,
                    scorer,
                    room_id=room,
                    streamer_id=parts.streamer_id,
                    run=lambda: run_id(parts.source),
                )
                watched.watch(watcher.take)
        except SourceBrokenError as error:
            _end(error, BROKEN)
        except ServiceAwayError as error:
            _end(error, AWAY)
        finally:
            if watched.count or caught:
                if why := "a signal came" if caught else waiting.why:
                    say(f"over: {why}")
                outcomes.summarise(watched.count, watched.duration_s, stopped=bool(caught))
            if parts.speech is None and watched.has_sound and choice.lacks:
                say(f"its speech was not recognised: {choice.lacks}")
            if listener is not None:
                print_warnings(f"{parts.source}: {doubt}" for doubt in listener.doubts())
            if listener is not None and listener.skipped:
                say(
                    f"speech of {listener.skipped} of {counted(watched.count, 'segment')} was "
                    "skipped: this machine is too slow for it (a smaller --asr, or none)"
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
        say(f"speech: {source}")
        print_warnings(checkpoint.speech_warnings(source))
        return recogniser

    late_s = checkpoint.spec.segment_seconds
    return Listener(load, waiting, language=choice.language, late_s=late_s)


def _watched_parts(
    source: str,
    comments: Path | None,
    speech: Path | None,
    started_at: datetime | None,
    streamer: str,
) -> WatchedParts:
    """What the user gave, or what their room folder holds."""
    from contentctr.live.watch.folder import WatchedParts, folder_parts

    if not Path(source).is_dir():
        return WatchedParts(
            source=source,
            comments=comments,
            speech=speech,
            started_at=started_at,
            streamer_id=streamer,
        )
    given = {
        "comments": comments,
        "speech": speech,
        "started-at": started_at,
        "streamer": streamer or None,
    }
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{source}: a room folder names its own parts; --{name} is for a recording"
            )
    parts = folder_parts(Path(source))
    print_warnings(parts.warnings)
    return parts


def _watched_spec(checkpoint: Checkpoint, frames: Frames | None) -> DataSpec:
    """The checkpoint's, or with the frames that the user wants instead."""
    spec = checkpoint.spec
    if frames is None or frames.value == spec.frames:
        return spec
    print_warnings(
        [f"--frames {frames}: the model was trained on --frames {spec.frames}; scores may be off"]
    )
    return replace(spec, frames=frames.value)


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
    with closing(Client(url, api_key=api_key(None))) as client:
        outbox = Outbox(
            client,
            window_len=checkpoint.config.data.window_len,
            report=say,
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


def _end(error: Exception, code: int) -> None:
    say(f"error: {error}")
    raise typer.Exit(code)


def _require_scores(path: Path) -> None:
    """Stop at a file that is there and holds no scores: nothing is appended to a user's own."""
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return
    try:
        with path.open(encoding="utf-8") as file:
            row = parse_json(file.readline(_LINE))
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
        self.label = ""
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
        mark = f" ({self.label})" if self.label else ""
        say(f"{span}  {score}{mark}  {status}", result=True)
        if self._out is not None:
            row = {"room_id": self._room_id, **outcome}
            append_text(self._out, json.dumps(row) + "\n")

    def summarise(self, count: int, duration_s: float, *, stopped: bool) -> None:
        """Say what was watched and what became of it."""
        from contentctr.score.highlights import clock

        counts = ", ".join(f"{n} {status}" for status, n in sorted(self._by_status.items()))
        say(
            f"{'stopped' if stopped else 'ended'} after {clock(duration_s)}: "
            f"{counted(count, 'segment')}" + (f" ({counts})" if counts else "")
        )
