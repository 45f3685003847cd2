"""Personalized highlights: stretches of users' videos, validated by mAP (Section 4.1.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config
from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.metrics.average_precision import mean_over_users
from contentctr.score.personal import score_videos
from contentctr.store.personal import PreparedPersonal
from contentctr.train.task import Process, loader_settings
from contentctr.windows.personal import StretchLoader, UserSamples, training_stretches


class PersonalTask:
    """A prepared and encoded folder of personalized highlights as a Task.

    Args:
        data: the folder; training users must be in it, validation users may be missing.
    """

    name = PreparedPersonal.task
    score = "map"

    def __init__(self, data: PreparedPersonal) -> None:
        self.data, self.root = data, data.root

    @cached_property
    def samples(self) -> UserSamples:
        """All users; the store is looked through once."""
        return UserSamples(self.data)

    def spec(self, config: Config) -> DataSpec:
        """As Task has it; a setting that frames of videos cannot have is refused."""
        _require_settings(config)
        return self.samples.spec

    def data_hash(self) -> str:
        """Of the four tables."""
        return digest(sorted(self.data.manifest()["hashes"].items()))

    def vocabulary(self, config: Config) -> tuple[Config, Vocabulary]:
        """Nobody is known by name: a user is what the history shows."""
        return config, Vocabulary(streamers=[])

    def load(
        self, config: Config, vocabulary: Vocabulary, process: Process
    ) -> tuple[StretchLoader, Validation]:
        """As Task has it; trained on are the stretches that hold a highlight."""
        users = self.samples.only("train")
        segments = training_stretches(users, config.data.window_len)
        if not segments:
            raise InputError(f"{self.root}: must have users in its split train, and has none")
        settings = loader_settings(config, process)
        loader = StretchLoader(videos=users, stretches=segments, **settings)
        return loader, Validation(self.samples.only("val"), config)


@dataclass(frozen=True)
class Validation:
    """mAP over the whole videos of the validation users."""

    users: UserSamples
    config: Config

    def __call__(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """`map` and the other means of `mean_over_users`; nothing where there is none."""
        users, numbers = self.users, range(len(self.users))
        scores = score_videos(
            model,
            users,
            numbers,
            window_len=self.config.data.window_len,
            batch_size=self.config.train.batch_size,
            device=device,
        )
        labels = [users.labels(user) for user in numbers]
        found = mean_over_users(labels, list(scores), frame_rate=users.frame_rate)
        if math.isnan(found["map"]):
            return {}
        return {name: value for name, value in found.items() if name.startswith("map")}

    def calibration(self, model: nn.Module, device: torch.device) -> None:
        """None: a frame's score orders the frames of one user's video, and no more."""


def _require_settings(config: Config) -> None:
    """Stop at a setting that asks for what frames of videos cannot have."""
    for name, taken in (
        ("loss.positive_weight", config.loss.positive_weight == 0),
        ("model.prior", config.model.prior == 0),
    ):
        if taken:
            raise InputError(f"{name}=0 is for rooms: give a number for personalized highlights")
    for name, value, wanted in (
        ("data.horizon", config.data.horizon, 0),
        ("data.stride", config.data.stride, 1),
        ("train.block", config.train.block, 1),
        ("train.finetune_encoders", config.train.finetune_encoders, False),
        ("model.standardise", config.model.standardise, False),
        ("model.streamer_table", config.model.streamer_table, ""),
    ):
        if value != wanted:
            raise InputError(
                f"{name} must be {wanted!r} for personalized highlights, not {value!r}"
            )
