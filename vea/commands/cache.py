"""`vea cache`: select the stimuli of a data set before anything is trained on them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vea.local_paths import check_output_folder
from vea.stopping import stoppable
from vea.terminal import out, progress_bars

if TYPE_CHECKING:
    from handler.stimuli.selector import StimuliSelector
    from train.stimuli.cache import SelectorFiles, StimuliCache

_REASONS = 5  # most frequent reasons for refused photos that are printed

LabelledData = Annotated[
    Path,
    typer.Option(
        "--data", help="Folder of labelled photos, in any layout that `vea data check` knows."
    ),
]
CacheFolder = Annotated[
    Path | None, typer.Option("--cache", help="Folder for stimuli. [default: ~/.cache/vea/stimuli]")
]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes that select stimuli and load batches.", metavar="N"),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a recipe value: KEY=VALUE.", metavar="KEY=VALUE"),
]

Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="What classes mean that are numbers: a line such as `0 amusement` for each, or JSON.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cache")(cache)


@stoppable("the same command goes on; selected stimuli are kept")
def cache(
    data: Annotated[
        Path, typer.Option("--data", help="Data set in any layout that `vea data check` knows.")
    ],
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or path of a YAML file.")] = "lite",
    model: Annotated[
        Path | None, typer.Option(help="Use the selector of this archive instead of the recipe's.")
    ] = None,
    labels: Labels = None,
    folder: CacheFolder = None,
    workers: Workers = None,
    settings: Settings = None,
) -> None:
    """Select the stimuli of a data set and keep them in the cache.

    `vea train` does the same; this command does it beforehand, in several processes. Only photos
    that are not in the cache are selected, so the command can be stopped and started again. All
    recipes with the same selector use the same cache:

        vea cache --data FI --recipe paper --workers 8

        vea train --data FI --recipe paper --workers 8
    """
    from train.datasets.reading import read_dataset
    from train.recipes.recipe import load_recipe
    from train.stimuli.cache import build_cache

    chosen = load_recipe(recipe, settings or ())
    check_output_folder(folder or cache_home())
    selecting = _from_archive(model) if model else _from_recipe(recipe, settings)
    with selecting as (selector, files), progress_bars() as on_progress:
        table = read_dataset(
            data,
            None,
            labels=labels,
            on_progress=lambda done, total: on_progress("photos", done, total),
        ).table
        built = build_cache(
            table,
            selector,
            folder or cache_home(),
            files=files,
            colour=chosen.training.colour,
            workers=max(workers or 1, 1),
            on_progress=lambda done, total: on_progress("stimuli", done, total),
        )
    _show(built)


def cache_home() -> Path:
    """Default folder of the stimuli caches."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "vea" / "stimuli"


@contextmanager
def _from_recipe(
    recipe: str, settings: list[str] | None
) -> Iterator[tuple[StimuliSelector, SelectorFiles]]:
    import torch

    from train.fitting.builders import build_selector, selector_files
    from train.recipes.recipe import load_recipe

    chosen = load_recipe(recipe, settings or ())
    torch.manual_seed(chosen.seed)  # as training does, should weights be random
    files = selector_files(chosen)
    yield build_selector(chosen, files), files


@contextmanager
def _from_archive(model: Path) -> Iterator[tuple[StimuliSelector, SelectorFiles]]:
    """The selector of an archive, and its face files, unpacked into a temporary folder."""
    import tempfile
    import zipfile

    from handler.archive.files import face_detector_file, face_files, landmark_file
    from handler.archive.loading import load_archive
    from train.stimuli.cache import SelectorFiles

    archive = load_archive(model, face_threads=os.cpu_count() or 1)
    names = face_files(archive.config)
    with tempfile.TemporaryDirectory(prefix="vea-") as scratch:
        place = model
        if not model.is_dir():
            place = Path(scratch)
            with zipfile.ZipFile(model) as packed:
                for name in names:
                    packed.extract(name, place)
        parts = landmark_file(archive.config), face_detector_file(archive.config)
        paths = (None if name is None else place / name for name in parts)
        yield archive.selector, SelectorFiles(*paths)


def _show(built: StimuliCache) -> None:
    console = out()
    console.print(f"{built.rows} photos: {built.selected} new, {len(built.refused)} refused")
    reasons = Counter(built.refused.values())
    for reason, count in reasons.most_common(_REASONS):
        console.print(f"  {count} x {reason}", soft_wrap=True)
    console.print(
        f"{built.bytes_per_image / 1000:.1f} kB a photo, in {built.folder}", soft_wrap=True
    )
