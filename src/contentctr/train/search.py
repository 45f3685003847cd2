"""Which settings a tuning tries: the words `key=low:high[:log|:step]` and `key=a,b,c`."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any, get_args, get_origin, get_type_hints

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from contentctr.config import Config, find_setting, override
from contentctr.errors import InputError
from contentctr.models.registry import reads_content

Space = dict[str, BaseDistribution]


def default_search(config: Config) -> list[str]:
    """What is tried where the user does not say: the learning rate, and against overfitting.

    Args:
        config: the recipe's settings.
    """
    rate = config.train.learning_rate
    words = [
        f"train.learning_rate={rate / 5:g}:{rate * 5:g}:log",
        "train.weight_decay=0.0001:0.1:log",
    ]
    if reads_content(config.model):
        return [*words, "model.dropout=0:0.5", "model.feature_dropout=0:0.7"]
    return [*words, "ids.deep_dropout=0:0.5"]


def parse_search(words: Sequence[str], config: Config) -> Space:
    """The space that words describe, each end of which the settings allow.

    Args:
        words: such as model.dropout=0:0.5, train.learning_rate=1e-5:1e-3:log,
            train.batch_size=16:64:16 or loss.pair=L1,L3; a key may lack its block's name.
        config: the settings that all trials share.

    Raises:
        InputError: names the word, and what is wrong with it.
    """
    space: Space = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not text:
            raise InputError(f"--search must be of the form KEY=LOW:HIGH or KEY=A,B, not {word!r}")
        name = find_setting(key)
        if name == "train.members":
            raise InputError(f"--search {word}: every trial trains one member")
        if name in space:
            raise InputError(f"--search {word}: {name} is searched twice")
        space[name] = _distribution(word, _number_type(name), text)
        for end in _ends(space[name]):
            _require_allowed(config, word, name, end)
    return space


def _number_type(name: str) -> type[int] | type[float] | None:
    """Int or float where the setting is a number; None where it is text, a word or a switch."""
    part, field = name.split(".")
    kind = get_type_hints(get_type_hints(Config)[part])[field]
    if get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    return kind if kind in (int, float) else None


def _distribution(word: str, kind: type[int] | type[float] | None, text: str) -> BaseDistribution:
    if ":" not in text or kind is None:
        return CategoricalDistribution(text.split(","))
    low, high, *rest = text.split(":")
    rule = f"--search {word}: must be LOW:HIGH, LOW:HIGH:log or LOW:HIGH:STEP"
    if len(rest) > 1:
        raise InputError(rule)
    log = rest == ["log"]
    try:
        ends: Any = kind(low), kind(high)
        step: Any = kind(rest[0]) if rest and not log else None
        if kind is int:
            return IntDistribution(ends[0], ends[1], log=log, step=step or 1)
        return FloatDistribution(ends[0], ends[1], log=log, step=step)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{rule}, of type {kind.__name__} ({error})") from None


def _ends(space: BaseDistribution) -> list[Any]:
    if isinstance(space, CategoricalDistribution):
        return list(space.choices)
    assert isinstance(space, IntDistribution | FloatDistribution)
    return [space.low, space.high]


def _require_allowed(config: Config, word: str, name: str, value: Any) -> None:
    """A value must be allowed by its own range; beside others that are tried it may be refused."""
    try:
        override(config, [f"{name}={value}"])
    except InputError as error:
        # A rule for two settings, such as a width and its heads, may hold for other pairs.
        if f"{name} must be" in str(error) and "multiple of" not in str(error):
            raise InputError(f"--search {word}: {error}") from None
