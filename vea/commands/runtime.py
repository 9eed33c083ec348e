"""The option `--runtime`, which several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from handler.values.runtimes import VARIABLE


class RuntimeChoice(StrEnum):
    """As `handler.values.runtimes.RUNTIMES`, for the command line."""

    AUTO = "auto"
    TORCH = "torch"
    ONNX = "onnx"


class PrecisionChoice(StrEnum):
    """As `handler.values.runtimes.PRECISIONS`, for the command line."""

    FLOAT32 = "float32"
    INT8 = "int8"


Runtime = Annotated[
    RuntimeChoice,
    typer.Option(
        "--runtime",
        envvar=VARIABLE,
        help="What computes the backbones: onnx for the archive's compiled form, on a CPU; torch; "
        "auto for onnx where that is possible.",
    ),
]
