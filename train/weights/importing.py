"""`vea import-weights`: a published file becomes a weights file in the home.

A file is recognised by its content; its name does not matter.
"""

from __future__ import annotations

import filecmp
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from train.weights.blazeface import convert_blazeface, is_blazeface
from train.weights.conversion import Conversion, NotThis
from train.weights.face_resnet import convert_face_resnet, is_face_resnet
from train.weights.home import (
    SUFFIX,
    Header,
    WeightsError,
    check_name,
    file_sha256,
    read_header,
    weights_home,
    write_weights,
)
from train.weights.nanodet import convert_nanodet, is_nanodet
from train.weights.reading import Checkpoint, read_checkpoint
from train.weights.torchvision_files import convert_coco, convert_resnet, is_coco, is_resnet
from train.weights.visual_genome import convert_visual_genome, is_visual_genome
from train.weights.vocabulary import attribute_names, object_names

_KNOWN = (
    "a Visual Genome detector (airsplay .pkl, MILVLG .pth, Hugging Face .bin), torchvision's "
    "fasterrcnn_resnet50_fpn_v2 or ResNet-18, -50, -101, the FER2013 ResNet-18 .t7, "
    "the TensorFlow.js graphs of NanoDet-g (nanodet.json) and of BlazeFace, full range, "
    "or a weights file of this program"
)


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        path: Path of the weights file.
        kind: Kind of the network.
        about: Description of the imported file.
        taken: Number of tensors that were used.
        left: Names of what was not used.
        sha256: SHA-256 of the weights file, in hexadecimal digits.
    """

    path: Path
    kind: str
    about: str
    taken: int
    left: tuple[str, ...]
    sha256: str


def import_weights(
    file: Path,
    *,
    name: str | None = None,
    home: Path | None = None,
    objects: Path | None = None,
    attributes: Path | None = None,
    force: bool = False,
) -> Imported:
    """Convert a published file into a weights file.

    Args:
        file: Path of a file of a known kind.
        name: Name of the weights; by default the usual one for such a file.
        home: Folder of the weights file, by default `weights_home`.
        objects: File with the names of a Visual Genome detector's object classes, one a line,
            instead of the published 1,600.
        attributes: File with the names of its attributes, one a line, instead of the published 400.
        force: Whether other weights of this name may be replaced.

    Raises:
        WeightsError: The file is of no known kind, it is damaged, the vocabularies do not fit, or
            there are other weights of this name.
    """
    checkpoint = read_checkpoint(file)
    digest = file_sha256(file, *checkpoint.files)
    if checkpoint.metadata and "vea" in checkpoint.metadata:
        conversion, header = _own(file, checkpoint)
    else:
        conversion = _recognise(file, checkpoint, objects=objects, attributes=attributes)
        header = Header(conversion.kind, conversion.settings, conversion.about, digest)
    target = (home or weights_home()) / f"{check_name(name or conversion.name)}{SUFFIX}"
    _write(target, header, conversion, force=force)
    left = [key for key in checkpoint.tensors if key not in conversion.used]
    return Imported(
        path=target,
        kind=conversion.kind,
        about=conversion.about,
        taken=len(checkpoint.tensors) - len(left),
        left=(*left, *checkpoint.beside),
        sha256=file_sha256(target),
    )


def _write(target: Path, header: Header, conversion: Conversion, *, force: bool) -> None:
    """Write the weights, but not over others of this name."""
    if force or not target.exists():
        write_weights(target, header, conversion.tensors)
        return
    try:
        with TemporaryDirectory(dir=target.parent) as scratch:
            new = write_weights(Path(scratch, target.name), header, conversion.tensors)
            same = filecmp.cmp(new, target, shallow=False)
    except OSError as error:
        raise WeightsError(f"cannot write to {target.parent}: {error.strerror or error}") from None
    if not same:
        raise WeightsError(
            f"there are other weights called '{target.stem}' in {target.parent}: give these "
            "another --name, or replace those with --force"
        )


def _recognise(
    file: Path, checkpoint: Checkpoint, *, objects: Path | None, attributes: Path | None
) -> Conversion:
    """Convert tensors with the converter that recognises them."""
    tensors = checkpoint.tensors

    def visual_genome() -> Conversion:
        return convert_visual_genome(
            tensors, objects=object_names(objects), attributes=attribute_names(attributes)
        )

    if not is_visual_genome(tensors) and (objects or attributes):
        raise WeightsError(
            f"{file} is not a Visual Genome detector: only those take --objects and --attributes"
        )
    for bears_marks, what, convert in (
        (is_visual_genome, "a Visual Genome detector", visual_genome),
        (is_coco, "torchvision's fasterrcnn_resnet50_fpn_v2", lambda: convert_coco(tensors)),
        (is_face_resnet, "the FER2013 ResNet-18", lambda: convert_face_resnet(tensors)),
        (is_nanodet, "NanoDet-g", lambda: convert_nanodet(tensors)),
        (is_blazeface, "BlazeFace", lambda: convert_blazeface(tensors)),
        (is_resnet, "a ResNet of torchvision's", lambda: convert_resnet(tensors)),
    ):
        if bears_marks(tensors):
            try:
                return convert()
            except NotThis as problem:
                raise WeightsError(f"{file} looks like {what}, but it {problem}") from None
    first = ", ".join(sorted(tensors)[:3])
    raise WeightsError(f"{file} holds {first}, ...: expected {_KNOWN}")


def _own(file: Path, checkpoint: Checkpoint) -> tuple[Conversion, Header]:
    """A weights file of this program, such as a trained Expression-Net, taken as it is."""
    header = read_header(file)
    return (
        Conversion(
            kind=header.kind,
            name=file.stem,
            about=f"a weights file of this program ({header.source or header.kind})",
            settings=header.settings,
            tensors=checkpoint.tensors,
            used=set(checkpoint.tensors),
        ),
        header,
    )
