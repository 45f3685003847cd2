"""The ID baselines of Section 4.3.1: Wide&Deep, DeepFM, DIFM and DCN-M.

They see who streams, when, and what the audience did before, and none of the content. With the
same weights each computes what DeepCTR-Torch 0.3.0 computes on the same fields; a test holds it.

Shape suffixes as in id_fields.py.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec, Output, Vocabulary
from contentctr.config import Config
from contentctr.models.id_fields import FieldValues, IdFields
from contentctr.models.id_layers import (
    CROSSES,
    Deep,
    InputAwareWeights,
    Linear,
    factorization_machine,
)


class IdBaseline(nn.Module):
    """Fields and the linear part, which the four have in common; a model adds its own logits.

    Args:
        config: all settings; `ids` holds the sizes.
        spec: of the data; of no use here, since the content is not looked at.
        vocabulary: known streamers and rooms.
    """

    task = "rooms"
    reads_content = False
    imports_streamers = False
    extra_tokens: ClassVar[tuple[str, ...]] = ()  # the counts are its fields already
    sees_later = False

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.fields = IdFields(config.ids, vocabulary)
        self.linear = Linear(self.fields.dense_width)
        self.num_fields = len(self.fields.sizes)
        self.vectors_width = self.num_fields * config.ids.embedding_dim
        self.deep_width = self.vectors_width + self.fields.dense_width

    @property
    def output_bias(self) -> nn.Parameter:
        """What `model.prior` sets."""
        return self.linear.bias

    def logits(self, values: FieldValues) -> Tensor:
        """Log-odds of each segment, [R]."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Output:
        """Log-odds of every segment, each from its own fields; finite at padding."""
        (logits_BN,) = batch.each_segment(self._each)
        assert logits_BN is not None
        return Output(logits_BN=logits_BN)

    def _each(self, batch: Batch) -> tuple[Tensor]:
        return (self.logits(self.fields(batch)).view(batch.valid_BN.shape),)


class WideDeep(IdBaseline):
    """Wide & Deep (Cheng et al. 2016): linear part plus deep part.

    Differs from its paper: the wide part has no hand-made crossed features.
    """

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        self.deep = Deep(self.deep_width, 1, config.ids)

    def logits(self, values: FieldValues) -> Tensor:
        """Log-odds of each segment, [R]."""
        linear_R = self.linear(values.weight_RF, values.dense_RC)
        logit_R: Tensor = linear_R + self.deep(values.deep_RX).squeeze(1)
        return logit_R


class DeepFM(IdBaseline):
    """DeepFM (Guo et al. 2017): linear part, factorization machine and deep part on one table.

    Differs from its paper, as DeepCTR-Torch does: dense values have no vectors, so they are not
    in the factorization machine.
    """

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        self.deep = Deep(self.deep_width, 1, config.ids)

    def logits(self, values: FieldValues) -> Tensor:
        """Log-odds of each segment, [R]."""
        logit_R: Tensor = self.linear(values.weight_RF, values.dense_RC)
        logit_R = logit_R + factorization_machine(values.vector_RFE)
        logit_R = logit_R + self.deep(values.deep_RX).squeeze(1)
        return logit_R


class DIFM(IdBaseline):
    """Dual input-aware factorization machine (Lu et al. 2020).

    An FM whose linear weights and vectors are scaled, field by field, by weights that depend on
    the input. Dense values, which its paper does not have, are in the linear part alone, as in
    DeepCTR-Torch.
    """

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        self.input_aware = InputAwareWeights(self.num_fields, config.ids)

    def logits(self, values: FieldValues) -> Tensor:
        """Log-odds of each segment, [R]."""
        scale_RF = self.input_aware(values.vector_RFE)
        logit_R: Tensor = self.linear(values.weight_RF * scale_RF, values.dense_RC)
        return logit_R + factorization_machine(values.vector_RFE * scale_RF[..., None])


class DCNM(IdBaseline):
    """DCN-M, published as DCN-V2 (Wang et al. 2021): cross network beside the deep part.

    `ids.cross` chooses the cross network: low-rank mixture of experts, low rank, or full matrix.

    Differs from its paper, as DeepCTR-Torch does: there is a linear part.
    """

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        self.cross = CROSSES[config.ids.cross](self.deep_width, config.ids)
        self.cross_out = nn.Linear(self.deep_width, 1, bias=False)
        self.deep = Deep(self.deep_width, 1, config.ids)

    def logits(self, values: FieldValues) -> Tensor:
        """Log-odds of each segment, [R]."""
        linear_R = self.linear(values.weight_RF, values.dense_RC)
        x0_RX = values.deep_RX
        logit_R: Tensor = linear_R + (self.cross_out(self.cross(x0_RX)) + self.deep(x0_RX)).squeeze(
            1
        )
        return logit_R
