"""What half precision changes: the same photos in single precision and in half.

    python -m tests.trials.half_precision FI/val

On a GPU if there is one: that is where `handler: {half: true}` has effect. Elsewhere a CPU computes
in float16 too, slowly (most of a second a photo); its roundings are not those of a GPU, but of the
same size. Half precision may be switched on where no top emotion changes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from handler.predictor import Predictor
from tests.shipped import ARCHIVE
from train.evaluation.comparison import Comparison, compare_predictors


def compare_precisions(archive: Path, images: list[str], device: str) -> Comparison:
    """One archive's answers in single precision beside those in half."""
    single, half = (Predictor.load(archive, device=device) for _ in range(2))
    half.half = True  # on a CPU too, where the archive's setting would have no effect
    return compare_predictors((single, half), images, names=("single", "half"))


def main() -> None:
    """Print counts, movements and the photos whose answer changes as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="photos, in any depth")
    parser.add_argument("--model", type=Path, default=ARCHIVE)
    parser.add_argument("--images", type=int, help="only so many of them")
    options = parser.parse_args()
    images = sorted(str(path) for path in options.folder.rglob("*") if path.is_file())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    document = compare_precisions(options.model, images[: options.images], device).to_dict()
    print(json.dumps({"device": device, **document}, indent=2))


if __name__ == "__main__":
    main()
