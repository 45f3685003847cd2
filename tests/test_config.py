import dataclasses
import json

import pytest

from contentctr.batch import DataSpec
from contentctr.config import Config, DataConfig, ModelConfig, from_dict, override, to_dict
from contentctr.errors import InputError
from contentctr.recipes import RECIPES, paper, recipe


def test_the_paper_recipe_holds_the_papers_numbers():
    c = paper()
    assert (c.model.d_model, c.model.num_heads, c.data.window_len) == (512, 8, 20)
    assert (c.model.perceiver_layers, c.model.decoder_layers) == (3, 3)
    assert (c.loss.point_weight, c.loss.align_weight, c.loss.pair_weight) == (0.65, 0.15, 0.20)
    assert (c.loss.sigma, c.loss.num_negatives, c.loss.pair, c.loss.align) == (
        10,
        8,
        "L1",
        "distance",
    )
    assert (c.train.epochs, c.train.batch_size, c.train.learning_rate) == (12, 48, 5e-5)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_config_survives_json(name):
    config = recipe(name)
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


def test_override_takes_whole_and_short_keys():
    config = override(paper(), ["train.epochs=3", "pair=L2", "rotary=true", "learning_rate=1e-3"])
    assert (config.train.epochs, config.loss.pair) == (3, "L2")
    assert config.model.rotary is True and config.train.learning_rate == 1e-3
    assert override(paper(), []) == paper()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs", "a setting must be of the form key=value, not 'epochs'"),
        ("epoch=3", "there is no setting 'epoch'; did you mean 'train.epochs'"),
        ("train.epochs=two", r"config.train.epochs must be a number \(int\), not 'two'"),
        ("epochs=1.5", r"config.train.epochs must be a number \(int\), not '1.5'"),
        ("epochs=0", "train.epochs must be at least 1, not 0"),
        ("pair=L9", "config.loss.pair must be one of none, L0, L1, L2, L3, not 'L9'"),
        ("rotary=yes", "config.model.rotary must be true or false, not 'yes'"),
        ("sigma=nan", r"config.loss.sigma must be a number \(float\), not 'nan'"),
        ("num_heads=7", r"model.d_model must be a multiple of model.num_heads \(7\), not 512"),
        ("horizon=2", r"data.horizon must be 1 at most, and above -data.window_len \(-20\), not 2"),
        ("horizon=-20", r"data.horizon must be 1 at most, and above .* not -20"),
    ],
)
def test_wrong_settings_name_the_rule_and_the_value(word, message):
    with pytest.raises(InputError, match=message):
        override(paper(), [word])


def test_look_ahead_is_a_negative_horizon():
    assert override(paper(), ["horizon=-3"]).data.look_ahead == 3


def test_saved_settings_are_checked_too():
    values = to_dict(paper())
    values["model"]["width"] = 3
    with pytest.raises(InputError, match="config.model has no setting 'width'"):
        from_dict(Config, values)
    with pytest.raises(InputError, match="config.model must be an object of settings, not 3"):
        from_dict(Config, {"model": 3})
    with pytest.raises(InputError, match=r"config.train.epochs must be a number \(int\), not True"):
        from_dict(Config, {"train": {"epochs": True}})


def test_unknown_recipe():
    with pytest.raises(InputError, match="recipe must be one of .*paper.*not 'big'"):
        recipe("big")


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DataConfig().stride = 2
    with pytest.raises(TypeError):
        ModelConfig(512)


def test_data_spec_checks_itself():
    with pytest.raises(InputError, match="text_pooling must be cls or mean, not 'max'"):
        DataSpec(text_pooling="max")
