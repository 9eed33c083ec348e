"""A study as a set of trainings: each done once, the same whenever it is done, and honest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handler.values.configs import NetworkConfig, SelectorConfig, SemanticConfig
from train.ablation.features import FeatureSet
from train.ablation.runs import TRAININGS, run_study
from train.ablation.studies import AblationError, Variant, build_study
from train.ablation.training import (
    AblationConfig,
    Experiment,
    load_ablation_config,
    pack_bits,
    train_variant,
    unpack_bits,
)
from train.recipes.reading import RecipeError
from train.recipes.recipe import Recipe
from train.recipes.training import TrainingConfig

CONFIG = AblationConfig(epochs=2, batch_size=16, hidden=8, dropout=0.1, precision="32")
RECIPE = Recipe(
    name="tiny",
    init="random",
    selector=SelectorConfig(objects={"source": "grid", "count": 2}),
    network=NetworkConfig(
        object_features=6, semantic=SemanticConfig(hidden=4, attention=4), expression_width=2
    ),
    training=TrainingConfig(branch_weight=1.0),
)
STUDY = build_study("branches", Variant(objects=2))


def features(photos: int, seed: int, *, told_by: str = "colour") -> FeatureSet:
    """Random features of which one tells the label."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 8, (photos,), generator=rng)
    telling = torch.nn.functional.one_hot(labels, 8).float() * 4

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    colour, faces = noise(photos, 2, 8), noise(photos, 8)
    if told_by == "colour":
        colour = colour + telling.unsqueeze(1)
    if told_by == "faces":
        faces = faces + telling
    return FeatureSet(
        labels=labels,
        digests=[f"{seed}-{row}" for row in range(photos)],
        colour={"rgb": colour.half(), "y": noise(photos, 2, 8).half()},
        objects=noise(photos, 4, 6).half(),
        object_mask=torch.ones(photos, 4, dtype=torch.bool),
        faces=faces.half(),
        face_mask=torch.ones(photos, dtype=torch.bool),
        identity="made up",
    )


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(RECIPE, CONFIG, features(64, 1), features(37, 2))


def results(run: Path) -> dict[str, dict[str, Any]]:
    return {p.name: json.loads(p.read_text()) for p in (run / TRAININGS).glob("*.json")}


def figures(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "seconds"}


@pytest.mark.integration
def test_only_what_is_missing_is_trained_and_comes_out_bit_for_bit(
    experiment: Experiment, tmp_path: Path
) -> None:
    outcomes = run_study(STUDY, experiment, tmp_path, seeds=(1, 2))
    assert [*outcomes] == [*STUDY.rows]
    first = results(tmp_path)
    assert len(first) == 20, "ten rows, two seeds"
    lost = sorted(first)[::3]
    for name in lost:
        (tmp_path / TRAININGS / name).unlink()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / TRAININGS).glob("*.json")}
    run_study(STUDY, experiment, tmp_path, seeds=(1, 2))
    assert all(p.stat().st_mtime_ns == time for p, time in before.items())
    again = results(tmp_path)
    assert {n: figures(d) for n, d in again.items()} == {n: figures(d) for n, d in first.items()}


@pytest.mark.integration
def test_what_a_killed_process_left_unfinished_is_done_anew(
    experiment: Experiment, tmp_path: Path
) -> None:
    folder = tmp_path / TRAININGS
    folder.mkdir()
    (folder / f".{STUDY.rows['E'].slug}_seed1.json.7.partial").write_text('{"accuracy": 0.')
    outcomes = run_study(STUDY, experiment, tmp_path, seeds=(1,), only=["E"])
    assert 0 <= outcomes["E"][0].document["accuracy"] <= 1
    assert len(results(tmp_path)) == 2


@pytest.mark.integration
def test_seeds_are_different_trainings_and_the_caller_s_randomness_is_left_alone(
    experiment: Experiment,
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = train_variant(Variant(objects=2), 1, experiment)
    assert torch.equal(torch.rand(1), expected)
    two = train_variant(Variant(objects=2), 2, experiment)
    assert one["negative_log_likelihood"] != two["negative_log_likelihood"]


@pytest.mark.integration
def test_studies_do_not_repeat_each_other_s_rows(experiment: Experiment, tmp_path: Path) -> None:
    run_study(STUDY, experiment, tmp_path, seeds=(1,), only=["G+E"])
    before = results(tmp_path)
    told: list[int] = []
    other = build_study("objects", Variant(objects=10))
    with_two = replace(other, rows={"0": other.rows["0"], "2": STUDY.rows["G+S+E"]}, reference="2")
    outcomes = run_study(
        with_two,
        experiment,
        tmp_path,
        seeds=(1,),
        on_progress=lambda done, total: told.append(done),
    )
    assert results(tmp_path) == before
    assert set(outcomes) == {"0", "2"}
    assert told[-1] == 2


@pytest.mark.integration
def test_only_complete_rows_are_told_of_and_those_of_earlier_runs_with_them(
    experiment: Experiment, tmp_path: Path
) -> None:
    assert set(run_study(STUDY, experiment, tmp_path, seeds=(1,), only=["E"])) == {"E", "G+S+E"}
    found = run_study(STUDY, experiment, tmp_path, seeds=(1,), only=["G"])
    assert set(found) == {"E", "G", "G+S+E"}
    found = run_study(STUDY, experiment, tmp_path, seeds=(1, 2), only=["G"])
    assert set(found) == {"G", "G+S+E"}, "of E there is one seed only"


@pytest.mark.integration
def test_results_of_other_settings_or_photos_are_refused(
    experiment: Experiment, tmp_path: Path
) -> None:
    run_study(STUDY, experiment, tmp_path, seeds=(1,), only=["E"])
    longer = replace(experiment, config=replace(CONFIG, epochs=3))
    with pytest.raises(AblationError, match=r"made with other settings \(ablation\).*--run"):
        run_study(STUDY, longer, tmp_path, seeds=(1,), only=["E"])
    other = replace(experiment, judged=features(37, 9))
    with pytest.raises(AblationError, match=r"other settings \(photos\)"):
        run_study(STUDY, other, tmp_path, seeds=(1,), only=["E"])


@pytest.mark.integration
def test_a_damaged_result_is_named(experiment: Experiment, tmp_path: Path) -> None:
    run_study(STUDY, experiment, tmp_path, seeds=(1,), only=["E"])
    place = tmp_path / TRAININGS / f"{STUDY.rows['E'].slug}_seed1.json"
    place.write_text(place.read_text()[:100])
    with pytest.raises(AblationError, match=f"{place.name} is damaged.*delete it"):
        run_study(STUDY, experiment, tmp_path, seeds=(1,), only=["E"])


@pytest.mark.integration
def test_the_bits_are_those_of_the_figures(experiment: Experiment, tmp_path: Path) -> None:
    outcome = run_study(STUDY, experiment, tmp_path, seeds=(1,), only=["G"])["G"][0]
    document = outcome.document
    assert len(outcome.hits) == document["images"] == 37
    assert outcome.hits.mean() == pytest.approx(document["accuracy"])
    assert outcome.polarity_hits.mean() == pytest.approx(document["polarity_accuracy"])
    assert outcome.hard.mean() == pytest.approx(document["hard_errors"])
    assert document["easy_errors"] == pytest.approx(1 - (outcome.hits | outcome.hard).mean())
    assert not (outcome.hits & outcome.hard).any()


@given(bits=st.lists(st.booleans(), max_size=40))
def test_bits_survive_being_packed(bits: list[bool]) -> None:
    text = pack_bits(np.array(bits, dtype=bool))
    assert unpack_bits(text, len(bits)).tolist() == bits


@pytest.mark.integration
@pytest.mark.parametrize(
    ("told_by", "knowing", "ignorant"), [("colour", "G", "E"), ("faces", "E", "G")]
)
def test_a_row_knows_what_its_branch_sees_and_nothing_else(
    told_by: str, knowing: str, ignorant: str
) -> None:
    experiment = Experiment(
        RECIPE,
        replace(CONFIG, epochs=20, lr=2e-2),
        features(128, 1, told_by=told_by),
        features(100, 2, told_by=told_by),
    )
    accuracy = {
        row: train_variant(STUDY.rows[row], 1, experiment)["accuracy"]
        for row in (knowing, ignorant, "G(Y)")
    }
    assert accuracy[knowing] > 0.8
    assert accuracy[ignorant] < 0.35
    assert accuracy["G(Y)"] < 0.35


@pytest.mark.integration
def test_pictures_are_seen_mirrored_only_where_that_is_asked_for(experiment: Experiment) -> None:
    colour = experiment.train.colour["rgb"].clone()
    colour[:, 1] = float("nan")
    spoilt = replace(experiment, train=replace(experiment.train, colour={"rgb": colour}))
    straight = replace(spoilt, config=replace(CONFIG, flip=False))
    assert train_variant(STUDY.rows["G"], 1, straight)["negative_log_likelihood"] > 0
    flipped = train_variant(STUDY.rows["G"], 1, spoilt)["negative_log_likelihood"]
    assert not flipped > 0


@pytest.mark.integration
def test_lambda_and_the_branches_own_losses_have_a_say(experiment: Experiment) -> None:
    def loss(variant: Variant, weight: float = 1.0) -> float:
        training = replace(RECIPE.training, branch_weight=weight)
        changed = replace(experiment, recipe=replace(RECIPE, training=training))
        return train_variant(variant, 1, changed)["negative_log_likelihood"]

    full = Variant(objects=2)
    assert len({loss(full), loss(replace(full, polarity_weight=0.0)), loss(full, 0.0)}) == 3


@pytest.mark.integration
def test_crops_train_an_expression_net(experiment: Experiment) -> None:
    crops = torch.randint(0, 256, (64, 1, 48, 48), dtype=torch.uint8)
    with_crops = replace(
        experiment,
        config=replace(CONFIG, epochs=1),
        train=replace(experiment.train, faces=crops),
        judged=replace(experiment.judged, faces=crops[:37]),
    )
    frozen = train_variant(STUDY.rows["E"], 1, experiment)["parameters"]
    assert train_variant(STUDY.rows["E"], 1, with_crops)["parameters"] > 10 * frozen


@pytest.mark.integration
def test_half_precision_comes_close(experiment: Experiment) -> None:
    def loss(precision: str) -> float:
        changed = replace(experiment, config=replace(CONFIG, precision=precision))
        return train_variant(Variant(objects=2), 1, changed)["negative_log_likelihood"]

    assert loss("bf16-mixed") == pytest.approx(loss("32"), rel=0.05)


def test_settings_of_the_trainings_are_read_and_checked() -> None:
    assert load_ablation_config(["ablation.epochs=2", "ablation.precision=32"]) == replace(
        AblationConfig(), epochs=2, precision="32"
    )
    for wrong, said in (
        ("ablation.epochs=0", "epochs is 0: expected a whole number of at least 1"),
        ("ablation.dropout=1", "dropout is 1: expected less than 1"),
        ("ablation.flip=3", "flip is '3': expected true or false"),
        ("ablation.precision=64", "precision is '64'"),
        ("ablation.photos=-1", "photos is -1: expected a whole number of at least 0"),
        ("ablation.colour=red", "colour"),
    ):
        with pytest.raises(RecipeError, match=said):
            load_ablation_config([wrong])
