"""Models that were trained apart become one: whose branch is whose, and what fits together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from handler.archive import ArchiveConfig, load_archive, write_model_folder
from handler.network import NetworkConfig, StimuliAwareNetwork
from handler.organism.semantic_net import SemanticConfig
from handler.predictor import Prediction, Predictor
from handler.stimuli.selector import SelectorConfig, StimuliSelector
from handler.stimuli.stimuli import Faces, Objects, Stimuli
from train.joining import JoinError, join, join_networks
from vea.main import build_app

FULL = NetworkConfig(
    global_backbone="tf_efficientnet_lite0",
    object_features=512,
    semantic=SemanticConfig(hidden=8, attention=8, steps=2),
    expression_width=2,
)
FACES = replace(FULL, global_backbone=None, semantic=None)
OBJECTS = replace(
    FULL,
    global_backbone=None,
    semantic=SemanticConfig(hidden=6, attention=5),
    expression_width=None,
)
SELECTOR = SelectorConfig(
    size=64, objects={"source": "grid", "backbone": "resnet18", "size": 64, "count": 4}
)

MakeModel = Callable[..., Path]


def network(config: NetworkConfig, seed: int) -> StimuliAwareNetwork:
    torch.manual_seed(seed)
    made = StimuliAwareNetwork(config).eval()
    torch.nn.init.normal_(made.response.classifier.bias)
    return made


def stimuli() -> Stimuli:
    chooser = torch.Generator().manual_seed(1)
    return Stimuli(
        colour=torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=chooser),
        objects=Objects(
            features=torch.randn(3, 4, 512, generator=chooser),
            boxes=torch.zeros(3, 4, 4),
            scores=torch.zeros(3, 4),
            labels=torch.zeros(3, 4, dtype=torch.int64),
            mask=torch.ones(3, 4, dtype=torch.bool),
        ),
        faces=Faces(
            crops=torch.randint(0, 256, (3, 1, 48, 48), dtype=torch.uint8, generator=chooser),
            boxes=torch.zeros(3, 4),
            scores=torch.zeros(3),
            counts=torch.tensor([1, 0, 2]),
        ),
    )


@torch.no_grad()
def test_what_the_branches_say_is_added_and_the_last_model_of_a_branch_has_the_say() -> None:
    full, objects, faces = network(FULL, 1), network(OBJECTS, 2), network(FACES, 3)
    joined = join_networks([full, objects, faces])
    seen = stimuli()
    v_g = full.perceive(seen).features[0]
    (v_s,) = objects.perceive(seen).features
    (v_e,) = faces.perceive(seen).features
    bias = torch.stack([one.response.classifier.bias for one in (full, objects, faces)]).mean(0)
    logits = (
        v_g @ full.response.columns()[0].T
        + v_s @ objects.response.columns()[0].T
        + v_e @ faces.response.columns()[0].T
        + bias
    )
    found = joined(seen).log_probabilities
    assert torch.allclose(found, logits.log_softmax(1), atol=1e-5)


@torch.no_grad()
def test_a_model_that_gives_no_branch_gives_no_bias_either() -> None:
    first, second = network(FULL, 1), network(FULL, 2)
    joined = join_networks([first, second])
    assert torch.equal(joined(stimuli()).log_probabilities, second(stimuli()).log_probabilities)


def test_models_of_other_emotions_are_not_joined() -> None:
    other = network(replace(FACES, wheel="ekman-6"), 1)
    with pytest.raises(JoinError, match="different emotions: ekman-6, mikels-8"):
        join_networks([network(FACES, 1), other])


@pytest.fixture
def make_model(tmp_path: Path, landmarks: Path) -> MakeModel:
    def make(name: str, config: NetworkConfig, *, weights: int = 5, **settings: object) -> Path:
        made = network(config, len(name))
        chosen = replace(SELECTOR, **settings)
        torch.manual_seed(weights)
        write_model_folder(
            tmp_path / name,
            config=ArchiveConfig("vea-tiny", "0", config, chosen),
            network=made,
            selector=StimuliSelector(chosen, landmarks=landmarks),
            landmarks=landmarks,
            card={"training": {"of": name}},
        )
        return tmp_path / name

    return make


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photo) -> Path:
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        for place, (emotion, level) in enumerate((("awe", 200), ("fear", 20))):
            folder = root / split / emotion
            folder.mkdir(parents=True)
            for i in range(3):
                seed = 10 * place + i + (100 if split == "val" else 0)
                pixels = np.asarray(photo(seed, (80, 64))) // 6 + level
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def test_the_command_writes_a_model_that_knows_where_its_branches_come_from(
    make_model: MakeModel, data: Path, tmp_path: Path, photo, encode
) -> None:
    first, second = make_model("whole", FULL), make_model("objects", OBJECTS)
    ended = CliRunner().invoke(
        build_app(),
        [
            *("join", str(first), str(second), "--data", str(data)),
            *("--run", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")),
        ],
        catch_exceptions=False,
    )
    assert ended.exit_code == 0, ended.output
    assert "with calibrated branches" in ended.output
    joined = load_archive(tmp_path / "run" / "model")
    given = load_archive(second)
    assert joined.config.name == "vea-tiny"
    assert joined.config.network.semantic == OBJECTS.semantic
    for name, value in given.network.semantic_net.state_dict().items():
        assert torch.equal(joined.network.semantic_net.state_dict()[name], value), name
    told = joined.card["training"]
    assert [one["training"] for one in told["joined"]] == [{"of": "whole"}, {"of": "objects"}]
    assert told["joined"][1]["branches"] == ["semantic_net"]
    assert told["joined"][1]["digest"] == given.digest
    assert len(told["calibration"]["factors"]) == 3
    (answer,) = Predictor.load(tmp_path / "run" / "model").predict([encode(photo(1), "PNG")])
    assert isinstance(answer, Prediction)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"size": 96}, "different settings"), ({"weights": 6}, "different weights")],
)
def test_models_that_look_at_photos_differently_are_not_joined(
    make_model: MakeModel, data: Path, tmp_path: Path, settings: dict[str, int], reason: str
) -> None:
    models = [make_model("whole", FULL), make_model("objects", OBJECTS, **settings)]
    with pytest.raises(JoinError, match=reason):
        join(models, data, tmp_path / "model", cache_root=tmp_path / "cache")
    assert not (tmp_path / "model").exists()


def test_one_model_is_nothing_to_join(make_model: MakeModel, data: Path, tmp_path: Path) -> None:
    with pytest.raises(JoinError, match="two models or more"):
        join([make_model("whole", FULL)], data, tmp_path / "m", cache_root=tmp_path / "cache")
