"""Accuracy of the pre-trained trunk and its classifier, in the three published protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.v2 import functional as transforms

from train.datasets.layouts.fer2013 import EXPRESSIONS
from train.evaluation.intervals import wilson_interval
from train.expression.module import ExpressionModule

TEST = "PublicTest"
BATCH = 256


@torch.inference_mode()
def evaluate_expression(
    module: ExpressionModule,
    test: TensorDataset,
    *,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Accuracy on labelled faces: whole, whole and mirrored, and ten crops, as published."""
    views = {"whole": _whole, "mirrored": _mirrored, "ten_crop": _ten_crop}
    hits = dict.fromkeys(views, 0)
    per_class = np.zeros((len(EXPRESSIONS), len(EXPRESSIONS)), dtype=int)
    done = 0
    for faces, target in DataLoader(test, batch_size=BATCH):
        for name, view in views.items():
            seen = view(faces.to(module.device), module.recipe.crop)
            answers = torch.stack([module(one).softmax(1) for one in seen]).mean(0).argmax(1).cpu()
            hits[name] += int((answers == target).sum())
            if name == "whole":
                np.add.at(per_class, (target.numpy(), answers.numpy()), 1)
        done += len(target)
        on_progress("faces", done, len(test))
    return {
        "split": TEST,
        "faces": done,
        "accuracy": {
            name: {"value": count / done, "interval_95": list(wilson_interval(count / done, done))}
            for name, count in hits.items()
        },
        "confusion_matrix": {
            "labels": list(EXPRESSIONS),
            "rows_true_columns_predicted": per_class.tolist(),
        },
    }


def _whole(faces: torch.Tensor, _: int) -> list[torch.Tensor]:
    return [faces]


def _mirrored(faces: torch.Tensor, _: int) -> list[torch.Tensor]:
    return [faces, faces.flip(-1)]


def _ten_crop(faces: torch.Tensor, crop: int) -> list[torch.Tensor]:
    return list(transforms.ten_crop(faces, [crop, crop]))
