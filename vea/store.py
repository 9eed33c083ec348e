"""Where archives lie when nobody says."""

from __future__ import annotations

from pathlib import Path

from handler.values.errors import VeaError

STORE = Path("model_store")


def newest_archive(store: Path = STORE) -> Path:
    """The most recently written ``.mar`` in ``store``.

    Raises:
        VeaError: there is none.
    """
    archives = sorted(store.glob("*.mar"), key=lambda path: (path.stat().st_mtime, path.name))
    if not archives:
        raise VeaError(f"no .mar in {store.resolve()}: name an archive, or run in the project")
    return archives[-1]
