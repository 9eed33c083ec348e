"""The face source `light`: it finds, places and aligns faces, in either runtime."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handler.archive.files import LANDMARKS, LIGHT_FACE_DETECTOR, seal
from handler.archive.loading import load_archive
from handler.archive.writing import write_model_folder
from handler.predictor import Predictor
from handler.stimuli.faces.alignment import align
from handler.stimuli.faces.detections import detect
from handler.stimuli.faces.dlib_faces import DlibFaces
from handler.stimuli.faces.light import SIDES, LightFaces, load_network
from handler.stimuli.faces.search import FaceDetectorMissing
from handler.stimuli.faces.source import build_face_source
from handler.values.configs import FaceConfig
from handler.values.errors import ArchiveError
from train.compiling.build import add_compiled_form
from train.package import package
from train.weights import face_detector

WEIGHTS = face_detector("light")


def tensor_of(image: Image.Image) -> torch.Tensor:
    """uint8, 3xHxW."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


@pytest.fixture(scope="module", params=sorted(SIDES))
def backend(request: pytest.FixtureRequest) -> str:
    """Each source whose network is BlazeFace."""
    return request.param


@pytest.fixture(scope="module")
def light(backend: str) -> LightFaces:
    """The source with the weights that come with the program."""
    return LightFaces(load_network(WEIGHTS), sides=SIDES[backend])


@pytest.fixture(scope="module")
def light_model(backend: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with this face source."""
    loaded = load_archive(tiny_model)
    selector = replace(loaded.config.selector, faces=FaceConfig(backend=backend, threshold=0.4))
    folder = tmp_path_factory.mktemp("light") / "model"
    write_model_folder(
        folder,
        config=replace(loaded.config, selector=selector),
        network=loaded.network,
        selector=loaded.selector,
        landmarks=tiny_model / LANDMARKS,
        card={},
        face_detector=WEIGHTS,
    )
    return folder


@pytest.fixture(scope="module")
def compiled_light(light_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Likewise, with a compiled form, packed."""
    folder = tmp_path_factory.mktemp("compiled")
    add_compiled_form(light_model, folder / "model", None)
    return package(folder / "model", folder, name="light", version="1", card={})


def test_a_face_is_found_where_dlib_finds_it_and_cut_alike(
    light: LightFaces, landmarks: Path, portrait: Image.Image
) -> None:
    image = tensor_of(portrait)
    ours, theirs = (source.select([image]) for source in (light, DlibFaces(landmarks=landmarks)))
    assert ours.counts.tolist() == [1]
    assert ours.scores[0] > 1
    middles = [(faces.boxes[0, :2] + faces.boxes[0, 2:]) / 2 for faces in (ours, theirs)]
    side = theirs.boxes[0, 2] - theirs.boxes[0, 0]
    assert (middles[0] - middles[1]).abs().max() < 0.3 * side
    crops = [faces.crops.flatten().float().numpy() for faces in (ours, theirs)]
    assert np.corrcoef(*crops)[0, 1] > 0.8


@pytest.mark.parametrize("shape", [(512, 512), (256, 256), (560, 400)])
def test_box_and_crop_follow_the_size_of_the_photo(
    light: LightFaces, portrait: Image.Image, shape: tuple[int, int]
) -> None:
    """A photo made smaller, or set into a wider or higher one, has its face at the same place."""
    before = light.select([tensor_of(portrait)])
    scale = min(shape[0], shape[1], 512) / 512
    canvas = Image.new("RGB", shape)
    canvas.paste(portrait.resize((round(512 * scale), round(512 * scale))))
    after = light.select([tensor_of(canvas)])
    assert after.boxes[0].numpy() == pytest.approx(before.boxes[0].numpy() * scale, abs=12 * scale)
    crops = [faces.crops.flatten().float().numpy() for faces in (before, after)]
    # `lighter` sees the face in the last one with 18 pixels.
    assert np.corrcoef(*crops)[0, 1] > (0.7 if shape == (560, 400) else 0.9)


def test_each_photo_of_a_batch_keeps_its_own_face(
    light: LightFaces, portrait: Image.Image, photo
) -> None:
    images = [tensor_of(photo(1)), tensor_of(portrait), tensor_of(portrait.crop((0, 0, 400, 300)))]
    together = light.start(images).collect()
    assert together.counts.tolist()[:2] == [0, 1]
    assert together.mask.tolist()[0] is False
    assert not together.crops[0].any()
    for number, image in enumerate(images):
        alone = light.select([image])
        assert alone.counts[0] == together.counts[number]
        assert alone.boxes[0].numpy() == pytest.approx(together.boxes[number].numpy(), abs=0.1)
        difference = alone.crops[0].int() - together.crops[number].int()
        assert difference.abs().max() <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 2), (31, 200)])
def test_a_photo_of_any_shape_can_be_searched(light: LightFaces, shape: tuple[int, int]) -> None:
    assert light.select([torch.zeros(3, *shape, dtype=torch.uint8)]).counts.tolist() == [0]


def test_the_threshold_decides(portrait: Image.Image) -> None:
    network, image = load_network(WEIGHTS), tensor_of(portrait)
    score = float(LightFaces(network).select([image]).scores)
    for threshold, count in ((score - 0.01, 1), (score + 0.01, 0)):
        assert LightFaces(network, threshold=threshold).select([image]).counts.tolist() == [count]


def test_the_largest_face_counts_and_neighbouring_answers_are_one_face() -> None:
    answers = np.full((17, 48, 48), -9.0, np.float32)
    answers[1:] = 0
    for row, column, score, side in ((10, 10, 3, 20), (10, 11, 2, 20), (30, 30, 1, 60)):
        answers[0, row, column] = score
        answers[3:5, row, column] = side
    one, other = detect(answers, 0.0)
    assert (one.score, other.score) == (3, 1)
    assert other.area == pytest.approx(3600)
    # Between x = 42 and 46, nearer to the surer answer.
    assert 42 < (one.box[0] + one.box[2]) / 2 < 44
    assert [face.score for face in detect(answers, 2.5)] == [3]


@pytest.mark.parametrize("scale", [0.7, 1.0, 6.5])
@pytest.mark.parametrize("angle", [0, 35, -80, 180])
def test_a_face_is_turned_upright_at_any_size(scale: float, angle: float) -> None:
    """A dark dot for each point of a face lies at the same place of the crop."""
    upright = np.array([[15, 15], [32, 15], [24, 26], [24, 34]]) - [24, 24]
    turn = scale * np.exp(1j * np.radians(angle))
    turned = (upright[:, 0] + 1j * upright[:, 1]) * turn + 250 + 240j
    points = np.stack([turned.real, turned.imag], axis=1)
    rows, columns = np.mgrid[0:500, 0:500] + 0.5
    pixels = np.full((500, 500), 200.0)
    for x, y in points:
        pixels[np.hypot(columns - x, rows - y) < 2 * scale] = 0
    image = torch.from_numpy(pixels.astype(np.uint8)).expand(3, -1, -1)
    crop = align(image, points.astype(np.float32))[0].numpy().astype(int)
    dark = np.argwhere(crop < 140)
    for x, y in upright + 24:
        assert np.hypot(dark[:, 1] + 0.5 - x, dark[:, 0] + 0.5 - y).min() < 2.5
    assert crop[24, 8] > 180
    assert crop[24, 40] > 180


def test_a_face_beyond_the_edge_is_black_there() -> None:
    image = torch.full((3, 60, 60), 255, dtype=torch.uint8)
    points = np.array([[-8, 30], [8, 30], [0, 42], [0, 48]], np.float32)
    crop = align(image, points)[0]
    assert not crop[:, :20].any()
    assert (crop[2:40, 28:] > 250).all()
    assert not align(image, points + 900).any()
    assert align(image, points * 0 + 30).shape == (1, 48, 48)  # all points in one place


def test_the_source_needs_its_weights(backend: str, tmp_path: Path, landmarks: Path) -> None:
    config = FaceConfig(backend=backend)
    for missing in (None, tmp_path / "nothing.safetensors"):
        with pytest.raises(FaceDetectorMissing, match="weights"):
            build_face_source(config, landmarks=landmarks, detector=missing, threads=1)


@pytest.mark.integration
def test_an_archive_carries_the_network_in_both_forms(compiled_light: Path) -> None:
    with zipfile.ZipFile(compiled_light) as packed:
        assert {LIGHT_FACE_DETECTOR, "face_detector.onnx"} <= set(packed.namelist())
        assert packed.read(LIGHT_FACE_DETECTOR) == WEIGHTS.read_bytes()
        # Its points come from the network, and the compiled form's weights from the other form.
        assert LANDMARKS not in packed.namelist()
        assert packed.getinfo("face_detector.onnx").file_size < 0.2 * WEIGHTS.stat().st_size


def test_both_forms_find_the_same_face(
    compiled_light: Path, portrait: Image.Image, encode, photo
) -> None:
    images = [encode(photo(3), "PNG"), encode(portrait, "JPEG"), encode(portrait, "PNG")]
    one, other = (
        Predictor.load(compiled_light, runtime=name).predict(images, explain=True)
        for name in ("torch", "onnx")
    )
    assert one[0].face is None
    for a, b in zip(one, other, strict=True):
        assert (a.face is None) == (b.face is None)
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-3)
        if a.face is not None:
            assert b.face.box == pytest.approx(a.face.box, abs=0.5)
            assert b.face.score == pytest.approx(a.face.score, abs=1e-2)


def test_faces_off_needs_no_face_network(
    compiled_light: Path, portrait: Image.Image, encode
) -> None:
    answer = Predictor.load(compiled_light, faces=False).predict([encode(portrait, "PNG")])[0]
    assert answer.face is None


def test_weights_of_another_network_are_refused(light_model: Path, tmp_path: Path) -> None:
    for file in light_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / LIGHT_FACE_DETECTOR).write_bytes((tmp_path / "weights.safetensors").read_bytes())
    seal(tmp_path)
    with pytest.raises(ArchiveError, match=LIGHT_FACE_DETECTOR):
        load_archive(tmp_path)
