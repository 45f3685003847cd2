"""Tiny Hugging Face models with random weights, saved as a user's folders would be."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    ConvNextConfig,
    ConvNextModel,
    DistilBertConfig,
    DistilBertModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.utils import logging

TINY_WORDS = (
    "hello this song is great dance more please welcome everyone thanks for the gift we love you "
    "product price link now look wow one two three"
).split()

logging.disable_progress_bar()


def make_tiny_swin(folder: Path, *, seed: int = 0) -> Path:
    """A SwinModel of 32 x 32 pictures and 16-d features, with its image processor."""
    torch.manual_seed(seed)
    config = SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=4,
        drop_path_rate=0.0,
        initializer_range=0.2,
    )
    SwinModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def make_tiny_bert(folder: Path, *, seed: int = 0) -> Path:
    """A BertModel of 16-d features with a WordPiece tokenizer of some words and all letters."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *TINY_WORDS]
    vocab += [f"##{c}" for c in letters]
    BertTokenizer(vocab={word: i for i, word in enumerate(vocab)}).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def make_tiny_image_models(root: Path) -> dict[str, Path]:
    """Of pictures of 32 x 32: a folder of each class, by its name."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    models = {
        "vit": ViTModel(ViTConfig(**sizes, intermediate_size=24, image_size=32, patch_size=8)),
        "convnext": ConvNextModel(
            ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 2, 1], image_size=32)
        ),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
        ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(root / name)
    return {"swin": make_tiny_swin(root / "swin")} | {name: root / name for name in models}


def make_tiny_text_models(root: Path) -> dict[str, Path]:
    """With the tokenizer of `make_tiny_bert`: a folder of each class, by its name."""
    bert = make_tiny_bert(root / "bert")
    tokenizer = AutoTokenizer.from_pretrained(bert)
    torch.manual_seed(0)
    count, padding = len(tokenizer), tokenizer.pad_token_id
    models = {
        # It takes no token types, and its positions begin after the padding's number.
        "xlm-roberta": XLMRobertaModel(
            XLMRobertaConfig(
                vocab_size=count,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=24,
                max_position_embeddings=140,
                pad_token_id=padding,
                type_vocab_size=2,
            )
        ),
        "distilbert": DistilBertModel(
            DistilBertConfig(vocab_size=count, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
        ),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return {"bert": bert} | {name: root / name for name in models}
