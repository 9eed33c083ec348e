"""One model of several that were trained apart: each branch from the last model that has it.

Branches learn at different speeds: Semantic-Net sees frozen features, for which an epoch is a
matter of seconds, Global-Net a deep network from pixels. Trained apart, each gets the epochs that
it needs. Eq. 13 adds what the branches say, so their columns of W stand side by side; then each
branch gets its temperature on the validation split, as at the end of any training
(`train/calibration.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from handler.archive import (
    FACE_DETECTOR,
    LANDMARKS,
    ArchiveConfig,
    LoadedArchive,
    load_archive,
    model_folder,
    needs_face_detector,
    write_model_folder,
)
from handler.errors import VeaError
from handler.network import StimuliAwareNetwork
from train.calibration import Calibration, calibrate
from train.data import StimuliDataset, validation_loader
from train.datasets.reading import read_dataset
from train.stimuli_cache import SelectorFiles, build_cache

Progress = Callable[[str, int, int], None]
_BRANCHES = ("global_net", "semantic_net", "expression_net")
_BATCH = 32


class JoinError(VeaError):
    """The models do not fit together; the message is one line for people."""


@dataclass(frozen=True)
class Joined:
    """What came of it.

    Attributes:
        model: the model folder.
        calibration: of the branches, on the validation split.
    """

    model: Path
    calibration: Calibration


def join(
    models: Sequence[Path],
    data: Path,
    folder: Path,
    *,
    cache_root: Path,
    workers: int | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> Joined:
    """Join models and calibrate what they come to.

    Args:
        models: archives, folders or ``.mar``; they must select the same stimuli.
        data: a data set in any layout, for its validation split.
        folder: where the model is written.
        cache_root: where stimuli caches are kept.
        workers: processes that select stimuli.
        on_progress: called while photos are hashed and stimuli selected.

    Raises:
        JoinError: there are fewer than two, or they do not fit together.
        ArchiveError, DatasetError, CacheError: as their messages say.
    """
    if len(models) < 2:
        raise JoinError("name two models or more: each branch is taken from the last that has it")
    archives = [load_archive(path) for path in models]
    for path, archive in zip(models[1:], archives[1:], strict=True):
        _check_same_stimuli(archives[0], archive, f"{models[0]} and {path}")
    network = join_networks([archive.network for archive in archives])
    selector = archives[0].selector
    table = read_dataset(
        data, network.wheel, on_progress=lambda done, total: on_progress("photos", done, total)
    )
    rows = table.split("val")
    with model_folder(models[0]) as files:
        detector = files / FACE_DETECTOR if needs_face_detector(archives[0].config) else None
        cache = build_cache(
            rows,
            selector,
            cache_root,
            files=SelectorFiles(files / LANDMARKS, detector),
            colour=True,
            workers=max(workers or 1, 1),
            on_progress=lambda done, total: on_progress("stimuli val", done, total),
        )
        seen = StimuliDataset(cache, rows["path"], rows["label"], selector.config)
        calibration = calibrate(network, validation_loader(seen, batch_size=_BATCH))
        card = {
            "joined": [_origin(archive) for archive in archives],
            "calibration": asdict(calibration),
        }
        write_model_folder(
            folder,
            config=ArchiveConfig(archives[-1].config.name, "0", network.config, selector.config),
            network=network,
            selector=selector,
            landmarks=files / LANDMARKS,
            face_detector=detector,
            card={"training": card},
        )
    return Joined(folder, calibration)


def join_networks(networks: Sequence[StimuliAwareNetwork]) -> StimuliAwareNetwork:
    """A network of the branches of several, each from the last that has it; not calibrated.

    Raises:
        JoinError: their wheels differ.
    """
    wheels = {network.config.wheel for network in networks}
    if len(wheels) > 1:
        raise JoinError(f"they tell different emotions: {', '.join(sorted(wheels))}")
    config = networks[-1].config
    givers: dict[str, StimuliAwareNetwork] = {}
    for network in networks:
        theirs = network.config
        if network.global_net is not None:
            config = replace(config, global_backbone=theirs.global_backbone)
        if network.semantic_net is not None:
            config = replace(
                config, semantic=theirs.semantic, object_features=theirs.object_features
            )
        if network.expression_net is not None:
            config = replace(config, expression_width=theirs.expression_width)
        givers |= dict.fromkeys(_branches(network), network)
    joined = StimuliAwareNetwork(config).eval().requires_grad_(False)
    columns = dict(zip(_branches(joined), joined.response.columns(), strict=True))
    for name in _branches(joined):
        giver = givers[name]
        getattr(joined, name).load_state_dict(getattr(giver, name).state_dict())
        own = dict(zip(_branches(giver), giver.response.columns(), strict=True))
        columns[name].copy_(own[name])
    # How frequent each emotion is: all have learned it, and it counts once.
    sources = {id(giver): giver for giver in givers.values()}.values()
    biases = [source.response.classifier.bias.detach() for source in sources]
    joined.response.classifier.bias.copy_(torch.stack(biases).mean(dim=0))
    return joined


def _branches(network: StimuliAwareNetwork) -> list[str]:
    """Names of the branches that a network has, in the order of its columns."""
    return [name for name in _BRANCHES if getattr(network, name) is not None]


def _check_same_stimuli(first: LoadedArchive, other: LoadedArchive, which: str) -> None:
    ours, theirs = first.selector, other.selector
    if asdict(ours.config) != asdict(theirs.config):
        raise JoinError(f"{which} select stimuli by different settings")
    tensors = theirs.objects.state_dict()
    for name, value in ours.objects.state_dict().items():
        if not torch.equal(value, tensors[name]):
            raise JoinError(f"{which} select objects by different weights")


def _origin(archive: LoadedArchive) -> dict[str, Any]:
    """What is known of a model that was joined."""
    return {
        "branches": _branches(archive.network),
        "digest": archive.digest,
        "training": archive.card.get("training"),
    }
