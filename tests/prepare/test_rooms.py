import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.files import file_sha256
from contentctr.prepare import collect as module
from contentctr.prepare.rooms import prepare_rooms
from contentctr.store import folder as prepared_folder
from contentctr.store import rooms as prepared
from contentctr.store.rooms import ROOMS_SCHEMA, SEGMENTS_SCHEMA
from logged_rooms import CHAT, EVENTS, contents, make


def test_rooms_to_prepared_by_hand(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make(tmp_path / "in", number, events_csv=EVENTS, comments_csv=CHAT)
    (tmp_path / "in" / "room1" / "columns.csv").write_text("t,gmv\n1,2\n2,4\n")
    data = prepare_rooms(tmp_path / "in", tmp_path / "out", show_progress=False)
    rooms, segments = data.rooms(), data.segments()
    assert dict(rooms.schema) == ROOMS_SCHEMA
    assert rooms["split"].to_list() == ["train", "val", "test"]
    assert rooms["num_segments"].to_list() == [2, 2, 2]
    assert dict(segments.schema) == {**SEGMENTS_SCHEMA, "gmv": pl.Float64}
    one = segments.filter(pl.col("room_id") == "r1")
    assert one["target"].to_list() == [0.5, 0.0]
    assert one["gmv"].to_list() == [3.0, None]
    assert one["comments"].to_list() == ["hello", "one\ntwo"]
    assert segments["split"].to_list() == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    manifest = data.manifest()
    assert manifest["counts"] == {
        "clicks_without_exposure": 3,
        "events_outside": 3,
        "rooms": 3,
        "segments": 6,
        "segments_with_target": 6,
        "rooms_by_split": {"train": 1, "val": 1, "test": 1},
    }
    assert {k: manifest[k] for k in ("target", "comment_lag", "segment_seconds")} == {
        "target": "ctr",
        "comment_lag": 0,
        "segment_seconds": 30.0,
    }
    assert manifest["simulated"] is False
    assert manifest["frames_per_segment"] == 3
    assert len(manifest["warnings"]) == 3
    assert data.truth() is None


def test_chunks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 8):
        make(tmp_path / "in", number, events_csv=EVENTS, comments_csv=CHAT)
    (tmp_path / "in" / "room6" / "columns.csv").write_text("t,gmv\n1,2\n")
    prepare_rooms(tmp_path / "in", tmp_path / "a", show_progress=False)
    monkeypatch.setattr(module, "_CHUNK_ROOMS", 2)
    prepare_rooms(tmp_path / "in", tmp_path / "b", show_progress=False)
    monkeypatch.setattr(module, "_CHUNK_EVENTS", 4)
    prepare_rooms(tmp_path / "in", tmp_path / "c", show_progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


def test_targets_without_click_logs(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make(tmp_path / "in", number, comments_csv=CHAT, columns_csv="t,gmv\n1,5\n31,4\n")
    data = prepare_rooms(
        tmp_path / "in", tmp_path / "out", target="comment_rate", show_progress=False
    )
    assert data.segments()["target"].to_list() == [0.0, 1.0] * 3
    assert data.manifest()["comment_lag"] == 1
    data = prepare_rooms(tmp_path / "in", tmp_path / "out", target="gmv", show_progress=False)
    assert data.segments()["target"].to_list() == [1.0, 0.0] * 3
    assert data.manifest()["comment_lag"] == 0
    data = prepare_rooms(tmp_path / "in", tmp_path / "out", show_progress=False)
    assert data.manifest()["warnings"] == [
        "no segment has the target 'ctr'; rooms without click logs can use comment_rate"
    ]
    with pytest.raises(InputError, match="comment_lag must be at least 1 with target 'comment_rat"):
        prepare_rooms(tmp_path / "in", tmp_path / "out", target="comment_rate", comment_lag=0)
    with pytest.raises(InputError, match="target must be comment_rate or one of .*gmv; not 'gmw'"):
        prepare_rooms(tmp_path / "in", tmp_path / "out", target="gmw", show_progress=False)


def test_truth_and_simulated(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        folder = make(tmp_path / "in", number, head={"simulated": True}, events_csv=EVENTS)
        pl.DataFrame(
            {
                "room_id": [f"r{number}"] * 2,
                "segment": [0, 1],
                "click_probability": [0.1, 0.2],
                "activity": ["idle", "dancing"],
            }
        ).write_parquet(folder / "truth.parquet")
    data = prepare_rooms(tmp_path / "in", tmp_path / "out", show_progress=False)
    truth = data.truth()
    assert truth is not None
    assert truth.height == 6
    assert data.manifest()["simulated"] is True
    # Segments of another length have no truth, and the old one does not stay.
    data = prepare_rooms(tmp_path / "in", tmp_path / "out", segment_seconds=10, show_progress=False)
    assert data.truth() is None
    assert "it does not have the 7 segments of 10 s of room 'r1'" in data.manifest()["warnings"][1]
    make(tmp_path / "in", 4, head={"simulated": False})
    manifest = prepare_rooms(tmp_path / "in", tmp_path / "out", show_progress=False).manifest()
    assert manifest["simulated"] is True
    assert "3 of 4 rooms are simulated" in manifest["warnings"][-1]


def test_broken_rooms_stop_or_are_skipped(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make(tmp_path / "in", number, events_csv=EVENTS)
    prepare_rooms(tmp_path / "in", tmp_path / "out", show_progress=False)
    before = contents(tmp_path / "out")
    broken = make(tmp_path / "in", 4, comments_csv="t,user_id\n")
    with pytest.raises(InputError, match="room4/comments.csv: no reader of chat knows this form"):
        prepare_rooms(tmp_path / "in", tmp_path / "out", show_progress=False)
    assert contents(tmp_path / "out") == before
    data = prepare_rooms(
        tmp_path / "in", tmp_path / "out", skip_bad_rooms=True, show_progress=False
    )
    assert data.rooms().height == 3
    manifest = data.manifest()
    assert manifest["counts"]["rooms_skipped"] == 1
    assert any(w.startswith(f"{broken}: left out: {broken}/comm") for w in manifest["warnings"])


def test_rooms_too_short_and_too_few(tmp_path: Path) -> None:
    make(tmp_path / "in", 1, events_csv=EVENTS)
    short = make(tmp_path / "in", 2, head={"duration_s": 14.5})
    data = prepare_rooms(tmp_path / "in", tmp_path / "out", show_progress=False)
    assert data.rooms()["room_id"].to_list() == ["r1"]
    assert data.manifest()["counts"]["rooms_too_short"] == 1
    assert data.manifest()["warnings"][-3:] == [
        f"{short}: left out: 14.5 s is less than half a segment",
        "there is no val room: 1 room with 1 different start cannot be split so",
        "there is no test room: 1 room with 1 different start cannot be split so",
    ]
    with pytest.raises(InputError, match="room2: no room left: .* 14.5 s is less than half a seg"):
        prepare_rooms(short, tmp_path / "other", show_progress=False)
    assert not (tmp_path / "other").exists()


def test_wrong_calls(tmp_path: Path) -> None:
    root = tmp_path / "in"
    first = make(root, 1, events_csv=EVENTS)
    for arguments, message in (
        ({"segment_seconds": 0}, "segment_seconds must be above 0"),
        ({"frames_per_segment": 0}, "frames_per_segment must be at least 1, not 0"),
        ({"val": 0.9, "test": 0.1}, "val and test must be"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_rooms(root, tmp_path / "out", show_progress=False, **arguments)  # type: ignore[arg-type]
    for out in (root, first):
        with pytest.raises(InputError, match="the prepared folder must be another than those"):
            prepare_rooms(root, out, show_progress=False)
    with pytest.raises(InputError, match="room.json: must be a folder, or not there yet"):
        prepare_rooms(root, first / "room.json", show_progress=False)
    second = make(root, 2, head={"room_id": "r1"})
    with pytest.raises(InputError, match=f"room_id 'r1' is in both {first} and {second}; give"):
        prepare_rooms(root, tmp_path / "out", show_progress=False)
    make(root, 2, head={"started_at": None})
    with pytest.raises(InputError, match="room 'r2' has no started_at, which the split by time"):
        prepare_rooms(root, tmp_path / "out", show_progress=False)
    data = prepare_rooms(root, tmp_path / "out", val=0, test=0, show_progress=False)
    assert data.rooms()["split"].to_list() == ["train", "train"]


@pytest.mark.parametrize("at", range(1, 7))
def test_a_kill_while_writing_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    make(root, 1, events_csv=EVENTS)
    prepare_rooms(root, out, show_progress=False)
    (out / "features").mkdir()
    make(root, 2, events_csv=EVENTS)
    calls = 0

    def killed(*paths: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        replace(*paths)

    replace, whole = prepared_folder.os.replace, False
    with monkeypatch.context() as patch:
        patch.setattr(prepared_folder.os, "replace", killed)
        try:
            prepare_rooms(root, out, append=True, show_progress=False)
            whole = True
        except KeyboardInterrupt:
            pass
    data = prepared.PreparedRooms(out)
    manifest, heights = data.manifest(), (data.rooms().height, data.segments().height)
    assert heights in ([(2, 4)] if whole else [(1, 2), (2, 4)])
    assert manifest["counts"]["rooms"] == heights[0]
    assert data.content_hash() == file_sha256(out / "segments.parquet")
    assert prepare_rooms(root, out, append=True, show_progress=False).segments().height == 4
    assert (out / "features").is_dir()
    assert not [p for p in out.iterdir() if p.name.endswith((".tmp", ".next"))]


def test_a_write_that_cannot_be_finished_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    make(root, 1, events_csv=EVENTS)
    prepare_rooms(root, out, show_progress=False)
    shutil.copytree(out, tmp_path / "staged")
    shutil.move(tmp_path / "staged", out / ".next")

    def refuse(*paths: Path) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(prepared_folder.os, "replace", refuse)
        with pytest.raises(InputError, match="out: a write was cut short .*Read-only file system"):
            prepared.PreparedRooms(out).manifest()
    assert prepared.PreparedRooms(out).manifest()["counts"]["rooms"] == 1


def test_a_folder_of_other_files_is_no_place_for_prepared_data(tmp_path: Path) -> None:
    make(tmp_path / "in", 1, events_csv=EVENTS)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("segments.parquet", "manifest.json", "notes.txt"):
        (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(InputError, match="new or empty folder for prepared rooms"):
        prepare_rooms(tmp_path / "in", out, show_progress=False)
    assert contents(out) == before
    prepare_rooms(tmp_path / "in", tmp_path / "new", show_progress=False)
    (tmp_path / "new" / "notes.txt").write_text("mine")
    prepare_rooms(tmp_path / "in", tmp_path / "new", show_progress=False)
    assert (tmp_path / "new" / "notes.txt").read_text() == "mine"


def test_labels_beside_the_rooms_become_columns_and_the_target(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make(tmp_path / "in", number, comments_csv=CHAT)
    (tmp_path / "in" / "labels.csv").write_text(
        "room_id,t,label\nr1,31,Goal\nr1,2,Foul\nr2,59,Goal\nnowhere,1,Goal\n"
    )
    data = prepare_rooms(
        tmp_path / "in", tmp_path / "out", target="label:goal", show_progress=False
    )
    segments, manifest = data.segments(), data.manifest()
    assert segments["target"].to_list() == [0, 1, 0, 1, 0, 0]
    assert segments["label"].to_list() == [1, 1, 0, 1, 0, 0]
    assert segments["label:Foul"].to_list() == [1, 0, 0, 0, 0, 0]
    assert manifest["target"] == "label:goal" and manifest["comment_lag"] == 0
    assert manifest["target_scale"] == "none" and manifest["labels"]["form"].startswith("labels, m")
    assert manifest["labels"]["classes"] == ["label:Foul", "label:Goal"]
    assert manifest["counts"]["labels_of_unknown_rooms"] == 1
    assert manifest["counts"]["rooms_without_labels"] == 1
    assert any("their segments have label 0" in warning for warning in manifest["warnings"])
    assert data.has_label_target()
    # The same table, given; and of another target they are columns all the same.
    table = tmp_path / "elsewhere.csv"
    (tmp_path / "in" / "labels.csv").rename(table)
    given = prepare_rooms(
        tmp_path / "in", tmp_path / "b", target="label:goal", labels=table, show_progress=False
    )
    assert given.segments().equals(segments)
    other = prepare_rooms(
        tmp_path / "in", tmp_path / "c", target="comment_rate", labels=table, show_progress=False
    )
    assert other.segments()["label:Goal"].to_list() == [0, 1, 0, 1, 0, 0]
    assert not other.has_label_target()
    with pytest.raises(InputError, match=r"'label' needs a table of labels .* or --labels FILE"):
        prepare_rooms(tmp_path / "in", tmp_path / "d", target="label", show_progress=False)
    assert not (tmp_path / "d").exists()


def test_long_view_rate_as_target(tmp_path: Path) -> None:
    events = "user_id,t,kind\na,1,enter\na,62,exit\nb,2,enter\nb,3,exit\nc,40,enter\n"
    make(tmp_path / "in", 1, events_csv=events)
    settings = {"target": "long_view_rate", "val": 0, "test": 0, "show_progress": False}
    data = prepare_rooms(tmp_path / "in", tmp_path / "out", **settings)  # type: ignore[arg-type]
    assert data.segments()["target"].to_list() == [0.5, None]
    assert data.segments()["long_view_rate"].to_list() == [0.5, None]
    assert data.manifest()["long_view_seconds"] == 60 and not data.has_label_target()
    shorter = prepare_rooms(
        tmp_path / "in",
        tmp_path / "b",
        long_view_seconds=20,
        **settings,  # type: ignore[arg-type]
    )
    assert shorter.segments()["target"].to_list() == [0.5, 1.0]
    assert (
        "long_view_seconds"
        not in (prepare_rooms(tmp_path / "in", tmp_path / "c", val=0, test=0)).manifest()
    )


def test_a_target_has_the_scale_that_is_asked_for(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make(tmp_path / "in", number, columns_csv="t,goal\n1,0\n31,1\n")
    data = prepare_rooms(tmp_path / "in", tmp_path / "a", target="goal", show_progress=False)
    assert data.segments()["target"].to_list() == [0, 1] * 3
    assert data.manifest()["target_scale"] == "none" and data.has_label_target()
    ranked = prepare_rooms(
        tmp_path / "in", tmp_path / "b", target="goal", target_scale="rank", show_progress=False
    )
    assert ranked.manifest()["target_scale"] == "rank" and not ranked.has_label_target()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"room_id": ' + "9" * 5_000 + "}"])
def test_a_room_json_that_no_parser_takes_is_a_bad_room(tmp_path: Path, text: str) -> None:
    make(tmp_path / "in", 1, events_csv=EVENTS)
    broken = make(tmp_path / "in", 2, events_csv=EVENTS)
    (broken / "room.json").write_text(text)
    with pytest.raises(InputError, match="room2/room.json"):
        prepare_rooms(tmp_path / "in", tmp_path / "out", show_progress=False)
    data = prepare_rooms(
        tmp_path / "in", tmp_path / "out", skip_bad_rooms=True, show_progress=False
    )
    assert data.rooms().height == 1
    assert data.manifest()["counts"]["rooms_skipped"] == 1


def test_a_split_by_dates_is_kept_in_the_manifest(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make(tmp_path / "in", number, events_csv=EVENTS)
    dates = [datetime(2024, 5, day, tzinfo=UTC) for day in (2, 3, 20)]
    data = prepare_rooms(
        tmp_path / "in",
        tmp_path / "out",
        val_from=dates[0],
        test_from=dates[1],
        show_progress=False,
    )
    assert data.rooms()["split"].to_list() == ["train", "val", "test"]
    assert data.manifest()["split"] == {
        "val_from": "2024-05-02T00:00:00+00:00",
        "test_from": "2024-05-03T00:00:00+00:00",
    }
    data = prepare_rooms(tmp_path / "in", tmp_path / "out", test_from=dates[2], show_progress=False)
    assert data.rooms()["split"].to_list() == ["train"] * 3
    assert "there is no test room by the dates" in data.manifest()["warnings"][-1]
