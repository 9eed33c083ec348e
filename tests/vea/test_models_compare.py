"""`vea models compare` and the rest of `vea models` that needs no server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from other_versions import other_version
from PIL import Image
from typer.testing import CliRunner, Result

from handler.predictor import Predictor
from handler.values.errors import ArchiveError, VeaError
from handler.values.prediction import Prediction, Refusal
from train.package import package
from vea.main import build_app
from vea.serving.smoke_test import bundled_photos

pytestmark = pytest.mark.integration


def vea(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), ["models", *map(str, arguments)])


@pytest.fixture(scope="module")
def store(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    first = package(tiny_model, folder, name="tiny", version="1.0", card={"note": "the first"})
    other_version(first, folder / "tiny-2.0.mar", version="2.0", shift=1.0)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled photos, small, and the broken one as it is."""
    folder = tmp_path_factory.mktemp("photos")
    for photo in bundled_photos():
        if photo.name == "broken.jpg":
            shutil.copy(photo, folder)
            continue
        with Image.open(photo) as picture:
            small = picture.convert("RGB")
        small.thumbnail((96, 96))
        small.save(folder / f"{photo.stem}.png")
    return folder


@pytest.fixture(scope="module")
def document(store: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes of all photos."""
    return compared(store, photos, tmp_path_factory.mktemp("json") / "c.json")


@pytest.fixture(scope="module")
def answers(store: Path, photos: Path) -> dict[str, tuple[Any, Any]]:
    """Of both archives to each photo, one photo at a time."""
    both = [Predictor.load(store / f"tiny-{version}.mar") for version in ("1.0", "2.0")]
    return {
        str(photo): (
            both[0].predict([photo.read_bytes()])[0],
            both[1].predict([photo.read_bytes()])[0],
        )
        for photo in sorted(photos.iterdir())
    }


def compared(store: Path, images: Path, target: Path, *options: object) -> dict[str, Any]:
    shown = vea(
        *("compare", store / "tiny-1.0.mar", store / "tiny-2.0.mar"),
        *("--images", images, "--json", target, *options),
    )
    assert shown.exit_code == 0, shown.exception
    document: dict[str, Any] = json.loads(target.read_text())
    return document


def test_the_photos_whose_answer_changes_are_named_with_both_answers(
    document: dict[str, Any], answers: dict[str, tuple[Any, Any]]
) -> None:
    predicted = {p: pair for p, pair in answers.items() if isinstance(pair[0], Prediction)}
    changed = {p for p, (a, b) in predicted.items() if a.emotion != b.emotion}
    assert changed, "the shift is large enough to change something"
    assert {row["image"] for row in document["changed_images"]} == changed
    assert document["images"] == len(answers)
    assert document["changed"] == {
        "images": len(changed),
        "share": pytest.approx(len(changed) / len(answers), abs=1e-6),
    }
    for row in document["changed_images"]:
        for side, answer in zip(("first", "second"), predicted[row["image"]], strict=True):
            assert row[side]["emotion"] == answer.emotion
            assert row[side]["probability"] == pytest.approx(
                answer.probabilities[answer.emotion], abs=1e-4
            )
    polarities = sum(a.polarity != b.polarity for a, b in predicted.values())
    assert document["polarity_changed"]["images"] == polarities
    refusals = sum(isinstance(a, Refusal) for a, _ in answers.values())
    assert document["refused"] == {"first": refusals, "second": refusals}


def test_how_far_probabilities_move_is_measured_over_all_photos(
    document: dict[str, Any], answers: dict[str, tuple[Any, Any]]
) -> None:
    movement = document["movement"]
    moved = [
        [abs(b.probabilities[label] - p) for label, p in a.probabilities.items()]
        for a, b in answers.values()
        if isinstance(a, Prediction)
    ]
    assert movement["max"] == pytest.approx(max(map(max, moved)), abs=1e-4)
    means = [sum(row) / len(row) for row in moved]
    assert movement["mean"] == pytest.approx(sum(means) / len(means), abs=1e-4)
    variations = [sum(row) / 2 for row in moved]
    assert movement["total_variation"]["max"] == pytest.approx(max(variations), abs=1e-4)
    first = [row[0] for row in moved]
    assert movement["per_emotion"]["amusement"]["max"] == pytest.approx(max(first), abs=1e-4)


def test_an_archive_and_itself_agree_and_stand_in_ci(store: Path, photos: Path) -> None:
    same, other = store / "tiny-1.0.mar", store / "tiny-2.0.mar"
    options = ("--images", photos, "--max-changed", "0")
    shown = vea("compare", same, same, *options)
    assert shown.exit_code == 0
    assert "changed answers: 0 of" in shown.stdout
    refused = vea("compare", same, other, *options)
    assert refused.exit_code == 1
    assert "--max-changed allows 0.0%" in str(refused.exception)
    assert "answers that change" in refused.stdout, "the table comes all the same"


def labelled(folder: Path, answers: dict[str, tuple[Any, Any]], side: int) -> Path:
    """A data set in which one of the two archives is always right."""
    for place, pair in answers.items():
        if isinstance(pair[side], Prediction):
            emotion = folder / pair[side].emotion
            emotion.mkdir(parents=True, exist_ok=True)
            shutil.copy(place, emotion)
    return folder


def test_labelled_photos_give_both_accuracies_and_their_difference(
    store: Path, answers: dict[str, tuple[Any, Any]], tmp_path: Path
) -> None:
    data = labelled(tmp_path / "data", answers, side=1)
    accuracy = compared(store, data, tmp_path / "c.json")["accuracy"]
    pairs = [pair for pair in answers.values() if isinstance(pair[0], Prediction)]
    kept = sum(a.emotion == b.emotion for a, b in pairs) / len(pairs)
    assert accuracy["of"] == "emotion"
    assert accuracy["second"] == 1.0
    assert accuracy["first"] == pytest.approx(kept, abs=1e-6)
    assert accuracy["difference"] == pytest.approx(1.0 - kept, abs=1e-6)
    low, high = accuracy["difference_interval_95"]
    assert low < 1.0 - kept < high
    assert low >= 0.0, "no resample can favour the archive that is never better"


def test_labels_of_other_emotions_judge_the_polarity(
    store: Path, answers: dict[str, tuple[Any, Any]], tmp_path: Path
) -> None:
    for place, (first, _) in answers.items():
        if isinstance(first, Prediction):
            folder = tmp_path / "data" / first.polarity
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(place, folder)
    accuracy = compared(store, tmp_path / "data", tmp_path / "c.json")["accuracy"]
    assert (accuracy["of"], accuracy["first"]) == ("polarity", 1.0)


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_a_list_of_photos_will_do(store: Path, photos: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(photos / "clock.png", tmp_path / "one.jpg")
    absolute = photos / "coffee.png"
    heading = "image\n" if name.endswith(".csv") else ""
    (tmp_path / name).write_text(f"{heading}one.jpg\n{absolute}\nmissing.jpg\n")
    document = compared(store, tmp_path / name, tmp_path / "c.json")
    assert document["images"] == 3
    assert document["refused"] == {"first": 1, "second": 1}


def test_what_cannot_be_compared_is_told_before_the_work(
    store: Path, photos: Path, tmp_path: Path
) -> None:
    one, two = store / "tiny-1.0.mar", store / "tiny-2.0.mar"
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("s3://bucket/photo.jpg\n")
    cases = [
        ((one, two, "--images", tmp_path / "none"), "neither a folder nor a list"),
        ((one, two, "--images", tmp_path / "empty"), "holds no photos"),
        ((one, two, "--images", tmp_path / "list.txt"), "only photos on this machine"),
        ((one, two, "--images", photos, "--json", tmp_path / "no" / "c.json"), "no folder"),
    ]
    for arguments, said in cases:
        shown = vea("compare", *arguments)
        assert isinstance(shown.exception, VeaError)
        assert said in str(shown.exception)
        assert not shown.stdout


def test_the_store_is_listed_with_what_is_no_archive(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(store, folder)
    (folder / "broken.mar").write_bytes(b"no archive")
    listed = vea("list", "--store", folder, "--state", tmp_path / "state", "--json")
    document = json.loads(listed.stdout)
    rows = {row["file"]: row for row in document["archives"]}
    assert rows["tiny-2.0.mar"]["version"] == "2.0"
    assert len(rows["tiny-2.0.mar"]["digest"]) == 64
    assert "not a model archive" in rows["broken.mar"]["refused"]
    assert document["server"] is None
    shown = vea("list", "--store", folder, "--state", tmp_path / "state").stdout
    assert rows["tiny-1.0.mar"]["digest"][:12] in shown
    assert "no server runs in" in shown


def test_an_archives_card_is_shown_and_only_of_a_whole_archive(store: Path, tmp_path: Path) -> None:
    shown = json.loads(vea("show", store / "tiny-1.0.mar", "--json").stdout)
    assert (shown["name"], shown["version"]) == ("tiny", "1.0")
    assert shown["card"]["note"] == "the first"
    assert shown["digest"][:12] in vea("show", store / "tiny-1.0.mar").stdout
    tampered = other_version(
        store / "tiny-1.0.mar", tmp_path / "t.mar", version="1.0", files={"x.py": ""}, sealed=False
    )
    assert isinstance(vea("show", tampered).exception, ArchiveError)


def test_commands_for_a_server_say_that_there_is_none(store: Path, tmp_path: Path) -> None:
    state = ("--state", tmp_path / "state")
    for arguments in (
        ("promote", store / "tiny-2.0.mar", *state),
        ("rollback", *state),
        ("remove", "1.0", *state),
        ("show", "1.0", *state),
    ):
        shown = vea(*arguments)
        assert "no server runs in" in str(shown.exception)
