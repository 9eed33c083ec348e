"""The stimuli cache: what lies in it is what the selector selects, once and for all."""

from __future__ import annotations

import pickle
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from caches import Build, parts, same, table_of

from handler.images import decode
from handler.stimuli.selector import StimuliSelector
from train.stimuli.cache import StimuliCache, build_cache
from train.stimuli.shards import ShardFolder
from train.stimuli.workers import pack


def test_cached_stimuli_are_those_that_the_selector_selects(
    cache: StimuliCache, photos: list[Path], selector: StimuliSelector
) -> None:
    rows = [0, 1, 2, 4, 5, 16, 19]
    cached = parts(cache.stimuli(rows))
    fresh = parts(selector.select([decode(photos[row].read_bytes()) for row in rows]))
    for name in ("objects.names", "objects.name_scores"):  # names teach a network nothing
        del fresh[name]
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


def test_unreadable_photos_are_recorded_with_the_reason(cache: StimuliCache) -> None:
    assert cache.rows == 20
    assert set(cache.refused) == {3, 17}
    assert "damaged" in cache.refused[3]
    assert "markup" in cache.refused[17]


def test_a_file_that_has_gone_or_changed_is_told_and_tried_again_next_time(
    photos: list[Path], build: Build, selector, face_files, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.jpg"
    moved.write_bytes(photos[5].read_bytes())
    table = table_of([photos[0], moved, photos[1]])
    moved.write_bytes(photos[6].read_bytes())
    changed = build_cache(table, selector, tmp_path / "c", files=face_files)
    assert "has changed" in changed.refused[1]
    moved.unlink()
    gone = build_cache(table, selector, tmp_path / "c", files=face_files)
    assert "moved.jpg" in gone.refused[1]
    moved.write_bytes(photos[5].read_bytes())
    there = build_cache(table, selector, tmp_path / "c", files=face_files)
    assert there.refused == {}
    assert (changed.selected, gone.selected, there.selected) == (2, 0, 1)


def test_a_second_opening_selects_nothing(
    cache: StimuliCache, photos: list[Path], build: Build, selections: list[int]
) -> None:
    calls: list[int] = []
    again = build(photos, cache.folder.parent, on_progress=lambda done, total: calls.append(done))
    assert selections == calls == []
    assert again.selected == 0
    assert again.refused == cache.refused
    assert same(cache, again)


def test_a_data_set_that_grew_costs_its_new_photos_only(
    photos: list[Path], build: Build, selections: list[int], tmp_path: Path
) -> None:
    build(photos[:10], tmp_path)
    del selections[:]
    grown = build([*photos[10:13], *photos[:10]], tmp_path)
    assert sum(selections) == grown.selected == 3


def test_two_data_sets_share_the_photos_they_have_in_common_wherever_they_lie(
    photos: list[Path], build: Build, selections: list[int], tmp_path: Path
) -> None:
    build(photos[:3], tmp_path / "cache")
    elsewhere = tmp_path / "copy.jpg"
    elsewhere.write_bytes(photos[1].read_bytes())
    del selections[:]
    other = build([elsewhere, photos[6]], tmp_path / "cache")
    assert sum(selections) == 1
    assert torch.equal(
        other.stimuli([0]).colour, build(photos[:3], tmp_path / "cache").stimuli([1]).colour
    )


def test_a_photo_that_is_listed_twice_is_selected_once(
    photos: list[Path], build: Build, selections: list[int], tmp_path: Path
) -> None:
    twice = build([photos[0], photos[1], photos[0]], tmp_path)
    assert sum(selections) == 2
    assert torch.equal(twice.stimuli([0]).colour, twice.stimuli([2]).colour)


def test_progress_ends_with_all_rows(photos: list[Path], build: Build, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build(photos[:10], tmp_path, on_progress=lambda *step: seen.append(step))
    assert seen[-1] == (10, 10)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_interrupted_build_keeps_its_shards_and_ends_with_the_same_content(
    cache: StimuliCache,
    photos: list[Path],
    build: Build,
    selections: list[int],
    tmp_path: Path,
) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(photos, tmp_path, shard_size=8, on_progress=interrupt)
    del selections[:]
    resumed = build(photos, tmp_path)
    assert resumed.selected == 12, "the first shard of eight was there"
    assert sum(selections) == 12 - 1, "of which one cannot be read"
    assert same(cache, resumed)


def test_without_the_colour_image_the_cache_is_small_and_has_the_rest(
    cache: StimuliCache, photos: list[Path], build: Build, tmp_path: Path
) -> None:
    lean = build(photos, tmp_path, colour=False)
    rows = [0, 7]
    assert lean.stimuli(rows).colour.shape == (2, 3, 0, 0)
    assert torch.equal(lean.stimuli(rows).objects.features, cache.stimuli(rows).objects.features)
    assert torch.equal(lean.stimuli(rows).faces.crops, cache.stimuli(rows).faces.crops)
    colour = 3 * 64 * 64
    assert cache.bytes_per_image - lean.bytes_per_image == pytest.approx(colour, abs=200)
    assert lean.bytes_per_image < 2 * 5 * 1280 + 48 * 48 + 1000


def test_shards_are_mapped_not_read(
    photos: list[Path], selector: StimuliSelector, tmp_path: Path
) -> None:
    """A shard of 200 MB of which one photo is asked for costs a few MB of memory."""
    folder = ShardFolder(tmp_path, fingerprint="f", description={})
    stimuli = selector.select([decode(photos[0].read_bytes())])
    tensors = pack(stimuli, count=selector.objects.count, colour=False)
    count = 64
    many = {name: value.expand(count, *value.shape[1:]) for name, value in tensors.items()}
    many["colour"] = torch.full((count, 3, 1024, 1024), 7, dtype=torch.uint8)
    folder.write([str(i) for i in range(count)], many, {})

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = resident()
    cache = StimuliCache(folder, folder.index(), ["9"], unread={}, selected=0)
    assert int(cache.stimuli([0]).colour[0, 0, 0, 0]) == 7
    assert resident() - before < 30e6


def test_a_cache_goes_to_another_process_without_its_content(cache: StimuliCache) -> None:
    cache.stimuli([0])
    sent = pickle.dumps(cache)
    assert len(sent) < 20_000
    assert torch.equal(pickle.loads(sent).stimuli([0]).colour, cache.stimuli([0]).colour)


def test_fewer_cells_than_the_count_are_kept_under_a_mask(
    photos: list[Path], build: Build, face_files, selector: StimuliSelector, tmp_path: Path
) -> None:
    config = replace(selector.config, objects={"source": "grid", "size": 64, "count": 10})
    small = face_files.build(config, face_threads=1)
    cached = build(photos[:2], tmp_path, selector=small).stimuli([0, 1]).objects
    fresh = small.select([decode(file.read_bytes()) for file in photos[:2]]).objects
    assert cached.mask.sum(dim=1).tolist() == [4, 4]
    assert torch.allclose(cached.boxes[cached.mask], fresh.boxes[fresh.mask])
    assert torch.allclose(
        cached.features[cached.mask], fresh.features[fresh.mask], rtol=2e-3, atol=1e-3
    )


def test_attributes_are_kept_where_the_source_tells_them(
    photos: list[Path], selector: StimuliSelector
) -> None:
    stimuli = selector.select([decode(photos[0].read_bytes())])
    assert "attributes" not in pack(stimuli, count=5, colour=False)
    stimuli.objects.attributes = torch.full((1, 5), -1)
    assert pack(stimuli, count=7, colour=False)["attributes"].shape == (1, 7)
