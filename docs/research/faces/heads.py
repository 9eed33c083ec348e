"""Four Expression-Nets beside a frozen ImageNet feature, trained on all of FI's training photos.

    python docs/research/faces/heads.py FI --cache DIR [--hog hog.npz]
    python docs/research/faces/heads.py FI --cache DIR --trunk FILE [--trunk FILE ...]

FI's stimuli come from the cache of the recipe `lite3` (`vea cache --recipe lite3 --data FI`), whose
largest window is the mean of the frozen Lite2 over the whole picture; HOG's faces are searched once
and kept in the file of ``--hog``. With ``--trunk``, the last row is compared with itself with other
trunks (`trunk.py` writes them). Global-Net is one hidden layer over that mean; there are no
objects. Prints a line for each row and seed, then the paired differences.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from handler.images import decode
from handler.organism.expression_net import ExpressionNet
from handler.response import EmotionResponse
from handler.stimuli.faces.source import build_face_source
from handler.values import emotions
from handler.values.configs import FaceConfig
from train.datasets.reading import read_dataset
from train.fitting.builders import build_selector, selector_files
from train.fitting.calibration import fit_factors
from train.fitting.losses import HierarchicalCrossEntropy
from train.recipes.recipe import load_recipe
from train.stimuli.cache import build_cache
from train.weights import initial_expression, landmark_file

WHEEL = emotions.wheel("mikels-8")
EPOCHS, BATCH, HIDDEN, SEEDS = 6, 64, 512, (1, 2, 3)
HELD = 1442  # training photos that the branches' temperatures are fitted on
# Row -> faces, width, and initial weights of Expression-Net, which are frozen unless random.
ROWS = {
    "none": (None, 0, ""),
    "hog, width 16": ("hog", 16, "random"),
    "hog, FER trunk": ("hog", 32, "fer2013-w32"),
    "light, FER trunk": ("light", 32, "fer2013-w32"),
}
LAST = "light, FER trunk"


@dataclass
class Photos:
    """Photos of a split: mean feature, Bx1280, labels, and by source the crops and who has one."""

    features: torch.Tensor
    labels: torch.Tensor
    crops: dict[str, torch.Tensor]
    found: dict[str, torch.Tensor]


class Branches(nn.Module):
    """A hidden layer over the picture's feature, Expression-Net or none, and the response."""

    def __init__(self, width: int, weights: str) -> None:
        super().__init__()
        self.picture = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, HIDDEN), nn.ReLU())
        self.net = ExpressionNet(width=width) if width else None
        self.frozen = weights != "random"
        if self.net is not None:
            initial_expression(self.net, weights)
        sizes = [HIDDEN, *([self.net.feature_size] if self.net else [])]
        self.response = EmotionResponse(feature_sizes=sizes, wheel=WHEEL, dropout=0.4)

    def forward(
        self, features: torch.Tensor, faces: torch.Tensor, found: torch.Tensor
    ) -> list[torch.Tensor]:
        """Features of the branches; ``faces`` are crops, or Expression-Net's features of them."""
        seen = [self.picture(features)]
        if self.net is not None:
            seen.append(faces if self.frozen else self.net(faces, found))
        return seen


def main() -> None:
    """Train the rows and print what they answer for the validation photos."""
    said = argparse.ArgumentParser(description=__doc__)
    said.add_argument("data", type=Path)
    said.add_argument("--cache", type=Path, required=True)
    said.add_argument("--hog", type=Path, default=Path("hog.npz"))
    said.add_argument("--trunk", action="append", default=[], help="weights file of a trunk")
    asked = said.parse_args()
    torch.set_num_threads(1)
    trunks = {f"light, {Path(file).stem}": ("light", 32, file) for file in asked.trunk}
    rows = {LAST: ROWS[LAST], **trunks} if trunks else ROWS
    train, val = read(asked.data, asked.cache, None if trunks else asked.hog)
    for finder, found in val.found.items():
        share = found.float().mean()
        print(f"{finder}: a face in {share:.1%} of the validation photos")
    answers: dict[str, list[torch.Tensor]] = {row: [] for row in rows}
    for seed in SEEDS:
        for row, (source, width, weights) in rows.items():
            p = run(train, val, source, width, weights, seed)
            answers[row].append(p)
            print(f"seed {seed}, {row}: {figures(p, val.labels)}", flush=True)
    first, *more = rows
    pairs = [(row, first) for row in more]
    if not trunks:
        pairs += [(LAST, row) for row in more if row != LAST]
    compare(answers, val, pairs)


def read(data: Path, cache: Path, hog: Path | None) -> tuple[Photos, Photos]:
    """The photos of both splits; without a file for HOG's faces, with those of `light` only."""
    recipe = load_recipe("lite3", ["init={objects: imagenet}"])
    dataset = read_dataset(data, WHEEL)
    files = selector_files(recipe)
    selector = build_selector(recipe, files)
    kept = dict(np.load(hog)) if hog is not None and hog.exists() else {}
    both = []
    for split in ("train", "val"):
        rows = dataset.split(split)
        stimuli = build_cache(rows, selector, cache, files=files)
        parts: list[list[torch.Tensor]] = [[], [], []]
        for start in range(0, len(rows), 64):
            batch = stimuli.stimuli(range(start, min(start + 64, len(rows))))
            boxes = batch.objects.boxes
            whole = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])).argmax(1)
            parts[0].append(batch.objects.features[torch.arange(len(whole)), whole].float())
            parts[1].append(batch.faces.crops.clone())
            parts[2].append(batch.faces.mask.clone())
        features, light, mask = (torch.cat(part) for part in parts)
        photos = Photos(
            features, torch.tensor(rows["label"].tolist()), {"light": light}, {"light": mask}
        )
        both.append(photos)
        if hog is None:
            continue
        if f"{split}_found" not in kept:
            kept |= search_hog(split, rows["path"].tolist())
            np.savez(hog, **kept)
        found = torch.from_numpy(kept[f"{split}_found"])
        crops = torch.zeros(len(rows), 1, 48, 48, dtype=torch.uint8)
        crops[found] = torch.from_numpy(kept[f"{split}_crops"])
        photos.crops["hog"], photos.found["hog"] = crops, found
    return both[0], both[1]


def search_hog(split: str, paths: list[str]) -> dict[str, np.ndarray]:
    """HOG's faces as the recipe `lite2` finds them: who has one, and the crops of those."""
    source = build_face_source(
        FaceConfig(backend="hog"), landmarks=landmark_file(), detector=None, threads=1
    )
    crops, found = [], []
    for start in range(0, len(paths), 16):
        images = [decode(Path(path).read_bytes()) for path in paths[start : start + 16]]
        faces = source.start(images).collect()
        crops.append(faces.crops[faces.mask].numpy())
        found.append(faces.mask.numpy())
    return {f"{split}_crops": np.concatenate(crops), f"{split}_found": np.concatenate(found)}


def run(
    train: Photos, val: Photos, source: str | None, width: int, weights: str, seed: int
) -> torch.Tensor:
    """Train one row; probabilities of the validation photos, BxC."""
    torch.manual_seed(seed)
    model = Branches(width, weights)
    torch.manual_seed(seed)  # the same order and dropout whatever was initialised
    inputs = [stimuli(model, photos, source) for photos in (train, val)]
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(2026))
    held, used = order[:HELD], order[HELD:]
    loss = HierarchicalCrossEntropy(WHEEL)
    trained = [
        value
        for name, value in model.named_parameters()
        if not (model.frozen and name.startswith("net."))
    ]
    optimizer = torch.optim.AdamW(trained, weight_decay=1e-2)
    steps = len(used) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-3, total_steps=EPOCHS * steps, pct_start=0.2
    )
    for epoch in range(EPOCHS):
        shuffled = used[
            torch.randperm(len(used), generator=torch.Generator().manual_seed(seed * 100 + epoch))
        ]
        model.train()
        for step in range(steps):
            rows = shuffled[step * BATCH : (step + 1) * BATCH]
            features, faces, found = (part[rows] for part in inputs[0])
            target = train.labels[rows]
            parts = model(features, faces, found)
            value = loss(model.response(parts), target)
            there = [torch.ones_like(found), found]
            for alone, mask in zip(model.response.each_alone(parts), there, strict=False):
                if mask.any():
                    value = value + loss(alone[mask], target[mask])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    bias = model.response.classifier.bias.detach()
    factors = fit_factors(logits(model, inputs[0], held), bias, train.labels[held])
    rows = torch.arange(len(val.labels))
    combined = torch.einsum("b,bnc->nc", factors, logits(model, inputs[1], rows)) + bias
    return combined.softmax(1)


@torch.no_grad()
def stimuli(model: Branches, photos: Photos, source: str | None) -> tuple[torch.Tensor, ...]:
    """Features, faces and who has one; a frozen Expression-Net looks at the faces once, here."""
    if source is None or model.net is None:
        none = torch.zeros(len(photos.labels), dtype=torch.bool)
        return photos.features, none, none
    crops, found = photos.crops[source], photos.found[source]
    if not model.frozen:
        return photos.features, crops, found
    model.net.eval()
    seen = torch.zeros(len(found), model.net.feature_size)
    for rows in found.nonzero().squeeze(1).split(256):
        seen[rows] = model.net(crops[rows], found[rows])
    return photos.features, seen, found


@torch.no_grad()
def logits(model: Branches, inputs: tuple[torch.Tensor, ...], rows: torch.Tensor) -> torch.Tensor:
    """Logits of each branch without the bias, branches x rows x C."""
    parts = model(*(part[rows] for part in inputs))
    columns = model.response.columns()
    return torch.stack([part @ w.T for part, w in zip(parts, columns, strict=True)])


def figures(p: torch.Tensor, labels: torch.Tensor) -> str:
    """Accuracy and negative log-likelihood."""
    right, loss = scores(p, labels)
    return f"accuracy {right.mean():.2%}, NLL {loss.mean():.4f}"


def scores(p: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Whether each photo's answer is right, and its negative log-likelihood."""
    right = (p.argmax(1) == labels).double().numpy()
    return right, -p.gather(1, labels[:, None]).squeeze(1).log().double().numpy()


def compare(
    answers: dict[str, list[torch.Tensor]], val: Photos, pairs: list[tuple[str, str]]
) -> None:
    """Print means over the seeds, and differences with intervals of paired bootstrap samples."""
    means = {}
    for row, seeds in answers.items():
        each = [scores(p, val.labels) for p in seeds]
        means[row] = np.stack([np.mean(part, axis=0) for part in zip(*each, strict=True)])
        print(f"{row}: accuracy {means[row][0].mean():.2%}, NLL {means[row][1].mean():.4f}")
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(val.labels), (5000, len(val.labels)))
    seen = val.found["light"].numpy()
    for row, other in pairs:
        accuracy, loss = means[row] - means[other]
        for what, difference, unit in (("points", accuracy, 100), ("NLL", loss, 1)):
            sampled = np.quantile(difference[picks].mean(axis=1), (0.025, 0.975)) * unit
            print(
                f"{row} against {other}: {what} {difference.mean() * unit:+.4f} "
                f"({sampled[0]:+.4f} to {sampled[1]:+.4f}); "
                f"where light finds a face {difference[seen].mean() * unit:+.4f}"
            )


if __name__ == "__main__":
    main()
