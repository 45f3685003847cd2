"""The command: exit codes, one-line errors, and every step from rooms to a prediction."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from contentctr import __version__, cli
from contentctr.errors import InputError
from contentctr.score import choose
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_room_folders
from contentctr.transcribe import recogniser
from contentctr.transcribe.recogniser import source_of
from ears import FakeEars, speaking
from tiny_models import make_tiny_bert, make_tiny_swin

Command = Callable[..., tuple[int, str, str]]
TINY = [
    "model.d_model=8",
    "model.num_heads=2",
    "model.perceiver_layers=1",
    "model.decoder_layers=1",
    "model.streamer_dim=4",
    "data.window_len=4",
    "data.min_viewers=1",
    "train.epochs=1",
    "loss.num_negatives=2",
]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `contentctr` with words; exit code, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["contentctr", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return run


def ok(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code == 0, err
    return out


def test_version_and_help(command: Command) -> None:
    assert ok(command("--version")).strip() == f"contentctr {__version__}"
    listed = ok(command("--help"))
    found = re.findall(r"^│ ([a-z][a-z-]*) ", listed, re.MULTILINE)
    assert found == [
        *(
            "simulate",
            "inspect",
            "transcribe",
            "prepare",
            "encode",
            "pretrain",
            "settings",
            "train",
            "tune",
            "runs",
            "evaluate",
            "report",
            "export",
            "predict",
        ),
        *(
            "highlights",
            "serve",
            "worker",
            "ingest",
            "rejected",
            "rollout",
            "watch",
            "abtest",
            "abtest-replay",
            "reproduce",
            "daily",
            "demo",
        ),
    ]
    for name in found:
        assert name in ok(command(name, "-h"))


def test_dry_run_says_how_big_the_papers_model_is(command: Command) -> None:
    out = ok(command("train", "paper", "--dry-run"))
    found = re.search(r"parameters\s*│\s*([\d.]+) M", out)
    assert found, out
    assert abs(float(found[1]) - 20) <= 1
    small = re.search(r"parameters\s*│\s*([\d.]+) M", ok(command("train", "small", "--dry-run")))
    assert small and float(small[1]) < 2


def test_wrong_input_is_one_line_and_exit_code_2(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    cases: list[tuple[list[object], str]] = [
        (
            ["train", "papr", "--dry-run"],
            "recipe must be one of highlights, highlights_small, live, moments, paper, small, "
            "tables, not 'papr'",
        ),
        (["train", "small", "model.d_modl=8", "--dry-run"], "d_model"),
        (["train", "small", "model.d_model=x", "--dry-run"], "model.d_model must be a number"),
        (["train", "small"], "train needs --data FOLDER and --out FOLDER"),
        (["train", "small", "-d", folder, "-o", tmp_path / "r"], "not a prepared folder"),
        (["prepare", "rooms", tmp_path / "none", tmp_path / "d"], "none"),
        (["prepare", "rooms", folder, tmp_path / "d"], "empty"),
        (["encode", folder], "not a prepared folder"),
        (["evaluate", folder, folder, "-o", tmp_path / "e"], "not a prepared folder"),
        (["predict", folder, folder, "-o", tmp_path / "p"], "not a checkpoint"),
        (["report", folder], "empty"),
        (
            ["simulate", "rooms", tmp_path / "s", "--rooms", 0],
            "num_rooms must be at least 1, not 0",
        ),
    ]
    for words, message in cases:
        code, out, err = command(*words)
        assert code == 2 and out == "", words
        lines = err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), err
        assert message in lines[0], (words, err)
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_wrong_words_are_exit_code_2(command: Command, tmp_path: Path) -> None:
    for words in (
        ["nonsense"],
        ["evaluate"],
        ["prepare", tmp_path / "rooms", tmp_path / "d"],
        ["simulate", "rooms", tmp_path / "s", "--rooms", "many"],
    ):
        code, _, err = command(*words)
        assert code == 2 and "Traceback" not in err, err


def test_an_interrupt_is_exit_code_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("stopped at step 4")

    monkeypatch.setattr("contentctr.train.loop.train_model", stop)
    code, _, err = command("train", "small", "-d", "data", "-o", "run")
    assert code == 130 and "interrupted" in err and "Traceback" not in err


def test_a_loss_that_is_not_finite_is_exit_code_1(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contentctr.train.loop import NonFiniteLossError

    def stop(*_: object, **__: object) -> None:
        raise NonFiniteLossError("step 5: a loss is not finite")

    monkeypatch.setattr("contentctr.train.loop.train_model", stop)
    code, _, err = command("train", "small", "-d", "data", "-o", "run")
    assert code == 1 and err.strip() == "error: step 5: a loss is not finite"


def test_simulated_features_to_a_report(command: Command, tmp_path: Path) -> None:
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "e"
    words = ["--rooms", 20, "--streamers", 3]
    assert "20 simulated rooms" in ok(command("simulate", "features", data, *words))
    shown = ok(command("train", "small", *TINY, "--data", data, "--dry-run"))
    assert "training windows" in shown and "3 streamers" in shown
    code, _, err = command("encode", data)
    assert code == 2 and "nothing to encode" in err
    for words in (["train", "small", *TINY, "-d"], ["evaluate", tmp_path / "no run"]):
        code, _, err = command(*words, data, "-o", run, "--device", "cuda:99")
        assert code == 2 and "device 'cuda:99': this machine has" in err, words
    at = ["--device", "cpu"]
    assert "best checkpoint" in ok(command("train", "small", *TINY, "-d", data, "-o", run, *at))
    code, _, err = command("train", "small", *TINY, "-d", data, "-o", run)
    assert code == 2 and "new or empty folder" in err
    ok(command("train", "small", *TINY, "train.epochs=2", "-d", data, "-o", run, "--resume"))
    again = ["-d", data, "-o", tmp_path / "again"]
    code, _, err = command("train", "small", *TINY, *again, "--init-from", run, "--new-head")
    assert code == 0 and "output layer new; 3 streamers known, 0 new" in err
    code, _, err = command("train", "small", *TINY, *again, "--keep-head")
    assert code == 2 and "go with --init-from RUN" in err
    shown = ok(command("evaluate", run, data, "-o", out))
    assert "simulated rooms" in shown and "kendall_tau of oracle" in shown
    assert "kendall_tau of exponential_mean" in shown
    assert re.search(
        r"^(Better|Worse|Not told|Too few).* the best floor, the ", shown, re.MULTILINE
    )
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert str(out / "report.html") in ok(command("report", out, "--max-rooms", 1))
    assert len((out / "report.html").read_text()) < len(page)
    code, _, err = command("evaluate", run, data, "-o", out, "--split", "vall")
    assert code == 2 and "vall" in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["work", "20:00 [1] #100%03d 【主播】😀"])
def test_room_folders_to_a_prediction(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # A model of so few steps tells no segments apart, and a flat curve has no highlight.
    monkeypatch.setattr(choose, "_is_flat", lambda scores: False)
    work = Path(name)
    rooms, data, run = work / "rooms", work / "data", work / "run"
    config = SimulatorConfig(
        num_rooms=4, num_streamers=2, min_segments=6, max_segments=7, rooms_without_video=0.0
    )
    folders = write_room_folders(config, rooms, video_share=1.0, show_progress=False)
    shares = ["--val", 0.25, "--test", 0.25]
    assert "train 2, val 1, test 1" in ok(command("prepare", "rooms", rooms, data, *shares))
    models = [
        "--visual",
        make_tiny_swin(work / "swin"),
        "--text",
        make_tiny_bert(work / "bert"),
    ]
    ok(command("encode", data, *models))
    ok(command("train", "small", *TINY, "-d", data, "-o", run))
    ok(command("evaluate", run, data, "-o", work / "e"))
    ok(command("report", work / "e"))
    shown = ok(command("predict", run, folders[0], "-o", work / "p", "--clips", "--top", 2))
    assert shown.startswith("1. ") and "3. " not in shown and "curve.csv" in shown
    assert list((work / "p" / "clips").iterdir())
    assert 6 <= pl.read_csv(work / "p" / "curve.csv", glob=False).height <= 7
    alone = shutil.copy(folders[0] / "video.mp4", work / "alone.mp4")
    code, _, err = command("predict", run, alone, "-o", work / "p", "--streamer", "nobody")
    assert code == 0 and "warning: no comments: taken as missing" in err
    monkeypatch.setattr(recogniser, "load_recogniser", lambda name, **_: FakeEars())
    live = speaking(tmp_path / "live.ts", [(1.0, 1), (20.0, 2)], 40.0)
    code, out, err = command("watch", run, live, "--idle", 0.1, "--asr", "tones")
    assert code == 0 and out.count("scored") == 1, err
    told = err.splitlines()
    assert told[0] == f"speech: {source_of(FakeEars())}"
    assert told[1].endswith("the model was trained on speech from files")
    assert "ended after 00:40: 1 segment (1 scored)" in told
    code, _, err = command("watch", run, live, "--idle", 0.1)
    assert code == 0 and err.splitlines()[-1] == "its speech was not recognised: in tests"


def test_transcribe_and_prepare_say_what_hears(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rooms" / "one"
    folder.mkdir(parents=True)
    head = {"room_id": "r", "streamer_id": "s", "started_at": "2024-05-01T20:00:00Z"}
    (folder / "room.json").write_text(json.dumps(head))
    speaking(folder / "video.ts", [(1.0, 1), (35.0, 2)], 60.0)
    asked = []

    def load(name: str, **options: object) -> FakeEars:
        asked.append((name, options["language"], options["device"]))
        return FakeEars()

    monkeypatch.setattr(recogniser, "load_recogniser", load)
    words = ["--asr", "tones", "--language", "en"]
    source = source_of(FakeEars())
    shown = ok(command("prepare", tmp_path / "rooms", tmp_path / "heard", *words))
    assert f"speech: {source}" in shown and "rooms_heard" in shown
    shown = ok(command("transcribe", tmp_path / "rooms", *words, "--device", "cpu"))
    assert re.search(r"rooms_transcribed\s*│\s*1", shown) and source in shown
    assert asked == [("tones", "en", "auto"), ("tones", "en", "cpu")]
    shown = ok(command("prepare", tmp_path / "rooms", tmp_path / "read", "--asr", "none"))
    assert f"speech: {source}" in shown
    texts = [
        pl.read_parquet(tmp_path / name / "segments.parquet")["speech"].to_list()
        for name in ("heard", "read")
    ]
    assert texts == [["1", "2"]] * 2
    code, _, err = command("transcribe", tmp_path / "rooms", "--asr", "none")
    assert code == 2 and "--asr none" in err


def test_prepare_tells_what_is_missing(command: Command, tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / "rooms" / f"r{number}"
        folder.mkdir(parents=True)
        (folder / "room.json").write_text(
            f'{{"room_id": "r{number}", "streamer_id": "s", "duration_s": 65, '
            f'"started_at": "2024-05-0{number + 1}T20:00:00Z"}}'
        )
        (folder / "comments.csv").write_text("t,user_id,text\n1,a,hello\n31,a,one\n")
    code, _, err = command("prepare", "rooms", tmp_path / "rooms", tmp_path / "data")
    assert code == 0 and "warning: no segment has the target 'ctr'" in err
    (tmp_path / "rooms" / "r1" / "comments.csv").write_text("t,user_id\n")
    code, _, err = command("prepare", "rooms", tmp_path / "rooms", tmp_path / "data")
    assert code == 2 and "r1/comments.csv: no reader of chat knows this form" in err
    (tmp_path / "rooms" / "labels.csv").write_text("room_id,t,label\nr0,3,Goal\nr9,3,Goal\n")
    labels = ["--target", "label:goal", "--skip-bad-rooms"]
    code, out, err = command("prepare", "rooms", tmp_path / "rooms", tmp_path / "l", *labels)
    assert code == 0 and "left out 1 of 2 rows, of rooms that are not here, such as 'r9'" in err
    assert re.search(r"labels_of_unknown_rooms\s*│\s*1", out)
    words = ["--target", "comment_rate", "--skip-bad-rooms"]
    code, out, err = command("prepare", "rooms", tmp_path / "rooms", tmp_path / "data", *words)
    assert code == 0 and "left out" in err and re.search(r"rooms\s*│\s*2", out)


@pytest.mark.parametrize(
    "words",
    [
        ["rooms", "rooms", "data"],
        ["rooms", "data"],
        ["rooms", "data", "--target", "comment_rate"],
        ["mine", "data"],
    ],
)
def test_prepare_takes_rooms_without_the_name_of_a_source(words, monkeypatch):
    given = []

    def stop(rooms_root, out, **_):
        given.extend((rooms_root.name, out.name))
        raise InputError("reached")

    monkeypatch.setattr("contentctr.prepare.rooms.prepare_rooms", stop)
    result = CliRunner().invoke(cli.app, ["prepare", *words])
    assert isinstance(result.exception, InputError), result.output
    assert given == ["mine" if words[0] == "mine" else "rooms", "data"]
