"""Trackers get what log.jsonl has, under the run's name, and none is used without being asked."""

import accelerate.tracking
import pytest
from accelerate.tracking import GeneralTracker

from contentctr.errors import InputError
from contentctr.recipes import recipe
from contentctr.train.loop import train_model
from contentctr.train.run_folder import read_log
from contentctr.train.track import require_trackers
from make import write_data
from training import with_train


class Notebook(GeneralTracker):
    """Keeps what it gets."""

    name = "notebook"
    requires_logging_directory = False

    def __init__(self):
        super().__init__()
        self.settings, self.rows, self.finished = {}, [], 0

    @property
    def tracker(self):
        return self

    def start(self):
        pass

    def store_init_configuration(self, values):
        self.settings = values

    def log(self, values, step=None, **rest):
        self.rows.append((step, values))

    def finish(self):
        self.finished += 1


def test_a_tracker_gets_settings_losses_and_metrics(tmp_path):
    data = write_data(tmp_path / "data")
    notebook = Notebook()
    trackers = [notebook, "tensorboard"]
    config, run = with_train(epochs=1), tmp_path / "run"
    train_model(config, data, run, track=trackers, show_progress=False)
    assert notebook.settings["train.epochs"] == 1 and notebook.settings["model.prior"] == "none"
    logged = [
        (
            row["step"],
            {
                f"{row['split']}/{name}": value
                for name, value in row.items()
                if name not in ("step", "epoch", "split")
            },
        )
        for row in read_log(tmp_path / "run/log.jsonl")
    ]
    assert notebook.rows == logged and notebook.finished == 1
    assert list((tmp_path / "run/tensorboard").glob("events*"))


def test_a_tracker_that_cannot_be_had_is_named_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="not 'mlfow'; did you mean 'mlflow'"):
        train_model(recipe("small"), tmp_path, tmp_path / "run", track=["mlfow"])
    require_trackers(["tensorboard"])


def test_a_known_tracker_that_is_not_installed_is_not_passed_over(monkeypatch):
    monkeypatch.setattr("contentctr.train.track.get_available_trackers", list)
    with pytest.raises(InputError, match="--track wandb: .* not installed: pip install wandb"):
        require_trackers(["wandb"])


def test_a_registered_tracker_is_known_by_its_name(monkeypatch):
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    require_trackers(["notebook"])
