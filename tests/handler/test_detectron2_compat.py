"""Importing detectron2: whatever build is there is used, and mended only where it must be.

Each test writes a small package `detectron2` that behaves like one of the builds people have, and
imports it in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from handler.stimuli.objects import detectron2_compat

NEEDS_EXTENSION = "from detectron2 import _C\n"
TOLERATES_NO_EXTENSION = "try:\n    from detectron2 import _C\nexcept ImportError:\n    _C = None\n"
NEEDS_LINEAR = "from PIL import Image\nINTERPOLATION = Image.LINEAR\n"

# Loads the module by its file, so that nothing else of the program (torch) has to be imported.
PROGRAM = """
import importlib.util, sys
from PIL import Image
spec = importlib.util.spec_from_file_location("compat", {file!r})
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
before = set(dir(Image))
try:
    package = compat.import_detectron2()
except compat.VeaError as error:
    print(type(error).__name__, error, sep=": ")
else:
    print("imported", package.__name__)
    print("Pillow", sorted(set(dir(Image)) - before))
    extension = sys.modules.get("detectron2._C")
    print("extension", getattr(extension, "__file__", extension and "stand-in"))
"""


@pytest.fixture
def imported(tmp_path: Path):
    """Writes a detectron2 of the given modules, imports it, and returns what was printed."""

    def run(**modules: str) -> str:
        parts = {"__init__": "", "data/__init__": "", "modeling/__init__": ""}
        parts |= {"layers/__init__": "", "data/transforms/__init__": ""}
        parts |= modules
        for name, text in parts.items():
            file = tmp_path / "detectron2" / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        root = Path(detectron2_compat.__file__).parents[3]
        paths = os.pathsep.join([str(tmp_path), str(root)])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(file=detectron2_compat.__file__)],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def build(layers: str = "", transforms: str = "", **others: str) -> dict[str, str]:
    return {
        "layers/__init__": layers,
        "data/transforms/__init__": transforms,
        **others,
    }


def test_a_complete_build_is_left_as_it_is(imported, tmp_path: Path) -> None:
    shown = imported(**build(NEEDS_EXTENSION, _C=""))
    assert "Pillow []" in shown
    assert f"extension {tmp_path / 'detectron2' / '_C.py'}" in shown


def test_a_build_that_copes_without_its_extension_gets_none(imported) -> None:
    shown = imported(**build(TOLERATES_NO_EXTENSION))
    assert "Pillow []" in shown
    assert "extension None" in shown


def test_a_missing_extension_is_stood_in_for(imported) -> None:
    shown = imported(**build(NEEDS_EXTENSION))
    assert "imported detectron2" in shown
    assert "extension stand-in" in shown
    assert "Pillow []" in shown


def test_pillows_old_name_is_supplied_to_a_build_that_asks_for_it(imported, tmp_path: Path) -> None:
    shown = imported(**build(NEEDS_EXTENSION, NEEDS_LINEAR, _C=""))
    assert "imported detectron2" in shown
    assert "Pillow ['LINEAR']" in shown
    assert f"extension {tmp_path / 'detectron2' / '_C.py'}" in shown


def test_a_broken_extension_is_reported_and_not_covered_up(imported) -> None:
    shown = imported(**build(NEEDS_EXTENSION, _C="raise ImportError('undefined symbol: _ZN')"))
    assert shown.startswith("VeaError: the installed detectron2 cannot be imported")
    assert "undefined symbol: _ZN" in shown
    assert "uninstall it and run `vea install-detectron2`" in shown
    assert len(shown.splitlines()) == 1


def test_a_package_that_detectron2_lacks_is_named(imported) -> None:
    shown = imported(**build("import nowhere_to_be_found"))
    assert shown.startswith("Detectron2Missing: ")
    assert "needs 'nowhere_to_be_found'" in shown
    assert "run `vea install-detectron2`" in shown
    assert len(shown.splitlines()) == 1
