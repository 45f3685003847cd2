"""Segments of KuaiLive-M3: their borders, counts, CTR, and the benchmark's highlight score.

All rooms of a bucket at once. Times are placed by a search among their room's borders, and sessions
are counted by where they begin and end to matter, so that nothing compares each with each.

Shape suffixes: R rooms, S segments (one room after the other, in time), E rows of a log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.config import LATE_COMMENTS
from contentctr.metrics.ranking import percentile_by_room
from contentctr.prepare.klm3.files import MAX_ID, ROW
from contentctr.store.rooms import SEGMENTS_SCHEMA

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

OWN_SCHEMA: dict[str, Any] = {
    "entered": pl.UInt32,
    "stayed": pl.UInt32,
    "retention": pl.Float64,
    "engagement": pl.Float64,
    "highlight_score": pl.Float64,
    "highlight_label": pl.UInt8,
}
"""Columns after SEGMENTS_SCHEMA. Retention and engagement are as measured, before scaling."""
CLICK = "click"
"""The `enter_live_action` of users who chose the room."""
_RETENTION, _ENGAGEMENT = 0.6, 0.4
_USERS = MAX_ID + 1
"""Above every user id, so that segment and user make one number."""


@dataclass(frozen=True, kw_only=True)
class RoomGrid:
    """Borders of the segments of some rooms, in ms since 1970."""

    live_id_R: Ints
    """Rising."""
    first_R1: Ints
    """[R + 1] first segment of each room, and S."""
    room_S: Ints
    start_S: Ints
    end_S: Ints
    row_S: Ints
    """The embedding's row."""

    def __len__(self) -> int:
        return len(self.room_S)

    def rooms_of(self, live_id_E: Ints) -> Ints:
        """The room of each row of a log, -1 where it has no segments."""
        room_E = np.searchsorted(self.live_id_R, live_id_E)
        known_E = room_E < len(self.live_id_R)
        known_E[known_E] = self.live_id_R[room_E[known_E]] == live_id_E[known_E]
        found: Ints = np.where(known_E, room_E, -1)
        return found

    def place(self, live_id_E: Ints, t_E: Ints) -> Ints:
        """The segment whose [start, end) holds each time, -1 where none does."""
        room_E = self.rooms_of(live_id_E)
        at_E = find_in_rooms(room_E, t_E, self.first_R1, self.start_S, True) - 1
        inside_E = (room_E >= 0) & (at_E >= self.first_R1[room_E])
        inside_E[inside_E] = t_E[inside_E] < self.end_S[at_E[inside_E]]
        placed: Ints = np.where(inside_E, at_E, -1)
        return placed


@dataclass(frozen=True, kw_only=True)
class Logs:
    """The logs of a bucket's rooms; None where the table is missing."""

    sessions: pl.DataFrame
    """Of `clean_sessions`."""
    counted: pl.DataFrame
    """Of `benchmark_sessions`."""
    shows: pl.DataFrame | None = None
    """As it is scanned, as are those that follow."""
    likes: pl.DataFrame | None = None
    comments: pl.DataFrame | None = None


def build_grid(
    rooms: pl.DataFrame, vectors: pl.DataFrame, counts: Counter[str] | None = None
) -> RoomGrid:
    """Where the segments of rooms begin and end.

    A stored time is its segment's end; the segment begins where the room's one before ended, the
    first at the room's start. Only then those go that do not end after they begin, as in the
    benchmark: the first if it ends by the room's start, and of several with one end all but the
    first row.

    Args:
        rooms: live_id, start; one row a room.
        vectors: live_id, t, row.
        counts: what was left out is added.
    """
    counts = Counter() if counts is None else counts
    known = vectors.join(rooms.select("live_id", "start"), on="live_id")
    ends = known.sort("live_id", "t", ROW)
    distinct = ends.unique(("live_id", "t"), keep="first", maintain_order=True)
    begin = pl.col("t").shift(1).over("live_id").fill_null(pl.col("start"))
    kept = distinct.with_columns(begin=begin).filter(pl.col("t") > pl.col("begin"))
    counts.update(
        {
            "segments_of_unknown_rooms": vectors.height - known.height,
            "segments_before_start": distinct.height - kept.height,
            "repeated_segments": known.height - distinct.height,
        }
    )
    live_id_S, end_S = kept["live_id"].to_numpy(), kept["t"].to_numpy()
    live_id_R, first_R, room_S = np.unique(live_id_S, return_index=True, return_inverse=True)
    return RoomGrid(
        live_id_R=live_id_R,
        first_R1=np.append(first_R, len(end_S)),
        room_S=room_S,
        start_S=kept["begin"].to_numpy(),
        end_S=end_S,
        row_S=kept[ROW].to_numpy(),
    )


def clean_sessions(sessions: pl.DataFrame, counts: Counter[str] | None = None) -> pl.DataFrame:
    """Sessions without repeats, with an end where one can be told.

    Returns:
        live_id, user_id, start, end, action. `end` is null where neither an end nor a duration is
        logged.
    """
    counts = Counter() if counts is None else counts
    fields = [column for column in sessions.columns if column != ROW]
    distinct = without_repeats(sessions, fields).drop(ROW)
    ended = distinct.with_columns(
        end=pl.coalesce(
            "end",
            pl.when(pl.col("duration") > 0).then(pl.col("start") + pl.col("duration")),
        )
    ).drop("duration")
    counts.update(
        {
            "repeated_sessions": sessions.height - distinct.height,
            "sessions_without_end": distinct["end"].null_count(),
            "sessions_without_end_or_duration": ended["end"].null_count(),
        }
    )
    return ended


def benchmark_sessions(sessions: pl.DataFrame) -> pl.DataFrame:
    """Sessions as the benchmark counts them: repeated rows too, but none without an end.

    Returns:
        live_id, start, end; not those of which neither an end nor a duration is logged, nor those
        that end before they begin.
    """
    ended = sessions.with_columns(end=pl.coalesce("end", pl.col("start") + pl.col("duration")))
    return ended.filter(pl.col("end") >= pl.col("start")).select("live_id", "start", "end")


def room_stats(
    grid: RoomGrid, rooms: pl.DataFrame, sessions: pl.DataFrame, counted: pl.DataFrame
) -> pl.DataFrame:
    """What rooms are chosen by.

    Args:
        grid: the segments.
        rooms: live_id, author_id, start, end.
        sessions: of `clean_sessions`.
        counted: of `benchmark_sessions`.

    Returns:
        A row for each room of the grid, by rising live_id: live_id, author_id, start, end (the
        room's, or its last segment's if that is later or the only one known), segments,
        last_end, segments_ms, sessions, overlapping (sessions that share a time with
        its segments), entered (sessions that count, begun by its last
        segment's start).
    """
    room_E = grid.rooms_of(sessions["live_id"].to_numpy())
    known_E = room_E >= 0
    room_E, sessions = room_E[known_E], sessions.filter(known_E)
    start_E = sessions["start"].to_numpy()
    first_S, last_R = grid.first_R1[:-1], grid.end_S[grid.first_R1[1:] - 1]
    # One without an end outlasts all others.
    ends = [m for m in (sessions["end"].max(), sessions["start"].max()) if isinstance(m, int)]
    end_E = np.maximum(sessions["end"].fill_null(max(ends, default=0) + 1).to_numpy(), start_E)
    overlaps_E = (start_E < last_R[room_E]) & (end_E > grid.start_S[first_S][room_E])
    # Sessions are counted on, never off: the last segment's count is the room's largest.
    entered_R = entered_and_stayed(grid, counted)[0][grid.first_R1[1:] - 1]
    num_R = len(grid.live_id_R)
    own = pl.DataFrame(
        {
            "live_id": grid.live_id_R,
            "segments": np.diff(grid.first_R1),
            "last_end": last_R,
            "segments_ms": last_R - grid.start_S[first_S],
            "sessions": np.bincount(room_E, minlength=num_R),
            "overlapping": np.bincount(room_E[overlaps_E], minlength=num_R),
            "entered": entered_R,
        }
    )
    end = pl.max_horizontal("end", "last_end")
    keys = rooms.select("live_id", "author_id", "start", "end")
    return own.join(keys, on="live_id", how="left", maintain_order="left").with_columns(end=end)


def count_segments(grid: RoomGrid, logs: Logs, counts: Counter[str]) -> pl.DataFrame:
    """One row a segment: counts, CTR, texts, and the benchmark's highlight score.

    Args:
        grid: the segments.
        logs: of the same rooms.
        counts: rows that no segment holds, and repeats, are added.

    Returns:
        live_id, segment, start_s, end_s, the columns of SEGMENTS_SCHEMA that come from logs, and
        those of OWN_SCHEMA; null where a log is missing.
    """
    first_S = grid.first_R1[grid.room_S]
    origin_S = grid.start_S[first_S]
    table: dict[str, Any] = {
        "live_id": grid.live_id_R[grid.room_S],
        "segment": np.arange(len(grid)) - first_S,
        "start_s": (grid.start_S - origin_S) / 1000,
        "end_s": (grid.end_S - origin_S) / 1000,
        "speech": _nothing(pl.String, grid),
        **dict.fromkeys(("gifts", "follows"), _nothing(pl.UInt32, grid)),
    }
    table |= _visits(grid, logs, counts)
    table |= _likes_and_comments(grid, logs, counts)
    entered_S, stayed_S = entered_and_stayed(grid, logs.counted)
    retention_S = stayed_S / np.maximum(entered_S, 1)
    table |= {"entered": entered_S, "stayed": stayed_S, "retention": retention_S}
    names = ("engagement", "highlight_score", "highlight_label")
    table |= {name: _nothing(OWN_SCHEMA[name], grid) for name in names}
    if logs.likes is not None and logs.comments is not None:
        # Every row, as in the benchmark; the counts of our own columns leave repeats out.
        likes_S, comments_S = (
            _tally(grid.place(log["live_id"].to_numpy(), log["t"].to_numpy()), grid)
            for log in (logs.likes, logs.comments)
        )
        engagement_S = (likes_S + 2 * comments_S) / np.maximum(entered_S, 1)
        score_S = highlight_score(retention_S, engagement_S, grid.first_R1)
        label_S = score_S >= percentile_by_room(score_S, grid.first_R1)[grid.room_S]
        table |= dict(zip(names, (engagement_S, score_S, label_S), strict=True))
    schema = {**SEGMENTS_SCHEMA, **OWN_SCHEMA}
    return pl.DataFrame(table).with_columns(
        pl.col(name).cast(schema[name]) for name in table if name in schema
    )


def entered_and_stayed(grid: RoomGrid, sessions: pl.DataFrame) -> tuple[Ints, Ints]:
    """Sessions begun at or before each segment's start, and those of them that last to its end.

    A session counts as entered from the first segment that starts at or after it on; it has
    stayed in those of them up to the last one that ends at or before it. So each adds 1 where its
    stretch begins and takes 1 away where it ends, and a running sum counts.

    Args:
        grid: the segments.
        sessions: live_id, start, end, as of `benchmark_sessions`; one without an end never stays.
    """
    room_E = grid.rooms_of(sessions["live_id"].to_numpy())
    known_E = room_E >= 0
    room_E = room_E[known_E]
    start_E = sessions["start"].to_numpy()[known_E]
    end_E = sessions["end"].fill_null(np.iinfo(np.int64).min).to_numpy()[known_E]
    from_E = find_in_rooms(room_E, start_E, grid.first_R1, grid.start_S, False)
    past_E = find_in_rooms(room_E, end_E, grid.first_R1, grid.end_S, True)
    # One begun after its room's last start has entered nowhere; its place is the next room's.
    in_time_E = from_E < grid.first_R1[room_E + 1]
    begins_S1 = np.bincount(from_E[in_time_E], minlength=len(grid) + 1)
    stays_E = past_E > from_E
    change_S1 = np.bincount(from_E[stays_E], minlength=len(grid) + 1)
    change_S1 -= np.bincount(past_E[stays_E], minlength=len(grid) + 1)
    running_S1 = np.cumsum(begins_S1)
    before_R = running_S1[grid.first_R1[:-1]] - begins_S1[grid.first_R1[:-1]]
    entered_S: Ints = running_S1[:-1] - before_R[grid.room_S]
    return entered_S, np.cumsum(change_S1)[:-1]


def highlight_score(retention_S: Floats, engagement_S: Floats, first_R1: Ints) -> Floats:
    """0.6 retention + 0.4 engagement, each scaled to [0, 1] inside its room; a constant is 0."""
    score_S: Floats = _RETENTION * scale_by_room(retention_S, first_R1)
    score_S += _ENGAGEMENT * scale_by_room(engagement_S, first_R1)
    return score_S


def scale_by_room(values_S: Floats, first_R1: Ints) -> Floats:
    """(x - min) / (max - min) inside each room; 0 where that is 0 / 0."""
    if not len(values_S):
        return values_S
    lengths_R = np.diff(first_R1)
    low_R = np.minimum.reduceat(values_S, first_R1[:-1])
    range_R = np.maximum.reduceat(values_S, first_R1[:-1]) - low_R
    range_R[range_R == 0] = 1
    scaled_S: Floats = (values_S - np.repeat(low_R, lengths_R)) / np.repeat(range_R, lengths_R)
    return scaled_S


def _visits(grid: RoomGrid, logs: Logs, counts: Counter[str]) -> dict[str, Any]:
    """Users who came, left and were shown the room in each segment, and its CTR."""
    sessions = logs.sessions
    live_id_E = sessions["live_id"].to_numpy()
    enter_E = grid.place(live_id_E, sessions["start"].to_numpy())
    exit_E = grid.place(live_id_E, sessions["end"].fill_null(0).to_numpy())
    counts["sessions_begun_outside"] += int((enter_E < 0).sum())
    action = sessions["action"].str.strip_chars().str.to_lowercase()
    click_E = (action == CLICK).fill_null(False).to_numpy() & (enter_E >= 0)
    counts["clicks"] += int(click_E.sum())
    clickers = _people(enter_E[click_E], sessions["user_id"].filter(click_E))
    found: dict[str, Any] = {
        "clicks": _tally(enter_E[click_E], grid),
        "clickers": _tally(clickers // _USERS, grid),
        "enters": _tally(enter_E, grid),
        "exits": _tally(exit_E, grid),
        "exposures": _nothing(pl.UInt32, grid),
        "viewers": _nothing(pl.UInt32, grid),
        "ctr": _nothing(pl.Float64, grid),
    }
    if logs.shows is None:
        return found
    shows = _distinct(logs.shows, "shows", counts)
    show_E = grid.place(shows["live_id"].to_numpy(), shows["t"].to_numpy())
    counts["shows_outside"] += int((show_E < 0).sum())
    shown = _people(show_E[show_E >= 0], shows["user_id"].filter(show_E >= 0))
    viewers_S = _tally(_unique(np.append(clickers, shown)) // _USERS, grid)
    with np.errstate(invalid="ignore"):
        ctr = pl.Series(found["clickers"] / viewers_S).fill_nan(None)
    return {**found, "exposures": _tally(show_E, grid), "viewers": viewers_S, "ctr": ctr}


def _likes_and_comments(grid: RoomGrid, logs: Logs, counts: Counter[str]) -> dict[str, Any]:
    nothing = _nothing(pl.UInt32, grid)
    found: dict[str, Any] = {
        "likes": nothing,
        "comment_count": nothing,
        "commenters": nothing,
        # The data set's own features are of whole segments.
        **dict.fromkeys(LATE_COMMENTS, nothing),
        "comments": nothing.cast(pl.String),
    }
    if logs.likes is not None:
        likes = _distinct(logs.likes, "likes", counts)
        at_E = grid.place(likes["live_id"].to_numpy(), likes["t"].to_numpy())
        counts["likes_outside"] += int((at_E < 0).sum())
        found["likes"] = _tally(at_E, grid)
    if logs.comments is not None:
        comments = _distinct(logs.comments, "comments", counts)
        at_E = grid.place(comments["live_id"].to_numpy(), comments["t"].to_numpy())
        counts["comments_outside"] += int((at_E < 0).sum())
        found["comment_count"] = _tally(at_E, grid)
        inside_E = at_E >= 0
        writers = _people(at_E[inside_E], comments["user_id"].filter(inside_E))
        found["commenters"] = _tally(writers // _USERS, grid)
        found["comments"] = _texts(comments.with_columns(at=pl.Series(at_E)), grid)
    return found


def _texts(comments: pl.DataFrame, grid: RoomGrid) -> pl.Series:
    """The comments of each segment in time order, one a line; "" where there is none."""
    text = pl.col("text").str.strip_chars()
    joined = (
        comments.filter((pl.col("at") >= 0) & (text != ""))
        .sort("at", "t", ROW)
        .group_by("at", maintain_order=True)
        .agg(text.str.join("\n"))
    )
    all_segments = pl.DataFrame({"at": np.arange(len(grid))})
    texts = all_segments.join(joined, on="at", how="left", maintain_order="left")["text"]
    return texts.fill_null("")


def _distinct(log: pl.DataFrame, name: str, counts: Counter[str]) -> pl.DataFrame:
    """The rows without exact repeats; `row` of the first of each."""
    fields = [column for column in log.columns if column != ROW]
    distinct = without_repeats(log, fields)
    counts[f"repeated_{name}"] += log.height - distinct.height
    return distinct


def without_repeats(log: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """One row of each value of `fields`, the one with the least `row`; in no order.

    Only rows whose hash is there twice are compared: equal rows have equal hashes.
    """
    hashes = log.select(fields).hash_rows()
    sorted_E = np.sort(hashes.to_numpy())
    twice = np.unique(sorted_E[1:][sorted_E[1:] == sorted_E[:-1]])
    if not len(twice):
        return log
    again = hashes.is_in(pl.Series(twice).implode())
    compared = log.filter(again).group_by(fields).agg(pl.col(ROW).min())
    return pl.concat([log.filter(~again), compared.select(log.columns)])


def _people(at_E: Ints, user: pl.Series) -> Ints:
    """Each user of a segment once: segment and user as one number, rising."""
    return _unique(at_E * _USERS + user.to_numpy())


def _unique(values: Ints) -> Ints:
    """As np.unique, which is slower."""
    sorted_ = np.sort(values)
    found: Ints = sorted_[np.append(True, sorted_[1:] != sorted_[:-1])[: len(sorted_)]]
    return found


def _tally(at_E: Ints, grid: RoomGrid) -> Ints:
    """How many rows each segment holds."""
    tally: Ints = np.bincount(at_E[at_E >= 0], minlength=len(grid))
    return tally


def _nothing(dtype: Any, grid: RoomGrid) -> pl.Series:
    """A null for each segment."""
    return pl.Series([None], dtype=dtype).new_from_index(0, len(grid))


@numba.njit(cache=True, nogil=True)
def find_in_rooms(
    room_E: Ints, t_E: Ints, first_R1: Ints, values_S: Ints, after_equal: bool
) -> Ints:
    """Where each time belongs among its own room's rising values, counted from the first room's.

    A search inside the room stays in the cache, where one over all segments does not.

    Args:
        room_E: rooms; for a negative one the result is -1.
        t_E: times.
        first_R1: first segment of each room, and S.
        values_S: rising inside each room.
        after_equal: behind equal values (True) or before them.
    """
    found_E = np.empty(len(room_E), np.int64)
    for e in range(len(room_E)):
        room, t = room_E[e], t_E[e]
        if room < 0:
            found_E[e] = -1
            continue
        low, high = first_R1[room], first_R1[room + 1]
        while low < high:
            middle = (low + high) // 2
            if values_S[middle] < t or (after_equal and values_S[middle] == t):
                low = middle + 1
            else:
                high = middle
        found_E[e] = low
    return found_E
