import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest

from contentctr.config import Config, Range, override, to_dict
from contentctr.errors import InputError, near
from contentctr.recipes import RECIPES, paper, recipe
from contentctr.settings import (
    all_settings,
    differences,
    find_settings,
    recipe_summaries,
    show_setting,
)


def test_every_setting_is_listed_with_its_meaning_and_the_papers_value():
    found = {setting.name: setting for setting in all_settings()}
    values = to_dict(paper())
    assert set(found) == {f"{part}.{name}" for part, block in values.items() for name in block}
    for part, block in get_type_hints(Config).items():
        for field in fields(block):
            setting = found[f"{part}.{field.name}"]
            assert setting.text and setting.value == field.default
            assert setting.summary.endswith(".") and setting.text.startswith(setting.summary)


def test_what_is_listed_is_what_override_takes():
    for setting in all_settings():
        if setting.name != "model.streamer_table":
            word = f"{setting.name}={show_setting(setting.value)}".replace('=""', "=")
            assert override(paper(), [word]) == paper(), word


def ranged():
    for part, block in get_type_hints(Config).items():
        for name, kind in get_type_hints(block, include_extras=True).items():
            for inner in (kind, *getattr(kind, "__args__", ())):
                rules = [r for r in getattr(inner, "__metadata__", ()) if isinstance(r, Range)]
                yield from ((f"{part}.{name}", rule) for rule in rules)


@pytest.mark.parametrize(("name", "rule"), list(ranged()), ids=str)
def test_the_range_that_is_listed_is_the_one_that_is_checked(name, rule):
    (setting,) = [s for s in all_settings() if s.name == name]
    assert str(rule) in setting.allowed
    outside = [rule.low if rule.above_low else rule.low - 1]
    if rule.high < float("inf"):
        outside.append(rule.high if rule.below_high else rule.high + 1)
    for value in outside:
        with pytest.raises(InputError, match=f"{name} must be ") as error:
            override(paper(), [f"{name}={value:g}"])
        assert f"must be {setting.allowed}, not" in str(error.value)


def test_a_word_finds_names_first_and_meanings_where_no_name_has_it():
    names = [setting.name for setting in find_settings("dropout")]
    assert names == ["model.dropout", "model.feature_dropout", "ids.deep_dropout"]
    assert [setting.name for setting in find_settings("InfoNCE")] == ["loss.temperature"]
    with pytest.raises(InputError, match="no setting has 'epchs'; did you mean 'train.epochs'"):
        find_settings("epchs")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_differences_are_all_that_makes_a_recipe(name):
    words = [f"{s.name}={show_setting(s.value)}" for s in differences(name)]
    assert override(paper(), words) == recipe(name)
    assert recipe_summaries()[name].endswith(".")


def test_unknown_names_are_answered_with_the_near_ones():
    with pytest.raises(InputError, match="not 'smal'; did you mean 'small'?"):
        recipe("smal")
    with pytest.raises(InputError, match="must be one of constant, cosine.*did you mean 'cosine'"):
        override(paper(), ["schedule=cosin"])
    with pytest.raises(InputError, match="did you mean 'model.dropout' or 'ids.deep_dropout'"):
        override(paper(), ["droput=0.1"])
    assert near("xyz", ["paper"]) == ""


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "contentctr", *words], capture_output=True, text=True, check=False
    )


def test_the_command_lists_settings_and_so_does_the_help_of_train():
    listed = command("settings").stdout
    helped = command("train", "--help").stdout
    for setting in all_settings():
        assert f"\n{setting.name} = {show_setting(setting.value)}" in f"\n{listed}"
        assert f"\n{setting.name} = " in helped
    assert "  small: A small model" in listed
    small = command("settings", "--recipe", "small").stdout
    assert "train.epochs = 8  (paper: 12; at least 1)" in small and "train.seed" not in small
    assert "self_attention_plain" in command("settings", "kind").stdout
    wrong = command("settings", "epchs")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
