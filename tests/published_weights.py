"""Files of the published layouts with random numbers in them, small where the layout allows it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

OBJECTS, ATTRIBUTES = 20, 7
_STAGES = {
    "backbone.res2": (3, 64, 64, 256),
    "backbone.res3": (4, 256, 128, 512),
    "backbone.res4": (23, 512, 256, 1024),
    "roi_heads.res5": (3, 1024, 512, 2048),
}
# py-faster-rcnn's anchors as far as their sizes matter here: ratio by ratio, around pixel 7.5.
_SHAPES = [(w * s, h * s) for w, h in ((23, 12), (16, 16), (11, 22)) for s in (4, 8, 16, 32)]
CAFFE_ANCHORS = torch.tensor(
    [
        [7.5 - (w - 1) / 2, 7.5 - (h - 1) / 2, 7.5 + (w - 1) / 2, 7.5 + (h - 1) / 2]
        for w, h in _SHAPES
    ]
)


def airsplay(seed: int = 3) -> dict[str, torch.Tensor]:
    """Tensors of `faster_rcnn_from_caffe_attr.pkl`, with 20 objects and 7 attributes.

    The last norm of each block and the stem's are small, as training makes them: with plain random
    numbers a hundred layers overflow.
    """
    chooser = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.randn(shape, generator=chooser) * std

    def around(middle: float, size: int) -> torch.Tensor:
        return middle * (0.8 + 0.4 * torch.rand(size, generator=chooser))

    def convolution(name: str, out: int, into: int, side: int, gain: float = 1.0) -> None:
        tensors[f"{name}.weight"] = normal(
            out, into, side, side, std=math.sqrt(2 / (into * side * side))
        )
        tensors[f"{name}.norm.weight"] = around(gain, out)
        tensors[f"{name}.norm.bias"] = normal(out, std=0.1)
        tensors[f"{name}.norm.running_mean"] = normal(out, std=0.1)
        tensors[f"{name}.norm.running_var"] = around(1.0, out)

    convolution("backbone.stem.conv1", 64, 3, 7, gain=1 / 60)
    for stage, (blocks, wide, narrow, out) in _STAGES.items():
        for block in range(blocks):
            into = wide if block == 0 else out
            convolution(f"{stage}.{block}.conv1", narrow, into, 1)
            convolution(f"{stage}.{block}.conv2", narrow, narrow, 3)
            convolution(f"{stage}.{block}.conv3", out, narrow, 1, gain=0.2)
            if block == 0:
                convolution(f"{stage}.{block}.shortcut", out, into, 1)
    head = "proposal_generator.rpn_head"
    for name, shape, std in (
        ("conv", (512, 1024, 3, 3), 0.01),
        ("objectness_logits", (12, 512, 1, 1), 0.1),
        ("anchor_deltas", (48, 512, 1, 1), 0.01),
    ):
        tensors[f"{head}.{name}.weight"] = normal(*shape, std=std)
        tensors[f"{head}.{name}.bias"] = normal(shape[0], std=0.1)
    predictor = "roi_heads.box_predictor"
    for name, shape, std in (
        ("cls_score", (OBJECTS + 1, 2048), 0.03),
        ("bbox_pred", (4 * OBJECTS, 2048), 0.01),
        ("fc_attr", (512, 2304), 0.05),
        ("attr_score", (ATTRIBUTES + 1, 512), 0.05),
    ):
        tensors[f"{predictor}.{name}.weight"] = normal(*shape, std=std)
        tensors[f"{predictor}.{name}.bias"] = normal(shape[0], std=0.1)
    tensors[f"{predictor}.cls_embedding.weight"] = normal(OBJECTS + 1, 256, std=1.0)
    return tensors


def tell_apart(tensors: dict[str, torch.Tensor], features: torch.Tensor) -> None:
    """Make the last layers answer to what differs between regions (features, nx2048), in place.

    In a random network all regions look much alike, and would all be of one class.
    """
    middle = features.mean(dim=0)
    for name, spread in (("cls_score", 3.0), ("bbox_pred", 1.0), ("fc_attr", 1.0)):
        rows = tensors[f"roi_heads.box_predictor.{name}.weight"][:, :2048]  # a view
        rows -= torch.outer(rows @ middle, middle) / middle.square().sum()
        rows *= spread / (features @ rows.T).std()


def milvlg(same: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of `bua-caffe-frcn-r101*.pth`: the same network, with anchors of its own."""
    names = {"cls_embedding": "cls_embed", "fc_attr": "attr_linear1", "attr_score": "attr_linear2"}
    tensors: dict[str, torch.Tensor] = {}
    for name, value in same.items():
        parts = name.split(".")
        layer = parts[2] if parts[1] == "box_predictor" else ""
        new = name.replace(layer, names[layer]) if layer in names else name
        changed = value
        if layer in ("cls_score", "cls_embedding", "attr_score"):
            changed = torch.cat([value[-1:], value[:-1]])
        elif layer == "bbox_pred":
            divided = value.unflatten(0, (OBJECTS, 4)).clone()
            divided[:, :2] /= 10
            divided[:, 2:] /= 5
            background = torch.full_like(divided[:1], 3.0)
            changed = torch.cat([background, divided]).flatten(0, 1)
        elif "objectness_logits" in name:
            half = torch.linspace(-0.5, 0.5, value.numel()).view_as(value)
            changed = torch.cat([half - value / 2, half + value / 2])
        tensors[new] = changed
        if name.endswith("running_var"):
            tensors[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    tensors["proposal_generator.anchor_generator.cell_anchors.0"] = CAFFE_ANCHORS.clone()
    return tensors


def face_resnet(width: int = 4, seed: int = 5) -> dict[str, torch.Tensor]:
    """Tensors of `PrivateTest_model_resnet18.t7`, narrower."""
    chooser = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}

    def unit(convolution: str, norm: str, out: int, into: int, side: int) -> None:
        spread = math.sqrt(2 / (into * side * side))
        tensors[f"{convolution}.weight"] = (
            torch.randn(out, into, side, side, generator=chooser) * spread
        )
        for part, low in (
            ("weight", 0.5),
            ("bias", -0.5),
            ("running_mean", -0.5),
            ("running_var", 0.5),
        ):
            tensors[f"{norm}.{part}"] = low + torch.rand(out, generator=chooser)

    unit("conv1", "bn1", width, 3, 3)
    into = width
    for stage in range(4):
        out = width << stage
        for block in range(2):
            name = f"layer{stage + 1}.{block}"
            unit(f"{name}.conv1", f"{name}.bn1", out, into, 3)
            unit(f"{name}.conv2", f"{name}.bn2", out, out, 3)
            if stage and not block:
                unit(f"{name}.shortcut.0", f"{name}.shortcut.1", out, into, 1)
            into = out
    tensors["linear.weight"] = torch.randn(7, into, generator=chooser)
    tensors["linear.bias"] = torch.randn(7, generator=chooser)
    return tensors


def save_face_resnet(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """As its authors saved it: in the format of torch before version 1.6, scores beside it."""
    content = {
        "net": tensors,
        "best_PublicTest_acc": torch.tensor(71.19),
        "best_PrivateTest_acc": np.float64(72.97),
        "best_PublicTest_acc_epoch": 240,
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def vocabulary(path: Path, names: list[str]) -> Path:
    """A vocabulary file."""
    path.write_text("\n".join(names) + "\n")
    return path
