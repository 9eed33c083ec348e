"""`python -m docs.generate [--check]`: write the generated pages, or check them."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.generate import cli, columns, http, recipe
from docs.generate.program import ROOT

NOTE = "<!-- Generated from the code by `make docs`; do not edit. -->\n\n"
REFERENCE = ROOT / "docs" / "reference"


def pages() -> dict[str, str]:
    """The content of each generated file, by its name in docs/reference."""
    return {
        "cli.md": NOTE + cli.page(),
        "recipe.md": NOTE + recipe.page(),
        "output-schema.md": NOTE + columns.page(),
        "http-api.md": NOTE + http.page(),
        "openapi.json": http.description(),
    }


def outdated(folder: Path = REFERENCE) -> list[str]:
    """Names of the generated files of a folder that differ from what the code says now."""
    return [
        name
        for name, text in pages().items()
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]


def main(arguments: list[str]) -> int:
    """Write the pages; with ``--check`` only compare them."""
    if "--check" in arguments:
        names = outdated()
        for name in names:
            print(f"docs/reference/{name} is not what the code says: run `make docs`")
        return 1 if names else 0
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
