"""Seeds derived from their purpose, so that no two uses draw the same random numbers."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: int | str) -> int:
    """A seed (63 bits) derived from ``parts``; other parts give another seed."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
