"""The folder of a run that trains several members, one after the other, and what is made of them.

RUN/config.json     as of every run, with `train.members` above 1
RUN/members/K/      the run of member K, as if it were trained alone with the seed `train.seed` + K
RUN/checkpoints/    ensemble-*: the members' best weights as one model
RUN/best, RUN/last  links to it, once all members are trained
RUN/log.jsonl       the members' logs, each line with its `member`; a last line of the split
                    "ensemble" has the validation of all together
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contentctr.config import Config, to_dict
from contentctr.errors import InputError
from contentctr.files import atomic, digest, file_sha256, write_text
from contentctr.models.ensemble import Ensemble
from contentctr.score import checkpoint as checkpoints
from contentctr.score import inputs
from contentctr.train.run_folder import read_log, read_position


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of a run's members."""

    number: int
    config: Config
    """As of a run of its own."""
    folder: Path
    """Of its run."""

    @property
    def begun(self) -> bool:
        """Whether there is a run to go on with."""
        return (self.folder / "config.json").is_file()

    @property
    def best(self) -> Path:
        """Its best checkpoint."""
        return (self.folder / "best").resolve()


def run_members(config: Config, out: Path) -> list[Member]:
    """All members of a run.

    Args:
        config: of the run.
        out: its folder.
    """
    return [
        Member(
            number=k,
            # Calibrated is what is told, the mean.
            config=_with_train(config, members=1, seed=config.train.seed + k, calibrate=False),
            folder=out / "members" / str(k),
        )
        for k in range(config.train.members)
    ]


@contextlib.contextmanager
def withdrawn_if_not_begun(out: Path, members: Sequence[Member], *, new: bool) -> Iterator[None]:
    """Leave nothing of a new run whose first member could not begin: nothing could go on with it.

    Args:
        out: the run's folder.
        members: all of them.
        new: whether this process has just written the run's config.json.
    """
    try:
        yield
    except InputError:
        if new and not members[0].begun:
            (out / "config.json").unlink(missing_ok=True)
        raise


def _with_train(config: Config, **changes: object) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))  # type: ignore[arg-type]


def join_members(config: Config, out: Path, members: Sequence[Member]) -> Path:
    """Write the members' best checkpoints as one, point `best` and `last` to it; its folder.

    Args:
        config: of the run.
        out: its folder.
        members: all of them, trained.
    """
    weights = [file_sha256(member.best / "model.safetensors") for member in members]
    # By its content: whoever has loaded a folder that a resumed run has no use for keeps reading.
    folder = out / "checkpoints" / f"ensemble-{digest(to_dict(config), weights)[:12]}"
    if not folder.exists():
        with atomic(folder) as temporary:
            temporary.mkdir()
            _write(temporary, config, members)
    for link in ("best", "last"):
        checkpoints.point_to(out / link, folder)
    checkpoints.prune(out)
    return folder.resolve()


def _write(folder: Path, config: Config, members: Sequence[Member]) -> None:
    found = [checkpoints.load(member.best) for member in members]
    first = found[0]
    started = [x.info["init_from"] for x in found if "init_from" in x.info]
    checkpoints.write(
        folder,
        Ensemble([checkpoint.load_model() for checkpoint in found]),
        # What the settings left to the data is decided alike for all.
        config=dataclasses.replace(first.config, train=config.train),
        spec=first.spec,
        vocabulary=first.vocabulary,
        info={
            "position": [dataclasses.asdict(read_position(member.best)) for member in members],
            **({"init_from": started} if started else {}),
        },
    )
    if (first.folder / inputs.FILE).is_file():
        shutil.copyfile(first.folder / inputs.FILE, folder / inputs.FILE)


def write_joined_log(
    out: Path, members: Sequence[Member], together: Mapping[str, float] | None = None
) -> None:
    """Write the members' logs as the run's.

    Args:
        out: the run's folder.
        members: those that have begun.
        together: metrics of the ensemble's validation, once there is one.
    """
    rows = [
        {"member": member.number, **row}
        for member in members
        for row in read_log(member.folder / "log.jsonl")
    ]
    if together:
        end = {name: max(row[name] for row in rows) for name in ("step", "epoch")}
        rows.append({**end, "split": "ensemble", **together})
    write_text(out / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
