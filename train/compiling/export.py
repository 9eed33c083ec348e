"""Backbones -> ONNX graphs, float32: pixels in, feature maps out.

Batch norms are folded, padding is made constant, since the size of the image is, and pixels are
normalised inside the graph.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.utils.hooks import RemovableHandle

from handler.archive.loading import LoadedArchive
from handler.folding import fold_batch_norms
from handler.onnx_runtime import FEATURES, PIXELS
from handler.stimuli.faces.light import SIDE, LightFaces
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.objects.light import LightObjects
from handler.values.errors import VeaError

_OPSET = 17


class CompileError(VeaError):
    """The backbones cannot be compiled. The message is one line for the user."""


def backbones_of(archive: LoadedArchive) -> dict[str, tuple[nn.Module, int]]:
    """The networks that have a compiled form, each with the side in pixels of its square input.

    Args:
        archive: Archive, loaded with the runtime torch.

    Raises:
        CompileError: The archive has no such backbone.
    """
    found: dict[str, tuple[nn.Module, int]] = {}
    if archive.network.global_net is not None:
        found["global"] = archive.network.global_net.backbone, archive.config.selector.size
    objects = archive.selector.objects
    if isinstance(objects, GridObjects):
        found["objects"] = objects.backbone, objects.size
    if isinstance(objects, LightObjects):
        found["objects"] = objects.detector, objects.size
    if not found:
        raise CompileError(
            "nothing to compile: the model has neither Global-Net nor grid or light objects"
        )
    if isinstance(archive.selector.faces, LightFaces):
        found["faces"] = archive.selector.faces.network, SIDE
    return found


def export_backbone(backbone: nn.Module, side: int, file: Path) -> None:
    """Write a backbone, or a detector, as an ONNX graph; its batch norms are folded in place.

    Args:
        backbone: Backbone or detector in evaluation mode, on the CPU.
        side: Side in pixels of its square input.
        file: Path of the graph to write.
    """
    fold_batch_norms(backbone)
    # Two images: of one the exporter would take the batch size for a constant.
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        # The newer exporter, which the warnings recommend, needs a package more.
        warnings.simplefilter("ignore")
        _make_padding_constant(backbone, images)
        torch.onnx.export(
            backbone,
            (images,),
            str(file),
            input_names=[PIXELS],
            output_names=[FEATURES],
            dynamic_axes={PIXELS: {0: "images"}, FEATURES: {0: "images"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def _make_padding_constant(backbone: nn.Module, images: torch.Tensor) -> None:
    """Replace convolutions whose padding follows from the image's size at every call."""
    paddings: dict[nn.Module, tuple[int, int, int, int]] = {}

    def note(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        assert isinstance(layer, Conv2dSame)
        paddings[layer] = _padding(layer, inputs[0].shape[-2:])

    hooks: list[RemovableHandle] = [
        layer.register_forward_pre_hook(note)
        for layer in backbone.modules()
        if isinstance(layer, Conv2dSame)
    ]
    backbone(images)
    for hook in hooks:
        hook.remove()
    for block in list(backbone.modules()):
        for name, layer in list(block.named_children()):
            if layer in paddings:
                setattr(block, name, _with_padding(layer, paddings[layer]))


def _padding(layer: Conv2dSame, size: torch.Size) -> tuple[int, int, int, int]:
    """Left, right, top and bottom, as TensorFlow's "same" pads."""
    sides: list[int] = []
    for axis in (1, 0):
        stride, kernel = layer.stride[axis], layer.kernel_size[axis]
        reach = layer.dilation[axis] * (kernel - 1) + 1
        missing = max((-(-size[axis] // stride) - 1) * stride + reach - size[axis], 0)
        sides += [missing // 2, missing - missing // 2]
    return sides[0], sides[1], sides[2], sides[3]


def _with_padding(layer: nn.Module, padding: tuple[int, int, int, int]) -> nn.Module:
    assert isinstance(layer, nn.Conv2d)
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (layer.kernel_size[0], layer.kernel_size[1]),
        stride=(layer.stride[0], layer.stride[1]),
        dilation=(layer.dilation[0], layer.dilation[1]),
        groups=layer.groups,
        bias=layer.bias is not None,
    )
    plain.load_state_dict(layer.state_dict())
    return nn.Sequential(nn.ZeroPad2d(padding), plain)
