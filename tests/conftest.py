"""Parts that the tests of several packages share: pictures, the landmark file, a tiny model."""

from __future__ import annotations

import copy
import functools
import gc
import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import dlib
import numpy as np
import pytest
import torch
from PIL import Image

from handler.archive.writing import write_model_folder
from handler.network import StimuliAwareNetwork
from handler.stimuli.objects.coco_names import COCO_NAMES
from handler.stimuli.objects.light import LightObjects
from handler.stimuli.selector import StimuliSelector
from handler.values.archive_config import ArchiveConfig
from handler.values.configs import NetworkConfig, SelectorConfig, SemanticConfig
from train.compiling.build import add_compiled_form
from train.reason_source import change_reasons
from train.weights import WeightsMissing, cnn_face_detector_file, landmark_file
from train.weights.home import Header, write_weights

REPOSITORY = Path(__file__).resolve().parents[1]
TINY_NETWORK = NetworkConfig(
    global_backbone="tf_efficientnet_lite0",
    object_features=1280,
    semantic=SemanticConfig(hidden=8, attention=8, steps=2),
    expression_width=4,
)
TINY_SELECTOR = SelectorConfig(
    size=64, objects={"source": "grid", "backbone": "tf_efficientnet_lite0", "size": 96, "count": 5}
)

PhotoFactory = Callable[..., Image.Image]
Encoder = Callable[..., bytes]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts servers comes first: so two processes of tests end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("integration") is None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """The garbage collector passes over what importing has made: a million objects that stay."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """At the end all objects may go, or libraries report those that are left."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def made_once() -> Iterator[None]:
    """What libraries make anew for each of their clients, at the price of several predictions.

    dlib takes more than half a second to make its face detector, which a copy has at once; botocore
    reads its descriptions of AWS from 2 MB of JSON for each session, though they never change.
    """
    detector = functools.cache(dlib.get_frontal_face_detector)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dlib, "get_frontal_face_detector", lambda: copy.copy(detector()))
        patch.setattr(
            botocore.session, "create_loader", functools.cache(botocore.session.create_loader)
        )
        yield


@pytest.fixture(scope="session")
def photo() -> PhotoFactory:
    """Makes smooth RGB pictures: another seed, another picture."""

    def make(seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
        chooser = np.random.default_rng(seed)
        coarse = chooser.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)

    return make


@pytest.fixture(scope="session")
def encode() -> Encoder:
    """Writes a picture in a format: ``encode(image, "PNG", **options)``."""

    def write(image: Image.Image, file_format: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        return buffer.getvalue()

    return write


@pytest.fixture(scope="session")
def landmarks() -> Path:
    """dlib's 5-point landmark predictor, from its package."""
    try:
        return landmark_file()
    except WeightsMissing:
        pytest.skip("no landmark file: face_recognition_models is not here")


@pytest.fixture(scope="session")
def face_detector() -> Path:
    """dlib's CNN face detector, from its package."""
    try:
        return cnn_face_detector_file()
    except WeightsMissing:
        pytest.skip("no CNN face detector: face_recognition_models is not here")


@pytest.fixture(scope="session")
def portrait() -> Image.Image:
    """A public-domain photo with one large frontal face, 512x512."""
    places = [REPOSITORY / "vea" / "photos" / "astronaut.jpg"]
    spec = importlib.util.find_spec("skimage")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        places.insert(0, Path(folder, "data", "astronaut.png"))
    for place in places:
        if place.is_file():
            return Image.open(place).convert("RGB")
    pytest.skip("no portrait: neither scikit-image nor vea/photos/astronaut.jpg is here")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, landmarks: Path) -> Path:
    """A model folder of the shipped shape with random weights, quick to run."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = StimuliAwareNetwork(TINY_NETWORK)
        selector = StimuliSelector(TINY_SELECTOR, landmarks=landmarks)
        _settle(network.global_net.backbone.trunk)
        _settle(selector.objects.backbone.trunk)
        torch.nn.init.normal_(network.response.classifier.weight, std=0.2)
    write_model_folder(
        folder,
        config=ArchiveConfig("tiny", "0.1", TINY_NETWORK, TINY_SELECTOR),
        network=network,
        selector=selector,
        landmarks=landmarks,
        card={"training": {"data": "none"}},
    )
    return folder


@pytest.fixture(scope="session")
def compiled_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model with a compiled form of its backbones, float32."""
    folder = tmp_path_factory.mktemp("compiled") / "model"
    add_compiled_form(tiny_model, folder, None)
    return folder


@pytest.fixture(scope="session")
def detector_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of weights with a light detector of random weights, which sees people in places."""
    home = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(11)
        source = LightObjects()
        for part in source.modules():
            if isinstance(part, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(part.weight, 0.1)
        for head in source.detector.trunk.heads:
            head[1].weight.data[:80] *= 0.02
            torch.nn.init.constant_(head[1].bias[:80], -9.0)
            head[1].bias.data[COCO_NAMES.index("person")] = 1.0
    halves = {name: tensor.half().float() for name, tensor in source.state_dict().items()}
    write_weights(home / "nanodet-g.safetensors", Header("light"), halves)
    return home


@pytest.fixture(scope="session")
def reasons_models(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    compiled_model: Path,
    detector_home: Path,
) -> dict[str, Path]:
    """The tiny model and its compiled form, by runtime, with that detector for reasons."""
    folder = tmp_path_factory.mktemp("reasons")
    plain = {"torch": tiny_model, "onnx": compiled_model}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEA_WEIGHTS", str(detector_home))
        for name, model in plain.items():
            change_reasons(model, folder / name, "light")
    return {name: folder / name for name in plain}


@torch.no_grad()
def _settle(trunk: torch.nn.Module) -> None:
    """Give a random backbone batch statistics under which its features differ between pictures."""
    norms = [part for part in trunk.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    coarse = torch.randn(8, 3, 6, 6)
    trunk(torch.nn.functional.interpolate(coarse, size=96, mode="bilinear"))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
