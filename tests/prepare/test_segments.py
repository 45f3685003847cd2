import math
import re
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contentctr.config import LATE_COMMENTS
from contentctr.errors import InputError
from contentctr.prepare.segments import KIND_OF_COUNT, count_tail, segment_rooms
from contentctr.rooms.grid import Grid
from contentctr.rooms.room import COMMENTS_SCHEMA, EVENT_KINDS, EVENTS_SCHEMA, SPEECH_SCHEMA, Room
from contentctr.store.rooms import SEGMENTS_SCHEMA


def room(
    duration_s: float,
    *,
    events: list[tuple[str, float, str]] | None = None,
    comments: list[tuple[float, str, str]] | None = None,
    speech: list[tuple[float, float, str]] | None = None,
    columns: pl.DataFrame | None = None,
    room_id: str = "r",
) -> Room:
    def table(rows: list[tuple[object, ...]] | None, schema: dict[str, object]) -> object:
        if rows is None:
            return None
        key = "start" if "start" in schema else "t"
        return pl.DataFrame(rows, schema=schema, orient="row").sort(key, maintain_order=True)

    return Room(
        room_id=room_id,
        streamer_id="s",
        started_at=None,
        duration_s=duration_s,
        events=table(events, EVENTS_SCHEMA),
        comments=table(comments, COMMENTS_SCHEMA),
        speech=table(speech, SPEECH_SCHEMA),
        columns=columns,
    )


def test_a_room_worked_by_hand() -> None:
    events = [
        ("a", 0.0, "exposure"),
        ("a", 5.0, "exposure"),  # one viewer, two exposures
        ("b", 29.999999999, "exposure"),
        ("b", 29.999999999, "click"),
        ("c", 30.0, "click"),  # a click alone makes a viewer
        ("a", 31.0, "exposure"),
        ("d", 59.0, "like"),  # no viewer by this
        ("d", 60.0, "gift"),
        ("d", 74.0, "comment"),
        ("e", 76.0, "click"),  # after the last segment
    ]
    comments = [(1.0, "a", " hi "), (29.0, "b", ""), (29.5, "b", "yo"), (30.0, "b", "three")]
    speech = [(1.0, 2.0, "good evening"), (10.0, 12.0, "all"), (61.0, 62.0, "bye")]
    columns = pl.DataFrame({"t": [0.0, 29.0, 60.0, 61.0], "gmv": [1.0, 4.0, None, 3.0]})
    table = segment_rooms(
        [room(75.0, events=events, comments=comments, speech=speech, columns=columns)]
    )
    assert dict(table.schema) == {**SEGMENTS_SCHEMA, "gmv": pl.Float64}
    assert table["start_s"].to_list() == [0.0, 30.0, 60.0]
    assert table["end_s"].to_list() == [30.0, 60.0, 75.0]
    assert table["viewers"].to_list() == [2, 2, 0]
    assert table["clickers"].to_list() == [1, 1, 0]
    assert table["ctr"].to_list() == [0.5, 0.5, None]
    assert table["exposures"].to_list() == [3, 1, 0]
    assert table["clicks"].to_list() == [1, 1, 0]
    assert table["likes"].to_list() == [0, 1, 0]
    assert table["gifts"].to_list() == [0, 0, 1]
    assert table["comment_count"].to_list() == [3, 1, 0]  # of the chat log, not the events
    assert table["commenters"].to_list() == [2, 1, 0]
    for name in LATE_COMMENTS:  # in the last 5, 10 and 20 s
        assert table[name].to_list() == [2, 0, 0]
    assert table["comments"].to_list() == ["hi\nyo", "three", ""]
    assert table["speech"].to_list() == ["good evening all", "", "bye"]
    assert table["gmv"].to_list() == [2.5, None, 3.0]
    assert table["target"].null_count() == table["split"].null_count() == 3


def test_comments_in_the_last_parts_of_a_segment() -> None:
    times = [0.0, 9.999, 10.0, 20.0, 25.0, 29.9, 30.0, 40.0, 42.0, 45.5]
    chat = room(46, comments=[(t, "", "x") for t in times])
    acts = room(46, events=[("a", t, "comment") for t in times], room_id="s")
    for name, counts in zip(LATE_COMMENTS, ([2, 2], [3, 3], [4, 4]), strict=True):
        # The last segment ends with the room: 16 s, of which 5, 10 and all.
        for found in segment_rooms([chat, acts]).partition_by("room_id"):
            assert found[name].to_list() == counts, name


def test_what_has_no_log_is_null_and_what_is_silent_is_not() -> None:
    table = segment_rooms(
        [
            room(30, room_id="none"),
            room(30, room_id="silent", events=[], comments=[], speech=[]),
            room(30, room_id="acts", events=[("a", 1.0, "comment")]),
            room(30, room_id="chat", comments=[(1.0, "a", "x")]),
        ]
    )
    rows = {row["room_id"]: row for row in table.iter_rows(named=True)}
    logs = ("viewers", "clickers", "speech", "comments", "commenters", *KIND_OF_COUNT)
    assert all(rows["none"][name] is None for name in logs)
    assert [rows["silent"][name] for name in logs] == [0, 0, "", "", 0, *[0] * 8]
    assert all(row["ctr"] is None for row in rows.values())
    assert rows["acts"]["comment_count"] == rows["acts"]["commenters"] == 1
    assert rows["acts"]["comments"] is None
    assert rows["chat"]["comment_count"] == 1
    assert rows["chat"]["viewers"] is None


@pytest.mark.parametrize(
    ("duration_s", "length", "count"),
    [
        (0.1, 30, 0),
        (14.999, 30, 0),
        (15.0, 30, 1),
        (30.0, 30, 1),
        (44.999, 30, 1),
        (45.0, 30, 2),
        (0.3, 0.1, 3),
        (0.7, 0.1, 7),
        (59.94, 29.97, 2),
        (0.25, 0.1, 3),
        (0.249999, 0.1, 2),
    ],
)
def test_number_of_segments(duration_s: float, length: float, count: int) -> None:
    assert Grid(length).count(duration_s) == count
    table = segment_rooms([room(duration_s)], segment_seconds=length)
    assert table.height == count
    if count:
        assert table["end_s"][-1] <= duration_s


@pytest.mark.parametrize("length", ["0.1", "0.3", "0.7", "1.1", "29.97", "30", "33.333333"])
def test_borders_are_those_of_decimal_numbers(length: str) -> None:
    """A time written as k * length belongs to segment k, the float before it to k - 1."""
    numbers = range(1, 3000)
    written = [float(Decimal(length) * k) for k in numbers]
    times = pl.DataFrame({"at": written, "before": [math.nextafter(t, 0) for t in written]})
    grid = Grid(float(length))
    found = times.select(grid.segment_of(pl.col("at")), grid.segment_of(pl.col("before")))
    assert found["at"].to_list() == list(numbers)
    assert found["before"].to_list() == [k - 1 for k in numbers]
    table = segment_rooms([room(written[99])], segment_seconds=float(length))
    assert table["start_s"].to_list() == [0.0, *written[:99]]
    assert table["end_s"].to_list() == written[:100]


@pytest.mark.parametrize("length", [0, -1, math.nan, math.inf, 1 / 3])
def test_wrong_lengths(length: float) -> None:
    with pytest.raises(InputError, match="segment_seconds must be above 0, with at most 6 decim"):
        segment_rooms([room(30)], segment_seconds=length)


def test_speech_is_cut_at_words() -> None:
    # Four words in 4 s: middles at 28.5, 29.5, 30.5, 31.5.
    table = segment_rooms([room(60, speech=[(28, 32, "one two  three four"), (33, 34, "five")])])
    assert table["speech"].to_list() == ["one two", "three four five"]
    # A word whose middle is the border belongs to what begins there.
    table = segment_rooms([room(60, speech=[(28, 32, "border")])])
    assert table["speech"].to_list() == ["", "border"]
    # Over several segments.
    table = segment_rooms([room(90, speech=[(0, 90, "a b c d e f g h i")])])
    assert table["speech"].to_list() == ["a b c", "d e f", "g h i"]


def test_speech_without_spaces_is_cut_at_characters() -> None:
    table = segment_rooms([room(60, speech=[(28, 32, "今天下雨"), (32, 33, "好")])])
    assert table["speech"].to_list() == ["今天", "下雨 好"]
    # "我", "love", "北", "京" at 28.5, 29.5, 30.5, 31.5.
    table = segment_rooms([room(60, speech=[(28, 32, "我 love 北京")])])
    assert table["speech"].to_list() == ["我 love", "北京"]


def test_nothing_spoken_after_the_end_is_heard() -> None:
    speech = [(40, 60, "a b c d"), (50.0, 50.0, "late"), (28, 29, "x")]
    # The last segment ends with the room at 50 s: middles are 42.5, 47.5, 52.5, 57.5.
    assert segment_rooms([room(50, speech=speech)])["speech"].to_list() == ["x", "a b"]
    # Here the tail from 30 s on is dropped.
    assert segment_rooms([room(44, speech=speech)])["speech"].to_list() == ["x"]


def test_own_columns_of_different_rooms() -> None:
    names = {"t": [1.0, 2.0], "room": [1, 2], "num_segments": [3.0, float("nan")]}
    rooms = [
        room(30, room_id="b", columns=pl.DataFrame(names)),
        room(30, room_id="a", columns=pl.DataFrame({"t": [1.0], "gmv": [5]})),
        room(30, room_id="c"),
    ]
    table = segment_rooms(rooms).select("room_id", "room", "num_segments", "gmv")
    assert table.rows() == [("a", None, None, 5.0), ("b", 1.5, 3.0, None), ("c", None, None, None)]


@pytest.mark.parametrize("name", ["target", "ctr", "comment_rate", "segment"])
def test_own_column_with_a_taken_name(name: str) -> None:
    columns = pl.DataFrame({"t": [1.0], name: [1.0]})
    with pytest.raises(InputError, match=f"room 'r': a column .* must not be called '{name}'"):
        segment_rooms([room(30, columns=columns)])


def test_no_rooms_and_short_rooms() -> None:
    assert dict(segment_rooms([]).schema) == SEGMENTS_SCHEMA
    table = segment_rooms([room(5, events=[("a", 1, "click")], speech=[(1, 2, "a")])])
    assert table.height == 0


def test_tail() -> None:
    parts = {
        "events": [("a", 1.0, "click"), ("a", 30.0, "click"), ("a", 31.0, "click")],
        "comments": [(29.9, "a", "x"), (31.0, "a", "x")],
        "speech": [(29.0, 31.0, "a b"), (30.0, 30.5, "c")],
    }
    columns = pl.DataFrame({"t": [1.0, 40.0], "gmv": [1, 2]})
    rooms = [room(40.5, **parts, columns=columns), room(60, **parts)]  # type: ignore[arg-type]
    assert count_tail(rooms) == {
        "comments_outside": 1,
        "speech_outside": 1,
        "events_outside": 2,
        "columns_outside": 1,
    }


# ---- against a naive loop ----

LENGTHS = ["0.1", "0.7", "3", "2.5", "29.97", "30"]
WORD = re.compile(r"([一-鿿]|[^\s一-鿿]+)\s*")


@st.composite
def drawn_rooms(draw: st.DrawFn) -> tuple[Decimal, list[Room]]:
    length = Decimal(draw(st.sampled_from(LENGTHS)))

    def times(limit: float) -> st.SearchStrategy[float]:
        on_border = st.integers(0, 8).map(lambda k: float(length * k))
        near = on_border.map(lambda t: math.nextafter(t, 0))
        inside = st.floats(0, limit, exclude_max=True)
        return st.one_of(on_border, near, inside).filter(lambda t: t < limit)

    rooms = []
    for number in range(draw(st.integers(1, 3))):
        duration = float(length) * draw(st.floats(0.1, 6))
        time, user = times(duration), st.sampled_from("abcd")
        text = st.sampled_from(["", " ", "x y", "今天", "a 今天 bc", "z"])
        events = st.lists(st.tuples(user, time, st.sampled_from(EVENT_KINDS)), max_size=25)
        comments = st.lists(st.tuples(time, user, text), max_size=8)
        spans = st.tuples(time, st.floats(0, 3 * float(length)), text)
        speech = st.lists(spans.map(lambda s: (s[0], s[0] + s[1], s[2])), max_size=6)
        rooms.append(
            room(
                duration,
                room_id=f"r{number}",
                events=draw(st.none() | events),
                comments=draw(st.none() | comments),
                speech=draw(st.none() | speech),
            )
        )
    return length, rooms


def naive(length: Decimal, one: Room) -> list[dict[str, object]]:
    """The definition, segment by segment, with decimal borders."""
    duration = Decimal(repr(one.duration_s))
    whole = int(duration // length)
    count = whole + (duration - whole * length >= length / 2)
    rows = []
    for k in range(count):
        start = float(length * k)
        end = min(float(length * (k + 1)), one.duration_s)
        row: dict[str, object] = {"room_id": one.room_id, "segment": k, "start_s": start}
        row["end_s"] = end
        if one.events is not None:
            inside = [e for e in one.events.rows() if start <= e[1] < end]
            viewers = {u for u, _, kind in inside if kind in ("exposure", "click")}
            clickers = {u for u, _, kind in inside if kind == "click"}
            row |= {"viewers": len(viewers), "clickers": len(clickers)}
            row["ctr"] = len(clickers) / len(viewers) if viewers else None
            for name, kind in KIND_OF_COUNT.items():
                row[name] = sum(e[2] == kind for e in inside)
            row["commenters"] = writers([e[0] for e in inside if e[2] == "comment"])
            row |= late(length, end, [e[1] for e in inside if e[2] == "comment"])
        if one.comments is not None:
            texts = [c[2] for c in one.comments.rows() if start <= c[0] < end]
            row["comment_count"] = len(texts)
            row["commenters"] = writers([c[1] for c in one.comments.rows() if start <= c[0] < end])
            row |= late(length, end, [c[0] for c in one.comments.rows() if start <= c[0] < end])
            row["comments"] = "\n".join(x.strip() for x in texts if x.strip())
        if one.speech is not None:
            row["speech"] = " ".join(
                filter(None, (heard(u, start, end) for u in one.speech.rows()))
            )
        rows.append(row)
    return rows


def late(length: Decimal, end: float, times: list[float]) -> dict[str, object]:
    parts = zip(LATE_COMMENTS, (1 / 6, 1 / 3, 2 / 3), strict=True)
    return {
        name: sum(round(end - t, 6) <= share * float(length) for t in times)
        for name, share in parts
    }


def writers(users: list[str]) -> int:
    """Whoever has no name is somebody else each time."""
    return len({u for u in users if u}) + users.count("")


def heard(utterance: tuple[float, float, str], start: float, end: float) -> str:
    first, last, text = utterance
    if start <= first < end and last <= end:  # all of it, however its words' times are rounded
        return text.strip()
    if first < start and last <= start:  # it was whole in an earlier one
        return ""
    words = [match.group() for match in WORD.finditer(text.strip())]
    spoken = [first + (k + 0.5) / len(words) * (last - first) for k in range(len(words))]
    return "".join(w for w, t in zip(words, spoken, strict=True) if start <= t < end).strip()


def test_an_utterance_that_ends_at_a_border_is_whole() -> None:
    speech = [(math.nextafter(59.94, 0), 59.94, "x y")]
    table = segment_rooms([room(89.91, speech=speech)], segment_seconds=29.97)
    assert table["speech"].to_list() == ["", "x y", ""]


@settings(max_examples=150, deadline=None)
@given(drawn_rooms())
def test_same_as_a_naive_loop(drawn: tuple[Decimal, list[Room]]) -> None:
    length, rooms = drawn
    table = segment_rooms(rooms, segment_seconds=float(length))
    expected = [row for one in rooms for row in naive(length, one)]
    assert table.height == len(expected)
    for found, wanted in zip(table.iter_rows(named=True), expected, strict=True):
        empty = dict.fromkeys(
            ("viewers", "clickers", "ctr", "speech", "comments", *KIND_OF_COUNT), None
        )
        wanted = {**empty, **wanted}
        assert {name: found[name] for name in wanted} == wanted


@settings(max_examples=40, deadline=None)
@given(drawn_rooms())
def test_no_event_is_lost_or_counted_twice(drawn: tuple[Decimal, list[Room]]) -> None:
    length, rooms = drawn
    table = segment_rooms(rooms, segment_seconds=float(length))
    counted = sum(table[name].sum() for name in KIND_OF_COUNT if name != "comment_count")
    rows = [e for one in rooms if one.events is not None for e in one.events.rows()]
    late = count_tail(rooms, segment_seconds=float(length))["events_outside"]
    comment_events = [
        (one, e)
        for one in rooms
        if one.events is not None
        for e in one.events.rows()
        if e[2] == "comment"
    ]
    ends = {one.room_id: float(length * Grid(float(length)).count(one.duration_s)) for one in rooms}
    in_time = sum(e[1] < ends[one.room_id] for one, e in comment_events)
    assert counted + late + in_time == len(rows)
