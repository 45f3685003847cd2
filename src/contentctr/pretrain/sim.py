"""A search-based interest model (SIM): what a user's long history says of one streamer.

Source: Pi et al., "Search-based User Interest Modeling with Lifelong Sequential Behavior Data for
Click-Through Rate Prediction", CIKM 2020. A general search finds the K clicks of a long history
that matter for the streamer shown; the exact search attends to them with their age. Its streamer
table is the E_u of ContentCTR (Section 3.2.2: "pre-trained search-based interest model").

Differs from the paper: no short-term part and no user features, since only the streamer table is
wanted; see docs/decisions.md, "Search-based interest model".

Shape suffixes: B impressions, L clicks of the longest history, K found clicks, E width of a
streamer's vector, I width of an item (streamer and category), Z of a found click (item and age),
H heads, A width of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contentctr.errors import require
from contentctr.pretrain.watch_logs import NUM_GAPS, WatchBatch

_require = partial(require, of="pre-training setting")

Search = Literal["soft", "hard"]


@dataclass(frozen=True, kw_only=True)
class SimSettings:
    """The model, its losses and its training."""

    search: Search = "soft"
    """General search: soft by inner product, hard by the streamer's category."""
    dim: int = 32
    """E, width of a streamer's vector."""
    category_dim: int = 8
    """Width of a category's embedding, and of a click's age."""
    num_heads: int = 2
    """H, heads of the exact search."""
    head_dim: int = 16
    """A, width of a head's query and keys."""
    top_k: int = 50
    """K, clicks that the general search finds at most."""
    max_history: int = 1000
    """Clicks of a user that are searched, the latest."""
    hidden_dim: int = 64
    """Width of the hidden layer of both classifiers."""
    general_weight: float = 1.0
    """alpha, of the soft search's own loss; the hard search has none."""
    exact_weight: float = 1.0
    """beta, of the loss of the exact search."""
    held_out: float = 0.1
    """Share of the impressions, the latest, that are held out."""
    hide_streamers: float = 0.02
    """Share of training impressions whose streamer is hidden, so that "unknown" is trained."""
    epochs: int = 3
    """Passes over the training impressions."""
    batch_size: int = 256
    """Impressions in one optimiser step."""
    learning_rate: float = 5e-3
    """Of Adam."""
    save_every: int = 0
    """Steps between two saves; 0: at the end of every epoch only."""
    seed: int = 0
    """Of the weights, the order of impressions and the hidden streamers."""

    def __post_init__(self) -> None:
        for name in (
            "dim",
            "category_dim",
            "num_heads",
            "head_dim",
            "top_k",
            "max_history",
            "hidden_dim",
            "epochs",
            "batch_size",
        ):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("general_weight", "exact_weight", "save_every", "seed"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in ("held_out", "hide_streamers"):
            _require(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))
        _require(self.learning_rate > 0, "learning_rate", "above 0", self.learning_rate)
        _require(self.search in ("soft", "hard"), "search", "soft or hard", self.search)
        _require(self.exact_weight > 0, "exact_weight", "above 0", self.exact_weight)


@dataclass(frozen=True, kw_only=True)
class SimOutput:
    """What the model says of a batch."""

    logits_B: Tensor
    """Log-odds of a click, by the exact search."""
    general_logits_B: Tensor | None = None
    """The same by the soft search alone; None for the hard search."""


class SoftSearch(nn.Module):
    """General search by inner product (Eq. 2 of SIM), trained by a click loss of its own.

    A click's score is (W_b e_j) . (W_a e_a). The K highest are found; which ones they are has no
    gradient, so the projections learn from an auxiliary classifier over the whole history, whose
    input is the sum of e_j weighted by the scores.

    Differs from the paper: scores are divided by sqrt(width), and the sum by the history's length,
    so that neither grows with them.
    """

    def __init__(self, item_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.target = nn.Linear(item_dim, item_dim, bias=False)
        self.behaviour = nn.Linear(item_dim, item_dim, bias=False)
        self.classifier = _classifier(2 * item_dim, hidden_dim)

    def forward(
        self, item_BI: Tensor, history_BLI: Tensor, batch: WatchBatch, top_k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Indices [B, K] of found clicks, which of them are clicks [B, K], and logits [B]."""
        # (W_b e_j) . (W_a e_a) = e_j . (W_b^T W_a e_a): one projection a target, none a click.
        query_BI = self.target(item_BI) @ self.behaviour.weight
        scores_BL = torch.einsum("bli,bi->bl", history_BLI, query_BI) / math.sqrt(query_BI.shape[1])
        found_BK, is_click_BK = highest(scores_BL.detach(), batch.valid_BL, top_k)
        weights_BL = scores_BL.masked_fill(~batch.valid_BL, 0.0)
        lengths_B1 = batch.valid_BL.sum(1, keepdim=True).clamp(min=1)
        pooled_BI = torch.einsum("bl,bli->bi", weights_BL, history_BLI) / lengths_B1
        logits_B = self.classifier(torch.cat((pooled_BI, item_BI), dim=1)).squeeze(1)
        return found_BK, is_click_BK, logits_B


class HardSearch(nn.Module):
    """General search by category: the latest K clicks on streamers of the target's category.

    Nothing is learned. The unknown category is like no other, itself included: it finds nothing.
    """

    def forward(
        self, item_BI: Tensor, history_BLI: Tensor, batch: WatchBatch, top_k: int
    ) -> tuple[Tensor, Tensor, None]:
        """Indices [B, K] of found clicks, which of them are clicks [B, K], and no logits."""
        same_BL = (batch.category_BL == batch.category_B[:, None]) & (batch.category_B > 0)[:, None]
        position_L = torch.arange(
            batch.valid_BL.shape[1], device=item_BI.device, dtype=item_BI.dtype
        )
        found_BK, is_click_BK = highest(
            position_L.expand(len(item_BI), -1), batch.valid_BL & same_BL, top_k
        )
        return found_BK, is_click_BK, None


class ExactSearch(nn.Module):
    """Multi-head target attention over the found clicks and their age (Eq. 4-6 of SIM).

    Keys are projections of (item, age), queries of the target; a head's values are (item, age)
    itself, as in the paper. Padding has score -inf, so no weight. A history in which nothing was
    found has a learned vector, not zeros.
    """

    def __init__(self, item_dim: int, found_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(item_dim, num_heads * head_dim, bias=False)
        self.key = nn.Linear(found_dim, num_heads * head_dim, bias=False)
        self.nothing = nn.Parameter(0.1 * torch.randn(num_heads * found_dim))

    def forward(self, item_BI: Tensor, found_BKZ: Tensor, is_click_BK: Tensor) -> Tensor:
        """What the user thinks of the target, [B, H * Z]."""
        query_BHA = self.query(item_BI).unflatten(1, (self.num_heads, -1))
        key_BKHA = self.key(found_BKZ).unflatten(2, (self.num_heads, -1))
        scores_BHK = torch.einsum("bha,bkha->bhk", query_BHA, key_BKHA)
        any_B1 = is_click_BK.any(dim=1, keepdim=True)
        # A row of -inf alone would be NaN; where nothing was found the result is replaced below.
        seen_B1K = (is_click_BK | ~any_B1)[:, None]
        scores_BHK = (scores_BHK / math.sqrt(query_BHA.shape[2])).masked_fill(~seen_B1K, -math.inf)
        heads_BHZ = scores_BHK.softmax(dim=2) @ found_BKZ
        return torch.where(any_B1, heads_BHZ.flatten(1), self.nothing)


class Sim(nn.Module):
    """The whole model; row i + 1 of `streamers` is the vector that is exported for streamer i.

    Args:
        settings: sizes and the kind of search.
        num_streamers: U, known streamers.
        num_categories: known categories, 0 or more.
    """

    def __init__(self, settings: SimSettings, num_streamers: int, num_categories: int) -> None:
        super().__init__()
        item_dim = settings.dim + settings.category_dim
        found_dim = item_dim + settings.category_dim
        self.top_k = settings.top_k
        self.streamers = nn.Embedding(num_streamers + 1, settings.dim)
        self.categories = nn.Embedding(num_categories + 1, settings.category_dim)
        self.gaps = nn.Embedding(NUM_GAPS, settings.category_dim)
        for table in (self.streamers, self.categories, self.gaps):
            nn.init.normal_(table.weight, std=0.1)
        soft = settings.search == "soft"
        self.general = SoftSearch(item_dim, settings.hidden_dim) if soft else HardSearch()
        self.exact = ExactSearch(item_dim, found_dim, settings.num_heads, settings.head_dim)
        self.classifier = _classifier(
            settings.num_heads * found_dim + item_dim, settings.hidden_dim
        )

    def forward(self, batch: WatchBatch) -> SimOutput:
        """Log-odds of a click for each impression."""
        item_BI = self._items(batch.streamer_B, batch.category_B)
        history_BLI = self._items(batch.history_BL, batch.category_BL)
        found_BK, is_click_BK, general_logits_B = self.general(
            item_BI, history_BLI, batch, self.top_k
        )
        row_B1 = torch.arange(len(item_BI), device=item_BI.device)[:, None]
        found_BKZ = torch.cat(
            (history_BLI[row_B1, found_BK], self.gaps(batch.gap_BL[row_B1, found_BK])), dim=2
        )
        interest_BZ = self.exact(item_BI, found_BKZ, is_click_BK)
        logits_B = self.classifier(torch.cat((interest_BZ, item_BI), dim=1)).squeeze(1)
        return SimOutput(logits_B=logits_B, general_logits_B=general_logits_B)

    def _items(self, streamer: Tensor, category: Tensor) -> Tensor:
        return torch.cat((self.streamers(streamer), self.categories(category)), dim=-1)


def highest(scores_BL: Tensor, valid_BL: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Indices [B, K] of the highest scores among valid entries, and which of them are valid.

    The others have score -inf: a zero would beat every negative score. K is at most L.
    """
    masked_BL = scores_BL.masked_fill(~valid_BL, -math.inf)
    found_BK = masked_BL.topk(min(top_k, scores_BL.shape[1]), dim=1).indices
    return found_BK, valid_BL.gather(1, found_BK)


def sim_loss(output: SimOutput, clicked_B: Tensor, settings: SimSettings) -> Tensor:
    """Alpha L_GSU + beta L_ESU (Eq. 7 of SIM): mean cross-entropies; alpha is 0 for hard search."""
    loss = settings.exact_weight * F.binary_cross_entropy_with_logits(output.logits_B, clicked_B)
    if output.general_logits_B is not None:
        general = F.binary_cross_entropy_with_logits(output.general_logits_B, clicked_B)
        loss = loss + settings.general_weight * general
    return loss


def _classifier(width: int, hidden_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 1))
