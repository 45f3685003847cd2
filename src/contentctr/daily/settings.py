"""What `contentctr daily` is told: a TOML or JSON file."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

from contentctr.config import FrameChoice
from contentctr.errors import InputError
from contentctr.files import read_json
from contentctr.prepare.targets import TargetScale
from contentctr.score.hub import is_hub_name

_MOST_BYTES = 1 << 20
_DAY_FOLDER = re.compile(r"day-\d{4}-\d\d-\d\d")
DAY = "{date}"
"""In `rooms`: the day, as 2026-05-31."""
PREPARE = {
    "target": str,
    "target_scale": str,
    "comment_lag": int,
    "labels": str,
    "long_view_seconds": float,
    "segment_seconds": float,
    "frames_per_segment": int,
    "skip_bad_rooms": bool,
    "asr": str,
    "language": str,
    "ray": str,
}
"""Options of `prepare rooms` that may be set."""
ENCODE = {
    "visual": str,
    "text": str,
    "text_pooling": str,
    "text_prefix": str,
    "max_text_tokens": int,
    "frames": str,
    "batch_size": int,
    "sound": bool,
    "engine": str,
    "ray": str,
}
"""Options of `encode` that may be set."""


@dataclass(frozen=True, kw_only=True)
class DailySettings:
    """Paths are relative to the file's folder."""

    rooms: str
    """Folder, or pattern, of the room folders of a day; {date} stands for the day. The folders of
    all days that are kept are read."""
    data: str
    """Prepared folder, which grows and shrinks."""
    runs: str
    """Folder of the days' runs, history.jsonl and the link `candidate`."""
    recipe: str = "small"
    """Of `train`."""
    settings: list[str] = field(default_factory=list)
    """Its KEY=VALUE words."""
    init_from: str = ""
    """Run that the first day starts from, or hf://OWNER/NAME; "": from nothing."""
    test_days: int = 1
    """The last so many days' rooms are tested on."""
    val_days: int = 1
    """Rooms of so many days before are validated and calibrated on."""
    keep_days: int = 30
    """Rooms that are older are dropped, their features too."""
    keep_runs: int = 7
    """Older days' runs are removed, but for the candidate's, and the one RUNS/served leads to."""
    keep: list[str] = field(default_factory=list)
    """Days' folders that are not removed, such as day-2026-05-31."""
    least_rooms: int = 10
    """Of fewer test rooms nothing is concluded."""
    device: str = "auto"
    """Where to compute: cpu, cuda."""
    prepare: dict[str, Any] = field(default_factory=dict)
    """Of PREPARE."""
    encode: dict[str, Any] = field(default_factory=dict)
    """Of ENCODE."""
    redis: str = ""
    """The fleet that the candidate is for, to say how to roll it out."""
    service: str = ""
    """The service that the candidate is for, likewise."""

    def check(self, where: Path) -> None:
        """Stop at a setting out of its range.

        Raises:
            InputError: names the file, the setting, the rule and the value.
        """
        for name in ("test_days", "val_days", "keep_runs", "least_rooms"):
            if getattr(self, name) < 1:
                raise InputError(f"{where}: {name} must be at least 1, not {getattr(self, name)}")
        for name in self.keep:
            if not _DAY_FOLDER.fullmatch(name):
                raise InputError(f"{where}: keep must name folders as day-2026-05-31, not {name!r}")
        least = self.test_days + self.val_days + 1
        if self.keep_days < least:
            raise InputError(
                f"{where}: keep_days must be at least {least}, those of test and validation and "
                f"one to train on, not {self.keep_days}"
            )
        for block, allowed in (("prepare", PREPARE), ("encode", ENCODE)):
            _require_block(f"{where}: {block}", getattr(self, block), allowed)


def read_settings(path: Path) -> DailySettings:
    """The settings in a .toml or .json file, paths made absolute.

    Raises:
        InputError: names the file, the setting, the rule and the value.
    """
    values = _read(path)
    hints = get_type_hints(DailySettings)
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"{path}: has no setting {name!r}; there are {', '.join(hints)}")
        if not _fits(value, hints[name]):
            raise InputError(f"{path}: {name} must be {_WORDS[hints[name]]}, not {value!r}")
    fields = dataclasses.fields(DailySettings)
    for needed in (f for f in fields if f.default is f.default_factory is dataclasses.MISSING):
        if not values.get(needed.name):
            raise InputError(f"{path}: {needed.name} is missing")
    found = DailySettings(**values)
    found.check(path)
    home = path.absolute().parent
    paths: dict[str, Any] = {name: str(home / values[name]) for name in ("rooms", "data", "runs")}
    if found.init_from and not is_hub_name(found.init_from):
        paths["init_from"] = str(home / found.init_from)
    # A recipe, an encoder, a recogniser may be a name, too.
    paths["recipe"] = _if_there(home, found.recipe)
    for block, names in (("prepare", ("labels", "asr")), ("encode", ("visual", "text"))):
        given: Mapping[str, Any] = getattr(found, block)
        places = {name: _if_there(home, given[name]) for name in names if name in given}
        paths[block] = {**given, **places}
    return dataclasses.replace(found, **paths)


def _if_there(home: Path, name: str) -> str:
    """The path of a file or folder, where there is one of the name; else the name."""
    return str(home / name) if (home / name).exists() else name


def day_rooms(settings: DailySettings, day: date) -> list[Path]:
    """Folders in which rooms are looked for; none where the day has none yet.

    Those of all days that are kept: a room may come after its day was done.

    Raises:
        InputError: a relative part of the pattern is none.
    """
    if DAY not in settings.rooms:
        return _places(settings.rooms)
    days = [day - timedelta(days=n) for n in range(settings.keep_days)]
    found = [_places(settings.rooms.replace(DAY, each.isoformat())) for each in days]
    return [place for places in found for place in places] if found[0] else []


def _places(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        return [path]
    try:
        found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"rooms: {pattern}: not a pattern ({error})") from None
    return [place for place in found if place.is_dir()]


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return read_json(path)
    if path.suffix != ".toml":
        raise InputError(f"{path}: must be a .toml or .json file")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise InputError(f"{path}: must have at most {_MOST_BYTES} bytes")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise InputError(f"{path}: not a readable file ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML: {error}") from None


_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list[str]: "a list of texts",
    dict[str, Any]: "a table",
}


def _fits(value: object, kind: Any) -> bool:
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(word, str) for word in value)
    if kind == dict[str, Any]:
        return isinstance(value, dict)
    if kind in (int, float):
        numbers = int if kind is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, kind)


def _require_block(where: str, block: Mapping[str, Any], allowed: Mapping[str, Any]) -> None:
    for name, value in block.items():
        if name not in allowed:
            raise InputError(f"{where} has no option {name!r}; there are {', '.join(allowed)}")
        if not _fits(value, allowed[name]):
            raise InputError(f"{where}.{name} must be {_WORDS[allowed[name]]}, not {value!r}")
    for name, options in _CHOICES.items():
        if name in block and block[name] not in options:
            raise InputError(f"{where}.{name} must be {' or '.join(options)}, not {block[name]!r}")


_CHOICES = {"target_scale": get_args(TargetScale), "frames": get_args(FrameChoice)}
