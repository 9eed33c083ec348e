"""An object that is being read, and the check that what arrives is what the store holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from jobs.storage.retry import TransientError


class ObjectChanged(Exception):
    """The object is no longer the version that is asked for."""


@dataclass(frozen=True)
class Opened:
    """An object whose content is about to be read.

    Attributes:
        size: Size in bytes; None if the store does not tell.
        etag: ETag without quotes; None if the store gives none.
        md5: MD5 of the content as the store knows it, hexadecimal; None if it gives none.
        blocks: Content, block by block; can be iterated once.
    """

    size: int | None
    etag: str | None
    md5: str | None
    blocks: Iterator[bytes]

    def verified(self) -> Iterator[bytes]:
        """The blocks; the end of the content is verified before the iteration ends.

        Raises:
            TransientError: The content is shorter than announced, or its MD5 is another.
        """
        digest, count = hashlib.md5(usedforsecurity=False), 0
        for block in self.blocks:
            if self.md5:
                digest.update(block)
            count += len(block)
            yield block
        if self.size is not None and count != self.size:
            raise TransientError(f"{count} of {self.size} bytes arrived")
        if self.md5 and digest.hexdigest() != self.md5:
            raise TransientError("the content does not match the MD5 that the store has of it")
