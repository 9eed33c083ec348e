"""``vea cache``: what it says, and that training finds what it selected."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from handler.values.emotions import MIKELS
from train.datasets.reading import read_dataset
from train.fitting.builders import build_parts, selector_files
from train.recipes.recipe import load_recipe
from train.stimuli.cache import build_cache
from vea.main import build_app


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
