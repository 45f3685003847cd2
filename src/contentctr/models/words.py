"""What the words of earlier segments say of the score: a token, and a part that is linear.

Each segment says by itself what the target is likely to be k segments later, for each k that the
model looks back: least squares on its words (encode/words.py) and on its text's feature, in closed
form (train/words.py), since a few hundred positives are enough for that and not for learning a
weight a word by gradients (docs/decisions.md, "Words"). What a segment says is a content token of
its own; and the score's log-odds get the sum of what the segments before it say of it, with a
learned weight for each k. In a model that sees later segments half of the k are below 0, and the
sum is of those after it too.

Shape suffixes as in batch.py, and: U buckets of words, V words that are known, W words of a
segment, K lags (segments between what is said and what it says something of), P parts that say it:
words, feature.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec, ExtraInput
from contentctr.config import Config
from contentctr.errors import InputError
from contentctr.models.layers import FeedForward, Standardise

DIGITS = 2048
"""A hash is DIGITS * its upper half + its lower half."""
NO_WORD = 0
"""Stands where a segment has no further word."""
BUCKETS = 2**20
"""U; words whose hashes have the same rest are taken for one."""
KNOWN = 2**14
"""V, words that a model knows, the commonest of its training rooms; the first is none."""
MAX_LAGS = 24
"""K at most: with more the least squares take longer, and say little of what is so far away."""
PARTS = 2
"""P."""
SCORES = "word_scores"
"""In Batch.extra: what words and features say, already computed. Of training segments, by weights
that other rooms taught: by those that they taught themselves, all they say would seem true."""


def lags_of(config: Config) -> int:
    """K: as far as the model looks back."""
    return min(config.data.window_len, config.model.receptive_field or MAX_LAGS, MAX_LAGS)


class Words(nn.Module):
    """What words and features say of later segments, and its sum over the segments before.

    Args:
        spec: the parts' widths.
        config: how far the model looks back.
        both_sides: whether it sees later segments too.

    Raises:
        InputError: the data has no words.
    """

    row_U: Tensor
    idf_V: Tensor
    by_word_VK: Tensor
    by_feature_TK: Tensor

    def __init__(self, spec: DataSpec, config: Config, *, both_sides: bool = False) -> None:
        super().__init__()
        if not spec.words_dim:
            raise InputError(
                "model.words must be false with this data, which has no words stored (`encode` "
                "stores those of texts)"
            )
        self.lags = lags_of(config)
        self.first_lag = -((self.lags - 1) // 2) if both_sides else 0
        # Not int16, which processes cannot send each other.
        self.register_buffer("row_U", torch.zeros(BUCKETS, dtype=torch.int32))
        self.register_buffer("idf_V", torch.zeros(KNOWN))
        self.register_buffer("by_word_VK", torch.zeros(KNOWN, self.lags))
        self.register_buffer("by_feature_TK", torch.zeros(spec.text_dim, self.lags))
        self.feature = Standardise(spec.text_dim)
        self.scale = Standardise(PARTS * self.lags)
        self.share_PK = nn.Parameter(torch.full((PARTS, self.lags), 1 / self.lags))
        d_model = config.model.d_model
        self.head = FeedForward(PARTS * self.lags, d_model, d_model)
        self.missing = nn.Parameter(torch.randn(d_model) * 0.02)

    def scores(self, batch: Batch) -> Tensor:
        """What each segment's parts say of each lag, standardised: [B, N, P K]; 0 where missing."""
        if SCORES in batch.extra:
            return batch.extra[SCORES].values_BNX
        words = batch.extra["words"]
        raw_BNC = self.raw(words.values_BNX, batch.text_BNT)
        return self.standardised(raw_BNC, words.has_BN, batch.has_text_BN)

    def read(self, batch: Batch) -> Batch:
        """The batch with what its segments say, which the token and the sum then share."""
        segments = batch if batch.distinct is None else batch.distinct
        if SCORES in segments.extra:
            return batch
        said = ExtraInput(values_BNX=self.scores(segments), has_BN=segments.extra["words"].has_BN)
        segments = dataclasses.replace(segments, extra={**segments.extra, SCORES: said})
        return segments if batch.distinct is None else dataclasses.replace(batch, distinct=segments)

    def raw(self, numbers_BNX: Tensor, text_BNT: Tensor) -> Tensor:
        """What words and features say of each lag, as it was fitted: [B, N, P K]."""
        by_feature_BNK = self.feature(text_BNT) @ self.by_feature_TK
        return torch.cat((self.of_words(numbers_BNX), by_feature_BNK), dim=-1)

    def standardised(self, raw_BNC: Tensor, has_words_BN: Tensor, has_text_BN: Tensor) -> Tensor:
        """The same as the model reads it: of mean 0 and deviation 1, and 0 where it is missing."""
        sizes = *[-1] * has_text_BN.ndim, self.lags
        has_BNC = torch.cat([x[..., None].expand(sizes) for x in (has_words_BN, has_text_BN)], -1)
        return torch.where(has_BNC, self.scale(raw_BNC), 0.0)

    def of_words(self, numbers_BNX: Tensor) -> Tensor:
        """What the words say of each lag, [B, N, K]: weights by tf-idf, as they were fitted."""
        row_BNW = self.row_U[buckets(numbers_BNX)].long()
        idf_BNW = self.idf_V[row_BNW]
        norm_BN1 = idf_BNW.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-6)
        weight_BNWK = self.by_word_VK[row_BNW]
        return (weight_BNWK * (idf_BNW / norm_BN1)[..., None]).sum(-2)

    def know(self, bucket_V: Tensor, idf_V: Tensor, by_word_VK: Tensor) -> None:
        """Take what was fitted of some words, KNOWN - 1 at most; the others say nothing."""
        rows = torch.arange(1, len(bucket_V) + 1)
        for table, values in ((self.idf_V, idf_V), (self.by_word_VK, by_word_VK)):
            table.zero_()
            table[rows] = values
        self.row_U.zero_()
        self.row_U[bucket_V] = rows.to(self.row_U.dtype)

    def token(self, batch: Batch) -> Tensor:
        """A content token of what each segment says, [B, N, D]."""
        has_BN1 = batch.has_text_BN[..., None]
        return torch.where(has_BN1, self.head(self.scores(batch)), self.missing)

    def terms(self, batch: Batch) -> Tensor:
        """What each segment adds to the log-odds of those so long after it, [B, N, K]."""
        scores_BNC = self.scores(batch)
        shape_BN = scores_BNC.shape[:-1]
        terms_BNPK = scores_BNC.view(*shape_BN, PARTS, self.lags) * self.share_PK
        return terms_BNPK.sum(-2)

    def forward(self, batch: Batch) -> Tensor:
        """What is added to the log-odds, [B, N]: the sum of what its window says of each."""
        (terms_BNK,) = batch.each_segment(lambda b: (self.terms(b),))
        assert terms_BNK is not None
        if self.first_lag < 0:  # else padding, which stands last, says nothing of what is real
            terms_BNK = torch.where(batch.valid_BN[..., None], terms_BNK, 0.0)
        length = terms_BNK.shape[1]
        sum_BN = torch.zeros_like(terms_BNK[..., 0])
        for k in range(self.lags):
            lag = self.first_lag + k
            if abs(lag) < length:
                sum_BN = sum_BN + nn.functional.pad(terms_BNK[..., k], (lag, -lag))
        return sum_BN


def buckets(numbers_BNX: Tensor) -> Tensor:
    """Bucket of each word, int64 [B, N, W]; NO_WORD where there is none.

    Args:
        numbers_BNX: as `word_numbers` makes them.
    """
    high_BNW, low_BNW = numbers_BNX.chunk(2, dim=-1)
    return (high_BNW.long() * DIGITS + low_BNW.long()) % BUCKETS
