"""Which emotions a photo evokes, and why.

The public Python face of the program:

    from pathlib import Path

    from vea import Predictor

    predictor = Predictor.load()  # the shipped model
    (answer,) = predictor.predict([Path("photo.jpg").read_bytes()])
    print(answer.emotion, answer.probabilities)

`Client` and `AsyncClient` ask a running service instead, and need neither torch nor a model.
Names are imported when they are used, so ``import vea`` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handler import __version__
    from handler.client import AsyncClient, Client
    from handler.predictor import Predictor
    from handler.values.errors import VeaError
    from handler.values.prediction import ModelIdentity, Prediction, Refusal
    from model_store import shipped_archive

__all__ = [
    "AsyncClient",
    "Client",
    "ModelIdentity",
    "Prediction",
    "Predictor",
    "Refusal",
    "VeaError",
    "__version__",
    "shipped_archive",
]

# Nothing is imported before it is used: `python -m vea` sees to sys.path first.
_MODULES = {
    "__version__": "handler",
    "AsyncClient": "handler.client",
    "Client": "handler.client",
    "ModelIdentity": "handler.values.prediction",
    "Prediction": "handler.values.prediction",
    "Predictor": "handler.predictor",
    "Refusal": "handler.values.prediction",
    "VeaError": "handler.values.errors",
    "shipped_archive": "model_store",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'vea' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
