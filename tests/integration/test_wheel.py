"""The wheel holds all that the commands need: it is built, unpacked and used elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.shipped import ARCHIVE, REPOSITORY

pytest.importorskip("setuptools", minversion="70.1")  # the first that builds wheels by itself
pytestmark = pytest.mark.integration

PACKAGES = ("handler", "jobs", "model_store", "train", "vea")
# Files that are no Python, and that only one command would miss.
DATA = (
    *(f"{package}/py.typed" for package in PACKAGES),
    *("jobs/report/pages/report.html", "jobs/schedules/crontab", "vea/demo/templates/demo.html"),
    *("train/recipes/lite2.yaml", "train/weights/fer2013-w32.safetensors"),
    *("vea/photos/cat.webp", "vea/web/page/index.html", f"model_store/{ARCHIVE.name}"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder that a wheel of this checkout, built from its source archive, is unpacked to."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    _build(source, "sdist", folder)
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder / "again", filter="data")
    (unpacked,) = (folder / "again").iterdir()
    _build(unpacked, "wheel", folder)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as packed:
        packed.extractall(folder / "installed")
    return folder / "installed"


def _build(source, what, target):
    code = f"from setuptools.build_meta import build_{what} as build; build({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    for name in DATA:
        assert (wheel / name).is_file(), name
    for package in PACKAGES:
        for file in (REPOSITORY / package).rglob("*.py"):
            assert (wheel / file.relative_to(REPOSITORY)).is_file()
    assert {path.name for path in wheel.iterdir() if "dist-info" not in path.name} == set(PACKAGES)


def test_in_an_empty_folder_the_wheel_predicts_with_its_own_model(wheel, tmp_path, photo, encode):
    (tmp_path / "photo.jpg").write_bytes(encode(photo(3), "JPEG"))
    done = subprocess.run(
        [sys.executable, "-m", "vea", "predict", "photo.jpg", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
    )
    (answer,) = json.loads(done.stdout)
    assert f"{answer['model']['name']}-{answer['model']['version']}" == ARCHIVE.stem
    code = "import vea; print(vea.__file__, vea.shipped_archive(), vea.__version__, sep='\\n')"
    named = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert named[:2] == [str(wheel / "vea/__init__.py"), str(wheel / "model_store" / ARCHIVE.name)]
