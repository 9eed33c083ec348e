"""`vea models compare`: what would change if one archive took another's place?"""

from __future__ import annotations

import typer


def register(group: typer.Typer) -> None:
    """Add the command."""
