"""What the deployment files make `vea` do, as the real program reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from vea.main import build_app

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def parse(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Name and values of a command without its `vea`; raises if the program does not know it."""
    program = typer.main.get_command(build_app())
    name, *rest = words
    return name, program.commands[name].make_context(name, list(rest)).params  # type: ignore[attr-defined]


def seconds(text: str) -> int:
    """A duration such as ``40s`` or ``10min``."""
    number = text.rstrip("smin")
    return int(number) * {"s": 1, "min": 60, "": 1}[text[len(number) :]]
