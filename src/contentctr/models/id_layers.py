"""The pieces of the ID baselines: linear part, FM, deep part, cross networks, DIFM's weights.

Each takes fields' embeddings or dense values alone, and knows nothing of rooms.

Shape suffixes as in id_fields.py, and: X = F * E + C, width of the deep part's input; M experts;
P rank; H attention heads; A width of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contentctr.config import IdConfig

_CHUNK_PRODUCTS = 2**19
"""Products of queries and keys that DIFM's attention holds at a time: 2 MB, as fast as any."""
_LEAST_CHUNK = 64


def factorization_machine(vector_RFE: Tensor) -> Tensor:
    """Sum of the dot products of all pairs of fields (Rendle 2010, Eq. 1 and Lemma 3.1).

    Half of the squared sum less the sum of squares: linear in the number of fields.

    Returns:
        [R].
    """
    sum_RE = vector_RFE.sum(dim=1)
    return 0.5 * (sum_RE.square().sum(dim=1) - vector_RFE.square().sum(dim=(1, 2)))


class Linear(nn.Module):
    """Bias, linear weights of the ids, and a linear map of the dense values.

    Args:
        dense_width: C; 0 for none.
    """

    def __init__(self, dense_width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.dense = nn.Linear(dense_width, 1, bias=False) if dense_width else None
        if self.dense is not None:
            nn.init.zeros_(self.dense.weight)

    def forward(self, weight_RF: Tensor, dense_RC: Tensor) -> Tensor:
        """Log-odds, [R]."""
        logit_R = weight_RF.sum(dim=1) + self.bias
        if self.dense is not None:
            logit_R = logit_R + self.dense(dense_RC).squeeze(1)
        return logit_R


class Deep(nn.Sequential):
    """Hidden layers with ReLU and dropout, then a linear layer without bias.

    Weights start normal with He's gain for ReLU, the last layer's with Xavier's; biases at zero.

    Args:
        width: X, of the input.
        out: width of the output.
        config: `hidden_dim`, `hidden_layers` and `deep_dropout`.
    """

    def __init__(self, width: int, out: int, config: IdConfig) -> None:
        layers: list[nn.Module] = []
        for _ in range(config.hidden_layers):
            hidden = nn.Linear(width, config.hidden_dim)
            nn.init.kaiming_normal_(hidden.weight, nonlinearity="relu")
            nn.init.zeros_(hidden.bias)
            layers += [hidden, nn.ReLU(inplace=True), nn.Dropout(config.deep_dropout)]
            width = config.hidden_dim
        last = nn.Linear(width, out, bias=False)
        nn.init.xavier_normal_(last.weight)
        super().__init__(*layers, last)


class MatrixCross(nn.Module):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l (DCN-V2, Wang et al. 2021, Eq. 1).

    Args:
        width: X.
        config: `cross_layers`.
    """

    def __init__(self, width: int, config: IdConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(config.cross_layers):
            layer = nn.Linear(width, width)
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
            self.layers.append(layer)

    def forward(self, x0_RX: Tensor) -> Tensor:
        """[R, X]."""
        x_RX = x0_RX
        for layer in self.layers:
            x_RX = torch.addcmul(x_RX, x0_RX, layer(x_RX))
        return x_RX


class LowRankCross(nn.Module):
    """x_{l+1} = x_0 * (U_l V_l^T x_l + b_l) + x_l (DCN-V2, Eq. 2).

    Args:
        width: X.
        config: `cross_layers` and `rank`.
    """

    def __init__(self, width: int, config: IdConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(config.cross_layers):
            down = nn.Linear(width, config.rank, bias=False)
            up = nn.Linear(config.rank, width)
            nn.init.xavier_normal_(down.weight)
            nn.init.xavier_normal_(up.weight)
            nn.init.zeros_(up.bias)
            self.layers.append(nn.Sequential(down, up))

    def forward(self, x0_RX: Tensor) -> Tensor:
        """[R, X]."""
        x_RX = x0_RX
        for layer in self.layers:
            x_RX = torch.addcmul(x_RX, x0_RX, layer(x_RX))
        return x_RX


class MixtureCross(nn.Module):
    """Low-rank mixture of experts with tanh in the low rank (DCN-V2, Eq. 3 and 4).

    x_{l+1} = sum_m g_m(x_l) x_0 * (U_lm tanh(C_lm tanh(V_lm^T x_l)) + b_l) + x_l. The gates g are
    a softmax, shared by the layers. All experts' V are one matrix, and so are all their U, with
    the gates applied in the low rank: two matrix products a layer, and one batched for C.

    Each expert's matrices start normal with Xavier's gain, biases at zero.

    Args:
        width: X.
        config: `cross_layers`, `rank` P and `num_experts` M.
    """

    def __init__(self, width: int, config: IdConfig) -> None:
        super().__init__()
        layers, experts, rank = config.cross_layers, config.num_experts, config.rank
        self.shape = (experts, rank)
        self.gates = nn.Linear(width, experts, bias=False)
        self.down_LXQ = nn.Parameter(_xavier((layers, width, experts * rank), width, rank))
        self.core_LMPP = nn.Parameter(_xavier((layers, experts, rank, rank), rank, rank))
        self.up_LQX = nn.Parameter(_xavier((layers, experts * rank, width), rank, width))
        self.bias_LX = nn.Parameter(torch.zeros(layers, width))

    def forward(self, x0_RX: Tensor) -> Tensor:
        """[R, X]. L cross layers; Q = M * P, the experts' low ranks side by side."""
        x_RX = x0_RX
        layers = zip(self.down_LXQ, self.core_LMPP, self.up_LQX, self.bias_LX, strict=True)
        for down_XQ, core_MPP, up_QX, bias_X in layers:
            gate_RM = self.gates(x_RX).softmax(dim=1)
            low_RMP = (x_RX @ down_XQ).tanh().unflatten(1, self.shape)
            low_MRP = torch.bmm(low_RMP.transpose(0, 1), core_MPP).tanh()
            gated_RMP = low_MRP.transpose(0, 1) * gate_RM[..., None]
            # The gates sum to one, so the bias, which all experts share, needs none.
            mixed_RX = torch.addmm(bias_X, gated_RMP.flatten(1), up_QX)
            x_RX = torch.addcmul(x_RX, x0_RX, mixed_RX)
        return x_RX


def _xavier(shape: tuple[int, ...], fan_in: int, fan_out: int) -> Tensor:
    return torch.randn(shape) * math.sqrt(2.0 / (fan_in + fan_out))


CROSSES: dict[str, type[MatrixCross] | type[LowRankCross] | type[MixtureCross]] = {
    "matrix": MatrixCross,
    "low_rank": LowRankCross,
    "mixture": MixtureCross,
}
"""The cross networks by the name of `ids.cross`."""


class InputAwareWeights(nn.Module):
    """A weight for each field that depends on all of them (DIFM, Lu et al. 2020, Section 3).

    The sum of a vector-wise part (self-attention over the fields with a residual map and ReLU)
    and a bit-wise part (the deep network over all vectors), each mapped to one number a field.

    A row's attention matrices are tiny, so attention runs with the rows innermost, as sums over
    products, in chunks of rows that stay in the cache: for few fields and narrow heads several
    times faster than batched matrix products (docs/decisions.md, "ID baselines").

    Args:
        num_fields: F.
        config: sizes.
    """

    def __init__(self, num_fields: int, config: IdConfig) -> None:
        super().__init__()
        self.heads = (config.attention_heads, config.attention_dim)
        width = config.attention_heads * config.attention_dim
        self.chunk = max(_LEAST_CHUNK, _CHUNK_PRODUCTS // (num_fields**2 * width))
        self.projections = nn.Linear(config.embedding_dim, 4 * width, bias=False)
        self.vector_wise = nn.Linear(num_fields * width, num_fields, bias=False)
        self.bit_wise = Deep(num_fields * config.embedding_dim, num_fields, config)
        for layer in (self.projections, self.vector_wise):
            nn.init.xavier_normal_(layer.weight)

    def forward(self, vector_RFE: Tensor) -> Tensor:
        """[R, F]."""
        chunks = torch.split(vector_RFE, self.chunk)
        weights_RF = torch.cat([self._attend(rows) for rows in chunks])
        bit_wise_RF: Tensor = self.bit_wise(vector_RFE.flatten(1))
        return weights_RF + bit_wise_RF

    def _attend(self, vector_RFE: Tensor) -> Tensor:
        """The vector-wise part of some rows, [R, F]; G is F again, the field attended to."""
        projected = torch.matmul(self.projections.weight, vector_RFE.permute(1, 2, 0))
        shape = (vector_RFE.shape[1], 4, *self.heads, len(vector_RFE))
        query, key, value, residual = projected.view(shape).unbind(1)  # each [F, H, A, R]
        scores_FGHR = (query[:, None] * key[None]).sum(dim=3) * self.heads[1] ** -0.5
        shares_FGHR = scores_FGHR.softmax(dim=1)
        mixed_FHAR = (shares_FGHR[:, :, :, None] * value[None]).sum(dim=1)
        out: Tensor = self.vector_wise(F.relu(mixed_FHAR + residual).flatten(0, 2).T)
        return out
