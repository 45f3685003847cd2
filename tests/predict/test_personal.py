"""One's own video and a user's earlier picks: features, scores, parts, clips, and wrong input."""

import dataclasses
import json
import shutil
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
import torch
import typer
from typer.testing import CliRunner

from contentctr.batch import Vocabulary
from contentctr.cli import highlights as commands
from contentctr.config import FrameChoice, override
from contentctr.encode.encoders import load_frame_encoder
from contentctr.encode.personal import encode_personal
from contentctr.errors import InputError
from contentctr.models.registry import build_model
from contentctr.outputs import LOCK, MARKER, alone
from contentctr.predict import personal
from contentctr.predict.files import NAMES
from contentctr.predict.personal import pick_highlights, smooth
from contentctr.predict.picks import read_history
from contentctr.prepare.personal import Settings, prepare_phd
from contentctr.recipes import recipe
from contentctr.rooms.media import probe
from contentctr.score import checkpoint as checkpoints
from contentctr.score.highlights import clock, find_highlights
from contentctr.score.personal import score_videos
from contentctr.windows.personal import Stretch, UserSamples
from phd_csv import write_csv
from tiny_models import make_tiny_bert, make_tiny_swin
from tiny_yolo import tiny_yolo
from videos import make_video

TARGET, LONG, WHOLE = "targetAAAAA", "historyAAAA", "historyBBBB"
ROWS = (
    f"{TARGET},2,3,ann,26,True",
    f"{LONG},12.3,4.2,ann,30,False",
    f"{WHOLE},0,5,ann,5,False",
    f"{LONG},2,0.2,ann,30,False",  # shorter than a frame
    f"{LONG},13,2.6,ann,30,False",  # overlaps the first
)
TINY = override(recipe("highlights_small"), ["d_model=8", "num_heads=2", "window_len=16"])


@dataclasses.dataclass(frozen=True)
class World:
    """Videos of a user, and a fresh model whose scores are far from each other."""

    videos: Path
    samples: UserSamples
    checkpoint: Path
    captions: Path

    @property
    def target(self) -> Path:
        return self.videos / f"{TARGET}.mp4"

    @property
    def history(self) -> list[str]:
        """ann's history as words of the command."""
        long = self.videos / f"{LONG}.mkv"
        return [f"{long}@12.3-0:16.5", str(self.videos / f"{WHOLE}.mp4"), f"{long}@2-2.2,13-15.6"]


def make_world(
    folder: Path, *, visual: Path, frame_rate: float = 1.0, frames: FrameChoice = "exact"
) -> World:
    videos, bert = folder / "videos", folder / "bert"
    videos.mkdir()
    make_video(videos / f"{TARGET}.mp4", stamps=list(range(0, 25_700, 100)), gop=10)
    make_video(videos / f"{LONG}.mkv", seconds=30)
    make_video(videos / f"{WHOLE}.mp4", seconds=5)
    captions = videos / f"{TARGET}.en.vtt"
    captions.write_text(
        "WEBVTT\n\n00:02.000 --> 00:04.500\nhello this\n\n00:03.200 --> 00:05.000\nthis song\n"
    )
    csv, make_tiny = write_csv(folder / "phd.csv", *ROWS), make_tiny_bert(bert)
    settings = Settings(frame_rate=frame_rate, val=0, test=0)
    data = prepare_phd(csv, videos, folder / "data", settings=settings, show_progress=False)
    encode_personal(
        data, visual=str(visual), text=str(make_tiny), frames=frames, show_progress=False
    )
    samples = UserSamples(data)
    save_model(folder / "model", samples)
    return World(videos, samples, folder / "model", captions)


def save_model(folder: Path, samples: UserSamples, sharpness: float = 30.0) -> None:
    """A fresh model, its scores spread around a half."""
    torch.manual_seed(0)
    known = Vocabulary(streamers=[])
    model = build_model(TINY, samples.spec, known)
    scores = next(score_videos(model, samples, [0], window_len=16))
    with torch.no_grad():
        bias, weight = model.head.bias, model.head.weight  # type: ignore[union-attr]
        bias -= float(np.log(scores / (1 - scores)).mean())  # type: ignore[operator, arg-type]
        bias *= sharpness  # type: ignore[operator]
        weight *= sharpness  # type: ignore[operator]
    checkpoints.save(folder, model, config=TINY, spec=samples.spec, vocabulary=known, info={})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return make_world(folder, visual=make_tiny_swin(folder / "swin"))


def pick(world: World, out: Path, **options):  # type: ignore[no-untyped-def]
    given = {"history": world.history, "captions": world.captions, "show_progress": False}
    return pick_highlights(world.checkpoint, world.target, out, **given | options)


def scores_of(found) -> np.ndarray:  # type: ignore[no-untyped-def]
    return found.curve["score"].to_numpy()


@pytest.mark.parametrize("encoder", ["swin", "yolo", "swin at 3 a second", "keyframes"])
def test_features_and_scores_are_those_of_the_prepared_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    if encoder == "yolo":
        pytest.importorskip("onnxruntime")
        visual = tiny_yolo(tmp_path / "tiny.onnx")
    else:
        visual = make_tiny_swin(tmp_path / "swin")
    world = make_world(
        tmp_path,
        visual=visual,
        frame_rate=3.0 if "3" in encoder else 1.0,
        frames="keyframe" if encoder == "keyframes" else "exact",
    )
    seen = []

    def spy(model, videos, users, **options):  # type: ignore[no-untyped-def]
        seen.append(videos)
        return score_videos(model, videos, users, **options)

    monkeypatch.setattr(personal, "score_videos", spy)
    found = pick(world, tmp_path / "out")
    expected, mine = world.samples[0], seen[0]
    whole = mine.frames(Stretch(user=0, start=0, stop=mine.num_frames(0)))
    for name in ("visual_TV", "text_TC", "has_visual_T", "has_text_T"):
        one, other = getattr(whole, name), getattr(expected, name)
        assert one.dtype == other.dtype and np.array_equal(one, other), name
    assert expected.has_text_T.sum() == (3 if world.samples.frame_rate == 1 else 9)
    assert mine.history(0).shape == (4, world.samples.spec.visual_dim)
    np.testing.assert_array_equal(mine.history(0), world.samples.history(0))
    assert not mine.labels(0).any()
    model = checkpoints.load(world.checkpoint).load_model()
    wanted = next(score_videos(model, world.samples, [0], window_len=16))
    np.testing.assert_array_equal(scores_of(found), wanted)
    assert np.ptp(wanted) > 0.05


@pytest.mark.parametrize("rate", [1, 2, 3, 5, 29.97, 49, 24000 / 1001, 0.3, 103])
def test_the_frame_rate_comes_back_from_its_inverse(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    seen = {}

    def stop(checkpoint, source, *_):  # type: ignore[no-untyped-def]
        seen["rate"] = source.frame_rate
        raise KeyboardInterrupt

    monkeypatch.setattr(personal, "_encode_source", stop)
    spec = dataclasses.replace(world.samples.spec, segment_seconds=1 / rate)
    with pytest.raises(KeyboardInterrupt):
        pick_highlights(
            dataclasses.replace(checkpoints.load(world.checkpoint), spec=spec), world.target, "x"
        )
    assert seen["rate"] == pytest.approx(rate, rel=1e-9)
    if round(rate, 9) == rate:
        assert seen["rate"] == rate


def test_history_and_captions_change_the_scores(world: World, tmp_path: Path) -> None:
    own = scores_of(pick(world, tmp_path / "a"))
    other = pick(world, tmp_path / "b", history=[world.videos / f"{LONG}.mkv"])
    nobody = pick(world, tmp_path / "c", history=[])
    silent = pick(world, tmp_path / "d", captions=None)
    for scores in map(scores_of, (other, nobody, silent)):
        assert np.abs(scores - own).max() > 1e-4
    assert any("no history" in w for w in nobody.warnings)
    assert not any("history" in w for w in [*other.warnings, *silent.warnings])
    assert "no captions: taken as missing" in silent.warnings
    assert not any("captions" in w for w in other.warnings)


def test_files_agree(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    earlier = pick(world, out, top_k=3, clips=True)
    assert (out / "clips").is_dir() and len(earlier.files) > len(NAMES)
    found = pick(world, out, top_k=3)
    assert {p.name for p in out.iterdir()} - {MARKER, LOCK} == set(NAMES)
    assert {p.name for p in found.files} == set(NAMES)
    curve = pl.read_csv(out / "curve.csv")
    assert curve.columns == ["frame", "start_s", "end_s", "score", "smoothed", "highlight"]
    assert curve["frame"].to_list() == list(range(curve.height)) and curve.height == 26
    assert curve["end_s"][-1] == pytest.approx(25.7) == probe(world.target).duration_s
    assert curve["end_s"][:-1].to_list() == curve["start_s"][1:].to_list()
    smoothed = smooth(scores_of(found), 1.0)
    np.testing.assert_allclose(curve["smoothed"].to_numpy(), smoothed)
    inside = [
        any(h.start_s <= t < h.end_s for h in found.highlights)
        for t in ((curve["start_s"] + curve["end_s"]) / 2).to_list()
    ]
    assert curve["highlight"].to_list() == inside
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    expected = find_highlights(
        smoothed, curve["start_s"], curve["end_s"], top_k=3, max_length_s=personal.MAX_LENGTH_S
    )
    assert found.highlights == expected and expected
    rows = pl.read_csv(out / "highlights.csv").to_dicts()
    for rank, (row, h) in enumerate(zip(rows, expected, strict=True), 1):
        assert (row["rank"], row["start_s"], row["end_s"]) == (rank, h.start_s, h.end_s)
        assert (row["start"], row["end"]) == (clock(h.start_s), clock(h.end_s))
    facts = json.loads((out / "prediction.json").read_text())
    assert [h["end_s"] for h in facts["history"]] == [16.5, 5.0, 2.2, 15.6]
    assert facts["frame_rate"] == 1.0 and facts["target"] == "highlight"
    assert facts["warnings"] == found.warnings and facts["trained_on_simulated"] is False
    assert found.label == ""


def test_settings_of_the_rule(world: World, tmp_path: Path) -> None:
    few, many = (pick(world, tmp_path / "o", share=share) for share in (0.1, 0.5))
    assert few.curve["highlight"].sum() < many.curve["highlight"].sum()
    length = [sum(h.end_s - h.start_s for h in found.highlights) for found in (few, many)]
    assert 0 < length[0] < length[1]
    short = pick(world, tmp_path / "o", share=0.9, max_length_s=2).highlights
    assert short and max(h.end_s - h.start_s for h in short) <= 2
    assert len(pick(world, tmp_path / "o", share=0.4, top_k=1).highlights) == 1


def test_clips_play(world: World, tmp_path: Path) -> None:
    found = pick(world, tmp_path / "out", clips=True)
    rows = pl.read_csv(tmp_path / "out" / "highlights.csv").to_dicts()
    made = [p for p in found.files if p.match("clips/*.mp4")]
    assert rows and [row["clip"] for row in rows] == [p.name for p in made]
    for row, path in zip(rows, made, strict=True):
        with av.open(str(path)) as container:
            count = sum(1 for _ in container.decode(video=0))
        assert row["clip_start_s"] <= row["start_s"] < row["end_s"] <= row["clip_end_s"] + 0.11
        assert count == pytest.approx(10 * (row["clip_end_s"] - row["clip_start_s"]), abs=4)
    again = pick(world, tmp_path / "out")
    assert not (tmp_path / "out" / "clips").exists() and set(again.files) < set(found.files)


def test_scores_are_smoothed_over_three_seconds() -> None:
    scores = np.array([0.1, 0.9, 0.2, 0.4, 0.4, 0.6])
    wanted = [np.mean(scores[max(i - 1, 0) : i + 2]) for i in range(6)]
    np.testing.assert_allclose(smooth(scores, 1.0), wanted)
    wanted = [np.mean(scores[max(i - 2, 0) : i + 3]) for i in range(6)]
    np.testing.assert_allclose(smooth(scores, 2.0), wanted)  # 5 or 7 frames are nearest to 6
    np.testing.assert_array_equal(smooth(scores, 0.2), scores)
    np.testing.assert_array_equal(smooth(scores[:1], 1.0), scores[:1])
    for value in (0.1, 1 / 3, 0.7):
        assert len(set(smooth(np.full(9, value), 1.0).tolist())) == 1


def test_where_all_frames_score_alike(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(personal, "score_videos", lambda *a, **k: iter([np.full(26, 0.3)]))
    found = pick(world, tmp_path / "out", clips=True)
    assert found.highlights == [] and "no part stands out" in found.warnings[-1]
    assert pl.read_csv(tmp_path / "out" / "highlights.csv").height == 0


def test_ways_to_name_a_history(tmp_path: Path) -> None:
    clip, odd = tmp_path / "b.mp4", tmp_path / "a@1-2.mkv"
    make_video(clip, seconds=12)
    shutil.copy(clip, odd)
    (tmp_path / "notes.txt").touch()

    def spans(*items: object) -> list[tuple[str, float, float]]:
        picks, warnings = read_history(items)  # type: ignore[arg-type]
        assert warnings == []
        return [(p.path.name, round(p.start_s, 3), round(p.end_s, 3)) for p in picks]

    assert spans(clip) == [("b.mp4", 0, 12)]
    assert spans(f"{clip}@1.5-3, 0:04-0:00:06.25") == [("b.mp4", 1.5, 3), ("b.mp4", 4, 6.25)]
    assert read_history([f"{clip}@0:01-0:02"])[0] == read_history([f"{clip}@1-2"])[0]
    with pytest.raises(InputError, match=r"not at 5400-5401 s"):
        read_history([f"{clip}@90:00-90:01"])
    assert spans(f"{clip}@11-12.9") == [("b.mp4", 11, 12)]  # written in whole seconds
    assert spans(odd) == [(odd.name, 0, 12)] and spans(f"{odd}@3-4") == [(odd.name, 3, 4)]
    assert spans(tmp_path) == [(odd.name, 0, 12), ("b.mp4", 0, 12)]
    picks, warnings = read_history([f"{clip}@{i / 4}-{i / 4 + 1}" for i in range(22)])
    assert [p.start_s for p in picks] == [i / 4 for i in range(20)]
    assert warnings == ["the history has 22 picks: the first 20 count"]


def test_wrong_input(world: World, tmp_path: Path) -> None:
    long, empty, sound = world.videos / f"{LONG}.mkv", tmp_path / "empty", tmp_path / "a.mp4"
    empty.mkdir()
    sound.write_bytes(b"no video")
    short = tmp_path / "short.mp4"
    make_video(short, stamps=[0, 100, 200])
    spec = dataclasses.replace(
        world.samples.spec, visual_encoder="simulated", text_encoder="simulated", simulated=True
    )
    made_up = dataclasses.replace(checkpoints.load(world.checkpoint), spec=spec)
    cases: list[tuple[dict[str, object], str]] = [
        ({"history": [f"{long}@29-32"]}, r"AAAA\.mkv: a part must lie in .* 30\.0 s, not at 29-32"),
        ({"history": [f"{long}@30-31"]}, r"a part must lie in .*, not at 30-31"),
        ({"history": [f"{long}@1:02:03-1:02:04"]}, r"a part must lie in .*, not at 3723-3724 s"),
        ({"history": [f"{long}@3"]}, r"AAAA\.mkv: a part must be START-END, .* not '3'"),
        ({"history": [f"{long}@1-2,"]}, r"a part must be START-END, .* not ''"),
        ({"history": [f"{long}@1:75-1:80"]}, r"a part must be START-END, .* not '1:75-1:80'"),
        ({"history": [f"{long}@5-5"]}, r"a part must end after its start, not '5-5'"),
        ({"history": [tmp_path / "none.mp4"]}, r"none\.mp4: no such video file or folder"),
        ({"history": [f"{empty}@1-2"]}, r"empty: no such video file$"),
        ({"history": [empty]}, r"empty: holds no video \(\.mp4,"),
        ({"history": [sound]}, r"a\.mp4: cannot be opened as a video"),
        ({"captions": tmp_path / "none.srt"}, r"none\.srt"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"share": 1.0}, r"share must be in \(0, 1\), not 1"),
        ({"max_length_s": 0}, "max_length_s must be above 0, not 0"),
        ({"video": short}, r"short\.mp4: too short: 0\.\d+ s, less than half of a frame of 1 s"),
        ({"video": sound}, r"a\.mp4: cannot be opened as a video"),
        ({"video": tmp_path / "none.mp4"}, r"none\.mp4: no such video file"),
        ({"checkpoint": made_up}, "trained on simulated features"),
        ({"checkpoint": tmp_path}, "not a checkpoint"),
    ]
    for options, message in cases:
        checkpoint = options.pop("checkpoint", world.checkpoint)
        video = options.pop("video", world.target)
        with pytest.raises(InputError, match=message):
            pick_highlights(checkpoint, video, tmp_path / "out", show_progress=False, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_pictures_that_cannot_be_decoded(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = personal.encode_frames
    lost = {"file": f"{LONG}.mkv", "from": 13.5}

    def damaged(media, spans, *arguments, **options):  # type: ignore[no-untyped-def]
        visual, has = real(media, spans, *arguments, **options)
        if media.path.name == lost["file"]:
            has &= np.array([a < lost["from"] for a, _ in spans])
        return visual * has[:, None], has

    monkeypatch.setattr(personal, "encode_frames", damaged)
    long = world.videos / f"{LONG}.mkv"
    kept = pick(world, tmp_path / "a", history=[f"{long}@12-15"])
    alone = pick(world, tmp_path / "b", history=[f"{long}@12-14"])
    np.testing.assert_array_equal(scores_of(kept), scores_of(alone))  # the mean of what is there
    with pytest.raises(InputError, match=r"mkv@14-16: no picture of this part can be decoded"):
        pick(world, tmp_path / "c", history=[f"{long}@14-16"])
    lost |= {"file": world.target.name, "from": 0.0}
    with pytest.raises(InputError, match=r"mp4: no picture of it can be decoded"):
        pick(world, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_other_encoders_than_trained_with(world: World, tmp_path: Path) -> None:
    saved = checkpoints.load(world.checkpoint)
    for part in ("visual", "text"):
        spec = dataclasses.replace(saved.spec, **{f"{part}_revision": "another"})
        with pytest.raises(InputError, match=f"the {part} encoder .* must have revision another"):
            pick_highlights(
                dataclasses.replace(saved, spec=spec),
                world.target,
                tmp_path / "out",
                show_progress=False,
            )
    assert not (tmp_path / "out").exists()


def test_a_model_of_simulated_videos_is_labelled(world: World, tmp_path: Path) -> None:
    saved = checkpoints.load(world.checkpoint)
    spec = dataclasses.replace(saved.spec, simulated=True)
    found = pick_highlights(
        dataclasses.replace(saved, spec=spec), world.target, tmp_path / "out", show_progress=False
    )
    assert found.label == "by a model of simulated videos"
    facts = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert facts["trained_on_simulated"] is True


def test_a_file_with_weights_in_a_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be an ONNX file"):
        load_frame_encoder(str(tmp_path / "yolov5s.PT"))


def test_the_command_takes_several_clips_after_history(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()
    app.command()(commands.highlights)
    long, whole, *_ = world.history
    words = [str(world.target), "--run", str(world.checkpoint), "--history", long, whole, "-o"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "out"), "--top", "2", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert [Path(pick["file"]).stem for pick in facts["history"]] == [LONG, WHOLE]
    assert done.stdout.startswith("1. 00:") and "  score 0." in done.stdout
    assert str(tmp_path / "out" / "curve.png") in done.stdout
    assert "warning: no captions: taken as missing" in done.stderr


@pytest.mark.parametrize(
    ("kind", "unread"),
    [
        ("contentctr_hl", []),
        ("contentctr_hl_without_history", ["history"]),
        ("contentctr_hl_without_captions", ["captions"]),
        ("pr_net", ["captions"]),
        ("highlight_average", ["history", "captions"]),
    ],
)
def test_what_the_model_does_not_read_is_said(
    world: World, tmp_path: Path, kind: str, unread: list[str]
) -> None:
    config = override(TINY, [f"kind={kind}"])
    spec, known = world.samples.spec, Vocabulary(streamers=[])
    model = build_model(config, spec, known)
    checkpoints.save(tmp_path / "m", model, config=config, spec=spec, vocabulary=known, info={})
    found = pick(dataclasses.replace(world, checkpoint=tmp_path / "m"), tmp_path / "out")
    said = [text for text in found.warnings if "does not read" in text]
    assert [next(w for w in ("history", "captions") if w in text) for text in said] == unread


def test_of_two_into_one_folder_the_second_is_refused(world: World, tmp_path: Path) -> None:
    refused = pytest.raises(InputError, match="another process is at work here")
    with alone(tmp_path), refused:
        pick(world, tmp_path)


def test_names_with_colons_and_a_users_own_folder(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(world.target, "20:00 live.mp4")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "mine.mp4").touch()
    app = typer.Typer()
    app.command()(commands.highlights)
    words = ["20:00 live.mp4", "--run", str(world.checkpoint), "--clips", "--device", "cpu"]
    words += ["--history", "20:00 live.mp4@0:10-0:18", "-o"]
    refused = CliRunner().invoke(app, [*words, "."])
    assert isinstance(refused.exception, InputError) and "20:00 live.mp4" in str(refused.exception)
    assert {path.name for path in tmp_path.iterdir()} == {"20:00 live.mp4", "clips"}
    done = CliRunner().invoke(app, [*words, "20:00 out"])
    assert done.exit_code == 0 and "not cut" not in done.stderr, done.output
    facts = json.loads((tmp_path / "20:00 out" / "prediction.json").read_text())
    assert [(p["file"], p["start_s"]) for p in facts["history"]] == [("20:00 live.mp4", 10.0)]
    assert list((tmp_path / "20:00 out" / "clips").iterdir())
    assert (tmp_path / "clips" / "mine.mp4").exists()
