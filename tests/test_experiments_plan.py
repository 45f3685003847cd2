import dataclasses
import json
from pathlib import Path

import pytest

from contentctr.config import Config, override, to_dict
from contentctr.errors import InputError
from contentctr.experiments import plan
from contentctr.experiments import study as studies
from contentctr.experiments.study import Study, open_study, require_same_defaults
from contentctr.prepared import Prepared
from contentctr.recipes import RECIPES, recipe
from make import write_data


def study(out=Path("out"), **changes):
    values = {"items": plan.choose("all"), "data": Prepared(Path("data")), "out": out,
              "recipe": "small", "settings": (), "seeds": (0, 1), "data_key": "d"}  # fmt: skip
    return Study(**{**values, **changes})


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_run_resolves_to_what_its_row_says(name):
    resolved = {
        run.name: override(recipe(name), run.settings)
        for item in plan.ITEMS.values()
        for run in item.runs
    }
    assert resolved["contentctr"] == recipe(name)
    losses = {
        key: (c.loss.point_weight, c.loss.pair, c.loss.pair_weight, c.loss.align_weight)
        for key, c in resolved.items()
    }
    assert losses["contentctr"] == losses["without_text"] == (0.65, "L1", 0.20, 0.15)
    for number, pair in enumerate(("none", "L0", "L1", "L2", "L3"), 1):
        assert losses[f"model{number}"] == (0.65, pair, 0.20, 0.0)
    assert resolved["align_similarity"].loss.align == "similarity"
    assert resolved["contentctr"].loss.align == "distance"
    for kind in ("wide_deep", "deepfm", "difm", "dcn_m"):
        assert resolved[kind].model.kind == kind
        assert losses[kind][0] == 1 and losses[kind][2:] == (0, 0)
        assert resolved[kind].train.learning_rate == 1e-3
    for kind in ("self_attention_plain", "cross_attention_qkv", "without_visual"):
        assert resolved[kind] == dataclasses.replace(
            recipe(name), model=dataclasses.replace(recipe(name).model, kind=kind)
        )
    assert len({run.name for item in plan.ITEMS.values() for run in item.runs}) == len(
        {run for item in plan.ITEMS.values() for run in item.runs}
    )


def test_the_numbers_are_the_papers():
    def taus(table):
        return {row.run.name: row.tau for row in table.rows}

    assert taus(plan.TABLE_1) == {
        "wide_deep": 0.5619, "deepfm": 0.5542, "difm": 0.5697, "dcn_m": 0.5629,
        "self_attention_plain": 0.5868, "self_attention_input": 0.5718,
        "cross_attention_q": 0.5909, "cross_attention_kv": 0.5780, "cross_attention_qkv": 0.5883,
        "contentctr": 0.5919,
    }  # fmt: skip
    assert taus(plan.TABLE_3) == {"contentctr": 0.5919, "without_item": 0.5868,
                                  "without_text": 0.5718, "without_visual": 0.5447}  # fmt: skip
    assert {row.run.name: (row.tau, row.ratio) for row in plan.TABLE_4.rows} == {
        "model1": (0.5761, 1.2789), "model2": (0.5857, 1.3164), "model3": (0.5872, 1.3021),
        "model4": (0.5256, 1.3414), "model5": (0.5824, 1.2194), "contentctr": (0.5919, 1.3011),
        "align_similarity": (None, None),
    }  # fmt: skip


def test_tables_share_their_runs_and_begin_with_the_first_seed():
    jobs = study().jobs()
    assert [job.config.train.seed for job in jobs] == [0] * 19 + [1] * 19
    ours = [job for job in jobs if "/contentctr-" in str(job.folder)]
    assert len(ours) == 2 and ours[0].folder.parent == ours[1].folder.parent
    assert len(study(items=plan.choose("fig5")).jobs()) == 4


def test_a_folder_stands_for_settings_and_data():
    def folder(**changes):
        return study(**changes).job(plan.OURS, 0).folder

    assert folder() == folder(seeds=(5,)) == folder(settings=("train.epochs=8",))
    others = [
        folder(settings=("train.epochs=9",)), folder(recipe="paper"), folder(data_key="e"),
    ]  # fmt: skip
    assert len({folder(), *others}) == 4


def test_a_new_setting_leaves_runs_where_they_are_and_a_new_default_is_told(tmp_path, monkeypatch):
    job = study(out=tmp_path).job(plan.OURS, 0)

    def with_new_setting(config):
        values = to_dict(config)
        return {**values, "train": {**values["train"], "new": 1}}

    monkeypatch.setattr(studies, "to_dict", with_new_setting)
    assert study(out=tmp_path).job(plan.OURS, 0).folder == job.folder
    monkeypatch.undo()
    saved = with_new_setting(job.config)
    job.evaluation.mkdir(parents=True)
    path = job.evaluation / "metrics.json"
    del saved["train"]["patience"]  # a setting added since
    path.write_text(json.dumps({"config": saved}))
    require_same_defaults(job)
    saved["loss"]["sigma"] = 9.0
    path.write_text(json.dumps({"config": saved}))
    with pytest.raises(InputError, match=r"loss.sigma=9.0, whose default is now 10.0; give"):
        require_same_defaults(job)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"what": "table2"}, "what must be all or one of table1, table3, table4, fig4"),
        ({"recipe_name": "big"}, "recipe must be one of"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"settings": ["train.seed=3"]}, "train.seed is set by each row"),
        ({"settings": ["pair=L0"]}, "loss.pair is set by each row"),
        ({"settings": ["kind=deepfm"]}, "model.kind is set by each row"),
        ({"settings": ["epoch=3"]}, "did you mean 'train.epochs'"),
    ],
)
def test_wrong_wishes_are_refused(changes, message, tmp_path):
    data = write_data(tmp_path / "data")
    wishes = {"what": "all", "recipe_name": "small", "settings": (), "seeds": 1, **changes}
    with pytest.raises(InputError, match=message):
        open_study(wishes.pop("what"), data.root, tmp_path / "out", **wishes)
    assert not (tmp_path / "out").exists()


def test_out_belongs_to_its_data(tmp_path):
    first = write_data(tmp_path / "one")
    other = write_data(tmp_path / "two", seed=1)
    wishes = {"recipe_name": "small", "settings": (), "seeds": 1}
    a = open_study("table1", first.root, tmp_path / "out", **wishes)
    b = open_study("table3", first.root, tmp_path / "out", **{**wishes, "recipe_name": "paper"})
    assert a.data_key == b.data_key
    with pytest.raises(InputError, match="was begun with other data .*one"):
        open_study("table1", other.root, tmp_path / "out", **wishes)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InputError, match="must be new, empty"):
        open_study("table1", first.root, tmp_path / "mine", **wishes)
    assert isinstance(a.config(plan.OURS), Config)
