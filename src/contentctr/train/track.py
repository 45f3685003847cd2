"""Experiment trackers that a run's numbers go to as well, through accelerate.

A tracker is a package of its own, and may send what it gets to a service: none is used unless its
name is given. RUN/log.jsonl and RUN/tensorboard are always written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

from contentctr.config import Config, to_dict
from contentctr.errors import InputError, near

Tracker: TypeAlias = "str | GeneralTracker"
TENSORBOARD = "tensorboard"
PROJECT = "contentctr"


def require_trackers(track: Sequence[Tracker]) -> None:
    """Stop at a tracker that accelerate does not know, or would leave out silently.

    Args:
        track: names of accelerate's trackers, such as mlflow or wandb, of trackers registered with
            it, or trackers themselves.

    Raises:
        InputError: names it.
    """
    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    installed = {str(name) for name in get_available_trackers()}
    builtin = {name for name in known if _module(name).startswith("accelerate.")}
    for name in track:
        if isinstance(name, GeneralTracker):
            continue
        if name not in known:
            raise InputError(
                f"--track must be one of {', '.join(known)}, not {name!r}{near(name, known)}"
            )
        if name in builtin - installed:
            raise InputError(f"--track {name}: the package is not installed: pip install {name}")


def _module(name: str) -> str:
    """The module that a tracker is from."""
    return str(LOGGER_TYPE_TO_CLASS[name].__module__)


def beside_tensorboard(track: Sequence[Tracker]) -> list[Tracker]:
    """What accelerate is to start: TensorBoard's files are the run folder's own."""
    return [tracker for tracker in dict.fromkeys(track) if tracker != TENSORBOARD]


def start_trackers(accelerator: Accelerator, name: str, config: Config) -> None:
    """Begin the run in every tracker, with its settings.

    Args:
        accelerator: made with the trackers as `log_with`.
        name: of the run.
        config: of the run.
    """
    if not accelerator.log_with:
        return
    accelerator.init_trackers(
        PROJECT,
        config={
            f"{part}.{key}": "none" if value is None else value
            for part, block in to_dict(config).items()
            for key, value in block.items()
        },
        init_kwargs=_named(name),
    )


def _named(name: str) -> dict[str, dict[str, Any]]:
    """How each tracker that can is told the run's name; the others number their runs."""
    return {
        "wandb": {"name": name},
        "mlflow": {"run_name": name},
        "trackio": {"name": name},
        "swanlab": {"experiment_name": name},
    }
