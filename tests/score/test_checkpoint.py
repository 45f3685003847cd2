"""Checkpoints: what is saved comes back to the bit, and damage is named."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import override
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.models.registry import build_model
from contentctr.score import checkpoint as checkpoints
from contentctr.score import weights
from contentctr.score.checkpoint import Checkpoint
from contentctr.score.weights import load_optimizer, save_optimizer, without_memory
from contentctr.train.loop import train_model
from make import make_batch, write_data
from training import TINY, same, with_train

SPEC = DataSpec(visual_dim=6, text_dim=4)
KNOWN = Vocabulary(streamers=["a", "b"], rooms=["r"])


def make_checkpoint(folder: Path, *, seed: int = 0, adam: bool = False) -> torch.nn.Module:
    """Save a fresh model in `folder`."""
    torch.manual_seed(seed)
    model = build_model(TINY, SPEC, KNOWN).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01) if adam else None
    if optimizer is not None:
        model(make_batch()).logits_BN.sum().backward()
        optimizer.step()
    checkpoints.save(
        folder,
        model,
        config=TINY,
        spec=SPEC,
        vocabulary=KNOWN,
        info={"position": {"step": 7}},
    )
    if optimizer is not None:
        save_optimizer(optimizer, folder / "training")
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_saved_and_loaded_are_equal_to_the_bit(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "c", adam=True)
    saved = checkpoints.load(tmp_path / "c")
    assert (saved.config, saved.spec, saved.vocabulary) == (TINY, SPEC, KNOWN)
    assert saved.info == {"position": {"step": 7}} and not saved.finetuned
    loaded = saved.load_model()
    assert same(model.state_dict(), loaded.state_dict()) and not loaded.training
    batch = make_batch(seed=5)
    with torch.inference_mode():
        assert torch.equal(model.eval()(batch).logits_BN, loaded(batch).logits_BN)


def test_the_optimiser_comes_back_to_the_bit(tmp_path: Path) -> None:
    first = make_checkpoint(tmp_path / "c", adam=True).train()
    second = checkpoints.load(tmp_path / "c").load_model().train()
    states = []
    for model in (first, second):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        load_optimizer(optimizer, tmp_path / "c" / "training")
        model.zero_grad()
        torch.manual_seed(3)
        model(make_batch(seed=2)).logits_BN.square().sum().backward()
        optimizer.step()
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        assert all(int(entry["step"]) == 2 for entry in optimizer.state.values())
    assert same(*states)


def test_a_run_folder_gives_its_best_else_its_last(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for number, name in enumerate(("last", "best"), 1):
        step = run / "checkpoints" / f"step-{number}-epoch-0"
        make_checkpoint(step, seed=number)
        checkpoints.point_to(run / name, step)
        assert checkpoints.load(run).folder == step
    make_checkpoint(run / "checkpoints" / "step-3-epoch-1")
    checkpoints.point_to(run / "last", run / "checkpoints" / "step-3-epoch-1")
    (run / "checkpoints" / "my favourite").mkdir()
    (run / "checkpoints" / "notes.txt").touch()
    checkpoints.prune(run)
    kept = ["my favourite", "notes.txt", "step-2-epoch-0", "step-3-epoch-1"]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == kept
    shutil.move(run, tmp_path / "moved")  # the links are relative
    assert checkpoints.load(tmp_path / "moved").folder.name == "step-2-epoch-0"


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    best = train_model(
        with_train(epochs=1), write_data(tmp_path / "data"), tmp_path / "run", show_progress=False
    )
    files = [p for p in best.resolve().rglob("*") if p.is_file()]
    assert {p.name for p in files} == {
        "checkpoint.json",
        "calibration.json",
        "vocabulary.json",
        "model.safetensors",
        "inputs.json",
        "optimizer.json",
        "optimizer.safetensors",
        "position.json",
    }
    for path in files:
        if path.suffix == ".json":
            assert isinstance(json.loads(path.read_text()), dict)
        else:
            assert load_file(path)
            size = int.from_bytes(path.read_bytes()[:8], "little")
            json.loads(path.read_bytes()[8 : 8 + size])


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors: not a readable safetensors file"):
        checkpoints.load(folder).load_model()


def test_weights_that_do_not_fit(folder: Path) -> None:
    path = folder / "model.safetensors"
    good = load_file(path)
    name = next(k for k, v in good.items() if v.dim() == 2)
    rows, columns = good[name].shape
    cases = {
        rf"weight '{name}' must have shape \({rows}, {columns}\), not \({rows}, {columns + 1}\)": {
            **good,
            name: torch.zeros(rows, columns + 1),
        },
        rf"weight '{name}' must have shape \({rows}, {columns}\), not none": {
            k: v for k, v in good.items() if k != name
        },
        r"weight 'more' must have shape none, not \(2,\)": {**good, "more": torch.zeros(2)},
        f"weight '{name}' must be finite, and is not": {
            **good,
            name: torch.full((rows, columns), torch.nan),
        },
    }
    for message, tensors in cases.items():
        save_file(tensors, path)
        with pytest.raises(InputError, match=rf"model\.safetensors: {message}"):
            checkpoints.load(folder).load_model()
    path.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        checkpoints.load(folder).load_model()


def test_one_infinite_weight_is_found(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name].view(-1)[-1] = torch.inf
    save_file(tensors, path)
    with pytest.raises(InputError, match=rf"model\.safetensors: weight '{name}' must be finite"):
        checkpoints.load(folder).load_model()


@pytest.mark.parametrize("row", [-1, 2**14, 2**30])
@pytest.mark.parametrize(("members", "name"), [(1, "words"), (2, "members.1.words")])
def test_rows_of_words_that_are_none_are_found(
    tmp_path: Path, row: int, members: int, name: str
) -> None:
    config = override(TINY, ["words=true", f"members={members}"])
    spec = dataclasses.replace(SPEC, words_dim=4)
    model = build_model(config, spec, KNOWN)
    model.get_buffer(f"{name}.row_U")[5] = row
    checkpoints.save(tmp_path / "c", model, config=config, spec=spec, vocabulary=KNOWN, info={})
    wanted = rf"safetensors: weight '{name}\.row_U' must be in \[0, 16383\], not {row}$"
    with pytest.raises(InputError, match=wanted):
        checkpoints.load(tmp_path / "c").load_model()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2,\n', r"checkpoint\.json, line 2: not JSON"),
        ("", r"checkpoint\.json, line 1: not JSON"),
        ("[1]", r"checkpoint\.json: must hold a JSON object"),
    ],
)
def test_damaged_settings(folder: Path, text: str, message: str) -> None:
    (folder / "checkpoint.json").write_text(text)
    with pytest.raises(InputError, match=message):
        checkpoints.load(folder)


def test_wrong_fields_are_named(folder: Path) -> None:
    path = folder / "checkpoint.json"
    good = json.loads(path.read_text())
    cases: list[tuple[dict[str, object], str]] = [
        ({"format": 99}, "format must be 2, not 99"),
        ({"config": {**good["config"], "extra": {}}}, "config.*extra"),
        ({"config": [1]}, "config must be an object of settings"),
        ({"data_spec": {**good["data_spec"], "visual_dim": 0}}, "visual_dim must be at least 1"),
        ({"data_spec": {**good["data_spec"], "visual_dim": "x"}}, "visual_dim must be a number"),
    ]
    for values, message in cases:
        path.write_text(json.dumps({**good, **values}))
        with pytest.raises(InputError, match=message) as caught:
            checkpoints.load(folder)
        assert "checkpoint.json" in str(caught.value), message
    path.unlink()
    with pytest.raises(InputError, match=r"not a checkpoint \(it has no checkpoint\.json\)"):
        checkpoints.load(folder)


def test_damaged_vocabulary(folder: Path) -> None:
    change(folder / "vocabulary.json", streamers=["a", 3])
    with pytest.raises(InputError, match=r"vocabulary\.json: field 'streamers' must be a list"):
        checkpoints.load(folder)
    change(folder / "vocabulary.json", streamers=["a"])
    with pytest.raises(InputError, match=r"model\.safetensors: weight '.*streamer.*shape"):
        checkpoints.load(folder).load_model()
    (folder / "vocabulary.json").unlink()
    with pytest.raises(InputError, match=r"vocabulary\.json: no such file"):
        checkpoints.load(folder)


def test_an_interrupted_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        make_checkpoint(tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_require_fits_names_field_and_values(folder: Path) -> None:
    saved = checkpoints.load(folder)
    free = dataclasses.replace(SPEC, simulated=True, visual_encoder="elsewhere")
    saved.require_fits(free, "data")
    for field, value in (("text_revision", "9"), ("frames", "keyframe"), ("comment_lag", 1)):
        other = dataclasses.replace(SPEC, **{field: value})
        with pytest.raises(InputError, match=f"^data: .*{field} must be .*, not {value!r}"):
            saved.require_fits(other, "data")


def test_another_encoders_width(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    wide = write_data(tmp_path / "wide", v=9)
    saved: Checkpoint = checkpoints.load(tmp_path / "run")
    with pytest.raises(InputError, match="wide: does not fit.*visual_dim must be 6, not 9"):
        evaluate_model(saved, wide, tmp_path / "out", show_progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("block", "name", "value"),
    [
        ("config", "d_model", 10**9),
        ("config", "decoder_layers", 10**6),
        ("config", "d_model", 65_536),  # let in by itself: the weights are none of that size
        ("data_spec", "visual_dim", 10**12),
    ],
)
def test_absurd_sizes_take_no_memory(folder: Path, block: str, name: str, value: int) -> None:
    path = folder / "checkpoint.json"
    values = json.loads(path.read_text())
    inner = values[block]["model"] if block == "config" else values[block]
    inner[name] = value
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"must (be in \[1, |be at most|have shape)"):
        checkpoints.load(folder).load_model()


def test_every_model_is_looked_at_before_it_is_built() -> None:
    from contentctr.models.registry import MODELS

    for kind in MODELS:
        config = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, kind=kind))
        try:
            wanted = weights.shapes_of(build_model(config, SPEC, KNOWN).state_dict())
        except InputError:
            continue  # of another task
        with without_memory():
            model = build_model(config, SPEC, KNOWN)
        assert all(each.is_meta for each in model.parameters())
        assert weights.shapes_of(model.state_dict()) == wanted


def test_an_id_is_of_what_is_in_it_and_not_of_where_it_lies(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "a")
    found = checkpoints.load(tmp_path / "a").model_id
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    values = json.loads((tmp_path / "b/checkpoint.json").read_text())
    values["info"] = {"epoch": 77}
    (tmp_path / "b/checkpoint.json").write_text(json.dumps(values))
    assert checkpoints.load(tmp_path / "b").model_id == found
    assert len(found) == 12 and set(found) <= set("0123456789abcdef")

    ids = {found}
    make_checkpoint(tmp_path / "c", seed=1)
    ids.add(checkpoints.load(tmp_path / "c").model_id)
    (tmp_path / "b/encoders/text").mkdir(parents=True)
    (tmp_path / "b/encoders/text/config.json").write_text("{}")
    ids.add(checkpoints.load(tmp_path / "b").model_id)
    known = json.loads((tmp_path / "a/vocabulary.json").read_text())
    known["streamers"].reverse()
    (tmp_path / "a/vocabulary.json").write_text(json.dumps(known))
    ids.add(checkpoints.load(tmp_path / "a").model_id)
    assert len(ids) == 4
