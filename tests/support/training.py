"""What several tests share, taken out of test_train."""

import dataclasses

import torch

from contentctr.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from contentctr.score.weights import load_tensors
from contentctr.train.loop import train_step

TINY = Config(
    data=DataConfig(window_len=4, min_viewers=1),
    model=ModelConfig(
        d_model=8, num_heads=2, perceiver_layers=1, decoder_layers=1, streamer_dim=4, dropout=0.1
    ),
    loss=LossConfig(num_negatives=2),
    train=TrainConfig(epochs=2, batch_size=7, learning_rate=1e-2),
)


def with_train(config=TINY, **changes):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def weights(run, name="last"):
    return load_tensors(run / name / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Stop(Exception):
    """Ends a training where a kill might."""


def stopping_at(stop_at):
    """`train_step` that does so many steps, then stops."""
    steps = 0

    def step(*args, **kwargs):
        nonlocal steps
        if steps == stop_at:
            raise Stop
        steps += 1
        return train_step(*args, **kwargs)

    return step
