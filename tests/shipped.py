"""The archive that the project ships."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ARCHIVE = REPOSITORY / "model_store" / "vea-lite-3.1.mar"
