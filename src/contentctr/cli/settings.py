"""The settings of `train`: what there is, what it may be, and what recipes make of it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from contentctr.recipes import RECIPES
from contentctr.settings import (
    Setting,
    all_settings,
    differences,
    find_settings,
    recipe_summaries,
    show_setting,
)


class WithSettings(TyperCommand):
    """A command whose --help ends with the settings that it takes as KEY=VALUE."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As TyperCommand has it, and the settings."""
        super().format_help(ctx, formatter)
        sys.stdout.flush()
        print("Settings, with the paper's values (`contentctr settings` says more):\n")
        print("\n".join(_lines(all_settings(), short=True)))


def settings(
    word: Annotated[
        str | None, typer.Argument(help="Of a setting's name, or of what it means.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help=f"In what it differs from the paper's: {', '.join(sorted(RECIPES))}.",
        ),
    ] = None,
) -> None:
    """Every setting of a model and its training: default, range, meaning; and the recipes."""
    if word is not None:
        found = find_settings(word, recipe or "paper")
    else:
        found = all_settings() if recipe is None else differences(recipe)
    if recipe is not None:
        summary = recipe_summaries().get(recipe, "")
        print(f"{recipe}: {summary}")
        if word is None:
            print("It differs from the recipe paper in:" if found else "It is the default.")
        print()
    print("\n".join(_lines(found, short=word is None)))
    if word is None and recipe is None:
        print("\nRecipes (what differs: contentctr settings --recipe NAME):")
        print("\n".join(_wrapped(f"{n}: {text}", 2) for n, text in recipe_summaries().items()))


def _lines(found: list[Setting], *, short: bool) -> list[str]:
    """Two lines a setting: its value and range, and under it what it means."""
    lines = []
    for setting in found:
        allowed = _allowed(setting, short=short)
        notes = [f"paper: {show_setting(setting.paper)}"] if setting.value != setting.paper else []
        notes += [allowed] if allowed else []
        after = f"  ({'; '.join(notes)})" if notes else ""
        lines.append(f"{setting.name} = {show_setting(setting.value)}{after}")
        lines.append(_wrapped(setting.summary if short else setting.text, 4))
    return lines


def _allowed(setting: Setting, *, short: bool) -> str:
    if setting.name != "model.kind" or short:
        return setting.allowed
    from contentctr.models.registry import MODELS  # brings torch: for who asks for it alone

    return " or ".join(MODELS)


def _wrapped(text: str, indent: int) -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    margin = " " * indent
    return textwrap.fill(text, width, initial_indent=margin, subsequent_indent=margin)
