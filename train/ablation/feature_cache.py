"""Features of the frozen backbones for every photo, computed once for all rows of all studies.

Objects and faces come from the stimuli cache. Global-Net's backbone computes up to four features
of each picture: in colour and as luminance alone (Y of YCbCr, in all three channels), each as it is
and mirrored. They are stored beside the stimuli, in shards of the same kind, so that a second
study, or one that was killed, computes only what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torchvision.transforms.v2 import functional as transforms

from handler.folding import fold_batch_norms
from handler.network import StimuliAwareNetwork
from handler.organism.expression_net import ExpressionNet
from handler.organism.global_net import GlobalNet
from handler.stimuli.stimuli import Stimuli
from handler.values.configs import SelectorConfig
from train.ablation.features import FeatureSet
from train.fitting.builders import build_network, build_selector, selector_files
from train.fitting.data import StimuliDataset
from train.recipes.recipe import Recipe
from train.stimuli.cache import StimuliCache, build_cache
from train.stimuli.shards import CacheError, ShardFolder

Progress = Callable[[str, int, int], None]
SPACES = ("rgb", "y")
_TOLD = {"rgb": "pictures", "y": "luminance"}  # by colour space, to whoever waits
_BATCH = 32  # photos in a backbone's batch
_SHARD = 256  # photos in a shard; a killed process loses at most that many
_READ = 512  # photos whose stimuli are unpacked together


def build_features(
    recipe: Recipe,
    splits: Mapping[str, pd.DataFrame],
    *,
    count: int,
    cache_root: Path,
    spaces: Collection[str] = SPACES,
    mirrored: bool = True,
    workers: int | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> dict[str, FeatureSet]:
    """Compute the missing features, and load all of them.

    Args:
        recipe: Recipe that gives the selector, the frozen parts and the initial weights.
        splits: Tables by the name of the split, with columns ``path``, ``label`` and ``sha256``.
        count: Number N of objects of a photo.
        cache_root: Folder of the stimuli caches.
        spaces: Colour spaces that pictures are seen in, some of `SPACES`.
        mirrored: Whether pictures are seen mirrored, too.
        workers: Number of processes that select stimuli.
        on_progress: Callback with (what, photos done, photos in all).

    Returns:
        Feature sets by the name of the split; photos that cannot be read are left out.

    Raises:
        RecipeError, WeightsMissing, CacheError: See their messages.
    """
    objects = {**recipe.selector.objects, "count": count}
    recipe = replace(recipe, selector=replace(recipe.selector, objects=objects))
    files = selector_files(recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # as training does, should weights be random
        selector = build_selector(recipe, files)
        network = build_network(recipe, selector).eval().requires_grad_(False)
    global_net = network.global_net
    assert global_net is not None  # `full_model` has seen to it
    settings = {**_of_colour(selector.config), "backbone": global_net.backbone.name}
    identity = _identity(settings, global_net)
    fold_batch_norms(global_net)  # only after its weights have been identified
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    sets = {}
    for split, table in splits.items():

        def tell(what: str, done: int, total: int, split: str = split) -> None:
            on_progress(f"{what} {split}", done, total)

        cache = build_cache(
            table,
            selector,
            cache_root,
            files=files,
            colour=False,  # looked at once, here
            workers=max(workers or 1, 1),
            on_progress=partial(tell, "stimuli"),
        )
        dataset = StimuliDataset(cache, table["path"], table["label"].tolist(), selector.config)
        if not len(dataset):
            raise CacheError(f"no photo of the split '{split}' could be read")
        sets[split] = _feature_set(
            dataset,
            [table["sha256"].iloc[row] for row in dataset.rows],
            network,
            identity,
            cache_root,
            spaces=spaces,
            mirrored=mirrored,
            frozen_faces=recipe.initial["expression"] != "random",
            on_progress=tell,
        )
    return sets


def luminance(images: torch.Tensor) -> torch.Tensor:
    """Y of YCbCr (ITU-R BT.601) in all three channels: uint8, Bx3xHxW -> the same."""
    return transforms.rgb_to_grayscale(images, num_output_channels=3)


def colour_features(
    global_net: GlobalNet, colour: torch.Tensor, *, space: str, mirrored: bool
) -> torch.Tensor:
    """v_g of pictures in one colour space.

    Args:
        global_net: Global-Net with a frozen backbone.
        colour: Pictures, uint8, Bx3xSxS.
        space: Colour space, one of `SPACES`.
        mirrored: Whether the pictures are seen mirrored, too.

    Returns:
        half, BxVxd1: V is 2, the second of the mirrored picture, or 1.
    """
    device = global_net.backbone.mean.device
    view = luminance(colour) if space == "y" else colour
    sides = (view, view.flip(-1)) if mirrored else (view,)
    return torch.stack([global_net(side.to(device))[0].half().cpu() for side in sides], dim=1)


def face_features(net: ExpressionNet, faces: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """v_e of faces: uint8, Bx1x48x48, and who has one, bool, B -> half, Bxd3."""
    device = next(net.parameters()).device
    return net(faces.to(device), mask.to(device)).half().cpu()


def _feature_set(
    dataset: StimuliDataset,
    digests: Sequence[str],
    network: StimuliAwareNetwork,
    identity: str,
    cache_root: Path,
    *,
    spaces: Collection[str],
    mirrored: bool,
    frozen_faces: bool,
    on_progress: Progress,
) -> FeatureSet:
    global_net, expression_net = network.global_net, network.expression_net
    assert global_net is not None  # `full_model` has seen to it
    assert expression_net is not None
    cache, rows = dataset.cache, dataset.rows
    colour: dict[str, torch.Tensor] = {}
    for space in SPACES:
        if space not in spaces:
            continue

        def see(positions: list[int], space: str = space) -> dict[str, torch.Tensor]:
            pictures = dataset.__getitems__(positions)[0].colour
            return {space: colour_features(global_net, pictures, space=space, mirrored=mirrored)}

        sides = "both sides" if mirrored else "one side"
        seen = hashlib.sha256(f"{identity} {space} {sides}".encode()).hexdigest()[:20]
        folder = _folder(cache_root, seen, "v_g of frozen backbones")
        colour |= _cached(folder, digests, see, partial(on_progress, _TOLD[space]))
    made_by = [cache.folder.name, identity]
    objects = _read_stimuli(cache, rows, on_progress)
    faces, face_mask = objects.pop("faces"), objects.pop("face_mask")
    if frozen_faces:
        identity = _identity({"stimuli": cache.folder.name}, expression_net)
        folder = _folder(cache_root, identity, "v_e of frozen trunks")
        crops = faces
        faces = _cached(
            folder,
            digests,
            lambda p: {"faces": face_features(expression_net, crops[p], face_mask[p])},
            partial(on_progress, "faces"),
        )["faces"]
        made_by.append(identity)
    return FeatureSet(
        labels=dataset.labels[rows],
        digests=digests,
        colour=colour,
        objects=objects["features"],
        object_mask=objects["mask"],
        faces=faces,
        face_mask=face_mask,
        identity="+".join(made_by),
    )


def _read_stimuli(
    cache: StimuliCache, rows: Sequence[int], on_progress: Progress
) -> dict[str, torch.Tensor]:
    """Objects and faces of all rows, copied in parts, as two copies need too much memory."""
    tensors: dict[str, torch.Tensor] = {}
    for start in range(0, len(rows), _READ):
        stimuli: Stimuli = cache.stimuli(rows[start : start + _READ])
        part = {
            "features": stimuli.objects.features.half(),  # as they are kept on disk
            "mask": stimuli.objects.mask,
            "faces": stimuli.faces.crops,
            "face_mask": stimuli.faces.mask,
        }
        for name, value in part.items():
            if name not in tensors:
                tensors[name] = value.new_empty(len(rows), *value.shape[1:])
            tensors[name][start : start + len(value)] = value
        on_progress("loading", min(start + _READ, len(rows)), len(rows))
    return tensors


def _cached(
    folder: ShardFolder,
    digests: Sequence[str],
    compute: Callable[[list[int]], dict[str, torch.Tensor]],
    on_progress: Callable[[int, int], None],
) -> dict[str, torch.Tensor]:
    """Features of all photos; those that the folder lacks are computed and stored."""
    known = folder.index().places
    first = {digest: position for position, digest in enumerate(digests) if digest not in known}
    missing = sorted(first.values())
    for start in range(0, len(missing), _SHARD):
        positions = missing[start : start + _SHARD]
        parts = []
        with torch.inference_mode():
            for place in range(0, len(positions), _BATCH):
                parts.append(compute(positions[place : place + _BATCH]))
                done = len(digests) - len(missing) + start + min(place + _BATCH, len(positions))
                on_progress(done, len(digests))
        computed = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        folder.write([digests[p] for p in positions], computed, {})
    return _gather(folder, digests)


def _gather(folder: ShardFolder, digests: Sequence[str]) -> dict[str, torch.Tensor]:
    places = folder.index().places
    of_shard: dict[Path, list[tuple[int, int]]] = {}
    for position, digest in enumerate(digests):
        path, row = places[digest]
        of_shard.setdefault(path, []).append((position, row))
    tensors: dict[str, torch.Tensor] = {}
    for path, pairs in of_shard.items():
        positions, rows = torch.tensor(pairs).T
        for name, value in folder.open(path).items():
            if name not in tensors:
                tensors[name] = value.new_empty(len(digests), *value.shape[1:])
            tensors[name][positions] = value[rows]
    return tensors


def _folder(root: Path, identity: str, what: str) -> ShardFolder:
    return ShardFolder(root / identity, fingerprint=identity, description={"holds": what})


def _of_colour(selector: SelectorConfig) -> dict[str, Any]:
    settings = asdict(selector)
    return {name: settings[name] for name in ("size", "fit", "resize")}


def _identity(settings: Mapping[str, Any], part: nn.Module) -> str:
    """Digest of what the features depend on: settings and weights of the frozen part."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    digest.update(repr(part).encode())
    for name, tensor in sorted(part.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:20]
