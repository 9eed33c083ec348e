"""An archive is taken only if it is whole and the one that is meant."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from other_versions import other_version

from handler.archive.files import read_card
from handler.values.errors import ArchiveError
from train.package import package
from vea.serving.verification import digest_of, verify

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def archive(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(
        tiny_model, tmp_path_factory.mktemp("store"), name="tiny", version="1.0", card={}
    )


def test_a_packaged_archive_is_whole_and_keeps_its_digest(archive: Path, tmp_path: Path) -> None:
    verified = verify(archive)
    assert (verified.config.name, verified.config.version) == ("tiny", "1.0")
    assert verified.digest == read_card(archive)[2] == digest_of(archive)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    assert digest_of(tmp_path) == verified.digest


def test_a_digest_or_the_beginning_of_one_can_be_demanded(archive: Path) -> None:
    digest = verify(archive).digest
    for wanted in (digest, digest[:12], f"sha256:{digest.upper()}"):
        assert verify(archive, digest=wanted).digest == digest
    with pytest.raises(ArchiveError, match=f"{digest}, not 0123456789ab: it is another archive"):
        verify(archive, digest="0123456789ab")
    for wanted in (digest[:11], "", "latest", digest + "0"):
        with pytest.raises(ArchiveError, match="is not a digest"):
            verify(archive, digest=wanted)


@pytest.mark.parametrize("name", ["service.py", "handler/predictor.py", "model-config.yaml"])
def test_changed_code_is_refused_by_name(archive: Path, tmp_path: Path, name: str) -> None:
    changed = other_version(
        archive, tmp_path / "a.mar", version="1.0", files={name: "print('hello')"}, sealed=False
    )
    # The model files are those of the list; the code is not.
    with pytest.raises(ArchiveError, match=f"{name} in .* does not match the digest"):
        verify(with_own_config(archive, changed))


def with_own_config(archive: Path, changed: Path) -> Path:
    """``changed`` with the very bytes of ``archive``'s config, of which only the layout differs."""
    target = changed.with_name("b.mar")
    with (
        zipfile.ZipFile(archive) as first,
        zipfile.ZipFile(changed) as second,
        zipfile.ZipFile(target, "w") as written,
    ):
        for name in second.namelist():
            source = first if name == "config.json" else second
            written.writestr(name, source.read(name))
    return target


@pytest.mark.parametrize("name", ["extra.py", "handler/evil.py", "../outside.py"])
def test_a_file_that_is_on_no_list_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "a.mar"
    target.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(target, "a") as packed:
        packed.writestr(name, "print('hello')")
    with pytest.raises(ArchiveError, match=f"holds {name}, which its contents.json does not list"):
        verify(target)


def test_a_listed_file_outside_of_the_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    target = other_version(
        archive, tmp_path / "a.mar", version="1.0", files={"../outside.py": "print('hello')"}
    )
    with pytest.raises(ArchiveError, match=r"\.\./outside.py, which lies outside"):
        verify(target)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(archive: Path, tmp_path: Path) -> None:
    # Readers differ in which of the two they take: one could be verified, and the other one run.
    target = tmp_path / "a.mar"
    target.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(target, "a") as packed:
        packed.writestr("service.py", packed.read("service.py"))
    with pytest.raises(ArchiveError, match="two files of one name"):
        verify(target)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("handler", "handler/drawing/sheet.py"),
        ("modelName", "other"),
        ("modelVersion", "9"),
        ("requirementsFile", "requirements.txt"),
    ],
)
def test_a_manifest_that_says_something_else_than_the_archive_is_refused(
    archive: Path, tmp_path: Path, key: str, value: str
) -> None:
    with zipfile.ZipFile(archive) as packed:
        manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    manifest["model"][key] = value
    target = other_version(
        archive,
        tmp_path / "a.mar",
        version="1.0",
        files={"MAR-INF/MANIFEST.json": json.dumps(manifest)},
    )
    with pytest.raises(ArchiveError, match=f"MANIFEST.json .* says .*{value}"):
        verify(target)


@pytest.mark.parametrize("version", ["1.0/../..", "a b", "", "?x=1"])
def test_a_version_that_cannot_stand_in_a_url_is_refused(
    archive: Path, tmp_path: Path, version: str
) -> None:
    with pytest.raises(ArchiveError, match="expected letters, digits"):
        verify(other_version(archive, tmp_path / "a.mar", version=version))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no zip", b"\x80\x04\x95pickle"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    target = tmp_path / "a.mar"
    target.write_bytes(data)
    assert digest_of(target) is None
    with pytest.raises(ArchiveError, match="is not a model archive"):
        verify(target)


def test_a_folder_is_refused_with_what_to_do(tiny_model: Path) -> None:
    with pytest.raises(ArchiveError, match="vea package"):
        verify(tiny_model)
