"""A CSV and a folder of videos into a prepared folder: who is left, and what was left out."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.outputs import alone
from contentctr.prepare.personal import Settings, prepare_phd, split_by_target
from contentctr.prepare.phd import downloads as media
from contentctr.prepare.phd.downloads import find_downloads
from contentctr.rooms.speech import read_speech
from contentctr.store import personal as folder
from contentctr.store.personal import PreparedPersonal
from phd_csv import write_csv
from phd_videos import CLIP, GONE, OTHER, ROWS, TARGET, prepared, write_downloads


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_downloads(tmp_path_factory.mktemp("videos"))


def test_who_is_left_and_what_was_left_out(tmp_path: Path, videos: Path) -> None:
    data = prepared(tmp_path, videos)
    users = data.users()
    assert users.select("user_id", "video_id", "history").rows() == [
        ("ann", TARGET, 1),
        ("bob", TARGET, 1),
        ("cat", OTHER, 1),
    ]
    ann = data.selections().filter(user_id="ann")
    assert ann.select("video_id", "start_s", "end_s", "is_target").rows() == [
        (TARGET, 2.0, 6.0, True),
        (TARGET, 11.0, 12.0, True),
        (CLIP, 1.0, 3.0, False),
    ]
    counts = data.manifest()["counts"]
    assert {k: v for k, v in counts.items() if "selections_" in k or "users_without" in k} == {
        "users_without_target_video": 1,
        "users_without_target_selection": 1,
        "users_without_history": 1,
        "target_selections_cut_at_the_end": 1,
        "target_selections_beyond_the_end": 1,
        "history_selections_beyond_the_end": 1,
        "history_selections_of_missing_videos": 2,
        "history_selections_cut_at_the_end": 0,
    }
    assert (counts["videos_wanted"], counts["videos_missing"]) == (4, 1)
    assert counts["captions_in_other_languages"] == 1
    assert counts["target_videos_with_captions"] == 1
    lengths = dict(data.videos().select("video_id", "num_frames").iter_rows())
    assert lengths == {TARGET: 12, CLIP: 20, OTHER: 6}


def test_the_longest_history_is_its_first_clips_that_are_there(
    tmp_path: Path, videos: Path
) -> None:
    rows = [f"{TARGET},1,2,u,12,True", f"{GONE},1,1,u,9,False"]
    rows += [f"{CLIP},{start},1,u,20,False" for start in (7, 3, 5)]
    csv = write_csv(tmp_path / "a.csv", *rows)
    data = prepare_phd(csv, videos, tmp_path / "o", settings=Settings(max_history=2))
    history = data.selections().filter(~pl.col("is_target"))
    assert history["start_s"].to_list() == [7, 3]
    assert data.manifest()["counts"]["history_beyond_max"] == 1


def test_users_without_history_can_be_kept(tmp_path: Path, videos: Path) -> None:
    data = prepared(tmp_path, videos, min_history=0)
    assert data.users().filter(history=0)["user_id"].to_list() == ["fay"]


def test_users_of_a_target_video_are_in_one_split() -> None:
    users = pl.DataFrame({"user_id": range(300), "video_id": [f"v{i // 3}" for i in range(300)]})
    split = split_by_target(users, val=0.1, test=0.2, seed=1)
    assert split["user_id"].to_list() == list(range(300))
    assert split.group_by("video_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert dict(split.group_by("split").len().iter_rows()) == {"test": 60, "val": 30, "train": 210}
    mixed = split_by_target(
        users.sample(fraction=1, shuffle=True, seed=0), val=0.1, test=0.2, seed=1
    )
    assert mixed.sort("user_id").equals(split)
    assert not split_by_target(users, val=0.1, test=0.2, seed=2).equals(split)
    everybody = split_by_target(users, val=0.0, test=1.0)
    assert everybody["split"].unique().to_list() == ["test"]


def test_a_second_file_holds_the_test_users(tmp_path: Path, videos: Path) -> None:
    train, test = write_csv(tmp_path / "a.csv", *ROWS[:6]), write_csv(tmp_path / "b.csv", *ROWS[8:])
    data = prepare_phd(train, videos, tmp_path / "o", test_csv=test, settings=Settings(val=0.0))
    assert dict(data.users().select("user_id", "split").iter_rows()) == {
        "ann": "train",
        "cat": "test",
    }
    counts = data.manifest()["counts"]
    assert counts["test_videos_seen_in_training"] == 1  # the history's
    assert [a["users"] for a in data.manifest()["annotations"]] == [1, 4]
    with pytest.raises(InputError, match="1 of its users .* 'ann'"):
        prepare_phd(train, videos, tmp_path / "p", test_csv=train)
    with pytest.raises(InputError, match="test must not be given"):
        prepare_phd(train, videos, tmp_path / "p", test_csv=test, settings=Settings(test=0.1))


def test_videos_are_not_opened_twice(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, videos)
    notes = tmp_path / "out" / "lengths.jsonl"
    lines = notes.read_text().strip().split("\n")
    assert len(lines) == 3
    notes.write_text("\n".join([*lines[:2], lines[2][:9]]))  # killed while writing
    opened = []
    real = media.probe
    monkeypatch.setattr(media, "probe", lambda path: opened.append(path) or real(path))
    data = prepared(tmp_path, videos)
    assert len(opened) == 1 and data.users().height == 3
    prepared(tmp_path, videos)
    assert len(opened) == 1


def test_one_call_at_a_time_works_in_a_folder(tmp_path: Path, videos: Path) -> None:
    for _ in range(2):  # first not there yet
        with (
            alone(tmp_path / "out"),
            pytest.raises(InputError, match="at work on the videos here"),
        ):
            prepared(tmp_path, videos)
        assert not (tmp_path / "out" / "manifest.json").exists()
        (tmp_path / "out").mkdir(exist_ok=True)


def test_a_file_that_is_no_video_is_missing_not_guessed(tmp_path: Path, videos: Path) -> None:
    mine = tmp_path / "videos"
    shutil.copytree(videos, mine)
    (mine / f"Some title-{OTHER}.mp4").write_bytes(b"nothing")
    data = prepared(tmp_path, mine)
    counts = data.manifest()["counts"]
    assert (counts["videos_missing"], counts["videos_unreadable"]) == (1, 1)
    assert counts["users_without_target_video"] == 4
    assert any("cannot be opened" in warning for warning in data.manifest()["warnings"])


def test_wrong_input_is_refused(tmp_path: Path, videos: Path) -> None:
    csv = write_csv(tmp_path / "a.csv", f"{GONE},1,1,u,9,True", f"{CLIP},1,1,u,9,False")
    with pytest.raises(InputError, match="no user is left: .*users_without_target_video"):
        prepare_phd(csv, videos, tmp_path / "o")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="none of the 2 videos .* such as"):
        prepare_phd(csv, tmp_path / "empty", tmp_path / "o")
    with pytest.raises(InputError, match="no such folder of videos"):
        prepare_phd(csv, tmp_path / "nowhere", tmp_path / "o")
    for settings, message in (
        ({"frame_rate": 0}, "frame_rate"),
        ({"min_history": 21}, "min_history"),
        ({"val": 0.6, "test": 0.6}, "sum to at most 1"),
    ):
        with pytest.raises(InputError, match=message):
            Settings(**settings)
    with pytest.raises(InputError, match="not a prepared folder"):
        PreparedPersonal(tmp_path / "o").manifest()


def test_files_are_found_by_id_and_language(tmp_path: Path) -> None:
    names = [
        "abcdefghijk.mp4",
        "My [x] video [-_cdefghijk].webm",
        "Old-one-Abcdefghijk.flv",
        "stranger.mp4",
        "notes.txt",
        "abcdefghijk.en-GB.vtt",
        "abcdefghijk.en.srt",
        "abcdefghijk.srt",
        "abcdefghijk.fr.srt",
        "My [x] video [-_cdefghijk].vtt",
        "Old-one-Abcdefghijk.fr.json3",
        "abcdefghijk.mp4.part",
    ]
    for name in names:
        (tmp_path / name).touch()
    found = find_downloads(tmp_path, ["abcdefghijk", "-_cdefghijk", "Abcdefghijk", "missing"])
    assert {k: v.name for k, v in found.videos.items()} == {
        "abcdefghijk": names[0],
        "-_cdefghijk": names[1],
        "Abcdefghijk": names[2],
    }
    assert {k: v.name for k, v in found.captions.items()} == {
        "abcdefghijk": "abcdefghijk.en.srt",
        "-_cdefghijk": names[9],
    }
    assert found.other_captions == 2
    french = find_downloads(tmp_path, ["abcdefghijk", "Abcdefghijk"], language="fr")
    assert {v.name for v in french.captions.values()} == {names[8], names[10]}
    # The language asked for comes before a file that names none, whatever their order.
    (tmp_path / "abcdefghijk.zh-TW.srt").touch()
    chinese = find_downloads(tmp_path, ["abcdefghijk"], language="zh")
    assert chinese.captions["abcdefghijk"].name == "abcdefghijk.zh-TW.srt"
    (tmp_path / "abcdefghijk.webm").touch()
    with pytest.raises(InputError, match="'abcdefghijk', and so is"):
        find_downloads(tmp_path, ["abcdefghijk"])


def test_json3_captions(tmp_path: Path) -> None:
    path = tmp_path / "a.json3"
    events = [
        {"tStartMs": 0, "dDurationMs": 9000, "id": 1},
        {"tStartMs": 1500, "dDurationMs": 2000, "segs": [{"utf8": "hello"}, {"utf8": " this\nis"}]},
        {"tStartMs": 1500, "aAppend": 1, "segs": [{"utf8": "\n"}]},
        {"tStartMs": 500, "segs": [{"utf8": "first"}]},
    ]
    path.write_text(json.dumps({"events": events}))
    assert read_speech(path).table.rows() == [(0.5, 0.5, "first"), (1.5, 3.5, "hello this is")]
    path.write_text(json.dumps({"events": [{"dDurationMs": 1, "segs": [{"utf8": "x"}]}]}))
    with pytest.raises(InputError, match="1: tStartMs is missing"):
        read_speech(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="`events`"):
        read_speech(path)


def test_the_manifest_tells_the_annotations_counts(tmp_path: Path, videos: Path) -> None:
    manifest = prepared(tmp_path, videos).manifest()
    assert manifest["annotations"][0]["rows"] == len(ROWS)
    assert manifest["annotations"][0]["users"] == 6
    assert manifest["simulated"] is False
    assert folder.MAX_HISTORY == manifest["max_history"] == 20


@pytest.mark.parametrize("beside", ["csv", "test_csv", "videos"])
def test_a_label_beside_any_of_the_files_makes_the_folder_simulated(
    tmp_path: Path, videos: Path, beside: str
) -> None:
    places = {name: tmp_path / name for name in ("csv", "test_csv", "videos")}
    for name in ("csv", "test_csv"):
        places[name].mkdir()
    shutil.copytree(videos, places["videos"])
    csv = write_csv(places["csv"] / "a.csv", *(row for row in ROWS if "ann" in row))
    test_csv = write_csv(places["test_csv"] / "b.csv", *(row for row in ROWS if "bob" in row))

    def simulated(kind: str) -> tuple[bool, bool]:
        habits = {"levels": [0, 1], "length_s": [1, 1], "number": [1, 1]}
        label = {"simulated": True, "kind": kind, "habits": habits}
        (places[beside] / "simulated.json").write_text(json.dumps(label))
        scenes = [(user_id, 0.0, 3.0) for user_id in ("ann", "bob")]
        table = pl.DataFrame(scenes, folder.SCENES_SCHEMA, orient="row")
        table.write_parquet(places[beside] / folder.SCENES_FILE)
        data = prepare_phd(csv, places["videos"], tmp_path / "out", test_csv=test_csv)
        return data.manifest()["simulated"], data.truth() is not None

    assert simulated("personalized highlights") == (True, True)
    assert simulated("watch logs") == (False, False)  # and what was there before is gone
    table = pl.DataFrame([("ann", 0.0, 3.0)], folder.SCENES_SCHEMA, orient="row")
    table.write_parquet(places[beside] / folder.SCENES_FILE)
    (places[beside] / "simulated.json").write_text(
        json.dumps({"simulated": True, "kind": folder.LABEL_KIND})
    )
    with pytest.raises(InputError, match=r"truth_scenes.parquet: knows nothing of user 'bob'"):
        prepare_phd(csv, places["videos"], tmp_path / "out", test_csv=test_csv)


def test_target_videos_of_both_files_are_told(tmp_path: Path, videos: Path) -> None:
    csv = write_csv(tmp_path / "a.csv", *(row for row in ROWS if "ann" in row))
    test_csv = write_csv(tmp_path / "b.csv", *(row for row in ROWS if "bob" in row))
    manifest = prepare_phd(csv, videos, tmp_path / "out", test_csv=test_csv).manifest()
    assert manifest["counts"]["target_videos_in_both_files"] == 1
    assert any("1 target videos are in both files" in text for text in manifest["warnings"])
