"""A simulated room written down as a room folder: pictures, comments, speech, events, truth.

Formats vary from room to room, so that every reader has work. Times are whole milliseconds, so
that all formats say the same. The true click probability goes into truth.parquet, nowhere else.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from xml.sax.saxutils import escape

import av
import numpy as np
import polars as pl
from PIL import Image

from contentctr.files import write_json
from contentctr.rooms.room import EVENT_KINDS
from contentctr.simulate.mechanism import (
    FRAMES,
    MISSING,
    SEGMENT_SECONDS,
    Ints,
    SimulatedRoom,
    SimulatorConfig,
    stream,
)
from contentctr.simulate.scenes import HEIGHT, WIDTH, black_frame, draw_frame, draw_look
from contentctr.simulate.tables import ACTIVITIES
from contentctr.simulate.texts import Sentence, write_comments, write_speech
from contentctr.store.rooms import TRUTH_SCHEMA

COMMENT_FORMATS = ("jsonl", "csv", "twitch", "bilibili")
SPEECH_FORMATS = ("srt", "vtt", "jsonl", "whisper")
FORMAT_WEIGHTS = (0.4, 0.2, 0.2, 0.2)
EVENT_FORMATS = ("parquet", "csv")
EVENT_FORMAT_WEIGHTS = (0.8, 0.2)
SEGMENT_MS = 1000 * SEGMENT_SECONDS
LONGEST_DELAY_MS = 3000
"""From an exposure to its click, which falls into the same segment."""
MEMORY_SEGMENTS = 6
"""Who acts in the room is drawn from those who clicked in so many segments."""
KINDS = {
    "comment_count": "comment",
    "likes": "like",
    "gifts": "gift",
    "follows": "follow",
    "enters": "enter",
    "exits": "exit",
}
Comments = list[tuple[int, str, str]]
"""(milliseconds, user, text)."""


def write_room(config: SimulatorConfig, room: SimulatedRoom, out: Path, video_share: float) -> None:
    """Write a room into the new folder `out`; `video_share` of rooms have a video, not images."""
    rng = stream(config, "files", room.index)
    as_video = rng.random() < video_share
    comment_format = str(rng.choice(COMMENT_FORMATS, p=FORMAT_WEIGHTS))
    speech_format = str(rng.choice(SPEECH_FORMATS, p=FORMAT_WEIGHTS))
    event_format = str(rng.choice(EVENT_FORMATS, p=EVENT_FORMAT_WEIGHTS))
    out.mkdir(parents=True)
    if room.has_video and (room.shown_SF != MISSING).any():
        _write_pictures(config, room, out, as_video)
    events = _draw_events(config, room)
    if event_format == "parquet":
        events.write_parquet(out / "events.parquet")
    else:
        events.write_csv(out / "events.csv", float_precision=3)
    if room.has_comments:
        _write_comments(out, comment_format, _comments(config, room, events))
    if room.has_speech:
        _write_speech(out, speech_format, write_speech(config, room))
    truth_table(room).write_parquet(out / "truth.parquet")
    # Last: without it a folder that a killed run left behind is no room.
    write_json(
        out / "room.json",
        {
            "room_id": room.room_id,
            "streamer_id": room.streamer.streamer_id,
            "started_at": room.started_at.isoformat(),
            "duration_s": room.num_segments * SEGMENT_SECONDS,
            "simulated": True,
        },
    )


def truth_table(room: SimulatedRoom) -> pl.DataFrame:
    """The true click probability and activity of each segment, of store.rooms.TRUTH_SCHEMA."""
    return pl.DataFrame(
        {
            "room_id": [room.room_id] * room.num_segments,
            "segment": np.arange(room.num_segments),
            "click_probability": room.probability_S,
            "activity": [ACTIVITIES[a] for a in room.activity_S],
        },
        schema_overrides=TRUTH_SCHEMA,
    )


def _write_pictures(
    config: SimulatorConfig, room: SimulatedRoom, out: Path, as_video: bool
) -> None:
    look = draw_look(config, room)
    rng = stream(config, "pictures", room.index)
    step = SEGMENT_SECONDS // FRAMES
    frames = (
        None if shown == MISSING else draw_frame(look, int(shown), rng)
        for shown in room.shown_SF.ravel()
    )
    if as_video:
        write_video(
            out / "video.mp4",
            (frame or black_frame() for frame in frames),
            step=step,
            keyframe_s=step,
        )
        return
    (out / "frames").mkdir()
    for number, frame in enumerate(frames):
        if frame is not None:
            second = number * step + step // 2
            frame.save(out / "frames" / f"{second:06d}.jpg", quality=85)


def write_video(
    path: Path, frames: Iterable[Image.Image], *, step: int = 1, keyframe_s: int | None = None
) -> None:
    """H.264 in mp4 at one frame a second.

    Args:
        path: the file to write, whatever its suffix.
        frames: pictures of WIDTH x HEIGHT.
        step: seconds that each stands for.
        keyframe_s: seconds from one keyframe to the next; None: the codec's own.
    """
    with av.open(str(path), "w", format="mp4") as container:
        codec = container.add_stream("libx264", rate=1, options={"preset": "veryfast", "bf": "0"})
        codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # More threads cut a picture into other slices: the bytes would depend on the machine.
        codec.codec_context.thread_count = 1
        if keyframe_s is not None:
            codec.gop_size = keyframe_s
        for number, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame = picture.reformat(format="yuv420p")
            for k in range(step):
                frame.pts, frame.time_base = number * step + k, Fraction(1)
                container.mux(codec.encode(frame))
        container.mux(codec.encode(None))


def _draw_events(config: SimulatorConfig, room: SimulatedRoom) -> pl.DataFrame:
    """One row an action, of EVENTS_SCHEMA, sorted by t; its counts are the room's to the last."""
    rng = stream(config, "events", room.index)
    parts: list[tuple[str, Ints, Ints]] = []
    clicked: list[Ints] = []
    for s in range(room.num_segments):
        start = s * SEGMENT_MS
        user_N, time_N, clicks_N = _draw_exposures(config, room, s, rng)
        delay_N = rng.integers(200, LONGEST_DELAY_MS, len(user_N))
        # A user shown the room twice takes as long both times, so no two clicks are the same.
        delay_N[room.viewers_S[s] :] = delay_N[: len(user_N) - room.viewers_S[s]]
        parts.append(("exposure", user_N, start + time_N))
        parts.append(("click", user_N[clicks_N], start + (time_N + delay_N)[clicks_N]))
        clicked.append(user_N[: room.clickers_S[s]])
        pool_N = np.concatenate(clicked[-MEMORY_SEGMENTS:])
        pool_N = pool_N if len(pool_N) else rng.integers(config.num_users, size=20)
        for column, kind in KINDS.items():
            count = int(room.counts[column][s])
            parts.append((kind, rng.choice(pool_N, count), start + _times(SEGMENT_MS, count, rng)))
    table = pl.DataFrame(
        {
            "user": np.concatenate([user_N for _, user_N, _ in parts]),
            "ms": np.concatenate([time_N for _, _, time_N in parts]),
            "kind": np.repeat([kind for kind, _, _ in parts], [len(u) for _, u, _ in parts]),
        }
    )
    return table.sort("ms", "kind", "user").select(
        pl.format("user{}", "user").alias("user_id"),
        (pl.col("ms") / 1000).alias("t"),
        pl.col("kind").cast(pl.Enum(EVENT_KINDS)),
    )


def _draw_exposures(
    config: SimulatorConfig, room: SimulatedRoom, s: int, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
    """Users and milliseconds of segment s's exposures, and which of them are clicked.

    First each viewer once, clickers before the others; then those shown the room again.
    """
    viewers, clickers = int(room.viewers_S[s]), int(room.clickers_S[s])
    again = int(room.counts["exposures"][s]) - viewers
    clicked_again = int(room.counts["clicks"][s]) - clickers
    viewer_N = rng.choice(config.num_users, viewers, replace=False)
    # The first clickers come again at the front, so that their delays are the first ones too.
    again_N = np.r_[0:clicked_again, clickers : clickers + again - clicked_again]
    user_N = np.concatenate([viewer_N, viewer_N[again_N]])
    time_N = _times(SEGMENT_MS - LONGEST_DELAY_MS, len(user_N), rng)
    return user_N, time_N, np.r_[0:clickers, viewers : viewers + clicked_again]


def _times(until: int, count: int, rng: np.random.Generator) -> Ints:
    """`count` milliseconds below `until`, all different as long as there are enough."""
    return rng.choice(until, count, replace=count > until)


def _comments(config: SimulatorConfig, room: SimulatedRoom, events: pl.DataFrame) -> Comments:
    """The comments' texts, given to the comment events in order."""
    rows = events.filter(pl.col("kind") == "comment")
    texts = [line.text for lines in write_comments(config, room) for line in lines]
    times = (rows["t"] * 1000).round().cast(pl.Int64)
    return list(zip(times, rows["user_id"], texts, strict=True))


def _write_comments(out: Path, kind: str, comments: Comments) -> None:
    if kind == "jsonl":
        rows = [{"t": ms / 1000, "user_id": user, "text": text} for ms, user, text in comments]
        _write_lines(out / "comments.jsonl", [json.dumps(row) for row in rows])
    elif kind == "csv":
        with (out / "comments.csv").open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["t", "user_id", "text"])
            writer.writerows([f"{ms / 1000:.3f}", user, text] for ms, user, text in comments)
    elif kind == "twitch":
        write_json(out / "comments.json", {"comments": [_twitch(*comment) for comment in comments]})
    else:
        lines = [
            f'<d p="{ms / 1000:.3f},1,25,16777215,0,0,{user},{number}">{escape(text)}</d>'
            for number, (ms, user, text) in enumerate(comments)
        ]
        head = '<?xml version="1.0" encoding="UTF-8"?>'
        _write_lines(out / "comments.xml", [head, "<i>", *lines, "</i>"])


def _twitch(ms: int, user: str, text: str) -> dict[str, object]:
    """A comment as TwitchDownloader writes it, with the fields that matter."""
    return {
        "content_offset_seconds": ms / 1000,
        "commenter": {"display_name": user, "_id": user, "name": user},
        "message": {"body": text, "fragments": [{"text": text, "emoticon": None}]},
    }


def _write_speech(out: Path, kind: str, sentences: Sequence[Sentence]) -> None:
    lines = [(s.start_ms, s.end_ms, s.text) for s in sentences]
    if kind == "srt":
        blocks = [
            f"{number}\n{clock(start, ',')} --> {clock(end, ',')}\n{text}\n"
            for number, (start, end, text) in enumerate(lines, 1)
        ]
        _write_lines(out / "speech.srt", blocks)
    elif kind == "vtt":
        blocks = [
            f"{clock(start, '.')} --> {clock(end, '.')}\n{text}\n" for start, end, text in lines
        ]
        _write_lines(out / "speech.vtt", ["WEBVTT\n", *blocks])
    else:
        rows = [{"start": a / 1000, "end": b / 1000, "text": text} for a, b, text in lines]
        if kind == "jsonl":
            _write_lines(out / "speech.jsonl", [json.dumps(row) for row in rows])
        else:
            segments = [{"id": number, **row} for number, row in enumerate(rows)]
            whole = " ".join(text for _, _, text in lines)
            write_json(out / "speech.json", {"text": whole, "segments": segments, "language": "en"})


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def clock(ms: int, point: str) -> str:
    """A subtitle's time, hh:mm:ss and thousandths after `point`."""
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
