"""A training that begins from a trained model: whole, by parts, and where the two do not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handler.archive.loading import load_archive
from handler.network import StimuliAwareNetwork
from handler.values.errors import ArchiveError
from tests.conftest import TINY_NETWORK, TINY_SELECTOR
from train.fitting.builders import build_network, build_selector, selector_files
from train.fitting.fit import fit
from train.fitting.start import Start
from train.recipes.reading import RecipeError
from train.recipes.recipe import Recipe
from train.recipes.training import TrainingConfig
from train.weights import WeightsError, initial_objects, object_settings

pytestmark = pytest.mark.integration


def recipe_from(init: dict[str, str], **network: object) -> Recipe:
    return Recipe(
        name="tiny",
        init=init,
        selector=TINY_SELECTOR,
        network=replace(TINY_NETWORK, **network),
        training=TrainingConfig(epochs=1, batch_size=5, crop=64),
    )


def built(recipe: Recipe) -> StimuliAwareNetwork:
    torch.manual_seed(0)
    return build_network(recipe, build_selector(recipe, selector_files(recipe)))


def same(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    )


def test_a_whole_model_goes_on_from_where_it_was(tiny_model: Path) -> None:
    recipe = recipe_from({"model": str(tiny_model)})
    selector = build_selector(recipe, selector_files(recipe))
    network, model = build_network(recipe, selector), load_archive(tiny_model)
    assert same(network, model.network)
    assert same(selector.objects, model.selector.objects)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_part_may_begin_elsewhere(tiny_model: Path) -> None:
    network = built(recipe_from({"model": str(tiny_model), "expression": "random"}))
    model = load_archive(tiny_model).network
    assert same(network.global_net, model.global_net)
    assert same(network.semantic_net, model.semantic_net)
    assert not same(network.expression_net, model.expression_net)
    ours, theirs = network.response.columns(), model.response.columns()
    assert [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)] == [True, True, False]
    assert torch.equal(network.response.classifier.bias, model.response.classifier.bias)


def test_over_other_objects_a_new_semantic_net_begins_beside_the_models_branches(
    tiny_model: Path,
) -> None:
    recipe = recipe_from(
        {"model": str(tiny_model), "semantic": "random", "objects": "random"}, object_features=384
    )
    light = replace(TINY_SELECTOR, objects={"source": "light", "size": 64, "count": 5})
    network = built(replace(recipe, selector=light))
    model = load_archive(tiny_model).network
    assert same(network.global_net, model.global_net)
    assert same(network.expression_net, model.expression_net)
    ours, theirs = network.response.columns(), model.response.columns()
    assert [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)] == [True, False, True]


def test_one_branch_alone_takes_its_columns_along(tiny_model: Path) -> None:
    network = built(recipe_from({"semantic": str(tiny_model)}, expression_width=None))
    model = load_archive(tiny_model).network
    assert same(network.semantic_net, model.semantic_net)
    assert not same(network.global_net, model.global_net)
    assert torch.equal(network.response.columns()[1], model.response.columns()[1])
    assert not torch.equal(network.response.columns()[0], model.response.columns()[0])


def test_for_another_wheel_the_classifier_starts_anew(tiny_model: Path) -> None:
    network = built(recipe_from({"model": str(tiny_model)}, wheel="ekman-6"))
    model = load_archive(tiny_model).network
    assert same(network.global_net, model.global_net)
    assert network.response.classifier.out_features == len(network.wheel)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"expression_width": 8}, "does not fit ExpressionNet: .* is 4"),
        ({"global_backbone": "resnet18"}, "does not fit GlobalNet: .*"),
    ],
)
def test_a_model_of_other_sizes_is_refused(
    tiny_model: Path, network: dict[str, object], said: str
) -> None:
    with pytest.raises(WeightsError, match=said):
        built(recipe_from({"model": str(tiny_model)}, **network))


def test_a_branch_that_the_model_lacks_must_begin_elsewhere(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    recipe = recipe_from({"model": str(tiny_model)}, expression_width=None)
    fit(recipe, data, tmp_path / "run", cache_root=tmp_path / "cache", progress_bar=False)
    facts = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert facts["begun_from"] == {str(tiny_model): load_archive(tiny_model).digest}
    faceless = str(tmp_path / "run" / "model")
    with pytest.raises(WeightsError, match=r"has no ExpressionNet: set init: {expression: \.\.\.}"):
        built(recipe_from({"model": faceless}))


def test_objects_come_with_the_models_settings(tiny_model: Path) -> None:
    settings = object_settings({"source": "grid", "count": 3}, str(tiny_model))
    assert settings == {**TINY_SELECTOR.objects, "count": 3}
    with pytest.raises(WeightsError, match="come from 'grid': the recipe's come from 'coco'"):
        object_settings({"source": "coco"}, str(tiny_model))
    recipe = recipe_from({"objects": str(tiny_model)})
    source = build_selector(replace(recipe, init="random"), selector_files(recipe)).objects
    initial_objects(source, str(tiny_model))
    assert same(source, load_archive(tiny_model).selector.objects)


def test_what_is_not_a_model_is_told(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"no archive at nowhere\.mar"):
        built(recipe_from({"global": "nowhere.mar"}))
    with pytest.raises(RecipeError, match="init of 'semantic' is 'imagenet': expected random"):
        built(recipe_from({"semantic": "imagenet"}))
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model, damaged)
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ArchiveError, match="does not match the digest"):
        built(recipe_from({"model": str(damaged)}))


def test_the_mean_of_start_and_end_is_kept_of_branches_that_began_from_a_model(
    tiny_model: Path,
) -> None:
    names = {"global": str(tiny_model), "semantic": str(tiny_model), "expression": "random"}
    network = built(recipe_from(names))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    start = Start(network, recipe_from(names).initial)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    start.blend_into(network, 0.25)
    anew = sum(network.response.feature_sizes[:2])
    for name, value in network.named_parameters():
        moved = (value - before[name]).detach()
        if name.startswith("expression_net."):
            assert torch.allclose(moved, torch.ones_like(moved))
        elif name == "response.classifier.weight":
            assert torch.allclose(moved[:, :anew], torch.tensor(0.75), atol=1e-5)
            assert torch.allclose(moved[:, anew:], torch.tensor(1.0), atol=1e-5)
        else:
            assert torch.allclose(moved, torch.tensor(0.75), atol=1e-5)


def test_a_run_keeps_the_share_of_its_start_that_the_recipe_says(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    whole = recipe_from({"model": str(tiny_model)})
    training = replace(whole.training, start_share=0.99, calibrate=False, lr=0.1, lr_backbone=0.1)
    recipe = replace(whole, training=training)
    fit(recipe, data, tmp_path / "run", cache_root=tmp_path / "cache", progress_bar=False)
    kept = load_archive(tmp_path / "run" / "model").network.semantic_net.attention.of_state.weight
    began = load_archive(tiny_model).network.semantic_net.attention.of_state.weight
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    ended = checkpoint["network.semantic_net.attention.of_state.weight"]
    assert not torch.allclose(ended, began, atol=1e-2)
    assert torch.allclose(kept, began.lerp(ended, 0.01), atol=1e-3)
