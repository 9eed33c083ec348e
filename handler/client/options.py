"""What both clients make of their arguments."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from handler.client.errors import EndpointError
from handler.client.keys import FixedKey, KeyFile, Keys


def keys_from(key: str | None, key_file: Path | None, keys: Keys | None) -> Keys:
    """The one source of keys that was given; requests carry none if there is no source.

    Raises:
        EndpointError: more than one was given, or the key cannot stand in a header.
    """
    if sum(source is not None for source in (key, key_file, keys)) > 1:
        raise EndpointError("give one of a key, a key file and a source of keys")
    if keys is not None:
        return keys
    if key_file is not None:
        return KeyFile(key_file)
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise EndpointError("the key has spaces at its ends or characters no header may hold")
    return FixedKey(key)


def probe_image() -> bytes:
    """A small picture, to ask whether a service answers."""
    encoded = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(encoded, "PNG")
    return encoded.getvalue()
