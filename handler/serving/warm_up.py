"""Predictions before the first request, so that no client waits for initialisation.

torch prepares its kernels for each batch size at first use, and Pillow and dlib load their plugins
and models at first use.
"""

from __future__ import annotations

from handler.predictor import Predictor
from handler.values.prediction import Refusal
from handler.values.probe_image import probe_image


def warm_up(predictor: Predictor, *, max_batch: int) -> None:
    """Score synthetic pictures in batches of 1, 2, 4 and so on up to ``max_batch``.

    Args:
        predictor: Predictor that will serve requests.
        max_batch: Largest number of images that the server puts into a batch.

    Raises:
        RuntimeError: The model does not score the pictures.
    """
    pictures = [
        probe_image(width=640, height=480, file_format=file_format)
        for file_format in ("JPEG", "PNG")
    ]
    sizes = {min(1 << power, max_batch) for power in range(max_batch.bit_length() + 1)}
    for size in sorted(max(size, 1) for size in sizes):
        images = [pictures[i % 2] for i in range(size)]
        for answer in predictor.predict(images, explain=True):
            if isinstance(answer, Refusal):
                raise RuntimeError(f"the warm-up picture was refused: {answer.reason}")
