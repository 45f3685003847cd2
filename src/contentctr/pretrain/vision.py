"""Masked image modelling on rooms' own frames.

The encoder f of Section 3.2.1, a Swin Transformer, goes on learning from pictures of the kind it
will be given, or learns from nothing. Method: Xie et al., "SimMIM" (2022). Shape suffixes:
batch.py's legend; F frames, H height, W width, C channels, P patches.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from contentctr.encode import encoders
from contentctr.encode.encoders import HuggingFaceImage, ImageEncoder
from contentctr.encode.pictures import ImageSettings
from contentctr.errors import InputError
from contentctr.files import file_sha256
from contentctr.pretrain.frames import FrameCache, cache_frames, pictures_state
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

SMALL = {
    "model_type": "swin",
    "image_size": 64,
    "patch_size": 8,
    "embed_dim": 64,
    "depths": [2, 2],
    "num_heads": [4, 8],
    "window_size": 4,
    "drop_path_rate": 0.0,
}
"""`--config small`: Swin of 2 stages for pictures of 64 x 64, 128-d."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pretrain_vision(
    data: PreparedRooms | Path | str,
    base: str | None,
    out: Path | str,
    *,
    config: str | None = None,
    mask_ratio: float = 0.6,
    mask_patch_size: int | None = None,
    settings: PretrainConfig | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Path:
    """Pre-train a Swin Transformer by masked image modelling (SimMIM, Section 3).

    The frames that `encode` takes of training rooms, half of them mirrored; validation rooms
    choose the epoch. Squares to hide are drawn anew in every epoch. The frames are decoded once,
    into OUT/frames, which may be removed after the run.

    Args:
        data: a prepared folder with media.
        base: what to start from: a folder or a name on the model hub of a Swin Transformer.
        out: the run's folder; must be new, unless `resume`.
        config: train from nothing: "small", or a JSON file of transformers' SwinConfig; in place
            of `base`.
        mask_ratio: share of the squares that are hidden, in (0, 1).
        mask_patch_size: side of a square in pixels; divides the picture's side, and a multiple of
            the model's patches. None: what a token of the last stage covers (32 for four
            stages, as in SimMIM).
        settings: of the loop.
        resume: go on from OUT/last, to the bit.
        show_progress: show a bar on a terminal.

    Returns:
        OUT/encoder, for `encode --visual`.

    Raises:
        InputError: the base, the data, the folder or a setting does not fit.
        NonFiniteLossError: a loss is not finite.
        KeyboardInterrupt: asked to stop; OUT/last holds the state.
    """
    data = data if isinstance(data, PreparedRooms) else PreparedRooms(Path(data))
    out, settings = Path(out), settings or PretrainConfig()
    if (base is None) == (config is None):
        raise InputError("pre-training a visual encoder needs either a base or a config")
    if not 0 < mask_ratio < 1:
        raise InputError(f"mask_ratio must be above 0 and below 1, not {mask_ratio!r}")
    _require_pictures(data)
    described = {
        "what": "pretrain vision",
        "base": base,
        "config": read_model_config(config, SMALL),
        "mask_ratio": mask_ratio,
        "mask_patch_size": mask_patch_size,
        "segments_sha256": file_sha256(data.root / "segments.parquet"),
        "frames_per_segment": data.manifest()["frames_per_segment"],
        "media": pictures_state(data),
        **asdict(settings),
    }
    last = check_run(out, described, resume=resume)
    torch.manual_seed(settings.seed)
    if last is None and config is not None:
        model, image = _from_config(described["config"], config)
    else:
        model, image = _from_base(str(last / "model") if last else base or "")
    side = _mask_side(model.config, mask_patch_size)
    accelerator = Accelerator(mixed_precision=settings.precision)
    with begin_run(out, described, accelerator, last):
        frames = {}
        with accelerator.main_process_first():  # it decodes them, the others read its files
            for split in ("train", "val"):
                frames[split] = cache_frames(
                    data,
                    out / "frames",
                    image,
                    split=split,
                    show_progress=show_progress and accelerator.is_main_process,
                )
        if not len(frames["train"]):
            raise InputError(f"{data.root}: no frame of a training room can be read")
        training = VisionTraining(
            model, image, frames, settings, accelerator, mask_ratio=mask_ratio, mask_side=side
        )
        return run_masked(
            training, out, last=last, accelerator=accelerator, show_progress=show_progress
        )


def untrained_visual(config: str = "small", *, seed: int = 0) -> ImageEncoder:
    """What `pretrain_vision` starts from without a base: the measure of what it gains."""
    torch.manual_seed(seed)
    model, image = _from_config(read_model_config(config, SMALL), config)
    return _encoder(model, image)


@dataclass(frozen=True, kw_only=True)
class MaskedPictures:
    """Pictures, and which of their patches the model does not see."""

    rows: Tensor
    """Numbers of the frames, [F]."""
    pixels_FCHW: Tensor
    """Normalised."""
    hidden_FP: Tensor
    """Bool."""


class MaskedImageModel(nn.Module):
    """A Swin Transformer with SimMIM's decoder that takes a piece of a batch."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: MaskedPictures) -> Tensor:
        """The pictures as the model makes them, [F, C, H, W]."""
        made_FCHW: Tensor = self.network(
            pixel_values=batch.pixels_FCHW, bool_masked_pos=batch.hidden_FP
        ).reconstruction
        return made_FCHW


class VisionTraining(MaskedTraining):
    """Pictures with hidden squares, and the loss on what was hidden.

    Args:
        network: of transformers, with its decoder.
        image: how pictures are cut and normalised.
        frames: of the splits train and val.
        settings: of the loop.
        accelerator: of this process.
        mask_ratio: share of the squares that are hidden.
        mask_side: side of a square in pixels.
    """

    what = "pretrain vision"

    def __init__(
        self,
        network: Any,
        image: ImageSettings,
        frames: dict[str, FrameCache],
        settings: PretrainConfig,
        accelerator: Accelerator,
        *,
        mask_ratio: float,
        mask_side: int,
    ) -> None:
        sizes = {split: len(found) for split, found in frames.items()}
        super().__init__(MaskedImageModel(network), sizes, settings, accelerator)
        self.network, self.image, self.frames = network, image, frames
        self._ratio = mask_ratio
        self._squares = network.config.image_size // mask_side
        """Along one side of the picture."""
        self._patch: int = network.config.patch_size
        self._scale = mask_side // self._patch
        self._mean_C11, self._std_C11 = (
            torch.tensor(values)[:, None, None] for values in (image.mean, image.std)
        )

    def batch(self, split: str, rows: NDArray[np.int64], epoch: int) -> MaskedPictures:
        """Some frames, those of the split train mirrored in half of all cases."""
        frames_FHWC = self.frames[split].read(rows)
        hidden = []
        for place, row in enumerate(rows.tolist()):
            draws = generator(self.settings.seed, MASK, epoch, row)
            hidden.append(hide_squares(self._squares, self._ratio, draws))
            if split == "train" and draws.random() < 0.5:
                frames_FHWC[place] = frames_FHWC[place, :, ::-1].copy()
        pixels_FCHW = torch.from_numpy(frames_FHWC).permute(0, 3, 1, 2).float()
        hidden_F = np.stack(hidden).repeat(self._scale, axis=1).repeat(self._scale, axis=2)
        return MaskedPictures(
            rows=torch.from_numpy(rows.copy()),
            pixels_FCHW=(pixels_FCHW - self._mean_C11) / self._std_C11,
            hidden_FP=torch.from_numpy(hidden_F).flatten(1),
        )

    def counts(self, piece: MaskedPictures) -> Tensor:
        """Hidden numbers: pixels of hidden patches, times channels."""
        channels = piece.pixels_FCHW.shape[1]
        return piece.hidden_FP.sum()[None] * (self._patch**2 * channels)

    def sums(self, output: Tensor, piece: MaskedPictures) -> Tensor:
        """Absolute errors of hidden pixels (SimMIM, Section 3.4)."""
        side = self.network.config.image_size // self._patch
        hidden_FHW = piece.hidden_FP.reshape(-1, side, side).repeat_interleave(self._patch, 1)
        hidden_F1HW = hidden_FHW.repeat_interleave(self._patch, 2)[:, None]
        return ((output.float() - piece.pixels_FCHW).abs() * hidden_F1HW).sum()[None]

    def save(self, folder: Path, position: Position) -> None:
        """Network with its decoder, and how pictures are cut: a base to go on from."""
        (folder / "model").mkdir()
        _encoder(self.network, self.image).save(folder / "model")
        self.network.save_pretrained(folder / "model")

    def export(self, folder: Path) -> None:
        """The encoder alone, as encoders.load_visual reads it."""
        encoders.save(_encoder(self.network, self.image), folder / "encoder")


def hide_squares(squares: int, ratio: float, draws: np.random.Generator) -> NDArray[np.bool_]:
    """SimMIM's random masking: which of the squares of a picture are hidden.

    Args:
        squares: along one side.
        ratio: share that is hidden, rounded up to a whole number.
        draws: random numbers of this picture and epoch.

    Returns:
        [squares, squares], of which ceil(ratio squares^2) are true.
    """
    count = squares * squares
    hidden = draws.permutation(count) < math.ceil(ratio * count)
    return hidden.reshape(squares, squares)


def _encoder(model: Any, image: ImageSettings) -> ImageEncoder:
    """The encoder without mask token and decoder, with the mean over patches as its output."""
    with quiet_transformers() as transformers:
        swin = transformers.SwinModel(model.config)
    state = model.swin.state_dict()
    del state["embeddings.mask_token"]
    swin.load_state_dict(state)
    backbone = HuggingFaceImage(swin.eval(), image.size, pooler=True)
    return ImageEncoder("pretrained", backbone, image)


def _require_pictures(data: PreparedRooms) -> None:
    rooms = data.rooms().filter(split="train")
    if rooms["media"].null_count() == rooms.height:
        raise InputError(f"{data.root}: no training room has pictures")


def _from_base(base: str) -> tuple[Any, ImageSettings]:
    """The base with the decoder it has, or with a new one."""
    if base == encoders.EMBEDDED:
        raise InputError(
            "the embedded visual encoder is a convolutional network, which masked image modelling "
            "cannot train; give a Swin Transformer as base, or --config small"
        )
    found = encoders.load_visual(base)
    config = getattr(getattr(found.backbone, "model", None), "config", None)
    kind = getattr(config, "model_type", "efficientnet-lite")
    if config is None or kind != "swin":
        raise InputError(
            f"image encoder {base!r}: masked image modelling needs a Swin Transformer (model_type "
            f"swin), not {kind}"
        )
    _check(config, base)
    if found.size != (config.image_size, config.image_size):
        raise InputError(
            f"image encoder {base!r}: its pictures must have the side of the model's image_size "
            f"{config.image_size}, not {found.size}"
        )
    try:
        with quiet_transformers() as transformers:
            model = transformers.SwinForMaskedImageModeling.from_pretrained(
                base, config=config, dtype=torch.float32, use_safetensors=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"image encoder {base!r} cannot be pre-trained: {reason}") from None
    return model, found.settings


def _from_config(values: Any, name: str) -> tuple[Any, ImageSettings]:
    """A model with new weights, for whole pictures squeezed to its size."""
    if values.get("model_type") != "swin":
        raise InputError(
            f"config {name}: model_type must be swin, not {values.get('model_type')!r}"
        )
    try:
        with quiet_transformers() as transformers:
            made = transformers.SwinConfig(**{k: v for k, v in values.items() if k != "model_type"})
            _check(made, f"config {name}")
            model = transformers.SwinForMaskedImageModeling(made)
    except (TypeError, ValueError) as error:
        raise InputError(f"config {name}: not of a Swin Transformer ({error})") from None
    side = made.image_size
    image = ImageSettings(
        resize=(side, side),
        size=(side, side),
        mean=tuple(255 * m for m in IMAGENET_MEAN),
        std=tuple(255 * s for s in IMAGENET_STD),
        resample=Image.Resampling.BICUBIC,
    )
    return model, image


def _check(config: Any, name: str) -> None:
    """Set the decoder's stride to what the stages make it, and see that the size fits."""
    config.encoder_stride = config.patch_size * 2 ** (len(config.depths) - 1)
    if config.image_size % config.encoder_stride:
        raise InputError(
            f"{name}: image_size must be a multiple of {config.encoder_stride} (patch_size times 2 "
            f"for each stage after the first), not {config.image_size}"
        )


def _mask_side(config: Any, wanted: int | None) -> int:
    side: int = config.encoder_stride if wanted is None else wanted
    if side < 1 or side % config.patch_size or config.image_size % side:
        raise InputError(
            f"mask_patch_size must be a multiple of the model's patch_size {config.patch_size} "
            f"and divide its image_size {config.image_size}, not {side}"
        )
    return side
