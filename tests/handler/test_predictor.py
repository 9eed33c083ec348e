"""`Predictor`: an answer for every image, in its place, whoever its neighbours are."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handler.archive.loading import load_archive
from handler.images import decode
from handler.predictor import Predictor
from handler.stimuli.stimuli import Objects
from handler.values.emotions import MIKELS
from handler.values.errors import ArchiveError
from handler.values.limits import ImageLimits
from handler.values.prediction import Prediction, Refusal

BROKEN = b"\xff\xd8\xff\xe0 no more than a beginning"


@pytest.fixture(scope="module")
def predictor(tiny_model: Path) -> Predictor:
    """Four images a forward pass."""
    return Predictor.load(tiny_model, batch_size=4)


@pytest.fixture(scope="module")
def files(photo, encode) -> list[bytes]:
    """Ten pictures of different sizes and formats."""
    formats = ("JPEG", "PNG", "BMP")
    sizes = ((96, 64), (40, 80), (64, 64))
    return [encode(photo(i, sizes[i % 3]), formats[i % 3]) for i in range(10)]


def probabilities(answers: list[Prediction | Refusal]) -> np.ndarray:
    return np.array([list(a.probabilities.values()) for a in answers if isinstance(a, Prediction)])


@pytest.fixture(scope="module")
def alone(predictor: Predictor, files: list[bytes]) -> np.ndarray:
    """The probabilities of each file, scored by itself."""
    return np.concatenate([probabilities(predictor.predict([file])) for file in files])


def test_different_pictures_get_different_answers(alone: np.ndarray) -> None:
    # Without this the tests of order and of neighbours below would hold for a constant.
    for i in range(len(alone)):
        for j in range(i):
            assert np.abs(alone[i] - alone[j]).max() > 1e-3


def test_answers_come_in_the_order_of_the_images(
    predictor: Predictor, files: list[bytes], alone: np.ndarray
) -> None:
    np.testing.assert_allclose(probabilities(predictor.predict(files)), alone, atol=1e-5)
    backwards = probabilities(predictor.predict(files[::-1]))
    np.testing.assert_allclose(backwards, alone[::-1], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_composition_of_a_batch_does_not_matter(
    tiny_model: Path, files: list[bytes], alone: np.ndarray, batch_size: int
) -> None:
    answers = Predictor.load(tiny_model, batch_size=batch_size).predict(files)
    np.testing.assert_allclose(probabilities(answers), alone, atol=1e-5)


def test_refusals_stand_in_the_places_of_their_images(
    predictor: Predictor, files: list[bytes], alone: np.ndarray
) -> None:
    batch = [b"", files[0], BROKEN, b"text", files[1], files[2], b"", files[3], files[4], BROKEN]
    answers = predictor.predict(batch)
    codes = [answer.code if isinstance(answer, Refusal) else 200 for answer in answers]
    assert codes == [400, 200, 422, 415, 200, 200, 400, 200, 200, 422]
    np.testing.assert_allclose(probabilities(answers), alone[:5], atol=1e-5)


def test_a_batch_of_refusals_only_is_answered(predictor: Predictor) -> None:
    answers = predictor.predict([b"", BROKEN])
    assert [answer.code for answer in answers] == [400, 422]


def test_no_images_get_no_answers(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_probabilities_name_all_emotions_and_sum_to_one(
    predictor: Predictor, files: list[bytes]
) -> None:
    for answer in predictor.predict(files):
        assert tuple(answer.probabilities) == MIKELS.labels
        assert sum(answer.probabilities.values()) == pytest.approx(1.0, abs=1e-6)
        assert answer.emotion == max(answer.probabilities, key=answer.probabilities.get)
        positive = sum(list(answer.probabilities.values())[:4])
        assert answer.p_positive == pytest.approx(positive, abs=1e-6)
        assert answer.polarity == ("positive" if positive >= 0.5 else "negative")
        assert answer.polarity_probability == pytest.approx(max(positive, 1 - positive), abs=1e-6)


def test_the_objects_are_the_attended_regions_most_attended_first(
    predictor: Predictor, files: list[bytes]
) -> None:
    for answer in predictor.predict(files):
        attention = [item.attention for item in answer.objects]
        assert len(attention) == 5
        assert attention == sorted(attention, reverse=True)
        assert sum(attention) == pytest.approx(1.0, abs=1e-5)
        for item in answer.objects:
            left, top, right, bottom = item.box
            assert 0 <= left < right <= answer.width + 1e-3
            assert 0 <= top < bottom <= answer.height + 1e-3
            assert 0 <= item.score <= 1
            assert item.label is None, "random weights are sure of nothing"


def test_the_size_is_that_of_the_upright_picture(predictor: Predictor, photo, encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    data = encode(photo(0, (96, 64)), "JPEG", exif=exif)
    answer = predictor.predict([data])[0]
    assert (answer.width, answer.height) == (64, 96)


def test_a_face_is_reported_with_its_box(
    predictor: Predictor, portrait: Image.Image, encode
) -> None:
    answer = predictor.predict([encode(portrait, "PNG")])[0]
    assert answer.face_count == 1
    left, top, right, bottom = answer.face.box
    assert 0 <= left < right <= portrait.width
    assert 0 <= top < bottom <= portrait.height


def test_the_activation_is_there_only_if_asked_for(
    predictor: Predictor, files: list[bytes]
) -> None:
    assert all(answer.activation is None for answer in predictor.predict(files[:3]))
    for answer in predictor.predict(files[:3], explain=True):
        grid = np.array(answer.activation)
        assert grid.shape == (2, 2)
        assert grid.min() == 0.0
        assert grid.max() == pytest.approx(1.0)


def test_asking_for_an_explanation_does_not_change_the_answer(
    predictor: Predictor, files: list[bytes], alone: np.ndarray
) -> None:
    explained = probabilities(predictor.predict(files, explain=True))
    np.testing.assert_allclose(explained, alone, atol=1e-5)


def test_a_prediction_has_the_documented_schema(predictor: Predictor, files: list[bytes]) -> None:
    answer = predictor.predict(files[:1], explain=True)[0]
    plain = json.loads(json.dumps(answer.to_dict(predictor.model)))
    assert set(plain) == {"emotion", "probabilities", "polarity", "face", "image_size", "model"}
    assert plain["emotion"] in MIKELS.labels
    assert list(plain["probabilities"]) == list(MIKELS.labels)
    assert set(plain["polarity"]) == {"label", "probability"}
    assert plain["face"] == {"found": False, "count": 0, "box": None, "score": None}
    assert plain["image_size"] == {"width": 96, "height": 64}
    assert plain["model"] == {
        "name": "tiny",
        "version": "0.1",
        "digest": predictor.model.digest,
        "runtime": "torch",
    }
    explained = json.loads(json.dumps(answer.to_dict(predictor.model, explain=True)))
    assert set(explained) - set(plain) == {"objects", "activation", "activation_box"}
    assert set(explained["objects"][0]) == {"label", "attribute", "score", "box", "attention"}
    assert len(explained["objects"][0]["box"]) == 4


def test_an_object_source_without_attributes_says_null(
    predictor: Predictor, files: list[bytes]
) -> None:
    answer = predictor.predict(files[:1], explain=True)[0]
    listed = answer.to_dict(predictor.model, explain=True)["objects"]
    assert [item["attribute"] for item in listed] == [None] * 5
    assert answer.objects[0].name == answer.objects[0].label


def test_objects_carry_the_attributes_that_the_source_tells(
    tiny_model: Path, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(tiny_model)
    source = predictor.selector.objects
    select = source.select

    def with_attributes(images: list[torch.Tensor]) -> Objects:
        told = {"attributes": torch.tensor([[0, 1, -1, 1, 0]]), "name_scores": torch.ones(1, 5)}
        return replace(select(images), **told)

    monkeypatch.setattr(source, "select", with_attributes)
    monkeypatch.setattr(source, "attributes", ("red", "wooden"), raising=False)
    boxes = select([decode(files[0])]).boxes[0].tolist()
    told = ["red", "wooden", None, "wooden", "red"]
    expected = {tuple(box): attribute for box, attribute in zip(boxes, told, strict=True)}
    answer = predictor.predict(files[:1], explain=True)[0]
    assert {item.box: item.attribute for item in answer.objects} == expected
    listed = answer.to_dict(predictor.model, explain=True)["objects"]
    assert {tuple(item["box"]): item["attribute"] for item in listed} == expected
    for item in answer.objects:
        words = f"{item.attribute} {item.label}" if item.attribute else item.label
        assert item.name == words is not None


def test_the_object_source_says_how_many_images_it_wants_at_a_time_on_a_cpu(
    tiny_model: Path, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = load_archive(tiny_model)
    assert Predictor(archive).batch_size == 8
    monkeypatch.setattr(archive.selector.objects, "cpu_batch", 3, raising=False)
    predictor = Predictor(archive)
    select, batches = archive.selector.objects.select, []

    def watched(images: list[torch.Tensor]) -> Objects:
        batches.append(len(images))
        return select(images)

    monkeypatch.setattr(archive.selector.objects, "select", watched)
    predictor.predict(files[:7])
    assert batches == [3, 3, 1]
    assert Predictor(archive, batch_size=5).batch_size == 5, "whoever asks for a size gets it"


def test_a_refusal_has_the_documented_schema(predictor: Predictor) -> None:
    refusal = predictor.predict([b""])[0]
    assert refusal.to_dict() == {"error": {"code": 400, "reason": "the image is empty (0 bytes)"}}


def test_the_limits_of_a_predictor_are_kept(predictor: Predictor, files: list[bytes]) -> None:
    limits = predictor.limits
    try:
        predictor.limits = ImageLimits(max_pixels=50)
        assert {answer.code for answer in predictor.predict(files[:2])} == {413}
    finally:
        predictor.limits = limits


def test_a_mar_predicts_what_its_folder_predicts(
    tiny_model: Path, tmp_path: Path, files: list[bytes], alone: np.ndarray
) -> None:
    path = tmp_path / "tiny.mar"
    with zipfile.ZipFile(path, "w") as packed:
        for file in tiny_model.iterdir():
            packed.write(file, file.name)
    packed_model = Predictor.load(path)
    np.testing.assert_allclose(probabilities(packed_model.predict(files)), alone, atol=1e-5)


def test_a_path_without_an_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        Predictor.load(tmp_path / "none.mar")


def test_large_pictures_are_scored_in_smaller_batches(
    tiny_model: Path, files: list[bytes], alone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_archive(tiny_model)
    predictor = Predictor(loaded, batch_size=8, limits=ImageLimits(max_pixels=96 * 64))
    sizes = []
    select = predictor.selector.select
    monkeypatch.setattr(
        predictor.selector, "select", lambda images: sizes.append(len(images)) or select(images)
    )
    np.testing.assert_allclose(probabilities(predictor.predict(files)), alone, atol=1e-5)
    assert max(sizes) < 4


def test_half_precision_is_for_gpus_only(tiny_model: Path, files: list[bytes]) -> None:
    predictor = Predictor.load(tiny_model, half=True)
    assert not predictor.half
    assert isinstance(predictor.predict(files[:1])[0], Prediction)
