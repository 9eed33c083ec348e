"""The stimuli cache: what lies in it is what the selector selects, once and for all."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from handler.archive import load_archive
from handler.emotions import MIKELS
from handler.images import decode
from handler.stimuli.selector import FaceConfig, StimuliSelector
from handler.stimuli.stimuli import Stimuli
from train.datasets.reading import read_dataset
from train.parts import build_parts, selector_files
from train.recipe import load_recipe
from train.selecting import pack
from train.shards import CacheError, ShardFolder
from train.stimuli_cache import SelectorFiles, StimuliCache, build_cache, fingerprint
from vea.main import build_app


@pytest.fixture(scope="module")
def selector(tiny_model: Path) -> StimuliSelector:
    return load_archive(tiny_model).selector


@pytest.fixture(scope="module")
def face_files(landmarks: Path) -> SelectorFiles:
    return SelectorFiles(landmarks)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photo, encode) -> list[Path]:
    """Twenty photos, two of which cannot be read, and one PNG that is called a JPEG."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{i:02}.jpg" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(encode(photo(i), "PNG" if i == 4 else "JPEG"))
    paths[3].write_bytes(paths[3].read_bytes()[:200])
    paths[17].write_bytes(b"<html>moved</html>")
    return paths


def table_of(paths: Sequence[Path]) -> pd.DataFrame:
    digests = [
        hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "gone" for path in paths
    ]
    return pd.DataFrame({"path": [str(path) for path in paths], "sha256": digests})


Build = Callable[..., StimuliCache]


@pytest.fixture(scope="module")
def build(selector: StimuliSelector, face_files: SelectorFiles) -> Build:
    def call(paths: Sequence[Path], root: Path, **options) -> StimuliCache:
        options = {"selector": selector, "files": face_files} | options
        return build_cache(table_of(paths), options.pop("selector"), root, **options)

    return call


@pytest.fixture(scope="module")
def cache(photos: list[Path], build: Build, tmp_path_factory) -> StimuliCache:
    return build(photos, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def selections(selector: StimuliSelector, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the selector got."""
    calls: list[int] = []
    select = selector.select

    def counted(images: Sequence[torch.Tensor]) -> Stimuli:
        calls.append(len(images))
        return select(images)

    monkeypatch.setattr(selector, "select", counted)
    return calls


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight photos a shard, so that few photos suffice."""
    monkeypatch.setattr("train.selecting._SHARD", 8)


def parts(stimuli: Stimuli) -> dict[str, torch.Tensor]:
    """All tensors that a cache keeps, by name."""
    found = {f"objects.{f.name}": getattr(stimuli.objects, f.name) for f in fields(stimuli.objects)}
    faces = {"crops": stimuli.faces.crops, "counts": stimuli.faces.counts}
    kept = {"colour": stimuli.colour, **found, **faces}
    return {name: value for name, value in kept.items() if value is not None}


def same(one: StimuliCache, other: StimuliCache) -> bool:
    rows = [row for row in range(one.rows) if row not in one.refused]
    if one.refused.keys() != other.refused.keys():
        return False
    left, right = parts(one.stimuli(rows)), parts(other.stimuli(rows))
    return all(torch.equal(left[name], right[name]) for name in left)


def alike(one: StimuliCache, other: StimuliCache) -> bool:
    """As `same`, but for roundings: with other numbers of threads sums have another order."""
    rows = [row for row in range(one.rows) if row not in one.refused]
    left, right = parts(one.stimuli(rows)), parts(other.stimuli(rows))
    return one.refused == other.refused and all(
        torch.allclose(value.float(), right[name].float(), rtol=2e-3, atol=2e-3)
        for name, value in left.items()
    )


def shards(cache: StimuliCache) -> list[Path]:
    return sorted(cache.folder.glob("shards/*.safetensors"))


def test_cached_stimuli_are_those_that_the_selector_selects(
    cache: StimuliCache, photos: list[Path], selector: StimuliSelector
) -> None:
    rows = [0, 1, 2, 4, 5, 16, 19]
    cached = parts(cache.stimuli(rows))
    fresh = parts(selector.select([decode(photos[row].read_bytes()) for row in rows]))
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
    small_shards: None,
    tmp_path: Path,
) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(photos, tmp_path, on_progress=interrupt)
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


# --- what identifies a selector -----------------------------------------------------------------


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


def test_without_colour_its_settings_do_not_matter(
    tiny_model: Path, face_files: SelectorFiles
) -> None:
    selector = load_archive(tiny_model).selector
    before = fingerprint(selector, face_files, colour=False)
    selector.config = replace(selector.config, size=448, fit="crop", resize=480)
    assert fingerprint(selector, face_files, colour=False) == before
    selector.config = replace(selector.config, faces=FaceConfig(side=400))
    assert fingerprint(selector, face_files, colour=False) != before


# --- what must not be used ----------------------------------------------------------------------


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


# --- several processes, and processes that are killed -------------------------------------------

# Builds a cache as a program of its own: model folder, photos, cache root, workers.
_PROGRAM = """
import sys, hashlib
from pathlib import Path
import pandas as pd
from handler.archive import LANDMARKS, load_archive
from train import selecting
from train.stimuli_cache import SelectorFiles, build_cache

if __name__ == "__main__":
    model, photos, root, workers = sys.argv[1:]
    selecting._SHARD = 4
    paths = sorted(Path(photos).glob("*.jpg"))
    keys = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    table = pd.DataFrame({"path": [str(path) for path in paths], "sha256": keys})
    cache = build_cache(
        table, load_archive(Path(model)).selector, Path(root),
        files=SelectorFiles(Path(model, LANDMARKS)), workers=int(workers),
        on_progress=lambda done, total: print(done, flush=True),
    )
    print("ended", cache.selected, flush=True)
"""


def start(tmp_path: Path, model: Path, photos: Path, root: Path, workers: int) -> subprocess.Popen:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    return subprocess.Popen(
        [sys.executable, program, model, photos, root, str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if "spawn_main" in command(int(child))]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None or condition(), process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, photo, encode) -> Path:
    """Photos large enough that selecting them all takes a while."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(48):
        (folder / f"{i:02}.jpg").write_bytes(encode(photo(i, (600, 500)), "JPEG"))
    return folder


def test_a_killed_worker_ends_the_build_with_a_word_and_costs_its_shard_only(
    many: Path, build: Build, small_shards: None, tmp_path: Path
) -> None:
    paths = sorted(many.iterdir())

    def kill(done: int, total: int) -> None:
        if done > 8:
            os.kill(children(os.getpid())[0], signal.SIGKILL)

    with pytest.raises(CacheError, match="what was selected is kept"):
        build(paths, tmp_path / "cache", workers=2, on_progress=kill)
    resumed = build(paths, tmp_path / "cache")
    assert resumed.selected < 48
    assert resumed.refused == {}
    assert alike(resumed, build(paths, tmp_path / "alone"))


def test_a_killed_build_leaves_no_workers_and_goes_on_where_it_was(
    many: Path, tiny_model: Path, build: Build, tmp_path: Path
) -> None:
    root = tmp_path / "cache"

    def found() -> list[Path]:
        return list(root.glob("*/shards/*.safetensors"))

    program = start(tmp_path, tiny_model, many, root, 2)
    wait_until(lambda: bool(found()), program)
    workers = children(program.pid)
    assert len(workers) == 2
    program.kill()
    program.communicate()
    end = time.monotonic() + 60
    while any("spawn_main" in command(worker) for worker in workers):
        assert time.monotonic() < end, "workers end with the process that started them"
        time.sleep(0.05)
    before = len(found())
    resumed = build(sorted(many.iterdir()), root)
    assert resumed.selected == 48 - 4 * before > 0, "what was there was not selected again"
    assert resumed.refused == {}


def test_two_programs_may_fill_the_same_cache_at_once(
    photos: list[Path], tiny_model: Path, build: Build, selections, small_shards, tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    other = start(tmp_path, tiny_model, photos[0].parent, root, 1)
    assert other.stdout.readline(), "it is at work"
    build(photos, root)
    said, complaints = other.communicate(timeout=120)
    assert other.returncode == 0, complaints
    assert "ended" in said
    del selections[:]
    filled = build(photos, root)
    assert (filled.selected, selections) == (0, [])
    # Bits depend on how many threads each of them had.
    assert alike(filled, build(photos, tmp_path / "alone"))


# --- the command --------------------------------------------------------------------------------


def vea_cache(*arguments: object) -> str:
    done = CliRunner().invoke(build_app(), ["cache", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def labelled(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    for emotion, some in (("awe", photos[:9]), ("fear", photos[9:])):
        (folder / emotion).mkdir()
        for photo in some:
            (folder / emotion / photo.name).write_bytes(photo.read_bytes())
    return folder


def test_the_command_says_what_it_did_and_where(
    labelled: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = ("--data", labelled, "--model", tiny_model, "--cache", tmp_path)
    said = vea_cache(*command)
    assert "20 photos: 20 new, 2 refused" in said
    assert "1 x the data is markup" in said
    assert "kB a photo, in " in said
    assert "20 photos: 0 new, 2 refused" in vea_cache(*command)


def test_the_command_selects_what_training_will_ask_for(labelled: Path, tmp_path: Path) -> None:
    settings = ["init=random", "selector.objects.size=64", "selector.size=32"]
    options = [word for setting in settings for word in ("--set", setting)]
    vea_cache("--data", labelled, "--cache", tmp_path, *options)
    recipe = load_recipe("lite", settings)
    torch.manual_seed(recipe.seed)
    selector, _ = build_parts(recipe)
    table = read_dataset(labelled, MIKELS).table
    files = selector_files(recipe)
    assert build_cache(table, selector, tmp_path, files=files).selected == 0
