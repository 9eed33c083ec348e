"""Backbones -> ONNX graphs, float32: pixels in, feature maps out.

Padding is made constant, since the size of the image is, and pixels are normalised inside the
graph.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.onnx import TrainingMode
from torch.utils.hooks import RemovableHandle

from handler.archive.loading import LoadedArchive
from handler.folding import fold_batch_norms
from handler.onnx_runtime import CATEGORIES, FEATURES, PIXELS
from handler.organism.expression_net import ExpressionNet
from handler.stimuli.faces.blazeface import BlazeFace
from handler.stimuli.faces.light import LightFaces
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.objects.light import LightObjects
from handler.values.backbones import EXPRESSION, FACES, GLOBAL, OBJECTS, SHARED
from handler.values.errors import VeaError
from handler.values.prediction import FACE_SIDE
from train.compiling.sharing import SideBySide, begin_alike, merge_equal_nodes

_OPSET = 17
# How many layers of an 8-bit backbone stay in float32: in 8 bits they would make most of the error,
# and in float32 they take hardly more time.
_FLOAT_LAYERS = 3


class CompileError(VeaError):
    """The backbones cannot be compiled. The message is one line for the user."""


@dataclass(frozen=True)
class ToCompile:
    """A network of which a graph is made.

    Attributes:
        network: Network in evaluation mode, on the CPU.
        side: Side in pixels of its square input.
        channels: Number of channels of its input: 3 for RGB, 1 for grey.
        outputs: Names of the outputs of the graph.
        float_layers: Number of layers, counted from the input, that an 8-bit graph has in float32.
    """

    network: nn.Module
    side: int
    outputs: tuple[str, ...] = (FEATURES,)
    channels: int = 3
    float_layers: int = 0


def networks_of(archive: LoadedArchive) -> dict[str, ToCompile]:
    """The network of each graph of the compiled form.

    Args:
        archive: Archive, loaded with the runtime torch.

    Raises:
        CompileError: The archive has no network that can be compiled.
    """
    found: dict[str, ToCompile] = {}
    network, objects, side = archive.network, archive.selector.objects, archive.config.selector.size
    if network.global_net is not None:
        found[GLOBAL] = _backbone(network.global_net.backbone, side)
    if isinstance(objects, GridObjects):
        found[OBJECTS] = _backbone(objects.backbone, objects.size)
        if (
            network.global_net is not None
            and archive.config.sees_once
            and begin_alike(network.global_net.backbone, objects.backbone)
        ):
            both = SideBySide(network.global_net.backbone, objects.backbone).eval()
            found = {SHARED: _backbone(both, side, (GLOBAL, OBJECTS, CATEGORIES))}
    if isinstance(objects, LightObjects):
        found[OBJECTS] = _backbone(objects.detector, objects.size)
    if not found:
        raise CompileError(
            "nothing to compile: the model has neither Global-Net nor grid or light objects"
        )
    if isinstance(archive.selector.faces, LightFaces):
        found[FACES] = ToCompile(archive.selector.faces.network, archive.selector.faces.sides[0])
    if network.expression_net is not None:
        found[EXPRESSION] = ToCompile(
            _FaceFeatures(network.expression_net).eval(), FACE_SIDE, channels=1
        )
    return found


def _backbone(network: nn.Module, side: int, outputs: tuple[str, ...] = (FEATURES,)) -> ToCompile:
    return ToCompile(network, side, outputs, float_layers=_FLOAT_LAYERS)


class _FaceFeatures(nn.Module):
    """Expression-Net for images that all have a face."""

    def __init__(self, network: ExpressionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """As `ExpressionNet.extract`."""
        return self.network.extract(crops)


def export(given: ToCompile, file: Path, *, fold: bool) -> None:
    """Write a network as an ONNX graph.

    Args:
        given: Network to compile.
        file: Path of the graph to write.
        fold: Whether batch norms are folded, in the network as well. Without it the graph holds the
            network's weights as they are, and ONNX Runtime folds when it loads the graph.
    """
    if fold:
        fold_batch_norms(given.network)
    # BlazeFace sees squares of two sizes; the others always one.
    free = {2: "height", 3: "width"} if isinstance(given.network, BlazeFace) else {}
    # Two images: of one the exporter would take the batch size for a constant.
    images = torch.zeros(2, given.channels, given.side, given.side, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        # The newer exporter, which the warnings recommend, needs a package more.
        warnings.simplefilter("ignore")
        _make_padding_constant(given.network, images)
        torch.onnx.export(
            given.network,
            (images,),
            str(file),
            input_names=[PIXELS],
            output_names=list(given.outputs),
            dynamic_axes={name: {0: "images", **free} for name in (PIXELS, *given.outputs)},
            opset_version=_OPSET,
            # In evaluation mode the exporter would fold batch norms itself.
            training=TrainingMode.EVAL if fold else TrainingMode.PRESERVE,
            do_constant_folding=fold,
            dynamo=False,
        )
    if len(given.outputs) > 1:
        merge_equal_nodes(file)


def _make_padding_constant(backbone: nn.Module, images: torch.Tensor) -> None:
    """Replace convolutions whose padding follows from the image's size at every call."""
    paddings: dict[Conv2dSame, tuple[int, int, int, int]] = {}

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
            if isinstance(layer, Conv2dSame):
                setattr(block, name, _Padded(layer, paddings[layer]))


def _padding(layer: Conv2dSame, size: torch.Size) -> tuple[int, int, int, int]:
    """Left, right, top and bottom, as TensorFlow's "same" pads."""
    sides: list[int] = []
    for axis in (1, 0):
        stride, kernel = layer.stride[axis], layer.kernel_size[axis]
        reach = layer.dilation[axis] * (kernel - 1) + 1
        missing = max((-(-size[axis] // stride) - 1) * stride + reach - size[axis], 0)
        sides += [missing // 2, missing - missing // 2]
    return sides[0], sides[1], sides[2], sides[3]


class _Padded(nn.Conv2d):
    """A convolution with constant padding; a batch norm after it can still be folded.

    Args:
        layer: Convolution that is copied.
        padding: Padding, left, right, top and bottom.
    """

    def __init__(self, layer: nn.Conv2d, padding: tuple[int, int, int, int]) -> None:
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            (layer.kernel_size[0], layer.kernel_size[1]),
            stride=(layer.stride[0], layer.stride[1]),
            dilation=(layer.dilation[0], layer.dilation[1]),
            groups=layer.groups,
            bias=layer.bias is not None,
        )
        self.load_state_dict(layer.state_dict())
        self._around = padding
        self.train(layer.training)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As `Conv2d`."""
        return super().forward(nn.functional.pad(inputs, self._around, value=0.0))
