"""`vea weights`, `vea fetch-weights`, `vea import-weights`: initial weights of networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from vea.local_paths import check_output_folder
from vea.stopping import stoppable
from vea.terminal import out, progress_bars

if TYPE_CHECKING:
    from train.weights.importing import Imported

Home = Annotated[
    Path | None,
    typer.Option("--to", help="Folder for the weights. [default: the weights home]"),
]
Force = Annotated[bool, typer.Option("--force", help="Replace other weights of the same name.")]
# Kind of weights -> what a recipe says to use them; the name of the weights is filled in.
_USES = {
    "visual_genome": "init: {{objects: {}}}",
    "coco": "init: {{objects: {}}}",
    "light": "init: {{objects: {}}}",
    "backbone": "init: {{global: {}}}",
    "face_resnet": "init: {{expression: {}}}",
    "blazeface": "faces: {{backend: light}}",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("weights")(weights)
    app.command("fetch-weights")(fetch_weights)
    app.command("import-weights")(import_weights)


def weights() -> None:
    """List the pre-trained weights that are installed, and those that can be fetched.

    They are in $VEA_WEIGHTS, or in ~/.cache/vea/weights; recipes refer to them by name (`init`).

        vea weights
    """
    from train.weights.home import SHIPPED, list_weights, weights_home
    from train.weights.sources import SOURCES

    home, console = weights_home(), out()
    found = [*list_weights(home), *list_weights(SHIPPED)]
    here = Table("name", "in a recipe", "MB", "what it is", title=f"in {home}, or with the program")
    for path, header in found:
        size = f"{path.stat().st_size / 1e6:.1f}"
        here.add_row(path.stem, _USES[header.kind].format(path.stem), size, header.source)
    console.print(here if found else f"no weights in {home}")
    names = {path.stem for path, _ in found}
    absent = Table("name", "what it is", "how", title="published")
    for name, published in SOURCES.items():
        if name not in names:
            how = f"vea fetch-weights {name}" if published.url else f"by hand: {published.page}"
            absent.add_row(name, published.about, how)
    if absent.rows:
        console.print(absent)


@stoppable("the same command goes on with the download")
def fetch_weights(
    name: Annotated[str, typer.Argument(help="Name of the weights, as `vea weights` lists it.")],
    place: Annotated[
        str | None,
        typer.Option("--from", help="Mirror: an http(s) address, or a folder with the file."),
    ] = None,
    to: Home = None,
    force: Force = False,
) -> None:
    """Download published weights, check them, and import them.

    An interrupted download resumes when the command is run again:

        vea fetch-weights imagenet-resnet50

        vea fetch-weights visual-genome --from https://mirror.example/models
    """
    from train.weights.fetching import discard, fetch
    from train.weights.home import weights_home
    from train.weights.importing import import_weights as bring_in

    home = to or weights_home()
    check_output_folder(home)
    with progress_bars() as on_progress:
        fetched = fetch(
            name,
            home=home,
            place=place,
            on_progress=lambda done, total: on_progress(
                f"{name}, MB", done // 1_000_000, total // 1_000_000
            ),
        )
    console = out()
    console.print(f"SHA-256 {fetched.sha256} ({fetched.checked})", soft_wrap=True)
    imported = bring_in(fetched.path, name=name, home=home, force=force)
    discard(fetched)
    _show(console, imported)


def import_weights(
    file: Annotated[Path, typer.Argument(help="A published file of weights.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the weights in recipes. [default: from the kind of the file]"),
    ] = None,
    to: Home = None,
    objects: Annotated[
        Path | None,
        typer.Option(help="Object names, one a line. [default: the 1,600 of Visual Genome]"),
    ] = None,
    attributes: Annotated[
        Path | None,
        typer.Option(help="Attribute names, one a line. [default: the 400 of Visual Genome]"),
    ] = None,
    force: Force = False,
) -> None:
    """Convert a published file of weights, so that recipes can start from it.

    Supported files: the Visual Genome detector (airsplay .pkl, MILVLG .pth, Hugging Face .bin),
    torchvision's fasterrcnn_resnet50_fpn_v2 and ResNet-18, -50 and -101, the FER2013 ResNet-18
    (PrivateTest_model_resnet18.t7), NanoDet-g (nanodet.json, with nanodet.bin beside it), and
    BlazeFace, full range (facemesh-detection-full.json, with its .bin beside it). A file is
    recognised by its content; no code in it is executed.

        vea import-weights faster_rcnn_from_caffe_attr.pkl

        vea import-weights PrivateTest_model_resnet18.t7 --name fer2013-resnet18
    """
    from train.weights.home import weights_home
    from train.weights.importing import import_weights as bring_in

    home = to or weights_home()
    check_output_folder(home)
    _show(
        out(),
        bring_in(file, name=name, home=home, objects=objects, attributes=attributes, force=force),
    )


def _show(console: Console, imported: Imported) -> None:
    """What was taken, what was left, and where the result lies."""
    lines = [imported.about, f"took {imported.taken} tensors"]
    if imported.left:
        lines.append(f"left {len(imported.left)}: {', '.join(_summary(imported.left))}")
    megabytes = imported.path.stat().st_size / 1e6
    lines += [
        f"{imported.path} ({megabytes:.1f} MB), SHA-256 {imported.sha256}",
        f"in a recipe: {_USES[imported.kind].format(imported.path.stem)}",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _summary(names: tuple[str, ...]) -> list[str]:
    """The names, with the counters of batch normalisation, often a hundred of them, as one."""
    counters = [name for name in names if name.endswith(".num_batches_tracked")]
    others = [name for name in names if name not in counters]
    return [*others, f"{len(counters)} x num_batches_tracked"] if counters else others
