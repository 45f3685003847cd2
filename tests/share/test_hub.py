"""Folders for the hub: a checkpoint like any other, its card, and the way there and back."""

import dataclasses
import json
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub.constants
import pytest

from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.score import checkpoint as checkpoints
from contentctr.score import hub as score_hub
from contentctr.share import hub as share_hub
from contentctr.share.card import model_card
from contentctr.share.hub import export_hub, push
from contentctr.train.loop import train_model
from hub_server import hub_server
from make import write_data
from training import same, with_train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    data = write_data(folder / "data")
    train_model(with_train(epochs=1), data, folder / "run", show_progress=False)
    evaluate_model(folder / "run", data, folder / "evaluation", show_progress=False)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_server() as server:
        for module in (score_hub, share_hub):
            monkeypatch.setattr(module, "endpoint", lambda: server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield server


def test_the_folder_is_a_checkpoint_of_the_same_id(run, tmp_path):
    found = export_hub(run / "run", tmp_path / "out")
    before, after = checkpoints.load(run / "run"), checkpoints.load(tmp_path / "out")
    assert after.model_id == before.model_id
    assert same(before.load_model().state_dict(), after.load_model().state_dict())
    names = {p.name for p in (tmp_path / "out").iterdir()} - {".contentctr.json"}
    assert names == set(found.files) and not any("optimizer" in name for name in names)
    assert names >= {p.name for p in before.folder.iterdir() if p.is_file()}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "contentctr" and config["model_id"] == before.model_id
    assert "streamers" in found.notes[0]


def test_an_exported_folder_is_not_replaced_by_itself(run, tmp_path):
    out = export_hub(run / "run", tmp_path / "out").folder
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match=r"out: is the checkpoint itself; choose another folder"):
        export_hub(out, out, evaluation=run / "evaluation")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_the_card_says_what_was_measured_and_what_was_not(run, tmp_path):
    export_hub(run / "run", tmp_path / "a", evaluation=run / "evaluation", name="me/my-model")
    card = (tmp_path / "a" / "README.md").read_text()
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    block = metrics["floors"]["model"][metrics["floors"]["metric"]]
    assert f"{block['value']:.4f}" in card and metrics["floors"]["sentence"] in card
    for name in metrics["floors"]["floors"]:
        assert f"| {name} |" in card
    kind = "simulated" if metrics["simulated"] else "real"
    assert f"trained on **{kind} rooms**" in card and "hf://me/my-model" in card
    front = re.match(r"---\n(.*?)---\n", card, re.S)
    assert front is not None and "library_name: contentctr" in front[1]
    export_hub(run / "run", tmp_path / "b")
    assert "Not evaluated" in (tmp_path / "b" / "README.md").read_text()
    assert "contentctr_drift" in card and "no forecast" not in card


@pytest.mark.parametrize("scale", ["none", "rank", "minmax", "odds"])
def test_the_card_says_of_targets_inside_rooms_alone_that_rooms_do_not_compare(run, scale):
    found = checkpoints.load(run / "run")
    found = dataclasses.replace(found, spec=dataclasses.replace(found.spec, target_scale=scale))
    told = "scores of two rooms do not" in model_card(found, None, "me/my-model")
    assert told is (scale in ("rank", "minmax"))


def test_numbers_of_another_model_are_not_in_it(run, tmp_path):
    evaluation = shutil.copytree(run / "evaluation", tmp_path / "evaluation")
    metrics = json.loads((evaluation / "metrics.json").read_text())
    metrics["model_id"] = "0123456789ab"  # of the same settings, trained as far
    (evaluation / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match="is an evaluation of another model"):
        export_hub(run / "run", tmp_path / "out", evaluation=evaluation)
    assert not (tmp_path / "out").exists()


def test_there_and_back(run, tmp_path, hub):
    exported = export_hub(run / "run", tmp_path / "out", name="me/model")
    assert push(exported, "me/model") == f"{hub.url}/me/model"
    assert set(hub.repos["me/model"]) - {".gitattributes"} == set(exported.files)
    hub.repos["me/model"]["encoders/text/pytorch_model.bin"] = b"a pickle"
    found = checkpoints.load("hf://me/model")
    assert not (found.folder / "encoders").exists()
    assert found.model_id == checkpoints.load(run / "run").model_id
    found.load_model()
    assert not (found.folder / "README.md").exists()  # no more than a checkpoint is fetched
    assert checkpoints.load(tmp_path / "out").model_id == found.model_id
    assert checkpoints.load(Path("hf://me/model@main")).model_id == found.model_id


def test_of_encoders_their_weights_and_words_are_taken(tmp_path):
    folder = tmp_path / "encoders" / "text"
    folder.mkdir(parents=True)
    names = ["config.json", "model.safetensors", "pytorch_model.bin", "vocab.txt"]
    for name in names:
        (folder / name).write_text("")
    taken = [f"encoders/text/{name}" for name in names if not name.endswith(".bin")]
    assert sorted(share_hub._files(tmp_path)) == taken
    fetched = [name for name in taken if any(fnmatch(name, pattern) for pattern in score_hub.FILES)]
    assert fetched == taken


def test_what_the_hub_refuses_is_one_sentence(run, tmp_path, hub, monkeypatch):
    with pytest.raises(InputError, match=r"hf://me/none: the hub did not give or take it \(Repos"):
        checkpoints.load("hf://me/none")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    exported = export_hub(run / "run", tmp_path / "out", name="me/model")
    with pytest.raises(InputError, match=r"--push-to-hub me/model: the hub did not give or take"):
        push(exported, "me/model")
    assert hub.repos == {}


@pytest.mark.parametrize("name", ["hf://model", "hf://a/b/c", "hf://a b/c", "hf://../x@", "hf:/"])
def test_what_is_no_name_asks_nobody(name):
    with pytest.raises(InputError, match=r"must be hf://OWNER/NAME"):
        checkpoints.load(name)
