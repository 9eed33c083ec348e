"""What a part is: the columns of the result, and a parquet file of them as bytes.

The schema is explicit, so that a part in which every image failed has the same types as its
neighbours, and flat, because columns of plain values are what query engines filter fastest. The
same rows give the same bytes: nothing here depends on the time or the machine.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SUFFIX = ".parquet"
OK, FAILED = "ok", "failed"
FACE_BOX = ("face_x1", "face_y1", "face_x2", "face_y2")

# Columns with few different values; on others a dictionary costs more than it saves.
_LABEL_LIKE = [
    "status",
    "stage",
    "reason_kind",
    "reason",
    "emotion",
    "polarity",
    "model_name",
    "model_version",
    "model_digest",
    "run_id",
]

Row = dict[str, Any]


def schema(emotions: Sequence[str]) -> pa.Schema:
    """The columns of a part.

    Args:
        emotions: labels of the model's wheel, in its order.

    Returns:
        ``position`` (in the list, from 0), ``image`` (as the list spells it), ``status`` (``ok`` or
        ``failed``); for failed images ``stage`` (``fetch``, ``decode`` or ``predict``),
        ``reason_kind`` (one word) and ``reason`` (one line); for the others ``emotion``, ``p_*``
        (probabilities that sum to 1), ``polarity``, ``p_positive``, ``faces`` (how many), the box
        of the largest face and the picture's size in pixels; for all ``model_*`` and ``run_id``.
    """
    required, text = {"nullable": False}, pa.string()
    probabilities = [f"p_{emotion}" for emotion in emotions]
    return pa.schema(
        [
            pa.field("position", pa.int64(), **required),
            pa.field("image", text, **required),
            pa.field("status", text, **required),
            pa.field("stage", text),
            pa.field("reason_kind", text),
            pa.field("reason", text),
            pa.field("emotion", text),
            *(pa.field(name, pa.float32()) for name in probabilities if name != "p_positive"),
            pa.field("polarity", text),
            # On the wheel of polarities this is the probability of an emotion too.
            pa.field("p_positive", pa.float32()),
            pa.field("faces", pa.int32()),
            *(pa.field(name, pa.float32()) for name in FACE_BOX),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("model_name", text, **required),
            pa.field("model_version", text, **required),
            pa.field("model_digest", text, **required),
            pa.field("run_id", text, **required),
        ]
    )


def encode(rows: Sequence[Row], columns: pa.Schema) -> bytes:
    """A parquet file of ``rows``; values that a row lacks are null."""
    table = pa.Table.from_pylist(list(rows), schema=columns)
    floats = [item.name for item in columns if pa.types.is_floating(item.type)]
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=_LABEL_LIKE,
        use_byte_stream_split=floats,
    )
    return buffer.getvalue()


@dataclass(frozen=True)
class PartReport:
    """What a part holds, without holding it.

    Attributes:
        name: of the object.
        bytes: its size.
        rows: images in it.
        failed: those without a prediction.
        reasons: how many failed for each ``stage/reason_kind``.
    """

    name: str
    bytes: int
    rows: int
    failed: int
    reasons: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def report_rows(name: str, size: int, rows: Iterable[Mapping[str, Any]]) -> PartReport:
    """Count the rows of a part of ``size`` bytes."""
    count, reasons = 0, Counter[str]()
    for row in rows:
        count += 1
        if row["status"] == FAILED:
            reasons[f"{row['stage']}/{row['reason_kind']}"] += 1
    return PartReport(name, size, count, reasons.total(), dict(sorted(reasons.items())))


def report_part(name: str, data: bytes) -> PartReport:
    """Count the rows of a part that an earlier start has written.

    Raises:
        ValueError: ``data`` is not a part.
    """
    try:
        table = pq.read_table(io.BytesIO(data), columns=["status", "stage", "reason_kind"])
    except pa.ArrowException as error:  # ArrowInvalid is a ValueError, others are not
        raise ValueError(str(error)) from error
    return report_rows(name, len(data), table.to_pylist())
