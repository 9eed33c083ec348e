"""The light detector as an object source: what it makes of what its network tells of each cell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights
from torchvision.ops import box_iou, nms

from handler.archive.writing import write_model_folder
from handler.network import StimuliAwareNetwork
from handler.predictor import Predictor
from handler.stimuli.objects.coco_names import COCO_NAMES, name_scores, offsets
from handler.stimuli.objects.light import LightObjects
from handler.stimuli.objects.source import build_object_source
from handler.stimuli.objects.suppression import distinct_boxes, overlaps
from handler.stimuli.selector import StimuliSelector
from handler.stimuli.stimuli import Objects
from handler.values.archive_config import ArchiveConfig
from handler.values.configs import NetworkConfig, SelectorConfig, SemanticConfig
from train.compiling.build import add_compiled_form

SIDE = 64  # pixels: maps of 8x8, 4x4 and 2x2 cells
CELLS = 64 + 16 + 4
THINGS, SIDES = slice(128, 208), slice(208, 252)
PERSON, DOG, CUP = (COCO_NAMES.index(name) for name in ("person", "dog", "cup"))


class Told(nn.Module):
    """A trunk that says of every image what it was told to."""

    def __init__(self, *images: torch.Tensor) -> None:
        super().__init__()
        self.images = torch.stack(images)
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        return self.images


def nothing() -> torch.Tensor:
    """No thing anywhere; the features of a cell are its column, then its row, in pixels."""
    cells = torch.zeros(252, CELLS)
    cells[THINGS] = -10.0
    start = 0
    for count, stride in ((8, 8), (4, 16), (2, 32)):
        middle = (torch.arange(count) + 0.5) * stride
        cells[0, start : start + count**2] = middle.repeat(count)
        cells[1, start : start + count**2] = middle.repeat_interleave(count)
        start += count**2
    return cells


def put(
    cells: torch.Tensor, at: int, thing: int, chance: float, sides: tuple[int, int, int, int]
) -> torch.Tensor:
    """A thing in a cell; its sides are so many cells away: left, top, right, bottom."""
    cells[128 + thing, at] = torch.tensor(chance).logit()
    for side, bins in enumerate(sides):
        cells[208 + 11 * side : 219 + 11 * side, at] = -100.0
        cells[208 + 11 * side + bins, at] = 100.0
    return cells


def found(
    *cells: torch.Tensor, size: tuple[int, int] = (SIDE, SIDE), **settings: object
) -> Objects:
    source = LightObjects(size=SIDE, compiled=Told(*cells), **settings)
    return source.select([torch.zeros(3, *size, dtype=torch.uint8)] * len(cells))


def names(objects: Objects, image: int = 0) -> list[str]:
    return [COCO_NAMES[label] for label in objects.labels[image][objects.mask[image]].tolist()]


def test_a_box_lies_around_the_centre_of_its_cell_in_pixels_as_decoded() -> None:
    # The cell of row 3, column 2 of the finest map: its centre is at (20, 28).
    cells = put(nothing(), 8 * 3 + 2, DOG, 0.8, (2, 1, 3, 4))
    objects = found(cells, size=(SIDE, SIDE))
    assert names(objects) == ["dog"]
    assert objects.scores[0, 0] == pytest.approx(0.8)
    assert objects.boxes[0, 0].tolist() == pytest.approx([4, 20, 44, 60])
    wide = found(cells, size=(32, 192))
    assert wide.boxes[0, 0].tolist() == pytest.approx([12, 10, 132, 30])


def test_coarser_maps_have_longer_cells_and_boxes_end_with_the_picture() -> None:
    middle = put(nothing(), 64 + 4 * 1 + 1, DOG, 0.8, (1, 0, 1, 2))
    assert found(middle).boxes[0, 0].tolist() == pytest.approx([8, 24, 40, 56])
    coarse = put(nothing(), 80 + 3, DOG, 0.8, (10, 1, 10, 10))
    assert found(coarse).boxes[0, 0].tolist() == pytest.approx([0, 16, 64, 64])


def test_a_side_is_the_mean_of_its_distribution() -> None:
    cells = put(nothing(), 8 * 3 + 2, DOG, 0.8, (2, 1, 3, 4))
    cells[208 : 208 + 11, 8 * 3 + 2] = -100.0
    cells[[208 + 1, 208 + 2], 8 * 3 + 2] = 0.0  # as likely one cell as two
    assert found(cells).boxes[0, 0, 0] == pytest.approx(20 - 1.5 * 8)


def test_regions_come_most_confident_first_and_near_copies_are_dropped() -> None:
    cells = put(nothing(), 9, DOG, 0.6, (1, 1, 1, 1))
    put(cells, 8 * 5 + 5, PERSON, 0.9, (2, 2, 2, 2))
    put(cells, 8 * 5 + 6, CUP, 0.7, (3, 2, 1, 2))  # the person's box, under another name
    objects = found(cells)
    assert names(objects) == ["person", "dog"]
    assert objects.scores[0].tolist() == pytest.approx([0.9, 0.6] + [0.0] * 8)
    assert names(found(cells, nms=1.0)) == ["person", "cup", "dog"]


def test_only_so_many_regions_are_kept_and_what_is_missing_is_zeros() -> None:
    cells = nothing()
    for number in range(12):
        put(cells, 5 * number, DOG, 0.9 - number / 50, (0, 0, 1, 1))
    assert found(cells).mask.tolist() == [[True] * 10]
    few = found(put(nothing(), 9, DOG, 0.6, (1, 1, 1, 1)), count=4)
    assert few.mask.tolist() == [[True, False, False, False]]
    for part in (few.features, few.boxes, few.scores, few.labels):
        assert (part[0, 1:] == 0).all()
    assert few.attributes is None


def test_where_nothing_is_found_the_whole_picture_is_the_region() -> None:
    cells = put(nothing(), 9, DOG, 0.25, (1, 1, 1, 1))
    objects = found(cells, size=(40, 50), count=3)
    assert objects.mask.tolist() == [[True, False, False]]
    assert objects.boxes[0, 0].tolist() == pytest.approx([0, 0, 50, 40])
    assert objects.scores[0, 0] == pytest.approx(0.25), "what a name would have to be told from"
    assert objects.features[0, 0, [0, 1]].tolist() == pytest.approx([32, 32])
    assert names(found(cells, least_score=0.2)) == ["dog"]


def test_the_feature_of_a_region_is_the_mean_of_each_map_over_its_box() -> None:
    cells = put(nothing(), 8 * 3 + 2, DOG, 0.8, (2, 1, 3, 4))
    objects = found(cells)
    assert objects.features.shape == (1, 10, 384)
    # The box is (4, 20, 44, 60). A cell counts as far as the box covers it: of the coarsest map's
    # two columns 28 and 12 pixels, of its rows 12 and 28.
    coarsest = objects.features[0, 0, 256:258].tolist()
    assert coarsest == pytest.approx([(28 * 16 + 12 * 48) / 40, (12 * 16 + 28 * 48) / 40])
    finest = objects.features[0, 0, 0:2].tolist()
    assert finest == pytest.approx([24, 40])


def test_images_of_a_batch_do_not_change_each_other() -> None:
    one = put(nothing(), 9, DOG, 0.6, (1, 1, 1, 1))
    other = put(nothing(), 8 * 5 + 5, PERSON, 0.9, (2, 2, 2, 2))
    both = found(one, other, nothing())
    for row, cells in enumerate((one, other, nothing())):
        alone = found(cells)
        for part in ("boxes", "scores", "labels", "mask", "features"):
            assert torch.equal(getattr(both, part)[row], getattr(alone, part)[0])


def test_the_detector_sees_the_picture_squashed_to_its_size(photo) -> None:
    trunk = Told(nothing())
    source = LightObjects(size=SIDE, compiled=trunk)
    source.select([torch.full((3, 30, 90), 200, dtype=torch.uint8)])
    (seen,) = trunk.seen
    assert seen.shape == (1, 3, SIDE, SIDE)
    assert seen.dtype == torch.uint8
    assert (seen == 200).all()


def test_the_names_are_the_80_things_of_coco() -> None:
    listed = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
    theirs = [name for name in listed if name not in ("__background__", "N/A")]
    assert list(LightObjects(size=SIDE).vocabulary) == theirs


@pytest.mark.parametrize("size", [0, 32, 100, 64.0])
def test_a_size_that_the_maps_do_not_fit_is_refused(size: float) -> None:
    with pytest.raises(ValueError, match="size"):
        LightObjects(size=size)


def test_the_source_stays_frozen_whatever_mode_is_asked_for() -> None:
    source = build_object_source({"source": "light", "size": SIDE})
    source.train()
    assert not any(part.training for part in source.modules())
    assert not any(p.requires_grad for p in source.parameters())


# --- names ---------------------------------------------------------------------------------------


def test_persons_are_named_where_other_things_of_that_confidence_are_not() -> None:
    cells = put(nothing(), 9, DOG, 0.9, (1, 1, 1, 1))
    put(cells, 8 * 5 + 5, PERSON, 0.6, (2, 2, 2, 2))
    put(cells, 8 * 7 + 1, CUP, 0.55, (1, 1, 0, 0))
    objects = found(cells)
    assert names(objects) == ["dog", "person", "cup"]
    assert torch.equal(objects.names, objects.labels)
    dog, person, cup = objects.name_scores[0, :3].tolist()
    assert dog == 0, "animals are taken for each other at any confidence"
    threshold = LightObjects(size=SIDE).name_threshold
    assert person > threshold > cup > 0.5
    assert (objects.name_scores[0, 3:] == 0).all()


def test_the_score_of_a_name_grows_with_the_confidence_and_stays_a_probability() -> None:
    confidence = torch.tensor([0.0, 0.3, 0.5, 0.7, 0.99, 1.0])
    scores = name_scores(confidence, torch.full((6,), PERSON), offsets())
    assert scores.diff().min() > 0
    assert scores[0] < 0.01
    assert 0.99 < scores[-1] <= 1
    assert scores[2] == pytest.approx(0.886, abs=0.01), "see docs/research/detected-objects.md"


# --- near copies ---------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 50), st.floats(0.1, 0.9))
def test_near_copies_are_those_that_torchvision_drops(
    seed: int, rows: int, count: int, threshold: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(rows, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + torch.rand(rows, 2, generator=generator) * 40], dim=1)
    assert torch.allclose(overlaps(boxes, boxes), box_iou(boxes, boxes), atol=1e-5)
    scores = torch.linspace(1, 0.5, rows)
    assert distinct_boxes(boxes, threshold, count) == nms(boxes, scores, threshold).tolist()[:count]


# --- in a model ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, landmarks: Path) -> Path:
    """A model folder with the light source, random weights, and a compiled form."""
    network = NetworkConfig(
        global_backbone=None,
        object_features=384,
        semantic=SemanticConfig(hidden=8, attention=8, steps=2),
        expression_width=None,
    )
    objects = {"source": "light", "size": 96, "count": 4, "least_score": 0.05}
    selector = SelectorConfig(size=64, objects=objects)
    folder = tmp_path_factory.mktemp("light")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        built = StimuliSelector(selector, landmarks=landmarks)
        for part in built.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, 0.1)
        for head in built.objects.detector.trunk.heads:
            nn.init.constant_(head[1].bias[:80], -6.0)
        organism = StimuliAwareNetwork(network)
    write_model_folder(
        folder / "plain",
        config=ArchiveConfig("light", "0.1", network, selector),
        network=organism,
        selector=built,
        landmarks=landmarks,
        card={"training": {"data": "none"}},
    )
    add_compiled_form(folder / "plain", folder / "model", None)
    return folder / "model"


def test_the_compiled_form_finds_what_torch_finds(model: Path, photo, encode) -> None:
    pictures = [encode(photo(seed, (90, 60 + seed)), "PNG") for seed in range(3)]
    plain, compiled = (
        Predictor.load(model, runtime=name).predict(pictures) for name in ("torch", "onnx")
    )
    assert Predictor.load(model, runtime="onnx").model.runtime == "onnx"
    assert sum(len(answer.objects) for answer in plain) > 3
    for one, other in zip(plain, compiled, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(
            list(other.probabilities.values()), abs=1e-4
        )
        assert [item.label for item in one.objects] == [item.label for item in other.objects]
        for mine, theirs in zip(one.objects, other.objects, strict=True):
            assert mine.box == pytest.approx(theirs.box, abs=0.1)
            assert mine.score == pytest.approx(theirs.score, abs=1e-3)


@pytest.mark.integration
def test_the_detector_runs_without_torchvision(model: Path, photo, tmp_path: Path) -> None:
    photo(1).save(tmp_path / "one.png")
    code = f"""
import sys
from pathlib import Path
from handler.predictor import Predictor
data = Path({str(tmp_path / "one.png")!r}).read_bytes()
for runtime in ("onnx", "torch"):
    (answer,) = Predictor.load({str(model)!r}, runtime=runtime).predict([data])
    assert answer.objects
print([name for name in ("torchvision", "timm") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
