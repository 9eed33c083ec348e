"""Options of `vea score` that decide what a row of the result holds, and where it comes from."""

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
ContentHash = Annotated[
    bool,
    typer.Option(
        "--content-hash",
        help="A further column, content_sha256: the SHA-256 of each image's bytes, such as to join "
        "results with other tables.",
        rich_help_panel=_IMAGES,
    ),
]
Once = Annotated[
    bool,
    typer.Option(
        "--once",
        help="Fetch and score an image once that the list names several times, such as "
        "s3://photos/a.jpg for three posts; every row of the list still gives a row. Equal bytes "
        "under other names within a chunk are fetched, but not scored again.",
        rich_help_panel=_IMAGES,
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Copy the answers of photos that the same model has scored in the runs below this "
        "folder, such as s3://results, or in this Delta table: those with the same location and "
        "ETag, or the same bytes. "
        "Only new photos are scored; the column scored_by_run says where the others come from.",
        metavar="ROOT",
        rich_help_panel=_IMAGES,
    ),
]


def names(given: list[str] | None) -> list[str] | None:
    """Names of columns, from values of an option that may hold several with commas."""
    if given is None:
        return None
    return [name for value in given for name in value.split(",") if name]
