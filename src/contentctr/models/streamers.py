"""E_u, the streamer's embedding (Section 3.1), from one of several sources behind one interface.

Each maps rows [B] of the streamer table to vectors [B, D]; row 0 is the unknown streamer. Shape
suffixes as in batch.py, and: U known streamers, E width of a streamer's own vector.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from contentctr.batch import Vocabulary
from contentctr.config import ModelConfig


class LearnedStreamers(nn.Module):
    """One vector a streamer, learned with the model, and mapped to D."""

    def __init__(self, num_streamers: int, streamer_dim: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_streamers + 1, streamer_dim)
        nn.init.normal_(self.table.weight, std=0.1)  # 1, torch's own, invites learning by heart
        self.project = nn.Linear(streamer_dim, d_model)

    def forward(self, streamer_B: Tensor) -> Tensor:
        """Embeddings [B, D] of the streamers' rows [B]."""
        out: Tensor = self.project(self.table(streamer_B))
        return out


class ImportedStreamers(nn.Module):
    """Fixed vectors from elsewhere, such as a pre-trained interest model's, and a learned map to D.

    The whole table is scaled to a root mean square of 1, so that any source suits the projection;
    the unknown streamer has a learned vector of its own.

    Args:
        vocabulary: with `vectors_UD`, or without where weights will be loaded.
        streamer_dim: E, width of the vectors.
        d_model: D.

    Raises:
        ValueError: the vectors are not [U, E].
    """

    table_UE: Tensor

    def __init__(self, vocabulary: Vocabulary, streamer_dim: int, d_model: int) -> None:
        super().__init__()
        shape = (len(vocabulary.streamers), streamer_dim)
        vectors_UE = vocabulary.vectors_UE
        if vectors_UE is None:
            vectors_UE = np.zeros(shape, np.float32)
        if vectors_UE.shape != shape:
            raise ValueError(f"streamers' vectors must be {shape}, not {vectors_UE.shape}")
        scale = float(np.sqrt(np.mean(np.square(vectors_UE, dtype=np.float64)))) or 1.0
        table_UE = np.concatenate((np.zeros((1, streamer_dim), np.float32), vectors_UE / scale))
        self.register_buffer("table_UE", torch.from_numpy(table_UE.astype(np.float32)))
        self.unknown_E = nn.Parameter(torch.randn(streamer_dim) * 0.02)
        self.project = nn.Linear(streamer_dim, d_model)

    def forward(self, streamer_B: Tensor) -> Tensor:
        """Embeddings [B, D] of the streamers' rows [B]."""
        known_BE = self.table_UE[streamer_B]
        vector_BE = torch.where(streamer_B[..., None] == 0, self.unknown_E, known_BE)
        out: Tensor = self.project(vector_BE)
        return out


class OneForAll(nn.Module):
    """The same learned vector for every streamer: the model without the item modality (Table 3)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.vector_D = nn.Parameter(torch.randn(d_model) * 0.02)

    def forward(self, streamer_B: Tensor) -> Tensor:
        """The vector for each of the rows [B]: [B, D]."""
        return self.vector_D.expand(*streamer_B.shape, -1)


class NoStreamer(nn.Module):
    """Zeros, for a model that does not look at the streamer."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.d_model = d_model

    def forward(self, streamer_B: Tensor) -> Tensor:
        """Zeros [B, D] for the rows [B]."""
        return torch.zeros(*streamer_B.shape, self.d_model, device=streamer_B.device)


def streamer_embedding(config: ModelConfig, vocabulary: Vocabulary) -> nn.Module:
    """The source that the settings name: an imported table, else a learned one."""
    if config.streamer_table:
        return ImportedStreamers(vocabulary, config.streamer_dim, config.d_model)
    return LearnedStreamers(len(vocabulary.streamers), config.streamer_dim, config.d_model)
