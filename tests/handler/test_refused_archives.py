"""What is not an archive is refused in one line."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from archive_edits import edit_config, pack, refused
from safetensors.torch import load_file, save_file

from handler.archive.files import (
    CARD,
    CONFIG,
    CONTENTS,
    LANDMARKS,
    WEIGHTS,
    seal,
)
from handler.archive.loading import load_archive
from handler.values.errors import ArchiveError, VeaError


class Trap:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, LANDMARKS, CARD])
def test_a_tampered_file_is_refused_by_name(copy: Path, tmp_path: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 0x01
    (copy / name).write_bytes(data)
    assert name in refused(copy)
    assert name in refused(pack(copy, tmp_path / "m.mar"))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, LANDMARKS, CARD, CONTENTS])
def test_a_missing_file_is_refused_by_name(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).unlink()
    assert name in refused(copy)
    assert name in refused(pack(copy, tmp_path / "m.mar"))


def test_a_path_where_nothing_is_gets_refused_by_name(tmp_path: Path) -> None:
    assert "nowhere.mar" in refused(tmp_path / "nowhere.mar")


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.mar"
    path.write_bytes(data)
    assert "not a model archive" in refused(path)


def test_a_zip_cut_short_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = pack(tiny_model, tmp_path / "m.mar")
    path.write_bytes(path.read_bytes()[:-1000])
    assert "not a model archive" in refused(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_with_a_damaged_member_is_refused(
    tiny_model: Path, tmp_path: Path, compression: int
) -> None:
    path = pack(tiny_model, tmp_path / "m.mar", compression)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = b"\xaa" * 4096
    path.write_bytes(data)
    refused(path)


def test_an_encrypted_zip_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = pack(tiny_model, tmp_path / "m.mar")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as packed:
        first = packed.infolist()[0].header_offset
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature, first)
        while place >= 0 and signature == b"PK\x01\x02":
            data[place + flags] |= 0x01
            place = data.find(signature, place + 4)
        if place >= 0:
            data[place + flags] |= 0x01
    path.write_bytes(data)
    assert "not a model archive" in refused(path)


def test_another_format_number_is_refused_with_both_numbers(copy: Path) -> None:
    edit_config(copy, lambda values: values.update(format=99))
    message = refused(copy)
    assert "99" in message
    assert "1" in message


@pytest.mark.parametrize(
    "edit",
    [
        lambda values: values.pop("format"),
        lambda values: values.pop("network"),
        lambda values: values["network"].update(wheel="plutchik"),
        lambda values: values["network"].update(global_backbone="resnet1"),
        lambda values: values["network"].update(colour="blue"),
        lambda values: values["network"]["semantic"].update(steps=0),
        lambda values: values["selector"].update(fit="stretch"),
        lambda values: values["selector"].update(objects={"source": "yolo"}),
        lambda values: values["selector"]["objects"].update(colour="blue"),
        lambda values: values["selector"]["faces"].update(colour="blue"),
        lambda values: values["selector"]["faces"].update(backend="haar"),
    ],
)
def test_a_configuration_with_a_wrong_setting_is_refused(
    copy: Path, edit: Callable[[dict], None]
) -> None:
    edit_config(copy, edit)
    assert CONFIG in refused(copy)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "\udcff"])
def test_a_file_that_is_no_json_object_is_refused(copy: Path, text: str) -> None:
    for name in (CONFIG, CARD):
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        seal(copy)
        assert name in refused(copy)
        (copy / name).write_bytes(kept)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"config.json": 3}'])
def test_a_list_of_contents_that_is_none_is_refused(copy: Path, text: str) -> None:
    (copy / CONTENTS).write_text(text)
    refused(copy)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    edit_config(copy, lambda values: values["network"]["semantic"].update(hidden=9))
    assert WEIGHTS in refused(copy)


@pytest.mark.parametrize("change", ["missing", "surplus"])
def test_weights_that_are_too_few_or_too_many_are_refused(copy: Path, change: str) -> None:
    tensors = load_file(copy / WEIGHTS)
    if change == "missing":
        tensors.pop("network.response.classifier.bias")
    else:
        tensors["network.surplus"] = torch.zeros(1)
    save_file(tensors, copy / WEIGHTS)
    seal(copy)
    assert WEIGHTS in refused(copy)


def test_a_landmark_file_that_is_none_is_refused(copy: Path) -> None:
    (copy / LANDMARKS).write_bytes(b"no landmarks")
    seal(copy)
    assert LANDMARKS in refused(copy)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, CARD])
def test_a_pickle_in_place_of_a_file_is_refused_and_never_opened(
    copy: Path, tmp_path: Path, name: str
) -> None:
    trace = tmp_path / "opened"
    (copy / name).write_bytes(pickle.dumps(Trap(trace)))
    seal(copy)
    assert name in refused(copy)
    assert not trace.exists()


def test_weights_saved_by_torch_are_refused(copy: Path) -> None:
    torch.save({"network.x": torch.zeros(1)}, copy / WEIGHTS)
    seal(copy)
    assert WEIGHTS in refused(copy)


def test_a_package_that_the_object_source_lacks_is_named_with_what_to_do(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "handler.stimuli.objects.visual_genome", raising=False)
    monkeypatch.setitem(sys.modules, "detectron2", None)  # as if it were not installed
    edit_config(copy, lambda values: values["selector"].update(objects={"source": "visual_genome"}))
    with pytest.raises(VeaError) as caught:
        load_archive(copy)
    message = str(caught.value)
    assert "detectron2" in message
    assert "install" in message
    assert "\n" not in message
    assert not isinstance(caught.value, ArchiveError), "the archive is not to blame"
