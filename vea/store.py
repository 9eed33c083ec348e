"""Where archives lie when nobody says."""

from __future__ import annotations

from pathlib import Path

from handler.values.errors import VeaError
from model_store import shipped_archive

STORE = Path("model_store")


def newest_archive(store: Path = STORE) -> Path:
    """The most recently written ``.mar`` in ``store``, else the one that comes with the program.

    Args:
        store: Folder of archives; it may be missing.

    Raises:
        VeaError: There is none at either place.
    """
    archives = sorted(store.glob("*.mar"), key=lambda path: (path.stat().st_mtime, path.name))
    if archives:
        return archives[-1]
    try:
        return shipped_archive()
    except FileNotFoundError as error:
        raise VeaError(
            f"no .mar in {store.resolve()}, and {error}: name one with --model"
        ) from None
