"""`vea install-detectron2`: the library below the paper's object detector, in one command.

detectron2 is not on the Python package index under its own name. `pb1-detectron2`, which is, holds
every Python file of the official release 0.6, but not the C++ sources that its setup compiles, so
it cannot be installed as it is. A Faster R-CNN needs none of that C++. This command fetches that
archive, checks its SHA-256, packs its Python files into a wheel, and installs the wheel into the
running environment.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import typer

from handler.values.errors import VeaError
from vea.terminal import out

SOURCE = "pb1-detectron2==0.6"
SOURCE_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
# The newest releases of pip refuse an archive whose metadata names a dependency by its address, as
# this one does for an unused extra. None of its dependencies is installed from there, so an earlier
# pip, in a folder of its own, fetches it; the pip of the environment stays as it is.
FETCHER = "pip==25.3"
FETCHER_SHA256 = "9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd"
# The suffix marks that this is not the official release: its C++ extension is left out.
VERSION = "0.6+vea"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("install-detectron2")(install_detectron2)


def install_detectron2() -> None:
    """Install detectron2, for the objects that the paper uses (Visual Genome).

        vea install-detectron2

    Installs into the environment that `vea` runs in, with the packages that detectron2 needs. A
    detectron2 that is already installed, such as an official one, is not changed.
    """
    from handler.stimuli.objects.detectron2_compat import Detectron2Missing, import_detectron2

    console = out()
    try:
        there = import_detectron2()
    except Detectron2Missing:
        pass
    else:
        console.print(
            f"detectron2 {there.__version__} is already installed in "
            f"{Path(there.__path__[0]).parent}: nothing to do",
            soft_wrap=True,
        )
        return
    console.print("installing the packages that detectron2 needs ...")
    pip = [sys.executable, "-m", "pip"]
    _run([*pip, "install", *requirements()], doing="install the packages that detectron2 needs")
    if importlib.util.find_spec("detectron2") is None:
        console.print(f"fetching {SOURCE} ...")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            archive = fetch(folder, pip=[sys.executable, str(fetch_pip(folder))])
            wheel = build_wheel(archive, folder)
            _run([*pip, "install", "--no-deps", "--no-index", wheel], doing="install detectron2")
    importlib.invalidate_caches()
    there = import_detectron2()
    console.print(f"installed detectron2 {there.__version__}")


def requirements() -> list[str]:
    """What detectron2 needs beside `vea`'s own packages: the extra ``detectron2`` of setup.cfg.

    Raises:
        VeaError: The program runs from a folder, without being installed.
    """
    import importlib.metadata  # takes longer than all else here

    # A checkout can hold the metadata of an earlier installation beside that of the present one.
    for distribution in importlib.metadata.distributions(name="vea"):
        split = [line.partition(";") for line in distribution.requires or []]
        wanted = [what.strip() for what, _, when in split if "detectron2" in when]
        if wanted:
            return wanted
    raise VeaError("this `vea` is not installed, or from an older setup.cfg: run pip install -e .")


def fetch_pip(folder: Path) -> Path:
    """Put the pip that can fetch the archive into ``folder``, for `python` to run.

    Raises:
        VeaError: The file cannot be fetched, or has another content.
    """
    asked = _pinned(folder / "pip.txt", FETCHER, FETCHER_SHA256)
    target = folder / "fetcher"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target)]
    _run([*pip, *asked], doing=f"fetch {FETCHER}")
    return target / "pip"


def fetch(folder: Path, *, pip: Sequence[str], sha256: str = SOURCE_SHA256) -> Path:
    """Download the source archive; its content is checked before its metadata are asked for.

    Args:
        folder: Folder to write the archive to.
        pip: Command that runs pip.
        sha256: SHA-256 that the archive must have, in hexadecimal digits.

    Raises:
        VeaError: The file cannot be fetched, or has another content.
    """
    asked = _pinned(folder / "detectron2.txt", SOURCE, sha256)
    options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    _run([*pip, "download", *options, "-d", folder, *asked], doing=f"fetch {SOURCE}")
    (archive,) = folder.glob("*.tar.gz")
    return archive


def build_wheel(archive: Path, folder: Path) -> Path:
    """Pack the package `detectron2` of a source archive, and nothing else, into a wheel.

    A wheel is a zip of the package with three lists beside it: METADATA, WHEEL and RECORD, the
    files with their hashes (Binary distribution format, PyPA specifications).

    Args:
        archive: Source archive (tar.gz, one folder at its top).
        folder: Folder of the wheel.

    Returns:
        Path of the wheel.
    """
    info = f"detectron2-{VERSION}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: detectron2\nVersion: {VERSION}\n"
        "Summary: The Python files of detectron2 0.6, without its C++ extension\n"
        "Home-page: https://github.com/facebookresearch/detectron2\n"
        "License: Apache-2.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: vea\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    with tarfile.open(archive) as source:
        for member in source:
            name = member.name.partition("/")[2]
            content = source.extractfile(member) if member.isfile() else None
            if content is not None and name.startswith("detectron2/"):
                files[name] = content.read()
            elif content is not None and name == "LICENSE":
                files[f"{info}/LICENSE"] = content.read()
    record = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items()]
    record.append(f"{info}/RECORD,,\n")
    wheel = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in files.items():
            target.writestr(name, data)
        target.writestr(f"{info}/RECORD", "".join(record))
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _pinned(file: Path, what: str, sha256: str) -> list[str]:
    """Options that make pip take ``what`` in this content and in no other."""
    file.write_text(f"{what} --hash=sha256:{sha256}\n")
    return ["--require-hashes", "-r", str(file)]


def _run(pip: Sequence[str | Path], *, doing: str) -> None:
    """Run pip.

    Raises:
        VeaError: The command failed; the message gives pip's reason.
    """
    done = subprocess.run(
        pip,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return
    said = done.stderr
    if "No module named pip" in said:
        raise VeaError(f"cannot {doing}: pip is not installed: run {sys.executable} -m ensurepip")
    if "DO NOT MATCH THE HASHES" in said:
        raise VeaError(
            f"cannot {doing}: the file on the package index does not have the expected SHA-256; "
            "nothing was installed: use another index (PIP_INDEX_URL), or build the official "
            "detectron2"
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    reason = errors[0].removeprefix("ERROR:").strip() if errors else said.strip()[-300:]
    raise VeaError(f"cannot {doing}: {reason}; is the package index (PIP_INDEX_URL) reachable?")
