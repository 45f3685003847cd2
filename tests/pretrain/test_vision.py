"""Masked image modelling: what is hidden, what is learned, what a resumed run ends with."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from contentctr.encode import encoders
from contentctr.errors import InputError
from contentctr.pretrain import frames, vision
from contentctr.pretrain.frames import cache_frames
from contentctr.pretrain.masked import PretrainConfig, generator
from contentctr.pretrain.vision import VisionTraining, _from_base, hide_squares, pretrain_vision
from contentctr.train.loop import train_step
from tiny_models import make_tiny_bert, make_tiny_swin
from tiny_rooms import write_tiny_rooms

SETTINGS = PretrainConfig(epochs=4, batch_size=6, learning_rate=1e-2, save_every=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_rooms(tmp_path_factory.mktemp("vision") / "data")


@pytest.fixture(scope="module")
def swin(tmp_path_factory):
    return str(make_tiny_swin(tmp_path_factory.mktemp("swin") / "swin"))


@pytest.fixture(scope="module")
def whole(data, swin, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    pretrain_vision(data, swin, out, settings=SETTINGS)
    return out


@pytest.fixture
def training(data, swin, tmp_path):
    network, image = _from_base(swin)
    cached = {
        s: cache_frames(data, tmp_path, image, split=s, show_progress=False)
        for s in ("train", "val")
    }
    return VisionTraining(
        network, image, cached, SETTINGS, Accelerator(), mask_ratio=0.6, mask_side=8
    )


def differing(one: Path, other: Path) -> list[str]:
    names = {str(p.relative_to(f)) for f in (one, other) for p in f.rglob("*") if p.is_file()}
    return sorted(n for n in names if (one / n).read_bytes() != (other / n).read_bytes())


# What is hidden


@pytest.mark.parametrize(("squares", "ratio", "hidden"), [(6, 0.6, 22), (4, 0.5, 8), (2, 0.1, 1)])
def test_share_of_hidden_squares(squares, ratio, hidden):
    masks = np.stack([hide_squares(squares, ratio, generator(k)) for k in range(400)])
    assert (masks.sum((1, 2)) == hidden).all()
    assert masks.mean(0) == pytest.approx(hidden / squares**2, abs=0.12)


def test_squares_cover_whole_patches(training):
    hidden_FP = training.batch("train", np.arange(4), 0).hidden_FP
    assert hidden_FP.shape == (4, 64) and hidden_FP.dtype == torch.bool
    squares = hidden_FP.reshape(4, 4, 2, 4, 2)
    assert (squares == squares[:, :, :1, :, :1]).all()
    assert (hidden_FP.sum(1) == 4 * 10).all()


def test_masks_depend_on_epoch_and_row_alone(training):
    rows = np.array([5, 0, 3])
    together, alone = training.batch("train", rows, 2), training.batch("train", rows[2:], 2)
    assert together.rows.tolist() == [5, 0, 3]
    assert torch.equal(together.pixels_FCHW[2], alone.pixels_FCHW[0])
    assert torch.equal(together.hidden_FP[2], alone.hidden_FP[0])
    assert not torch.equal(together.hidden_FP, training.batch("train", rows, 3).hidden_FP)


def test_pictures_are_normalised_as_the_encoder_does_and_half_are_mirrored(training):
    rows = np.arange(18)
    pixels = training.batch("train", rows, 0).pixels_FCHW
    frames_FHWC = torch.from_numpy(training.frames["train"].read(rows))
    expected = (frames_FHWC.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    as_is = [torch.allclose(a, b, atol=1e-5) for a, b in zip(pixels, expected, strict=True)]
    turned = [
        torch.allclose(a, b.flip(2), atol=1e-5) for a, b in zip(pixels, expected, strict=True)
    ]
    assert all(a != b for a, b in zip(as_is, turned, strict=True)) and 3 < sum(turned) < 15
    held_out = training.batch("val", np.arange(6), 0).pixels_FCHW
    frames_FHWC = torch.from_numpy(training.frames["val"].read(np.arange(6)))
    assert torch.allclose(held_out, (frames_FHWC.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5, atol=1e-5)


def test_only_hidden_pixels_count(training):
    batch = training.batch("train", np.arange(3), 0)
    pixels, hidden = batch.pixels_FCHW, batch.hidden_FP
    with torch.no_grad():
        found = training.sums(training.model.eval()(batch), batch)
        out = training.network(pixel_values=pixels, bool_masked_pos=hidden)
    count = training.counts(batch)
    expected, terms = 0.0, 0
    for f in range(3):
        for y in range(32):
            for x in range(32):
                if hidden[f, y // 4 * 8 + x // 4]:
                    error = out.reconstruction[f, :, y, x] - pixels[f, :, y, x]
                    expected += float(error.abs().sum())
                    terms += 3
    assert float(found) == pytest.approx(expected, rel=1e-4) and int(count) == terms
    assert float(found / count) == pytest.approx(float(out.loss), rel=1e-4)


# The frames


def test_frames_are_those_that_encode_takes_of_the_split(training, data):
    assert training.sizes == {"train": 18, "val": 6}
    encoder_size = training.image
    for row, (room, second) in {7: ("room1", 45), 0: ("room0", 15), 17: ("room2", 165)}.items():
        picture = Image.open(data.root / "media" / room / f"{second}.png")
        assert (training.frames["train"].read(np.array([row]))[0] == encoder_size(picture)).all()


def test_frames_are_decoded_once_and_again_where_they_changed(data, swin, tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "CHUNK", 4)
    _, image = _from_base(swin)
    decoded = []
    monkeypatch.setattr(frames, "segment_frames", _noting(decoded, frames.segment_frames))

    def cached(settings):
        return cache_frames(data, tmp_path, settings, split="train", show_progress=False)

    first = cached(image).read(np.arange(18))
    assert len(decoded) == 3 and len(list(tmp_path.glob("*.safetensors"))) == 6
    assert (cached(image).read(np.arange(18)) == first).all() and len(decoded) == 3
    next(iter(tmp_path.glob("room1*.json"))).unlink()  # as if killed in this room
    assert (cached(image).read(np.arange(18)) == first).all() and len(decoded) == 4
    smaller = vision._from_config({**vision.SMALL, "image_size": 32}, "small")[1]
    assert cached(smaller).read(np.arange(18)).shape == (18, 32, 32, 3) and len(decoded) == 7


def _noting(calls, function):
    def wrapped(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return wrapped


def test_a_damaged_file_of_frames_is_named(training, tmp_path):
    path = next(iter(tmp_path.glob("room1*.safetensors")))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="room1.*not a readable file of frames"):
        training.frames["train"].read(np.arange(18))


# What is learned


def test_loss_falls(whole):
    rows = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    held_out = [row["loss"] for row in rows if row["split"] == "val"]
    assert len(held_out) == 4 and len(rows) == 4 * 3 + 4
    assert min(held_out) < held_out[0] - 0.1


def test_export_gives_the_features_of_the_trained_model(data, swin, tmp_path, monkeypatch):
    kept, export = [], VisionTraining.export

    def noting(self, folder):
        kept.append(self)
        export(self, folder)

    monkeypatch.setattr(VisionTraining, "export", noting)
    one = PretrainConfig(epochs=1, batch_size=6, learning_rate=1e-2)
    folder = pretrain_vision(data, swin, tmp_path / "out", settings=one)
    loaded, before = encoders.load_visual(str(folder)), encoders.load_visual(swin)
    assert loaded.settings == before.settings and loaded.dim == before.dim
    pictures = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    pixels = (pictures.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        model = kept[0].network.eval().swin
        expected = model(pixel_values=pixels).last_hidden_state.mean(1)
        assert torch.allclose(loaded(pictures), expected, atol=1e-6)
        assert not torch.allclose(loaded(pictures), before(pictures), atol=1e-3)


def test_small_from_nothing(data, tmp_path):
    one = PretrainConfig(epochs=1, batch_size=9)
    folder = pretrain_vision(data, None, tmp_path / "out", config="small", settings=one)
    loaded = encoders.load_visual(str(folder))
    assert (loaded.size, loaded.dim) == ((64, 64), 128)


# Resuming


def test_a_stopped_run_resumes_to_the_same_bits(data, swin, tmp_path, whole, monkeypatch):
    out = tmp_path / "out"

    def stopped(*args, **kwargs):
        if kwargs["step"] == 4:
            signal.raise_signal(signal.SIGINT)
        return train_step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("contentctr.train.loop.train_step", stopped)
        with pytest.raises(KeyboardInterrupt, match="step 5"):
            pretrain_vision(data, swin, out, settings=SETTINGS)
    pretrain_vision(data, swin, out, settings=SETTINGS, resume=True)
    assert differing((out / "last").resolve(), (whole / "last").resolve()) == []
    assert differing((out / "encoder").resolve(), (whole / "encoder").resolve()) == []
    assert (out / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()


def test_a_run_killed_among_the_frames_resumes(data, swin, tmp_path, whole, monkeypatch):
    out, made = tmp_path / "out", vision.cache_frames

    def killed(*arguments, **options):
        raise RuntimeError("killed")

    monkeypatch.setattr(vision, "cache_frames", killed)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain_vision(data, swin, out, settings=SETTINGS)
    monkeypatch.setattr(vision, "cache_frames", made)
    pretrain_vision(data, swin, out, settings=SETTINGS, resume=True)
    assert differing((out / "last").resolve(), (whole / "last").resolve()) == []


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": None}, "either a base or a config"),
        ({"config": "small"}, "either a base or a config"),
        ({"base": "embedded"}, "convolutional network, which masked image modelling cannot"),
        ({"mask_ratio": 0.0}, "mask_ratio must be above 0 and below 1, not 0.0"),
        ({"mask_patch_size": 6}, "multiple of the model's patch_size 4 .* not 6"),
        ({"mask_patch_size": 12}, "divide its image_size 32, not 12"),
        ({"base": "./nowhere"}, "image encoder './nowhere' cannot be loaded"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(data, swin, tmp_path, options, message):
    base = options.pop("base", swin)
    with pytest.raises(InputError, match=message):
        pretrain_vision(data, base, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "vit"}, "model_type must be swin, not 'vit'"),
        ({"image_size": 40}, "image_size must be a multiple of 16 .* not 40"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(data, tmp_path, change, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**vision.SMALL, **change}))
    with pytest.raises(InputError, match=message):
        pretrain_vision(data, None, tmp_path / "out", config=str(path))


def test_a_text_model_is_refused(data, tmp_path):
    bert = make_tiny_bert(tmp_path / "bert")
    with pytest.raises(InputError, match="image encoder"):
        pretrain_vision(data, str(bert), tmp_path / "out")


def test_rooms_without_pictures_are_refused(swin, tmp_path):
    data = write_tiny_rooms(tmp_path / "data", frames=False)
    with pytest.raises(InputError, match="no training room has pictures"):
        pretrain_vision(data, swin, tmp_path / "out")
