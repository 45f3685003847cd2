from collections import Counter

import numpy as np
import polars as pl
import pytest

from contentctr.prepare.klm3.segments import (
    Logs,
    benchmark_sessions,
    build_grid,
    clean_sessions,
    count_segments,
    entered_and_stayed,
    highlight_score,
    room_stats,
    scale_by_room,
    without_repeats,
)

INT = pl.Int64


def table(rows, **schema):
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(row=pl.int_range(pl.len()).cast(INT))


def vectors(rows):
    return table(rows, live_id=INT, t=INT)


def session_table(rows):
    """(room, user, start, end, duration, action)."""
    return table(rows, live_id=INT, user_id=INT, start=INT, end=INT, duration=INT, action=pl.String)


def log(rows):
    return table(rows, live_id=INT, user_id=INT, t=INT)


def room_table(rows):
    return table(rows, live_id=INT, author_id=INT, start=INT, end=INT)


ROOMS = [(7, 70, 1_000, 9_000), (3, 30, 0, None), (9, 90, 0, 50)]
VECTORS = [(7, 3_000), (3, 500), (7, 2_000), (7, 6_000), (7, 3_000), (7, 1_000), (8, 10)]


def hand_grid(counts=None):
    return build_grid(room_table(ROOMS), vectors(VECTORS), counts)


def test_a_segment_begins_where_the_one_before_ended():
    counts = Counter()
    grid = hand_grid(counts)
    assert grid.live_id_R.tolist() == [3, 7]
    assert grid.start_S.tolist() == [0, 1_000, 2_000, 3_000]
    assert grid.end_S.tolist() == [500, 2_000, 3_000, 6_000]
    assert grid.row_S.tolist() == [1, 2, 0, 3]  # of two that end together, the first
    assert counts == {
        "segments_of_unknown_rooms": 1,
        "segments_before_start": 1,
        "repeated_segments": 1,
    }


def test_everything_by_hand():
    """Room 7 has [1, 2), [2, 3), [3, 6) s; room 3 one segment, [0, 0.5) s."""
    sessions = session_table(
        [
            (7, 1, 1_000, 3_000, None, "click"),  # entered all; stayed in the first two
            (7, 1, 1_000, 3_000, None, "click"),  # the same row again, which the labels count
            (7, 2, 1_500, 9_000, None, "slide up/down"),  # entered and stayed: the last two
            (7, 3, 2_000, None, 4_500, " Click"),  # ends at 6.5 s; entered and stayed: the last two
            (7, 4, 2_500, None, None, "click"),  # no end at all: not in the labels
            (7, 1, 2_600, 2_700, None, "click"),  # user 1 again, in the second segment
            (7, 4, 2_900, 2_950, None, "click"),  # user 4 again in the same segment: one clicker
            (7, 5, 7_000, 8_000, None, "click"),  # after the last segment
            (3, 9, 0, 500, None, None),
            (8, 9, 2_000, 5_000, None, "click"),  # a room that is not there
        ]
    )
    shows = log(
        [(7, 8, 1_999), (7, 8, 1_999), (7, 4, 2_700), (7, 6, 2_000), (7, 6, 2_100), (7, 6, 6_000)]
    )
    likes = log([(7, 1, 1_000), (7, 1, 1_001), (7, 2, 5_999), (3, 9, 499), (3, 9, 500)])
    comments = log([(7, 1, 3_500), (7, 1, 3_200), (7, 2, 3_500), (7, 2, 3_600), (7, 2, 900)])
    comments = comments.with_columns(text=pl.Series([" b", "a", "c\n", " ", "early"]))
    counts = Counter()
    logs = Logs(
        sessions=clean_sessions(sessions, counts),
        counted=benchmark_sessions(sessions),
        shows=shows,
        likes=likes,
        comments=comments,
    )
    found = count_segments(hand_grid(), logs, counts)
    assert found["live_id"].to_list() == [3, 7, 7, 7]
    assert found["segment"].to_list() == [0, 0, 1, 2]
    assert found["start_s"].to_list() == [0.0, 0.0, 1.0, 2.0]
    assert found["end_s"].to_list() == [0.5, 1.0, 2.0, 5.0]
    assert found["clickers"].to_list() == [0, 1, 3, 0]
    assert found["viewers"].to_list() == [0, 2, 4, 0]  # users 1 and 8; 3, 4, 1 and 6
    assert found["ctr"].to_list() == [None, 0.5, 0.75, None]
    assert found["clicks"].to_list() == [0, 1, 4, 0]
    assert found["exposures"].to_list() == [0, 1, 3, 0]
    assert found["enters"].to_list() == [1, 2, 4, 0]
    assert found["exits"].to_list() == [0, 0, 2, 1]
    assert found["likes"].to_list() == [1, 2, 0, 1]
    assert found["comment_count"].to_list() == [0, 0, 0, 4]
    assert found["comments"].to_list() == ["", "", "", "a\nb\nc"]
    assert found["speech"].null_count() == 4
    assert found["entered"].to_list() == [1, 2, 4, 6]
    assert found["stayed"].to_list() == [1, 2, 4, 2]
    retention = np.array([1, 1, 2 / 6])
    engagement = np.array([2 / 2, 0, (1 + 2 * 4) / 6])
    score = 0.6 * (retention - 1 / 3) / (2 / 3) + 0.4 * engagement / 1.5
    np.testing.assert_allclose(found["retention"].to_numpy()[1:], retention)
    np.testing.assert_allclose(found["engagement"].to_numpy()[1:], engagement)
    np.testing.assert_allclose(found["highlight_score"].to_numpy()[1:], score, atol=1e-15)
    # 1, 0.6, 0.3: the 70th percentile lies at place 1.4, 0.6 + 0.4 x 0.4.
    assert found["highlight_label"].to_list() == [1, 1, 0, 0]
    assert found["highlight_score"][0] == 0.0  # alone in its room: constant
    assert counts == {
        "repeated_sessions": 1,
        "sessions_without_end": 2,
        "sessions_without_end_or_duration": 1,
        "sessions_begun_outside": 2,
        "clicks": 5,
        "repeated_shows": 1,
        "shows_outside": 1,
        "repeated_likes": 0,
        "likes_outside": 1,
        "repeated_comments": 0,
        "comments_outside": 1,
    }


def test_missing_logs_leave_out_what_depends_on_them():
    rows = session_table([(7, 1, 1_000, 3_000, None, "click")])
    sessions, counted = clean_sessions(rows), benchmark_sessions(rows)
    found = count_segments(hand_grid(), Logs(sessions=sessions, counted=counted), Counter())
    for name in (
        "viewers",
        "ctr",
        "exposures",
        "likes",
        "comment_count",
        "commenters",
        "comments",
        "engagement",
        "highlight_score",
        "highlight_label",
    ):
        assert found[name].null_count() == 4, name
    assert found["retention"].to_list() == [0.0, 1.0, 1.0, 0.0]
    assert found["clickers"].to_list() == [0, 1, 0, 0]
    likes = log([(7, 1, 1_000)])
    logs = Logs(sessions=sessions, counted=counted, likes=likes)
    found = count_segments(hand_grid(), logs, Counter())
    assert found["likes"].to_list() == [0, 1, 0, 0]
    assert found["highlight_score"].null_count() == 4


def test_room_stats_by_hand():
    rows = session_table(
        [
            (7, 1, 1_000, 2_000, None, ""),
            (7, 2, 2_000, 3_000, None, ""),  # one after the other
            (7, 3, 2_500, None, None, ""),
            (7, 4, 2_999, 2_000, None, ""),  # no end; ends too early
            (7, 5, 500, 1_000, None, ""),
            (7, 6, 6_000, 7_000, None, ""),  # touch the segments
            (3, 1, 0, 400, None, ""),
            (8, 1, 0, 1, None, ""),
        ]
    )
    found = room_stats(
        hand_grid(), room_table(ROOMS), clean_sessions(rows), benchmark_sessions(rows)
    )
    assert found.to_dicts() == [
        {
            "live_id": 3,
            "segments": 1,
            "last_end": 500,
            "segments_ms": 500,
            "sessions": 1,
            "overlapping": 1,
            "entered": 1,
            "author_id": 30,
            "start": 0,
            "end": 500,
        },
        {
            "live_id": 7,
            "segments": 3,
            "last_end": 6_000,
            "segments_ms": 5_000,
            "sessions": 6,
            "overlapping": 4,
            "entered": 3,  # users 1, 2 and 5
            "author_id": 70,
            "start": 1_000,
            "end": 9_000,
        },
    ]


def random_rooms(seed):
    rng = np.random.default_rng(seed)
    ids = rng.choice(np.arange(1, 40), 12, replace=False)
    starts = {int(i): int(rng.integers(0, 30)) for i in ids}
    ends = [(int(i), int(rng.integers(0, 90))) for i in rng.choice(ids[:10], 80)]
    sessions = []
    for _ in range(400):
        a = int(rng.integers(-10, 110))
        end = None if rng.random() < 0.1 else a + int(rng.integers(-3, 50))
        sessions.append((int(rng.choice(ids)), 1, a, end, None, "click"))
    return starts, ends, sessions


@pytest.mark.parametrize("seed", range(5))
def test_entered_and_stayed_are_a_loop(seed):
    starts, ends, sessions = random_rooms(seed)
    rooms = room_table([(i, 0, s, None) for i, s in starts.items()])
    cleaned = clean_sessions(session_table(sessions))
    grid = build_grid(rooms, vectors(ends))
    entered, stayed = entered_and_stayed(grid, cleaned)
    rows, expected = list(cleaned.select("live_id", "start", "end").iter_rows()), []
    for room in sorted(starts):
        begin = starts[room]
        for number, end in enumerate(sorted({t for i, t in ends if i == room})):
            if not number and end <= begin:
                begin = end
                continue
            came = [e for i, s, e in rows if i == room and s <= begin]
            expected.append(
                (room, begin, end, len(came), sum(e is not None and e >= end for e in came))
            )
            begin = end
    found = zip(
        grid.live_id_R[grid.room_S].tolist(),
        grid.start_S.tolist(),
        grid.end_S.tolist(),
        entered.tolist(),
        stayed.tolist(),
        strict=True,
    )
    assert list(found) == expected
    assert sum(e[4] for e in expected) > 50


@pytest.mark.parametrize("seed", range(3))
def test_places_and_sessions_begun_are_loops(seed):
    starts, ends, sessions = random_rooms(seed)
    rooms = room_table([(i, 0, s, None) for i, s in starts.items()])
    grid = build_grid(rooms, vectors(ends))
    room_E = np.array([s[0] for s in sessions])
    t_E = np.array([s[2] for s in sessions])
    expected = []
    for room, t in zip(room_E, t_E, strict=True):
        held = [
            s
            for s in range(len(grid))
            if grid.live_id_R[grid.room_S[s]] == room and grid.start_S[s] <= t < grid.end_S[s]
        ]
        expected.append(held[0] if held else -1)
    assert grid.place(room_E, t_E).tolist() == expected
    cleaned = clean_sessions(session_table(sessions))
    found = room_stats(grid, rooms, cleaned, cleaned)
    for room, entered in found.select("live_id", "entered").iter_rows():
        last = max(
            grid.start_S[s] for s in range(len(grid)) if grid.live_id_R[grid.room_S[s]] == room
        )
        own = cleaned.filter(live_id=room)["start"]
        assert entered == sum(start <= last for start in own)


def test_scaling_inside_rooms():
    values, first = np.array([2.0, 4.0, 3.0, 5.0, 5.0, 7.0]), np.array([0, 3, 5, 6])
    assert scale_by_room(values, first).tolist() == [0, 1, 0.5, 0, 0, 0]
    assert highlight_score(values, values[::-1].copy(), first)[1] == pytest.approx(0.6)
    assert scale_by_room(np.empty(0), np.array([0])).size == 0


def test_a_bucket_without_a_segment():
    grid = build_grid(room_table([]), vectors([]))
    empty = log([])
    logs = Logs(
        sessions=clean_sessions(session_table([])),
        counted=benchmark_sessions(session_table([])),
        shows=empty,
        likes=empty,
        comments=empty.with_columns(text=pl.lit(None, pl.String)),
    )
    assert count_segments(grid, logs, Counter()).height == 0
    assert room_stats(grid, room_table([]), logs.sessions, logs.counted).height == 0


@pytest.mark.parametrize("bits", [64, 3])
def test_repeats_are_told_by_their_values_not_their_hashes(monkeypatch, bits):
    """With 3 bits of hash left, most rows share theirs with others that differ."""
    whole = pl.DataFrame.hash_rows
    few = (1 << bits) - 1
    monkeypatch.setattr(pl.DataFrame, "hash_rows", lambda frame: whole(frame) & few)
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {"a": rng.integers(0, 20, 400), "b": rng.choice(["x", "y", None], 400).tolist()}
    ).with_columns(row=pl.int_range(pl.len()).cast(INT))
    found = without_repeats(rows, ["a", "b"]).sort("row")
    assert found.equals(rows.unique(["a", "b"], keep="first", maintain_order=True))
    assert 30 < found.height < 100
    assert without_repeats(found, ["a", "b"]).sort("row").equals(found)
    assert without_repeats(rows.head(0), ["a", "b"]).height == 0
