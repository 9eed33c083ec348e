"""Real predictions before the first request.

torch plans its work for each batch size when it first meets it, and Pillow and dlib load what they
need when they first need it: without this the first clients would wait for all that.
"""

from __future__ import annotations

import io

from PIL import Image

from handler.predictor import Predictor
from handler.values.prediction import Refusal


def warm_up(predictor: Predictor, *, largest: int) -> None:
    """Score drawn pictures in batches of 1, 2, 4 and so on up to ``largest``.

    Raises:
        RuntimeError: the model does not score them; it would score nothing else.
    """
    pictures = [_drawn("JPEG"), _drawn("PNG")]
    sizes = {min(1 << power, largest) for power in range(largest.bit_length() + 1)}
    for size in sorted(max(size, 1) for size in sizes):
        images = [pictures[i % 2] for i in range(size)]
        for answer in predictor.predict(images, explain=True):
            if isinstance(answer, Refusal):
                raise RuntimeError(f"a drawn picture was refused: {answer.reason}")


def _drawn(file_format: str) -> bytes:
    encoded = io.BytesIO()
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(encoded, file_format)
    return encoded.getvalue()
