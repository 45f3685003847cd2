"""Recipes: functions that return a Config, by name. The paper's values are config.py's defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from contentctr.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
    from_dict,
    to_dict,
)
from contentctr.errors import InputError, near, require


def paper() -> Config:
    """The paper's model and training (Section 4.3.2)."""
    return Config()


def small() -> Config:
    """A small model with rotary positions, for some thousand segments: a minute on two cores."""
    return Config(
        data=DataConfig(min_viewers=10, short_windows=True),
        model=ModelConfig(
            d_model=96,
            num_heads=4,
            perceiver_layers=2,
            decoder_layers=2,
            streamer_dim=32,
            dropout=0.2,
            feature_dropout=0.6,
            rotary=True,
        ),
        train=TrainConfig(
            epochs=8,
            batch_size=32,
            learning_rate=1e-3,
            weight_decay=0.01,
            schedule="cosine",
            warmup_steps=50,
            max_grad_norm=1.0,
            patience=4,
        ),
    )


def live() -> Config:
    """For real rooms: what proved best on broadcasts, chats and films (docs/tables/real.md).

    Statistics of earlier segments with a linear part, standardised features of which most are left
    out at a time, the point loss alone, and a model small enough that some ten thousand segments
    are not learned by heart.
    """
    base = small()
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, window_len=8, stride=6),
        model=dataclasses.replace(
            base.model,
            d_model=32,
            num_heads=2,
            perceiver_layers=1,
            decoder_layers=1,
            dropout=0.0,
            statistics=True,
            wide=True,
            feature_dropout=0.8,
            standardise=True,
        ),
        loss=LossConfig(align_weight=0, pair="none"),
        train=dataclasses.replace(
            base.train,
            epochs=20,
            batch_size=128,
            learning_rate=2e-3,
            warmup_steps=20,
            patience=0,
        ),
    )


def moments() -> Config:
    """For moments that are spoken of: rare labels on segments of 10 s (docs/tables/real.md).

    Labels are spans of a minute from the moment on, so a segment's label says whether there was one
    in the minute that ends with it. A segment sees three minutes; windows hold six, so that most of
    their segments have all they may see and each is in two windows. The statistics tell how far on
    a room is, also where nothing is counted in it. Words find most of them; beside these the model
    is small, and sees little of the features at a time, since a larger one learns them by heart.
    """
    base = small()
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, window_len=36, stride=18),
        model=dataclasses.replace(
            base.model,
            kind="without_visual",
            d_model=32,
            perceiver_layers=1,
            decoder_layers=1,
            decoder_lookback="18",
            standardise=True,
            feature_dropout=0.8,
            statistics=True,
            words=True,
            prior=0.0,
        ),
        loss=LossConfig(align_weight=0, pair="none"),
        train=dataclasses.replace(
            base.train,
            epochs=4,
            batch_size=16,
            learning_rate=2e-3,
            warmup_steps=20,
            patience=0,
        ),
    )


def tables() -> Config:
    """A smaller model still, to train the paper's tables many times over on some 600 rooms."""
    base = small()
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, stride=10, short_windows=False),
        model=dataclasses.replace(base.model, d_model=64, dropout=0.1, feature_dropout=0.1),
        train=dataclasses.replace(base.train, epochs=10, patience=0),
    )


def highlights() -> Config:
    """The paper's ContentCTR-HL and its training (Section 4.3.2), with positions (`rotary`).

    L_point and L_align alone: the pairwise loss of Eq. 10-13 is off, and its weight is for models
    that bring their own (PR-Net).
    """
    return Config(
        data=DataConfig(window_len=192),
        model=ModelConfig(kind="contentctr_hl", rotary=True),
        loss=LossConfig(pair="none"),
        train=TrainConfig(epochs=20, batch_size=8, schedule="cosine"),
    )


def highlights_small() -> Config:
    """A small ContentCTR-HL, for some hundred users on two cores."""
    base = highlights()
    return dataclasses.replace(
        base,
        model=dataclasses.replace(
            base.model,
            d_model=64,
            num_heads=4,
            perceiver_layers=1,
            decoder_layers=2,
            dropout=0.1,
            feature_dropout=0.1,
        ),
        train=dataclasses.replace(
            base.train,
            epochs=15,
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup_steps=50,
            max_grad_norm=1.0,
        ),
    )


RECIPES: dict[str, Callable[[], Config]] = {
    "paper": paper,
    "small": small,
    "live": live,
    "moments": moments,
    "tables": tables,
    "highlights": highlights,
    "highlights_small": highlights_small,
}


def recipe(name: str) -> Config:
    """The recipe called `name`, or the settings that a file holds.

    Args:
        name: of RECIPES; or a .json file: what `tune` found, or a run's config.json.

    Raises:
        InputError: there is none of that name, or the file holds no settings.
    """
    if name.endswith(".json"):
        from contentctr.files import read_json  # brings Polars, which no other recipe needs

        found = read_json(Path(name))
        values = found.get("config", found)
        require(isinstance(values, dict), f"{name}: config", "an object of settings", values)
        blocks = {key: values[key] for key in to_dict(Config()) if key in values}
        if not blocks:
            raise InputError(f"{name}: holds no settings of a run")
        return from_dict(Config, blocks, where=name)
    if name not in RECIPES:
        raise InputError(
            f"recipe must be one of {', '.join(sorted(RECIPES))}, not {name!r}{near(name, RECIPES)}"
        )
    return RECIPES[name]()
