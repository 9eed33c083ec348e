"""The FER2013 trunk that comes with the program, trained on with some faces.

    python docs/research/faces/trunk.py FACES TRUNK

FACES is FER2013, or what `crops.py` made of it; TRUNK is the weights file to write, for `heads.py`.
Prints the accuracy on PublicTest before and after: before, the classifier, which does not come with
the trunk, is trained alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as lightning
import torch
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from train.datasets.layouts.fer2013 import read_fer2013
from train.expression.evaluate import TEST, evaluate_expression
from train.expression.fit import write_trunk
from train.expression.module import ExpressionModule
from train.expression.recipe import ExpressionRecipe, load_expression_recipe
from train.seeds import derived_seed
from train.weights.initial import initial_expression

BEGUN_FROM, EPOCHS, LR = "fer2013-w32", 3, 0.01


def main(data: Path, target: Path) -> None:
    """Train and write the trunk."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    table = read_fer2013(data)
    train, test = (faces(*table.split(usage)) for usage in ("Training", TEST))
    recipe = replace(load_expression_recipe("expression"), epochs=EPOCHS, lr=LR)
    module = ExpressionModule(recipe)
    initial_expression(module.net, BEGUN_FROM)
    fit_classifier(module, train)
    print("before:", evaluate_expression(module.eval(), test), flush=True)
    fit(module.train(), train, recipe)
    update_bn(DataLoader(train, batch_size=256, shuffle=True), module)
    print("after:", evaluate_expression(module.eval(), test), flush=True)
    write_trunk(module, target, source=f"{BEGUN_FROM}, then {data.name}")


def faces(pixels: object, labels: object) -> TensorDataset:
    """Faces, Bx1x48x48, and their expressions."""
    return TensorDataset(torch.as_tensor(pixels).unsqueeze(1), torch.as_tensor(labels))


def fit_classifier(module: ExpressionModule, train: TensorDataset) -> None:
    """Train the classifier alone, on whole faces."""
    module.eval()
    with torch.no_grad():
        there = torch.ones(256, dtype=torch.bool)
        seen = torch.cat(
            [module.net(batch, there[: len(batch)]) for batch in train.tensors[0].split(256)]
        )
    optimizer = torch.optim.Adam(module.classifier.parameters(), lr=1e-3)
    for _ in range(10):
        for rows in torch.randperm(len(seen)).split(128):
            logits = module.classifier(seen[rows])
            loss = torch.nn.functional.cross_entropy(logits, train.tensors[1][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def fit(module: ExpressionModule, train: TensorDataset, recipe: ExpressionRecipe) -> None:
    """Train everything, as the recipe does."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=recipe.epochs,
        precision="bf16-mixed",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    order = torch.Generator().manual_seed(derived_seed(recipe.seed, "order", 0))
    trainer.fit(
        module,
        DataLoader(
            train, batch_size=recipe.batch_size, shuffle=True, generator=order, drop_last=True
        ),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
