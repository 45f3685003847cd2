import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from contentctr.batch import DataSpec
from contentctr.config import Config, override, to_dict
from contentctr.errors import InputError
from contentctr.files import file_sha256, read_json, write_json
from contentctr.models.registry import model_type, require_task
from contentctr.recipes import RECIPES, recipe
from contentctr.reproduce import plan
from contentctr.reproduce import study as studies
from contentctr.reproduce.study import Study, fitting, open_study, require_same_defaults
from contentctr.simulate.personal import PersonalSimulation, write_personal_features
from contentctr.store.rooms import PreparedRooms
from make import write_data


def study(out=Path("out"), **changes):
    values = {
        "items": plan.choose("all", plan.ROOMS),
        "known": plan.choose("all", plan.ROOMS),
        "data": PreparedRooms(Path("data")),
        "out": out,
        "recipe": "small",
        "settings": (),
        "seeds": (0, 1),
        "data_key": "d",
    }
    return Study(**{**values, **changes})


def resolve(name, task):
    """Settings of each run of a task on top of a recipe, by the run's name."""
    runs = [run for item in plan.choose("all", task) for run in item.runs]
    assert len({run.name for run in runs}) == len(set(runs))
    return {run.name: override(recipe(name), run.settings) for run in runs}


def losses_of(config):
    loss = config.loss
    return loss.point_weight, loss.pair, loss.pair_weight, loss.align_weight


def recipes_of(task):
    return [n for n in RECIPES if model_type(recipe(n).model.kind).task == task.key]


def test_every_recipe_is_of_one_task():
    assert {*recipes_of(plan.ROOMS), *recipes_of(plan.PERSONAL)} == set(RECIPES)
    for task in plan.TASKS.values():
        assert task.recipe in recipes_of(task)


@pytest.mark.parametrize("task", plan.TASKS.values(), ids=lambda task: task.key)
def test_every_model_is_of_its_task(task):
    for config in resolve(task.recipe, task).values():
        require_task(config.model.kind, task.key)


REAL = ("live", "moments")
"""Recipes for real rooms, whose losses are not the paper's."""


@pytest.mark.parametrize("name", REAL)
def test_the_recipes_of_real_rooms_resolve_too(name):
    assert resolve(name, plan.ROOMS)["contentctr"] == recipe(name)


@pytest.mark.parametrize("name", [n for n in recipes_of(plan.ROOMS) if n not in REAL])
def test_every_run_on_rooms_resolves_to_what_its_row_says(name):
    resolved = resolve(name, plan.ROOMS)
    assert resolved["contentctr"] == recipe(name)
    losses = {key: losses_of(config) for key, config in resolved.items()}
    assert losses["contentctr"] == losses["without_text"] == (0.65, "L1", 0.20, 0.15)
    for number, pair in enumerate(("none", "L0", "L1", "L2", "L3"), 1):
        assert losses[f"model{number}"] == (0.65, pair, 0.20, 0.0)
    assert resolved["align_similarity"].loss.align == "similarity"
    assert resolved["contentctr"].loss.align == "distance"
    for kind in ("wide_deep", "deepfm", "difm", "dcn_m"):
        assert resolved[kind].model.kind == kind
        assert losses[kind][0] == 1 and losses[kind][2:] == (0, 0)
        assert resolved[kind].train.learning_rate == 1e-3
        ids = dataclasses.replace(resolved[kind].ids, same_segment=True)
        assert resolved[f"{kind}_same_segment"] == dataclasses.replace(resolved[kind], ids=ids)
    leaking = {name for name, config in resolved.items() if config.ids.same_segment}
    assert leaking == {f"{k}_same_segment" for k in ("wide_deep", "deepfm", "difm", "dcn_m")}
    assert resolved["with_statistics"].model.extra_tokens == ("statistics",)
    assert resolved["with_sound"].model.extra_tokens == ("sound",)
    assert resolved["with_statistics_residual"].model.residual
    for kind in ("self_attention_plain", "cross_attention_qkv", "without_visual"):
        assert resolved[kind] == with_kind(recipe(name), kind)


@pytest.mark.parametrize("name", recipes_of(plan.PERSONAL))
def test_every_run_on_highlights_resolves_to_what_its_row_says(name):
    resolved = resolve(name, plan.PERSONAL)
    ours = recipe(name)
    assert ours.data.window_len == 192 and resolved["contentctr_hl"] == ours
    for frames in (96, 64, 32):
        data = dataclasses.replace(ours.data, window_len=frames)
        assert resolved[f"contentctr_hl_{frames}"] == dataclasses.replace(ours, data=data)
    loss = dataclasses.replace(ours.loss, align_weight=0.0)
    assert resolved["contentctr_hl_without_dtw"] == dataclasses.replace(ours, loss=loss)
    same = (
        "adaptive_h_fcsn",
        "pr_net",
        "pac_net",
        "showme",
        "highlight_average",
        "contentctr_hl_without_history",
        "contentctr_hl_without_captions",
    )
    for kind in same:
        assert resolved[kind] == with_kind(ours, kind)
    # Of pairwise losses only PR-Net's own is on: `none` is of Eq. 10-13's.
    assert losses_of(resolved["pr_net"]) == (0.65, "none", 0.20, 0.15)
    assert len(resolved) == 12


def with_kind(config, kind):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, kind=kind))


def test_the_numbers_are_the_papers():
    def papers(table, key):
        return {row.run.name: row.paper[key] for row in table.trained if key in row.paper}

    assert papers(plan.TABLE_1, "kendall_tau") == {
        "wide_deep": 0.5619,
        "deepfm": 0.5542,
        "difm": 0.5697,
        "dcn_m": 0.5629,
        "self_attention_plain": 0.5868,
        "self_attention_input": 0.5718,
        "cross_attention_q": 0.5909,
        "cross_attention_kv": 0.5780,
        "cross_attention_qkv": 0.5883,
        "contentctr": 0.5919,
    }
    assert papers(plan.TABLE_3, "kendall_tau") == {
        "contentctr": 0.5919,
        "without_item": 0.5868,
        "without_text": 0.5718,
        "without_visual": 0.5447,
    }
    assert papers(plan.TABLE_4, "kendall_tau") == {
        "model1": 0.5761,
        "model2": 0.5857,
        "model3": 0.5872,
        "model4": 0.5256,
        "model5": 0.5824,
        "contentctr": 0.5919,
    }
    assert papers(plan.TABLE_4, "mean_ratio") == {
        "model1": 1.2789,
        "model2": 1.3164,
        "model3": 1.3021,
        "model4": 1.3414,
        "model5": 1.2194,
        "contentctr": 1.3011,
    }
    assert papers(plan.TABLE_2, "map") == {
        "adaptive_h_fcsn": 0.1565,
        "pr_net": 0.1866,
        "pac_net": 0.1751,
        "showme": 0.1640,
        "contentctr_hl": 0.2189,
    }
    assert papers(plan.TABLE_2, "parameters") == {
        "adaptive_h_fcsn": 197.35e6,
        "pac_net": 5.89e6,
        "contentctr_hl": 66.35e6,
    }
    assert papers(plan.TABLE_5, "map") == {
        "contentctr_hl": 0.2189,
        "contentctr_hl_96": 0.2159,
        "contentctr_hl_64": 0.1954,
        "contentctr_hl_32": 0.1829,
        "contentctr_hl_without_history": 0.1955,
        "contentctr_hl_without_captions": 0.2006,
        "contentctr_hl_without_dtw": 0.2175,
    }


@pytest.mark.parametrize(
    "table",
    [i for i in plan.ITEMS.values() if isinstance(i, plan.Table)],
    ids=lambda table: table.key,
)
def test_a_tables_own_model_and_floors_are_among_its_rows(table):
    assert table.task.ours in table.runs
    assert set(table.floors) <= {row.label for row in table.rows}
    keys = {metric.key for metric in table.metrics}
    assert all(row.paper.keys() <= keys for row in table.rows)


def test_rows_that_leak_say_so_and_no_other_row_does():
    for row in plan.TABLE_1.trained:
        leaks = "ids.same_segment=true" in row.run.settings
        assert leaks == ("leaks: counts of the same segment" in row.label)
        assert leaks == (row.group == plan.LEAKING)
        assert not (leaks and row.paper)


def test_tables_share_their_runs_and_begin_with_the_first_seed():
    jobs = study().jobs()
    assert [job.config.train.seed for job in jobs] == [0] * 28 + [1] * 28
    ours = [job for job in jobs if "/contentctr-" in str(job.folder)]
    assert len(ours) == 2 and ours[0].folder.parent == ours[1].folder.parent
    assert len(study(items=plan.choose("fig5", plan.ROOMS)).jobs()) == 4


def test_the_row_without_text_reads_no_words():
    wanted = study(settings=("words=true",))
    read = {run.name: wanted.config(run).model.words for run in (plan.OURS, plan.WITHOUT_TEXT)}
    assert read == {"contentctr": True, "without_text": False}
    assert wanted.job(plan.WITHOUT_TEXT, 0).folder == study().job(plan.WITHOUT_TEXT, 0).folder


def test_a_folder_stands_for_settings_and_data():
    def folder(**changes):
        return study(**changes).job(plan.OURS, 0).folder

    assert folder() == folder(seeds=(5,)) == folder(settings=("train.epochs=8",))
    others = [folder(settings=("train.epochs=9",)), folder(recipe="paper"), folder(data_key="e")]
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
        ({"what": "table9"}, "what must be .*one of table1, table3, .*live rooms; not 'table9'"),
        ({"what": "table2"}, "live rooms; table2 is of personalized highlights"),
        (
            {"recipe_name": "highlights"},
            "recipe must be one of paper, small, live, moments, tables, as .*rooms",
        ),
        ({"recipe_name": "big"}, "recipe must be one of"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"settings": ["train.seed=3"]}, "train.seed is set by each row"),
        ({"settings": ["pair=L0"]}, "loss.pair is set by each row"),
        ({"settings": ["kind=deepfm"]}, "model.kind is set by each row"),
        ({"settings": ["ids.same_segment=true"]}, "ids.same_segment is set by each row"),
        ({"settings": ["epoch=3"]}, "did you mean 'train.epochs'"),
    ],
)
def test_wrong_wishes_are_refused(changes, message, tmp_path):
    data = write_data(tmp_path / "data")
    wishes = {"what": "all", "recipe_name": "small", "settings": (), "seeds": 1, **changes}
    with pytest.raises(InputError, match=message):
        open_study(wishes.pop("what"), data.root, tmp_path / "out", **wishes)
    assert not (tmp_path / "out").exists()


def test_rows_that_the_data_cannot_have_are_left_out(tmp_path):
    def labels(study):
        return [row.label for row in study.items[0].rows]

    data = write_data(tmp_path / "data")
    wishes = {"recipe_name": "small", "settings": ("statistics=true",), "seeds": 1}
    found = open_study("beyond", data.root, tmp_path / "out", **wishes)
    every = [row.label for row in plan.BEYOND.rows]
    assert labels(found) == every[:4] and every[4] == "with sound"
    assert fitting(plan.BEYOND, DataSpec(sound_dim=4, words_dim=4)) == plan.BEYOND
    less = fitting(plan.BEYOND, DataSpec(sound_dim=4, words_dim=4, target="mine"))
    assert [row.label for row in less.rows] == [every[0], every[1], *every[3:]]
    assert fitting(plan.TABLE_3, DataSpec()) is plan.TABLE_3
    # Whatever the user wants of the others, ID baselines cannot take it.
    table = open_study("table1", data.root, tmp_path / "out", **wishes).items[0]
    configs = {row.run.name: found.config(row.run).model.statistics for row in table.rows}
    assert configs["contentctr"] is True and configs["wide_deep"] is False


def test_out_belongs_to_its_data(tmp_path):
    first = write_data(tmp_path / "one")
    other = write_data(tmp_path / "two", seed=1)
    wishes = {"recipe_name": "small", "settings": (), "seeds": 1}
    a = open_study("table1", first.root, tmp_path / "out", **wishes)
    assert json.loads((tmp_path / "out" / "data.json").read_text()) == {
        "data": str(first.root),
        "tables_hash": file_sha256(first.root / "segments.parquet"),
    }
    b = open_study("table3", first.root, tmp_path / "out", **{**wishes, "recipe_name": "paper"})
    assert a.data_key == b.data_key
    with pytest.raises(InputError, match="was begun with other data .*one"):
        open_study("table1", other.root, tmp_path / "out", **wishes)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"mine: holds thesis\.tex; choose a new or empty folder"):
        open_study("table1", first.root, tmp_path / "mine", **wishes)
    assert isinstance(a.config(plan.OURS), Config)


@pytest.fixture(scope="module")
def highlights(tmp_path_factory):
    sizes = {"num_users": 12, "max_video_s": 120, "visual_dim": 6, "text_dim": 4}
    root = tmp_path_factory.mktemp("highlights") / "data"
    return write_personal_features(PersonalSimulation(**sizes), root, show_progress=False)


def open_highlights(data, out, what="all", recipe_name=None, settings=()):
    return open_study(what, data.root, out, recipe_name=recipe_name, settings=settings, seeds=2)


def test_highlights_have_their_own_items_and_recipe(highlights, tmp_path):
    study = open_highlights(highlights, tmp_path / "out")
    assert [item.key for item in study.items] == ["table2", "table5"]
    assert study.recipe == "highlights" and study.task == plan.PERSONAL
    jobs = study.jobs()
    assert [job.config.train.seed for job in jobs] == [0] * 12 + [1] * 12
    # The row of n = 192 and Table 2's ContentCTR-HL are one run.
    ours = [job.folder.parent for job in jobs if job.label.startswith("contentctr_hl seed")]
    assert len(ours) == 2 and ours[0] == ours[1]
    assert all(job.data == highlights.root for job in jobs)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"what": "table1"}, "one of table2, table5, as .*highlights; table1 is of live rooms"),
        ({"recipe_name": "small"}, "recipe must be one of highlights, highlights_small, as"),
        ({"settings": ["kind=pr_net"]}, "model.kind is set by each row"),
        ({"settings": ["window_len=96"]}, "data.window_len is set by each row"),
    ],
)
def test_wrong_wishes_for_highlights_are_refused(wishes, message, highlights, tmp_path):
    with pytest.raises(InputError, match=message):
        open_highlights(highlights, tmp_path / "out", **wishes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", ["users", "selections", "videos", "captions"])
def test_a_study_of_highlights_depends_on_every_table(table, highlights, tmp_path):
    before = open_highlights(highlights, tmp_path / "out")
    other = copy_of(highlights.root, tmp_path / "other")
    assert open_highlights(type(highlights)(other), tmp_path / "out").data_key == before.data_key
    manifest = read_json(other / "manifest.json")
    manifest["hashes"][f"{table}.parquet"] = "another"
    write_json(other / "manifest.json", manifest)
    features = read_json(other / "features" / "manifest.json")
    features["segments_hash"] = type(highlights)(other).content_hash()
    write_json(other / "features" / "manifest.json", features)
    with pytest.raises(InputError, match="was begun with other data"):
        open_highlights(type(highlights)(other), tmp_path / "out")
    after = open_highlights(type(highlights)(other), tmp_path / "new")
    assert after.data_key != before.data_key


def copy_of(root, to):
    shutil.copytree(root, to)
    return to


def test_rooms_and_highlights_do_not_share_a_folder(highlights, tmp_path):
    rooms = write_data(tmp_path / "rooms")
    open_highlights(highlights, tmp_path / "out")
    with pytest.raises(InputError, match="was begun with other data"):
        open_study("all", rooms.root, tmp_path / "out", recipe_name=None, settings=(), seeds=1)
    study = open_study("fig6", rooms.root, tmp_path / "new", recipe_name=None, settings=(), seeds=1)
    assert study.recipe == "paper"
