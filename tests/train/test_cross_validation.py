"""Folds that keep copies together, and trainings that judge only what they have not seen."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from handler.values.configs import NetworkConfig, SelectorConfig, SemanticConfig
from handler.values.emotions import MIKELS, POLARITY
from train.crossval.folds import stratified_folds
from train.crossval.linear_probe import LinearProbe, build_linear_probe, fit_linear
from train.crossval.network import FittedNetwork, link_photos
from train.crossval.protocols import CrossValidationError, cross_validate
from train.datasets.reading import read_dataset
from train.evaluation.intervals import mean_and_std
from train.recipes.recipe import Recipe
from train.recipes.training import TrainingConfig

RECIPE = Recipe(
    name="tiny",
    init="random",
    selector=SelectorConfig(
        size=64, objects={"source": "grid", "backbone": "resnet18", "size": 64, "count": 4}
    ),
    network=NetworkConfig(
        global_backbone=None,
        object_features=512,
        semantic=SemanticConfig(hidden=8, attention=8, steps=2),
        expression_width=None,
    ),
    training=TrainingConfig(epochs=1, batch_size=4, crop=64, calibrate=False),
)


def table_of(counts):
    """Rows without files: as many photos of each emotion as told."""
    rows = [
        {"path": f"{emotion}{i}", "label": MIKELS.index(emotion), "sha256": f"{emotion}{i}"}
        for emotion, count in counts.items()
        for i in range(count)
    ]
    return pd.DataFrame(rows).assign(split="train", emotion=[r["path"][:-1] for r in rows])


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 7), min_size=1, max_size=120),
    folds=st.integers(2, 10),
    seed=st.integers(0, 100),
)
def test_folds_have_the_same_number_of_photos_of_each_emotion_and_in_all(labels, folds, seed):
    digests = [str(i) for i in range(len(labels))]
    dealt = stratified_folds(labels, digests, folds=folds, seed=seed)
    in_all = np.bincount(dealt, minlength=folds)
    assert in_all.sum() == len(labels)
    assert np.ptp(in_all) <= 1
    for emotion in set(labels):
        of_emotion = np.bincount(dealt[np.array(labels) == emotion], minlength=folds)
        assert np.ptp(of_emotion) <= 1


@settings(max_examples=60, deadline=None)
@given(
    photos=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=1, max_size=120),
    folds=st.integers(2, 6),
    seed=st.integers(0, 100),
)
def test_copies_are_never_apart_even_under_two_emotions(photos, folds, seed):
    labels, digests = [label for label, _ in photos], [str(digest) for _, digest in photos]
    dealt = stratified_folds(labels, digests, folds=folds, seed=seed)
    assert len({(digest, fold) for digest, fold in zip(digests, dealt, strict=True)}) == len(
        set(digests)
    )
    bulkiest = max(Counter(digests).values())
    emotion_of = dict(reversed(list(zip(digests, labels, strict=True))))
    for emotion in set(emotion_of.values()):
        members = np.array([emotion_of[digest] == emotion for digest in digests])
        assert np.ptp(np.bincount(dealt[members], minlength=folds)) <= bulkiest


def test_the_same_seed_deals_the_same_folds_and_another_seed_others():
    labels, digests = [0, 1] * 30, [str(i) for i in range(60)]
    first = stratified_folds(labels, digests, folds=5, seed=1)
    assert (first == stratified_folds(labels, digests, folds=5, seed=1)).all()
    assert (first != stratified_folds(labels, digests, folds=5, seed=2)).any()


class Recorder:
    """Answers by a rule, and remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def __call__(self, train, test, wheel):
        self.asked.append((train, test, wheel))
        return np.log(self.answer(train, test, wheel))


def uniform(train, test, wheel):
    return np.full((len(test), len(wheel)), 1 / len(wheel))


def knowing(train, test, wheel):
    return np.eye(len(wheel))[test["label"]] * 0.9 + 0.1 / len(wheel)


@pytest.mark.parametrize("protocol", ["one-vs-all", "multiclass"])
def test_no_photo_is_judged_by_a_training_that_has_seen_it(protocol):
    table = table_of({"awe": 12, "fear": 11, "sadness": 13})
    table = pd.concat([table, table.iloc[:3].assign(path="copy")], ignore_index=True)
    asked = Recorder(uniform)
    cross_validate(table, MIKELS, asked, protocol=protocol)
    for train, test, _ in asked.asked:
        assert not set(train["sha256"]) & set(test["sha256"])
        assert len(train) + len(test) == len(table)
    tested = pd.concat([test for _, test, _ in asked.asked])
    times = 3 if protocol == "one-vs-all" else 1
    assert len(asked.asked) == 5 * times
    assert (tested["path"].value_counts().drop("copy") == times).all()


def test_one_vs_all_asks_for_each_emotion_against_the_others():
    asked = Recorder(uniform)
    cross_validate(table_of({"awe": 10, "fear": 20}), MIKELS, asked)
    for number, (train, test, wheel) in enumerate(asked.asked):
        emotion = "awe" if number < 5 else "fear"
        assert wheel == POLARITY
        for rows in (train, test):
            assert ((rows["label"] == 0) == (rows["emotion"].str.startswith(emotion))).all()


def test_one_vs_all_gives_everything_to_the_knowing_and_half_to_the_rest():
    table = table_of({"awe": 10, "fear": 40, "sadness": 50})
    best = cross_validate(table, MIKELS, Recorder(knowing))
    assert mean_and_std(best.overall["mean_rate"]) == (1.0, 0.0)
    always_no = Recorder(lambda train, test, wheel: np.tile([0.01, 0.99], (len(test), 1)))
    lazy = cross_validate(table, MIKELS, always_no)
    assert lazy.per_emotion["awe"]["true_positive_rate"] == [0.0] * 5
    assert lazy.per_emotion["awe"]["true_negative_rate"] == [1.0] * 5
    assert lazy.overall["mean_rate"] == [0.5] * 5


def test_a_rare_emotion_is_called_when_it_is_likelier_than_its_share():
    # 30 % is no majority, but thrice what one photo in ten would have without being looked at.
    hinting = Recorder(
        lambda train, test, wheel: np.where(
            (test["label"] == 0).to_numpy()[:, None], [[0.3, 0.7]], [[0.02, 0.98]]
        )
    )
    found = cross_validate(table_of({"awe": 10, "fear": 90}), MIKELS, hinting)
    assert found.per_emotion["awe"]["mean_rate"] == [1.0] * 5


def test_multiclass_figures_are_means_over_folds_and_pooled_ones_over_photos():
    right_in_one_fold = Recorder(
        lambda train, test, wheel: (
            knowing(train, test, wheel)
            if "awe0" in set(test["path"])
            else uniform(train, test, wheel)
        )
    )
    table = table_of({"amusement": 10, "awe": 10, "fear": 30})
    result = cross_validate(table, MIKELS, right_in_one_fold, protocol="multiclass")
    assert sorted(result.overall["accuracy"]) == pytest.approx([0.2] * 4 + [1.0])  # amusement
    mean, std = mean_and_std(result.overall["accuracy"])
    assert mean == pytest.approx(0.36)
    assert std == pytest.approx(np.std([0.2] * 4 + [1.0], ddof=1))
    assert result.pooled.accuracy == pytest.approx((4 * 2 + 10) / 50)
    assert result.per_emotion["amusement"]["true_positive_rate"] == [1.0] * 5
    assert math.isclose(sum(result.per_emotion["awe"]["true_positive_rate"]), 1.0)


def test_an_emotion_with_eight_photos_is_left_out_as_the_paper_does():
    result = cross_validate(
        table_of({"anger": 8, "awe": 10, "fear": 10}), MIKELS, Recorder(uniform)
    )
    assert result.left_out == {"anger": 8}
    assert set(result.per_emotion) == {"awe", "fear"}
    assert not (result.folds["label"] == MIKELS.index("anger")).any()


def test_ten_copies_are_one_photo():
    table = table_of({"anger": 10, "awe": 10, "fear": 10})
    table.loc[table["label"] == MIKELS.index("anger"), "sha256"] = "the same"
    assert cross_validate(table, MIKELS, Recorder(uniform)).left_out == {"anger": 1}


@pytest.mark.parametrize("protocol", ["one-vs-all", "multiclass"])
def test_photos_that_cannot_be_read_count_apart(protocol):
    def answer(train, test, wheel):
        p = knowing(train, test, wheel)
        p[test["path"].isin(["awe0", "fear1"])] = math.nan
        return p

    table = table_of({"awe": 10, "fear": 10})
    result = cross_validate(table, MIKELS, Recorder(answer), protocol=protocol)
    assert result.refused == 2
    name = "mean_rate" if protocol == "one-vs-all" else "accuracy"
    assert mean_and_std(result.overall[name])[0] == 1.0


def test_what_cannot_be_cross_validated_is_refused_in_one_line():
    table = table_of({"awe": 12, "fear": 4})
    with pytest.raises(CrossValidationError, match="fewer than two emotions have 10"):
        cross_validate(table, MIKELS, Recorder(uniform))
    with pytest.raises(CrossValidationError, match="expected at least 2"):
        cross_validate(table, MIKELS, Recorder(uniform), folds=1)
    with pytest.raises(CrossValidationError, match="one-vs-all or multiclass"):
        cross_validate(table, MIKELS, Recorder(uniform), protocol="all-vs-all")


@pytest.mark.parametrize("protocol", ["one-vs-all", "multiclass"])
def test_the_document_is_json(protocol):
    table = table_of({"awe": 10, "fear": 10})
    result = cross_validate(table, MIKELS, Recorder(knowing), protocol=protocol)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["folds"] == 5
    assert document["images"] == 20
    assert set(document["per_emotion"]) == {"awe", "fear"}
    for figure in document["overall"].values():
        assert len(figure["folds"]) == 5


def test_the_linear_classifier_is_at_the_minimum_of_its_loss():
    torch.manual_seed(0)
    x, y = torch.randn(60, 5), torch.arange(60) % 3
    weight, bias = fit_linear(x, y, classes=3, penalty=0.1)
    weight, bias = weight.double().requires_grad_(), bias.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(x.double() @ weight.T + bias, y)
    (loss + 0.1 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-3
    assert bias.grad.abs().max() < 1e-3


def test_linear_classifiers_find_what_is_there_and_nothing_where_nothing_is():
    table = table_of({"awe": 30, "fear": 30})
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 20, generator=rng)
    telling = noise + 2.0 * torch.tensor((table["label"] == 1).to_numpy())[:, None]
    digests = table["sha256"].tolist()
    found = cross_validate(table, MIKELS, LinearProbe(telling, digests))
    assert mean_and_std(found.overall["mean_rate"])[0] > 0.95
    nothing = cross_validate(table, MIKELS, LinearProbe(noise, digests))
    assert 0.3 < mean_and_std(nothing.overall["mean_rate"])[0] < 0.7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, photo):
    """Eight dark pictures of fear, eight light ones of awe, and one file that is no picture."""
    root = tmp_path_factory.mktemp("small")
    for emotion, level, first in (("awe", 200, 0), ("fear", 20, 8)):
        (root / emotion).mkdir()
        for i in range(8):
            pixels = np.asarray(photo(first + i, (80, 64))) // 6 + level
            Image.fromarray(pixels).save(root / emotion / f"{i}.png")
    (root / "awe" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    return read_dataset(root, MIKELS)


def test_frozen_features_are_made_once_a_photo_and_tell_light_from_dark(dataset, tmp_path):
    features = build_linear_probe(RECIPE, dataset.table, cache_root=tmp_path)
    assert features.features.shape == (16, 512)
    result = cross_validate(
        dataset.table, MIKELS, features, protocol="multiclass", folds=2, least=4
    )
    assert result.refused == 1
    assert result.pooled.accuracy > 0.8


def test_the_links_to_a_folds_photos_are_a_data_set_of_their_own(dataset, tmp_path):
    rows = dataset.table.assign(label=(dataset.table["label"] != MIKELS.index("fear")).astype(int))
    link_photos(rows, POLARITY, tmp_path / "data")
    linked = read_dataset(tmp_path / "data", POLARITY)
    assert Counter(linked.table["sha256"]) == Counter(rows["sha256"])
    fear = set(dataset.table.loc[dataset.table["emotion"] == "fear", "sha256"])
    assert set(linked.table.loc[linked.table["label"] == 0, "sha256"]) == fear
    assert set(linked.table["split"]) == {"train", "val"}


def test_photos_that_a_list_names_without_an_ending_are_linked_too(dataset, tmp_path):
    rows = dataset.table.iloc[:3]
    bare = [tmp_path / f"photo {i}" for i in range(3)]
    for path, place in zip(rows["path"], bare, strict=True):
        shutil.copyfile(path, place)
    link_photos(rows.assign(path=[str(place) for place in bare]), MIKELS, tmp_path / "data")
    linked = read_dataset(tmp_path / "data", MIKELS)
    assert Counter(linked.table["sha256"]) == Counter(rows["sha256"])


def test_a_fold_is_trained_on_one_device_however_many_the_recipe_has(
    dataset, tmp_path, monkeypatch
):
    class Begun(Exception):
        pass

    def begin(recipe, *args, **kwargs):
        raise Begun(recipe.training.devices)

    monkeypatch.setattr("train.crossval.network.fit", begin)
    several = replace(RECIPE, training=replace(RECIPE.training, devices=2))
    network = FittedNetwork(several, tmp_path / "run", cache_root=tmp_path / "cache")
    with pytest.raises(Begun, match=r"^1$"):
        network(dataset.table, dataset.table, MIKELS)


@pytest.mark.integration
def test_the_whole_network_is_trained_for_each_fold_and_leaves_nothing_behind(dataset, tmp_path):
    network = FittedNetwork(RECIPE, tmp_path / "run", cache_root=tmp_path / "cache")
    rows = dataset.table.assign(label=(dataset.table["label"] != MIKELS.index("fear")).astype(int))
    train, test = rows.iloc[::2], rows.iloc[1::2]
    answers = network(train, test, POLARITY)
    assert answers.shape == (len(test), 2)
    read = ~test["path"].str.endswith("broken.jpg").to_numpy()
    assert np.exp(answers[read]).sum(axis=1) == pytest.approx(1.0)
    assert np.isnan(answers[~read]).all()
    assert not list((tmp_path / "run").iterdir())
    other = FittedNetwork(replace(RECIPE, seed=2), tmp_path / "run", cache_root=tmp_path / "cache")(
        train, test, POLARITY
    )
    assert not np.allclose(answers[read], other[read]), "the training has a say"
