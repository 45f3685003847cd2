"""Run by test_loop.py through accelerate: a step of two processes against one of the whole."""

import json
import sys

import torch
from accelerate import Accelerator

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from contentctr.models.registry import build_model
from contentctr.train.loop import train_step
from contentctr.train.models import ModelObjective
from contentctr.windows.rooms import WindowLoader, sample_windows
from make import make_segments

CONFIG = Config(
    data=DataConfig(window_len=4, short_windows=True),
    model=ModelConfig(d_model=8, num_heads=2, perceiver_layers=1, decoder_layers=1, streamer_dim=4),
    loss=LossConfig(num_negatives=2),
    train=TrainConfig(batch_size=5),
)


def make_model():
    torch.manual_seed(0)
    return build_model(CONFIG, DataSpec(visual_dim=3, text_dim=2), Vocabulary(streamers=["a"]))


def make_pieces(rank, world):
    data = make_segments([7, 2, 3])
    data.target_S[1:4] = torch.nan  # so that the processes have unequal numbers of targets
    data.visual_SV[:] = torch.randn(
        data.visual_SV.shape, generator=torch.Generator().manual_seed(1)
    )
    loader = WindowLoader(
        data=data,
        windows=sample_windows(data, CONFIG.data, "ctr"),
        window_len=4,
        batch_size=5,
        num_negatives=2,
        rank=rank,
        world=world,
        micro_batch_size=2,
    )
    return next(iter(loader.epoch(0)))


def step(model, pieces, accelerator):
    groups = [{"params": list(model.parameters()), "lr": 0.0, "base_lr": 0.0}]
    losses = train_step(
        ModelObjective(CONFIG),
        model,
        torch.optim.SGD(groups),
        pieces,
        step=0,
        total_steps=1,
        accelerator=accelerator,
    )
    return losses, [p.grad.clone() for p in model.parameters()]


class _Alone:
    """What train_step needs of an Accelerator, for one process inside a group of two."""

    process_index, num_processes, device = 0, 1, torch.device("cpu")

    def reduce(self, tensor, how):
        return tensor

    def no_sync(self, model):
        return torch.enable_grad()

    def autocast(self):
        return torch.enable_grad()

    def backward(self, loss):
        loss.backward()


accelerator = Accelerator()
rank, world = accelerator.process_index, accelerator.num_processes
losses, gradients = step(accelerator.prepare(make_model()), make_pieces(rank, world), accelerator)
if accelerator.is_main_process:
    joined_losses, joined = step(make_model(), make_pieces(0, 1), _Alone())
    differences = [(a - b).abs().max().item() for a, b in zip(gradients, joined, strict=True)]
    with open(sys.argv[1], "w") as handle:
        json.dump(
            {
                "world": world,
                "largest_difference": max(differences),
                "largest_gradient": max(g.abs().max().item() for g in joined),
                "losses": losses,
                "joined_losses": joined_losses,
            },
            handle,
        )
accelerator.wait_for_everyone()
accelerator.end_training()
