"""`vea package --runtime onnx`: the compiled form is packed, calibrated, measured, and removed."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from handler.archive.files import compiled_files, model_folder, read_card, seal
from handler.archive.loading import load_archive
from handler.predictor import Predictor
from handler.values.archive_config import ArchiveConfig
from handler.values.backbones import EXPRESSION, GLOBAL, OBJECTS
from handler.values.errors import ArchiveError
from handler.values.prediction import Prediction
from model_store import shipped_archive
from train.compiling.export import CompileError, networks_of
from train.compiling.quantise import first_layers
from train.compiling.rounding import round_to_grid, round_weights
from train.package import package
from vea.main import build_app
from vea.serving.verification import verify

GRAPHS = {"global_backbone.onnx", "object_backbone.onnx"}


def packed(*arguments: str | Path) -> dict[str, object]:
    """Run `vea package`; what it wrote."""
    shown = CliRunner().invoke(build_app(), ["package", *map(str, arguments)])
    return {"code": shown.exit_code, "error": shown.exception, "said": shown.output}


def names(mar: Path) -> set[str]:
    with zipfile.ZipFile(mar) as opened:
        return set(opened.namelist())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, photo) -> Path:
    """A data set of folders with few photos."""
    folder = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 6), ("val", 3)):
        for number, emotion in enumerate(("awe", "fear")):
            (folder / split / emotion).mkdir(parents=True)
            for seed in range(count):
                picture = photo(100 * number + 10 * seed + len(split))
                picture.save(folder / split / emotion / f"{seed}.png")
    return folder


def probabilities(predictor: Predictor, images: list[bytes]) -> np.ndarray:
    """The probabilities of each image, BxC."""
    return np.array([list(answer.probabilities.values()) for answer in predictor.predict(images)])


def pack_eight_bits(model: Path, dataset: Path, to: Path) -> Path:
    """Pack a model with an 8-bit form."""
    done = packed(
        *(model, "--name", "small", "--version", "1", "--to", to, "--runtime", "onnx"),
        *("--precision", "int8", "--calibrate", dataset, "--calibration-photos", "10"),
    )
    assert done["code"] == 0, done
    return to / "small-1.mar"


@pytest.fixture(scope="module")
def eight_bits(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, dataset: Path) -> Path:
    """The tiny model, packed with an 8-bit form."""
    return pack_eight_bits(tiny_model, dataset, tmp_path_factory.mktemp("int8"))


@pytest.fixture
def rechecked_below(eight_bits: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that gives the model with another rule for what it rechecks, by default none."""

    def change(ratio: float | None = None, difference: float | None = None) -> Path:
        with model_folder(eight_bits) as unpacked:
            name = f"ratio-{ratio}-difference-{difference}"
            folder = Path(shutil.copytree(unpacked, tmp_path / name))
        config = replace(read_card(folder)[0], recheck_ratio=ratio, recheck_difference=difference)
        (folder / "config.json").write_text(config.to_json())
        seal(folder)
        return folder

    return change


@pytest.mark.integration
def test_the_archive_holds_the_compiled_form_and_is_whole(eight_bits: Path) -> None:
    assert names(eight_bits) >= GRAPHS
    assert verify(eight_bits).config.compiled == "int8"


@pytest.mark.integration
def test_the_card_says_how_well_both_forms_do(eight_bits: Path) -> None:
    compiled = read_card(eight_bits)[1]["compiled"]
    assert (compiled["runtime"], compiled["precision"]) == ("onnx", "int8")
    assert compiled["calibration"]["photos"] == 10
    figures = compiled["evaluation"]
    assert figures["photos"] == 6
    assert 0 <= figures["changed_emotions"] <= 1
    for form in ("torch", "onnx"):
        assert 0 <= figures[form]["accuracy"] <= 1
        assert figures[form]["negative_log_likelihood"] > 0
        assert {"awe", "fear"} <= set(figures[form]["per_emotion"])


@pytest.mark.integration
def test_eight_bits_answer_nearly_as_the_weights_do(rechecked_below, photo, encode) -> None:
    images = [encode(photo(seed), "PNG") for seed in range(6)]
    folder = rechecked_below()
    floats, eights = (
        probabilities(Predictor.load(folder, runtime=name), images) for name in ("torch", "onnx")
    )
    assert not np.array_equal(floats, eights), "not the same numbers"
    # Random weights suffer more from rounding than trained ones.
    assert np.corrcoef(floats.ravel(), eights.ravel())[0, 1] > 0.7, "but close ones"


@pytest.mark.integration
def test_a_float_form_decides_where_eight_bits_are_unsure(
    eight_bits: Path, rechecked_below, photo, encode
) -> None:
    config, card, _ = read_card(eight_bits)
    assert card["compiled"]["recheck_ratio"] == config.recheck_ratio == 1.1
    images = [encode(photo(seed), "PNG") for seed in range(6)]
    floats = probabilities(Predictor.load(eight_bits, runtime="torch"), images)
    eights = probabilities(Predictor.load(rechecked_below()), images)
    second, best = np.sort(eights)[:, -2:].T
    apart, times = best - second, best / second
    for rule, decided in (
        ({"ratio": 1.0}, best < second),
        ({"ratio": float(np.median(times))}, times < np.median(times)),
        ({"ratio": 1e6}, best > 0),
        ({"difference": float(np.median(apart))}, apart < np.median(apart)),
    ):
        predictor = Predictor.load(rechecked_below(**rule))
        answers = probabilities(predictor, images)
        assert predictor.rechecked == decided.sum() in (0, 3, len(images))
        np.testing.assert_allclose(answers[decided], floats[decided], atol=1e-5)
        np.testing.assert_allclose(answers[~decided], eights[~decided], atol=1e-5)


@pytest.mark.integration
def test_all_that_is_told_of_a_photo_is_of_the_form_that_decided(
    rechecked_below, photo, encode
) -> None:
    """Photos that were rechecked keep their places among the others, with all they carry."""
    images = [encode(photo(seed), "PNG") for seed in range(6)]

    def tell(ratio: float | None) -> tuple[Predictor, list[Prediction]]:
        predictor = Predictor.load(rechecked_below(ratio), batch_size=4)
        return predictor, predictor.predict(images, explain=True, embeddings=True)

    eights, floats = tell(None)[1], tell(1e6)[1]
    most = [sorted(one.probabilities.values())[-2:] for one in eights]
    ratio = float(np.median([high / low for low, high in most]))
    predictor, answers = tell(ratio)
    assert predictor.rechecked == 3
    for answer, eight, exact, (low, high) in zip(answers, eights, floats, most, strict=True):
        one, other = (exact, eight) if high / low < ratio else (eight, exact)
        assert answer.embedding == pytest.approx(one.embedding, abs=1e-3)
        assert answer.embedding != pytest.approx(other.embedding, abs=1e-3)
        assert np.array(answer.activation) == pytest.approx(np.array(one.activation), abs=1e-3)
        assert [item.box for item in answer.objects] == [item.box for item in one.objects]
        assert [item.attention for item in answer.objects] == pytest.approx(
            [item.attention for item in one.objects], abs=1e-4
        )


def test_a_recheck_without_eight_bits_is_refused(compiled_model: Path) -> None:
    config = read_card(compiled_model)[0]
    for rule in ({"recheck_ratio": 1.1}, {"recheck_difference": 0.1}):
        with pytest.raises(ValueError, match="recheck_ratio is for a compiled form in int8"):
            replace(config, **rule)


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ({"recheck_ratio": 1.1}, (1.1, None)),
        ({"recheck_difference": 0.08}, (None, 0.08)),
        # As archives up to vea-lite 3.1 say it.
        ({"recheck_margin": 1.16}, (1.16, None)),
        ({"recheck_margin": 0.08}, (None, 0.08)),
        ({}, (None, None)),
    ],
)
def test_a_configuration_says_what_is_rechecked(
    compiled_model: Path, written: dict[str, float], rule: tuple[float | None, float | None]
) -> None:
    values = json.loads(read_card(compiled_model)[0].to_json()) | {"compiled": "int8"} | written
    config = ArchiveConfig.from_json(json.dumps(values))
    assert (config.recheck_ratio, config.recheck_difference) == rule
    assert config.rechecks == bool(written)
    assert ArchiveConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "written",
    [
        {"recheck_ratio": 0.9},
        {"recheck_difference": 1.5},
        {"recheck_ratio": "1.1"},
        {"recheck_margin": "1.1"},
        {"recheck_ratio": 1.1, "recheck_difference": 0.1},
    ],
)
def test_other_rules_of_rechecks_are_refused(
    compiled_model: Path, written: dict[str, object]
) -> None:
    values = json.loads(read_card(compiled_model)[0].to_json()) | {"compiled": "int8"} | written
    with pytest.raises(ArchiveError, match=r"^config\.json is not a model configuration: "):
        ArchiveConfig.from_json(json.dumps(values))


@pytest.mark.long
def test_the_same_calibration_gives_the_same_bytes(
    eight_bits: Path, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    pack_eight_bits(tiny_model, dataset, tmp_path)
    with zipfile.ZipFile(eight_bits) as one, zipfile.ZipFile(tmp_path / "small-1.mar") as other:
        for name in GRAPHS:
            assert one.read(name) == other.read(name)


@pytest.mark.integration
def test_a_repacked_archive_keeps_its_compiled_form_unless_told_otherwise(
    compiled_model: Path, tmp_path: Path
) -> None:
    first = package(compiled_model, tmp_path, name="small", version="1", card={})
    assert names(first) >= GRAPHS
    for runtime, there in (("auto", GRAPHS), ("torch", set())):
        to = tmp_path / runtime
        done = packed(first, "--version", "2", "--runtime", runtime, "--to", to)
        assert done["code"] == 0, done
        again = to / "small-2.mar"
        assert names(again) & GRAPHS == there
        assert ("compiled" in read_card(again)[1]) == bool(there)
        assert (read_card(again)[0].compiled is not None) == bool(there)
    assert Predictor.load(tmp_path / "torch" / "small-2.mar").model.runtime == "torch"


def test_the_shipped_graphs_in_8_bits_pad_within_their_convolutions() -> None:
    """Padding apart is a pass over all pixels, once for each convolution that needs it."""
    with model_folder(shipped_archive()) as folder:
        for name in compiled_files(read_card(folder)[0]).values():
            graph = onnx.load(str(folder / name), load_external_data=False).graph
            assert not [node.name for node in graph.node if node.op_type == "Pad"], name


def test_the_first_layers_of_backbones_alone_stay_in_float32(tiny_model: Path) -> None:
    networks = networks_of(load_archive(tiny_model))
    layers = {part: network.float_layers for part, network in networks.items()}
    assert layers == {GLOBAL: 3, OBJECTS: 3, EXPRESSION: 0}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--runtime", "onnx", "--precision", "int8"], "give --calibrate"),
        (["--calibrate", "."], "give --runtime onnx"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tiny_model: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = packed(tiny_model, "--version", "1", "--to", tmp_path, *arguments)
    assert done["code"] != 0
    assert reason in str(done["error"])


def test_a_model_without_backbones_to_compile_is_refused(tiny_model: Path) -> None:
    archive = load_archive(tiny_model)
    archive.network.global_net = None
    archive.selector.objects = None
    with pytest.raises(CompileError, match="neither Global-Net nor grid or light objects"):
        networks_of(archive)


def test_rounding_with_the_inputs_in_mind_changes_the_outputs_less() -> None:
    rng = np.random.default_rng(5)
    groups, outputs, inputs, places = 3, 4, 12, 500
    # Inputs that are alike, as those of a network are.
    seen = rng.normal(size=(groups, 2, places)) + 1
    seen = rng.normal(size=(groups, inputs, 2)) @ seen + 0.1 * rng.normal(size=(1, 1, places))
    weights = rng.normal(size=(groups, outputs, inputs))
    levels = 7
    step = np.abs(weights).max(axis=2, keepdims=True) / levels
    nearest = np.round(weights / step) * step
    rounded = round_to_grid(weights, seen @ seen.transpose(0, 2, 1), levels)
    steps = rounded / step
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    np.testing.assert_allclose(np.abs(steps).max(axis=2), levels, atol=1e-9)
    errors = [float((((w - weights) @ seen) ** 2).mean()) for w in (rounded, nearest)]
    assert errors[0] < 0.5 * errors[1]


def test_an_input_that_is_always_zero_can_be_rounded() -> None:
    seen = np.zeros((1, 3, 4))
    seen[0, 0] = 1.0
    rounded = round_to_grid(np.array([[[1.0, 0.26, -0.7]]]), seen @ seen.transpose(0, 2, 1), 4)
    np.testing.assert_allclose(rounded[0, 0], [1.0, 0.25, -0.75])


def three_layers(rng: np.random.Generator) -> onnx.ModelProto:
    """Pixels through three convolutions, each with what cuts its outputs off at zero."""
    nodes, weights = [onnx.helper.make_node("Cast", ["pixels"], ["cut0"], "cast", to=1)], []
    for number, (inputs, outputs) in enumerate(((3, 8), (8, 8), (8, 4)), start=1):
        for name, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
            values = rng.normal(size=shape).astype(np.float32)
            weights.append(onnx.numpy_helper.from_array(values, f"{name}{number}"))
        names = [f"cut{number - 1}", f"weight{number}", f"bias{number}"]
        nodes += [
            onnx.helper.make_node("Conv", names, [f"sum{number}"], f"conv{number}"),
            onnx.helper.make_node("Relu", [f"sum{number}"], [f"cut{number}"], f"cut{number}"),
        ]
    ends = [
        onnx.helper.make_tensor_value_info(name, kind, ("images", channels, side, side))
        for name, kind, channels, side in (("pixels", 2, 3, 12), ("sum2", 1, 8, 8))
    ]
    graph = onnx.helper.make_graph(nodes, "three", [ends[0]], [ends[1]], weights)
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def test_the_first_layers_end_before_the_next_convolution() -> None:
    model = three_layers(np.random.default_rng(1))
    assert first_layers(model, 0) == []
    assert first_layers(model, 2) == ["conv1", "cut1", "conv2", "cut2"]


def test_rounded_layers_keep_the_mean_of_their_outputs(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    photos = rng.integers(0, 256, size=(4, 3, 12, 12), dtype=np.uint8)
    onnx.save(three_layers(rng), str(tmp_path / "float.onnx"))
    round_weights(
        *(tmp_path / "float.onnx", tmp_path / "rounded.onnx", list(photos)),
        levels=4,
        skip=["conv1"],
    )
    one, other = (onnx.load(str(tmp_path / name)) for name in ("float.onnx", "rounded.onnx"))
    floats, rounded = ({w.name: w.raw_data for w in m.graph.initializer} for m in (one, other))
    assert rounded["weight1"] == floats["weight1"]
    assert rounded["bias1"] == floats["bias1"]
    assert rounded["weight2"] != floats["weight2"]
    seen, found = (
        onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        ).run(None, {"pixels": photos})[0]
        for model in (one, other)
    )
    assert np.abs(found - seen).mean() > 1
    np.testing.assert_allclose(found.mean(axis=(0, 2, 3)), seen.mean(axis=(0, 2, 3)), rtol=1e-4)
