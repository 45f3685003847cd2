"""The losses of Sections 3.2 to 3.4 and their weighted sum (Eq. 6-14).

Each loss is a sum over terms beside the number of terms, not a mean: so that a mean over the
batch is the same number whether one process computes it at once, several do, or it is computed
piece by piece.

Shape suffixes as in batch.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from contentctr.batch import Batch, Output
from contentctr.config import AlignReading, LossConfig, PairKind
from contentctr.models.dtw import dtw

NAMES = ("point", "pair", "align")
"""The losses, in the order of `loss_counts` and `loss_sums`."""


def point_sum(
    logits_BN: Tensor, target_BN: Tensor, has_target_BN: Tensor, positive_weight: float = 1.0
) -> Tensor:
    """Pointwise log loss with soft labels, Eq. 6, summed over the segments that have a target.

    Args:
        logits_BN: log-odds of the predicted CTR.
        target_BN: CTR in [0, 1]; anything where there is none.
        has_target_BN: bool.
        positive_weight: w in -(w y log s + (1 - y) log(1 - s)).

    Returns:
        Scalar; L_point is this over the number of true entries of `has_target_BN`.
    """
    target_BN = torch.where(has_target_BN, target_BN, 0.0)
    weight = None if positive_weight == 1 else logits_BN.new_tensor(positive_weight)
    loss_BN = F.binary_cross_entropy_with_logits(
        logits_BN, target_BN, reduction="none", pos_weight=weight
    )
    return torch.where(has_target_BN, loss_BN, 0.0).sum()


def ordered_pairs(target_BN: Tensor, has_target_BN: Tensor) -> Tensor:
    """Pairs (i, j) of a window with y_i > y_j: bool [B, N, N]."""
    known_BNN = has_target_BN[:, :, None] & has_target_BN[:, None, :]
    return known_BNN & (target_BN[:, :, None] > target_BN[:, None, :])


def pair_sum(
    scores_BN: Tensor,
    target_BN: Tensor,
    has_target_BN: Tensor,
    *,
    kind: PairKind = "L1",
    sigma: float = 10.0,
) -> Tensor:
    """Boundary-aware pairwise loss, Eq. 10 (L0), 11 (L1), 12 (L2) or 13 (L3), summed over pairs.

    Differs from the paper: L_pair is the mean over the pairs that y orders, inactive ones counting
    as zero, where the paper sums: so its scale does not depend on n. Which pairs are active is a
    constant to autograd.

    Args:
        scores_BN: predicted CTR s, after the sigmoid.
        target_BN: CTR y.
        has_target_BN: bool.
        kind: L0 all ordered pairs; L1 those with s_i - s_j <= y_i - y_j; L2 with s_i <= s_j;
            L3 with 0 < s_i - s_j < y_i - y_j; none: zero.
        sigma: steepness.

    Returns:
        Scalar; L_pair is this over the number of `ordered_pairs`.
    """
    if kind == "none":
        return scores_BN.sum() * 0.0  # of the graph, so that backward can be called on it
    pairs_BNN = ordered_pairs(target_BN, has_target_BN)
    target_BN = torch.where(has_target_BN, target_BN, 0.0)
    y_BNN = target_BN[:, :, None] - target_BN[:, None, :]
    s_BNN = scores_BN[:, :, None] - scores_BN[:, None, :]
    gap_BNN = s_BNN.detach()
    if kind == "L1":
        pairs_BNN = pairs_BNN & (y_BNN - gap_BNN >= 0)
    elif kind == "L2":
        pairs_BNN = pairs_BNN & (gap_BNN <= 0)
    elif kind == "L3":
        pairs_BNN = pairs_BNN & (gap_BNN > 0) & (gap_BNN < y_BNN)
    elif kind != "L0":
        raise ValueError(f"kind must be none, L0, L1, L2 or L3, not {kind!r}")
    # Not log(1 + exp(.)): that overflows, and infinity times a zero mask is NaN.
    return torch.where(pairs_BNN, F.softplus(-sigma * s_BNN), 0.0).sum()


def alignable(batch: Batch) -> Tensor:
    """Windows with an alignment loss: they have shuffles, a visual and a text token. Bool [B]."""
    if batch.shuffles_BKN is None:
        return torch.zeros_like(batch.valid_BN[:, 0])
    visual_B = (batch.has_visual_BN & batch.valid_BN).any(1)
    return visual_B & (batch.has_text_BN & batch.valid_BN).any(1)


def cosine_matrix(
    text_BND: Tensor, visual_BND: Tensor, has_text_BN: Tensor, has_visual_BN: Tensor
) -> Tensor:
    """sim(S_a^i, S_p^j) of Eq. 7's matrix: cosines [B, N, N], text down, visual across.

    A missing token is neither like nor unlike any other: its cosines are 0, without gradient.
    """
    text_BND, visual_BND = F.normalize(text_BND, dim=-1), F.normalize(visual_BND, dim=-1)
    cosine_BNN = text_BND @ visual_BND.transpose(1, 2)
    known_BNN = has_text_BN[:, :, None] & has_visual_BN[:, None, :]
    return torch.where(known_BNN, cosine_BNN, 0.0)


def align_sum(
    output: Output, batch: Batch, *, reading: AlignReading = "distance", temperature: float = 0.1
) -> Tensor:
    """DTW alignment loss, Eq. 7-9, summed over the `alignable` windows.

    Differs from the paper: Eq. 8 calls d a distance, Eq. 9 raises exp(+d / temperature) of summed
    similarities. `distance` takes D = 1 - cosine, divides d by the window's length and uses
    exp(-d / temperature), which told aligned pairs from others where `similarity`, the literal
    reading, did so poorly (docs/decisions.md, "Alignment"). A shuffled negative permutes the
    columns of the one cosine matrix.

    Args:
        output: with `visual_BND` and `text_BND`.
        batch: with `shuffles_BKN`, row 0 of K the identity.
        reading: of Eq. 9.
        temperature: of InfoNCE.

    Returns:
        Scalar; L_align is this over the number of `alignable` windows.
    """
    use_B = alignable(batch)
    if batch.shuffles_BKN is None or output.visual_BND is None or output.text_BND is None:
        return output.logits_BN.sum() * 0.0
    cosine_BNN = cosine_matrix(
        output.text_BND, output.visual_BND, batch.has_text_BN, batch.has_visual_BN
    ).float()
    length_B = batch.valid_BN.sum(1).clamp(min=1)
    if reading == "distance":
        distance_BK = dtw(1.0 - cosine_BNN, batch.shuffles_BKN, length_B) / length_B[:, None]
        logits_BK = -distance_BK / temperature
    elif reading == "similarity":
        logits_BK = dtw(cosine_BNN, batch.shuffles_BKN, length_B) / temperature
    else:
        raise ValueError(f"reading must be distance or similarity, not {reading!r}")
    return torch.where(use_B, -logits_BK.log_softmax(dim=1)[:, 0], 0.0).sum()


def loss_counts(batch: Batch) -> Tensor:
    """How many terms each loss of this batch has, from the data alone: int64 [3], as NAMES."""
    has_target_BN = batch.has_target_BN
    counts = (
        has_target_BN.sum(),
        ordered_pairs(batch.target_BN, has_target_BN).sum(),
        alignable(batch).sum(),
    )
    return torch.stack(counts)


def loss_sums(output: Output, batch: Batch, config: LossConfig) -> Tensor:
    """Each loss's sum over its terms: float32 [3], as NAMES; a weight of 0 leaves its loss out.

    A model's own pairwise loss (`Output.pair`) stands in place of Eq. 10-13.

    With a positive weight w the losses are those of log-odds + log w, which are w times the odds:
    where w weighs, odds that are w times the true ones are the best, so the model's own end as
    the true ones (docs/decisions.md, "Rare labels").
    """
    has_target_BN, target_BN = batch.has_target_BN, batch.target_BN
    logits_BN = output.logits_BN.float()
    weight = config.positive_weight
    assert weight > 0, "the data decides what 0 stands for"
    if weight != 1:
        logits_BN = logits_BN + math.log(weight)
    zero = logits_BN.sum() * 0.0
    pair = align = zero
    if config.pair_weight > 0 and output.pair is not None:
        pair = output.pair.float()
    elif config.pair_weight > 0:
        pair = pair_sum(
            logits_BN.sigmoid(), target_BN, has_target_BN, kind=config.pair, sigma=config.sigma
        )
    if config.align_weight > 0:
        align = align_sum(output, batch, reading=config.align, temperature=config.temperature)
    point = point_sum(logits_BN, target_BN, has_target_BN, weight)
    return torch.stack((point, pair, align))


def total_loss(sums: Tensor, counts: Tensor, config: LossConfig) -> Tensor:
    """The weighted sum of Eq. 14: lambda_1 L_point + lambda_2 L_align + lambda_3 L_pair.

    Args:
        sums: of `loss_sums`, [3].
        counts: of `loss_counts`, [3], over everything the mean is taken of; a loss without a
            term is zero.
        config: the weights.

    Returns:
        Scalar.
    """
    weights = torch.tensor(
        (config.point_weight, config.pair_weight, config.align_weight),
        dtype=sums.dtype,
        device=sums.device,
    )
    return (weights * sums / counts.clamp(min=1).to(sums)).sum()
