"""How a picture becomes the input of a visual encoder, by settings alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from contentctr.errors import InputError

_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}
"""Filters of Pillow's that torch has too."""
_NO_CROP_SIZE = 384
"""ConvNeXt's image processors do not crop from this size on."""


Picture = Image.Image | NDArray[np.uint8]
"""RGB, of any size; as an array [H, W, 3]."""


def as_image(picture: Picture) -> Image.Image:
    """The picture as Pillow has it."""
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How a picture becomes an encoder's input."""

    resize: tuple[int, int] | int
    """(H, W) the whole picture is squeezed into, or the length of its shorter edge."""
    size: tuple[int, int]
    """(H, W) cropped from the middle after that."""
    mean: tuple[float, ...]
    """Taken from each channel of 0-255."""
    std: tuple[float, ...]
    """Each channel is divided by it."""
    resample: int
    """Pillow's number of the filter."""

    def __call__(self, image: Picture) -> NDArray[np.uint8]:
        """Resize and crop."""
        if isinstance(image, Image.Image):
            image = np.array(image.convert("RGB"))
        height, width = self._target(*image.shape[:2])
        pixels_HWC = resized(image, (height, width), self.resample)
        top, left = (height - self.size[0]) // 2, (width - self.size[1]) // 2
        return pixels_HWC[top : top + self.size[0], left : left + self.size[1]]

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.resize, int):
            return self.resize
        short = min(height, width)
        return self.resize * height // short, self.resize * width // short


def resized(
    image_HWC: NDArray[np.uint8], size: tuple[int, int], resample: int
) -> NDArray[np.uint8]:
    """An RGB picture in another size, uint8 [H, W, 3].

    torch resizes as Pillow does, to a step or two of 255 in few of the numbers, and pictures of
    1080p in a tenth of the time; in whole numbers, so with the same bits on every processor.

    Args:
        image_HWC: RGB.
        size: (H, W) wanted.
        resample: Pillow's number of the filter.
    """
    if image_HWC.shape[:2] == size:
        return image_HWC
    filter = Image.Resampling(resample)
    if filter not in _MODES:
        return np.array(Image.fromarray(image_HWC).resize(size[::-1], filter))
    pixels_1CHW = torch.from_numpy(image_HWC).permute(2, 0, 1)[None]
    out_1CHW = F.interpolate(pixels_1CHW, size=size, mode=_MODES[filter], antialias=True)
    # Torch gives a plane a channel; what follows would put them together more than once.
    planes: Any = out_1CHW[0].numpy()
    pixels_HWC: NDArray[np.uint8] = np.stack(planes, axis=-1)
    return pixels_HWC


def settings_from_json(noted: dict[str, Any], path: Path) -> ImageSettings:
    """The settings in the JSON file `path`.

    Raises:
        InputError: a part is missing or of another type.
    """
    try:
        resize = noted["resize"]
        return ImageSettings(
            resize=resize if isinstance(resize, int) else (resize[0], resize[1]),
            size=(noted["size"][0], noted["size"][1]),
            mean=tuple(noted["mean"]),
            std=tuple(noted["std"]),
            resample=noted["resample"],
        )
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not whole ({error!r})") from None


def settings_from_processor(processor: Any, name: str) -> ImageSettings:
    """The settings of a transformers image processor, as far as one size comes out of it.

    Raises:
        InputError: it does not resize to a size, or crops more than there is.
    """
    size = {k: v for k, v in dict(processor.size or {}).items() if v}
    resize: tuple[int, int] | int
    if "height" in size and "width" in size:
        resize = out = (size["height"], size["width"])
    elif "shortest_edge" in size:
        edge, share = size["shortest_edge"], getattr(processor, "crop_pct", None)
        resize, out = edge, (edge, edge)
        if share:
            resize = int(edge / share) if edge < _NO_CROP_SIZE else out
    else:
        raise InputError(
            f"image encoder {name!r}: its processor must resize to height and width or to a "
            f"shortest_edge, not to {size}"
        )
    if processor.do_resize is False:
        raise InputError(f"image encoder {name!r}: its processor must resize (do_resize)")
    crop = getattr(processor, "crop_size", None)
    if getattr(processor, "do_center_crop", False) and crop:
        out = (crop["height"], crop["width"])
    whole = (resize, resize) if isinstance(resize, int) else resize
    if out[0] > whole[0] or out[1] > whole[1]:
        raise InputError(f"image encoder {name!r}: crops {out} from the smaller {resize}")
    scale = processor.rescale_factor if processor.do_rescale else 1.0
    normal = processor.do_normalize
    return ImageSettings(
        resize=resize,
        size=out,
        mean=tuple(m / scale for m in (processor.image_mean if normal else (0.0,) * 3)),
        std=tuple(s / scale for s in (processor.image_std if normal else (1.0,) * 3)),
        resample=int(processor.resample),
    )
