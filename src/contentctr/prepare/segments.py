"""Rooms into segments: viewers, clickers, CTR, counts and texts (Section 4.1.1).

Vectorised over all rooms given at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from contentctr.config import LATE_COMMENTS
from contentctr.errors import InputError
from contentctr.rooms.grid import Grid
from contentctr.rooms.room import COMMENTS_SCHEMA, EVENTS_SCHEMA, SPEECH_SCHEMA, Room
from contentctr.store.rooms import COUNT_COLUMNS, SEGMENTS_SCHEMA

KIND_OF_COUNT = dict(
    zip(
        COUNT_COLUMNS,
        ("exposure", "click", "comment", "like", "gift", "follow", "enter", "exit"),
        strict=True,
    )
)
"""The event kind that each of COUNT_COLUMNS counts."""
RESERVED_COLUMNS = (*SEGMENTS_SCHEMA, "comment_rate")
"""Names that a user's own column may not have."""

# Scripts written without spaces between words, and their punctuation: a character is a word.
_UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    r"\u{3000}-\u{303f}\u{ff00}-\u{ffef}"
)
_WORD = rf"(?:[{_UNSPACED}]\p{{M}}*|[^\s{_UNSPACED}]+)\s*"
"""A word and the white space after it."""


def segment_rooms(rooms: Sequence[Room], *, segment_seconds: float = 30.0) -> pl.DataFrame:
    """One row a segment, for all rooms; a room shorter than half a segment has none.

    A viewer is a user with an exposure or a click, a clicker one with a click, each counted once
    a segment; CTR = clickers / viewers, null without a viewer. Comments and who wrote them are
    counted in the chat log, or where there is none among the events. Whatever the room has no log
    of is null; a silent segment of a room with a log has "" or 0. Texts are in time order,
    utterances joined by spaces and comments by line ends. An utterance across a border is cut: word
    k of K counts as spoken at start + (k + 0.5) / K * (end - start), so that no segment holds a
    word of later.

    Args:
        rooms: with distinct room ids.
        segment_seconds: length of a segment.

    Returns:
        Columns of SEGMENTS_SCHEMA, `target` and `split` null, and after them the users' own
        columns: the mean of their rows inside the segment, Float64, null where there is none.
        Sorted by room id and segment.

    Raises:
        InputError: a user's column has a name that is taken, or `segment_seconds` is wrong.
    """
    grid = Grid(segment_seconds)
    table = _base(rooms, grid)
    for part in (
        _count_events(rooms, grid),
        _collect_comments(rooms, grid),
        _collect_speech(rooms, grid),
        _average_columns(rooms, grid),
    ):
        table = table.join(part, on=("room", "segment"), how="left")
    own = [c for c in table.columns if c.startswith(_OWN)]
    viewers = pl.col("viewers")
    return (
        table.with_columns(
            # A chat log tells of gifts and of nobody's exposure: the other counts stay unknown.
            *(
                _silent("has_gifts" if c == "gifts" else "has_events", c, 0)
                for c in (
                    "viewers",
                    "clickers",
                    "commenters_acted",
                    *_EVENT_COUNTS,
                    *_late("acted"),
                )
            ),
            _silent("has_speech", "speech", ""),
            _silent("has_comments", "comments", ""),
            _silent("has_comments", "comments_logged", 0),
            _silent("has_comments", "commenters_logged", 0),
            *(_silent("has_comments", c, 0) for c in _late("logged")),
        )
        .with_columns(
            ctr=pl.when(viewers > 0).then(pl.col("clickers") / viewers),
            comment_count=pl.coalesce("comments_logged", "comments_acted"),
            commenters=pl.coalesce("commenters_logged", "commenters_acted"),
            **{name: pl.coalesce(f"{name}_logged", f"{name}_acted") for name in LATE_COMMENTS},
        )
        .select(*(pl.col(k).cast(v) for k, v in SEGMENTS_SCHEMA.items()), *own)
        .rename(lambda name: name.removeprefix(_OWN))
        .sort("room_id", "segment")
    )


def count_tail(rooms: Sequence[Room], *, segment_seconds: float = 30.0) -> dict[str, int]:
    """Rows of each log after the end of the last segment, which no segment holds.

    Returns:
        `comments_outside`, `speech_outside`, `events_outside`, `columns_outside`.
    """
    grid = Grid(segment_seconds)
    counts = {}
    for name, column in _TIMES.items():
        tables = [
            None if (log := getattr(room, name)) is None else log.select(column) for room in rooms
        ]
        rows = _stack(rooms, tables, {column: pl.Float64}, grid)
        late = grid.segment_of(pl.col(column)) >= pl.col("num_segments")
        counts[f"{name}_outside"] = rows.filter(late).height
    return counts


_TIMES = {"comments": "t", "speech": "start", "events": "t", "columns": "t"}
_WRITERS = (
    # Whoever has no name is taken for somebody else each time: the user is gone, or the log has no
    # names, and then every segment of it is counted alike, alone or among all.
    pl.col("user_id").filter(pl.col("user_id") != "").n_unique() + (pl.col("user_id") == "").sum()
)
"""Distinct users of some rows."""
_EVENT_COUNTS = tuple(
    "comments_acted" if name == "comment_count" else name for name in COUNT_COLUMNS
)
_LATE_SHARES = dict(zip(LATE_COMMENTS, (1 / 6, 1 / 3, 2 / 3), strict=True))
"""The last part of a segment that each counts, as a share of a whole segment's length."""
_OWN = "own:"
"""Marks the users' columns, so that they cannot meet ours on the way."""


def _silent(flag: str, name: str, empty: str | int) -> pl.Expr:
    """A column that is `empty` where a room with a log is silent; null without a log."""
    return pl.when(pl.col(flag)).then(pl.col(name).fill_null(empty)).alias(name)


def _late(of: str) -> tuple[str, ...]:
    """Names of LATE_COMMENTS of one source, before the better one is chosen."""
    return tuple(f"{name}_{of}" for name in LATE_COMMENTS)


def _late_counts(grid: Grid, of: str) -> Iterator[pl.Expr]:
    """How many of a segment's rows came in its last parts.

    Counts of whole segments do not tell whether a chat is rising or dying away as one ends.
    """
    before_end_s = pl.min_horizontal(grid.border(pl.col("segment") + 1), "duration_s") - pl.col("t")
    for name, share in _LATE_SHARES.items():
        late = before_end_s.round(6) <= share * grid.segment_seconds
        yield late.sum().alias(f"{name}_{of}")


def _base(rooms: Sequence[Room], grid: Grid) -> pl.DataFrame:
    """A row for each segment, and which logs its room has."""
    table = pl.DataFrame(
        {
            "room": range(len(rooms)),
            "room_id": [r.room_id for r in rooms],
            "streamer_id": [r.streamer_id for r in rooms],
            "duration_s": [r.duration_s for r in rooms],
            "num_segments": [grid.count(r.duration_s) for r in rooms],
            "has_events": [r.events is not None for r in rooms],
            "has_gifts": [r.events is not None or r.gifts is not None for r in rooms],
            "has_speech": [r.speech is not None for r in rooms],
            "has_comments": [r.comments is not None for r in rooms],
        },
        schema_overrides={
            "room": pl.Int64,
            "room_id": pl.String,
            "streamer_id": pl.String,
            "duration_s": pl.Float64,
            "num_segments": pl.Int64,
            **dict.fromkeys(("has_events", "has_gifts", "has_speech", "has_comments"), pl.Boolean),
        },
    )
    end = pl.min_horizontal(grid.border(pl.col("segment") + 1), "duration_s")
    return (
        table.with_columns(segment=pl.int_ranges(0, "num_segments"))
        .filter(pl.col("num_segments") > 0)
        .explode("segment")
        .with_columns(
            start_s=grid.border(pl.col("segment")),
            end_s=end,
            target=pl.lit(None, pl.Float64),
            split=pl.lit(None, pl.String),
        )
        .drop("duration_s", "num_segments")
    )


def _stack(
    rooms: Sequence[Room],
    tables: Sequence[pl.DataFrame | None],
    schema: Mapping[str, Any],
    grid: Grid,
) -> pl.DataFrame:
    """One log of all rooms; with `room`, the room's number, `num_segments` and `duration_s`."""
    keys = {"room": pl.Int64, "num_segments": pl.Int64, "duration_s": pl.Float64}
    stacked = [pl.DataFrame(schema={**schema, **keys})]
    for number, (room, table) in enumerate(zip(rooms, tables, strict=True)):
        if table is not None:
            values = (number, grid.count(room.duration_s), room.duration_s)
            lits = (pl.lit(v, d).alias(k) for v, (k, d) in zip(values, keys.items(), strict=True))
            stacked.append(table.with_columns(*lits))
    return pl.concat(stacked, how="diagonal")


def _place(rows: pl.DataFrame, t: str, grid: Grid) -> pl.DataFrame:
    """`rows` with the segment that holds their time; without those that none holds."""
    return rows.with_columns(segment=grid.segment_of(pl.col(t))).filter(
        pl.col("segment") >= 0,
        pl.col("segment") < pl.col("num_segments"),
        pl.col(t) < pl.col("duration_s"),
    )


def _count_events(rooms: Sequence[Room], grid: Grid) -> pl.DataFrame:
    logs = [room.gifts if room.events is None else room.events for room in rooms]
    rows = _place(_stack(rooms, logs, EVENTS_SCHEMA, grid), "t", grid)
    kind = pl.col("kind")
    counts = rows.group_by("room", "segment").agg(
        (kind == KIND_OF_COUNT[name]).sum().alias(alias)
        for name, alias in zip(COUNT_COLUMNS, _EVENT_COUNTS, strict=True)
    )
    people = (
        rows.filter(kind.is_in(["exposure", "click"]))
        .group_by("room", "segment", "user_id")
        .agg(clicked=(kind == "click").any())
        .group_by("room", "segment")
        .agg(viewers=pl.len(), clickers=pl.col("clicked").sum())
    )
    writers = (
        rows.filter(kind == "comment")
        .group_by("room", "segment")
        .agg(*_late_counts(grid, "acted"), commenters_acted=_WRITERS)
    )
    for part in (people, writers):
        counts = counts.join(part, on=("room", "segment"), how="left")
    return counts


def _collect_comments(rooms: Sequence[Room], grid: Grid) -> pl.DataFrame:
    rows = _place(_stack(rooms, [r.comments for r in rooms], COMMENTS_SCHEMA, grid), "t", grid)
    text = pl.col("text").str.strip_chars()
    return (
        rows.sort("room", "t", maintain_order=True)
        .group_by("room", "segment", maintain_order=True)
        .agg(
            *_late_counts(grid, "logged"),
            comments=text.filter(text != "").str.join("\n"),
            comments_logged=pl.len(),
            commenters_logged=_WRITERS,
        )
    )


def _collect_speech(rooms: Sequence[Room], grid: Grid) -> pl.DataFrame:
    rows = (
        _stack(rooms, [r.speech for r in rooms], SPEECH_SCHEMA, grid)
        .sort("room", "start", maintain_order=True)
        .with_row_index("utterance")
        .with_columns(first=grid.segment_of(pl.col("start")))
    )
    border = pl.min_horizontal(grid.border(pl.col("first") + 1), "duration_s")
    crosses = pl.col("end") > border
    whole = _place(rows.filter(~crosses), "start", grid).with_columns(
        word=pl.lit(0, pl.Int64), text=pl.col("text").str.strip_chars()
    )
    cut = _place(_split_words(rows.filter(crosses)), "spoken", grid).drop("spoken")
    return (
        pl.concat([whole, cut], how="diagonal_relaxed")
        .sort("utterance", "word")
        .group_by("room", "segment", "utterance", maintain_order=True)
        .agg(pl.col("text").str.join("").str.strip_chars())
        .group_by("room", "segment", maintain_order=True)
        .agg(speech=pl.col("text").filter(pl.col("text") != "").str.join(" "))
    )


def _split_words(rows: pl.DataFrame) -> pl.DataFrame:
    """A row for each word: its `text` with the white space after it, and when it is `spoken`."""
    share = (pl.col("word") + 0.5) / pl.col("words")
    return (
        rows.with_columns(text=pl.col("text").str.strip_chars().str.extract_all(_WORD))
        .with_columns(words=pl.col("text").list.len())
        .filter(pl.col("words") > 0)
        .with_columns(word=pl.int_ranges(0, "words"))
        .explode("text", "word")
        .with_columns(spoken=pl.col("start") + share * (pl.col("end") - pl.col("start")))
        .drop("words")
    )


def _average_columns(rooms: Sequence[Room], grid: Grid) -> pl.DataFrame:
    tables = [_own_columns(room) for room in rooms]
    rows = _place(_stack(rooms, tables, {"t": pl.Float64}, grid), "t", grid)
    return rows.group_by("room", "segment").agg(pl.col(f"^{_OWN}.*$").mean())


def _own_columns(room: Room) -> pl.DataFrame | None:
    """The user's columns of a room as Float64, their names marked."""
    if room.columns is None:
        return None
    names = [name for name in room.columns.columns if name != "t"]
    taken = [name for name in names if name in RESERVED_COLUMNS]
    if taken:
        raise InputError(
            f"room {room.room_id!r}: a column of your own must not be called {taken[0]!r}; taken "
            f"are {', '.join(RESERVED_COLUMNS)}"
        )
    return room.columns.select(
        "t", *(pl.col(n).cast(pl.Float64).fill_nan(None).alias(f"{_OWN}{n}") for n in names)
    )
