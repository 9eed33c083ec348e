"""Stimuli selection: grid cells as objects, the largest face, the colour image."""

from __future__ import annotations

import threading
from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from handler.stimuli.faces.dlib_faces import DlibFaces
from handler.stimuli.faces.search import FaceDetectorMissing
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.objects.source import build_object_source
from handler.stimuli.selector import StimuliSelector, fit_colour
from handler.values.configs import FaceConfig, SelectorConfig


def tensor_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def grid() -> GridObjects:
    """Five of the nine cells of a 96x96 view, with random weights."""
    torch.manual_seed(2)
    return GridObjects(size=96, count=5)


def _area(box: list[int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


# --- objects ------------------------------------------------------------------------------------


def test_all_cells_together_tile_the_image_without_overlap(grid: GridObjects) -> None:
    torch.manual_seed(2)
    whole = GridObjects(size=96, count=9)
    boxes = whole.select([noise(120, 90)]).boxes[0]
    covered = torch.zeros(120, 90)
    for left, top, right, bottom in boxes.round().int().tolist():
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 120
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()


def test_boxes_are_in_the_pixels_of_each_image(grid: GridObjects) -> None:
    small, large = noise(60, 30), noise(600, 300)
    boxes = grid.select([small, large]).boxes
    assert boxes[0].max() <= 60
    assert boxes[1, :, 2].max() <= 300
    assert boxes[1, :, 3].max() > 60
    width = boxes[:, :, 2] - boxes[:, :, 0]
    assert torch.allclose(width, torch.tensor([[10.0], [100.0]]).expand(2, 5), atol=1e-4)


def test_the_most_confident_cells_are_kept_with_the_features_of_the_backbone(
    grid: GridObjects,
) -> None:
    images = [noise(96, 96, seed) for seed in range(3)]
    found = grid.select(images)
    with torch.inference_mode():
        maps = grid.backbone(torch.stack(images))
    for row in range(3):
        cells = [maps[row, :, y, x] for y in range(3) for x in range(3)]
        logits = [grid.backbone.classifier(cell) for cell in cells]
        confidences = torch.stack([one.softmax(0).max() for one in logits])
        best = confidences.argsort(descending=True)[:5].tolist()
        assert torch.allclose(found.scores[row], confidences[best], atol=1e-6)
        for place, cell in enumerate(best):
            assert torch.allclose(found.features[row, place], cells[cell], atol=1e-5)
            assert found.labels[row, place] == logits[cell].argmax()
            x, y = (cell % 3) * 32.0, (cell // 3) * 32.0
            assert found.boxes[row, place].tolist() == pytest.approx([x, y, x + 32, y + 32])
    assert found.mask.all()


def test_the_cells_come_most_confident_first(grid: GridObjects) -> None:
    scores = grid.select([noise(96, 96)]).scores[0].tolist()
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_grid_smaller_than_the_count_yields_all_its_cells() -> None:
    found = GridObjects(size=64, count=10).select([noise(64, 64)])
    assert int(found.mask.sum()) == 4


def test_windows_of_a_level_overlap_and_reach_from_edge_to_edge() -> None:
    torch.manual_seed(2)
    found = GridObjects(size=224, count=14, levels=[1, 2, 3]).select([noise(224, 224)])
    boxes = sorted((found.boxes[0] / 32).round().int().tolist(), key=_area, reverse=True)
    assert boxes[0] == [0, 0, 7, 7]
    by_level = {2: (boxes[1:5], (0, 3), 4), 3: (boxes[5:], (0, 2, 4), 3)}
    for found_here, starts, length in by_level.values():
        expected = [[x, y, x + length, y + length] for y in starts for x in starts]
        assert sorted(found_here) == sorted(expected)


def test_a_window_is_the_mean_of_its_cells_and_named_by_that() -> None:
    torch.manual_seed(2)
    grid = GridObjects(size=160, count=5, levels=[1, 2])
    image = noise(160, 160)
    found = grid.select([image])
    with torch.inference_mode():
        cells = grid.backbone(image[None])[0]  # Fx5x5
    for place in range(5):
        left, top, right, bottom = (found.boxes[0, place] / 32).round().int().tolist()
        mean = cells[:, top:bottom, left:right].mean(dim=(1, 2))
        assert torch.allclose(found.features[0, place], mean, atol=1e-5)
        confidences = grid.backbone.classifier(mean).softmax(0)
        assert found.labels[0, place] == confidences.argmax()
        assert float(found.scores[0, place]) == pytest.approx(float(confidences.max()), rel=1e-4)


def test_more_windows_than_cells_are_still_windows() -> None:
    found = GridObjects(size=64, count=20, levels=[1, 3]).select([noise(64, 64)])
    assert int(found.mask.sum()) == 10
    assert torch.isfinite(found.features).all()


@pytest.mark.parametrize("levels", [[0], [1, -2], [1.5], ["all"]])
def test_levels_that_are_no_counts_are_refused(levels: list[object]) -> None:
    with pytest.raises(ValueError, match=r"levels are .* whole numbers"):
        GridObjects(size=64, levels=levels)


def test_the_object_source_stays_frozen_whatever_mode_is_asked_for(
    grid: GridObjects, landmarks: Path
) -> None:
    config = SelectorConfig(size=64, objects={"source": "grid", "size": 96, "count": 5})
    selector = StimuliSelector(config, landmarks=landmarks)
    selector.train()
    before = {name: value.clone() for name, value in selector.objects.state_dict().items()}
    selector.objects.select([noise(96, 96), noise(40, 80)])
    assert not any(part.training for part in selector.objects.modules())
    assert not any(p.requires_grad for p in selector.parameters())
    for name, value in selector.objects.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_every_label_has_a_name(grid: GridObjects) -> None:
    assert len(grid.vocabulary) == grid.backbone.classifier.out_features == 1000


@pytest.mark.parametrize("objects", [{"source": "yolo"}, {}, {"size": 64}])
def test_an_unknown_object_source_is_refused(objects: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="unknown object source"):
        build_object_source(objects)


# --- faces --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(landmarks: Path) -> DlibFaces:
    return DlibFaces(landmarks=landmarks, threads=2)


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    """Intersection over union of two boxes."""
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    inner = (high - low).clamp(min=0).prod()
    areas = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return float(inner / (areas - inner))


def test_a_face_is_found_inside_the_image_and_cut_to_48_pixels(
    faces: DlibFaces, portrait: Image.Image
) -> None:
    found = faces.select([tensor_of(portrait)])
    assert found.counts.tolist() == [1]
    assert found.mask.tolist() == [True]
    assert found.crops.shape == (1, 1, 48, 48)
    assert found.crops.dtype == torch.uint8
    assert found.crops.float().std() > 10
    left, top, right, bottom = found.boxes[0].tolist()
    assert 0 <= left < right <= portrait.width
    assert 0 <= top < bottom <= portrait.height
    assert found.scores[0] > 0


@pytest.mark.parametrize("scale", [0.75, 1.5, 2.5])
def test_the_box_of_a_face_is_in_original_pixels_whatever_the_scale(
    faces: DlibFaces, portrait: Image.Image, scale: float
) -> None:
    side = round(512 * scale)
    plain = faces.select([tensor_of(portrait)]).boxes[0]
    scaled = faces.select([tensor_of(portrait.resize((side, side)))]).boxes[0]
    assert overlap(plain * scale, scaled) > 0.7


def test_of_two_faces_the_largest_is_read_and_both_are_counted(
    faces: DlibFaces, portrait: Image.Image
) -> None:
    pair = Image.new("RGB", (864, 512), "grey")
    pair.paste(portrait.resize((352, 352)), (0, 80))
    pair.paste(portrait, (352, 0))
    found = faces.select([tensor_of(pair)])
    alone = faces.select([tensor_of(portrait)])
    assert found.counts.tolist() == [2]
    moved = alone.boxes[0] + torch.tensor([352.0, 0.0, 352.0, 0.0])
    assert overlap(found.boxes[0], moved) > 0.7


def test_without_a_face_there_are_zeros_and_the_mask_says_so(faces: DlibFaces) -> None:
    found = faces.select([noise(200, 200)])
    assert found.mask.tolist() == [False]
    assert found.counts.tolist() == [0]
    assert (found.crops == 0).all()
    assert (found.boxes == 0).all()
    assert (found.scores == 0).all()


def test_each_image_of_a_batch_keeps_its_own_face(faces: DlibFaces, portrait: Image.Image) -> None:
    face, none = tensor_of(portrait), noise(200, 200)
    batch = faces.select([none, face, none, face])
    assert batch.mask.tolist() == [False, True, False, True]
    alone = faces.select([face])
    for row in (1, 3):
        assert torch.equal(batch.crops[row], alone.crops[0])
        assert torch.equal(batch.boxes[row], alone.boxes[0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 5)])
def test_an_image_of_any_shape_can_be_searched(faces: DlibFaces, shape: tuple[int, int]) -> None:
    assert faces.select([noise(*shape)]).counts.tolist() == [0]


def test_a_missing_landmark_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.dat"):
        DlibFaces(landmarks=tmp_path / "nowhere.dat")


def test_each_doubling_finds_faces_half_as_large(landmarks: Path, portrait: Image.Image) -> None:
    small = Image.new("RGB", (448, 448), "grey")
    small.paste(portrait.resize((256, 256)), (100, 100))
    counts = [
        DlibFaces(landmarks=landmarks, upsample=times).select([tensor_of(small)]).counts.tolist()
        for times in (0, 1)
    ]
    assert counts == [[0], [1]]


def test_a_face_below_the_threshold_is_none(landmarks: Path, portrait: Image.Image) -> None:
    sure = DlibFaces(landmarks=landmarks, threshold=0.5).select([tensor_of(portrait)])
    assert sure.scores[0] > 0.5
    above = float(sure.scores[0]) + 0.1
    strict = DlibFaces(landmarks=landmarks, threshold=above).select([tensor_of(portrait)])
    assert strict.counts.tolist() == [0]


@pytest.fixture(scope="module")
def cnn(landmarks: Path, face_detector: Path) -> DlibFaces:
    return DlibFaces(landmarks=landmarks, detector=face_detector, backend="cnn", threads=4)


def test_the_network_finds_the_face_that_the_gradients_find(
    cnn: DlibFaces, faces: DlibFaces, portrait: Image.Image
) -> None:
    found, known = cnn.select([tensor_of(portrait)]), faces.select([tensor_of(portrait)])
    assert found.counts.tolist() == [1]
    assert overlap(found.boxes[0], known.boxes[0]) > 0.5
    assert found.scores[0] > 0
    # Both are aligned by the eyes and the nose: the crops show the same.
    pair = torch.stack([found.crops[0].flatten(), known.crops[0].flatten()]).float()
    assert torch.corrcoef(pair)[0, 1] > 0.8


def test_a_face_below_the_threshold_of_the_network_is_none(
    landmarks: Path, face_detector: Path, portrait: Image.Image
) -> None:
    strict = DlibFaces(landmarks=landmarks, detector=face_detector, backend="cnn", threshold=5.0)
    assert strict.select([tensor_of(portrait)]).counts.tolist() == [0]


def test_images_pass_through_the_network_one_at_a_time(
    landmarks: Path, face_detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, threads = dlib.cnn_face_detection_model_v1, []

    def load_watched(file: str) -> object:
        network = load(file)

        def watched(pixels: np.ndarray, upsample: int) -> object:
            threads.append(threading.get_ident())
            return network(pixels, upsample)

        return watched

    monkeypatch.setattr(dlib, "cnn_face_detection_model_v1", load_watched)
    cnn = DlibFaces(landmarks=landmarks, detector=face_detector, backend="cnn", side=64, threads=4)
    searches = [cnn.start([noise(60, 60, seed) for seed in range(4)]) for _ in range(2)]
    for search in searches:
        search.collect()
    assert len(threads) == 8
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_the_network_without_its_file_is_refused_in_one_line(
    landmarks: Path, tmp_path: Path
) -> None:
    for file in (None, tmp_path / "nowhere.dat"):
        with pytest.raises(FaceDetectorMissing, match="mmod_human_face_detector") as caught:
            DlibFaces(landmarks=landmarks, detector=file, backend="cnn")
        assert "\n" not in str(caught.value)
    assert "nowhere.dat" in str(caught.value)


def test_an_unknown_face_search_is_refused_in_one_line(landmarks: Path) -> None:
    with pytest.raises(FaceDetectorMissing, match="'haar': expected 'hog' or 'cnn'"):
        DlibFaces(landmarks=landmarks, backend="haar")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("backend", "haar", "'haar'"),
        ("side", 0, "0"),
        ("side", "large", "the text 'large'"),
        ("upsample", -1, "-1"),
        ("upsample", 0.5, "0.5"),
        ("threshold", "high", "high"),
    ],
)
def test_a_wrong_setting_of_the_face_search_is_named(name: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=rf"faces\.{name} is {said}: expected"):
        FaceConfig(**{name: value})


# --- colour and all together --------------------------------------------------------------------


def test_squashing_keeps_all_of_the_picture_and_cutting_keeps_its_centre() -> None:
    picture = torch.zeros(3, 40, 120, dtype=torch.uint8)
    picture[0, :, :40], picture[1, :, 40:80], picture[2, :, 80:] = 255, 255, 255
    squashed = fit_colour(picture, SelectorConfig(size=30, fit="squash"))
    cut = fit_colour(picture, SelectorConfig(size=30, fit="crop", resize=30))
    assert squashed.shape == cut.shape == (3, 30, 30)
    assert squashed[:, 15, 4].argmax() == 0
    assert squashed[:, 15, 15].argmax() == 1
    assert squashed[:, 15, 26].argmax() == 2
    assert (cut[:, 15, 2:-2].argmax(dim=0) == 1).all()


def test_cutting_is_the_papers_resize_and_centre_crop(photo) -> None:
    picture = tensor_of(photo(3, (130, 100)))
    shorter = transforms.resize(picture, [80], antialias=True)
    expected = transforms.center_crop(shorter, [64, 64])
    assert torch.equal(
        fit_colour(picture, SelectorConfig(size=64, fit="crop", resize=80)), expected
    )


@pytest.mark.parametrize("shape", [(3, 1, 30000), (3, 30000, 1)])
def test_cutting_a_thread_of_pixels_takes_no_more_memory_than_its_centre(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    interpolate = functional.interpolate

    def watched(images: torch.Tensor, *, size: list[int], **options) -> torch.Tensor:
        made.append(size[0] * size[1])
        assert made[-1] < 1_000_000, "the picture would be enlarged beyond measure"
        return interpolate(images, size=size, **options)

    monkeypatch.setattr(functional, "interpolate", watched)
    config = SelectorConfig(size=64, fit="crop", resize=80)
    assert fit_colour(torch.zeros(shape, dtype=torch.uint8), config).shape == (3, 64, 64)
    assert made


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="fit is 'stretch'"):
        SelectorConfig(fit="stretch")


def test_images_of_different_sizes_are_selected_together(landmarks: Path) -> None:
    config = SelectorConfig(size=64, objects={"source": "grid", "size": 96, "count": 5})
    selector = StimuliSelector(config, landmarks=landmarks)
    images = [noise(50, 80), noise(1, 1), noise(200, 30)]
    stimuli = selector.select(images)
    assert stimuli.colour.shape == (3, 3, 64, 64)
    assert stimuli.colour.dtype == torch.uint8
    assert stimuli.objects.features.shape == (3, 5, 1280)
    assert stimuli.faces.crops.shape == (3, 1, 48, 48)
    alone = selector.select(images[:1])
    assert torch.equal(alone.colour[0], stimuli.colour[0])
    assert torch.allclose(alone.objects.features[0], stimuli.objects.features[0], atol=1e-4)


def test_faces_are_searched_while_the_object_source_works(
    landmarks: Path, portrait: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever comes first waits for the other: one after the other they would never meet.
    together = threading.Barrier(2, timeout=30)
    detector = dlib.get_frontal_face_detector()

    class MeetingDetector:
        def run(self, *image: object) -> object:
            together.wait()
            return detector.run(*image)

    monkeypatch.setattr(dlib, "get_frontal_face_detector", MeetingDetector)
    config = SelectorConfig(size=64, objects={"source": "grid", "size": 96, "count": 5})
    selector = StimuliSelector(config, landmarks=landmarks)
    select = selector.objects.select

    def meeting_select(images: list[torch.Tensor]) -> object:
        together.wait()
        return select(images)

    selector.objects.select = meeting_select
    stimuli = selector.select([tensor_of(portrait)])
    assert not together.broken
    assert stimuli.faces.counts.tolist() == [1]
    assert int(stimuli.objects.mask.sum()) == 5


def test_the_face_search_of_the_settings_is_the_one_that_runs(
    landmarks: Path, face_detector: Path, portrait: Image.Image
) -> None:
    faces = {"backend": "cnn", "side": 300, "upsample": 0, "threshold": 0.25}
    objects = {"source": "grid", "size": 96, "count": 5}
    config = SelectorConfig.from_dict({"size": 64, "objects": objects, "faces": faces})
    selector = StimuliSelector(config, landmarks=landmarks, face_detector=face_detector)
    alone = DlibFaces(landmarks=landmarks, detector=face_detector, **faces)
    found = selector.select([tensor_of(portrait)]).faces
    assert torch.equal(found.boxes, alone.select([tensor_of(portrait)]).boxes)
    with pytest.raises(FaceDetectorMissing):
        StimuliSelector(config, landmarks=landmarks)
