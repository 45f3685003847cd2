"""From a recording to its curve, highlights and clips."""

import dataclasses
import json
import shutil
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from contentctr import cli
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.predict.rooms import predict_recording
from contentctr.score import checkpoint as checkpoints
from contentctr.store.rooms import PreparedRooms
from contentctr.train.loop import train_model
from contentctr.transcribe.recogniser import source_of
from ears import FakeEars, speaking
from tiny_models import make_tiny_swin
from training import with_train
from videos import make_video
from world import World, check, make_world, sharpen


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"))
    sharpen(made, made.run.parent / "scores")
    return made


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 200 s: six segments, and a tail of 20 s that makes a seventh."""
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    make_video(path, seconds=200, rate=2, gop=4)
    return path


def stored_scores(world: World, out: Path, room: str) -> np.ndarray:
    evaluate_model(world.run, world.data, out, split="all", show_progress=False)
    table = pl.read_parquet(out / "predictions.parquet")
    return table.filter(pl.col("room_id") == room)["score"].to_numpy()


def test_a_room_folder_scores_as_its_stored_features_do(world: World, tmp_path: Path) -> None:
    for room in (world.rooms[0], world.rooms[-1]):
        found = predict_recording(world.run, room, tmp_path / "p", show_progress=False)
        curve = check(found, tmp_path / "p")
        own = world.data.segments().filter(pl.col("room_id") == found_room(tmp_path))
        expected = stored_scores(world, tmp_path / "e", found_room(tmp_path))
        facts = json.loads((tmp_path / "p" / "prediction.json").read_text())
        assert facts["simulated"] is True
        assert np.ptp(expected) > 0.01  # not all alike
        np.testing.assert_allclose(curve["score"].to_numpy(), expected, atol=1e-3)
        np.testing.assert_allclose(curve["ctr"].to_numpy(), own["ctr"].to_numpy())
        assert curve["viewers"].to_list() == own["viewers"].to_list()


def found_room(tmp_path: Path) -> str:
    room: str = json.loads((tmp_path / "p" / "prediction.json").read_text())["room_id"]
    return room


def parts(folder: Path) -> dict[str, list[Path]]:
    names = {
        "video": ("video", "frames"),
        "comments": ("comments",),
        "speech": ("speech",),
        "events": ("events", "truth"),
    }
    return {k: [p for p in folder.iterdir() if p.stem in v] for k, v in names.items()}


@pytest.mark.parametrize("part", ["comments", "speech", "video", "events"])
def test_a_part_may_be_missing(world: World, tmp_path: Path, part: str) -> None:
    room = tmp_path / "room"
    shutil.copytree(world.rooms[0], room)
    gone = parts(room)[part]
    assert gone
    for path in gone:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = predict_recording(world.run, room, tmp_path / "p", show_progress=False)
    curve = check(found, tmp_path / "p")
    whole = stored_scores(world, tmp_path / "e", found_room(tmp_path))
    if part == "events":
        assert "ctr" not in curve.columns
        np.testing.assert_allclose(curve["score"].to_numpy(), whole, atol=1e-3)
        return
    name = "pictures" if part == "video" else part
    assert f"no {name}: taken as missing" in found.warnings
    assert np.abs(curve["score"].to_numpy() - whole).max() > 1e-4


def test_sound_alone_is_a_recording_without_pictures(world: World, tmp_path: Path) -> None:
    """With a chat it is scored by that; with nothing else it is said what is missing."""
    path = tmp_path / "room.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        for i in range(90 * 8):
            chunk = av.AudioFrame.from_ndarray(
                np.zeros((1, 1000), np.int16), format="s16", layout="mono"
            )
            chunk.sample_rate, chunk.pts = 8000, i * 1000
            out.mux(stream.encode(chunk))
        out.mux(stream.encode(None))
    chat = tmp_path / "chat.jsonl"
    chat.write_text(
        "".join(
            json.dumps({"t": t, "user_id": "u", "text": f"word {t}"}) + "\n"
            for t in range(0, 90, 4)
        )
    )
    found = predict_recording(world.run, path, tmp_path / "p", comments=chat, show_progress=False)
    assert check(found, tmp_path / "p").height == 3
    assert "no pictures: taken as missing" in found.warnings
    with pytest.raises(InputError, match=r"room\.m4a: has sound alone: .* give its --comments"):
        predict_recording(world.run, path, tmp_path / "q", show_progress=False)
    with pytest.raises(InputError, match=r"clips can be cut from a video only"):
        predict_recording(
            world.run, path, tmp_path / "q", comments=chat, clips=True, show_progress=False
        )


def test_a_room_with_nothing_but_its_length(world: World, tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    head = {
        "room_id": "r",
        "streamer_id": "nobody",
        "duration_s": 95,
        "started_at": "2024-05-01T20:00:00Z",
    }
    (room / "room.json").write_text(json.dumps(head))
    found = predict_recording(world.run, room, tmp_path / "p", show_progress=False)
    assert check(found, tmp_path / "p").height == 3
    assert len([w for w in found.warnings if "taken as missing" in w]) == 3
    assert any("'nobody' is not known" in w for w in found.warnings)


def test_a_bare_video(world: World, video: Path, tmp_path: Path) -> None:
    found = predict_recording(world.run, video, tmp_path / "p", show_progress=False)
    curve = check(found, tmp_path / "p")
    assert curve.height == 7 and curve["end_s"][-1] == pytest.approx(200, abs=1)
    assert "ctr" not in curve.columns
    assert any("the streamer is not known" in w for w in found.warnings)
    assert json.loads((tmp_path / "p" / "prediction.json").read_text())["simulated"] is False
    chat, subtitles = tmp_path / "chat.csv", tmp_path / "said.srt"
    chat.write_text("t,user_id,text\n1,a,wow love you\n40,b,dance more\n")
    subtitles.write_text("1\n00:00:01,000 --> 00:00:05,000\nhello everyone\n")
    events = tmp_path / "log.csv"
    events.write_text("user_id,t,kind\na,1,exposure\na,2,click\nb,40,exposure\n")
    known = PreparedRooms(world.data.root).segments()["streamer_id"][0]
    more = predict_recording(
        world.run,
        video,
        tmp_path / "p",
        comments=chat,
        speech=subtitles,
        events=events,
        streamer_id=known,
        top_k=1,
        show_progress=False,
    )
    full = check(more, tmp_path / "p")
    assert full["ctr"].to_list()[:3] == [1.0, 0.0, None]
    assert not [w for w in more.warnings if "missing" in w or "not known" in w]
    assert len(more.highlights) <= 1
    assert np.abs(full["score"].to_numpy() - curve["score"].to_numpy()).max() > 1e-4


def test_frames_are_chosen_as_the_model_was_trained(
    world: World, video: Path, tmp_path: Path
) -> None:
    own = checkpoints.load(world.run)
    other = dataclasses.replace(own, spec=dataclasses.replace(own.spec, frames="keyframe"))
    found = [
        predict_recording(run, video, tmp_path / "p", show_progress=False).curve["score"].to_numpy()
        for run in (world.run, own, other)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[2] - found[0]).max() > 1e-4  # the keyframes are 2 s apart


def test_a_recording_hears_itself(world: World, tmp_path: Path) -> None:
    """As with a transcript of what is said in it; the user is told where its speech is from."""
    words = [(3.0 * n, n) for n in range(1, 25)]
    path, ears = speaking(tmp_path / "v.mp4", words, 90.0), FakeEars()
    found = predict_recording(
        world.run, path, tmp_path / "p", asr=ears, language="en", show_progress=False
    )
    check(found, tmp_path / "p")
    source = source_of(ears)
    assert found.speech == source and "no speech: taken as missing" not in found.warnings
    told = f"speech is from {source}; the model was trained on speech from files"
    assert told in found.warnings
    facts = json.loads((tmp_path / "p" / "prediction.json").read_text())
    assert facts["speech_source"] == source
    subtitles = tmp_path / "said.jsonl"
    subtitles.write_text(
        "".join(
            json.dumps({"start": 3.0 * n, "end": 3.0 * n, "text": str(n)}) + "\n"
            for n in range(1, 25)
        )
    )
    given = predict_recording(
        world.run, path, tmp_path / "q", speech=subtitles, asr=ears, show_progress=False
    )
    assert given.speech == "files" and len(ears.windows) == 3
    same = given.curve["score"].to_numpy()
    np.testing.assert_array_equal(found.curve["score"].to_numpy(), same)
    deaf = predict_recording(world.run, path, tmp_path / "r", show_progress=False)
    assert (
        f"{path}: its speech is not recognised: in tests" in deaf.warnings and deaf.speech == "none"
    )
    assert np.abs(deaf.curve["score"].to_numpy() - same).max() > 1e-4


def test_sound_alone_can_be_heard(world: World, tmp_path: Path) -> None:
    path = speaking(tmp_path / "v.m4a", [(1.0, 1), (35.0, 2)], 60.0, pictures=False)
    found = predict_recording(world.run, path, tmp_path / "p", asr=FakeEars(), show_progress=False)
    assert check(found, tmp_path / "p").height == 2
    with pytest.raises(InputError, match=r"as its speech is not recognised \(--asr none\)"):
        predict_recording(world.run, path, tmp_path / "q", asr="none", show_progress=False)


def test_clips_play(world: World, video: Path, tmp_path: Path) -> None:
    for top_k in (5, 1):  # the second removes the clips of the first
        found = predict_recording(
            world.run, video, tmp_path / "p", clips=True, top_k=top_k, show_progress=False
        )
    check(found, tmp_path / "p")
    rows = pl.read_csv(tmp_path / "p" / "highlights.csv").to_dicts()
    made = [p for p in found.files if p.match("clips/*.mp4")]
    assert rows and [row["clip"] for row in rows] == [p.name for p in made]
    pictures = [p.with_suffix(".jpg") for p in made]
    assert {p.name for p in (tmp_path / "p" / "clips").iterdir()} == {
        p.name for p in [*made, *pictures]
    }
    for row, path in zip(rows, made, strict=True):
        with av.open(str(path)) as container:
            times = [f.time for f in container.decode(video=0)]
        length = row["clip_end_s"] - row["clip_start_s"]
        assert length == pytest.approx(row["end_s"] - row["start_s"], abs=4)
        assert times[-1] - times[0] == pytest.approx(length, abs=1)
        assert len(times) == pytest.approx(2 * length, abs=2)


def test_wrong_use(world: World, video: Path, tmp_path: Path) -> None:
    room = tmp_path / "room"
    shutil.copytree(world.rooms[0], room)
    for path in parts(room)["video"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    short = tmp_path / "short.mp4"
    make_video(short, seconds=10, rate=2)
    cases: list[tuple[Path, dict[str, object], str]] = [
        (room, {"clips": True}, "clips can be cut from a video only"),
        (room, {"comments": video}, "--comments is for a video file"),
        (room, {"streamer_id": "s"}, "--streamer is for a video file"),
        (short, {}, r"short\.mp4: too short: 10\.\d s, less than half of a segment of 30 s"),
        (tmp_path / "none.mp4", {}, r"none\.mp4: no such file or folder"),
        (world.run / "config.json", {}, r"config\.json"),
        (video, {"top_k": 0}, "top_k must be at least 1, not 0"),
        (video, {"comments": tmp_path / "none.csv"}, r"none\.csv: no such file"),
    ]
    for source, options, message in cases:
        with pytest.raises(InputError, match=message):
            predict_recording(world.run, source, tmp_path / "p", show_progress=False, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "p").exists()


def test_a_horizon_leaves_the_first_segment_without_a_score(world: World, tmp_path: Path) -> None:
    config = with_train(epochs=1)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, horizon=1))
    train_model(config, world.data, tmp_path / "run", show_progress=False)
    predict_recording(tmp_path / "run", world.rooms[0], tmp_path / "p", show_progress=False)
    curve = pl.read_csv(tmp_path / "p" / "curve.csv")
    assert curve["score"][0] is None and curve["score"].null_count() == 1
    assert not curve["highlight"][0]


@pytest.mark.parametrize("members", [1, 2])
def test_statistics_of_a_recording_are_the_prepared_ones(
    world: World, tmp_path: Path, members: int
) -> None:
    """From training to a recording; and without its events, only counts of comments are known."""
    config = with_train(epochs=1, members=members)
    model = dataclasses.replace(config.model, statistics=True, residual=True)
    config = dataclasses.replace(config, model=model)
    train_model(config, world.data, tmp_path / "run", show_progress=False)
    evaluate_model(tmp_path / "run", world.data, tmp_path / "e", split="all", show_progress=False)
    known = pl.read_parquet(tmp_path / "e" / "predictions.parquet")
    room = world.rooms[0]
    found = predict_recording(tmp_path / "run", room, tmp_path / "p", show_progress=False)
    name = found_room(tmp_path)
    expected = known.filter(pl.col("room_id") == name)["score"].to_numpy()
    np.testing.assert_allclose(found.curve["score"].to_numpy(), expected, atol=1e-3)
    less = tmp_path / "less"
    shutil.copytree(room, less)
    for path in parts(less)["events"]:
        path.unlink()
    cut = predict_recording(tmp_path / "run", less, tmp_path / "q", show_progress=False)
    warning = "no events: the model reads counts of earlier segments, and here knows only comments"
    assert warning in cut.warnings and warning not in found.warnings
    scores = cut.curve["score"].to_numpy()
    assert abs(scores[0] - expected[0]) < 1e-3 < np.abs(scores[1:] - expected[1:]).max()


def test_another_encoder_than_trained_with(world: World, video: Path, tmp_path: Path) -> None:
    swin = world.run.parent / "swin"
    shutil.copytree(swin, tmp_path / "kept")
    try:
        shutil.rmtree(swin)
        make_tiny_swin(swin, seed=1)
        with pytest.raises(InputError, match="the visual encoder .* must have revision"):
            predict_recording(world.run, video, tmp_path / "p", show_progress=False)
    finally:
        shutil.rmtree(swin)
        shutil.copytree(tmp_path / "kept", swin)


def test_without_texts_no_text_encoder_is_loaded(
    world: World, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_text('{"t": 3.0, "user_id": "u", "text": "hello"}\n')
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "load_text", None)
        predict_recording(world.run, video, tmp_path / "p", asr="none", show_progress=False)
        with pytest.raises(TypeError):
            predict_recording(
                world.run, video, tmp_path / "q", comments=chat, asr="none", show_progress=False
            )


def test_an_engine_gives_the_same_curve(world: World, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    expected = stored_scores(world, tmp_path / "e", world.rooms[0].name)
    found = predict_recording(
        world.run, world.rooms[0], tmp_path / "p", engine="onnx", asr="none", show_progress=False
    )
    np.testing.assert_allclose(found.curve["score"].to_numpy(), expected, atol=2e-3)
    assert not [note for note in found.warnings if "encoder" in note]


def test_highlights_by_a_run_keep_the_parts_of_the_rule(
    world: World, video: Path, tmp_path: Path
) -> None:
    chat = tmp_path / "chat.csv"
    chat.write_text("t,user_id,text\n" + "".join(f"{60 + i},u{i},lol\n" for i in range(9)))
    words = ["highlights", str(video), "--run", str(world.run), "--comments", str(chat)]
    done = CliRunner().invoke(cli.app, [*words, "-o", str(tmp_path / "p"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "p" / "prediction.json").read_text())
    assert facts["kind"] == "model" and facts["target"] == "ctr"
    assert {"chat", "laughter", "words"} <= {p["part"] for p in facts["parts"]}
    curve = pl.read_csv(tmp_path / "p" / "curve.csv")
    # Nine people laugh from 60 s on; a lag of 5 s is taken off.
    assert curve["part_laughter"].to_list() == [0, 0.75, 0.75, 0, 0, 0, 0]
    assert all(h["reasons"] for h in facts["highlights"])
    same = predict_recording(
        world.run, video, tmp_path / "q", comments=chat, show_progress=False
    ).curve
    assert same["score"].to_list() == pytest.approx(curve["score"].to_list(), abs=1e-6)
    refused = CliRunner().invoke(cli.app, [*words, "--history", "x", "-o", str(tmp_path / "r")])
    assert "--history goes with a run of personalized highlights" in str(refused.exception)


def test_a_recording_is_read_for_reasons_where_all_are_asked_for(
    world: World, video: Path, tmp_path: Path
) -> None:
    chat = tmp_path / "chat.csv"
    chat.write_text("t,text\n" + "".join(f"{t},lol {t}\n" for t in range(1, 60)))
    names = {}
    for reasons in ("logs", "all"):
        found = predict_recording(
            world.run,
            video,
            tmp_path / reasons,
            comments=chat,
            asr="none",
            reasons=reasons,  # type: ignore[arg-type]
            show_progress=False,
        )
        told = json.loads((tmp_path / reasons / "prediction.json").read_text())["parts"]
        names[reasons] = {part["part"] for part in told}
        scenes = found.curve["part_scenes"]
        assert (scenes.null_count() == len(scenes)) == (reasons == "logs")
    assert "chat" in names["logs"] and "scenes" not in names["logs"]
    assert names["all"] >= {*names["logs"], "scenes"}
