"""What identifies a selector, and caches that are refused: stale, foreign or damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from caches import Build, shards

from handler.archive.loading import load_archive
from handler.images import DECODING
from handler.values.configs import FaceConfig
from train.stimuli.cache import SelectorFiles, fingerprint
from train.stimuli.shards import CacheError


def test_another_setting_weight_or_face_file_is_another_selector(
    tiny_model: Path, face_files: SelectorFiles, tmp_path: Path
) -> None:
    selector = load_archive(tiny_model).selector
    prints = {fingerprint(selector, face_files), fingerprint(selector, face_files, colour=False)}
    config = selector.config
    for setting in (
        {"size": 96},
        {"fit": "crop"},
        {"faces": FaceConfig(upsample=1)},
        {"objects": {**config.objects, "count": 4}},
    ):
        selector.config = replace(config, **setting)
        prints.add(fingerprint(selector, face_files))
    selector.config = config
    other = tmp_path / "other.dat"
    other.write_bytes(face_files.landmarks.read_bytes() + b"\0")
    prints.add(fingerprint(selector, SelectorFiles(other)))
    prints.add(fingerprint(selector, SelectorFiles(face_files.landmarks, other)))
    selector.objects.backbone.classifier.bias[0] += 1.0
    prints.add(fingerprint(selector, face_files))
    assert len(prints) == 9


def test_stimuli_of_pictures_that_were_decoded_otherwise_are_others(
    tiny_model: Path, face_files: SelectorFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    selector = load_archive(tiny_model).selector
    now = fingerprint(selector, face_files)
    monkeypatch.setattr("train.stimuli.cache.DECODING", DECODING - 1)
    assert fingerprint(selector, face_files) != now


def test_without_colour_its_settings_do_not_matter(
    tiny_model: Path, face_files: SelectorFiles
) -> None:
    selector = load_archive(tiny_model).selector
    before = fingerprint(selector, face_files, colour=False)
    selector.config = replace(selector.config, size=448, fit="crop", resize=480)
    assert fingerprint(selector, face_files, colour=False) == before
    selector.config = replace(selector.config, faces=FaceConfig(side=400))
    assert fingerprint(selector, face_files, colour=False) != before


@pytest.mark.parametrize(("field", "value"), [("fingerprint", "0" * 20), ("format", 1)])
def test_a_stale_cache_is_refused_in_one_line(
    photos: list[Path], build: Build, tmp_path: Path, field: str, value: object
) -> None:
    built = build(photos[:2], tmp_path)
    place = built.folder / "cache.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), field: value}))
    with pytest.raises(CacheError, match=f"stale: its {field} is '{value}'") as caught:
        build(photos[:2], tmp_path)
    assert "\n" not in str(caught.value)


def test_a_shard_of_another_selector_is_refused(
    photos: list[Path], build: Build, tmp_path: Path
) -> None:
    ours, theirs = build(photos[:2], tmp_path), build(photos[2:6], tmp_path, colour=False)
    stray = shards(theirs)[0]
    stray.rename(ours.folder / "shards" / stray.name)
    with pytest.raises(CacheError, match=f"{stray.name} is stale"):
        build(photos[:2], tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_damaged_shard_is_refused_by_name_and_can_be_made_anew(
    photos: list[Path], build: Build, tmp_path: Path, keep: int
) -> None:
    built = build(photos[:2], tmp_path)
    (shard,) = shards(built)
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(CacheError, match=f"{shard.name} is damaged .*delete it") as caught:
        build(photos[:2], tmp_path)
    assert "\n" not in str(caught.value)
    shard.unlink()
    assert build(photos[:2], tmp_path).selected == 2


def test_a_damaged_description_is_refused(photos: list[Path], build: Build, tmp_path: Path) -> None:
    built = build(photos[:2], tmp_path)
    (built.folder / "cache.json").write_text("{")
    with pytest.raises(CacheError, match=r"cache.json is damaged"):
        build(photos[:2], tmp_path)


def test_what_a_killed_process_was_writing_is_not_taken_for_a_shard(
    photos: list[Path], build: Build, tmp_path: Path
) -> None:
    built = build(photos[:2], tmp_path)
    (shard,) = shards(built)
    (shard.parent / f".{shard.name}.0.partial").write_bytes(shard.read_bytes()[:50])
    assert build(photos[:2], tmp_path).selected == 0
