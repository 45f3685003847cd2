"""Rooms added to a prepared folder: as if all had been prepared together."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError
from contentctr.outputs import alone
from contentctr.prepare import append as module
from contentctr.prepare import rooms as rooms_module
from contentctr.prepare.collect import collect_rooms
from contentctr.prepare.rooms import prepare_rooms
from contentctr.store.rooms import PreparedRooms
from logged_rooms import CHAT, EVENTS, contents, make
from tiny_models import make_tiny_bert, make_tiny_swin


def prepare(root: Any, out: Path, **settings: Any) -> PreparedRooms:
    return prepare_rooms(root, out, show_progress=False, **settings)


def days(root: Path, *numbers: int, chat: str = CHAT) -> Path:
    for number in numbers:
        make(root, number, events_csv=EVENTS, comments_csv=chat)
    return root


def tables(data: PreparedRooms) -> list[pl.DataFrame]:
    return [data.rooms(), data.segments()]


@pytest.mark.parametrize("target", ["ctr", "comment_rate", "long_view_rate", "gmv"])
def test_appended_rooms_are_as_if_prepared_together(tmp_path: Path, target: str) -> None:
    one, two = days(tmp_path / "one", 1, 2, 3), days(tmp_path / "two", 4, 5)
    for folder in (one / "room1", two / "room4"):
        (folder / "columns.csv").write_text("t,gmv\n1,2\n2,4\n")
    settings = {"target": target, "target_scale": "odds" if target == "gmv" else None}
    together = prepare([one, two], tmp_path / "all", **settings)
    prepare(one, tmp_path / "out", **settings)
    data = prepare(two, tmp_path / "out", append=True, **settings)
    for found, wanted in zip(tables(data), tables(together), strict=True):
        assert found.equals(wanted.select(found.columns))
    manifest, wanted = data.manifest(), together.manifest()
    assert manifest["counts"] == wanted["counts"]
    assert manifest["appended"] == {"new": 2, "changed": 0, "unchanged": 0, "dropped": 0}
    before = contents(tmp_path / "out")
    again = prepare(two, tmp_path / "out", append=True, **settings).manifest()
    assert again["appended"]["unchanged"] == 2
    assert contents(tmp_path / "out")["segments.parquet"] == before["segments.parquet"]


def test_only_new_and_changed_rooms_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = days(tmp_path / "in", 1, 2, 3), tmp_path / "out"
    prepare(root, out)
    read: list[list[str]] = []
    plain = module.Earlier.left

    def left(self: module.Earlier, found: dict[Path, str]) -> list[Path]:
        folders = plain(self, found)
        read.append([folder.name for folder in folders])
        return folders

    monkeypatch.setattr(module.Earlier, "left", left)
    days(root, 4)
    days(root, 2, chat=CHAT + "40,b,more\n")
    data = prepare(root, out, append=True)
    assert read == [["room2", "room4"]]
    assert "room 'r2': has changed and is prepared again" in data.manifest()["warnings"]
    assert data.manifest()["appended"] == {"new": 1, "changed": 1, "unchanged": 2, "dropped": 0}
    assert data.rooms().equals(prepare(root, tmp_path / "all").rooms())
    assert data.segments().equals(prepare(root, tmp_path / "all").segments())
    # A room that lies elsewhere now has its media there.
    (root / "room1").rename(tmp_path / "room1")
    prepare(tmp_path / "room1", out, append=True)
    assert read[-1] == ["room1"]
    shutil.rmtree(root)  # rooms stay where their folders are gone
    assert prepare(tmp_path / "room1", out, append=True).rooms().height == 4


def test_a_room_does_not_take_the_place_of_another_with_its_id(tmp_path: Path) -> None:
    one, two = days(tmp_path / "one", 1, 2), days(tmp_path / "two", 1)
    prepare(one, tmp_path / "out")
    with pytest.raises(InputError, match=r"room_id 'r1' is in both .*one/room1 and .*two/room1"):
        prepare(two, tmp_path / "out", append=True)
    shutil.rmtree(one / "room1")
    assert prepare(two, tmp_path / "out", append=True).rooms().height == 2


def test_a_room_that_is_given_another_id_is_not_there_twice(tmp_path: Path) -> None:
    root, out = days(tmp_path / "in", 1, 2), tmp_path / "out"
    prepare(root, out)
    head = root / "room2" / "room.json"
    head.write_text(head.read_text().replace('"r2"', '"another"'))
    data = prepare(root, out, append=True)
    for found, wanted in zip(tables(data), tables(prepare(root, tmp_path / "all")), strict=True):
        assert found.equals(wanted)
    warning = "room 'another': has changed and is prepared again (it was room 'r2')"
    assert warning in data.manifest()["warnings"]
    assert data.manifest()["appended"] == {"new": 0, "changed": 1, "unchanged": 1, "dropped": 0}
    again = prepare(root, out, append=True).manifest()["appended"]
    assert again == {"new": 0, "changed": 0, "unchanged": 2, "dropped": 0}


def test_rooms_without_a_start_are_skipped_where_bad_ones_are(tmp_path: Path) -> None:
    root = days(tmp_path / "in", 1, 2, 3)
    make(root, 4, head={"started_at": None}, events_csv=EVENTS)
    with pytest.raises(InputError, match="room 'r4' has no started_at"):
        prepare(root, tmp_path / "out")
    data = prepare(root, tmp_path / "out", skip_bad_rooms=True, append=True)
    assert data.rooms().height == 3 and data.manifest()["counts"]["rooms_skipped"] == 1
    assert any("room4: left out: it has no started_at" in w for w in data.manifest()["warnings"])
    kept = prepare(root, tmp_path / "all", skip_bad_rooms=True, val=0, test=0)
    assert kept.rooms().height == 4


def test_bad_rooms_are_counted_once_and_then_told_as_known(tmp_path: Path) -> None:
    root, out = days(tmp_path / "in", 1, 2), tmp_path / "out"
    bad = make(root, 3, comments_csv="t,user_id\n")
    prepare(root, out, skip_bad_rooms=True)
    new = days(tmp_path / "new", 4)
    for place, known in ((root, True), (new, False), (root, True)):
        manifest = prepare(place, out, skip_bad_rooms=True, append=True).manifest()
        told = [words for words in manifest["warnings"] if "left out" in words]
        assert [words.startswith(f"{bad}: left out as before: ") for words in told] == [
            True
        ] * known
        assert manifest["counts"]["rooms_skipped"] == 1
        assert manifest["appended"]["unchanged"] == (2 if known else 0)
    with pytest.raises(InputError, match="no reader of chat"):  # without the option it still stops
        prepare(root, out, append=True)
    make(root, 5, comments_csv="t,user_id\n")
    manifest = prepare(root, out, skip_bad_rooms=True, append=True).manifest()
    assert manifest["counts"]["rooms_skipped"] == 2
    (bad / "comments.csv").unlink()
    manifest = prepare(root, out, skip_bad_rooms=True, append=True).manifest()
    assert manifest["appended"]["new"] == 1 and manifest["counts"]["rooms"] == 4


def test_a_room_that_has_become_bad_stays_as_it_was(tmp_path: Path) -> None:
    root, out = days(tmp_path / "in", 1, 2, 3), tmp_path / "out"
    before = prepare(root, out)
    rows = before.segments()
    make(root, 2, comments_csv="t,user_id\n")
    days(root, 4)
    for new in (1, 0):  # and again: it is read at each call
        data = prepare(root, out, append=True, skip_bad_rooms=True)
        [told] = [words for words in data.manifest()["warnings"] if "room2" in words]
        assert "its room stays as it was read before: " in told and "left out" not in told
        assert (
            data.segments()
            .filter(pl.col("room_id") != "r4")
            .drop("split")
            .equals(rows.drop("split"))
        )
        assert "rooms_skipped" not in data.manifest()["counts"]
        unchanged = 4 - new
        assert data.manifest()["appended"] == {
            "new": new,
            "changed": 0,
            "unchanged": unchanged,
            "dropped": 0,
        }
    days(root, 2, chat=CHAT + "40,b,more\n")
    appended = prepare(root, out, append=True, skip_bad_rooms=True).manifest()["appended"]
    assert (appended["changed"], appended["unchanged"]) == (1, 3)
    make(root, 2, comments_csv="t,user_id\n")
    day = datetime(2024, 5, 3, tzinfo=UTC)
    (root / "room2" / "room.json").write_text("{")  # nobody can tell that it is old
    manifest = prepare(root, out, append=True, skip_bad_rooms=True, keep_from=day).manifest()
    assert any("room2: left out: " in words for words in manifest["warnings"])
    assert manifest["counts"]["rooms_skipped"] == 1 and manifest["counts"]["rooms"] == 2


def test_rooms_that_are_too_short_are_counted_once(tmp_path: Path) -> None:
    root = days(tmp_path / "in", 1, 2)
    make(root, 3, head={"duration_s": 5})
    prepare(root, tmp_path / "out")
    for number in (4, 5, 6):
        days(root, number)
        data = prepare(root, tmp_path / "out", append=True)
        assert data.manifest()["counts"]["rooms_too_short"] == 1
        assert data.manifest()["appended"]["new"] == 1
    make(root, 3, events_csv=EVENTS)  # it went on
    assert prepare(root, tmp_path / "out", append=True).rooms().height == 6
    assert data.sources()["room_id"].is_unique().all()


def test_old_rooms_are_dropped(tmp_path: Path) -> None:
    root, out = days(tmp_path / "in", 1, 2, 3), tmp_path / "out"
    prepare(root, out)
    days(root, 4)
    day = datetime(2024, 5, 3, tzinfo=UTC)
    data = prepare(
        root, out, append=True, keep_from=day, test_from=datetime(2024, 5, 4, tzinfo=UTC)
    )
    assert data.rooms()["room_id"].to_list() == ["r3", "r4"]
    assert data.rooms()["split"].to_list() == ["train", "test"]
    assert data.manifest()["appended"] == {"new": 1, "changed": 0, "unchanged": 1, "dropped": 2}
    assert data.sources()["room_id"].to_list() == ["r3", "r4"]
    left_out = "left out 2 room folders of before 2024-05-03T00:00:00+00:00"
    assert left_out in data.manifest()["warnings"]
    with pytest.raises(InputError, match="in: no room left"):
        prepare(root, out, append=True, keep_from=datetime(2025, 1, 1, tzinfo=UTC))
    assert PreparedRooms(out).rooms().height == 2


def test_labels_are_of_all_rooms(tmp_path: Path) -> None:
    one, two = days(tmp_path / "one", 1, 2, 3), days(tmp_path / "two", 4)
    table = tmp_path / "labels.csv"
    table.write_text("room_id,t,label\nr1,3,Goal\n")
    prepare(one, tmp_path / "out", target="label", labels=table)
    table.write_text("room_id,t,label\nr1,3,Goal\nr4,31,Foul\n")
    data = prepare(two, tmp_path / "out", append=True, target="label", labels=table)
    whole = prepare([one, two], tmp_path / "all", target="label", labels=table)
    assert data.segments().equals(whole.segments().select(data.segments().columns))
    assert data.manifest()["counts"] == whole.manifest()["counts"]


def test_labels_of_each_day_are_as_if_read_together(tmp_path: Path) -> None:
    one, two = days(tmp_path / "one", 1, 2, 3), days(tmp_path / "two", 4, 5)
    (one / "labels.csv").write_text("room_id,t,label\nr1,3,Goal\nr2,31,Card\n")
    (two / "labels.csv").write_text("room_id,t,label\nr4,31,Foul\n")
    out, settings = tmp_path / "out", {"target": "label:goal,card"}
    prepare(one, out, **settings)
    data = prepare(two, out, append=True, **settings)  # of a day without any of the target
    whole = prepare([one, two], tmp_path / "all", **settings)
    assert data.segments().equals(whole.segments().select(data.segments().columns))
    for name in ("counts", "labels"):
        found, wanted = data.manifest()[name], whole.manifest()[name]
        assert {**found, "path": ""} == {**wanted, "path": ""}
    assert data.segments().filter(pl.col("room_id") == "r1")["target"].max() == 1
    # What the table of an old room says now counts.
    (two / "labels.csv").write_text("room_id,t,label\nr1,31,Foul\nr4,31,Foul\n")
    old = prepare(two, out, append=True, **settings).segments()
    assert old.filter(pl.col("room_id") == "r1")["label:Goal"].max() == 0
    assert old.filter(pl.col("room_id") == "r2")["label:Card"].max() == 1


def test_labels_stay_where_new_rooms_have_none(tmp_path: Path) -> None:
    one, two = days(tmp_path / "one", 1, 2), days(tmp_path / "two", 3)
    (one / "labels.csv").write_text("room_id,t,label\nr1,3,Goal\n")
    before = prepare(one, tmp_path / "out")
    labels, known = before.segments()["label:Goal"].to_list(), before.manifest()["labels"]
    data = prepare(two, tmp_path / "out", append=True)
    assert data.segments()["label:Goal"].to_list()[: len(labels)] == labels
    assert data.segments()["label:Goal"].null_count() == 0
    assert data.manifest()["labels"] == known
    assert any("no table of labels" in warning for warning in data.manifest()["warnings"])


def test_the_scale_stays_unless_another_is_named(tmp_path: Path) -> None:
    one, two = days(tmp_path / "one", 1), days(tmp_path / "two", 2)
    (one / "room1" / "columns.csv").write_text("t,gmv\n1,0.5\n31,1\n")
    (two / "room2" / "columns.csv").write_text("t,gmv\n1,2\n31,4\n")
    out = tmp_path / "out"
    settings = {"target": "gmv", "test_from": datetime(2024, 5, 9, tzinfo=UTC), "append": True}
    assert prepare(one, out, **settings).manifest()["target_scale"] == "none"  # by chance
    with pytest.raises(InputError, match="rank or minmax maps it there"):
        prepare(two, out, **settings)
    data = prepare(two, out, **settings, target_scale="odds")
    typical = data.manifest()["target_typical"]
    assert typical == 1.5
    data = prepare(days(tmp_path / "three", 3), out, **settings)
    assert data.manifest()["target_scale"] == "odds"
    (two / "room2" / "columns.csv").write_text("t,gmv\n1,200\n31,400\n")
    data = prepare(two, out, **settings)  # what was typical stays so
    assert data.manifest()["target_typical"] == typical
    first = data.segments().filter(pl.col("room_id") == "r1")["target"].drop_nulls()
    assert first.to_list() == pytest.approx([0.25, 0.4])
    data = prepare(two, out, **settings, target_scale="rank")
    assert "target_typical" not in data.manifest()


def test_settings_must_be_the_same(tmp_path: Path) -> None:
    root, out = days(tmp_path / "in", 1), tmp_path / "out"
    prepare(root, out)
    for name, value in {
        "target": "comment_rate",
        "segment_seconds": 10.0,
        "frames_per_segment": 2,
        "comment_lag": 2,
    }.items():
        with pytest.raises(InputError, match=f"out: {name} must be .* to append to it, not "):
            prepare(root, out, append=True, **{name: value})
    (out / "sources.parquet").unlink()
    with pytest.raises(InputError, match="out: nothing can be appended to it"):
        prepare(root, out, append=True)
    # Into a folder that is not there yet, it is a plain one.
    assert prepare(root, tmp_path / "new", append=True).rooms().height == 1


def test_new_rooms_alone_are_encoded(tmp_path: Path) -> None:
    models = {
        "visual": make_tiny_swin(tmp_path / "swin"),
        "text": make_tiny_bert(tmp_path / "bert"),
        "show_progress": False,
    }
    root, out = days(tmp_path / "in", 1, 2), tmp_path / "out"
    encode_rooms(prepare(root, out), **models)
    days(root, 3)
    counts = encode_rooms(prepare(root, out, append=True), **models)
    assert (counts["rooms_encoded"], counts["rooms_kept"]) == (1, 2)
    day = datetime(2024, 5, 2, tzinfo=UTC)
    counts = encode_rooms(prepare(root, out, append=True, keep_from=day), **models)
    assert (counts["rooms_encoded"], counts["rooms_removed"]) == (0, 1)


def test_one_call_at_a_time_adds_rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = days(tmp_path / "in", 1, 2), tmp_path / "out"
    data = prepare(root, out)
    days(root, 3)
    with alone(out):
        for call in (lambda: prepare(root, out, append=True), lambda: encode_rooms(data)):
            with pytest.raises(InputError, match="another process is at work on the rooms here"):
                call()
    held = []

    def collect(*args: Any, **kwargs: Any) -> Any:
        with pytest.raises(InputError, match="another process"), alone(out):
            pass
        held.append(True)
        return collect_rooms(*args, **kwargs)

    monkeypatch.setattr(rooms_module, "collect_rooms", collect)
    assert prepare(root, out, append=True).rooms().height == 3
    out = tmp_path / "new"  # not there yet
    assert prepare(root, out).rooms().height == 3
    assert held == [True, True]


def test_a_call_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    root, out = days(tmp_path / "in", 1), tmp_path / "some" / "out"
    (root / "room1" / "room.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        prepare(root, out)
    assert not out.parent.exists()


def test_the_command_appends_and_splits_by_dates(tmp_path: Path) -> None:
    from contentctr.cli import app

    root, out = days(tmp_path / "in", 1, 2, 3), tmp_path / "out"
    command = ["prepare", "rooms", str(root), str(out), "--val-from", "2024-05-02"]
    result = CliRunner().invoke(app, [*command, "--test-from", "2024-05-03T00:00:00Z"])
    assert result.exit_code == 0, result.output
    days(root, 4)
    dates = ["--test-from", "2024-05-04", "--keep-from", "2024-05-02T12:00"]
    result = CliRunner().invoke(app, [*command, *dates, "--append"])
    assert result.exit_code == 0 and "Rooms appended" in result.output
    assert PreparedRooms(out).rooms()["split"].to_list() == ["val", "val", "test"]
    result = CliRunner().invoke(app, [*command, "--append", "--val", "0.1"])
    assert "do not go with val_from" in str(result.exception)


def test_a_part_that_cannot_be_listed_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make(tmp_path / "in", 1, events_csv=EVENTS)
    (room / "frames").mkdir()
    scandir = module.os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "frames":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(module.os, "scandir", refuse)
    with pytest.raises(InputError, match="cannot be read .*Permission denied"):
        module._content(room, module.ContentHashes())
