"""Expression-Net in the compiled form: 8 bits where the calibration photos show faces."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from handler.archive.files import read_card, seal
from handler.archive.loading import load_archive
from handler.predictor import Predictor
from handler.values.archive_config import ArchiveConfig
from train.compiling.build import Calibration, add_compiled_form

GRAPH = "expression_net.onnx"


@pytest.fixture(scope="module")
def calibrated(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, portrait: Image.Image
) -> Path:
    """The tiny model in 8 bits, calibrated on one face in many lights."""
    place = tmp_path_factory.mktemp("faces")
    photos = [place / f"{number}.png" for number in range(14)]
    small = portrait.resize((224, 224))
    for number, photo in enumerate(photos):
        ImageEnhance.Brightness(small).enhance(0.7 + 0.05 * number).save(photo)
    add_compiled_form(tiny_model, place / "model", Calibration(photos, "a test"))
    return place / "model"


def features(network: torch.nn.Module, crops: torch.Tensor) -> np.ndarray:
    """Of faces, by a network in evaluation mode."""
    with torch.inference_mode():
        return network(crops, torch.ones(len(crops), dtype=torch.bool)).numpy()


@pytest.mark.integration
def test_faces_calibrate_eight_bits(calibrated: Path) -> None:
    config, card, _ = read_card(calibrated)
    assert config.expression_graph
    assert card["compiled"]["expression_net"] == "int8"
    nets = [
        load_archive(calibrated, runtime=name).network.expression_net for name in ("torch", "onnx")
    ]
    assert not list(nets[1].parameters()), "the weights of the form that is not used stay away"
    crops = torch.randint(60, 200, (6, 1, 48, 48), dtype=torch.uint8)
    floats, eights = (features(net, crops) for net in nets)
    assert not np.array_equal(floats, eights)
    assert np.corrcoef(floats.ravel(), eights.ravel())[0, 1] > 0.9


def test_without_faces_among_the_photos_it_has_float32(compiled_model: Path) -> None:
    """As in the form in float32, which no photos calibrate."""
    assert read_card(compiled_model)[1]["compiled"]["expression_net"] == "float32"
    nets = [
        load_archive(compiled_model, runtime=name).network.expression_net
        for name in ("torch", "onnx")
    ]
    crops = torch.randint(0, 256, (6, 1, 48, 48), dtype=torch.uint8)
    floats, others = (features(net, crops) for net in nets)
    np.testing.assert_allclose(others, floats, atol=1e-5)


def test_images_without_a_face_are_zero(compiled_model: Path) -> None:
    net = load_archive(compiled_model, runtime="onnx").network.expression_net
    crops = torch.randint(0, 256, (3, 1, 48, 48), dtype=torch.uint8)
    with torch.inference_mode():
        some = net(crops, torch.tensor([False, True, False]))
        none = net(crops, torch.zeros(3, dtype=torch.bool))
    assert not some[[0, 2]].any()
    assert some[1].any()
    assert none.shape == some.shape
    assert not none.any()


def test_an_archive_from_before_computes_it_with_torch(
    compiled_model: Path, tmp_path: Path, photo, encode
) -> None:
    folder = Path(shutil.copytree(compiled_model, tmp_path / "model"))
    (folder / GRAPH).unlink()
    values = json.loads((folder / "config.json").read_text())
    assert values.pop("expression_graph") is True
    (folder / "config.json").write_text(json.dumps(values))
    seal(folder)
    before = Predictor.load(folder)
    assert before.model.runtime == "onnx"
    assert list(before.network.expression_net.parameters())
    images = [encode(photo(seed), "PNG") for seed in range(3)]
    for one, other in zip(
        before.predict(images), Predictor.load(compiled_model).predict(images), strict=True
    ):
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-6)


def test_the_setting_is_for_a_compiled_form_with_faces(compiled_model: Path) -> None:
    config: ArchiveConfig = read_card(compiled_model)[0]
    assert not config.without_compiled_form().expression_graph
    for contradiction in (
        {"compiled": None},
        {"network": replace(config.network, expression_width=None)},
    ):
        with pytest.raises(ValueError, match="expression_graph"):
            replace(config, **contradiction)
