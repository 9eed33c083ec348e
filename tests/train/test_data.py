"""Batches: which photos they hold, how their colour is augmented, and that both can be repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.archive.loading import load_archive
from handler.images import decode
from handler.stimuli.selector import StimuliSelector, fit_colour
from handler.values.configs import SelectorConfig
from train.fitting.augment import apply_seeded, build_augmentation
from train.fitting.data import (
    ResumableBatchSampler,
    Sample,
    StimuliDataset,
    default_workers,
    training_loader,
    validation_loader,
)
from train.recipes.training import TrainingConfig
from train.seeds import derived_seed
from train.stimuli.cache import CacheError, SelectorFiles, build_cache

LITE = TrainingConfig(batch_size=6, crop=32)
PAPER = TrainingConfig(batch_size=6, augment="random_crop", crop=48, colour=False)


@pytest.fixture(scope="module")
def selector(tiny_model: Path) -> StimuliSelector:
    return load_archive(tiny_model).selector


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, photo, encode) -> pd.DataFrame:
    """Twenty photos, the fourth of which cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{i:02}.jpg" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(encode(photo(i, (120, 90)), "JPEG") if i != 3 else b"no photo")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return pd.DataFrame({"path": [str(path) for path in paths], "sha256": digests})


Open = Callable[..., StimuliDataset]


@pytest.fixture(scope="module")
def dataset(
    table: pd.DataFrame, selector: StimuliSelector, landmarks: Path, tmp_path_factory
) -> Open:
    """Opens the photos as a data set whose labels are the row numbers."""
    root = tmp_path_factory.mktemp("cache")
    files = SelectorFiles(landmarks)
    caches = {
        colour: build_cache(table, selector, root, files=files, colour=colour)
        for colour in (True, False)
    }

    def make(config: TrainingConfig | None = None, *, colour: bool = True, **options):
        options = {"selector": selector.config, "paths": table["path"]} | options
        return StimuliDataset(
            caches[colour], labels=range(20), training=config, **{"seed": 1, **options}
        )

    return make


def epoch(dataset: StimuliDataset, config: TrainingConfig, *, seed: int = 1, workers: int = 0):
    loader = training_loader(dataset, config, seed=seed, workers=workers)
    return [(stimuli, target.tolist()) for stimuli, target in loader]


def labels(batches) -> list[int]:
    return [label for _, target in batches for label in target]


READABLE = [row for row in range(20) if row != 3]


def test_a_data_set_leaves_out_what_could_not_be_read(dataset: Open) -> None:
    assert len(dataset()) == 19
    _, target = dataset().__getitems__([2, 3, 18])
    assert target.tolist() == [2, 4, 19]


def test_validation_sees_every_readable_photo_once_in_order_and_whole(dataset: Open) -> None:
    batches = list(validation_loader(dataset(), batch_size=7))
    assert torch.cat([target for _, target in batches]).tolist() == READABLE
    assert torch.equal(batches[0][0].colour, dataset().cache.stimuli([0, 1, 2, 4, 5, 6, 7]).colour)


def test_training_shuffles_by_its_seed_and_crops_the_colour_image(dataset: Open) -> None:
    batches = epoch(dataset(LITE), LITE)
    assert [len(target) for _, target in batches] == [6, 6, 6], "a short last batch is left out"
    assert len(set(labels(batches))) == 18
    assert all(stimuli.colour.shape == (6, 3, 32, 32) for stimuli, _ in batches)
    assert all(stimuli.colour.dtype == torch.uint8 for stimuli, _ in batches)
    again = epoch(dataset(LITE), LITE)
    assert labels(again) == labels(batches) != labels(epoch(dataset(LITE), LITE, seed=2))
    for (one, _), (other, _) in zip(batches, again, strict=True):
        assert torch.equal(one.colour, other.colour)


def test_objects_and_faces_go_with_their_photo(dataset: Open) -> None:
    for stimuli, target in epoch(dataset(LITE), LITE):
        whole = dataset().cache.stimuli(target)
        assert torch.equal(stimuli.objects.features, whole.objects.features)
        assert torch.equal(stimuli.faces.crops, whole.faces.crops)


def test_every_epoch_has_its_own_order_and_its_own_views(dataset: Open) -> None:
    of_epoch = [dataset(LITE).__getitems__([Sample(0, e)])[0].colour for e in (0, 1, 0)]
    assert torch.equal(of_epoch[0], of_epoch[2])
    assert not torch.equal(of_epoch[0], of_epoch[1])
    batches = ResumableBatchSampler(19, batch_size=6, seed=1)
    first = [draw.position for batch in batches for draw in batch]
    batches.steps_done = lambda: 3
    second = [draw.position for batch in batches for draw in batch]
    assert first != second
    assert len(set(second)) == 18


def test_a_view_depends_on_the_photo_and_not_on_its_neighbours(dataset: Open) -> None:
    alone = dataset(LITE).__getitems__([Sample(7, 2)])[0].colour[0]
    among = dataset(LITE).__getitems__([Sample(1, 2), Sample(7, 2), Sample(2, 2)])[0].colour[1]
    assert torch.equal(alone, among)


def test_augmentation_leaves_the_cache_and_the_generator_of_torch_alone(dataset: Open) -> None:
    before, state = dataset().cache.stimuli([0]).colour, torch.get_rng_state()
    dataset(LITE).__getitems__([Sample(0, 0)])
    assert torch.equal(torch.get_rng_state(), state)
    epoch(dataset(LITE), LITE)
    assert torch.equal(before, dataset().cache.stimuli([0]).colour)


def test_half_of_the_views_are_mirrored_if_the_recipe_says_so() -> None:
    left = torch.zeros(3, 64, 64, dtype=torch.uint8)
    left[..., :32] = 200

    def mirrored(config: TrainingConfig) -> int:
        views = build_augmentation(config, SelectorConfig())
        seen = [apply_seeded(views, left, seed).float().mean(dim=(0, 1)) for seed in range(80)]
        return sum(bool(row[0] < row[-1]) for row in seen)

    whole = replace(LITE, crop_scale=(0.9, 1.0))
    assert 20 < mirrored(whole) < 60
    assert mirrored(replace(whole, flip=False)) == 0


# --- colour that the cache does not keep --------------------------------------------------------


@pytest.mark.parametrize("config", [LITE, None])
def test_decoded_colour_is_the_colour_that_a_cache_would_have_kept(
    dataset: Open, config: TrainingConfig | None
) -> None:
    samples = [Sample(position, 1) for position in (0, 4, 18)]
    kept, _ = dataset(config).__getitems__(samples)
    decoded, _ = dataset(config, colour=False).__getitems__(samples)
    assert torch.equal(kept.colour, decoded.colour)
    assert torch.equal(kept.objects.features, decoded.objects.features)


def test_the_papers_crop_comes_from_the_photo_resized_by_its_shorter_side(
    dataset: Open, table: pd.DataFrame
) -> None:
    crop = SelectorConfig(size=48, fit="crop", resize=60)
    photo = decode(Path(table["path"][5]).read_bytes())  # 120x90 pixels: becomes 80x60
    seen, _ = dataset(replace(PAPER, flip=False), colour=False, selector=crop).__getitems__(
        [Sample(4, e) for e in range(12)]
    )
    assert seen.colour.shape == (12, 3, 48, 48)
    whole = torch.nn.functional.interpolate(
        photo[None].float(), size=(60, 80), mode="bilinear", antialias=True
    )
    patches = torch.nn.functional.unfold(whole, 48)[0]  # every 48x48 cut of the resized photo
    distances = [
        (patches - view.float().reshape(-1, 1)).abs().mean(0).min() for view in seen.colour
    ]
    assert max(distances) < 1.0
    assert len({view.numpy().tobytes() for view in seen.colour}) > 6


def test_validation_of_the_paper_sees_the_centre(dataset: Open, table: pd.DataFrame) -> None:
    crop = SelectorConfig(size=48, fit="crop", resize=60)
    seen, _ = dataset(colour=False, selector=crop).__getitems__([4])
    photo = decode(Path(table["path"][5]).read_bytes())
    assert torch.equal(seen.colour[0], fit_colour(photo, crop))


def test_a_thread_of_pixels_is_not_enlarged_to_a_sheet() -> None:
    selector = SelectorConfig(size=48, fit="crop", resize=60)
    thread = torch.zeros(3, 2, 20_000, dtype=torch.uint8)
    assert apply_seeded(build_augmentation(PAPER, selector), thread, 1).shape == (3, 48, 48)


def test_processes_that_load_give_the_same_batches(dataset: Open) -> None:
    selector = SelectorConfig(size=48, fit="crop", resize=60)
    open_photos = dataset(PAPER, colour=False, selector=selector)
    here, there = epoch(open_photos, PAPER), epoch(open_photos, PAPER, workers=2)
    assert labels(here) == labels(there)
    for (one, _), (other, _) in zip(here, there, strict=True):
        assert torch.equal(one.colour, other.colour)


def test_loading_wants_processes_where_photos_are_decoded_or_a_gpu_would_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_workers(LITE) == 0
    assert default_workers(PAPER) >= 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_workers(LITE) >= 1


def test_a_photo_that_has_gone_is_named(dataset: Open, table: pd.DataFrame) -> None:
    paths = ["/nowhere/else.jpg", *table["path"][1:]]
    with pytest.raises(CacheError, match=r"/nowhere/else\.jpg can no longer be read"):
        dataset(PAPER, colour=False, paths=paths).__getitems__([0])


def test_a_split_without_one_readable_photo_is_refused(
    selector: StimuliSelector, landmarks: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    key = hashlib.sha256(b"no photo").hexdigest()
    cache = build_cache(
        pd.DataFrame({"path": [str(broken)], "sha256": [key]}),
        selector,
        tmp_path / "cache",
        files=SelectorFiles(landmarks),
    )
    empty = StimuliDataset(cache, [str(broken)], [0], selector.config)
    with pytest.raises(CacheError, match="no photo of the"):
        training_loader(empty, LITE, seed=1, workers=0)


# --- laws ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 2**31),
    done=st.integers(0, 200),
)
def test_a_run_that_goes_on_sees_the_rest_of_what_an_uninterrupted_one_sees(
    images: int, batch_size: int, seed: int, done: int
) -> None:
    def from_step(step: int) -> list[list[Sample]]:
        batches = ResumableBatchSampler(images, batch_size=batch_size, seed=seed)
        batches.steps_done = lambda: step
        return list(batches)

    steps = len(ResumableBatchSampler(images, batch_size=batch_size, seed=seed))
    whole = from_step(done - done % steps)
    assert from_step(done) == whole[done % steps :]
    assert len(whole) == steps
    positions = [draw.position for batch in whole for draw in batch]
    assert len(set(positions)) == len(positions) <= images
    assert images - len(positions) < batch_size
    assert {draw.epoch for batch in whole for draw in batch} == {done // steps}


@given(st.lists(st.one_of(st.integers(0, 99), st.sampled_from(["view", "order"])), min_size=1))
def test_derived_seeds_fit_a_generator_and_differ(parts: list[int | str]) -> None:
    seed = derived_seed(*parts)
    torch.Generator().manual_seed(seed)
    assert derived_seed(*parts) == seed != derived_seed(*parts, 0)


def test_each_device_gets_its_share_of_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.fitting.data.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("train.fitting.data.distributed.get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("train.fitting.data.distributed.get_rank", lambda rank=rank: rank)
        shares.append(list(ResumableBatchSampler(20, batch_size=6, seed=1)))
    monkeypatch.setattr("train.fitting.data.distributed.is_initialized", lambda: False)
    alone = list(ResumableBatchSampler(20, batch_size=6, seed=1))
    assert len(alone) == len(shares[0]) == len(shares[1])
    for both, *parts in zip(alone, *shares, strict=True):
        assert sorted(both) == sorted(parts[0] + parts[1])
        assert len(parts[0]) == len(parts[1]) == 3
