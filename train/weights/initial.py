"""Initial weights: each part of a model is filled in place from a weights file.

``name`` is ``random`` (the part stays as it was built), ``imagenet`` (for backbones), the name of a
file in the weights home, or a path ending in ``.safetensors``. Of an object source it may be the
path of a trained model, too; branches that begin from one are filled by `train.weights.trained`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handler.backbones import Backbone
from handler.organism.expression_net import ExpressionNet
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.objects.source import ObjectSource
from train.weights.filling import fill
from train.weights.home import Header, WeightsError, find_weights, read_header, read_weights
from train.weights.packages import LITE, load_lite
from train.weights.trained import initial_trained_objects, is_trained, trained_object_settings

CLASSIFIER = "classifier."
# Which object source a kind of weights file is for.
_SOURCES = {
    "visual_genome": "visual_genome",
    "coco": "coco",
    "light": "light",
    "backbone": "grid",
}


def initial_backbone(backbone: Backbone, name: str) -> None:
    """Fill a backbone, and its classifier if it has one.

    Raises:
        WeightsMissing: The weights are not on this machine.
        WeightsError: The weights are not for this backbone.
    """
    if name == "random":
        return
    if name == "imagenet" and backbone.name in LITE:
        load_lite(backbone)
        return
    path = find_weights(f"imagenet-{backbone.name}" if name == "imagenet" else name)
    header = _header(path, "backbone")
    of = header.settings.get("backbone")
    if of != backbone.name:
        raise WeightsError(f"{path} holds a {of}: the recipe's backbone is a {backbone.name}")
    _, tensors = read_weights(path)
    classifier = {
        key.removeprefix(CLASSIFIER): tensors.pop(key)
        for key in list(tensors)
        if key.startswith(CLASSIFIER)
    }
    fill(backbone.trunk, tensors, path)
    if backbone.classifier is not None:
        if not classifier:
            raise WeightsError(
                f"{path} holds no classifier, which a grid source needs to name its cells: "
                "import a file that has one (`fc.weight`, `fc.bias`)"
            )
        fill(backbone.classifier, classifier, path)


def initial_objects(source: ObjectSource, name: str) -> None:
    """Fill an object source.

    Raises:
        WeightsMissing: The weights are not on this machine.
        WeightsError: The weights are not for this source, or name other classes.
    """
    if name == "random":
        return
    if is_trained(name):
        initial_trained_objects(source, name)
        return
    if isinstance(source, GridObjects):
        initial_backbone(source.backbone, name)
        return
    if name == "imagenet":
        raise WeightsError(
            "ImageNet weights are for backbones, a detector needs its own: "
            "set init: {objects: visual-genome}, {objects: coco} or {objects: nanodet-g} "
            "in the recipe"
        )
    path = find_weights(name)
    header, tensors = read_weights(path)
    for what in ("vocabulary", "attributes"):
        named, told = header.settings.get(what), getattr(source, what)
        if named is not None and list(named) != list(told):
            raise WeightsError(
                f"{path} was trained with {_names(named)} as its {what}, "
                f"the recipe's object source has {_names(told)}: leave '{what}' out of the recipe"
            )
    fill(source, tensors, path)


def initial_expression(net: ExpressionNet, name: str) -> None:
    """Fill Expression-Net.

    Raises:
        WeightsMissing: The weights are not on this machine.
        WeightsError: The weights are not for an Expression-Net, or for one of another width.
    """
    if name == "random":
        return
    path = find_weights(name)
    header = _header(path, "face_resnet")
    width = net.feature_size // 8
    if header.settings.get("width") != width:
        raise WeightsError(
            f"{path} is {header.settings.get('width')} channels wide, the recipe's "
            f"expression_width is {width}: they must be the same"
        )
    fill(net.faces, read_weights(path)[1], path)


def object_settings(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A recipe's object settings, completed by what the weights file dictates.

    Args:
        config: Object source and its settings, as in a recipe; settings that it names are kept.
        name: Name of the weights.

    Raises:
        WeightsMissing: The weights are not on this machine.
        WeightsError: The weights are for another source.
    """
    if name in ("random", "imagenet"):
        return dict(config)
    if is_trained(name):
        return trained_object_settings(config, name)
    path = find_weights(name)
    header = read_header(path)
    meant, asked = _SOURCES.get(header.kind), config.get("source")
    if meant != asked:
        use = f"the source '{meant}'" if meant else "Expression-Net"
        raise WeightsError(f"{path} is for {use}: the recipe's objects come from '{asked}'")
    return {**header.settings, **config}


def _header(path: Path, kind: str) -> Header:
    header = read_header(path)
    if header.kind != kind:
        raise WeightsError(f"{path} is of kind {header.kind}: expected kind {kind}")
    return header


def _names(names: Any) -> str:
    names = list(names)
    return f"{len(names)} names ({', '.join(names[:2])}, ...)" if names else "no names"
