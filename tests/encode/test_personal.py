"""Users' videos encoded: the frames that samples need, only what changed, also on a cluster."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from contentctr.cli import app
from contentctr.encode import encoders, items, job
from contentctr.encode.personal import encode_personal, frame_texts
from contentctr.errors import InputError
from contentctr.outputs import alone
from contentctr.prepare.personal import prepare_phd
from contentctr.store.inputs import InputStore
from contentctr.store.personal import wanted_frames
from contentctr.store.vectors import read_entry, read_index
from contentctr.windows.personal import UserSamples
from phd_csv import write_csv
from phd_videos import (
    CLIP,
    OTHER,
    ROWS,
    TARGET,
    NumberEncoder,
    prepared,
    write_downloads,
)
from tiny_models import make_tiny_bert, make_tiny_swin


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_downloads(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def tiny_swin(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_swin(tmp_path_factory.mktemp("swin")))


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "load_visual", lambda name, device: NumberEncoder())


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
        patch.setattr(items, "write_shard", None)
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


def test_keyframes_are_taken_where_they_are_wanted(
    tmp_path: Path, videos: Path, bert: str, numbers: None
) -> None:
    data = prepared(tmp_path, videos)
    encode_personal(data, text=bert)
    done = encode_personal(data, text=bert, frames="keyframe")
    assert (done["videos_encoded"], done["frames_encoded"]) == (3, 22)
    clip = read_entry(read_index(data.features_dir)[CLIP])
    assert clip["visual"][:, 0].tolist() == [0, 20, 40, 60]  # one in twenty pictures
    assert encode_personal(data, text=bert, frames="keyframe")["videos_encoded"] == 0


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
    locked = pytest.raises(InputError, match="another process is at work on the videos here")
    with alone(data.root), locked:
        encode_personal(data, text=bert)
    with pytest.raises(InputError, match="task must be 'personal' here, not None"):
        (data.root / "manifest.json").write_text('{"schema_version": 2, "source": "simulate"}')
        encode_personal(data)


def test_stored_inputs_give_the_stored_features(
    tmp_path: Path, videos: Path, bert: str, tiny_swin: str
) -> None:
    data, models = prepared(tmp_path, videos), {"visual": tiny_swin, "text": bert}
    features = encode_personal(data, **models, show_progress=False)
    done = encode_personal(data, **models, inputs=True, show_progress=False)
    assert (done["videos_encoded"], done["frames_with_visual"]) == (3, 22)
    assert done["frames_with_speech"] == features["frames_with_text"] == 3
    again = encode_personal(data, **models, inputs=True, show_progress=False)
    assert (again["videos_kept"], again["frames_with_visual"]) == (3, 22)
    visual = encoders.for_inference(encoders.load_visual(tiny_swin))
    text = encoders.load_text(bert)
    stored, index = read_index(data.features_dir), read_index(data.inputs_dir)
    for video_id in (TARGET, OTHER, CLIP):
        found, expected = read_entry(index[video_id]), read_entry(stored[video_id])
        assert found["frame"].tolist() == expected["frame"].tolist()
        assert found["frames"].shape == (len(found["frame"]), 1, 32, 32, 3)
        with torch.inference_mode():
            got_SV = visual(torch.from_numpy(found["frames"][:, 0])).numpy()
        np.testing.assert_allclose(got_SV, expected["visual"], atol=2e-3)
    assert set(read_entry(index[CLIP])) == {"frame", "frames", "has_frame", "has_visual"}
    # Target videos are of the form of rooms.
    store = InputStore(data.inputs_dir, {TARGET: 12, OTHER: 6})
    expected = read_entry(stored[TARGET])
    assert store.has_speech.tolist() == [*expected["has_text"].astype(bool).tolist(), *[False] * 6]
    assert not store.has_comments.any()
    captioned = np.flatnonzero(expected["has_text"])
    got = store.read(captioned)
    with torch.inference_mode():
        got_ST = text(got.token_ids, got.token_types, got.token_mask).numpy()
    np.testing.assert_allclose(got_ST, expected["text"][captioned], atol=2e-3)


def test_inputs_are_refused_of_what_cannot_be_trained(
    tmp_path: Path, videos: Path, bert: str, numbers: None
) -> None:
    data = prepared(tmp_path, videos)
    with pytest.raises(InputError, match="cannot be trained, .* encode without --inputs"):
        encode_personal(data, text=bert, inputs=True)
    assert not data.inputs_dir.exists()


def test_a_video_does_not_depend_on_the_videos_before(
    tmp_path: Path, bert: str, numbers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both videos show the same captions, and the batch of a text decides about its last bits."""
    folder = write_downloads(tmp_path / "videos")
    shutil.copy(folder / f"{TARGET}.en.vtt", folder / f"Some title-{OTHER}.en.vtt")
    data = prepared(tmp_path, folder)
    batches: list[list[str]] = []
    tokenize = encoders.TextPairEncoder.tokenize

    def seen(self, speech, comments):  # type: ignore[no-untyped-def]
        batches.append(list(speech))
        return tokenize(self, speech, comments)

    monkeypatch.setattr(encoders.TextPairEncoder, "tokenize", seen)
    encode_personal(data, text=bert)
    assert len(batches) == 2 and batches[0] == batches[1]


def test_the_command_takes_videos_as_it_takes_rooms(
    tmp_path: Path, videos: Path, bert: str, tiny_swin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(tmp_path, videos)
    asked = []

    def elsewhere(items, make, *, ray, cpus, gpus):  # type: ignore[no-untyped-def]
        asked.append(ray)
        made = pickle.loads(pickle.dumps(make))()  # a worker has nothing but what it is sent
        return [made(pickle.loads(pickle.dumps(item))) for item in items]

    monkeypatch.setattr(job, "run_over", elsewhere)
    words = ["encode", str(data.root), "--inputs", "--ray", "auto", "--visual", tiny_swin]
    result = CliRunner().invoke(app, [*words, "--text", bert])
    assert result.exit_code == 0, result.output
    assert asked == ["auto"] and len(read_index(data.inputs_dir)) == 3
    assert not data.features_dir.exists()
