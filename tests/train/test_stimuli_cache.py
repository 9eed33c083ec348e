"""The stimuli cache: what lies in it is what the selector selects, once and for all."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from handler.archive import load_archive
from handler.images import decode
from handler.stimuli.selector import FaceConfig, StimuliSelector
from handler.stimuli.stimuli import Stimuli
from train.data import StimuliDataset, training_loader, validation_loader
from train.recipe import TrainingConfig
from train.stimuli_cache import StimuliCache, build_cache, fingerprint


@pytest.fixture(scope="module")
def selector(tiny_model: Path) -> StimuliSelector:
    return load_archive(tiny_model).selector


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, photo, encode) -> list[Path]:
    """Twenty photos, two of which cannot be read, and one PNG that is called a JPEG."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{i:02}.jpg" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(encode(photo(i), "PNG" if i == 4 else "JPEG"))
    paths[3].write_bytes(paths[3].read_bytes()[:200])
    paths[17].write_bytes(b"<html>moved</html>")
    return paths


def table_of(paths: list[Path]) -> pd.DataFrame:
    digests = [
        hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "gone" for path in paths
    ]
    return pd.DataFrame({"path": [str(path) for path in paths], "sha256": digests})


@pytest.fixture(scope="module")
def cache(
    files: list[Path], selector: StimuliSelector, tmp_path_factory: pytest.TempPathFactory
) -> StimuliCache:
    return build_cache(table_of(files), selector, tmp_path_factory.mktemp("cache"))


def parts(stimuli: Stimuli) -> dict[str, torch.Tensor]:
    """All tensors that a cache keeps, by name."""
    found = {f"objects.{f.name}": getattr(stimuli.objects, f.name) for f in fields(stimuli.objects)}
    faces = {"crops": stimuli.faces.crops, "counts": stimuli.faces.counts}
    return {"colour": stimuli.colour, **found, **faces}


def contents(cache: StimuliCache) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(cache.folder.glob("*.npy"))}


def test_cached_stimuli_are_those_that_the_selector_selects(
    cache: StimuliCache, files: list[Path], selector: StimuliSelector
) -> None:
    rows = [0, 1, 2, 4, 5, 16, 19]
    cached = parts(cache.stimuli(rows))
    fresh = parts(selector.select([decode(files[row].read_bytes()) for row in rows]))
    assert cached.keys() == fresh.keys()
    for name, value in fresh.items():
        assert cached[name].dtype == value.dtype
        if name == "objects.features":  # kept in half precision
            assert torch.allclose(cached[name], value, rtol=2e-3, atol=1e-3)
        elif value.is_floating_point():
            assert torch.allclose(cached[name], value, atol=1e-4), name
        else:
            assert torch.equal(cached[name], value), name


def test_rows_come_in_the_order_they_are_asked_for(cache: StimuliCache) -> None:
    there, back = cache.stimuli([0, 5, 2]), cache.stimuli([2, 5, 0])
    assert torch.equal(there.colour, back.colour.flip(0))
    assert not torch.equal(there.colour[0], there.colour[1])


def test_unreadable_files_are_recorded_with_the_reason(cache: StimuliCache) -> None:
    assert cache.rows == 20
    assert set(cache.refused) == {3, 17}
    assert "damaged" in cache.refused[3]
    assert "markup" in cache.refused[17]


def test_a_file_that_has_gone_is_recorded_and_does_not_end_the_build(
    files: list[Path], selector: StimuliSelector, tmp_path: Path
) -> None:
    paths = [files[0], files[0].with_name("gone.jpg"), files[1]]
    cache = build_cache(table_of(paths), selector, tmp_path)
    assert set(cache.refused) == {1}
    assert "gone.jpg" in cache.refused[1]


def test_a_second_opening_selects_nothing(
    cache: StimuliCache, files: list[Path], selector: StimuliSelector
) -> None:
    calls: list[int] = []
    again = build_cache(
        table_of(files),
        selector,
        cache.folder.parent,
        on_progress=lambda done, total: calls.append(done),
    )
    assert calls == []
    assert again.folder == cache.folder
    assert again.refused == cache.refused


def test_progress_ends_with_all_rows(
    files: list[Path], selector: StimuliSelector, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    build_cache(
        table_of(files[:10]), selector, tmp_path, on_progress=lambda *step: seen.append(step)
    )
    assert seen[-1] == (10, 10)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("batches", [1, 2])
def test_an_interrupted_build_goes_on_and_ends_with_the_same_content(
    cache: StimuliCache,
    files: list[Path],
    selector: StimuliSelector,
    tmp_path: Path,
    batches: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(Exception):
        pass

    # Progress is recorded every so many batches; after each here, so that few photos suffice.
    monkeypatch.setattr("train.stimuli_cache._RECORDED_EVERY", 1)
    calls: list[int] = []

    def interrupt(done: int, _: int) -> None:
        calls.append(done)
        if len(calls) == batches:
            raise Interrupted

    with pytest.raises(Interrupted):
        build_cache(table_of(files), selector, tmp_path, on_progress=interrupt)
    seen: list[int] = []
    resumed = build_cache(
        table_of(files), selector, tmp_path, on_progress=lambda done, _: seen.append(done)
    )
    assert seen == [done for done in (8, 16, 20) if done > calls[-1]]
    assert resumed.refused == cache.refused
    expected = contents(cache)
    assert expected
    assert contents(resumed) == expected


def test_a_build_interrupted_before_any_record_starts_over(
    cache: StimuliCache, files: list[Path], selector: StimuliSelector, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(table_of(files), selector, tmp_path, on_progress=interrupt)
    resumed = build_cache(table_of(files), selector, tmp_path)
    assert resumed.refused == cache.refused
    assert contents(resumed) == contents(cache)


def test_another_content_order_or_setting_is_another_folder(
    files: list[Path], selector: StimuliSelector, tiny_model: Path
) -> None:
    table = table_of(files)
    prints = {fingerprint(table, selector)}
    changed = table.copy()
    changed.loc[0, "sha256"] = "0" * 64
    prints.add(fingerprint(changed, selector))
    prints.add(fingerprint(table.iloc[::-1], selector))
    prints.add(fingerprint(table.iloc[:-1], selector))
    other = load_archive(tiny_model).selector
    config = other.config
    for setting in (
        {"size": 96},
        {"fit": "crop"},
        {"faces": FaceConfig(upsample=1)},
        {"objects": {**config.objects, "count": 4}},
    ):
        other.config = replace(config, **setting)
        prints.add(fingerprint(table, other))
    other.config = config
    other.objects.backbone.classifier.bias[0] += 1.0  # another set of weights
    prints.add(fingerprint(table, other))
    assert len(prints) == 9


def test_the_place_of_a_photo_does_not_matter(files: list[Path], selector: StimuliSelector) -> None:
    table = table_of(files)
    moved = table.assign(path="/elsewhere/" + table["path"])
    assert fingerprint(moved, selector) == fingerprint(table, selector)


def test_fewer_cells_than_the_count_are_kept_under_a_mask(
    files: list[Path], landmarks: Path, selector: StimuliSelector, tmp_path: Path
) -> None:
    config = replace(selector.config, objects={"source": "grid", "size": 64, "count": 10})
    small = StimuliSelector(config, landmarks=landmarks)
    cached = build_cache(table_of(files[:2]), small, tmp_path).stimuli([0, 1]).objects
    fresh = small.select([decode(file.read_bytes()) for file in files[:2]]).objects
    assert cached.mask.sum(dim=1).tolist() == [4, 4]
    assert torch.allclose(cached.boxes[cached.mask], fresh.boxes[fresh.mask])
    assert torch.allclose(
        cached.features[cached.mask], fresh.features[fresh.mask], rtol=2e-3, atol=1e-3
    )


# --- batches ------------------------------------------------------------------------------------


def test_a_data_set_leaves_out_what_could_not_be_read(cache: StimuliCache) -> None:
    labels = list(range(20))
    dataset = StimuliDataset(cache, labels)
    assert len(dataset) == 18
    _, target = dataset.__getitems__([2, 3, 16])
    assert target.tolist() == [2, 4, 18]


def test_validation_sees_every_readable_photo_once_in_order(cache: StimuliCache) -> None:
    batches = list(validation_loader(cache, list(range(20)), batch_size=7))
    seen = torch.cat([target for _, target in batches]).tolist()
    assert seen == [row for row in range(20) if row not in (3, 17)]
    assert torch.equal(batches[0][0].colour, cache.stimuli([0, 1, 2, 4, 5, 6, 7]).colour)


def test_training_shuffles_by_its_seed_and_crops_the_colour_image(cache: StimuliCache) -> None:
    config = TrainingConfig(batch_size=6, crop=32)

    def epoch(seed: int) -> list[int]:
        batches = list(training_loader(cache, list(range(20)), config, seed=seed))
        assert all(stimuli.colour.shape == (6, 3, 32, 32) for stimuli, _ in batches)
        assert all(stimuli.colour.dtype == torch.uint8 for stimuli, _ in batches)
        return torch.cat([target for _, target in batches]).tolist()

    assert sorted(epoch(1)) == [row for row in range(20) if row not in (3, 17)]
    assert epoch(1) == epoch(1) != epoch(2)


def test_augmentation_does_not_touch_the_cache(cache: StimuliCache) -> None:
    before = cache.stimuli([0]).colour
    list(training_loader(cache, list(range(20)), TrainingConfig(batch_size=6, crop=32), seed=1))
    assert torch.equal(before, cache.stimuli([0]).colour)
