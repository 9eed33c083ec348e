"""The page of output columns, from the schema that the parquet files are written with."""

from __future__ import annotations

import inspect

import pyarrow as pa

from docs.generate.program import output_schema, wheel

_ABOUT = """# Output columns

The columns of the parquet files that `vea score` writes, in their order. The columns of the list
that pass through follow them, with the types of the list. Every row of the list gives exactly one
row, in the order of the list.
"""
_FOLDER = """\
## The output folder

| name | content |
|---|---|
| `images-00000.parquet`, ... | the rows, up to a million in each file |
| `_manifest.json` | the manifest: files with their SHA-256, counts of rows, reasons and emotions, \
the model, and the settings of the run |
| `_SUCCESS` | exists only if the run is complete |
| `_run/` | the identity of the run and, until it is complete, its parts; readers ignore it |

[The guarantees of a run](../concepts/run-guarantees.md) explains how the folder is written.
"""


def page() -> str:
    """The page."""
    schema = output_schema()
    meanings = _meanings(inspect.getdoc(schema) or "")
    rows = []
    options = {
        "boxes": True,
        "detects": True,
        "embedding_size": 1,
        "content_hash": True,
        "since": True,
    }
    for column in schema(wheel().labels, extra=pa.schema([]), **options):
        words, null = meanings[_key(column.name, meanings)]
        rows.append(f"| `{column.name}` | {_type(column.type)} | {null} | {words} |\n")
    head = "| column | type | null | meaning |\n|---|---|---|---|\n"
    return f"{_ABOUT}\n{head}{''.join(rows)}\n{_FOLDER}"


def _meanings(text: str) -> dict[str, tuple[str, str]]:
    """What the docstring's table says of each column: its meaning, and when it is null."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if not line.startswith("| `") or len(cells) != 4:
            continue
        names, _, words, null = cells
        for name in names.split(","):
            found[name.strip(" `")] = words[:1].upper() + words[1:], null
    return found


def _key(column: str, meanings: dict[str, tuple[str, str]]) -> str:
    if column in meanings:
        return column
    if column.startswith("p_"):
        return "p_<emotion>"
    raise SystemExit(f"the docstring of the schema says nothing about the column '{column}'")


def _type(kind: pa.DataType) -> str:
    words = {
        "float": "float32",
        "list": "list of structs",
        "fixed_size_list": "fixed-size list of float16",
    }
    return words.get(str(kind).split("<")[0], str(kind))
