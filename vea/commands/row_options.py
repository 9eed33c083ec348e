"""Options of `vea score` that decide what a row of the result holds."""

from typing import Annotated

import typer

_IMAGES = "Images and rows"

Embeddings = Annotated[
    bool,
    typer.Option(
        "--embeddings",
        help="A further column with the network's fused feature, a list of 16-bit floats, from the "
        "same pass; for search and clustering. Not with --endpoint.",
        rich_help_panel=_IMAGES,
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        help="Columns of the result, in this order: a name, or several with commas, such as "
        "p_awe,etag; again for more, '' for none. position, image, status, stage, reason_kind and "
        "emotion are always there, and columns of the list by --keep. [default: all]",
        metavar="NAME",
        rich_help_panel=_IMAGES,
    ),
]


def names(given: list[str] | None) -> list[str] | None:
    """Names of columns, from values of an option that may hold several with commas."""
    if given is None:
        return None
    return [name for value in given for name in value.split(",") if name]
