"""One day: rooms in, old ones out, encode, train from the candidate, compare, register or not.

RUNS/day-*/day.json           what the day began with; the mark that the folder is ours
RUNS/day-*/run                its run
RUNS/day-*/evaluation, before its model's evaluation, and the one's that it started from
RUNS/candidate                link to the run that is to be rolled out
RUNS/served                   link of the user's to the run that serves, which is never removed
RUNS/candidate.json           which model that is, since when, and why
RUNS/history.jsonl            one line a day

Every step leaves what is done as it is, so a call that was killed is made good by the next one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from contentctr.config import Config, override, to_dict
from contentctr.counting import counted
from contentctr.daily.settings import DailySettings, day_rooms
from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError, NonFiniteLossError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.evaluate.pairs import compare_models
from contentctr.files import digest, read_json, write_json, write_text
from contentctr.outputs import alone
from contentctr.prepare.rooms import prepare_rooms
from contentctr.recipes import recipe
from contentctr.score.checkpoint import Checkpoint, load, point_to, require_live
from contentctr.score.evaluation import read_evaluation
from contentctr.store.folder import MANIFEST
from contentctr.store.rooms import PreparedRooms
from contentctr.store.vectors import data_spec
from contentctr.train.loop import train_model
from contentctr.train.run_folder import read_log

CANDIDATE, SERVED, HISTORY, MARK = "candidate", "served", "history.jsonl", "day.json"
REGISTERED, WORSE, TOO_FEW, FAILED = "registered", "worse", "too few rooms", "failed"
_MADE_BY = "contentctr daily"
_DAY = "day-"


def run_day(
    settings: DailySettings, day: date | None = None, *, show_progress: bool = True
) -> dict[str, Any]:
    """Do what a day needs, or what is left of it.

    Args:
        settings: of `read_settings`.
        day: which; None: yesterday, UTC, the last one that is over.
        show_progress: show bars.

    Returns:
        The day's line of history.jsonl: `date`, `outcome` (registered, worse or too few rooms),
        `why`, and the numbers. Of a day that is done, the line that is there.

    Raises:
        InputError: a step cannot be done; the history has the day as failed, and the same call
            tries again. Or the day is yet to come, or another process is at work on the folder.
    """
    runs = Path(settings.runs)
    today = datetime.now(UTC).date()
    day = today - timedelta(days=1) if day is None else day
    if day > today:
        raise InputError(f"day: must be at most today (UTC), {today}, not {day}")
    with alone(runs, "on a day here"):
        history = read_history(runs)
        known = next((row for row in history if row["date"] == day.isoformat()), None)
        if known is not None and known["outcome"] != FAILED:
            return known
        done = [row["date"] for row in history if row["outcome"] != FAILED]
        later = [date for date in done if date > day.isoformat()]
        if later:
            raise InputError(f"{runs}: the day {later[-1]} is done already; {day} comes before it")
        work = _Day(settings, day, runs / f"{_DAY}{day.isoformat()}", show_progress)
        try:
            row = work.run()
        except (InputError, NonFiniteLossError) as error:
            _note(runs, {"date": day.isoformat(), "outcome": FAILED, "why": str(error)})
            raise
        _note(runs, row)
        _remove_old(runs, settings)
        return row


def read_history(runs: Path) -> list[dict[str, Any]]:
    """The days so far, by date."""
    path = runs / HISTORY
    return sorted(read_log(path), key=lambda row: str(row["date"])) if path.is_file() else []


def _note(runs: Path, row: Mapping[str, Any]) -> None:
    """Write the day's line in place of one that is there."""
    rows = [old for old in read_history(runs) if old["date"] != row["date"]]
    text = "".join(json.dumps(each, allow_nan=False) + "\n" for each in [*rows, row])
    write_text(runs / HISTORY, text)


def _scores(config: Config) -> dict[str, Any]:
    """Which segment a score is of, and whose it is: another kind takes over no weights."""
    return {"horizon": config.data.horizon, "kind": config.model.kind}


@dataclass(frozen=True, kw_only=True)
class _Start:
    """What a day starts from."""

    candidate: str | None
    """The run that is the candidate before the day."""
    about: dict[str, Any] | None
    """What candidate.json says of it."""
    base: Checkpoint | None
    """The candidate's, or that of `init_from`; None: the day's model is the first."""
    noted: Mapping[str, Any]
    """What the day has noted before it was killed."""

    def unlike(self, predicts: Mapping[str, Any]) -> str:
        """In which fields the base predicts something else, in words; "" where in none."""
        if self.base is None:
            return ""
        spec, config = self.base.trained_on, self.base.config
        own = {"target": spec.target, "target_scale": spec.target_scale, **_scores(config)}
        wrong = [name for name, value in predicts.items() if value not in (None, own[name])]
        return ", ".join(f"{name} {own[name]!r} and not {predicts[name]!r}" for name in wrong)


@dataclass(frozen=True)
class _Day:
    """The steps of a day, in their order."""

    settings: DailySettings
    day: date
    folder: Path
    show_progress: bool

    @property
    def runs(self) -> Path:
        return self.folder.parent

    def run(self) -> dict[str, Any]:
        row: dict[str, Any] = {"date": self.day.isoformat()}
        if self.settings.redis or self.settings.service:
            require_live(self._config())
        start = self._start()
        unlike = self._unlike(start)
        data = self._prepare()
        manifest = data.manifest()
        row |= {"rooms": manifest["counts"]["rooms_by_split"], "appended": manifest.get("appended")}
        for split, least in (("train", 1), ("test", self.settings.least_rooms)):
            if row["rooms"][split] < least:
                found = counted(row["rooms"][split], f"{split} room")
                return {**row, "outcome": TOO_FEW, "why": f"{found}, and it needs {least}"}
        self._encode(data)
        unlike = unlike or self._misfit(start, data)
        base = self._begin(data, start)
        best = self._train(data, base)
        after = self._evaluate(best, data, self.folder / "evaluation")
        row |= {"test_rooms": row["rooms"]["test"], "model_id": after["model_id"]}
        row["calibration"] = {k: after["calibration"][k] for k in ("method", "before", "after")}
        if base is None:
            verdict, why = "first", "there was none before it"
        elif unlike:
            verdict, why = "first", f"not compared with {base}, from which it started: {unlike}"
        else:
            before = self._evaluate(base, data, self.folder / "before")
            compared = self._compare(data)
            row |= {"before": before["model_id"], "compared": compared}
            verdict, why = compared["verdict"], _words(compared)
        if verdict in (WORSE, TOO_FEW):
            return {**row, "outcome": verdict, "why": why}
        self._register(row, why)
        return {**row, "outcome": REGISTERED, "why": why}

    def _prepare(self) -> PreparedRooms:
        """Take in the day's rooms; with their dates the split moves on, and old rooms go."""
        day = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        test_from = day - timedelta(days=self.settings.test_days - 1)
        roots = day_rooms(self.settings, self.day)
        if not roots:
            raise InputError(f"rooms: nothing is at {self.settings.rooms} for {self.day}")
        return prepare_rooms(
            roots,
            self.settings.data,
            append=True,
            keep_from=day - timedelta(days=self.settings.keep_days - 1),
            val_from=test_from - timedelta(days=self.settings.val_days),
            test_from=test_from,
            device=self.settings.device,
            show_progress=self.show_progress,
            **self.settings.prepare,
        )

    def _encode(self, data: PreparedRooms) -> None:
        encode_rooms(
            data,
            device=self.settings.device,
            show_progress=self.show_progress,
            **self.settings.encode,
        )

    def _start(self) -> _Start:
        """What the day starts from; of a day that was killed, what it started from then."""
        mark = self.folder / MARK
        noted = read_json(mark) if mark.is_file() else {}
        if noted and self._is_registered():
            # The day registered its model, and was killed before it said so.
            candidate, about = noted["candidate"], noted["candidate_about"]
        else:
            candidate, about = self._candidate()
        if noted and noted["candidate"] == candidate:
            about = noted["candidate_about"]  # the day may have written its own already
        base = None
        if candidate or self.settings.init_from:
            base = load(candidate or self.settings.init_from)
        return _Start(candidate=candidate, about=about, base=base, noted=noted)

    def _unlike(self, start: _Start) -> str:
        """In what the model that the day starts from predicts something else; "" where in nothing.

        Raises:
            InputError: it is the candidate. No room was read yet, so no target is made anew, and
                the setting can be taken back.
        """
        unlike = start.unlike(self._predicts())
        if unlike and start.candidate is not None:
            raise InputError(
                f"{self.runs / CANDIDATE}: leads to a model of {unlike}, so the day's could not be "
                "compared with it; take the setting back, or remove the link: then the next model "
                "is the first again (init_from may name a run, to start from its weights)"
            )
        return unlike

    def _predicts(self) -> dict[str, Any]:
        """What the day's scores will be of; the scale is None where the rooms will decide it."""
        given, before = self.settings.prepare, Path(self.settings.data) / MANIFEST
        kept = read_json(before).get("target_scale") if before.is_file() else None
        return {
            "target": given.get("target", "ctr"),
            "target_scale": given.get("target_scale", kept),
            **_scores(self._config()),
        }

    def _misfit(self, start: _Start, data: PreparedRooms) -> str:
        """Why the model that the day starts from cannot score its rooms; "" where it can.

        Raises:
            InputError: it is the candidate, which the day's model must be compared with.
        """
        if start.base is None:
            return ""
        try:
            start.base.require_fits(data_spec(data, inputs=start.base.finetuned), data.root)
        except InputError as error:
            if start.candidate is not None:
                raise
            return str(error)
        return ""

    def _begin(self, data: PreparedRooms, start: _Start) -> Path | None:
        """Note what the day starts from; what a kill left of other rooms or settings is removed.

        Returns:
            The checkpoint that it starts from; None for the first.
        """
        base = None if start.base is None else str(start.base.folder)
        told = {
            "made_by": _MADE_BY,
            "base": base,
            "data_hash": data.content_hash(),
            "settings": digest(to_dict(self._config()), self.settings.encode),
            "candidate": start.candidate,
            "candidate_about": start.about,
        }
        if start.noted and start.noted != told:
            self._withdraw(start.candidate, start.about)
            for name in ("run", "evaluation", "before"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        write_json(self.folder / MARK, told)
        return None if base is None else Path(base)

    def _config(self) -> Config:
        return override(recipe(self.settings.recipe), self.settings.settings)

    def _candidate(self) -> tuple[str | None, dict[str, Any] | None]:
        """The run that the link leads to, and what candidate.json says of it.

        Raises:
            InputError: the run is gone, so that nothing could be compared with it.
        """
        link, about = self.runs / CANDIDATE, self.runs / f"{CANDIDATE}.json"
        if not link.exists():
            if link.is_symlink():
                raise InputError(
                    f"{link}: leads to a run that is gone; point it to one, or remove it"
                )
            return None, None
        return str(link.resolve()), read_json(about) if about.is_file() else None

    def _is_registered(self) -> bool:
        """Whether the candidate is a run of this day."""
        return (self.runs / CANDIDATE).resolve().is_relative_to(self.folder.resolve())

    def _withdraw(self, candidate: str | None, about: Mapping[str, Any] | None) -> None:
        """Take back what the day has registered before its run is removed."""
        if not self._is_registered():
            return
        link = self.runs / CANDIDATE
        if candidate is None:
            link.unlink()
        else:
            point_to(link, Path(candidate))
        if about is not None:
            write_json(self.runs / f"{CANDIDATE}.json", dict(about))
        else:
            (self.runs / f"{CANDIDATE}.json").unlink(missing_ok=True)

    def _train(self, data: PreparedRooms, base: Path | None) -> Path:
        run = self.folder / "run"
        begun = (run / "config.json").is_file()
        try:
            return train_model(
                self._config(),
                data,
                run,
                resume=begun,
                init_from=None if begun else base,
                device=self.settings.device,
                show_progress=self.show_progress,
            )
        except NonFiniteLossError:
            # Resumed it would end so again: with nothing noted of its settings, it begins anew.
            mark = self.folder / MARK
            write_json(mark, {**read_json(mark), "settings": ""})
            raise

    def _evaluate(self, checkpoint: Path, data: PreparedRooms, out: Path) -> dict[str, Any]:
        return evaluate_model(
            checkpoint, data, out, device=self.settings.device, show_progress=self.show_progress
        )

    def _compare(self, data: PreparedRooms) -> dict[str, Any]:
        new, old = (
            read_evaluation(self.folder / name, "rooms") for name in ("evaluation", "before")
        )
        return compare_models(
            new.predictions,
            old.predictions,
            metric=new.metrics["floors"]["metric"],
            is_label=data.has_label_target(),
        )

    def _register(self, row: Mapping[str, Any], why: str) -> None:
        """Point to the run, and say why; the link last, for it is what is rolled out."""
        write_json(
            self.runs / f"{CANDIDATE}.json",
            {
                "run": str((self.folder / "run").relative_to(self.runs)),
                "date": row["date"],
                "model_id": row["model_id"],
                "why": why,
                "compared": row.get("compared"),
            },
        )
        point_to(self.runs / CANDIDATE, self.folder / "run")


def rollout_hint(settings: DailySettings) -> str:
    """How the candidate comes to where rooms are live; "" where the settings name no place."""
    runs = Path(settings.runs)
    if settings.redis:
        return (
            f"roll it out: contentctr worker {runs / CANDIDATE} --redis {settings.redis}\n"
            f"then: contentctr rollout promote --redis {settings.redis}"
        )
    if settings.service:
        return (
            f'roll it out: POST {{"name": "{CANDIDATE}"}} to '
            f"{settings.service.rstrip('/')}/v1/models; its --models must be {runs}"
        )
    return ""


def _words(compared: Mapping[str, Any]) -> str:
    """What a comparison says, in plain words."""
    metric = compared["metric"]
    parts = [f"{compared['verdict']} on {counted(compared['rooms'], 'room')}"]
    for name in (metric, "log_loss"):
        of = compared[name]
        if of["difference"] is None:
            continue
        limits = of["interval"]
        shown = "" if limits is None else f" ({limits[0]:+.4f} to {limits[1]:+.4f})"
        parts.append(f"{name} {of['old']:.4f} -> {of['new']:.4f}, {of['difference']:+.4f}{shown}")
    return "; ".join(parts)


def _remove_old(runs: Path, settings: DailySettings) -> None:
    """Remove days' folders but the last ones and those in use; only those that daily made."""
    used = [(runs / name).resolve() for name in (CANDIDATE, SERVED, *settings.keep)]
    days = sorted(path for path in runs.glob(f"{_DAY}*") if _is_ours(path))
    for folder in days[: -settings.keep_runs]:
        if not any(path.is_relative_to(folder.resolve()) for path in used):
            shutil.rmtree(folder)


def _is_ours(folder: Path) -> bool:
    mark = folder / MARK
    if folder.is_symlink() or not mark.is_file():
        return False
    try:
        return read_json(mark).get("made_by") == _MADE_BY
    except InputError:
        return False
