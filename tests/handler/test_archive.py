"""Archives: what is written is read again."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from archive_edits import pack, refused
from safetensors.torch import load_file, save_file

from handler.archive.files import (
    CARD,
    CONFIG,
    CONTENTS,
    FACE_DETECTOR,
    LANDMARKS,
    WEIGHTS,
    read_card,
    seal,
    write_card,
)
from handler.archive.loading import load_archive
from handler.archive.writing import write_model_folder
from handler.network import StimuliAwareNetwork
from handler.stimuli.selector import StimuliSelector
from handler.values.archive_config import ArchiveConfig
from handler.values.configs import FaceConfig
from handler.values.errors import ArchiveError


def stored(value: torch.Tensor) -> torch.Tensor:
    """What an archive remembers of a tensor: filters and matrices in half precision."""
    halved = value.is_floating_point() and value.ndim >= 2
    return value.half().to(value.dtype) if halved else value


def test_what_is_written_is_read_again_within_half_precision(
    tiny_model: Path, landmarks: Path, tmp_path: Path
) -> None:
    first = load_archive(tiny_model)
    torch.manual_seed(1)
    network = StimuliAwareNetwork(first.config.network)
    selector = StimuliSelector(first.config.selector, landmarks=landmarks)
    config = replace(first.config, name="other", version="2.0")
    card = {"training": {"images": 5}}
    write_model_folder(
        tmp_path / "m",
        config=config,
        network=network,
        selector=selector,
        landmarks=landmarks,
        card=card,
    )
    loaded = load_archive(tmp_path / "m")
    assert loaded.config == config
    assert loaded.card == card
    written = {**network.state_dict(), **selector.objects.state_dict(prefix="objects.")}
    read = {**loaded.network.state_dict(), **loaded.selector.objects.state_dict(prefix="objects.")}
    assert written.keys() == read.keys()
    for name, value in written.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], stored(value)), name


def test_a_loaded_network_is_frozen_in_evaluation_mode_and_full_precision(tiny_model: Path) -> None:
    loaded = load_archive(tiny_model)
    for part in (loaded.network, loaded.selector.objects):
        assert not any(module.training for module in part.modules())
        assert not any(p.requires_grad for p in part.parameters())
        assert all(p.dtype == torch.float32 for p in part.parameters())


def test_only_what_half_precision_can_hold_is_stored_in_it(
    tiny_model: Path, landmarks: Path, tmp_path: Path
) -> None:
    loaded = load_archive(tiny_model)
    network, objects = loaded.network, loaded.selector.objects
    norm = next(name for name in network.state_dict() if name.endswith(".running_var"))
    network.state_dict()[norm][0] = 1e6
    matrix = network.semantic_net.attention.of_state.weight
    with torch.no_grad():
        matrix[0, 0] = -1e5
    objects.register_buffer("anchors", torch.full((12, 4), 1 / 3))
    write_model_folder(
        tmp_path / "m",
        config=loaded.config,
        network=network,
        selector=loaded.selector,
        landmarks=landmarks,
        card={},
    )
    tensors = load_file(tmp_path / "m" / WEIGHTS)
    assert tensors[f"network.{norm}"][0] == 1e6
    assert tensors["network.semantic_net.attention.of_state.weight"][0, 0] == -1e5
    assert torch.equal(tensors["objects.anchors"], objects.anchors)
    del objects.anchors
    for name, value in tensors.items():
        plain = name not in ("objects.anchors", "network.semantic_net.attention.of_state.weight")
        if value.is_floating_point():
            assert value.dtype == (torch.half if value.ndim >= 2 and plain else torch.float), name


def test_a_large_statistic_survives_the_archive(tiny_model: Path, tmp_path: Path) -> None:
    loaded = load_archive(tiny_model)
    norm = next(n for n in loaded.network.state_dict() if n.endswith(".running_var"))
    loaded.network.state_dict()[norm][0] = 1e6
    write_model_folder(
        tmp_path / "m",
        config=loaded.config,
        network=loaded.network,
        selector=loaded.selector,
        landmarks=tiny_model / LANDMARKS,
        card={},
    )
    assert load_archive(tmp_path / "m").network.state_dict()[norm][0] == 1e6


def test_an_archive_all_in_half_precision_is_read(copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    halved = {n: v.half() if v.is_floating_point() else v for n, v in tensors.items()}
    save_file(halved, copy / WEIGHTS)
    seal(copy)
    for name, value in load_archive(copy).network.state_dict().items():
        expected = halved[f"network.{name}"]
        assert torch.equal(value, expected.to(value.dtype)), name


@pytest.fixture(scope="module")
def cnn_model(
    tiny_model: Path, face_detector: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model folder that searches faces with the network."""
    loaded = load_archive(tiny_model)
    selector = replace(loaded.config.selector, faces=FaceConfig(backend="cnn", side=64))
    folder = tmp_path_factory.mktemp("cnn") / "model"
    write_model_folder(
        folder,
        config=replace(loaded.config, selector=selector),
        network=loaded.network,
        selector=loaded.selector,
        landmarks=tiny_model / LANDMARKS,
        card={},
        face_detector=face_detector,
    )
    return folder


@pytest.fixture
def cnn_copy(cnn_model: Path, tmp_path: Path) -> Path:
    """Likewise, to spoil."""
    return Path(shutil.copytree(cnn_model, tmp_path / "model"))


def test_an_archive_carries_the_face_detector_that_it_searches_with(
    cnn_model: Path, face_detector: Path, tmp_path: Path
) -> None:
    assert (cnn_model / FACE_DETECTOR).read_bytes() == face_detector.read_bytes()
    folder, packed = load_archive(cnn_model), load_archive(pack(cnn_model, tmp_path / "m.mar"))
    assert folder.digest == packed.digest
    for loaded in (folder, packed):
        assert loaded.config.selector.faces.backend == "cnn"
        blank = torch.zeros(3, 64, 64, dtype=torch.uint8)
        assert loaded.selector.faces.select([blank]).counts.tolist() == [0]


def test_a_face_detector_that_is_needed_must_be_given(cnn_model: Path, tmp_path: Path) -> None:
    loaded = load_archive(cnn_model)
    with pytest.raises(ArchiveError, match=FACE_DETECTOR):
        write_model_folder(
            tmp_path / "m",
            config=loaded.config,
            network=loaded.network,
            selector=loaded.selector,
            landmarks=cnn_model / LANDMARKS,
            card={},
        )
    assert not (tmp_path / "m").exists()


def test_a_face_detector_that_is_not_needed_is_not_kept(cnn_copy: Path, tiny_model: Path) -> None:
    loaded = load_archive(tiny_model)
    write_model_folder(
        cnn_copy,
        config=loaded.config,
        network=loaded.network,
        selector=loaded.selector,
        landmarks=tiny_model / LANDMARKS,
        card=loaded.card,
    )
    assert not (cnn_copy / FACE_DETECTOR).exists()
    assert load_archive(cnn_copy).digest == read_card(cnn_copy)[2]


@pytest.mark.parametrize("spoil", ["tampered", "missing", "not sealed", "none"])
def test_a_face_detector_that_is_not_the_sealed_one_is_refused_by_name(
    cnn_copy: Path, tmp_path: Path, spoil: str
) -> None:
    if spoil == "tampered":
        data = bytearray((cnn_copy / FACE_DETECTOR).read_bytes())
        data[-2] ^= 0x01
        (cnn_copy / FACE_DETECTOR).write_bytes(data)
    elif spoil == "missing":
        (cnn_copy / FACE_DETECTOR).unlink()
    elif spoil == "not sealed":
        digests = json.loads((cnn_copy / CONTENTS).read_text())
        del digests[FACE_DETECTOR]
        (cnn_copy / CONTENTS).write_text(json.dumps(digests))
    else:
        (cnn_copy / FACE_DETECTOR).write_bytes(b"no detector")
        seal(cnn_copy)
    assert FACE_DETECTOR in refused(cnn_copy)
    assert FACE_DETECTOR in refused(pack(cnn_copy, tmp_path / "m.mar"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_folder_and_its_mar_are_the_same_archive(
    tiny_model: Path, tmp_path: Path, compression: int
) -> None:
    packed = load_archive(pack(tiny_model, tmp_path / "m.mar", compression))
    folder = load_archive(tiny_model)
    assert packed.digest == folder.digest
    assert packed.config == folder.config
    assert packed.card == folder.card
    state = folder.network.state_dict()
    for name, value in packed.network.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_card_is_read_without_building_networks(tiny_model: Path) -> None:
    config, card, digest = read_card(tiny_model)
    assert (config.name, config.version) == ("tiny", "0.1")
    assert card == {"training": {"data": "none"}}
    assert digest == load_archive(tiny_model).digest


def test_another_card_is_another_digest(copy: Path) -> None:
    before = read_card(copy)[2]
    write_card(copy, {"training": "other"})
    config, card, after = read_card(copy)
    assert config.name == "tiny"
    assert card == {"training": "other"}
    assert before != after


def test_a_configuration_survives_its_text(tiny_model: Path) -> None:
    config = load_archive(tiny_model).config
    assert ArchiveConfig.from_json(config.to_json()) == config


def test_no_file_of_a_model_is_a_pickle(tiny_model: Path) -> None:
    assert sorted(p.name for p in tiny_model.iterdir()) == sorted(
        [CONFIG, WEIGHTS, LANDMARKS, CARD, CONTENTS]
    )
    for file in tiny_model.iterdir():
        start = file.read_bytes()[:4]
        assert not start.startswith((b"\x80\x02", b"\x80\x04", b"PK")), file.name
