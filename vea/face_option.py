"""The option `--faces`, which several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class FacesChoice(StrEnum):
    """Whether faces are looked for."""

    ON = "on"
    OFF = "off"

    @property
    def on(self) -> bool:
        """Whether faces are looked for, if the model does so at all."""
        return self is FacesChoice.ON


Faces = Annotated[
    FacesChoice,
    typer.Option(
        "--faces",
        help="off: look for no faces; nothing about faces is computed, shown or written.",
    ),
]
