"""The rows of the studies are the paper's, and their networks have what they are named after."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from handler.organism.semantic_net import SemanticNet
from handler.values.configs import NetworkConfig, SemanticConfig
from handler.values.emotions import MIKELS
from train.ablation.features import FeatureBatch
from train.ablation.network import AblationNetwork, MeanObjects, Sizes
from train.ablation.studies import (
    STUDIES,
    AblationError,
    Variant,
    build_study,
    full_model,
    largest_count,
    object_counts,
)
from train.recipes.recipe import Recipe, load_recipe

SEMANTIC = SemanticConfig(hidden=6, attention=5, steps=3, dropout=0.0)
SIZES = Sizes(colour=7, objects=9, faces=4, hidden=8, expression_width=2, dropout=0.0)


def network(variant: Variant, sizes: Sizes = SIZES) -> AblationNetwork:
    torch.manual_seed(0)
    return AblationNetwork(variant, sizes=sizes, semantic=SEMANTIC, wheel=MIKELS)


def batch(photos: int = 5, objects: int = 20) -> FeatureBatch:
    torch.manual_seed(1)
    return FeatureBatch(
        colour=torch.randn(photos, 7),
        objects=torch.randn(photos, objects, 9),
        object_mask=torch.ones(photos, objects, dtype=torch.bool),
        faces=torch.randn(photos, 4),
        face_mask=torch.ones(photos, dtype=torch.bool),
    )


def test_the_branches_are_the_rows_of_table_2() -> None:
    study = build_study("branches", Variant())
    assert set(study.rows) == {
        *("E", "G(Y)", "G", "S"),
        *("G(Y)+S+E", "S+E", "G+S", "G+E"),
        *("G+FC+E", "G+S+E"),
    }
    for name, variant in study.rows.items():
        assert variant.branches == name
    assert study.rows[study.reference] == Variant()
    assert study.paper["G+S+E"] == "72.42"
    assert study.paper["E"] == "31.64"


def test_lambda_goes_from_0_to_2_as_in_figure_10() -> None:
    study = build_study("lambda", Variant())
    weights = [variant.polarity_weight for variant in study.rows.values()]
    assert weights == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert study.rows[study.reference].polarity_weight == 1


def test_the_objects_go_from_none_to_20_as_in_figure_11() -> None:
    study = build_study("objects", Variant())
    assert [*study.rows] == ["0", "1", "2", "4", "6", "8", "10", "12", "16", "20"]
    assert study.rows["0"].branches == "G+E"
    assert all(v.objects == int(n) for n, v in study.rows.items() if n != "0")
    assert study.rows[study.reference].objects == 10
    assert largest_count(Variant()) == 20


@pytest.mark.parametrize(
    ("levels", "rows", "reference"),
    [
        ("[1, 3]", ["0", "1", "2", "4", "6", "8", "10"], "10"),
        ("[1, 2]", ["0", "1", "2", "4"], "4"),
        ("[]", ["0", "1", "2", "4", "6", "8", "10", "12", "16", "20"], "10"),
    ],
)
def test_no_row_asks_for_more_windows_than_a_grid_has(
    levels: str, rows: list[str], reference: str
) -> None:
    counts = object_counts(load_recipe("lite", [f"selector.objects.levels={levels}"]))
    study = build_study("objects", Variant(), counts)
    assert [*study.rows] == rows
    assert study.reference == reference
    assert largest_count(Variant(objects=4), counts) == int(rows[-1])


def test_t_and_the_feed_are_taken_together() -> None:
    study = build_study("steps", Variant())
    pairs = {(v.steps, v.attention_feed) for v in study.rows.values()}
    assert pairs == {(t, feed) for t in (1, 2, 3, 4) for feed in ("previous", "current")}
    assert study.rows[study.reference] == Variant(steps=3, attention_feed="previous")


@pytest.mark.parametrize("name", STUDIES)
def test_rows_of_a_study_differ_in_what_it_is_about_alone(name: str) -> None:
    about = {
        "branches": {"colour", "semantic", "expression"},
        "lambda": {"polarity_weight"},
        "objects": {"objects", "semantic"},
        "steps": {"steps", "attention_feed"},
    }[name]
    full = Variant(objects=10, polarity_weight=1.0)
    for variant in build_study(name, full).rows.values():
        changed = {key for key, value in vars(variant).items() if value != getattr(full, key)}
        assert changed <= about


def test_studies_share_the_rows_that_they_have_in_common() -> None:
    studies = {name: build_study(name, Variant()) for name in STUDIES}
    assert len({study.rows[study.reference].slug for study in studies.values()}) == 1
    assert studies["objects"].rows["0"].slug == studies["branches"].rows["G+E"].slug
    slugs = [v.slug for study in studies.values() for v in {*study.rows.values()}]
    assert len(set(slugs)) == len(slugs) - 4, "three references and N = 0, and no others"


def test_each_row_has_the_parts_that_it_is_named_after() -> None:
    for name, variant in build_study("branches", Variant()).rows.items():
        net = network(variant)
        assert (net.global_layer is not None) == name.startswith("G")
        assert isinstance(net.semantic_net, SemanticNet) == ("S" in name)
        assert isinstance(net.semantic_net, MeanObjects) == ("FC" in name)
        size = 8 * name.startswith("G") + 6 * ("S" in name or "FC" in name) + 4 * ("E" in name)
        assert net.response.classifier.in_features == size
        assert net.eval()(batch())[0].exp().sum(dim=1).tolist() == pytest.approx([1.0] * 5)


def test_the_fully_connected_layer_yields_as_much_as_the_lstms_and_sees_the_mean_only() -> None:
    layer = MeanObjects(feature_size=9, config=SEMANTIC)
    seen = batch()
    assert seen.objects is not None
    assert seen.object_mask is not None
    answer = layer(seen.objects, seen.object_mask)
    assert answer.shape == (5, SEMANTIC.hidden)
    mean = seen.objects.mean(dim=1, keepdim=True).expand_as(seen.objects)
    assert torch.allclose(answer, layer(mean, seen.object_mask), atol=1e-6)
    none = torch.zeros_like(seen.object_mask)
    assert not layer(seen.objects, none).any()


def test_an_expression_net_is_trained_where_there_are_crops() -> None:
    net = network(Variant(), replace(SIZES, faces=None))
    assert net.expression_net is not None
    crops = torch.randint(0, 256, (5, 1, 48, 48), dtype=torch.uint8)
    net(replace(batch(), faces=crops))[0].sum().backward()
    assert all(p.grad is not None for p in net.expression_net.parameters())
    assert network(Variant()).expression_net is None, "a frozen trunk's features are read as such"


def test_in_training_each_branch_answers_alone_as_in_the_whole_network() -> None:
    net = network(Variant())
    seen = replace(batch(), face_mask=torch.tensor([True, False, True, True, False]))
    alone = net.train()(seen)[1]
    assert len(alone) == 3
    assert alone[2][1].tolist() == seen.face_mask.tolist()
    assert net.eval()(seen)[1] == []


def test_the_full_model_is_what_the_recipe_says() -> None:
    assert full_model(load_recipe("lite")) == Variant()
    assert full_model(load_recipe("paper")) == Variant()
    changed = load_recipe("lite", ["network.semantic.steps=2", "training.polarity_weight=0.5"])
    assert full_model(changed) == Variant(steps=2, polarity_weight=0.5)


def test_a_recipe_without_all_branches_and_unknown_names_are_refused() -> None:
    recipe = Recipe(name="mine", network=NetworkConfig(expression_width=None))
    with pytest.raises(AblationError, match="'mine' lacks one of the three branches"):
        full_model(recipe)
    with pytest.raises(AblationError, match=r"unknown study 'colours'.*branches, lambda"):
        build_study("colours", Variant())
    study = build_study("branches", Variant())
    with pytest.raises(AblationError, match=r"no row 'X'.*'G\(Y\)'"):
        study.select(["G", "X"])
    assert study.select(["S", "E"]) == ["S", "E", "G+S+E"], "the reference is always trained"
    assert study.select([]) == list(study.rows)
