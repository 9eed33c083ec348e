"""Objects without a detector: cells of a frozen backbone's feature map.

Jiang et al. ("In Defense of Grid Features for Visual Question Answering", CVPR 2020) found that
the cells of a convolutional feature map serve as well as detected regions where a network reasons
over objects, at a fraction of the cost. Each cell is named and ranked by the backbone's own
ImageNet classifier applied at that cell; the N most confident cells are the object stimulus, as the
paper ranks proposals by confidence (Sec. III-A).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.models import EfficientNet_B0_Weights
from torchvision.transforms.v2 import functional as transforms

from handler.backbones import Backbone
from handler.stimuli.objects import ObjectSource
from handler.stimuli.stimuli import Objects

# Only the list of the 1,000 ImageNet category names is taken from torchvision, no weights.
IMAGENET_CATEGORIES: tuple[str, ...] = tuple(
    EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
)


class GridObjects(ObjectSource):
    """Feature-map cells as objects.

    Args:
        backbone: name of the frozen backbone.
        size: side in pixels of the square image that the backbone sees.
        count: N, how many cells to keep.
    """

    vocabulary: Sequence[str] = IMAGENET_CATEGORIES

    def __init__(
        self, *, backbone: str = "tf_efficientnet_lite0", size: int = 224, count: int = 10
    ) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, classes=len(IMAGENET_CATEGORIES))
        self.size = size
        self.count = count
        self.feature_size = self.backbone.feature_size
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> GridObjects:
        """Stays in evaluation mode: the source is frozen, its statistics too."""
        return super().train(False)

    @torch.inference_mode()
    def select(self, images: Sequence[torch.Tensor]) -> Objects:
        """The ``count`` most confident cells of each image (uint8, 3xHxW, any sizes)."""
        side = [self.size, self.size]
        batch = torch.stack([transforms.resize(i, side, antialias=True) for i in images])
        maps = self.backbone(batch.to(self.backbone.mean.device))  # BxFxhxw
        rows, columns = maps.shape[-2:]
        cells = maps.flatten(2).transpose(1, 2)  # Bx(hw)xF
        assert self.backbone.classifier is not None
        confidence, labels = self.backbone.classifier(cells).softmax(-1).max(-1)  # Bx(hw)
        count = min(self.count, rows * columns)
        scores, kept = confidence.topk(count, dim=1)  # BxN
        features = cells.gather(1, kept.unsqueeze(-1).expand(-1, -1, cells.shape[-1]))
        return Objects(
            features=features,
            boxes=_cell_boxes(kept, rows, columns, images),
            scores=scores,
            labels=labels.gather(1, kept),
            mask=torch.ones_like(kept, dtype=torch.bool),
        )


def _cell_boxes(
    kept: torch.Tensor, rows: int, columns: int, images: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Cells (BxN, row-major indices) -> boxes in the pixels of the images as decoded, BxNx4."""
    row, column = kept // columns, kept % columns
    cells = torch.stack([column, row, column + 1, row + 1], dim=-1).float()
    steps = [
        [i.shape[-1] / columns, i.shape[-2] / rows, i.shape[-1] / columns, i.shape[-2] / rows]
        for i in images
    ]
    return cells * torch.tensor(steps, device=kept.device).unsqueeze(1)
