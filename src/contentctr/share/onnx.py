"""The scoring model as ONNX: a whole window of encoded segments in, a score of each out.

    OUT/model.onnx   the graph; its batch may be of any size, its window is the model's
    OUT/model.json   the graph's inputs, the rows of the streamers, and what a score means

A room that is younger than the window stands at its beginning; what follows is padding and may be
anything finite, since no segment sees a later one. With look-back the graph is the whole window's
all the same.

Shape suffixes as in batch.py.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from contentctr import __version__
from contentctr.batch import Batch, DataSpec, ExtraInput
from contentctr.config import Config
from contentctr.errors import InputError
from contentctr.extras import require_installed
from contentctr.files import atomic, write_json
from contentctr.models.contentctr import ContentCTR
from contentctr.models.ensemble import members_of
from contentctr.models.words import DIGITS
from contentctr.outputs import output_folder
from contentctr.score.calibration import LEAST_SLOPE, Calibration
from contentctr.score.checkpoint import Checkpoint, load_for, require_live
from contentctr.score.rooms import segments_for
from contentctr.store.rooms import PreparedRooms
from contentctr.store.vectors import data_spec
from contentctr.windows.rooms import curve_windows, gather

KIND = "an ONNX model"
FILES = ("model.json", "model.onnx")
TOLERANCE = 1e-5
"""Largest difference of a score from torch's."""
_OPSET = 17
_CHECKED = 64
"""Windows of a prepared folder that are compared."""
Feed = dict[str, Tensor]


class _Scores(nn.Module):
    """A model of tensors alone, in the order of `_inputs`."""

    def __init__(self, model: nn.Module, names: Sequence[str], calibration: Calibration) -> None:
        super().__init__()
        self.model, self.names, self.calibration = model, names, calibration

    def forward(self, *tensors: Tensor) -> Tensor:
        """Scores, [B, N]."""
        found = dict(zip(self.names, tensors, strict=True))
        return _calibrated(self.model(_batch(found)).logits_BN, self.calibration)


def _calibrated(logits_BN: Tensor, calibration: Calibration) -> Tensor:
    """What Calibration makes of scores, of their log-odds: in float32 these keep more of them."""
    scores_BN: Tensor = logits_BN.sigmoid()
    found_BN: Tensor
    if calibration.method == "none":
        return scores_BN
    if calibration.method == "isotonic":
        x_K, y_K = torch.tensor(calibration.knots, dtype=torch.float32).T
        width_K = (x_K[1:] - x_K[:-1]).clamp(min=1e-9)
        share_BNK = ((scores_BN[..., None] - x_K[:-1]) / width_K).clamp(0, 1)
        found_BN = y_K[0] + (share_BNK * (y_K[1:] - y_K[:-1])).sum(-1)
    elif calibration.method == "platt":
        a, b = calibration.parameters
        found_BN = (a * logits_BN + b).sigmoid()
    else:
        a, b, c = calibration.parameters
        found_BN = (a * F.logsigmoid(logits_BN) - b * F.logsigmoid(-logits_BN) + c).sigmoid()
    return (1 - LEAST_SLOPE) * found_BN + LEAST_SLOPE * scores_BN


def export_onnx(
    checkpoint: Checkpoint | Path | str,
    out: Path | str,
    *,
    data: PreparedRooms | None = None,
) -> float:
    """Write a model that scores live rooms as ONNX.

    Args:
        checkpoint: a checkpoint or run folder.
        out: a new or empty folder, or one of an earlier export, whose files are replaced.
        data: rooms whose windows are compared too, beside random ones.

    Returns:
        The largest difference between its scores and torch's that was found.

    Raises:
        InputError: the model is of another kind, the extra `fast` is not installed, or the scores
            differ by more than 1e-5; then nothing is written.
    """
    for package in ("onnx", "onnxruntime"):
        require_installed(package, "fast")
    checkpoint = load_for(checkpoint, "rooms")
    require_live(checkpoint.config)
    model = checkpoint.load_model()
    if not all(isinstance(member, ContentCTR) for member in members_of(model)):
        raise InputError(
            "model.kind must be contentctr or an attention variant of it to be exported, not "
            f"{checkpoint.config.model.kind!r}"
        )
    if data is not None and checkpoint.finetuned:
        raise InputError(f"{checkpoint.folder}: encodes by itself; leave --data out")
    feeds = [_random(checkpoint.config, checkpoint.spec, model, count) for count in (1, 3, 8)]
    if data is not None:
        feeds += _real(checkpoint, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _write(model, checkpoint.calibration, feeds[1], path)
        worst, inputs = _compare(model, checkpoint.calibration, path, feeds)
        about = _about(checkpoint, inputs, worst, data is not None)
        with output_folder(Path(out), KIND, FILES):
            with atomic(Path(out) / "model.onnx") as temporary:
                temporary.write_bytes(path.read_bytes())
            write_json(Path(out) / "model.json", about)
    return worst


def _batch(feed: Mapping[str, Tensor]) -> Batch:
    """The windows as the model takes them."""
    extra = {
        name: ExtraInput(values_BNX=feed[name], has_BN=feed[f"has_{name}"])
        for name in ("statistics", "sound", "words")
        if name in feed
    }
    return Batch(
        visual_BNV=feed["visual"],
        text_BNT=feed["text"],
        has_visual_BN=feed["has_visual"],
        has_speech_BN=feed["has_speech"],
        has_comments_BN=feed["has_comments"],
        streamer_B=feed["streamer"],
        # Padding stands behind what is real, where the causal mask hides it: none is told.
        valid_BN=feed["has_visual"],
        target_BN=feed["visual"][..., 0],
        window_B=feed["streamer"],
        extra=extra,
        mean_logit_BN=feed.get("mean_logit"),
    )


def _feed(batch: Batch, config: Config) -> Feed:
    """The other way round."""
    feed = {
        "visual": batch.visual_BNV,
        "text": batch.text_BNT,
        "has_visual": batch.has_visual_BN,
        "has_speech": batch.has_speech_BN,
        "has_comments": batch.has_comments_BN,
        "streamer": batch.streamer_B,
    }
    for name in config.model.extra_tokens + ("words",) * config.model.words:
        feed[name], feed[f"has_{name}"] = batch.extra[name].values_BNX, batch.extra[name].has_BN
    if config.model.residual:
        assert batch.mean_logit_BN is not None
        feed["mean_logit"] = batch.mean_logit_BN
    return feed


def _random(config: Config, spec: DataSpec, model: nn.Module, count: int) -> Feed:
    """Windows of random segments, some parts missing."""
    generator = torch.Generator().manual_seed(count)
    shape = (count, config.data.window_len)

    def normal(*width: int) -> Tensor:
        return torch.randn(*shape, *width, generator=generator)

    def flags() -> Tensor:
        return torch.rand(shape, generator=generator) < 0.7

    rows = _streamer_rows(model)
    feed = {
        "visual": normal(spec.visual_dim),
        "text": normal(spec.text_dim),
        "has_visual": flags(),
        "has_speech": flags(),
        "has_comments": flags(),
        "streamer": torch.randint(rows, (count,), generator=generator),
    }
    for name in config.model.extra_tokens:
        feed[name], feed[f"has_{name}"] = normal(getattr(spec, f"{name}_dim")), flags()
    if config.model.words:
        numbers = torch.randint(DIGITS, (*shape, spec.words_dim), generator=generator)
        feed["words"], feed["has_words"] = numbers.float(), flags()
    if config.model.residual:
        feed["mean_logit"] = torch.where(flags(), normal(), torch.nan)
    return feed


def _streamer_rows(model: nn.Module) -> int:
    """Rows of the table of streamers, which members have alike; 1 where the model has none."""
    streamer = members_of(model)[0].streamer
    table = getattr(streamer, "table", None)
    imported = getattr(streamer, "table_UE", None)
    if isinstance(table, nn.Embedding):
        return table.num_embeddings
    return 1 if imported is None else len(imported)


def _real(checkpoint: Checkpoint, data: PreparedRooms) -> list[Feed]:
    """Some windows of a prepared folder."""
    checkpoint.require_fits(data_spec(data, inputs=False), data.root)
    config = checkpoint.config
    segments = segments_for(checkpoint, data, "all")
    windows, _ = curve_windows(segments, config.data.window_len)
    which = np.unique(np.linspace(0, len(windows) - 1, _CHECKED).astype(np.int64))
    return [_feed(gather(segments, windows, which, config.data.window_len), config)]


def _write(model: nn.Module, calibration: Calibration, feed: Feed, path: Path) -> None:
    names = list(feed)
    with warnings.catch_warnings(), torch.no_grad():
        # Of sizes that are the model's own, and of the older exporter: the newer one needs a
        # package more (docs/decisions.md, "Inference engines").
        warnings.simplefilter("ignore")
        torch.onnx.export(
            # The exporter puts back the mode that it finds, and a new module's is that of training.
            _Scores(model, names, calibration).eval(),
            tuple(feed.values()),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            output_names=["scores"],
            dynamic_axes={name: {0: "batch"} for name in (*names, "scores")},
        )


def _compare(
    model: nn.Module, calibration: Calibration, path: Path, feeds: Sequence[Feed]
) -> tuple[float, dict[str, list[str | int]]]:
    """The largest difference, and the graph's inputs by name: type, then sizes.

    Raises:
        InputError: it is too large.
    """
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # A part that the model does not look at is no input of the graph.
    inputs = {each.name: [each.type, *each.shape] for each in session.get_inputs()}
    worst = 0.0
    for feed in feeds:
        given = {name: feed[name].numpy() for name in inputs}
        found_BN: NDArray[np.float32] = session.run(None, given)[0]
        with torch.no_grad():
            wanted_BN = calibration(model(_batch(feed)).scores_BN.numpy())
        difference = float(np.abs(found_BN - wanted_BN).max())
        worst = max(worst, difference if np.isfinite(difference) else np.inf)
    if worst > TOLERANCE:
        raise InputError(
            f"ONNX Runtime's scores differ from torch's by {worst:.2g}, more than {TOLERANCE:g}: "
            "nothing was written"
        )
    return worst, inputs


def _about(
    checkpoint: Checkpoint, inputs: Mapping[str, Any], worst: float, real: bool
) -> dict[str, Any]:
    config, spec = checkpoint.config, checkpoint.spec
    return {
        "made_by": f"contentctr {__version__}",
        "model_id": checkpoint.model_id,
        "target": spec.target,
        "target_name": spec.target_name,
        "simulated": spec.simulated,
        "window_len": config.data.window_len,
        "horizon": config.data.horizon,
        "segment_seconds": spec.segment_seconds,
        "visual_encoder": {"name": spec.visual_encoder, "revision": spec.visual_revision},
        "text_encoder": {
            "name": spec.text_encoder,
            "revision": spec.text_revision,
            "pooling": spec.text_pooling,
            "prefix": spec.text_prefix,
            "max_tokens": spec.max_text_tokens,
        },
        "inputs": dict(inputs),
        "output": "scores: float [batch, window_len], of each segment from itself and those before",
        "streamers": {name: row for row, name in enumerate(checkpoint.vocabulary.streamers, 1)},
        "unknown_streamer": 0,
        "calibration": checkpoint.calibration.method,
        "largest_difference": worst,
        "compared_on": "random and real windows" if real else "random windows",
    }
