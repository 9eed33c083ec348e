"""The paper's whole path with the program's own commands, from published files to parquet.

The files are random numbers in the published layouts, and the detector sees small pictures, so
nothing is learned; everything else is as a user would do it. Skips without detectron2.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from published_weights import airsplay, face_resnet, save_face_resnet, vocabulary
from torchserve_server import ask
from torchvision.models import resnet50

from handler.archive.loading import load_archive
from handler.predictor import Predictor
from handler.values.emotions import MIKELS
from handler.values.prediction import Prediction
from tests.program import vea
from vea.serving.server import TorchServe

pytestmark = [pytest.mark.integration, pytest.mark.long]

PHOTOS = Path(__file__).resolve().parents[2] / "vea" / "photos"
OBJECTS = [f"thing {number}" for number in range(20)]
ATTRIBUTES = [f"quality {number}" for number in range(7)]
# The recipe as it is, on smaller pictures and fewer proposals: minutes become seconds.
SMALLER = {
    "selector.size": 96,
    "selector.resize": 104,
    "selector.objects.short_side": 96,
    "selector.objects.proposals": 12,
    "selector.objects.name_threshold": 0.0,  # random weights are sure of nothing
    "training.crop": 96,
    "training.batch_size": 4,
    "training.epochs": 1,
}


@dataclass
class Workshop:
    """A folder with everything in it. Attributes: root: of it; said: what each command printed."""

    root: Path
    said: dict[str, str]

    @property
    def archive(self) -> Path:
        return self.root / "store" / "vea-paper-0.1.mar"

    def vea(self, *arguments: object) -> str:
        """What a command that succeeds prints."""
        environment = {"VEA_WEIGHTS": str(self.root / "weights"), "COLUMNS": "200"}
        ended = vea(*arguments, cwd=self.root, env=environment)
        assert ended.returncode == 0, f"vea {arguments}: {ended.stdout}{ended.stderr}"
        return ended.stdout


def readable_photos() -> list[Path]:
    return sorted(p for p in PHOTOS.iterdir() if p.suffix != ".md" and p.stem != "broken")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    pytest.importorskip("detectron2", reason="detectron2 is not installed: make detectron2")
    root = tmp_path_factory.mktemp("paper")
    made = Workshop(root, {})
    detector = root / "faster_rcnn_from_caffe_attr.pkl"
    arrays = {name: value.numpy() for name, value in airsplay().items()}
    detector.write_bytes(pickle.dumps({"model": arrays}, protocol=2))
    torch.save(resnet50(weights=None).state_dict(), root / "resnet50.pth")
    save_face_resnet(root / "PrivateTest_model_resnet18.t7", face_resnet(width=64))
    made.said["detector"] = made.vea(
        *("import-weights", detector, "--name", "visual-genome"),
        *("--objects", vocabulary(root / "objects.txt", OBJECTS)),
        *("--attributes", vocabulary(root / "attributes.txt", ATTRIBUTES)),
    )
    made.said["global"] = made.vea("import-weights", root / "resnet50.pth")
    made.said["faces"] = made.vea("import-weights", root / "PrivateTest_model_resnet18.t7")
    for file in root.glob("*.p*"):
        file.unlink()

    photos = readable_photos()
    for number, photo in enumerate(photos):
        split = "val" if number % 3 == 2 else "train"
        folder = root / "photos" / split / MIKELS.labels[number % 2 * 4]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / photo.name).symlink_to(photo)
    overrides = [part for key, value in SMALLER.items() for part in ("--set", f"{key}={value}")]
    recipe = ["--recipe", "paper", "--data", root / "photos", "--cache", root / "stimuli"]
    made.said["cache"] = made.vea("cache", *recipe, *overrides)
    made.said["train"] = made.vea("train", *recipe, *overrides)
    made.said["package"] = made.vea(
        *("package", root / "runs" / "paper" / "model"),
        *("--name", "vea-paper", "--version", "0.1", "--to", root / "store"),
    )
    return made


@pytest.fixture(scope="module")
def served(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    with TorchServe.running(workshop.archive, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def predicted(workshop: Workshop) -> dict[str, Prediction]:
    """What the archive says in this process, with reasons."""
    photos = readable_photos()
    answers = Predictor.load(workshop.archive).predict(
        [photo.read_bytes() for photo in photos], explain=True
    )
    assert all(isinstance(answer, Prediction) for answer in answers)
    return dict(zip((photo.name for photo in photos), answers, strict=True))  # type: ignore[arg-type]


def test_published_files_are_taken_in_and_found_by_the_recipe(workshop: Workshop) -> None:
    assert "20" in workshop.said["detector"]
    names = {file.name for file in (workshop.root / "weights").iterdir()}
    assert {
        "visual-genome.safetensors",
        "imagenet-resnet50.safetensors",
        "fer2013-resnet18.safetensors",
    } <= names


def test_training_finds_every_photo_in_the_cache(workshop: Workshop) -> None:
    count = len(readable_photos())
    assert f"{count} photos: {count} new, 0 refused" in workshop.said["cache"]
    assert "the model is in" in workshop.said["train"]


def test_the_archive_is_the_papers_network_and_needs_nothing_beside_it(workshop: Workshop) -> None:
    archive = load_archive(workshop.archive)
    network = archive.network
    assert network.global_net is not None
    assert network.semantic_net is not None
    assert network.expression_net is not None
    sizes = [
        branch.feature_size
        for branch in (network.global_net, network.semantic_net, network.expression_net)
    ]
    assert sizes == [2048, 512, 512]
    assert archive.selector.objects.vocabulary == tuple(OBJECTS)
    assert archive.selector.objects.attributes == tuple(ATTRIBUTES)


def test_objects_come_with_label_attribute_score_attention_and_box(
    predicted: dict[str, Prediction],
) -> None:
    for answer in predicted.values():
        assert 1 <= len(answer.objects) <= 10
        assert sum(item.attention for item in answer.objects) == pytest.approx(1.0, abs=1e-4)
        for item in answer.objects:
            assert item.label in OBJECTS
            assert item.attribute in ATTRIBUTES
            assert 0 < item.score <= 1
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= answer.width
            assert 0 <= y1 < y2 <= answer.height


def test_torchserve_gives_the_same_answers_and_reasons(
    served: TorchServe, predicted: dict[str, Prediction]
) -> None:
    for photo in readable_photos()[:4]:
        code, answer = ask(served, photo.read_bytes(), {"X-Explain": "true"})
        assert code == 200, answer
        expected = predicted[photo.name]
        assert answer["emotion"] == expected.emotion
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
        assert [item["label"] for item in answer["objects"]] == [i.label for i in expected.objects]
        assert [item["attribute"] for item in answer["objects"]] == [
            item.attribute for item in expected.objects
        ]


def test_a_list_is_scored_with_it(workshop: Workshop, predicted: dict[str, Prediction]) -> None:
    manifest = workshop.root / "list.txt"
    manifest.write_text(
        "".join(f"{photo}\n" for photo in [*readable_photos(), PHOTOS / "broken.jpg"])
    )
    out = workshop.root / "predictions"
    said = workshop.vea("score", manifest, "--out", out, "--model", workshop.archive, "--json")
    assert json.loads(said)["failed"] == 1
    rows = pd.read_parquet(out)
    ok = rows[rows["status"] == "ok"]
    assert len(ok) == len(predicted)
    for row in ok.to_dict("records"):
        expected = predicted[Path(row["image"]).name]
        assert row["emotion"] == expected.emotion
        for label, probability in expected.probabilities.items():
            assert row[f"p_{label}"] == pytest.approx(probability, abs=1e-4)
