"""A synthetic picture for requests whose answer does not matter: readiness checks and warm-up."""

from __future__ import annotations

import io

from PIL import Image


def probe_image(*, width: int = 64, height: int = 64, file_format: str = "PNG") -> bytes:
    """Encode a grey gradient.

    Args:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        file_format: Name of a format that Pillow writes, such as ``PNG`` or ``JPEG``.

    Returns:
        Encoded RGB image.
    """
    encoded = io.BytesIO()
    picture = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    picture.save(encoded, file_format)
    return encoded.getvalue()
