"""Tuning: a recipe is trained over and over with other settings, and the best is kept.

OUT/tuning.json   what is tuned: recipe, settings, data, search space
OUT/study.db      the trials, as Optuna keeps them (SQLite)
OUT/trials/*      a run's folder each; checkpoints of the best alone
OUT/best.json     the best settings so far, which `train` takes in place of a recipe

A trial whose validation lies below the median of the others after as many epochs is pruned. The
same call goes on where an earlier one was stopped or killed, within a trial too. Of an ensemble a
trial trains one member.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL

from contentctr.config import Config, override, to_dict
from contentctr.devices import find_device
from contentctr.errors import InputError, NonFiniteLossError
from contentctr.files import read_json, write_json
from contentctr.outputs import alone, require_new
from contentctr.printing import say
from contentctr.store.opened import Data
from contentctr.train.loop import train_model
from contentctr.train.opened import open_task
from contentctr.train.run_folder import read_log
from contentctr.train.search import Space, default_search, parse_search

ABOUT, STUDY, BEST = "tuning.json", "study.db", "best.json"
STARTUP_TRIALS = 5
"""So many trials are drawn at random, and none of them is pruned."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What all trials have in common."""

    config: Config
    data: Data
    out: Path
    space: Space
    metric: str
    device: str
    show_progress: bool

    def folder(self, number: int) -> Path:
        """Of a trial's run."""
        return self.out / "trials" / f"{number:04d}"


def tune_model(
    config: Config,
    data: Data,
    out: Path | str,
    *,
    search: Sequence[str] = (),
    trials: int = 20,
    seed: int = 0,
    device: str = "auto",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Try settings until there are so many trials, and say which were the best.

    Args:
        config: settings of every trial, but for those that are searched.
        data: as `train_model` has it, with a validation split, whose metric decides.
        out: a new folder, or one that the same tuning began, which goes on.
        search: words of `parse_search`; none: `default_search`.
        trials: how many in all, those of earlier calls among them.
        seed: of the settings that are drawn.
        device: where to train, as `train_model` has it.
        show_progress: show bars, and a line a trial.

    Returns:
        What OUT/best.json holds: `settings` (words of `override`), `score`, `metric`, `trial`,
        `run` (its folder in OUT), `config` (all settings), and counts of trials by their end.

    Raises:
        InputError: a setting, a word of `search`, the data or the folder does not fit.
        KeyboardInterrupt: the user asked to stop; the same call goes on.
    """
    if trials < 1:
        raise InputError(f"trials must be at least 1, not {trials}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("tune runs as one process: start it without accelerate launch")
    if device != "auto":
        find_device(device)  # of no trial, so of every one
    task, out = open_task(data), Path(out)
    words = list(search) or default_search(config)
    tuning = Tuning(
        config=config,
        data=data,
        out=out,
        space=parse_search(words, config),
        metric=task.score,
        device=device,
        show_progress=show_progress,
    )
    task.spec(config)  # what cannot be trained on at all is told before anything is written
    about = {"config": to_dict(config), "search": words, "data_hash": task.data_hash()}
    # Before the folder is claimed: a second process must not take this one's trials for abandoned.
    with alone(out, "tuning here"), _study(out, about) as study:
        while (trial := _next(study, tuning.space, trials, seed)) is not None:
            _run_trial(tuning, study, trial)
        return _report(tuning, study)


def _claim(out: Path, about: Mapping[str, Any]) -> None:
    """The folder is new, or the same tuning's."""
    if not (out / ABOUT).is_file():
        require_new(out, "a tuning")
        write_json(out / ABOUT, dict(about))
        return
    before = read_json(out / ABOUT)
    for name, value in about.items():
        if before.get(name) != value:
            raise InputError(
                f"{out}: holds a tuning with another {name.replace('_', ' ')}; choose another "
                "folder, or give what it was begun with"
            )


@contextlib.contextmanager
def _study(out: Path, about: Mapping[str, Any]) -> Iterator[optuna.Study]:
    """The trials so far of the tuning that a folder is, or becomes."""
    _claim(out, about)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = URL.create("sqlite", database=str(out / STUDY)).render_as_string(hide_password=False)
    storage = optuna.storages.RDBStorage(url)
    try:
        yield optuna.create_study(
            storage=storage,
            study_name="contentctr",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _next(study: optuna.Study, space: Space, trials: int, seed: int) -> Trial | None:
    """A trial that was stopped within, else a new one; None where there are enough."""
    known = study.get_trials(deepcopy=False)
    for trial in known:
        if trial.state == TrialState.RUNNING:
            if trial.params:
                return Trial(study, trial._trial_id)  # Optuna has no public way to go on with one
            study.tell(trial.number, state=TrialState.FAIL)  # killed before it was drawn
    if len(known) >= trials:
        return None
    # The sampler begins anew with every call: with one seed it would draw the first trials again.
    study.sampler = optuna.samplers.TPESampler(
        seed=seed + len(known), n_startup_trials=STARTUP_TRIALS
    )
    return study.ask(fixed_distributions=space)


def _run_trial(tuning: Tuning, study: optuna.Study, trial: Trial) -> None:
    """Train with a trial's settings, and tell the study how it ended."""
    words = [f"{name}={value}" for name, value in trial.params.items()]
    trial.set_user_attr("settings", words)
    score, state, note = None, TrialState.COMPLETE, ""
    try:
        score = _train(tuning, trial, words)
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except _NoMetricError:  # of the data, so of every trial
        raise
    except (InputError, NonFiniteLossError, torch.OutOfMemoryError) as error:
        # Left running, the trial would be gone on with by every later call, and end them all.
        state, note = TrialState.FAIL, str(error).split("\n", 1)[0]
        trial.set_user_attr("failed", note)
    study.tell(trial, score, state=state)
    if tuning.show_progress:
        end = note or (state.name.lower() if score is None else f"{tuning.metric} {score:.4f}")
        tried = " ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in trial.params.items()
        )
        say(f"trial {trial.number}: {end}: {tried}")
    _keep_best(tuning, study)


def _keep_best(tuning: Tuning, study: optuna.Study) -> None:
    """Name the best trial first, and only then drop what others have: a kill leaves what it is."""
    if _best(study) is not None:
        write_json(tuning.out / BEST, _best_json(tuning, study))
    _drop_checkpoints(tuning, study)


class _NoMetricError(InputError):
    """The data has nothing by which trials could be compared."""


def _train(tuning: Tuning, trial: Trial, words: Sequence[str]) -> float:
    """The best validation score of a run; its folder is gone on with where it was begun."""
    config = override(tuning.config, [*words, "train.members=1"])
    folder = tuning.folder(trial.number)
    told = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values

    def after_epoch(epoch: int, found: Mapping[str, float]) -> None:
        if tuning.metric not in found:
            raise _NoMetricError(
                f"tune needs a validation split in which {tuning.metric} is defined, and the "
                "data has none"
            )
        if epoch not in told:  # an epoch that a resumed run has done twice
            trial.report(found[tuning.metric], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    train_model(
        config,
        tuning.data,
        folder,
        resume=(folder / "config.json").is_file(),
        after_epoch=after_epoch,
        device=tuning.device,
        show_progress=tuning.show_progress,
    )
    rows = read_log(folder / "log.jsonl")
    return float(max(row[tuning.metric] for row in rows if row["split"] == "val"))


def _best(study: optuna.Study) -> FrozenTrial | None:
    """The best of the trials that were not pruned."""
    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return max(done, key=lambda t: (t.value or 0.0, -t.number), default=None)


def _drop_checkpoints(tuning: Tuning, study: optuna.Study) -> None:
    """Of a big model twenty runs would fill a disk; settings and logs stay."""
    best = _best(study)
    for trial in study.get_trials(deepcopy=False):
        folder = tuning.folder(trial.number)
        if trial.state.is_finished() and (best is None or trial.number != best.number):
            for name in ("best", "last"):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _best_json(tuning: Tuning, study: optuna.Study) -> dict[str, Any]:
    best = _best(study)
    assert best is not None
    words = best.user_attrs["settings"]
    states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
    return {
        "settings": words,
        "score": best.value,
        "metric": tuning.metric,
        "trial": best.number,
        "run": str(tuning.folder(best.number).relative_to(tuning.out)),
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "config": to_dict(override(tuning.config, words)),
    }


def _report(tuning: Tuning, study: optuna.Study) -> dict[str, Any]:
    if _best(study) is None:
        failed = [t.user_attrs.get("failed", "") for t in study.get_trials(deepcopy=False)]
        raise InputError(f"{tuning.out}: no trial came to its end; the last: {failed[-1]}")
    _keep_best(tuning, study)  # an earlier call may have been killed before it did
    return _best_json(tuning, study)
