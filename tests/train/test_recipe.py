"""Recipes: those that travel with the program load, and a wrong one is refused in one line."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from handler.archive.files import read_card
from handler.network import StimuliAwareNetwork
from handler.stimuli.objects.source import build_object_source
from handler.values.configs import NetworkConfig, SemanticConfig
from tests.shipped import ARCHIVE
from train.fitting.builders import build_parts
from train.recipes.reading import RecipeError, read_values, recipe_names
from train.recipes.recipe import EMOTION, load_recipe
from train.recipes.training import TrainingConfig

SHIPPED = [name for name in recipe_names() if read_values(name).get("kind", EMOTION) == EMOTION]


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def refusal(name: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_light_recipe_and_the_papers_travel_with_the_program() -> None:
    assert {"lite", "lite2", "paper"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_under_its_own_name(name: str) -> None:
    assert load_recipe(name).name == name


@pytest.mark.parametrize("name", ["lite", "lite2"])
def test_the_light_recipes_fit_together(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.network.wheel == "mikels-8"
    assert recipe.initial == {
        "global": "imagenet",
        "semantic": "random",
        "objects": "imagenet",
        "expression": "random",
    }
    assert isinstance(recipe.training.crop_scale, tuple)
    network = StimuliAwareNetwork(recipe.network)
    source = build_object_source(recipe.selector.objects)
    assert source.feature_size == recipe.network.object_features
    assert network.response.classifier.out_features == 8


def test_the_recipe_that_continues_from_a_model_changes_its_faces_and_windows_only() -> None:
    recipe, before = load_recipe("lite3"), load_recipe("lite2")
    assert recipe.initial["global"] == recipe.initial["semantic"] == recipe.init["model"]
    assert replace(recipe.network, expression_width=before.network.expression_width) == (
        before.network
    )
    assert (before.selector.faces.backend, recipe.selector.faces.backend) == ("hog", "light")
    assert recipe.selector.objects == {**before.selector.objects, "size": recipe.selector.size}


def test_the_lite_recipe_trains_as_the_first_models_were() -> None:
    training = load_recipe("lite").training
    assert (training.optimizer, training.schedule, training.augment) == (
        *("adamw", "one_cycle"),
        "random_resized_crop",
    )
    assert (training.label_smoothing, training.mixup) == (0, 0)
    assert (training.ema, training.early_stopping) == (0, 0)
    assert (training.keep, training.precision) == ("last", "32")
    assert training.colour
    assert training.calibrate


def test_the_shipped_model_was_trained_by_the_recipe_that_says_so() -> None:
    _, card, _ = read_card(ARCHIVE)
    trained, recipe = card["training"]["recipe"], load_recipe("lite3")
    # Settings that are younger than the model have their defaults.
    trained["training"] = asdict(TrainingConfig.from_dict(trained["training"]))
    trained, said = json.loads(json.dumps([trained, recipe.to_dict()]))
    for values in (trained, said):
        values["training"].pop("devices")  # whose machine it was is not the recipe's affair
    assert trained == said


def test_the_papers_recipe_says_what_the_paper_says() -> None:
    recipe = load_recipe("paper")
    network, training, selector = recipe.network, recipe.training, recipe.selector
    assert recipe.initial == {
        "global": "imagenet",
        "semantic": "random",
        "objects": "visual-genome",
        "expression": "fer2013-resnet18",
    }
    assert (selector.fit, selector.resize, selector.size) == ("crop", 480, 448)
    assert selector.objects == {"source": "visual_genome", "count": 10}
    assert (network.global_backbone, network.object_features) == ("resnet50", 2048)
    assert network.semantic.hidden == 512
    assert network.expression_width * 8 == 512
    assert (training.optimizer, training.lr, training.lr_backbone) == ("adam", 5e-5, 5e-5)
    assert (training.schedule, training.step_epochs, training.step_factor) == ("step", 5, 0.1)
    assert (training.weight_decay, training.epochs, training.polarity_weight) == (5e-5, 50, 1)
    assert (training.augment, training.crop, training.flip) == ("random_crop", 448, True)
    assert (training.branch_weight, training.calibrate, training.colour) == (0, False, False)


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


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_survives_its_plain_values(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name)
    plain = yaml.safe_load(yaml.safe_dump(_plain(recipe.to_dict())))
    assert load_recipe(write(tmp_path, yaml.safe_dump(plain))) == recipe


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


# --- where the parts start ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("random", ("random", "random", "random", "random")),
        ("imagenet", ("imagenet", "random", "imagenet", "random")),
        ("{global: imagenet}", ("imagenet", "random", "random", "random")),
        (
            "{objects: coco, expression: a/b.safetensors}",
            ("random", "random", "coco", "a/b.safetensors"),
        ),
        ("{model: a.mar}", ("a.mar", "a.mar", "a.mar", "a.mar")),
        ("{model: a.mar, expression: mine}", ("a.mar", "a.mar", "a.mar", "mine")),
    ],
)
def test_init_says_where_each_part_starts(
    tmp_path: Path, said: str, expected: tuple[str, ...]
) -> None:
    recipe = load_recipe(write(tmp_path, f"name: x\ninit: {said}\n"))
    assert tuple(recipe.initial.values()) == expected
    assert list(recipe.initial) == ["global", "semantic", "objects", "expression"]


# --- overrides ----------------------------------------------------------------------------------


def test_an_override_replaces_one_value_and_no_other() -> None:
    recipe = load_recipe("lite", ["training.epochs=9", "seed=3"])
    assert (recipe.training.epochs, recipe.seed) == (9, 3)
    plain = load_recipe("lite")
    assert asdict(recipe.training) | {"epochs": plain.training.epochs} == asdict(plain.training)
    assert recipe.network == plain.network


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("network.semantic=null", lambda r: r.network.semantic is None),
        ("network.semantic.steps=5", lambda r: r.network.semantic.steps == 5),
        ("network.semantic.attention_feed=current", lambda r: "current" in str(r.network)),
        ("selector.objects.count=4", lambda r: r.selector.objects["count"] == 4),
        ("training.crop_scale=[0.7, 0.9]", lambda r: r.training.crop_scale == (0.7, 0.9)),
        ("init={global: random}", lambda r: set(r.initial.values()) == {"random"}),
        ("training.polarity_weight = 0.5", lambda r: r.training.polarity_weight == 0.5),
    ],
)
def test_overrides_are_yaml_and_reach_everything(override: str, read) -> None:
    assert read(load_recipe("lite", [override]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("network.dropout=1.5", "dropout is 1.5: expected a number of at least 0 and less than 1"),
        ("network.dropout=abc", "dropout is the text 'abc'"),
        ("network.expression_width=-1", "expression_width is -1"),
        ("network.object_features=0", "object_features is 0"),
        ("network.semantic.dropout=2", "semantic.dropout is 2"),
        ("network.semantic.hidden=abc", "semantic.hidden is the text 'abc'"),
        ("network.semantic.steps=2.5", "semantic.steps is 2.5: expected a whole number"),
        ("selector.size=0", "size is 0: expected a whole number of at least 1"),
        ("selector.size=64.5", "size is 64.5"),
        ("selector.objects=null", "objects is None: expected settings"),
        ("selector.objects.count=-1", "objects.count is -1"),
        ("selector.objects.count=ten", "objects.count is the text 'ten'"),
        (
            "seed=5000000000",
            "seed is 5000000000: expected a whole number of at least 0 and at most",
        ),
    ],
)
def test_a_value_out_of_its_range_is_told_by_its_name(override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        load_recipe("lite", [override])


def test_a_side_that_no_backbone_sees_anything_in_is_told_when_the_parts_are_built() -> None:
    recipe = load_recipe("lite", ["selector.objects.size=0", "init=random"])
    with pytest.raises(RecipeError, match="objects are wrong: size is 0"):
        build_parts(recipe)


def test_an_override_fills_in_what_the_recipe_leaves_out(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "name: x\n"), ["network.semantic.steps=4"])
    assert recipe.network.semantic == SemanticConfig(steps=4)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("training.epochs", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("training..epochs=3", "KEY=VALUE"),
        ("training.epoch=3", "epoch"),
        ("trainings.epochs=3", "trainings"),
        ("training.lr=3e-4", "3.0e-4"),
        ("training.epochs=[", "not YAML"),
        ("seed.deep=1", "seed is '1'"),
    ],
)
def test_a_wrong_override_is_refused_in_one_line(override: str, named: str) -> None:
    assert named in refusal("lite", override)


# --- what is no recipe --------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    message = refusal("heavy")
    assert "'heavy'" in message
    assert "lite" in message
    assert "paper" in message


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    assert "none.yaml" in refusal(str(tmp_path / "none.yaml"))


def test_a_recipe_of_another_kind_is_refused_by_its_kind(tmp_path: Path) -> None:
    assert "'faces'" in refusal(write(tmp_path, "kind: faces\nname: x\n"))


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
        ("init: {face: random}", "face"),
        ("init: {global: 3}", "global"),
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
        ("training: {optimizer: sgd}", "adamw"),
        ("training: {schedule: cosine}", "one_cycle"),
        ("training: {augment: blur}", "random_crop"),
        ("training: {keep: first}", "best"),
        ("training: {precision: 8}", "bf16-mixed"),
        ("training: {devices: many}", "devices"),
        ("training: {devices: 0}", "devices"),
        ("training: {label_smoothing: 1.0}", "label_smoothing"),
        ("training: {ema: 1}", "ema"),
        ("training: {colour: 3}", "colour"),
        ("training: {early_stopping: 0.5}", "early_stopping"),
        ("training: {augment: random_crop}", "colour: false"),
        ("training: {augment: random_crop, colour: false}", "fit: crop"),
        (
            "selector: {fit: crop, resize: 100}\n"
            "training: {augment: random_crop, colour: false, crop: 101}",
            "crop is 101",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name_before_anything_runs(
    tmp_path: Path, text: str, named: str
) -> None:
    assert named in refusal(write(tmp_path, f"name: x\n{text}\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: a\ntraining: {epochs: 3, epochs: 4}",
            r"'epochs' is there twice \(line 2\)",
        ),
        ("name: a\nname: b", r"the key 'name' is there twice \(line 2\)"),
        ("name: a\ntraining: {bach_size: 3}", "'training.bach_size': did you mean training.batch_"),
        ("name: a\nepochs: 3", "'epochs': did you mean training.epochs"),
        ("name: a\nselektor: {}", "'selektor': did you mean selector"),
        (
            "name: a\nnetwork: {semantic: {hiden: 3}}",
            "'network.semantic.hiden': did you mean net",
        ),
        (
            "name: a\nselector: {faces: {sied: 3}}",
            "'selector.faces.sied': did you mean sel",
        ),
        ("name: a\nzzz: 3", "there is no setting 'zzz'$"),
    ],
)
def test_keys_that_are_twice_or_unknown_are_refused_with_their_path(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RecipeError, match=said) as caught:
        load_recipe(str(tmp_path / "a.yaml"))
    assert "\n" not in str(caught.value)


def test_the_same_override_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"overrides training\.epochs a second time"):
        load_recipe("lite", ["training.epochs=2", "training.epochs=3"])


def test_keys_that_a_merge_repeats_are_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "name: a\ntraining: {<<: &base {epochs: 3, lr: 0.1}, epochs: 4}"
    )
    assert load_recipe(str(tmp_path / "a.yaml")).training.epochs == 4
