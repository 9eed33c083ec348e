"""Packaging: one file, reproducible, that holds all it needs and no pickle."""

from __future__ import annotations

import json
import os
import pickletools
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import grimp
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import handler
from handler.archive.files import CONFIG, LANDMARKS, WEIGHTS, read_card, seal
from handler.archive.loading import load_archive
from handler.archive.writing import write_model_folder
from handler.predictor import Predictor
from handler.values.configs import FaceConfig
from handler.values.errors import ArchiveError
from train.package import PackageError, default_serving, package
from vea.main import build_app

HANDLER = Path(handler.__file__).parent
# Packing starts torch-model-archiver.
pytestmark = pytest.mark.integration
CARD = {"licence": "none", "metrics": {"accuracy": 0.125}}


@pytest.fixture(scope="module")
def mar(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store")
    return package(tiny_model, out, name="small", version="1.2", card=CARD)


def names(mar: Path) -> set[str]:
    with zipfile.ZipFile(mar) as packed:
        return set(packed.namelist())


def test_the_archive_is_called_after_name_and_version(mar: Path) -> None:
    assert mar.name == "small-1.2.mar"
    assert [file.name for file in mar.parent.iterdir()] == ["small-1.2.mar"]


def test_the_same_inputs_give_the_same_bytes(mar: Path, tiny_model: Path, tmp_path: Path) -> None:
    later = Path(shutil.copytree(tiny_model, tmp_path / "copied"))
    for file in later.iterdir():
        os.utime(file, (1_000_000_000, 1_000_000_000))
    again = package(later, tmp_path / "out", name="small", version="1.2", card=CARD)
    assert again.read_bytes() == mar.read_bytes()


def test_the_archive_holds_no_date_of_its_making(mar: Path) -> None:
    with zipfile.ZipFile(mar) as packed:
        assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert "createdOn" not in json.loads(packed.read("MAR-INF/MANIFEST.json"))


def test_everything_is_compressed(mar: Path) -> None:
    with zipfile.ZipFile(mar) as packed:
        assert {entry.compress_type for entry in packed.infolist()} == {zipfile.ZIP_DEFLATED}
        code = packed.getinfo("handler/predictor.py")
    assert code.compress_size < 0.5 * code.file_size


def test_the_archive_holds_code_weights_and_card(mar: Path) -> None:
    held = names(mar)
    assert {
        "config.json",
        "weights.safetensors",
        "face_landmarks.dat",
        "model_card.json",
        "contents.json",
        "model-config.yaml",
        "service.py",
        "MAR-INF/MANIFEST.json",
    } <= held
    with zipfile.ZipFile(mar) as packed:
        for name in held:
            if name.startswith("handler/"):
                assert packed.read(name) == (HANDLER.parent / name).read_bytes()


def test_the_archive_holds_the_modules_that_its_service_imports_and_no_others(mar: Path) -> None:
    graph = grimp.build_graph("handler", exclude_type_checking_imports=True)
    service = "handler.serving.service"
    needed = {service, *graph.find_upstream_modules(service)}
    # Importing a module imports the packages around it.
    needed |= {name.rpartition(".")[0] for name in needed} | {"handler"}
    needed = {name for name in needed if name}
    held = {name for name in names(mar) if name.startswith("handler/")}
    data = {"handler/stimuli/objects/imagenet_categories.txt"}  # which a module reads
    assert held - data == {
        path.relative_to(HANDLER.parent).as_posix()
        for path in HANDLER.rglob("*.py")
        if module_name(path) in needed
    }
    assert data <= held


def module_name(path: Path) -> str:
    name = path.relative_to(HANDLER.parent).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the handler's code, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(HANDLER, tmp_path / "code" / "handler", ignore=ignored))


@pytest.mark.parametrize(
    "name", ["client/retry.py", "client/sync.py", "drawing/canvas.py", "drawing/overlays.py"]
)
def test_code_that_predicts_nothing_is_not_part_of_the_identity(
    mar: Path, tiny_model: Path, code: Path, tmp_path: Path, name: str
) -> None:
    changed(code / name)
    again = package(tiny_model, tmp_path / "out", name="small", version="1.2", card=CARD, code=code)
    assert read_card(again)[2] == read_card(mar)[2]


@pytest.mark.parametrize(
    "name", ["network.py", "predictor.py", "stimuli/faces/dlib_faces.py", "organism/global_net.py"]
)
def test_code_that_predicts_is_part_of_the_identity(
    mar: Path, tiny_model: Path, code: Path, tmp_path: Path, name: str
) -> None:
    changed(code / name)
    again = package(tiny_model, tmp_path / "out", name="small", version="1.2", card=CARD, code=code)
    assert read_card(again)[2] != read_card(mar)[2]


@pytest.mark.parametrize("name", [WEIGHTS, LANDMARKS, CONFIG])
def test_weights_landmarks_and_settings_are_part_of_the_identity(
    mar: Path, tiny_model: Path, tmp_path: Path, name: str
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    if name == WEIGHTS:
        tensors = load_file(model / WEIGHTS)
        tensors["network.response.classifier.weight"] += 1
        save_file(tensors, model / WEIGHTS)
    elif name == LANDMARKS:
        with (model / LANDMARKS).open("ab") as file:
            file.write(b"\0")
    else:
        settings = json.loads((model / CONFIG).read_text())
        settings["selector"]["faces"]["side"] += 1
        (model / CONFIG).write_text(json.dumps(settings))
    seal(model)
    again = package(model, tmp_path / "out", name="small", version="1.2", card=CARD)
    assert read_card(again)[2] != read_card(mar)[2]


def changed(file: Path) -> None:
    with file.open("a") as opened:
        opened.write("\n# One comment more.\n")


def test_the_face_detector_is_packed_where_faces_are_searched_with_it(
    tiny_model: Path, face_detector: Path, tmp_path: Path
) -> None:
    loaded = load_archive(tiny_model)
    selector = replace(loaded.config.selector, faces=FaceConfig(backend="cnn"))
    write_model_folder(
        tmp_path / "model",
        config=replace(loaded.config, selector=selector),
        network=loaded.network,
        selector=loaded.selector,
        landmarks=tiny_model / LANDMARKS,
        card={},
        face_detector=face_detector,
    )
    mar = package(tmp_path / "model", tmp_path / "out", name="small", version="1", card={})
    assert "face_detector.dat" in names(mar)
    assert load_archive(mar).config.selector.faces.backend == "cnn"


def test_the_face_detector_is_left_out_where_it_is_not_needed(mar: Path) -> None:
    assert "face_detector.dat" not in names(mar)


def test_the_archive_holds_no_pickle_and_no_compiled_code(mar: Path) -> None:
    with zipfile.ZipFile(mar) as packed:
        for name in packed.namelist():
            assert "__pycache__" not in name
            assert Path(name).suffix not in {".pkl", ".pickle", ".pt", ".pth", ".bin", ".pyc"}
            data = packed.read(name)
            assert not data.startswith(b"PK"), name  # a torch file is a zip file of pickles
            if data.startswith(b"\x80"):
                with pytest.raises(ValueError):  # noqa: PT011 - whatever pickletools says
                    list(pickletools.genops(data))


def test_the_contents_list_the_digest_of_every_other_file(mar: Path) -> None:
    with zipfile.ZipFile(mar) as packed:
        listed = set(json.loads(packed.read("contents.json")))
    added_later = {"contents.json", "MAR-INF/MANIFEST.json"}
    assert listed == names(mar) - added_later


def test_the_archive_predicts_what_its_model_folder_predicts(
    mar: Path, tiny_model: Path, photo, encode
) -> None:
    images = [encode(photo(seed), "PNG") for seed in range(3)]
    packed, folder = Predictor.load(mar), Predictor.load(tiny_model)
    for one, other in zip(packed.predict(images), folder.predict(images), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
    assert (packed.model.name, packed.model.version) == ("small", "1.2")


def test_the_card_carries_name_version_and_what_the_model_folder_knew(mar: Path) -> None:
    config, card, digest = read_card(mar)
    assert (config.name, config.version) == ("small", "1.2")
    assert card["model"]["name"] == "small"
    assert card["model"]["version"] == "1.2"
    assert card["metrics"] == {"accuracy": 0.125}
    assert card["training"] == {"data": "none"}
    assert digest == load_archive(mar).digest


def test_another_card_is_another_archive(mar: Path, tiny_model: Path, tmp_path: Path) -> None:
    other = package(tiny_model, tmp_path, name="small", version="1.2", card={"x": 1})
    assert read_card(other)[2] != read_card(mar)[2]


def test_torchserve_finds_its_handler_and_its_settings(mar: Path) -> None:
    with zipfile.ZipFile(mar) as packed:
        manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
        settings = packed.read("model-config.yaml").decode()
    assert manifest["model"]["modelName"] == "small"
    assert manifest["model"]["modelVersion"] == "1.2"
    assert manifest["model"]["handler"] == "service.py"
    assert manifest["model"]["configFile"] == "model-config.yaml"
    assert "createdOn" not in manifest
    for name, value in default_serving().items():
        assert f"{name}: {value}" in settings


def test_an_archive_is_packed_anew_with_the_same_weights_and_todays_code(
    mar: Path, tmp_path: Path, photo, encode
) -> None:
    old = tmp_path / "old.mar"
    with zipfile.ZipFile(mar) as source, zipfile.ZipFile(old, "w") as changed:
        for name in source.namelist():
            yesterday = b"raise SystemExit" if name.endswith("service.py") else source.read(name)
            changed.writestr(name, yesterday)
    new = package(old, tmp_path / "out", name="small", version="1.3", card={})
    with zipfile.ZipFile(mar) as one, zipfile.ZipFile(new) as other:
        for name in ("weights.safetensors", "face_landmarks.dat", "service.py"):
            assert one.read(name) == other.read(name)
    assert read_card(new)[1]["metrics"] == {"accuracy": 0.125}
    images = [encode(photo(seed), "PNG") for seed in range(3)]
    before, after = Predictor.load(mar).predict(images), Predictor.load(new).predict(images)
    assert after == before
    assert package(old, tmp_path / "again", name="small", version="1.2", card={}).read_bytes() == (
        mar.read_bytes()
    )


def test_serving_settings_can_be_given(tiny_model: Path, tmp_path: Path) -> None:
    mar = package(
        tiny_model, tmp_path, name="small", version="1", card={}, serving={"batchSize": 3}
    )
    with zipfile.ZipFile(mar) as packed:
        assert packed.read("model-config.yaml").decode() == "batchSize: 3\n"


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.mar"
    text.write_text("no archive")
    for model in (tmp_path, tmp_path / "nowhere", text):
        with pytest.raises(ArchiveError) as caught:
            package(model, tmp_path / "out", name="small", version="1", card={})
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_name_that_the_archiver_refuses_is_refused_in_one_line(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(PackageError) as caught:
        package(tiny_model, tmp_path, name="no spaces!", version="1", card={})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_card_may_hold_what_yaml_has_beyond_json(tiny_model: Path, tmp_path: Path) -> None:
    words = tmp_path / "card.yaml"
    words.write_text("trained: 2026-11-20\nphotos: {2013: faces}\nlog: [{2026-11-19: begun}]\n")
    arguments = ["package", str(tiny_model), "--version", "1", "--name", "small"]
    shown = CliRunner().invoke(
        build_app(), [*arguments, "--card", str(words), "--to", str(tmp_path / "out")]
    )
    assert shown.exit_code == 0, shown.exception
    card = read_card(tmp_path / "out" / "small-1.mar")[1]
    assert card["trained"] == "2026-11-20"
    assert card["photos"] == {"2013": "faces"}
    assert card["log"] == [{"2026-11-19": "begun"}]


def test_an_archive_is_replaced_by_the_same_or_on_demand_only(
    tiny_model: Path, tmp_path: Path
) -> None:
    first = package(tiny_model, tmp_path, name="m", version="1", card={})
    content, written = first.read_bytes(), first.stat().st_mtime_ns
    assert package(tiny_model, tmp_path, name="m", version="1", card={}) == first
    assert first.stat().st_mtime_ns == written, "the same archive is left as it is"
    with pytest.raises(PackageError, match=r"exists and has other content: .*--force"):
        package(tiny_model, tmp_path, name="m", version="1", card={"title": "another"})
    assert first.read_bytes() == content
    package(tiny_model, tmp_path, name="m", version="1", card={"title": "another"}, force=True)
    assert first.read_bytes() != content
    assert [path.name for path in tmp_path.iterdir()] == ["m-1.mar"]


def test_the_folder_of_a_run_is_told_from_its_model(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "run" / "model")
    with pytest.raises(ArchiveError, match=r"run is the folder of a run: its model is .*run/model"):
        package(tmp_path / "run", tmp_path, name="m", version="1", card={})
    with pytest.raises(ArchiveError, match="is the folder of a run"):
        Predictor.load(tmp_path / "run")
