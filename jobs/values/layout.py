"""Names of the objects in an output folder; `jobs.output.ledger` says what each is for."""

from __future__ import annotations

from jobs.values.chunks import Chunk

RUN = "_run/"
IDENTITY = f"{RUN}identity.json"
FAILED_RUN = f"{RUN}failed.json"
SINCE = f"{RUN}since.json"
PART, POISON, INDEX = f"{RUN}part-", f"{RUN}poison-", f"{RUN}index-"
JOURNAL = f"{RUN}erasing.json"
MANIFEST, SUCCESS = "_manifest.json", "_SUCCESS"
SUFFIX = ".parquet"


def part_name(chunk: Chunk) -> str:
    """Name of the object that a chunk's rows are written to."""
    return f"{RUN}{chunk.id}{SUFFIX}"
