"""Days in a row: what is registered, what is not, what stays, and what a kill leaves."""

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from contentctr.daily import day as module
from contentctr.daily.day import REGISTERED, TOO_FEW, WORSE, read_history, run_day
from contentctr.daily.settings import read_settings
from contentctr.errors import InputError, NonFiniteLossError
from contentctr.outputs import alone
from contentctr.score.checkpoint import load
from contentctr.simulate.folders import write_room
from contentctr.simulate.mechanism import SimulatorConfig, draw_room
from contentctr.store.rooms import PreparedRooms
from tiny_models import make_tiny_bert, make_tiny_swin

FIRST = date(2026, 5, 1)
WORDS = ["d_model=8", "num_heads=2", "ff_mult=1", "window_len=4", "epochs=1", "align_weight=0"]


def write_days(root: Path, days: int = 4, rooms: int = 4) -> None:
    """Simulated rooms without pictures, moved to days in a row."""
    config = SimulatorConfig(
        num_rooms=days * rooms,
        num_streamers=3,
        min_segments=6,
        max_segments=8,
        rooms_without_video=1.0,
    )
    for index in range(days * rooms):
        day = FIRST + timedelta(days=index // rooms)
        folder = root / day.isoformat() / f"room{index}"
        write_room(config, draw_room(config, index), folder, 0.0)
        head = json.loads((folder / "room.json").read_text())
        start = datetime(day.year, day.month, day.day, 1 + index % rooms, tzinfo=UTC)
        for name in ("comments", "events"):  # with times of the day that they were made for
            for path in folder.glob(f"{name}.*"):
                if path.suffix not in (".parquet", ".csv"):
                    path.unlink()
        (folder / "room.json").write_text(json.dumps({**head, "started_at": start.isoformat()}))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("days")
    write_days(root / "rooms")
    make_tiny_swin(root / "swin")
    make_tiny_bert(root / "bert")
    return root


@pytest.fixture
def settings(place: Path, tmp_path: Path) -> Any:
    file = tmp_path / "daily.json"
    values = {
        "rooms": str(place / "rooms" / "{date}"),
        "data": "data",
        "runs": "runs",
        "settings": WORDS,
        "least_rooms": 2,
        "keep_days": 3,
        "keep_runs": 1,
        "device": "cpu",
        "encode": {"visual": str(place / "swin"), "text": str(place / "bert"), "engine": "torch"},
    }
    file.write_text(json.dumps(values))
    return read_settings(file)


def do(settings: Any, number: int) -> dict[str, Any]:
    return run_day(settings, FIRST + timedelta(days=number), show_progress=False)


@pytest.mark.slow
def test_days_in_a_row(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, data = Path(settings.runs), PreparedRooms(Path(settings.data))
    assert [do(settings, n)["outcome"] for n in (0, 1)] == [TOO_FEW, TOO_FEW]
    first = do(settings, 2)
    assert (first["outcome"], first["why"]) == (REGISTERED, "there was none before it")
    assert first["rooms"] == {"train": 4, "val": 4, "test": 4}
    one = load(runs / "candidate")
    assert one.model_id == first["model_id"]

    monkeypatch.setattr(module, "compare_models", lambda *_, **__: COMPARED)
    # Killed at any step, the day goes on; and what it started from stays what it was.
    for step in ("encode_rooms", "train_model", "evaluate_model", "point_to", "_note"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, step, _killed)
            do(settings, 3)
    second = do(settings, 3)
    assert second["outcome"] == REGISTERED and second["before"] == first["model_id"]
    assert load(runs / "candidate").model_id == second["model_id"] != first["model_id"]
    assert json.loads((runs / "candidate.json").read_text())["model_id"] == second["model_id"]
    info = load(runs / "candidate").info["init_from"]
    assert "day-2026-05-03" in info["checkpoint"]
    # The window has moved: rooms, features and runs before it are gone.
    starts = data.rooms()["started_at"].dt.date().unique().sort().to_list()
    assert starts == [FIRST + timedelta(days=n) for n in (1, 2, 3)]
    assert len(list(data.features_dir.glob("*.safetensors"))) == data.rooms().height == 12
    assert [path.name for path in runs.glob("day-*")] == ["day-2026-05-04"]
    assert [row["date"][-1] for row in read_history(runs)] == ["1", "2", "3", "4"]

    before = (runs / "history.jsonl").read_bytes()
    assert do(settings, 3) == second  # done already
    assert (runs / "history.jsonl").read_bytes() == before
    with alone(runs), pytest.raises(InputError, match="another process is at work on a day"):
        do(settings, 3)


@pytest.mark.slow
def test_a_day_of_an_ensemble_starts_from_the_day_before(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = replace(settings, settings=[*settings.settings, "members=2"])
    monkeypatch.setattr(module, "compare_models", lambda *_, **__: COMPARED)
    first, second = [do(both, number) for number in range(4)][2:]
    assert second["outcome"] == REGISTERED and second["before"] == first["model_id"]
    run = load(Path(settings.runs) / "candidate")
    assert run.model_id == second["model_id"] and run.config.train.members == 2
    assert all("day-2026-05-03" in start["checkpoint"] for start in run.info["init_from"])
    assert len(run.info["init_from"]) == 2


COMPARED = {
    "rooms": 4,
    "samples": 20,
    "metric": "kendall_tau",
    "kendall_tau": {"new": 0.2, "old": 0.1, "difference": 0.1, "interval": [0.01, 0.2]},
    "log_loss": {"new": 0.3, "old": 0.4, "difference": -0.1, "interval": None},
    "verdict": "better",
}


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_worse_model_is_not_registered_and_a_failed_day_is_tried_again(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Path(settings.runs)
    for number in (0, 1, 2):
        do(settings, number)
    one = load(runs / "candidate").model_id

    def fails(*_: object, **__: object) -> None:
        raise InputError("the disk is on fire")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="on fire"):
        patch.setattr(module, "evaluate_model", fails)
        do(settings, 3)
    assert read_history(runs)[-1]["why"] == "the disk is on fire"
    monkeypatch.setattr(module, "compare_models", lambda *_, **__: {**COMPARED, "verdict": WORSE})
    row = do(settings, 3)
    assert (
        row["outcome"] == WORSE and "kendall_tau 0.1000 -> 0.2000, +0.1000 (+0.0100" in row["why"]
    )
    assert load(runs / "candidate").model_id == one
    assert {path.name for path in runs.glob("day-*")} == {"day-2026-05-03", "day-2026-05-04"}
    assert len(read_history(runs)) == 4
    with pytest.raises(InputError, match="is done already; 2026-05-02 comes before it"):
        (runs / "history.jsonl").write_text(json.dumps(row) + "\n")
        do(settings, 1)


def test_rooms_are_heard_and_encoded_and_a_model_is_trained_where_the_settings_say(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []

    def noted(step: Any) -> Any:
        def do_step(*args: Any, device: str, **kwargs: Any) -> Any:
            devices.append(device)
            return step(*args, **{**kwargs, "device": "cpu"})

        return do_step

    for name in ("prepare_rooms", "encode_rooms", "train_model", "evaluate_model"):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    settings = replace(settings, device="cuda:7")
    assert [do(settings, n)["outcome"] for n in (0, 1, 2)] == [TOO_FEW, TOO_FEW, REGISTERED]
    assert devices == ["cuda:7"] * 6


def test_of_ranks_a_day_compares_the_order_inside_rooms(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    compare = module.compare_models

    def noted(*tables: Any, **options: Any) -> Any:
        asked.append(options)
        return {**compare(*tables, **options), "verdict": "not told apart"}

    monkeypatch.setattr(module, "compare_models", noted)
    settings = replace(settings, prepare={"target": "comment_count"})  # ranked by itself
    for number in (0, 1, 2):
        do(settings, number)
    row = do(settings, 3)
    assert asked == [{"metric": "kendall_tau_in_rooms", "is_label": False}]
    assert row["compared"]["metric"] == "kendall_tau_in_rooms"
    assert "kendall_tau_in_rooms" in row["why"] and "kendall_tau " not in row["why"]


def test_a_day_of_another_scale_is_not_compared_with_the_candidate(
    settings: Any, tmp_path: Path
) -> None:
    runs = Path(settings.runs)
    for number in (0, 1, 2):
        do(settings, number)
    before = tree_bytes(Path(settings.data))
    for changed, words in (
        (replace(settings, prepare={"target_scale": "rank"}), "target_scale 'none' and not 'rank'"),
        (replace(settings, prepare={"target": "comment_rate"}), "target 'ctr' and not"),
        (replace(settings, settings=[*settings.settings, "horizon=1"]), "horizon 0 and not 1"),
        (
            replace(settings, settings=[*settings.settings, "kind=without_mask"]),
            "kind 'contentctr' and not 'without_mask'",
        ),
    ):
        with pytest.raises(InputError, match=f"candidate: leads to a model of {words}"):
            do(changed, 3)
    assert tree_bytes(Path(settings.data)) == before  # nothing was made anew
    (runs / "candidate").unlink()
    other = replace(
        settings, prepare={"target_scale": "rank"}, init_from=str(runs / "day-2026-05-03" / "run")
    )
    row = do(other, 3)
    assert row["outcome"] == REGISTERED and "compared" not in row
    assert row["why"].endswith("started: target_scale 'none' and not 'rank'")
    assert load(runs / "candidate").spec.target_scale == "rank"


def test_a_model_that_scores_no_live_room_is_not_made_for_a_service(settings: Any) -> None:
    words = [*settings.settings, "kind=without_mask"]
    for place in ("redis", "service"):
        with pytest.raises(InputError, match="model.kind must be contentctr or another"):
            do(replace(settings, settings=words, **{place: "redis://localhost"}), 0)
    assert not Path(settings.data).exists()


def test_a_candidate_that_cannot_score_the_rooms_is_told_before_training(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 1, 2):
        do(settings, number)
    monkeypatch.setattr(module, "train_model", _killed)
    settings = replace(settings, encode={**settings.encode, "text_prefix": "chat: "})
    with pytest.raises(InputError, match="does not fit the checkpoint .*; text_prefix must be ''"):
        do(settings, 3)


def tree_bytes(root: Path) -> dict[str, bytes]:
    """By path, what every file of a folder holds."""
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_neither_a_failed_day_nor_one_to_come_blocks_another(settings: Any) -> None:
    with pytest.raises(InputError, match=r"at most today \(UTC\), .*, not 2962-05-01"):
        run_day(settings, date(2962, 5, 1), show_progress=False)
    assert not Path(settings.runs).exists()
    with pytest.raises(InputError, match="nothing is at"):
        do(settings, 60)
    assert do(settings, 0)["outcome"] == TOO_FEW
    assert [row["outcome"] for row in read_history(Path(settings.runs))] == [TOO_FEW, "failed"]


def test_rooms_that_come_after_a_kill_are_trained_on_too(
    settings: Any, monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path
) -> None:
    rooms = tmp_path / "rooms"
    shutil.copytree(place / "rooms", rooms)
    settings = module.DailySettings(**{**vars(settings), "rooms": str(rooms / "{date}")})
    late = rooms / "2026-05-03" / "room8"
    late.rename(tmp_path / "room8")
    for number in (0, 1):
        do(settings, number)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "evaluate_model", _killed)
        do(settings, 2)
    (tmp_path / "room8").rename(late)
    assert do(settings, 2)["rooms"]["test"] == 4


def test_rooms_that_come_after_their_day_are_read_the_next(
    settings: Any, place: Path, tmp_path: Path
) -> None:
    rooms = tmp_path / "rooms"
    shutil.copytree(place / "rooms", rooms)
    late = rooms / "2026-05-01" / "room0"
    late.rename(tmp_path / "room0")
    settings = replace(settings, rooms=str(rooms / "{date}"))
    assert do(settings, 0)["rooms"]["test"] == 3
    (tmp_path / "room0").rename(late)
    row = do(settings, 1)
    assert row["rooms"] == {"train": 0, "val": 4, "test": 4} and row["appended"]["new"] == 5
    with pytest.raises(InputError, match=f"for {datetime.now(UTC).date() - timedelta(days=1)}"):
        run_day(settings, show_progress=False)


def test_runs_in_use_are_not_removed(settings: Any, tmp_path: Path) -> None:
    names = [f"day-2026-05-0{n}" for n in range(1, 6)]
    for name in names:
        (tmp_path / name / "run" / "best").mkdir(parents=True)
        (tmp_path / name / "day.json").write_text('{"made_by": "contentctr daily"}')
    (tmp_path / "day-other").mkdir()
    for link, name in (("candidate", names[0]), ("served", f"{names[1]}/run/best")):
        (tmp_path / link).symlink_to(name)
    module._remove_old(tmp_path, replace(settings, keep=[names[2]]))
    assert sorted(path.name for path in tmp_path.glob("day-*")) == [
        *names[:3],
        names[4],
        "day-other",
    ]


def test_a_model_that_was_registered_before_a_kill_is_taken_back(
    settings: Any, monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path
) -> None:
    rooms, runs = tmp_path / "rooms", Path(settings.runs)
    shutil.copytree(place / "rooms", rooms)
    settings = replace(settings, rooms=str(rooms / "{date}"))
    late = rooms / "2026-05-04" / "room12"
    late.rename(tmp_path / "room12")
    for number in (0, 1, 2):
        do(settings, number)
    one, about = load(runs / "candidate").model_id, (runs / "candidate.json").read_bytes()
    monkeypatch.setattr(module, "compare_models", lambda *_, **__: COMPARED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_note", _killed)
        do(settings, 3)
    assert load(runs / "candidate").model_id != one
    (tmp_path / "room12").rename(late)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "train_model", _killed)
        do(settings, 3)
    assert load(runs / "candidate").model_id == one
    assert (runs / "candidate.json").read_bytes() == about
    row = do(settings, 3)
    assert (row["before"], row["outcome"], row["rooms"]["test"]) == (one, REGISTERED, 4)
    # A candidate that is gone is not taken for a first day.
    shutil.rmtree(runs / "day-2026-05-04")
    (runs / "history.jsonl").unlink()
    with pytest.raises(InputError, match="candidate: leads to a run that is gone"):
        do(settings, 3)


def test_other_settings_make_good_a_day_whose_training_failed(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 1):
        do(settings, number)
    trained, resumed = module.train_model, []

    def fails(*args: Any, resume: bool, **kwargs: Any) -> Path:
        resumed.append(resume)
        trained(*args, resume=resume, **kwargs)
        raise NonFiniteLossError("the loss is nan")

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_model", fails)
        for _ in range(2):
            with pytest.raises(NonFiniteLossError):
                do(settings, 2)
    assert resumed == [False, False]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "evaluate_model", _killed)
        do(settings, 2)
    settings = replace(settings, settings=[*settings.settings, "learning_rate=1e-5"])
    assert do(settings, 2)["outcome"] == REGISTERED
    config = json.loads((Path(settings.runs) / "candidate" / "config.json").read_text())
    assert config["train"]["learning_rate"] == 1e-5


def assert_are_commands(output: str) -> None:
    """What is printed to be typed is there."""
    from contentctr.cli import app

    commands = re.findall(r"contentctr (worker|rollout \w+) ", output)
    assert commands == ["worker", "rollout promote"]
    for words in commands:
        assert CliRunner().invoke(app, [*words.split(), "--help"]).exit_code == 0


def test_the_command_says_by_its_exit_code_whether_a_model_is_registered(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from contentctr.cli import app

    shown = {"roc_auc": {"old": 0.5, "new": 0.7}, "precision_at_top": {"old": None, "new": 0.25}}
    line = {
        "date": "2026-05-03",
        "why": "so",
        "rooms": {"train": 1, "val": 1, "test": 1},
        "compared": {"shown": shown},
    }
    days = []

    def done(outcome: str) -> Any:
        def run(_: object, day: date, **__: object) -> dict[str, Any]:
            days.append(day)
            return {**line, "outcome": outcome}

        return run

    file = tmp_path / "daily.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "redis": "redis://fleet"}))
    runner = CliRunner()
    for outcome, code in ((REGISTERED, 0), (WORSE, 3), (TOO_FEW, 3)):
        monkeypatch.setattr(module, "run_day", done(outcome))
        result = runner.invoke(app, ["daily", str(file), "--date", "2026-05-03"])
        assert result.exit_code == code, result.output
        assert re.search(r"roc_auc, old and new +.* 0.5000, 0.7000", result.output)
        assert "undefined, 0.2500" in result.output
        assert ("redis://fleet" in result.output) == (code == 0)
        if not code:
            assert_are_commands(result.output)
    values = {**values, "service": "http://host:8000/"}
    file.write_text(json.dumps(values))
    hint = module.rollout_hint(read_settings(file))
    assert '{"name": "candidate"} to http://host:8000/v1/models' in hint
    assert f"--models must be {tmp_path / 'runs'}" in hint
    assert days == [date(2026, 5, 3)] * 3
    result = runner.invoke(app, ["daily", str(file), "--date", "soon"])
    assert "--date must be a day as 2026-05-31, not 'soon'" in str(result.exception)
