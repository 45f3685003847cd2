"""With the same weights, the ID baselines equal DeepCTR-Torch 0.3.0 on the same fields."""

import importlib.util
import sys
import types

import pytest
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, IdConfig
from contentctr.models.id_baselines import DCNM, DIFM, DeepFM, WideDeep
from contentctr.models.id_fields import dense_values, sparse_ids
from make import make_batch

if importlib.util.find_spec("deepctr_torch") is None:
    pytest.skip(
        "DeepCTR-Torch is not installed: pip install 'contentctr[parity]'", allow_module_level=True
    )


@pytest.fixture(scope="module")
def peer():
    """The package, without its look for a newer version: importing it asks a server."""
    quiet = types.ModuleType("deepctr_torch.utils")
    quiet.check_version = lambda version: None
    sys.modules.setdefault("deepctr_torch.utils", quiet)
    import deepctr_torch

    assert deepctr_torch.__version__ == "0.3.0"
    return deepctr_torch


VOCABULARY = Vocabulary(streamers=["a", "b"], rooms=["r", "s", "t"])
E, HIDDEN, HEADS = 4, 16, 2
MIXTURE = {"cross_num": 2, "low_rank": 3, "num_experts": 3}
PAIRS = {
    "WDL": (WideDeep, {}),
    "DeepFM": (DeepFM, {}),
    "DIFM": (DIFM, {"att_head_num": HEADS}),
    "DCNMix": (DCNM, MIXTURE),
}


def make_ours(made, counts):
    torch.manual_seed(0)
    ids = IdConfig(
        embedding_dim=E,
        hidden_dim=HIDDEN,
        hidden_layers=2,
        counts=counts,
        attention_heads=HEADS,
        attention_dim=E // HEADS,
        cross="mixture",
        cross_layers=2,
        rank=3,
        num_experts=3,
    )
    model = made(Config(ids=ids), DataSpec(), VOCABULARY).double()
    with torch.no_grad():
        for parameter in model.parameters():  # biases too, and large enough to tell
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def make_theirs(peer, name, options, sizes, dense):
    from deepctr_torch.inputs import DenseFeat, SparseFeat

    columns = [SparseFeat(f"s{i}", size, embedding_dim=E) for i, size in enumerate(sizes)]
    columns += [DenseFeat(f"d{i}", 1) for i in range(dense)]
    made = getattr(peer.models, name)
    return made(columns, columns, dnn_hidden_units=(HIDDEN, HIDDEN), **options).double()


def linears(deep):
    return [layer for layer in deep if isinstance(layer, torch.nn.Linear)]


def copy_deep(deep, dnn, last):
    *hidden, out = linears(deep)
    for mine, theirs in zip(hidden, dnn.linears, strict=True):
        theirs.weight.copy_(mine.weight)
        theirs.bias.copy_(mine.bias)
    last.copy_(out.weight)


def copy_cross(cross, crossnet):
    """Our experts stand side by side in one matrix; theirs are apart."""
    layers, experts, rank = len(cross.bias_LX), *cross.shape
    crossnet.V_list.copy_(cross.down_LXQ.unflatten(2, (experts, rank)).permute(0, 2, 1, 3))
    crossnet.C_list.copy_(cross.core_LMPP.transpose(2, 3))
    crossnet.U_list.copy_(cross.up_LQX.view(layers, experts, rank, -1).transpose(2, 3))
    crossnet.bias.copy_(cross.bias_LX[..., None])
    for gate, weight in zip(crossnet.gating, cross.gates.weight, strict=True):
        gate.weight.copy_(weight[None])


@torch.no_grad()
def copy_weights(ours, theirs):
    """Every weight of ours into theirs."""
    for i, table in enumerate(ours.fields.table.weight.split(list(ours.fields.sizes))):
        theirs.embedding_dict[f"s{i}"].weight.copy_(table[:, 1:])
        theirs.linear_model.embedding_dict[f"s{i}"].weight.copy_(table[:, :1])
    theirs.out.bias.fill_(ours.linear.bias.item())
    if ours.linear.dense is not None:
        theirs.linear_model.weight.copy_(ours.linear.dense.weight.T)
    if isinstance(ours, DIFM):
        aware = ours.input_aware
        net = theirs.vector_wise_net
        names = (net.W_Query, net.W_key, net.W_Value, net.W_Res)
        for theirs_weight, weight in zip(names, aware.projections.weight.chunk(4), strict=True):
            theirs_weight.copy_(weight.T)
        theirs.transform_matrix_P_vec.weight.copy_(aware.vector_wise.weight)
        copy_deep(aware.bit_wise, theirs.bit_wise_net, theirs.transform_matrix_P_bit.weight)
    elif isinstance(ours, DCNM):
        copy_cross(ours.cross, theirs.crossnet)
        width = ours.cross_out.in_features
        theirs.dnn_linear.weight[:, :width].copy_(ours.cross_out.weight)
        copy_deep(ours.deep, theirs.dnn, theirs.dnn_linear.weight[:, width:])
    else:
        copy_deep(ours.deep, theirs.dnn, theirs.dnn_linear.weight)


@pytest.mark.parametrize("counts", ["buckets", "dense"])
@pytest.mark.parametrize("name", PAIRS)
def test_same_weights_give_the_same_output_and_the_same_gradients(peer, name, counts):
    made, options = PAIRS[name]
    ours = make_ours(made, counts)
    batch = make_batch(6, v=0, t=0)
    ids, dense = sparse_ids(batch, ours.fields.config), dense_values(batch, ours.fields.config)
    theirs = make_theirs(peer, name, options, ours.fields.sizes, dense.shape[1])
    copy_weights(ours, theirs)
    found = ours(batch).scores_BN.flatten()
    expected = theirs(torch.cat((ids.double(), dense.double()), dim=1))[:, 0]
    assert found.std() > 0.05  # not all squashed to one number
    assert (found - expected).abs().max() < 1e-6
    assert torch.allclose(found, expected, atol=1e-12, rtol=0)
    weight = torch.randn(len(found)).double()
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for i, grad in enumerate(ours.fields.table.weight.grad.split(list(ours.fields.sizes))):
        assert torch.allclose(grad[:, 1:], theirs.embedding_dict[f"s{i}"].weight.grad, atol=1e-10)


@pytest.mark.parametrize("name", PAIRS)
def test_float32_outputs_agree_to_1e_6(peer, name):
    made, options = PAIRS[name]
    ours = make_ours(made, "dense")
    batch = make_batch(6, v=0, t=0)
    ids, dense = sparse_ids(batch, ours.fields.config), dense_values(batch, ours.fields.config)
    theirs = make_theirs(peer, name, options, ours.fields.sizes, dense.shape[1])
    copy_weights(ours, theirs)
    found = ours.float()(batch).scores_BN.flatten()
    expected = theirs.float()(torch.cat((ids.float(), dense), dim=1))[:, 0]
    assert (found - expected).abs().max() < 1e-6
