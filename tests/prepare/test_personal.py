"""A CSV and a folder of videos into a prepared and encoded folder: who is left, which frames."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from contentctr.encode import encoders
from contentctr.encode import personal as phd_encode
from contentctr.encode.personal import encode_personal, wanted_frames
from contentctr.errors import InputError
from contentctr.prepare.personal import Settings, prepare_phd, split_by_target
from contentctr.prepare.phd import downloads as media
from contentctr.prepare.phd.captions import frame_texts, read_captions
from contentctr.prepare.phd.downloads import find_downloads
from contentctr.store import personal as folder
from contentctr.store.personal import PreparedPersonal
from contentctr.store.vectors import read_entry, read_index
from contentctr.windows.personal import UserSamples
from phd_csv import write_csv
from tiny_models import make_tiny_bert
from videos import BITS, BLOCK, make_video

TARGET, OTHER, CLIP, GONE = "targetAAAAA", "targetBBBBB", "historyAAAA", "gone_AAAAAA"
ROWS = (
    f"{TARGET},2.0,3.0,ann,12,True",
    f"{TARGET},4.0,2.0,ann,12,True",
    f"{TARGET},11.0,9.0,ann,12,True",  # cut at the end
    f"{CLIP},1.0,2.0,ann,20,False",
    f"{CLIP},30.0,2.0,ann,20,False",  # beyond the end
    f"{GONE},1.0,2.0,ann,20,False",  # not downloaded
    f"{TARGET},6.0,1.0,bob,12,True",
    f"{CLIP},5.2,0.1,bob,20,False",  # shorter than a frame
    f"{OTHER},0.0,1.0,cat,-1,True",
    f"{CLIP},5.0,2.0,cat,20,False",
    f"{GONE},1.0,1.0,dan,12,True",  # target not downloaded
    f"{CLIP},5.0,2.0,dan,20,False",
    f"{OTHER},40.0,1.0,eve,6,True",  # target selection beyond the end
    f"{CLIP},5.0,2.0,eve,20,False",
    f"{OTHER},1.0,1.0,fay,6,True",  # history not downloaded
    f"{GONE},5.0,2.0,fay,20,False",
)


class NumberEncoder(nn.Module):
    """Reads the number that `make_video` drew into a frame."""

    name, dim, size, revision = "numbers", 2, (1, BITS), "1"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(2.0 ** torch.arange(BITS))

    def preprocess(self, image):  # type: ignore[no-untyped-def]
        return np.asarray(image)[BLOCK, BLOCK // 2 :: BLOCK][None]

    def forward(self, frames_FHWC: torch.Tensor) -> torch.Tensor:
        number_F = (frames_FHWC[:, 0, :, 0] > 127).float() @ self.weight
        return torch.stack([number_F, torch.ones_like(number_F)], dim=1)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / f"{TARGET}.mp4", seconds=12)
    make_video(folder / f"Some title [{CLIP}].mkv", seconds=20)
    make_video(folder / f"Some title-{OTHER}.mp4", seconds=6)
    (folder / f"{TARGET}.en.vtt").write_text(
        "WEBVTT\n\n00:02.000 --> 00:04.500\nhello this\n\n00:03.200 --> 00:05.000\nthis song\n"
    )
    (folder / f"{TARGET}.de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhallo\n")
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "load_visual", lambda name, device: NumberEncoder())


def prepared(tmp_path: Path, videos: Path, **settings) -> PreparedPersonal:  # type: ignore[no-untyped-def]
    csv = write_csv(tmp_path / "phd.csv", *ROWS)
    return prepare_phd(csv, videos, tmp_path / "out", settings=Settings(**settings))


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
    assert read_captions(path).table.rows() == [(0.5, 0.5, "first"), (1.5, 3.5, "hello this is")]
    path.write_text(json.dumps({"events": [{"dDurationMs": 1, "segs": [{"utf8": "x"}]}]}))
    with pytest.raises(InputError, match="event 1: tStartMs is missing"):
        read_captions(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="a list `events`"):
        read_captions(path)


def test_the_text_of_a_frame_is_what_is_shown_during_it() -> None:
    captions = [(0.5, 2.0, "one two"), (1.9, 3.0, "two three"), (4.2, 4.2, "four"), (9, 10, "late")]
    assert frame_texts(captions, 5, 1.0) == ["one two", "one two three", "two three", "", "four"]
    assert frame_texts(captions, 3, 0.5) == ["one two three", "two three", "four"]
    assert frame_texts([(0, 1, "so so"), (0, 1, "so so")], 1, 1.0) == ["so so"]
    assert frame_texts([], 2, 1.0) == ["", ""]


def test_encoding_stores_the_frames_that_samples_need(
    tmp_path: Path, videos: Path, bert: str, numbers: None
) -> None:
    data = prepared(tmp_path, videos)
    wanted = {k: v.tolist() for k, v in wanted_frames(data).items()}
    # ann's clip from 1 to 3, bob's inside frame 5, cat's from 5 to 7.
    assert wanted == {TARGET: list(range(12)), CLIP: [1, 2, 5, 6], OTHER: list(range(6))}
    done = encode_personal(data, text=bert)
    assert (done["videos_encoded"], done["frames_encoded"]) == (3, 22)
    assert done["frames_with_text"] == 3
    index = read_index(data.features_dir)
    clip = read_entry(index[CLIP])
    assert set(clip) == {"frame", "visual", "has_visual"}
    assert clip["visual"][:, 0].tolist() == [15, 25, 55, 65]  # ten pictures a second
    target = read_entry(index[TARGET])
    assert target["visual"][:, 0].tolist() == [10 * i + 5 for i in range(12)]
    assert np.flatnonzero(target["has_text"]).tolist() == [2, 3, 4]
    g = encoders.load_text(bert)
    expected = encoders.for_inference(g)(*g.tokenize(["hello this song"], [""]))
    np.testing.assert_allclose(target["text"][3], expected[0].detach().numpy(), atol=2e-3)


def test_encoding_goes_on_where_it_was_and_keeps_what_did_not_change(
    tmp_path: Path, videos: Path, bert: str, numbers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "videos"
    shutil.copytree(videos, mine)
    data = prepared(tmp_path, mine)
    encode_personal(data, text=bert)
    shards = {path.name: path.read_bytes() for path in data.features_dir.iterdir()}
    assert encode_personal(data, text=bert)["videos_kept"] == 3
    # A killed run: a video is missing, and the store is not complete until it is there again.
    victim = sorted(data.features_dir.glob("*.safetensors"))[0]
    victim.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(phd_encode, "write_shard", None)
        with pytest.raises(TypeError):
            encode_personal(data, text=bert)
    with pytest.raises(InputError, match="stopped before its end"):
        UserSamples(data)
    assert encode_personal(data, text=bert)["videos_encoded"] == 1
    again = {path.name: path.read_bytes() for path in data.features_dir.iterdir()}
    assert {n: b for n, b in again.items() if n != "manifest.json"} == {
        n: b for n, b in shards.items() if n != "manifest.json"
    }
    # Other captions: their texts alone are encoded.
    (mine / f"{TARGET}.en.vtt").unlink()
    data = prepared(tmp_path, mine)
    with pytest.raises(InputError, match="prepared anew since"):
        UserSamples(data)
    monkeypatch.setattr(NumberEncoder, "preprocess", None)
    done = encode_personal(data, text=bert)
    assert (done["videos_encoded"], done["frames_with_text"]) == (1, 0)
    sample = UserSamples(data)[0]
    assert not sample.has_text_T.any() and sample.visual_TV[3, 0] == 35


def test_a_video_no_longer_used_leaves_the_store(
    tmp_path: Path, videos: Path, bert: str, numbers: None
) -> None:
    data = prepared(tmp_path, videos)
    encode_personal(data, text=bert)
    csv = write_csv(tmp_path / "b.csv", *ROWS[:6])
    data = prepare_phd(csv, videos, tmp_path / "out")
    done = encode_personal(data, text=bert)
    assert (done["videos"], done["videos_removed"]) == (2, 1)
    # bob's and cat's frames of the clip are gone too.
    assert read_entry(read_index(data.features_dir)[CLIP])["frame"].tolist() == [1, 2]


def test_other_frames_of_a_video_are_encoded_anew(
    tmp_path: Path, videos: Path, bert: str, numbers: None
) -> None:
    for start, frames in ((1, [1, 2]), (4, [4, 5])):
        rows = (f"{TARGET},2,3,u,12,True", f"{CLIP},{start},2,u,20,False")
        data = prepare_phd(write_csv(tmp_path / "a.csv", *rows), videos, tmp_path / "o")
        done = encode_personal(data, text=bert)
        clip = read_entry(read_index(data.features_dir)[CLIP])
        assert clip["frame"].tolist() == frames
        assert clip["visual"][:, 0].tolist() == [10 * frame + 5 for frame in frames]
    assert (done["videos_encoded"], done["videos_kept"]) == (1, 1)


def test_encoding_refuses_what_it_cannot_do(tmp_path: Path, videos: Path, bert: str) -> None:
    data = prepared(tmp_path, videos)
    with pytest.raises(InputError, match="checkpoint holds code"):
        encode_personal(data, visual="yolov5s.pt", text=bert)
    with pytest.raises(InputError, match="batch_size"):
        encode_personal(data, batch_size=0)
    with pytest.raises(InputError, match="must be of source 'phd'"):
        (data.root / "manifest.json").write_text('{"schema_version": 1, "source": "simulate"}')
        encode_personal(data)


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
