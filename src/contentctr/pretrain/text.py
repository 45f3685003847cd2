"""Masked language modelling on rooms' own speech and comments.

The encoder g of Section 3.2.1 goes on learning from texts of the kind it will be given, or learns
from nothing. Method: Devlin et al., "BERT" (2019), Section 3.1. Shape suffixes: N texts, L tokens.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from contentctr.encode import encoders
from contentctr.encode.encoders import Pooling, TextPairEncoder
from contentctr.encode.segments import Pair, text_pairs
from contentctr.errors import InputError
from contentctr.files import file_sha256
from contentctr.pretrain.masked import (
    MASK,
    MaskedTraining,
    PretrainConfig,
    generator,
    quiet_transformers,
    read_model_config,
    run_masked,
)
from contentctr.store.rooms import PreparedRooms
from contentctr.train.run_folder import begin_run, check_run
from contentctr.train.training import Position

IGNORED = -100
"""Label of a token that is not predicted."""
REPLACED, RANDOM = 0.8, 0.1
"""Shares of the chosen tokens that become [MASK], and any token; the others stay."""
VOCAB_SIZE = 8000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SMALL = {
    "model_type": "bert",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
}
"""`--config small`: BERT of 2 layers, 128-d."""


def pretrain_text(
    data: PreparedRooms | Path | str,
    base: str | None,
    out: Path | str,
    *,
    config: str | None = None,
    pooling: Pooling | None = None,
    max_tokens: int = 128,
    mask_share: float = 0.15,
    vocab_size: int = VOCAB_SIZE,
    settings: PretrainConfig | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Path:
    """Pre-train a text encoder by masked language modelling (BERT, Section 3.1).

    Pairs of speech and comments of training rooms, tokenised as `encode` does; validation rooms
    choose the epoch. Tokens to predict are drawn anew in every epoch.

    Args:
        data: a prepared folder.
        base: what to start from: an embedded encoder, a folder, or a name on the model hub; with
            `config`, its tokenizer alone; None: nothing, with a WordPiece tokenizer made from the
            rooms.
        config: train from nothing: "small", or a JSON file of transformers' configuration.
        out: the run's folder; must be new, unless `resume`.
        pooling: cls or mean, noted in the encoder. None: the base's own; "mean" from nothing,
            since no masked token teaches the CLS state.
        max_tokens: longer pairs are cut.
        mask_share: share of the tokens that are predicted, in (0, 1).
        vocab_size: at most so many word pieces, where the tokenizer is made here.
        settings: of the loop.
        resume: go on from OUT/last, to the bit.
        show_progress: show a bar on a terminal.

    Returns:
        OUT/encoder, for `encode --text`.

    Raises:
        InputError: the base, the data, the folder or a setting does not fit.
        NonFiniteLossError: a loss is not finite.
        KeyboardInterrupt: asked to stop; OUT/last holds the state.
    """
    data = data if isinstance(data, PreparedRooms) else PreparedRooms(Path(data))
    out, settings = Path(out), settings or PretrainConfig()
    if not 0 < mask_share < 1:
        raise InputError(f"mask_share must be above 0 and below 1, not {mask_share!r}")
    if base is None and config is None:
        raise InputError("pre-training a text encoder needs a base, or a config to start without")
    pairs = split_pairs(data)
    described = {
        "what": "pretrain text",
        "base": base,
        "config": read_model_config(config, SMALL),
        "pooling": pooling,
        "max_tokens": max_tokens,
        "mask_share": mask_share,
        "vocab_size": vocab_size,
        "segments_sha256": file_sha256(data.root / "segments.parquet"),
        "comment_lag": data.manifest()["comment_lag"],
        **asdict(settings),
    }
    last = check_run(out, described, resume=resume)
    torch.manual_seed(settings.seed)
    if last is not None:
        encoder, model = _from_base(str(last / "model"), None, max_tokens)
    elif config is None:
        encoder, model = _from_base(base or "", pooling, max_tokens)
    else:
        encoder, model = _from_nothing(pairs, base, config, pooling, max_tokens, vocab_size)
    accelerator = Accelerator(mixed_precision=settings.precision)
    with begin_run(out, described, accelerator, last):
        training = TextTraining(model, encoder, pairs, settings, accelerator, mask_share=mask_share)
        return run_masked(
            training, out, last=last, accelerator=accelerator, show_progress=show_progress
        )


def untrained_text(
    data: PreparedRooms, config: str = "small", *, max_tokens: int = 128, seed: int = 0
) -> TextPairEncoder:
    """What `pretrain_text` starts from without a base: the measure of what it gains."""
    torch.manual_seed(seed)
    encoder, _ = _from_nothing(split_pairs(data), None, config, None, max_tokens, VOCAB_SIZE)
    return encoder


@dataclass(frozen=True, kw_only=True)
class MaskedTexts:
    """Pairs of texts as the model sees them, and what it is to say."""

    rows: Tensor
    """Numbers of the pairs, [N]."""
    ids_NL: Tensor
    types_NL: Tensor
    """0 of the first text, 1 of the second."""
    mask_NL: Tensor
    """Bool, false for padding."""
    labels_NL: Tensor
    """IGNORED where nothing is predicted."""


class MaskedLanguageModel(nn.Module):
    """A masked language model of transformers that takes a piece of a batch.

    Its head is given the tokens with a label alone: of a multilingual vocabulary the logits of all
    tokens would fill the memory.

    Args:
        network: with its head.
        takes_types: whether it tells the two texts apart.
    """

    def __init__(self, network: Any, takes_types: bool) -> None:
        super().__init__()
        self.network, self._takes_types = network, takes_types

    def forward(self, batch: MaskedTexts) -> Tensor:
        """Logits of the M tokens with a label, row by row, [M, vocabulary]."""
        types = {"token_type_ids": batch.types_NL} if self._takes_types else {}
        labelled_NL = batch.labels_NL != IGNORED

        def pick(module: nn.Module, given: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[labelled_NL][None]
            return output

        hook = self.network.base_model.register_forward_hook(pick)
        try:
            logits_1MV: Tensor = self.network(
                input_ids=batch.ids_NL, attention_mask=batch.mask_NL.long(), **types
            ).logits
        finally:
            hook.remove()
        return logits_1MV[0]


class TextTraining(MaskedTraining):
    """Masked pairs of texts, and the loss on what was masked.

    Args:
        network: of transformers, with its head.
        encoder: tokenizer and pooling around the network without its head.
        pairs: of the splits train and val.
        settings: of the loop.
        accelerator: of this process.
        mask_share: share of the tokens that are predicted.
    """

    what = "pretrain text"

    def __init__(
        self,
        network: Any,
        encoder: TextPairEncoder,
        pairs: dict[str, list[Pair]],
        settings: PretrainConfig,
        accelerator: Accelerator,
        *,
        mask_share: float,
    ) -> None:
        model = MaskedLanguageModel(network, encoder.takes_types)
        sizes = {split: len(found) for split, found in pairs.items()}
        super().__init__(model, sizes, settings, accelerator)
        self.network, self.encoder, self.pairs = network, encoder, pairs
        self._mask_share = mask_share
        special = set(encoder.tokenizer.all_special_ids)
        self._special = torch.tensor(sorted(special))
        self._words = np.array([i for i in range(len(encoder.tokenizer)) if i not in special])

    def batch(self, split: str, rows: NDArray[np.int64], epoch: int) -> MaskedTexts:
        """Some pairs, masked."""
        pairs = [self.pairs[split][row] for row in rows]
        ids_NL, types_NL, mask_NL = self.encoder.tokenize(
            [speech for speech, _ in pairs], [comments for _, comments in pairs]
        )
        may_NL = mask_NL & ~torch.isin(ids_NL, self._special)
        masked_NL, labels_NL = ids_NL.clone(), torch.full_like(ids_NL, IGNORED)
        for place, row in enumerate(rows.tolist()):
            draws = generator(self.settings.seed, MASK, epoch, row)
            where = may_NL[place].nonzero().squeeze(1)
            new, chosen = mask_tokens(
                ids_NL[place, where].numpy(),
                draws,
                self._mask_share,
                mask_id=self.encoder.tokenizer.mask_token_id,
                words=self._words,
            )
            masked_NL[place, where] = torch.from_numpy(new)
            places = where[torch.from_numpy(chosen)]
            labels_NL[place, places] = ids_NL[place, places]
        return MaskedTexts(
            rows=torch.from_numpy(rows.copy()),
            ids_NL=masked_NL,
            types_NL=types_NL,
            mask_NL=mask_NL,
            labels_NL=labels_NL,
        )

    def counts(self, piece: MaskedTexts) -> Tensor:
        """Tokens with a label."""
        return (piece.labels_NL != IGNORED).sum()[None]

    def sums(self, output: Tensor, piece: MaskedTexts) -> Tensor:
        """Cross-entropies of the tokens with a label."""
        labels_M = piece.labels_NL[piece.labels_NL != IGNORED]
        loss_sum = nn.functional.cross_entropy(output.float(), labels_M, reduction="sum")
        return loss_sum[None]

    def save(self, folder: Path, position: Position) -> None:
        """Network with its head, tokenizer and pooling: a base to go on from."""
        (folder / "model").mkdir()
        self.encoder.save(folder / "model")
        self.network.save_pretrained(folder / "model")

    def export(self, folder: Path) -> None:
        """The encoder alone, as encoders.load_text reads it."""
        encoders.save(self.encoder, folder / "encoder")


def mask_tokens(
    ids_L: NDArray[np.int64],
    draws: np.random.Generator,
    share: float,
    *,
    mask_id: int,
    words: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """BERT's masking: of the chosen tokens 80 % [MASK], 10 % any word piece, 10 % as they are.

    Args:
        ids_L: tokens that may be chosen: no special ones.
        draws: random numbers of this text and epoch.
        share: of the tokens that are chosen.
        mask_id: id of [MASK].
        words: ids to draw from.

    Returns:
        The tokens as the model sees them, and which were chosen.
    """
    chosen_L = draws.random(len(ids_L)) < share
    kind_L = draws.random(len(ids_L))
    any_L = words[draws.integers(len(words), size=len(ids_L))]
    seen_L = np.where(chosen_L & (kind_L < REPLACED), mask_id, ids_L)
    swapped_L = chosen_L & (kind_L >= REPLACED) & (kind_L < REPLACED + RANDOM)
    return np.where(swapped_L, any_L, seen_L), chosen_L


def split_pairs(data: PreparedRooms) -> dict[str, list[Pair]]:
    """The pairs (speech, comments) of training and validation rooms that are not empty.

    Raises:
        InputError: training rooms have no text.
    """
    segments = data.segments()
    pairs = text_pairs(segments, data.manifest()["comment_lag"])
    found: dict[str, list[Pair]] = {"train": [], "val": []}
    for pair, split in zip(pairs, segments["split"], strict=True):
        if any(pair) and split in found:
            found[split].append(pair)
    if not found["train"]:
        raise InputError(f"{data.root}: no segment of a training room has speech or comments")
    return found


def train_tokenizer(pairs: Sequence[Pair], vocab_size: int) -> Any:
    """A lower-casing WordPiece tokenizer of BERT's form, made from texts.

    Args:
        pairs: texts of training rooms.
        vocab_size: word pieces at most; at least the special tokens and the texts' letters.
    """
    if vocab_size <= len(SPECIAL):
        raise InputError(f"vocab_size must be above {len(SPECIAL)}, not {vocab_size}")
    tokenizers = importlib.import_module("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    texts = [text for pair in pairs for text in pair]
    # The library numbers letters inside words in the random order of a hash table, and breaks
    # ties by number. Given first, in order, they make the vocabulary a function of the texts.
    inside = {
        letter
        for text in set(texts)
        for word, _ in made.pre_tokenizer.pre_tokenize_str(made.normalizer.normalize_str(text))
        for letter in word[1:]
    }
    first = [*SPECIAL, *(f"##{letter}" for letter in sorted(inside))]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=first, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    vocab = made.get_vocab()
    with quiet_transformers() as transformers:
        return transformers.BertTokenizer(vocab=vocab)


def _encoder(
    model: Any, tokenizer: Any, pooling: Pooling, max_tokens: int, prefix: str = ""
) -> TextPairEncoder:
    if tokenizer.mask_token_id is None:
        raise InputError(
            f"text encoder {tokenizer.name_or_path!r}: its tokenizer has no mask token"
        )
    limit = getattr(model.config, "max_position_embeddings", max_tokens)
    if not 8 <= max_tokens <= limit:
        raise InputError(f"max_tokens must be from 8 to {limit}, not {max_tokens}")
    return TextPairEncoder(
        "pretrained",
        model.base_model,
        tokenizer,
        pooling=pooling,
        prefix=prefix,
        max_tokens=max_tokens,
    )


def _from_base(base: str, pooling: Pooling | None, max_tokens: int) -> tuple[TextPairEncoder, Any]:
    """The base with the head it has, or with a new one on its own word embeddings."""
    found = encoders.load_text(base, pooling=pooling, max_tokens=max_tokens)
    if base == encoders.EMBEDDED:
        model = _masked_on(found.model)
    else:
        model = _load_masked(found.tokenizer.name_or_path, base)
    return _encoder(model, found.tokenizer, found.pooling, max_tokens, found.prefix), model


def _masked_on(network: Any) -> Any:
    """The network, which lies in no folder of transformers' form, with a new head."""
    with quiet_transformers() as transformers:
        model = transformers.AutoModelForMaskedLM.from_config(network.config)
    model.base_model.load_state_dict(network.state_dict())
    return model


def _load_masked(source: str, name: str) -> Any:
    try:
        with quiet_transformers() as transformers:
            return transformers.AutoModelForMaskedLM.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"text encoder {name!r} cannot be pre-trained by masking: {reason}"
        ) from None


def _from_nothing(
    pairs: dict[str, list[Pair]],
    base: str | None,
    config: str,
    pooling: Pooling | None,
    max_tokens: int,
    vocab_size: int,
) -> tuple[TextPairEncoder, Any]:
    """A model with new weights, for the base's tokenizer or one made from the rooms."""
    if base is None:
        tokenizer = train_tokenizer(pairs["train"], vocab_size)
    else:
        tokenizer = encoders.load_text(base, max_tokens=max_tokens).tokenizer
    values = {
        **(read_model_config(config, SMALL) or {}),
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }
    try:
        with quiet_transformers() as transformers:
            made = transformers.AutoConfig.for_model(**values)
            model = transformers.AutoModelForMaskedLM.from_config(made)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"config {config}: not of a masked language model ({error})") from None
    return _encoder(model, tokenizer, pooling or "mean", max_tokens), model
