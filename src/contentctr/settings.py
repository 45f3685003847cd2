"""Every setting of a Config, described by the docstrings and the ranges in config.py."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

from contentctr.config import Config, near_setting, setting_range, to_dict
from contentctr.errors import InputError
from contentctr.recipes import RECIPES, recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that `train` takes as `key=value`."""

    name: str
    """With its block's before it, as train.epochs."""
    value: Any
    """Of the recipe that was asked for."""
    paper: Any
    """Of the paper's recipe, which is the default."""
    allowed: str
    """What it may be, in words; "": any text."""
    text: str
    """What it means."""

    @property
    def summary(self) -> str:
        """Its first sentence."""
        return re.split(r"(?<=\.)\s", self.text, maxsplit=1)[0]


def all_settings(recipe_name: str = "paper") -> list[Setting]:
    """All settings with their values in a recipe, in the order of config.py.

    Raises:
        InputError: there is no such recipe.
    """
    values, paper = to_dict(recipe(recipe_name)), to_dict(recipe("paper"))
    return [
        Setting(
            name=f"{part}.{name}",
            value=values[part][name],
            paper=paper[part][name],
            allowed=setting_range(kind),
            text=text,
        )
        for part, block in get_type_hints(Config).items()
        for name, kind, text in _described(block)
    ]


def find_settings(word: str, recipe_name: str = "paper") -> list[Setting]:
    """The settings whose name has a word in it; where none has, those whose meaning has.

    Raises:
        InputError: none has; names the nearest.
    """
    known = all_settings(recipe_name)
    found = [s for s in known if word.lower() in s.name.lower()]
    found = found or [s for s in known if word.lower() in s.text.lower()]
    if not found:
        raise InputError(f"no setting has {word!r}{near_setting(word, [s.name for s in known])}")
    return found


def differences(recipe_name: str) -> list[Setting]:
    """The settings in which a recipe is not the paper's.

    Raises:
        InputError: there is no such recipe.
    """
    return [s for s in all_settings(recipe_name) if s.value != s.paper]


def recipe_summaries() -> dict[str, str]:
    """Each recipe's first line."""
    return {name: (make.__doc__ or "").splitlines()[0] for name, make in RECIPES.items()}


def show_setting(value: Any) -> str:
    """A value as it is written after `key=`."""
    if isinstance(value, bool | None):
        return str(value).lower()
    return '""' if value == "" else str(value)


def _described(block: type) -> Iterator[tuple[str, Any, str]]:
    """Each field's name, type and docstring, which Python itself forgets."""
    hints = get_type_hints(block, include_extras=True)
    body = ast.parse(inspect.getsource(block)).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            yield field.target.id, hints[field.target.id], " ".join(str(after.value.value).split())
