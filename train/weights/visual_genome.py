"""Conversion of the Visual Genome detector's published files into one layout.

The network is the one of Anderson et al. (CVPR 2018), Faster R-CNN with ResNet-101-C4, trained with
Caffe. Two families of conversions are about:

========================  ==============================  ====================================
..                        airsplay, Hugging Face          MILVLG (as in Caffe)
========================  ==============================  ====================================
background class          last                            first, in boxes and embedding too
RPN scores                12 logits                       12 of background, then 12 of object
box deltas                for weights (10, 10, 5, 5)      for weights (1, 1, 1, 1)
width of a box            x2 - x1                         x2 - x1 + 1
proposals                 any size                        16 pixels and more
"no attribute"            last row                        first row
anchors                   64..512 pixels, or as stored    as stored
========================  ==============================  ====================================

The layout written is the left one, with the anchors always stored. All differences fold into the
tensors exactly but two, which stay settings: the width of a box, and the smallest proposal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from train.weights.conversion import Conversion, NotThis, take

# Blocks, and channels in, within and out, of each stage of ResNet-101.
_STAGES = {
    "backbone.res2": (3, 64, 64, 256),
    "backbone.res3": (4, 256, 128, 512),
    "backbone.res4": (23, 512, 256, 1024),
    "res5": (3, 1024, 512, 2048),
}
_ANCHORS = 12
_STORED_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
_PREDICTOR = "roi_heads.box_predictor"
_HEAD_NAMES = {
    "airsplay": ("cls_embedding", "fc_attr", "attr_score"),
    "milvlg": ("cls_embed", "attr_linear1", "attr_linear2"),
}
_BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
MIN_PROPOSAL = 16.0


def is_visual_genome(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of a C4 detector with a proposal network."""
    return {"proposal_generator.rpn_head.conv.weight", "roi_heads.res5.0.conv1.weight"} <= set(
        tensors
    )


def convert_visual_genome(
    source: Mapping[str, torch.Tensor], *, objects: Sequence[str], attributes: Sequence[str]
) -> Conversion:
    """One of the published files in the layout of `VisualGenomeObjects`.

    Args:
        source: Tensors under the names of either family.
        objects: Name of each object class.
        attributes: Name of each attribute; unused where the file has no attribute head.

    Raises:
        NotThis: A tensor is missing or has another shape than in these files.
    """
    logits = source.get("proposal_generator.rpn_head.objectness_logits.weight")
    rows = 0 if logits is None else len(logits)
    if rows not in (_ANCHORS, 2 * _ANCHORS):
        raise NotThis(
            f"has {rows} proposal logits: expected {_ANCHORS} (airsplay, Hugging Face) "
            f"or {2 * _ANCHORS} (MILVLG)"
        )
    milvlg = rows == 2 * _ANCHORS
    classes = len(objects) + 1
    _check_count(source, f"{_PREDICTOR}.cls_score.bias", len(objects), "object")
    head = _HEAD_NAMES["milvlg" if milvlg else "airsplay"]
    has_head = f"{_PREDICTOR}.{head[2]}.bias" in source
    if has_head:
        _check_count(source, f"{_PREDICTOR}.{head[2]}.bias", len(attributes), "attribute")
    wanted = {**_backbone(), **_proposal_network(rows)}
    box_classes = classes if milvlg else classes - 1
    wanted |= _linear("box.cls_score", f"{_PREDICTOR}.cls_score", classes, 2048)
    wanted |= _linear("box.bbox_pred", f"{_PREDICTOR}.bbox_pred", 4 * box_classes, 2048)
    if has_head:
        named = [f"{_PREDICTOR}.{part}" for part in head]
        wanted["attribute.cls_embedding.weight"] = f"{named[0]}.weight", (classes, 256)
        wanted |= _linear("attribute.fc_attr", named[1], 512, 2304)
        wanted |= _linear("attribute.attr_score", named[2], len(attributes) + 1, 512)
    stored = milvlg or _STORED_ANCHORS in source
    if stored:
        wanted["anchors"] = _STORED_ANCHORS, (_ANCHORS, 4)
    tensors = take(source, wanted)
    if not stored:
        tensors["anchors"] = published_anchors()
    if milvlg:
        _as_airsplay(tensors)
    return Conversion(
        kind="visual_genome",
        name="visual-genome",
        about=(
            "Faster R-CNN R101-C4 on Visual Genome, layout of "
            f"{'MILVLG (Caffe)' if milvlg else 'airsplay and Hugging Face'}, "
            f"{len(objects)} objects, {len(attributes) if has_head else 'no'} attributes"
        ),
        settings={
            "vocabulary": list(objects),
            "attributes": list(attributes) if has_head else [],
            "plus_one": milvlg,
            "min_proposal": MIN_PROPOSAL if milvlg else 0.0,
        },
        tensors=tensors,
        used={theirs for theirs, _ in wanted.values()},
    )


def published_anchors() -> torch.Tensor:
    """The 12 cell anchors of airsplay and Hugging Face: xyxy around 0, pixels, float32, 12x4.

    Sizes (side of a square of the same area) 64, 128, 256, 512, each with height / width 0.5, 1, 2.
    """
    boxes = []
    for size in (64.0, 128.0, 256.0, 512.0):
        for ratio in (0.5, 1.0, 2.0):
            width = (size * size / ratio) ** 0.5
            height = ratio * width
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes, dtype=torch.float32)


def _as_airsplay(tensors: dict[str, torch.Tensor]) -> None:
    """Fold MILVLG's conventions into the tensors, in place."""
    for part in ("weight", "bias"):
        name = f"rpn.objectness_logits.{part}"
        background, foreground = tensors[name].chunk(2)
        # The softmax of two logits orders boxes as their difference does.
        tensors[name] = foreground - background
        name = f"box.bbox_pred.{part}"
        deltas = tensors[name][4:].unflatten(0, (-1, 4))  # Cx4x2048, Cx4; the background has none
        scale = torch.tensor(_BOX_WEIGHTS).view(1, 4, *[1] * (deltas.dim() - 2))
        tensors[name] = (deltas * scale).flatten(0, 1)
    for name in (
        "box.cls_score.weight",
        "box.cls_score.bias",
        "attribute.cls_embedding.weight",
        "attribute.attr_score.weight",
        "attribute.attr_score.bias",
    ):
        if name in tensors:
            tensors[name] = tensors[name].roll(-1, dims=0)


def _check_count(source: Mapping[str, torch.Tensor], bias: str, names: int, what: str) -> None:
    """Check the number of classes, which is one less than the rows of the classifier."""
    found = len(source[bias]) - 1 if bias in source else names
    if found != names:
        raise NotThis(
            f"knows {found} {what} classes where the vocabulary has {names} names: "
            f"give its own with --{what}s FILE, one name a line"
        )


def _backbone() -> dict[str, tuple[str, tuple[int, ...]]]:
    wanted = _convolution("backbone.stem.conv1", "backbone.stem.conv1", (64, 3, 7, 7))
    for stage, (blocks, wide, narrow, out) in _STAGES.items():
        theirs = stage if stage.startswith("backbone") else f"roi_heads.{stage}"
        for block in range(blocks):
            channels = wide if block == 0 else out
            shapes = {
                "conv1": (narrow, channels, 1, 1),
                "conv2": (narrow, narrow, 3, 3),
                "conv3": (out, narrow, 1, 1),
            }
            if block == 0:
                shapes["shortcut"] = (out, channels, 1, 1)
            for part, shape in shapes.items():
                wanted |= _convolution(f"{stage}.{block}.{part}", f"{theirs}.{block}.{part}", shape)
    return wanted


def _proposal_network(logits: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    shapes: dict[str, tuple[int, ...]] = {
        "conv": (512, 1024, 3, 3),
        "objectness_logits": (logits, 512, 1, 1),
        "anchor_deltas": (4 * _ANCHORS, 512, 1, 1),
    }
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {}
    for part, shape in shapes.items():
        theirs = f"proposal_generator.rpn_head.{part}"
        wanted[f"rpn.{part}.weight"] = f"{theirs}.weight", shape
        wanted[f"rpn.{part}.bias"] = f"{theirs}.bias", shape[:1]
    return wanted


def _convolution(
    ours: str, theirs: str, shape: tuple[int, ...]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    wanted = {f"{ours}.weight": (f"{theirs}.weight", shape)}
    for part in ("weight", "bias", "running_mean", "running_var"):
        wanted[f"{ours}.norm.{part}"] = f"{theirs}.norm.{part}", shape[:1]
    return wanted


def _linear(
    ours: str, theirs: str, rows: int, columns: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {
        f"{ours}.weight": (f"{theirs}.weight", (rows, columns)),
        f"{ours}.bias": (f"{theirs}.bias", (rows,)),
    }
