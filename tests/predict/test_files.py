"""A prediction and a user's own files: what is refused, what survives, what a clip may cost."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contentctr import cli
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.outputs import LOCK, MARKER
from contentctr.predict import clips as cutting
from contentctr.predict import rooms
from contentctr.predict.rooms import predict_recording
from contentctr.report import write_report
from contentctr.rooms.clips import Cut
from contentctr.score.highlights import Highlight
from videos import make_video
from world import NAMES, World, check, make_world, sharpen

ODD_NAMES = (
    "20:00 live.mp4",
    "-x.mp4",
    "a b%03d.mp4",
    "【主播】2024-05-01 20:00 #1 [100%].mp4",
    "file:x 😀?.mp4",
    "直" * 80 + ".mp4",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"))
    sharpen(made, made.run.parent / "scores")
    return made


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    make_video(path, seconds=300, rate=2, gop=4)
    return path


def predict(world: World, source: Path | str, out: Path | str, **options: object):  # type: ignore[no-untyped-def]
    return predict_recording(world.run, source, out, clips=True, show_progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def singles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the best segments is a highlight, whatever the curve of a tiny model looks like."""

    def choose(scores, starts, ends, choice, **_):  # type: ignore[no-untyped-def]
        best = np.argsort(-scores)[: choice.top_k].tolist()
        return [
            Highlight(
                start_s=starts[i],
                end_s=ends[i],
                score=float(scores[i]),
                peak_s=(starts[i] + ends[i]) / 2,
            )
            for i in best
        ], ""

    monkeypatch.setattr(rooms, "choose_highlights", choose)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run_command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["contentctr", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.fixture
def desk(tmp_path: Path, video: Path) -> Path:
    """A user's folder: a recording, its chat, and work of the user's own."""
    folder = tmp_path / "desk"
    (folder / "clips").mkdir(parents=True)
    shutil.copy(video, folder / "live.mp4")
    for name in ("chat.csv", "curve.csv", "prediction.json", "metrics.json", "notes.txt"):
        (folder / name).write_text("t,user_id,text\n1,a,mine\n")
    for name in ("01_00.00-01.00.mp4", "best.mp4"):
        (folder / "clips" / name).write_text("mine")
    return folder


@pytest.mark.parametrize("out", [".", "clips", "live.mp4", "notes.txt/x", "../desk"])
def test_predict_over_a_users_own_files_is_refused(
    world: World, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, out
) -> None:
    before = tree(desk)
    monkeypatch.chdir(desk)
    words = ("predict", world.run, "live.mp4", "-o", out, "--clips", "--comments", "chat.csv")
    assert run_command(monkeypatch, *words) == 2
    assert "folder" in capsys.readouterr().err
    assert tree(desk) == before


def test_a_room_folder_is_no_place_for_its_own_prediction(world: World, tmp_path: Path) -> None:
    room = tmp_path / "room"
    shutil.copytree(world.rooms[0], room)
    before = tree(room)
    with pytest.raises(InputError, match=r"room: holds .* choose a new or empty folder for a pred"):
        predict_recording(world.run, room, room, show_progress=False)
    assert tree(room) == before
    found = predict_recording(world.run, room, room / "prediction", show_progress=False)
    check(found, room / "prediction")
    inside = {k: v for k, v in tree(room).items() if not k.startswith("prediction/")}
    assert inside == before


@pytest.mark.usefixtures("singles")
def test_what_a_user_adds_to_a_prediction_stays(world: World, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    made = [p for p in predict(world, video, out).files if p.match("clips/*.mp4")]
    assert len(made) > 1
    (out / "notes.txt").write_text("mine")
    (out / "clips" / "best.mp4").write_text("mine")
    check(predict(world, video, out, top_k=1), out, {"notes.txt"})
    left = {p.name for p in (out / "clips").iterdir()}
    assert (
        left == {"best.mp4", made[0].name, made[0].with_suffix(".jpg").name}
        and (out / "notes.txt").read_text() == "mine"
    )


def test_an_evaluation_or_a_report_over_other_files_is_refused(
    world: World, desk: Path, tmp_path: Path
) -> None:
    before = tree(desk)
    with pytest.raises(InputError, match="choose a new or empty folder for an evaluation"):
        evaluate_model(world.run, world.data, desk, show_progress=False)
    own = tmp_path / "evaluation"
    evaluate_model(world.run, world.data, own, show_progress=False)
    with pytest.raises(InputError, match=r"evaluation: holds an evaluation; choose another folder"):
        predict(world, desk / "live.mp4", own)
    (desk / "page.html").write_text("mine")
    with pytest.raises(InputError, match=r"page\.html: is there already, without the pictures"):
        write_report(own, desk / "page.html")
    with pytest.raises(InputError, match="clips: holds .* folder for the pictures of clips.html"):
        write_report(own, desk / "clips.html")
    assert tree(desk) == {**before, "page.html": b"mine"}
    for _ in range(2):
        write_report(own, desk / "20:00 #1.html", max_rooms=1)
        evaluate_model(world.run, world.data, own, show_progress=False)
        write_report(own)
    with pytest.raises(InputError, match=r"holds the pictures of 20:00 #1\.html; choose another"):
        write_report(own, desk / "20:00 #1.htm")
    assert {k: v for k, v in tree(desk).items() if "20:00" not in k} == {
        **before,
        "page.html": b"mine",
    }


@pytest.mark.usefixtures("singles")
def test_a_clip_that_cannot_be_cut_costs_that_clip(
    world: World, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cutting.cut_clips

    def cut(video: Path, cuts: list[Cut]) -> list[tuple[float, float] | InputError]:
        lost = InputError(f"{cuts[1].out}: cannot hold the streams")
        made: list = real(video, [cuts[0], *cuts[2:]])
        return [made[0], lost, *made[1:]]

    monkeypatch.setattr(cutting, "cut_clips", cut)
    found = predict(world, video, tmp_path / "p")
    rows = pl.read_csv(tmp_path / "p" / "highlights.csv").to_dicts()
    clips = sorted(p.name for p in (tmp_path / "p" / "clips").glob("*.mp4"))
    assert len(rows) > 1
    assert [row["clip"] for row in rows if row["rank"] != 2] == clips
    lost = rows[1]
    assert (lost["clip"], lost["clip_start_s"], lost["clip_end_s"]) == (None, None, None)
    assert found.warnings[-1].startswith("02_") and "this clip was not cut" in found.warnings[-1]
    check(found, tmp_path / "p")  # whose prediction.json has the warnings
    assert sorted(p.name for p in found.files if p.match("clips/*.mp4")) == clips
    assert not list((tmp_path / "p" / "clips").glob("02_*"))  # nor a picture without its clip


def test_where_no_clip_can_be_cut_the_prediction_is_whole(world: World, tmp_path: Path) -> None:
    video = tmp_path / "v.webm"  # by its name; a WebM holds no such pictures
    make_video(video, seconds=200, rate=2, codec="mpeg4", fmt="matroska")
    found = predict(world, video, tmp_path / "p")
    check(found, tmp_path / "p")
    assert found.highlights and not (tmp_path / "p" / "clips").exists()
    lost = [w for w in found.warnings if "this clip was not cut" in w]
    assert len(lost) == len(found.highlights) and "try a .mkv" in lost[0]


_KILLED = """
import os, signal, sys
from contentctr.predict import clips, rooms
from contentctr.predict.rooms import predict_recording

def cut(video, cuts):
    for wanted in cuts:
        out = wanted.out
        out.parent.mkdir(exist_ok=True)
        out.with_name(f".{out.name}.0123abcd.tmp").write_bytes(b"half")
        if out.name.startswith("02"):
            os.kill(os.getpid(), signal.SIGKILL)
        out.write_bytes(b"cut")

clips.cut_clips = cut
predict_recording(*sys.argv[1:], clips=True, show_progress=False)
"""


@pytest.mark.slow
def test_a_killed_prediction_is_made_again(world: World, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    words = [sys.executable, "-c", _KILLED, str(world.run), str(video), str(out)]
    done = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    there = set(tree(out))
    assert "curve.csv" in there and "prediction.json" not in there
    assert sum(name.endswith(".tmp") for name in there) == 2
    found = predict(world, video, out)
    check(found, out)
    assert set(tree(out)) == {str(p.relative_to(out)) for p in found.files} | {MARKER, LOCK}
    assert not any(p.read_bytes() == b"cut" for p in found.files)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_of_recording_and_folder_works(
    world: World,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(video, tmp_path / name)
    out = f"o {name.removesuffix('.mp4')}" if len(name) > 80 else name.removesuffix(".mp4")
    words = ("predict", world.run, f"--out={out}", "--clips", "--top", 2, "--", name)
    assert run_command(monkeypatch, *words) == 0
    told = capsys.readouterr()
    assert "not cut" not in told.err
    folder = tmp_path / out
    rows = pl.read_csv((folder / "highlights.csv").read_bytes()).to_dicts()
    assert rows and all((folder / "clips" / row["clip"]).is_file() for row in rows)
    assert {p.name for p in folder.iterdir()} == NAMES | {"clips", MARKER, LOCK}
    assert json.loads((folder / "prediction.json").read_text())["duration_s"] > 299
