"""Features of frozen parts: what is seen, seen once, and the same whatever N they are cut to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from handler.images import decode
from handler.organism.expression_net import ExpressionNet
from handler.stimuli.selector import fit_colour
from handler.values.configs import NetworkConfig, SelectorConfig, SemanticConfig
from train.ablation.feature_cache import build_features, luminance
from train.ablation.features import FeatureSet
from train.datasets.reading import read_dataset
from train.fitting.builders import build_network, build_selector, selector_files
from train.recipes.recipe import Recipe
from train.recipes.training import TrainingConfig
from train.stimuli.shards import CacheError

RECIPE = Recipe(
    name="tiny",
    init="random",
    selector=SelectorConfig(
        size=32, objects={"source": "grid", "backbone": "resnet18", "size": 96, "count": 2}
    ),
    network=NetworkConfig(
        global_backbone="resnet18",
        object_features=512,
        semantic=SemanticConfig(hidden=8, attention=8),
        expression_width=4,
    ),
    training=TrainingConfig(crop=32),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, photo: Any, portrait: Image.Image) -> Path:
    """Two emotions, three pictures each, one file that is none, and a portrait."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(6):
        folder = root / ("awe" if number % 2 else "fear")
        folder.mkdir(parents=True, exist_ok=True)
        photo(number, (60, 40)).save(folder / f"{number}.png")
    (root / "awe" / "broken.png").write_bytes(b"\x89PNG no picture")
    portrait.save(root / "awe" / "portrait.png")
    return root


@pytest.fixture(scope="module")
def table(root: Path) -> pd.DataFrame:
    return read_dataset(root, None).table


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def features(table: pd.DataFrame, cache: Path) -> FeatureSet:
    return build_features(RECIPE, {"train": table}, count=9, cache_root=cache)["train"]


def test_fewer_objects_are_those_of_a_cache_made_with_fewer(
    features: FeatureSet, table: pd.DataFrame, cache: Path
) -> None:
    few = build_features(RECIPE, {"train": table}, count=3, cache_root=cache)["train"]
    rows = torch.arange(len(features))
    cut = features.batch(rows, colour=None, objects=3, faces=False)
    assert few.objects.shape[1] == 3
    assert cut.objects is not None
    assert cut.object_mask is not None
    assert torch.equal(cut.objects, few.objects.float())
    assert torch.equal(cut.object_mask, few.object_mask)
    assert not torch.equal(features.objects[:, :3], features.objects[:, 3:6])


def test_photos_that_cannot_be_read_are_left_out_and_labels_stay_with_theirs(
    features: FeatureSet, table: pd.DataFrame
) -> None:
    assert len(features) == len(table) - 1
    readable = table[~table["path"].str.endswith("broken.png")]
    assert list(features.digests) == readable["sha256"].tolist()
    assert features.labels.tolist() == readable["label"].tolist()


def test_pictures_are_seen_in_colour_and_as_luminance_each_mirrored_too(
    features: FeatureSet, table: pd.DataFrame
) -> None:
    torch.manual_seed(RECIPE.seed)
    selector = build_selector(RECIPE, selector_files(RECIPE))
    global_net = build_network(RECIPE, selector).eval().global_net
    assert global_net is not None
    path = table.loc[table["sha256"] == features.digests[0], "path"].item()
    colour = fit_colour(decode(Path(path).read_bytes()), RECIPE.selector)
    for name, picture in (("rgb", colour), ("y", luminance(colour))):
        for side, view in enumerate((picture, picture.flip(-1))):
            with torch.no_grad():
                v_g = global_net(view.unsqueeze(0))[0][0]
            kept = features.colour[name][0, side].float()
            assert torch.allclose(kept, v_g, atol=1e-2 * float(v_g.std())), (name, side)
    assert not torch.equal(features.colour["rgb"], features.colour["y"])


def test_only_what_rows_look_at_is_computed(
    features: FeatureSet, table: pd.DataFrame, tmp_path: Path
) -> None:
    told: set[str] = set()
    less = build_features(
        RECIPE,
        {"train": table},
        count=9,
        cache_root=tmp_path,
        spaces={"rgb"},
        mirrored=False,
        on_progress=lambda what, done, total: told.add(what),
    )["train"]
    assert list(less.colour) == ["rgb"]
    assert torch.equal(less.colour["rgb"], features.colour["rgb"][:, :1])
    assert "pictures train" in told
    assert "luminance train" not in told
    assert less.identity == features.identity, "rows of studies with other needs can be joined"


def test_luminance_has_three_equal_channels_and_keeps_the_grey_pictures() -> None:
    picture = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    grey = luminance(picture)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert (luminance(grey).int() - grey.int()).abs().max() <= 1
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert ((picture * weights).sum(dim=1) - grey[:, 0]).abs().max() <= 1.5


def test_a_batch_has_the_mirrored_feature_of_those_that_are_mirrored(features: FeatureSet) -> None:
    rows = torch.tensor([2, 0])
    seen = features.batch(
        rows, colour="y", objects=0, faces=False, mirrored=torch.tensor([True, False])
    )
    assert seen.colour is not None
    assert torch.equal(seen.colour[0], features.colour["y"][2, 1].float())
    assert torch.equal(seen.colour[1], features.colour["y"][0, 0].float())
    assert seen.objects is None
    assert seen.faces is None


def test_what_was_seen_is_not_looked_at_again(
    features: FeatureSet, table: pd.DataFrame, cache: Path, root: Path, photo: Any
) -> None:
    told: list[tuple[str, int, int]] = []

    def again(rows: pd.DataFrame) -> FeatureSet:
        told.clear()
        return build_features(
            RECIPE,
            {"train": rows},
            count=9,
            cache_root=cache,
            on_progress=lambda *what: told.append(what),
        )["train"]

    same = again(table)
    assert torch.equal(same.colour["rgb"], features.colour["rgb"])
    assert same.identity == features.identity
    assert not [what for what, *_ in told if what == "pictures train"]
    photo(77, (60, 40)).save(root / "new.png")
    new = read_new(root / "new.png")
    more = again(pd.concat([new, table], ignore_index=True))
    pictures = [(done, total) for what, done, total in told if what == "pictures train"]
    assert pictures == [(len(features) + 1, len(features) + 1)], "one photo is new"
    assert torch.equal(more.colour["y"][1:], features.colour["y"])


def test_a_trunk_that_has_been_to_school_is_frozen_and_its_feature_read(
    features: FeatureSet, table: pd.DataFrame, cache: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    trained = ExpressionNet(width=4).eval()
    weights = tmp_path / "faces.safetensors"
    header = {"format": 1, "kind": "face_resnet", "settings": {"width": 4}, "source": "a test"}
    save_file(trained.faces.state_dict(), weights, metadata={"vea": json.dumps(header)})
    recipe = replace(RECIPE, init={"expression": str(weights)})
    frozen = build_features(recipe, {"train": table}, count=9, cache_root=cache)["train"]
    assert features.faces_are_crops
    assert not frozen.faces_are_crops
    assert int(frozen.face_mask.sum()) == 1, "the portrait"
    with torch.no_grad():
        v_e = trained(features.faces, features.face_mask)
    assert torch.allclose(frozen.faces.float(), v_e, atol=1e-2)
    assert not frozen.faces[~frozen.face_mask].any()
    assert frozen.identity != features.identity


def test_a_split_of_which_nothing_can_be_read_is_refused(cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no picture")
    with pytest.raises(CacheError, match="no photo of the split 'val' could be read"):
        build_features(RECIPE, {"val": read_new(broken)}, count=9, cache_root=cache)


def read_new(path: Path) -> pd.DataFrame:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return pd.DataFrame([{"path": str(path), "label": 0, "sha256": digest}])
