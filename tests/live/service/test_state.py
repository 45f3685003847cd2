"""`serve --state`: a service that was killed goes on with the same bits, whatever its disk does."""

import os
import random
import shutil
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.live.known_rooms import Shown
from contentctr.live.outcomes import LateCounts
from contentctr.live.scorer_segments import RawSegment
from contentctr.live.service import keeping
from contentctr.live.service.keeping import Keeper
from contentctr.live.service.scoring import Item, Scoring
from contentctr.live.service.settings import ServiceSettings
from contentctr.live.service.state_file import FILE_NAME, LOCK_NAME, StateError, StateFile
from live_server import serving_process
from live_service import MORE, N, V, X, make_engine, make_picture, make_post, running
from live_state import Kept, close_all, segment

LOOKBACK = {"decoder_lookback": "3,4"}
TWO = {"members": 2, **MORE}


@pytest.fixture(autouse=True)
def _close():
    yield
    close_all()


@pytest.mark.parametrize(
    "sizes",
    [{}, LOOKBACK, MORE, TWO, {**TWO, **LOOKBACK}],
    ids=["window", "lookback", "counts", "members", "members lookback"],
)
def test_a_killed_service_goes_on_with_the_same_bits(tmp_path, sizes):
    whole, kept = Scoring(make_engine(sizes=sizes)), Kept(tmp_path / "0", make_engine(sizes=sizes))
    steps = [("x", k) for k in range(5)] + [("y", 0), ("x", 5), ("y", 3), ("x", 30), ("y", 4)]
    steps += [("x", k) for k in range(31, 45)] + [("y", 5)]
    for count, (room, index) in enumerate(steps):
        [expected] = whole.work([Item(segment(room, index), Shown(ended_at=1.0))])
        assert kept.post(segment(room, index)) == [expected.taken.scored.score]
        if count % 3 == 0:
            kept = kept.killed(tmp_path / str(count + 1), make_engine(sizes=sizes))
    assert kept.said == ["2 rooms of the service before go on"]
    assert kept.post(segment("x", 44), segment("y", 5)) == [  # repeated, and known for such
        whole.rooms["x"].room.score,
        whole.rooms["y"].room.score,
    ]
    for room in ("x", "y"):
        found, expected = kept.scoring.rooms[room], whole.rooms[room]
        assert found.room == replace(expected.room, models=found.room.models)
        assert found.owner == "k" and found.inputs[-1].runs == expected.inputs[-1].runs


def late(room, number, run="", **counts):
    return LateCounts(room_id=room, run=run, number=number, counts=counts)


def test_counts_that_wait_are_kept_and_read_once(tmp_path):
    whole, kept = Scoring(make_engine(sizes=MORE)), Kept(tmp_path / "0", make_engine(sizes=MORE))
    steps = [[segment("x", 0), segment("y", 0)], [late("x", 0, follows=4), late("gone", 0)]]
    steps += [[segment("x", 1)], [late("x", 0, follows=9), late("x", 2, enters=7)]]
    steps += [[segment("x", 2), segment("y", 1)], [late("y", 0, exits=1), late("x", 1, exits=2)]]
    steps += [[segment("x", 4)], [segment("x", 4), segment("x", 3), segment("x", 5)]]
    for count, step in enumerate(steps):
        if isinstance(step[0], LateCounts):
            for scoring in (whole, kept.scoring):
                scoring.wait_for_next(step)
        else:
            items = [Item(one, Shown(ended_at=1.0)) for one in step]
            expected = [done.taken.scored.score for done in whole.work(items)]
            assert kept.post(*step) == expected
        assert {n: k.waiting for n, k in kept.scoring.rooms.items()} == {
            n: k.waiting for n, k in whole.rooms.items()
        }
        kept = kept.killed(tmp_path / str(count + 1), make_engine(sizes=MORE))
    assert whole.rooms["x"].waiting == {} and whole.rooms["y"].waiting == {0: {"exits": 1}}
    given = {one.segment.index: one.segment.earlier for one in whole.rooms["x"].inputs}
    assert given[1] == {0: {"follows": 4}} and given[2] == {0: {"follows": 9}}
    assert given[4] == {2: {"enters": 7}, 1: {"exits": 2}} and given[5] is None
    alone = make_engine(sizes=MORE).scorer
    for index in (0, 1, 2, 4, 5):
        told = {k: v for k, v in (given[index] or {}).items() if index != 2}
        [found] = alone.score([segment("x", index, earlier=told)])
    # What was known stayed so.
    assert found.score == pytest.approx(whole.rooms["x"].room.score, abs=1e-6)


def test_what_waits_is_bounded_and_of_one_run(tmp_path):
    kept = Kept(tmp_path / "a", make_engine(sizes=MORE))
    kept.post(segment("x", 60, run="one"))
    assert kept.scoring.wait_for_next([late("x", k, "one", likes=k) for k in range(1, 60)]) == 11
    assert kept.scoring.rooms["x"].waiting.keys() == set(range(12, 60))
    kept.scoring.wait_for_next([late("x", 60, "two", likes=1)])
    assert 60 not in kept.scoring.rooms["x"].waiting
    wrong = segment("x", 61, run="one", visual=np.zeros(V + 1, np.float32))
    [refused] = kept.scoring.work([Item(wrong, Shown(ended_at=1.0))])
    assert isinstance(refused, InputError) and len(kept.scoring.rooms["x"].waiting) == 48
    kept.post(segment("x", 5, run="two"))
    assert kept.scoring.rooms["x"].waiting == {}
    kept.scoring.wait_for_next([late("x", 2, "two", likes=1)])
    again = kept.killed(tmp_path / "b", make_engine(sizes=MORE))
    assert again.scoring.rooms["x"].waiting == {2: {"likes": 1}}
    again.scoring.forget("x")
    again.post(segment("x", 6, run="two"))
    last = again.killed(tmp_path / "c", make_engine(sizes=MORE))
    assert last.scoring.rooms["x"].waiting == {}


def test_a_segment_too_late_for_counts_is_told(tmp_path):
    scoring = Scoring(make_engine(sizes=MORE))
    scoring.work([Item(segment("x", 0), Shown(ended_at=1.0))])
    scoring.wait_for_next([late("x", 0, exits=4)])
    [done] = scoring.work([Item(segment("x", 49), Shown(ended_at=1.0))])
    assert done.taken.scored.late_counts == 1 and scoring.rooms["x"].waiting == {}


def test_what_is_shown_is_kept_too(tmp_path):
    kept, picture = Kept(tmp_path / "a"), make_picture()
    for index in range(3):
        kept.post(
            segment("x", index), title=f"T{index}", comments=(f"c{index}",), thumbnail=picture
        )
    kept.post(segment("y", 0))
    kept.scoring.forget("y")
    again = kept.killed(tmp_path / "b")
    assert again.rooms.keys() == {"x"} and again.rooms["x"] is not kept.scoring.rooms["x"]
    room = again.rooms["x"].room
    assert room == kept.scoring.rooms["x"].room and room.comments == ("c0", "c1", "c2")
    assert again.rooms["x"].thumbnail == picture and len(room.curve) == 3


def test_a_room_that_begins_anew_leaves_nothing_of_its_run_before(tmp_path):
    kept, whole = Kept(tmp_path / "a"), Scoring(make_engine())
    for index in range(12):
        kept.post(segment("x", index, run="one"), thumbnail=make_picture())
    kept.post(segment("x", 3, run="two"))
    again = kept.killed(tmp_path / "b")
    assert again.rooms["x"].thumbnail is None
    assert again.post(segment("x", 12, run="one")) == [None]  # late
    for index in (3, 4):
        [done] = whole.work([Item(segment("x", index, run="two"), Shown(ended_at=1.0))])
    assert again.post(segment("x", 4, run="two")) == [done.taken.scored.score]


@pytest.mark.parametrize("other", [{"decoder_layers": 3}, {"members": 2}])
def test_with_another_model_rooms_are_made_of_what_they_sent(tmp_path, other):
    kept = Kept(tmp_path / "a")
    whole = Scoring(make_engine(sizes=other))
    for index in range(N + 3):
        kept.post(segment("x", index))
        [done] = whole.work([Item(segment("x", index), Shown(ended_at=1.0))])
    again = kept.killed(tmp_path / "b", make_engine(sizes=other))
    assert again.rooms["x"].room.score == pytest.approx(done.taken.scored.score, abs=1e-6)
    assert again.rooms["x"].room.model == again.scoring.engine.model_id
    [done] = whole.work([Item(segment("x", N + 3), Shown(ended_at=1.0))])
    assert again.post(segment("x", N + 3)) == pytest.approx([done.taken.scored.score], abs=1e-6)
    # And what it made is written as its own: from here on it goes on to the bit.
    third = again.killed(tmp_path / "c", make_engine(sizes=other))
    assert third.post(segment("x", N + 4)) == again.post(segment("x", N + 4))


def test_many_rooms_are_written_in_transactions_of_some(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "_TOGETHER", 3)
    kept = Kept(tmp_path / "a")
    kept.post(*(segment(f"r{k}", 0) for k in range(8)))
    counts, write = [], StateFile.write

    def counted(file, rooms, ended, facts, waiting):
        counts.append(len(rooms))
        write(file, rooms, ended, facts, waiting)

    monkeypatch.setattr(StateFile, "write", counted)
    other = {"decoder_layers": 3}
    again = kept.killed(tmp_path / "b", make_engine(sizes=other))
    assert counts == [3, 3, 2]
    last = again.killed(tmp_path / "c", make_engine(sizes=other))
    assert counts == [3, 3, 2] and last.rooms.keys() == {f"r{k}" for k in range(8)}


def test_with_another_calibration_no_score_of_the_old_one_is_told(tmp_path):
    kept = Kept(tmp_path / "a")
    kept.post(segment("x", 0))
    engine = make_engine()
    engine.model_id = "calibrated-anew"
    again = kept.killed(tmp_path / "b", engine)
    [before], after = kept.scoring.rooms["x"].room.models, again.rooms["x"].room
    assert after.model == "calibrated-anew" != before[1]
    assert again.post(segment("x", 1)) == kept.post(segment("x", 1))


def test_a_room_that_another_model_cannot_take_begins_anew_alone(tmp_path):
    kept = Kept(tmp_path / "a")
    for index in range(3):
        kept.post(segment("x", index), segment("y", index))
    wide = replace(kept.scoring.rooms["y"].inputs[-1].segment, visual=np.zeros(7, np.float32))
    kept.scoring.rooms["y"].inputs[-1] = replace(kept.scoring.rooms["y"].inputs[-1], segment=wide)
    kept.keeper.changed("y", whole=True)
    kept.scoring.forget("none")
    kept.post(segment("x", 3))
    again = kept.killed(tmp_path / "b", make_engine(sizes={"decoder_layers": 3}))
    assert again.rooms.keys() == {"x"} == again.scoring.engine.scorer.rooms.keys()
    assert "'y', segment 2: visual must be 6 numbers" in again.said[0]
    again.post(segment("y", 3))
    last = again.killed(tmp_path / "c", make_engine(sizes={"decoder_layers": 3}))
    assert last.rooms.keys() == {"x", "y"}


class Ears:
    """In place of a LiveEncoder: notes what it is told to remember."""

    def __init__(self):
        self.told = {}

    def encode(self, raws):
        return [segment(raw.room_id, raw.index, run=raw.run) for raw in raws]

    def remember(self, room_id, runs, comments):
        self.told[room_id] = (runs, comments)


def test_comments_that_are_read_later_are_kept(tmp_path):
    spec = replace(make_engine().spec, comment_lag=2)
    kept = Kept(tmp_path / "a", make_engine(spec=spec))
    kept.scoring._encoder = Ears()
    for index in range(N + 3):
        kept.post(RawSegment("x", "a", index, (), "", f"line {index}", run="one"))
    ears = Ears()
    again = kept.killed(tmp_path / "b", make_engine(spec=spec), encoder=ears)
    runs, comments = ears.told["x"]
    assert runs.current == "one" and again.rooms.keys() == {"x"}
    assert comments == {k: f"line {k}" for k in range(3, N + 3)}


def test_a_model_of_other_features_sets_the_state_aside(tmp_path):
    kept = Kept(tmp_path / "a")
    kept.post(segment("x", 0))
    spec = replace(make_engine().spec, visual_revision="another")
    again = kept.killed(tmp_path / "b", make_engine(spec=spec))
    assert not again.rooms and again.keeper.state == "kept"
    assert "visual_revision must be 'another'" in again.said[0]
    [aside] = (tmp_path / "b").glob("rooms.aside-*.sqlite")
    assert aside.name in again.said[0]
    again.post(segment("x", 0))
    assert again.killed(tmp_path / "c", make_engine(spec=spec)).rooms.keys() == {"x"}


def test_silent_rooms_and_those_too_many_are_left_out(tmp_path):
    now = [1000.0]
    kept = Kept(tmp_path / "a", clock=lambda: now[0])
    for room in ("old", "b", "c"):
        kept.post(segment(room, 0))
        now[0] += 500.0
    again = kept.killed(tmp_path / "b", clock=lambda: now[0], forget_after_s=1200.0)
    assert again.rooms.keys() == {"b", "c"}
    few = kept.killed(
        tmp_path / "c", make_engine(max_rooms=1), clock=lambda: now[0], forget_after_s=1200.0
    )
    assert few.rooms.keys() == {"c"}
    assert few.said[0] == "room 'b': there are as many rooms as there may be"


def test_the_file_does_not_grow_for_ever(tmp_path):
    kept, sizes = Kept(tmp_path), []
    for number in range(20):
        for index in range(6):
            kept.post(segment(f"r{number}", index), comments=("x" * 400,) * 10)
        if number >= 4:
            kept.scoring.forget(f"r{number - 4}")
        [(pages,)] = kept.keeper._file._base.execute("PRAGMA page_count")
        sizes.append(pages)
    assert max(sizes[10:]) <= max(sizes[5:10])


def test_a_second_service_is_told(tmp_path):
    kept = Kept(tmp_path)
    with pytest.raises(InputError, match="another service keeps its rooms there"):
        Keeper(tmp_path, forget_after_s=600.0, report=print)
    kept.scoring.stop()
    assert Kept(tmp_path).keeper.state == "kept"


def damage_head(path):
    path.write_bytes(b"no database, whoever reads this" * 1000)


def damage_pages(path):
    data = bytearray(path.read_bytes())
    data[16384:] = bytes(len(data) - 16384)
    path.write_bytes(bytes(data))


def damage_marks(path):
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 99")
    base.close()


@pytest.mark.parametrize("damage", [damage_head, damage_pages, damage_marks])
def test_a_damaged_file_is_set_aside(tmp_path, damage):
    kept = Kept(tmp_path)
    kept.post(segment("x", 0))
    kept.scoring.stop()
    damage(tmp_path / FILE_NAME)
    before = (tmp_path / FILE_NAME).read_bytes()
    again = Kept(tmp_path)
    [aside] = tmp_path.glob("rooms.aside-*.sqlite")
    assert aside.read_bytes() == before and aside.name in again.said[0]
    assert not again.rooms and again.post(segment("x", 0)) and again.keeper.state == "kept"


def change(folder, command, *values):
    base = sqlite3.connect(folder / FILE_NAME)
    assert base.execute(command, values).rowcount > 0
    base.commit()
    base.close()


def test_one_damaged_room_begins_anew_and_the_others_go_on(tmp_path):
    kept = Kept(tmp_path)
    for index in range(3):
        kept.post(segment("x", index), segment("y", index))
    kept.scoring.stop()
    change(tmp_path, "UPDATE segments SET entry = zeroblob(length(entry)) WHERE id = (1 << 31) + 1")
    again = Kept(tmp_path)
    assert again.rooms.keys() == {"y"}
    assert again.said[0] == "room 'x', as it was kept: is damaged; it begins anew"
    assert again.post(segment("x", 3)) and again.post(segment("y", 3)) == kept.post(segment("y", 3))


def test_a_state_that_is_not_whole_is_made_of_what_the_room_sent(tmp_path):
    kept = Kept(tmp_path)
    for index in range(3):
        kept.post(segment("x", index))
    kept.scoring.stop()
    change(tmp_path, "UPDATE segments SET entry = NULL WHERE id = (1 << 31) + 1")
    again = Kept(tmp_path)
    told = "room 'x', as it was kept: its state is not whole; it is made anew from what the room"
    assert again.said[0] == f"{told} sent"
    assert again.rooms["x"].room.models == kept.scoring.rooms["x"].room.models
    assert again.post(segment("x", 3)) == pytest.approx(kept.post(segment("x", 3)), abs=1e-6)


@pytest.mark.parametrize("value", [b"[" * 100_000, b"1234{}"])
def test_damaged_facts_set_the_file_aside(tmp_path, value):
    kept = Kept(tmp_path)
    kept.post(segment("x", 0))
    kept.scoring.stop()
    change(tmp_path, "UPDATE facts SET value = ? WHERE name = 'model'", value)
    again = Kept(tmp_path)
    [aside] = tmp_path.glob("rooms.aside-*.sqlite")
    assert not again.rooms and again.keeper.state == "kept"
    assert "is damaged (its checksum is another)" in again.said[0] and aside.name in again.said[0]


@pytest.mark.parametrize(
    "command",
    [
        "UPDATE rooms SET owner = 'thief' WHERE id = 1",
        "UPDATE rooms SET owner = NULL WHERE id = 1",
        "UPDATE rooms SET owner = CAST(x'ff' AS TEXT) WHERE id = 1",
        "UPDATE rooms SET revision = CAST(x'ff' AS TEXT) WHERE id = 1",
        "UPDATE rooms SET seen = seen + 1 WHERE id = 1",
        "UPDATE rooms SET about = (SELECT about FROM rooms WHERE id = 2) WHERE id = 1",
        "UPDATE segments SET comments = x'0102030405' WHERE id = (1 << 31) + 2",
        "UPDATE thumbnails SET data = zeroblob(length(data)) WHERE id = 1",
        "UPDATE thumbnails SET data = 'text' WHERE id = 1",
    ],
)
def test_whatever_is_damaged_of_a_room_is_noticed(tmp_path, command):
    spec = replace(make_engine().spec, comment_lag=1)
    kept = Kept(tmp_path, make_engine(spec=spec))
    kept.scoring._encoder = Ears()
    for index in range(3):
        rooms = [RawSegment(room, "a", index, (), "", "line") for room in ("x", "y")]
        kept.post(*rooms, thumbnail=make_picture("PNG", (64, 64)))
    kept.scoring.stop()
    change(tmp_path, command)
    again = Kept(tmp_path, make_engine(spec=spec))
    assert again.rooms.keys() == {"y"}
    assert again.said[0] == "room 'x', as it was kept: is damaged; it begins anew"


def places_of(data, word):
    found = [data.find(word)]
    while found[-1] >= 0:
        found.append(data.find(word, found[-1] + 1))
    return found[:-1]


@pytest.mark.parametrize("last", [b"\xff", b"q", b"y"], ids=["no text", "another", "the other's"])
def test_a_room_whose_name_or_index_is_damaged_heals(tmp_path, last):
    kept = Kept(tmp_path / "whole")
    for index in range(2):
        kept.post(segment("named-x", index), segment("named-y", index))
    kept.scoring.stop()
    expected = kept.post(segment("named-y", 2))
    data = (tmp_path / "whole" / FILE_NAME).read_bytes()
    places = places_of(data, b"named-x")
    assert len(places) > 1  # in the table, and in its index
    for place in places:
        folder = tmp_path / str(place)
        folder.mkdir()
        shutil.copy(tmp_path / "whole" / LOCK_NAME, folder)
        (folder / FILE_NAME).write_bytes(data[: place + 6] + last + data[place + 7 :])
        again = Kept(folder)
        assert "named-y" in again.rooms and not list(folder.glob("rooms.aside*"))
        has = "named-x" in again.rooms
        assert has != any("is damaged; it" in said for said in again.said)
        assert again.post(segment("named-y", 2)) == expected
        again.post(segment("named-x", 2))
        again.scoring.stop()
        base = sqlite3.connect(folder / FILE_NAME)
        assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        strays = "SELECT count(*) FROM segments WHERE id >> 31 NOT IN (SELECT id FROM rooms)"
        assert base.execute(strays).fetchone() == (0,)
        base.close()
        third = Kept(folder)
        assert third.said == ["2 rooms of the service before go on"]
        assert third.rooms.keys() == {"named-x", "named-y"}


def test_a_file_that_cannot_be_read_to_its_end_leaves_no_room_behind(tmp_path, monkeypatch):
    kept, read = Kept(tmp_path), StateFile._read
    for room in ("x", "y"):
        kept.post(segment(room, 0))
    kept.scoring.stop()

    def fails(file, number, room_id, *values):
        if room_id == "x":
            raise sqlite3.OperationalError("disk I/O error")
        return read(file, number, room_id, *values)

    monkeypatch.setattr(StateFile, "_read", fails)
    again = Kept(tmp_path)
    assert again.keeper.state == "failing" and "disk I/O error" in again.said[0]
    assert not again.rooms and not again.scoring.engine.scorer.rooms


def test_a_file_that_cannot_be_set_aside_is_tried_again_later(tmp_path, monkeypatch):
    now = [1000.0]
    kept = Kept(tmp_path)
    kept.post(segment("old", 0))
    kept.scoring.stop()
    before = (tmp_path / FILE_NAME).read_bytes()
    spec = replace(make_engine().spec, visual_revision="another")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: os.rename(tmp_path / "none", tmp_path))
        again = Kept(tmp_path, make_engine(spec=spec), clock=lambda: now[0])
        assert again.post(segment("x", 0))[0] is not None and again.keeper.state == "failing"
        now[0] += keeping.AGAIN_S
        assert again.post(segment("x", 1))[0] is not None and again.keeper.state == "failing"
    [said] = again.said
    assert "cannot be renamed" in said and "serving goes on, and rooms are not kept" in said
    assert (tmp_path / FILE_NAME).read_bytes() == before  # nothing of another model is in it
    now[0] += keeping.AGAIN_S
    again.post(segment("x", 2))
    [aside] = tmp_path.glob("rooms.aside-*.sqlite")
    assert again.said[-1] == "rooms are kept again" and aside.name in again.said[-2]
    third = again.killed(tmp_path / "b", make_engine(spec=spec), clock=lambda: now[0])
    assert third.rooms.keys() == {"x"}


def test_a_file_keeps_its_log_where_it_cannot_be_renamed(tmp_path, monkeypatch):
    file = StateFile(tmp_path)
    log, rename = Path(f"{file.path}-wal"), Path.rename

    def fails(path, target):
        if path == file.path:
            raise OSError("busy")
        return rename(path, target)

    file._base.close()
    log.write_bytes(b"the last of it")
    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(StateError, match="cannot be renamed"):
        file.put_aside("is of another model")
    assert log.read_bytes() == b"the last of it" and not list(tmp_path.glob("rooms.aside*"))
    file.close()


def test_a_log_that_cannot_get_its_name_back_is_told(tmp_path, monkeypatch):
    file = StateFile(tmp_path)
    log, rename = Path(f"{file.path}-wal"), Path.rename

    def fails(path, target):
        if path != log:
            raise OSError("busy")
        return rename(path, target)

    file._base.close()
    log.write_bytes(b"the last of it")
    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(StateError, match="cannot be renamed"):  # what a start goes on after
        file.put_aside("is of another model")
    [aside] = tmp_path.glob("rooms.aside*")
    assert aside.read_bytes() == b"the last of it"
    file.close()


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "holiday.txt").write_text("mine")
    kept = Kept(tmp_path)
    assert kept.keeper.state == "failing" and kept.post(segment("x", 0))[0] is not None
    [said] = kept.said
    assert "holds files, and none of a service's state" in said and "serving goes on" in said
    assert os.listdir(tmp_path) == ["holiday.txt"]
    not_a_folder = Kept(tmp_path / "holiday.txt")
    assert not_a_folder.keeper.state == "failing" and "cannot be used" in not_a_folder.said[0]


@pytest.mark.parametrize(
    ("worse", "better", "word"),
    [
        # What SQLite says where a disk is full, or cannot be written.
        ("max_page_count = 1", "max_page_count = 1000000", "is full"),
        ("query_only = 1", "query_only = 0", "readonly"),
    ],
)
def test_a_disk_that_fails_is_told_once_and_made_good(tmp_path, worse, better, word):
    now = [1000.0]
    kept, whole = Kept(tmp_path / "a", clock=lambda: now[0]), Scoring(make_engine())
    base = kept.keeper._file._base
    kept.post(segment("x", 0))
    base.execute(f"PRAGMA {worse}")
    for index in range(1, 30):
        kept.post(segment("x", index), segment("y", index), thumbnail=make_picture("PNG", (64, 64)))
        now[0] += 1.0
    assert kept.keeper.state == "failing"
    [said] = kept.said
    assert word in said and "serving goes on" in said
    kept.scoring.forget("y")
    base.execute(f"PRAGMA {better}")
    now[0] += keeping.AGAIN_S
    kept.post(segment("x", 30))
    assert kept.keeper.state == "kept" and kept.said[1:] == ["rooms are kept again"]
    for index in range(31):
        whole.work([Item(segment("x", index), Shown(ended_at=1.0))])
    [done] = whole.work([Item(segment("x", 31), Shown(ended_at=1.0))])
    again = kept.killed(tmp_path / "b", clock=lambda: now[0])
    assert again.rooms.keys() == {"x"}
    assert again.post(segment("x", 31)) == [done.taken.scored.score]


def test_a_folder_that_cannot_be_opened_at_the_start_is_tried_again(tmp_path):
    now = [1000.0]
    before = Kept(tmp_path / "s")
    before.post(segment("old", 0))
    before.scoring.stop()
    (tmp_path / "s").rename(tmp_path / "away")
    (tmp_path / "s").write_text("no folder")
    kept = Kept(tmp_path / "s", clock=lambda: now[0])
    kept.post(segment("x", 0), segment("y", 0), segment("z", 0))
    kept.scoring.forget("y")
    assert kept.keeper.state == "failing" and not kept.keeper._ended
    (tmp_path / "s").unlink()
    (tmp_path / "away").rename(tmp_path / "s")
    kept.post(segment("x", 1))
    assert kept.keeper.state == "failing"
    now[0] += keeping.AGAIN_S
    kept.post(segment("x", 2))
    assert kept.keeper.state == "kept" and kept.said[-1] == "rooms are kept again"
    [aside] = (tmp_path / "s").glob("rooms.aside-*.sqlite")
    assert aside.name in kept.said[-2]
    again = kept.killed(tmp_path / "b", clock=lambda: now[0])
    assert again.rooms.keys() == {"x", "z"}
    assert again.post(segment("x", 3)) == kept.post(segment("x", 3))


def test_the_service_says_whether_it_keeps(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    for folder, state, gauge in (("a", "kept", "1.0"), ("other", "failing", "0.0")):
        keeper = Keeper(tmp_path / folder, forget_after_s=600.0, report=lambda text: None)
        with running(keeper=keeper) as (client, _):
            assert client.post("/v1/segments", json=make_post()).status_code == 200
            assert client.get("/v1/info").json()["state"] == state
            assert f"contentctr_state_kept {gauge}" in client.get("/metrics").text
    with running() as (client, _):
        assert client.get("/v1/info").json()["state"] == "none"


def test_rooms_of_keys_stay_theirs(tmp_path):
    (tmp_path / "keys").write_text("write one key-of-one\nwrite two key-of-two\n")
    settings = ServiceSettings(keys_file=tmp_path / "keys", rooms_per_key=1)
    for index in range(2):
        keeper = Keeper(tmp_path / "s", forget_after_s=600.0, report=lambda text: None)
        with running(keeper=keeper, settings=settings) as (client, _):
            one, two = ({"x-api-key": f"key-of-{name}"} for name in ("one", "two"))
            post = make_post("r", index)
            if index:
                assert client.post("/v1/segments", json=post, headers=two).status_code == 403
            assert client.post("/v1/segments", json=post, headers=one).status_code == 200
            more = client.post("/v1/segments", json=make_post("r2", 0), headers=one)
            assert more.status_code == 429
            rooms = client.get("/v1/rooms", headers=two).json()["rooms"]
            assert [room["room_id"] for room in rooms] == ["r"]
            assert len(rooms[0]["curve"]) == index + 1


def posts(rooms, segments):
    """Segments of several rooms, and what came of them some later, in one order: path and body."""
    rng = np.random.default_rng(1)
    for index in range(segments):
        for room in range(rooms):
            sound = rng.normal(size=X).astype(np.float16).astype(float).tolist()
            body = make_post(f"r{room}", index, sound=sound, counts={"likes": room}, ended_at=1.0)
            yield "/v1/segments", body
        came = [
            {"room_id": f"r{room}", "target_index": index - back, "viewers": 40, "clickers": back}
            for room in range(rooms)
            for back in range(4)
            if back <= index and rng.random() < 0.4
        ]
        yield "/v1/outcomes", {"outcomes": came}


def run_with_kills(folder, kills, rooms, segments, seed):
    """Answers of a service that is killed so often while segments come; and how often it was."""
    rng, todo = random.Random(seed), list(posts(rooms, segments))
    answers, killed = [], 0
    while todo:
        last = killed == kills
        with serving_process(folder / "log", state=folder / "state", sizes=MORE) as (process, url):
            # A kill comes at a moment of its own, whatever the service does then.
            share = rng.uniform(0.3, 1.0) * 0.004 * rooms * segments / max(kills, 1)
            timer = threading.Timer(share, process.kill)
            if not last:
                timer.start()
            with httpx.Client(base_url=url) as client:
                try:
                    while todo:
                        answer = client.post(todo[0][0], json=todo[0][1])
                        assert answer.status_code == 200, answer.text
                        if "score" in answer.json():
                            answers.append(answer.json())
                        todo.pop(0)
                except httpx.TransportError:
                    killed += 1
            timer.cancel()
    return answers, killed


@pytest.mark.parametrize(
    ("kills", "segments"), [(2, 20), pytest.param(10, 80, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_it_goes_on_to_the_bit(tmp_path, kills, segments):
    found, killed = run_with_kills(tmp_path, kills, 6, segments, seed=kills)
    with running(make_engine(sizes=MORE, max_rooms=4096, batch_size=64)) as (client, _):
        whole = [client.post(path, json=body).json() for path, body in posts(6, segments)]
    assert any(answer.get("for_statistics") for answer in whole)
    whole = [answer for answer in whole if "score" in answer]
    assert [a["score"] for a in found] == [b["score"] for b in whole]
    assert [a["curve"] for a in found] == [b["curve"] for b in whole]
    assert {a["status"] for a in found} <= {"scored", "repeated"} and killed >= min(kills, 2) - 1
    print(f"killed {killed} times, {sum(a['status'] == 'repeated' for a in found)} repeated")
