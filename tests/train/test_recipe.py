"""Recipes: those that travel with the program load, and a wrong one is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from handler.network import NetworkConfig, StimuliAwareNetwork
from handler.organism.semantic_net import SemanticConfig
from handler.stimuli.objects import build_object_source
from train.recipe import RecipeError, TrainingConfig, load_recipe, recipe_names


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def refusal(name: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_under_its_own_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_the_shipped_lite_recipe_fits_together() -> None:
    recipe = load_recipe("lite")
    assert recipe.network.wheel == "mikels-8"
    assert recipe.init == "imagenet"
    assert isinstance(recipe.training.crop_scale, tuple)
    network = StimuliAwareNetwork(recipe.network)
    source = build_object_source(recipe.selector.objects)
    assert source.feature_size == recipe.network.object_features
    assert network.response.classifier.out_features == 8


def test_a_recipe_file_is_read_and_what_it_leaves_out_has_its_default(tmp_path: Path) -> None:
    text = "name: mine\nseed: 5\nnetwork: {dropout: 0.1}\ntraining: {epochs: 2}\n"
    recipe = load_recipe(write(tmp_path, text))
    assert (recipe.name, recipe.seed, recipe.training.epochs) == ("mine", 5, 2)
    assert recipe.training == TrainingConfig(epochs=2)
    assert recipe.network == NetworkConfig(dropout=0.1)
    assert recipe.network.semantic == SemanticConfig()


def test_an_ablation_is_a_recipe_that_names_no_branch(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "name: x\nnetwork: {semantic: null}\n"))
    assert recipe.network.semantic is None


def test_a_recipe_survives_its_plain_values(tmp_path: Path) -> None:
    recipe = load_recipe("lite")
    plain = yaml.safe_load(yaml.safe_dump(_plain(recipe.to_dict())))
    assert load_recipe(write(tmp_path, yaml.safe_dump(plain))) == recipe


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    message = refusal("heavy")
    assert "'heavy'" in message
    assert "lite" in message


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    assert "none.yaml" in refusal(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "just words",
        "{",
        "seed: 1",
        "name: x\ncolour: blue",
        "name: x\ntraining: {epoch: 3}",
        "name: x\ntraining: 3",
        "name: x\nselector: {fit: stretch}",
        "name: x\nselector: {faces: {sides: 3}}",
        "name: x\nnetwork: {semantic: {attention_feed: next}}",
        "name: x\nnetwork: {semantic: {steps: 0}}",
        "name: x\nnetwork: {global_backbone: null, semantic: null, expression_width: null}",
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    assert "mine.yaml" in refusal(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("init: imagenett", "imagenett"),
        ("seed: one", "one"),
        ("network: {wheel: plutchik}", "plutchik"),
        ("network: {global_backbone: resnet1}", "resnet1"),
        ("training: {epochs: 0}", "epochs"),
        ("training: {epochs: six}", "six"),
        ("training: {batch_size: 0}", "batch_size"),
        ("training: {lr: 3e-4}", "3.0e-4"),  # YAML takes 3e-4 for a word
        ("training: {lr_backbone: -1.0}", "lr_backbone"),
        ("training: {freeze_stages: -1}", "freeze_stages"),
        ("training: {crop_scale: [0.5]}", "crop_scale"),
        ("training: {crop_scale: [0.9, 0.5]}", "crop_scale"),
        ("training: {crop_scale: 0.5}", "crop_scale"),
    ],
)
def test_a_wrong_value_is_refused_by_name_before_anything_runs(
    tmp_path: Path, text: str, named: str
) -> None:
    assert named in refusal(write(tmp_path, f"name: x\n{text}\n"))
