"""One door to detectron2, which opens for every build of it that can be made to work.

detectron2 0.6 was written for older libraries: with today's, its import fails at `PIL.Image.LINEAR`
(the old name of `BILINEAR`), and, where its C++ extension was not built, at `detectron2._C`. The
extension serves deformable convolution and rotated boxes, of which nothing here makes use. What is
missing is supplied, and only after the import has failed for want of it: a detectron2 that imports
as it is, and everything else in the process, stays untouched.

Everything in this project that needs detectron2 calls `import_detectron2` before it imports
anything of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from PIL import Image

from handler.values.errors import VeaError

_EXTENSION = "detectron2._C"
# In this order: the first two are where an import of the third would fail, and small enough to be
# tried twice.
_LAYERS, _TRANSFORMS, _MODELS = (
    "detectron2.layers",
    "detectron2.data.transforms",
    "detectron2.modeling",
)


class Detectron2Missing(VeaError):
    """detectron2, or a package that it needs, is not installed."""


def import_detectron2() -> ModuleType:
    """Import detectron2 with its models, mending what is missing.

    Returns:
        The package `detectron2`; after this, its modules can be imported as usual.

    Raises:
        Detectron2Missing: The package, or one that it needs, is not installed.
        VeaError: The installed package is broken.
    """
    try:
        package = importlib.import_module("detectron2")
        try:
            importlib.import_module(_LAYERS)
        except ImportError as error:
            if isinstance(error, ModuleNotFoundError) and error.name != _EXTENSION:
                raise
            if importlib.util.find_spec(_EXTENSION) is not None:
                raise  # there is an extension, and it is broken
            extension = ModuleType(_EXTENSION, "Stands in for the C++ extension, which is absent.")
            sys.modules[_EXTENSION] = package._C = extension  # type: ignore[attr-defined]
            importlib.import_module(_LAYERS)
        try:
            importlib.import_module(_TRANSFORMS)
        except AttributeError:
            if hasattr(Image, "LINEAR"):
                raise
            Image.LINEAR = Image.Resampling.BILINEAR  # type: ignore[attr-defined]
            importlib.import_module(_TRANSFORMS)
        importlib.import_module(_MODELS)
    except ModuleNotFoundError as error:
        missing = error.name or "detectron2"
        needed = "" if missing == "detectron2" else f" (detectron2 needs '{missing}')"
        raise Detectron2Missing(
            f"the Visual Genome object source needs detectron2, which is not fully installed"
            f"{needed}: run `vea install-detectron2`"
        ) from error
    except Exception as error:
        raise VeaError(
            f"the installed detectron2 cannot be imported ({type(error).__name__}: "
            f"{_first_line(error)}): rebuild it for the installed torch, or uninstall it and run "
            "`vea install-detectron2`"
        ) from error
    return package


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
