"""The columns of the result, and the encoding of a part as a parquet file.

The schema is explicit, so that a part in which every image failed has the same types as its
neighbours, and flat, because query engines filter columns of plain values fastest. The same rows
give the same bytes: nothing here depends on the time or the machine.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from handler.values.errors import VeaError
from jobs.values.tasks import PartReport

OK, FAILED = "ok", "failed"
FACE_BOX = ("face_x1", "face_y1", "face_x2", "face_y2")
# Columns with one value for all rows of a run.
ORIGIN = ("model_name", "model_version", "model_digest", "run_id")
CONTENT_HASH, SCORED_BY = "content_sha256", "scored_by_run"
ROW_GROUP = 65_536

# Columns with few different values; on others a dictionary costs more than it saves.
_LABEL_LIKE = [
    *("status", "stage", "reason_kind", "reason", "emotion", "polarity"),
    *ORIGIN,
    SCORED_BY,
    "boxes.list.element.label",
    "detected.list.element.label",
]
_BOX = pa.struct(
    [
        *(pa.field(name, pa.float32()) for name in ("x1", "y1", "x2", "y2")),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("attention", pa.float32()),
    ]
)

Row = dict[str, Any]


class ColumnError(VeaError):
    """A column of the list cannot be one of the result; the message is one line for people."""


def schema(
    emotions: Sequence[str],
    *,
    extra: pa.Schema,
    boxes: bool,
    detects: bool = False,
    faces: bool = True,
    embedding_size: int | None = None,
    content_hash: bool = False,
    since: bool = False,
) -> pa.Schema:
    """The columns of the result.

    | column | type | what it says | null |
    |---|---|---|---|
    | `position` | int64 | place in the list, from 0 | never |
    | `image` | string | as the list spells it, or `FILE#NAME` inside a file; empty if the row of the list names none | never |
    | `status` | string | `ok` or `failed` | never |
    | `stage` | string | where it failed: `fetch`, `decode` or `predict` | if ok |
    | `reason_kind` | string | why, in a word: `missing`, `forbidden`, `damaged`, `killed`, ... | if ok |
    | `reason` | string | why, in a line | if ok |
    | `emotion` | string | the most probable emotion | if failed |
    | `p_<emotion>` | float32 | probability of each emotion; they sum to 1 | if failed |
    | `polarity` | string | `positive` or `negative` | if failed |
    | `p_positive` | float32 | probability of a positive emotion | if failed |
    | `faces` | int32 | how many were found; no such column with `--faces off` | if failed |
    | `face_x1`, `face_y1`, `face_x2`, `face_y2` | float32 | box of the largest face, pixels; no such columns with `--faces off` | without a face |
    | `width`, `height` | int32 | of the picture as it is looked at, pixels | if failed |
    | `model_name`, `model_version`, `model_digest` | string | the model | never |
    | `run_id` | string | the run | never |
    | `etag` | string | of the object that was scored | for local files; if not fetched |
    | `objects` | int32 | how many were found | if failed |
    | `boxes` | list of struct | `x1`, `y1`, `x2`, `y2` (float32, pixels), `label` (null where no \
name is likely right), `score` (confidence of the label) and `attention` (of the network) of each object; there only if \
asked for | if failed |
    | `detected` | list of struct | the same of each thing that the model's detector found beside the objects: further \
reasons, whose `attention` is the part of the objects' that falls into the box, and is added to nothing; there only with \
`boxes`, if the model has a detector (`vea package --reasons`) | if failed |
    | `embedding` | fixed-size list of float16 | the network's fused feature, of one length for all rows \
of a model; there only if asked for (`--embeddings`) | if failed |
    | `content_sha256` | string | SHA-256 of the image's bytes, hexadecimal; there only with `--content-hash` | if not fetched |
    | `scored_by_run` | string | run that the answer was copied from; there only with `--since` | if this run scored it |

    After them come the columns that pass through from the list, with the list's types.

    Args:
        emotions: Labels of the model's wheel, in its order.
        extra: Columns that pass through; any value may be null.
        boxes: Whether there is a column of the objects' boxes.
        detects: Whether the model has a detector of things, for a column beside ``boxes``.
        faces: Whether there are columns of faces.
        embedding_size: Length of the model's fused feature; None for no such column.
        content_hash: Whether there is a column of the digest of the image's bytes.
        since: Whether there is a column of the run that an answer was copied from.

    Raises:
        ColumnError: A column of ``extra`` has the name of an output column or of another one.
            Letter case makes no difference, because it makes none to Spark and Athena.
    """  # noqa: E501
    required, text = {"nullable": False}, pa.string()
    probabilities = [f"p_{emotion}" for emotion in emotions]
    ours = [
        pa.field("position", pa.int64(), **required),
        pa.field("image", text, **required),
        pa.field("status", text, **required),
        pa.field("stage", text),
        pa.field("reason_kind", text),
        pa.field("reason", text),
        pa.field("emotion", text),
        *(pa.field(name, pa.float32()) for name in probabilities if name != "p_positive"),
        pa.field("polarity", text),
        # With the wheel of polarities, this is also the probability of an emotion.
        pa.field("p_positive", pa.float32()),
        pa.field("faces", pa.int32()),
        *(pa.field(name, pa.float32()) for name in FACE_BOX),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        *(pa.field(name, text, **required) for name in ORIGIN),
        pa.field("etag", text),
        pa.field("objects", pa.int32()),
        pa.field("boxes", pa.list_(_BOX)),
        *([pa.field("detected", pa.list_(_BOX))] if boxes and detects else []),
    ]
    if embedding_size is not None:
        ours.append(pa.field("embedding", pa.list_(pa.float16(), embedding_size)))
    if not faces:
        ours = [item for item in ours if item.name not in ("faces", *FACE_BOX)]
    optional = [pa.field(CONTENT_HASH, text)] if content_hash else []
    optional += [pa.field(SCORED_BY, text)] if since else []
    _refuse_collisions([item.name for item in (*ours, *optional)], extra.names)
    if not boxes:
        ours = [item for item in ours if item.name != "boxes"]
    ours += optional
    return pa.schema([*ours, *(_passed_through(item) for item in extra)])


def _refuse_collisions(ours: Sequence[str], extra: Sequence[str]) -> None:
    taken = {name.casefold(): "of the result" for name in ours}
    for name in extra:
        if not name:
            raise ColumnError(
                "the list has a column without a name: name it, or say with --keep which columns "
                "the result should take over"
            )
        if owner := taken.get(name.casefold()):
            raise ColumnError(
                f"the list's column '{name}' has the name of a column {owner}: rename it, or say "
                "with --keep which other columns the result should take over"
            )
        taken[name.casefold()] = f"before it ('{name}')"


def _passed_through(item: pa.Field) -> pa.Field:
    # Rows of the list may lack the value, a dictionary would differ from part to part, and the
    # field's metadata (such as its number in the list's own parquet file) does not hold here.
    kind = item.type.value_type if pa.types.is_dictionary(item.type) else item.type
    return pa.field(item.name, kind)


def writer_options(columns: pa.Schema) -> dict[str, Any]:
    """How parquet files with these columns are written, for `pyarrow.parquet`."""
    # No dictionaries for floats, split into streams of bytes: a third smaller, written in a third
    # of the time. Not those of half precision: DuckDB does not read them split.
    floats = [f.name for f in columns if f.type in (pa.float32(), pa.float64())]
    for name in ("boxes", "detected"):
        if name in columns.names:
            floats += [f"{name}.list.element.{f.name}" for f in _BOX if f.type == pa.float32()]
    return {
        "compression": "zstd",
        "use_dictionary": _LABEL_LIKE,
        "use_byte_stream_split": floats,
    }


def encode(rows: Sequence[Row], columns: pa.Schema) -> bytes:
    """A parquet file of ``rows``; values that a row lacks are null."""
    table = pa.Table.from_pylist(list(rows), schema=columns)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROW_GROUP, **writer_options(columns))
    return buffer.getvalue()


def report_rows(
    name: str,
    size: int,
    rows: Iterable[Mapping[str, Any]],
    *,
    seconds: float = 0.0,
    busy: float = 0.0,
) -> PartReport:
    """Count the rows of a part of ``size`` bytes; the times are passed on."""
    count, reasons = 0, Counter[str]()
    for row in rows:
        count += 1
        if row["status"] == FAILED:
            reasons[f"{row['stage']}/{row['reason_kind']}"] += 1
    return PartReport(
        name, size, count, reasons.total(), dict(sorted(reasons.items())), seconds, busy
    )


def report_part(name: str, data: bytes) -> PartReport:
    """Count the rows of a part that an earlier attempt wrote.

    Raises:
        ValueError: ``data`` is not a part.
    """
    table = read_part(data, columns=["status", "stage", "reason_kind"])
    return report_rows(name, len(data), table.to_pylist())


def read_part(data: bytes, *, columns: list[str] | None = None) -> pa.Table:
    """The rows of a part, of all its columns or of some.

    Raises:
        ValueError: ``data`` is not a part.
    """
    try:
        # Parts are small, and several threads read them already.
        with pq.ParquetFile(io.BytesIO(data)) as file:
            table = file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:  # ArrowInvalid is a ValueError, others are not
        raise ValueError(str(error)) from error
    if columns is not None and table.num_columns != len(columns):
        raise ValueError(f"it has no columns {', '.join(columns)}")
    return table
