"""The benchmark's models: who sees whom. (test_model.py and test_leakage.py ask the rest.)"""

import dataclasses

import pytest
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, DataConfig, ModelConfig
from contentctr.errors import InputError
from contentctr.models.klm3_baselines import (
    GRU,
    CausalTransformer,
    HierarchicalTransformer,
    SegmentMLP,
    chunk_masks,
)
from contentctr.models.registry import MODELS, build_model
from contentctr.score.rooms import score_segments
from contentctr.store.statistics import WIDTH
from make import make_segments

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


INPUTS = {
    "plain": ({"text": False}, {"visual"}),
    "stats": ({"statistics": True, "content": False}, {"statistics"}),
    "es": ({"text": False, "statistics": True}, {"visual", "statistics"}),
}


@pytest.mark.parametrize("kind", ["mlp", "gru", "causal", "hierarchical"])
@pytest.mark.parametrize("name", INPUTS)
def test_each_of_the_three_inputs_reads_what_the_benchmarks_does(kind, name):
    torch.manual_seed(0)
    settings, wanted = INPUTS[name]
    sizes = dataclasses.replace(SIZES, kind=kind, **settings)
    data = make_segments([6], model=sizes, horizon=1)
    spec = DataSpec(visual_dim=3, text_dim=2, statistics_dim=WIDTH)
    config = Config(data=DataConfig(window_len=4, horizon=1), model=sizes)
    model = build_model(config, spec, Vocabulary(streamers=["a"])).eval()
    noise = torch.Generator().manual_seed(1)

    def scores(data):
        found = score_segments(model, data, window_len=4, horizon=1)
        return torch.from_numpy(found).nan_to_num()

    def other(values):
        return torch.randn(values.shape, generator=noise).to(values.dtype)

    changed = {
        "visual": dataclasses.replace(data, visual_SV=other(data.visual_SV)),
        "text": dataclasses.replace(data, text_ST=other(data.text_ST)),
        "streamer": dataclasses.replace(data, streamer_S=1 - data.streamer_S),
    }
    if "statistics" in data.extra:
        rows = data.extra["statistics"]
        rows = dataclasses.replace(rows, values_SX=other(rows.values_SX))
        changed["statistics"] = dataclasses.replace(data, extra={"statistics": rows})
    before = scores(data)
    assert before[1:].all()
    assert {part for part, d in changed.items() if not torch.equal(scores(d), before)} == wanted


def test_other_models_cannot_leave_out_texts_by_this_setting():
    spec, known = DataSpec(visual_dim=3, text_dim=2), Vocabulary(streamers=["a"])
    for kind in ("contentctr", "deepfm", "without_visual"):
        assert kind in MODELS
        config = Config(model=dataclasses.replace(SIZES, kind=kind, text=False))
        with pytest.raises(InputError, match=f"model.text must be true with model.kind={kind}"):
            build_model(config, spec, known)
