"""Each distinct segment once: the same outputs and gradients as window by window."""

import dataclasses

import numpy as np
import pytest
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, LossConfig, ModelConfig
from contentctr.models.losses import loss_counts, loss_sums, total_loss
from contentctr.models.registry import MODELS, build_model
from contentctr.score.rooms import score_segments
from contentctr.store.statistics import WIDTH
from contentctr.windows.loader import shuffles
from contentctr.windows.rooms import Windows, curve_windows, gather
from make import make_segments

SIZES = ModelConfig(d_model=16, num_heads=2, perceiver_layers=2, decoder_layers=2, streamer_dim=4)
KNOWN = Vocabulary(streamers=["a"], rooms=["room000"])
SPEC = DataSpec(visual_dim=3, text_dim=2, statistics_dim=WIDTH)
STATISTICS = {"statistics": True, "residual": True}
ROOMS = sorted(kind for kind, model in MODELS.items() if model.task == "rooms")


def make_data():
    # Parts that a model does not ask for do it no harm.
    model = ModelConfig(statistics=True, residual=True)
    data = make_segments([11, 7, 3], streamers=("a",), model=model)
    g = torch.Generator().manual_seed(0)
    size = len(data)
    return dataclasses.replace(
        data,
        visual_SV=torch.randn(size, 3, generator=g).half(),
        text_ST=torch.randn(size, 2, generator=g).half(),
        has_visual_S=torch.rand(size, generator=g) < 0.8,
        has_speech_S=torch.rand(size, generator=g) < 0.7,
    )


def make_model(kind, **changes):
    torch.manual_seed(1)
    sizes = dataclasses.replace(SIZES, kind=kind, **changes)
    return build_model(Config(model=sizes), SPEC, KNOWN)


def both(data):
    windows, _ = curve_windows(data, 5)
    which = np.arange(len(windows))
    hide = (which % 3 == 0, which % 2 == 0)
    order = torch.from_numpy(shuffles(which, windows.length_W, 5, 3, seed=0, epoch=0))
    return [
        dataclasses.replace(
            gather(data, windows, which, 5, shared=shared, hide=hide), shuffles_BKN=order
        )
        for shared in (False, True)
    ]


@pytest.mark.parametrize(
    ("kind", "more"),
    [(kind, {}) for kind in ROOMS]
    + [(kind, STATISTICS) for kind in ROOMS if MODELS[kind].extra_tokens]
    + [("contentctr", {"statistics": True, "wide": True})],
)
def test_outputs_and_gradients_are_those_of_the_windows(kind, more):
    results = []
    for batch in both(make_data()):
        model = make_model(kind, **more)
        output = model(batch)
        config = LossConfig()
        total_loss(loss_sums(output, batch, config), loss_counts(batch), config).backward()
        gradients = [p.grad for p in model.parameters()]
        valid = batch.valid_BN
        results.append(
            (
                [
                    x[valid]
                    for x in (output.logits_BN, output.visual_BND, output.text_BND)
                    if x is not None
                ],
                gradients,
            )
        )
    for windowed, shared in zip(*[outputs for outputs, _ in results], strict=True):
        assert torch.allclose(windowed, shared, atol=1e-6)
    for windowed, shared in zip(*[gradients for _, gradients in results], strict=True):
        assert windowed is not None and torch.allclose(windowed, shared, atol=1e-6)


def test_a_curve_is_scored_from_its_own_windows():
    data, model = make_data(), make_model("contentctr", rotary=True).eval()
    scores = score_segments(model, data, window_len=5, batch_size=7)
    starts, _ = data.room_bounds
    for row in range(len(data)):
        first = max(int(starts[data.room_S[row]]), row - 4)
        alone = Windows(np.array([first]), np.array([row - first + 1]))
        batch = gather(data, alone, np.array([0]), row - first + 1)
        with torch.inference_mode():
            assert abs(model(batch).scores_BN[0, -1].item() - scores[row]) < 1e-6
