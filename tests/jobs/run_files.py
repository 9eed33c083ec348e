"""What a run leaves in its folder, and what stands in for a crash of it."""

import json
from pathlib import Path

REASONS = {"decode/not-an-image": 1, "fetch/missing": 1}
"""Why rows of the list in tests/jobs/run fail."""


class Broken(Exception):
    """Stands in for a crash."""


def break_after(done):
    """An `on_progress` that crashes when so many rows are done."""

    def on_progress(now):
        if now.done >= done:
            raise Broken

    return on_progress


def files_of(out):
    """Everything in the output folder but the manifest, which tells of one start's speed."""
    found = [path for path in Path(out).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in found
        if path.name != "_manifest.json"
    }


def manifest_of(out):
    """The manifest of a finished run."""
    return json.loads(Path(out, "_manifest.json").read_text())
