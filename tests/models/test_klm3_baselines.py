"""The benchmark's models: who sees whom. (test_model.py and test_leakage.py ask the rest.)"""

import pytest
import torch

from contentctr.config import ModelConfig
from contentctr.models.klm3_baselines import (
    GRU,
    CausalTransformer,
    HierarchicalTransformer,
    SegmentMLP,
    chunk_masks,
)

SIZES = ModelConfig(d_model=8, num_heads=2, decoder_layers=2)


def test_chunk_masks_by_hand():
    inside, across = chunk_masks(12)
    assert inside[6].nonzero()[:, 0].tolist() == [5, 6]
    assert inside[11].nonzero()[:, 0].tolist() == [10, 11]
    assert across[6].nonzero()[:, 0].tolist() == [4, 6]
    assert across[11].nonzero()[:, 0].tolist() == [4, 9, 11]
    assert across[3].nonzero()[:, 0].tolist() == [3]


@pytest.mark.parametrize("kind", [SegmentMLP, GRU, CausalTransformer, HierarchicalTransformer])
def test_each_position_moves_itself_and_the_future_alone(kind):
    torch.manual_seed(0)
    model = kind(SIZES).eval()
    x = torch.randn(2, 13, 8)
    before = model(x)
    for changed in range(13):
        other = x.clone()
        other[:, changed] = torch.randn(2, 8)
        moved = (model(other) != before).any(-1).any(0).nonzero()[:, 0].tolist()
        assert moved == ([changed] if kind is SegmentMLP else list(range(changed, 13)))
