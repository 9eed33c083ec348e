"""Seeds that follow from what they are for, so that no two uses share their randomness."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: int | str) -> int:
    """A seed (63 bits) that follows from ``parts`` and is unlike that of any others."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
