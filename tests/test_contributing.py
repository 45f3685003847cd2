"""The example model of CONTRIBUTING.md does what the page says."""

import re
from pathlib import Path

import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, ModelConfig
from contentctr.score.rooms import score_segments
from make import make_batch, make_segments

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


def test_the_example_model_scores_and_overfits_one_batch():
    found: dict = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)[0], found)
    torch.manual_seed(0)
    config = Config(model=ModelConfig(d_model=32, num_heads=2))
    known = Vocabulary(streamers=["a"])
    model = found["ContentMean"](config, DataSpec(visual_dim=6, text_dim=4), known)
    data = make_segments([5], v=6, t=4)
    assert score_segments(model, data, window_len=3).shape == (5,)
    batch = make_batch(b=4, n=6, seed=4, missing=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(500):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            model(batch).logits_BN, batch.target_BN
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(batch).scores_BN - batch.target_BN).abs().max() < 0.02
