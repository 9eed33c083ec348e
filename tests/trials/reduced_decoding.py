"""What decoding JPEGs at a reduced scale would save, and what it changes in the answers.

    python -m tests.trials.reduced_decoding --photos FOLDER --count 48

A JPEG decoder can leave out the fine detail of each block and give a picture of half, a quarter or
an eighth of the sides. Here Pillow does so with photos that were enlarged to 1 to 12 megapixels, as
far as each side keeps at least so many times the pixels that the network sees. The answers are
compared with those to the same files decoded in full. `vea` itself decodes in full.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from handler.predictor import Predictor
from handler.values.prediction import Prediction
from tests.bench.photos import BUNDLED, of_megapixels, photos_of
from tests.shipped import ARCHIVE
from tests.trials.serving_clients import table

_LEAST = (None, 3.0, 2.0, 1.0)  # times the network's pixels that are kept; None decodes in full
_SCALES = (2, 4, 8)
_SAME = 1e-3  # largest change of a probability that would count as the same answer


def decode(photo: bytes, *, seen: int, least: float | None) -> torch.Tensor:
    """Decode a JPEG at the smallest scale that keeps enough pixels.

    Args:
        photo: JPEG file.
        seen: Side in pixels of what the network sees.
        least: Times ``seen`` that the shorter side keeps at least; None decodes in full.

    Returns:
        uint8, 3xHxW.
    """
    with Image.open(io.BytesIO(photo)) as image:
        if least is not None:
            shorter = min(image.size)
            scale = max((s for s in _SCALES if shorter / s >= least * seen), default=1)
            image.draft("RGB", (image.width // scale, image.height // scale))
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def answers_to(
    predictor: Predictor, photos: Sequence[bytes], least: float | None
) -> tuple[list[Prediction], float, float]:
    """The answers to photos, and CPU milliseconds a photo of decoding and of the rest."""
    seen = predictor.selector.config.size
    times = [time.process_time()]
    images = [decode(photo, seen=seen, least=least) for photo in photos]
    times.append(time.process_time())
    answers = [one for one in predictor.predict_decoded(images) if isinstance(one, Prediction)]
    times.append(time.process_time())
    decoding, rest = (1000 * (end - start) / len(photos) for start, end in pairwise(times))
    return answers, decoding, rest


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ARCHIVE)
    parser.add_argument("--photos", type=Path, default=BUNDLED, help="folder of photos")
    parser.add_argument("--count", type=int, default=48, help="number of photos")
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.load(given.model, threads=1)
    sizes = np.random.default_rng(1).uniform(1, 12, given.count)
    photos = [
        of_megapixels(photo, float(size))
        for photo, size in zip(photos_of(given.photos, given.count), sizes, strict=True)
    ]
    answers_to(predictor, photos, None)  # the first round pays for memory
    full: list[Prediction] = []
    rows = []
    for least in _LEAST:
        answers, decoding, rest = answers_to(predictor, photos, least)
        full = full or answers
        moved = [
            max(
                abs(one.probabilities[name] - other.probabilities[name])
                for name in one.probabilities
            )
            for one, other in zip(answers, full, strict=True)
        ]
        changed = sum(
            one.emotion != other.emotion for one, other in zip(answers, full, strict=True)
        )
        rows.append(
            [
                "all of it" if least is None else f"{least:g} x",
                f"{decoding:.1f}",
                f"{rest:.1f}",
                f"{statistics.median(moved):.4f}",
                f"{max(moved):.3f}",
                f"{sum(one > _SAME for one in moved)} of {len(moved)}",
                str(changed),
            ]
        )
    columns = ["kept", "decoding, CPU ms", "the rest, CPU ms", "median change", "largest change"]
    print(table([*columns, f"above {_SAME:g}", "other emotions"], rows))


if __name__ == "__main__":
    main()
