"""Selection of stimuli: photos -> shards, in this process or in several.

Photos are decoded and selected in small batches, and some dozens of them become a shard. A process
of the pool has a selector of its own, built from the same settings and weights, and ends with the
process that started it, however that ends.
"""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from math import ceil
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from handler.images import ImageRefused, decode
from handler.stimuli.selector import StimuliSelector
from handler.stimuli.stimuli import Stimuli
from handler.values.configs import SelectorConfig
from train.stimuli.shards import CacheError, ShardFolder

SHARD_SIZE = 64  # photos; a killed process loses at most that many
_PATIENCE = 0.5  # seconds between two reports of the pool's progress


@dataclass(frozen=True)
class SelectorFiles:
    """Files that a selector is built from, beside its settings and weights.

    Attributes:
        landmarks: Path of dlib's 5-point landmark predictor, for the face backends of dlib.
        face_detector: Path of the face detector's file, for the face backends that have one.
    """

    landmarks: Path | None
    face_detector: Path | None = None

    def build(self, config: SelectorConfig, *, face_threads: int) -> StimuliSelector:
        """A selector with these files and random weights."""
        return StimuliSelector(
            config,
            landmarks=self.landmarks,
            face_detector=self.face_detector,
            face_threads=face_threads,
        )


@dataclass(frozen=True)
class Photo:
    """A photo to be selected: its file, and the SHA-256 that the file must have."""

    key: str
    path: Path


@dataclass(frozen=True)
class Task:
    """Settings of a selection, which every process of a pool gets."""

    config: SelectorConfig
    files: SelectorFiles
    shards: ShardFolder
    colour: bool
    device: str


Unread = dict[str, str]  # SHA-256 as listed -> reason why the file could not be read this time


def select_all(
    photos: Sequence[Photo],
    selector: StimuliSelector,
    task: Task,
    *,
    workers: int,
    shard_size: int = SHARD_SIZE,
    on_photos: Callable[[int], None],
) -> Unread:
    """Select photos and keep the stimuli as shards.

    Args:
        photos: Photos, all different.
        selector: Selector of this process, whose weights the pool gets.
        task: Settings and place of the stimuli.
        workers: Number of processes; with 1 the work is done in this one.
        shard_size: Largest number of photos in a shard.
        on_photos: Callback with the number of photos done.

    Returns:
        Photos whose file was missing or had changed; they are recorded nowhere.

    Raises:
        CacheError: A process of the pool died.
    """
    size = min(shard_size, max(ceil(len(photos) / workers), 1))
    jobs = [photos[start : start + size] for start in range(0, len(photos), size)]
    if workers > 1 and len(jobs) > 1:
        return _in_pool(jobs, selector, task, workers=min(workers, len(jobs)), on_photos=on_photos)
    unread: Unread = {}
    done = 0

    def count(photos_done: int) -> bool:
        nonlocal done
        done += photos_done
        on_photos(done)
        return True

    try:
        selector.to(task.device)
        for job in jobs:
            unread |= _select_shard(job, selector, task, count)
    finally:
        selector.cpu()
    return unread


def _select_shard(
    photos: Sequence[Photo],
    selector: StimuliSelector,
    task: Task,
    go_on: Callable[[int], bool],
) -> Unread:
    """Make one shard. It ends early where ``go_on``, called after each batch, returns False."""
    keys: list[str] = []
    batches: list[dict[str, torch.Tensor]] = []
    refused: dict[str, str] = {}
    unread: Unread = {}
    source = selector.objects
    step = source.cpu_batch if task.device == "cpu" else source.gpu_batch
    for start in range(0, len(photos), step):
        batch = photos[start : start + step]
        images = []
        for photo in batch:
            try:
                data = photo.path.read_bytes()
                if hashlib.sha256(data).hexdigest() != photo.key:
                    unread[photo.key] = f"{photo.path} has changed since it was listed"
                    continue
                images.append(decode(data))
                keys.append(photo.key)
            except ImageRefused as refusal:
                refused[photo.key] = refusal.reason
            except OSError as error:  # the file has gone, or may not be read
                unread[photo.key] = str(error)
        if images:
            with torch.inference_mode():
                stimuli = selector.select(images)
            batches.append(pack(stimuli, count=selector.objects.count, colour=task.colour))
        if not go_on(len(batch)):
            break
    if keys or refused:
        names = batches[0] if batches else {}
        tensors = {name: torch.cat([batch[name] for batch in batches]) for name in names}
        task.shards.write(keys, tensors, refused)
    return unread


def pack(stimuli: Stimuli, *, count: int, colour: bool) -> dict[str, torch.Tensor]:
    """Stimuli of B photos as the tensors that are kept: features in half precision, N places each.

    Args:
        stimuli: Stimuli of the photos, as selected.
        count: Number N of objects; missing ones are masked out.
        colour: Whether the square colour image is kept too.
    """
    objects, faces = stimuli.objects, stimuli.faces
    of_objects = {
        "features": objects.features.half(),
        "boxes": objects.boxes.float(),
        "scores": objects.scores.float(),
        "labels": objects.labels,
        "mask": objects.mask,
    }
    if objects.attributes is not None:
        of_objects["attributes"] = objects.attributes
    tensors = {name: _widen(value, count) for name, value in of_objects.items()}
    tensors |= {"faces": faces.crops, "face_counts": faces.counts}
    if colour:
        tensors["colour"] = stimuli.colour
    return {name: value.cpu() for name, value in tensors.items()}


def _widen(value: torch.Tensor, count: int) -> torch.Tensor:
    """BxMx... -> BxNx..., zeros behind what is there."""
    wide = value.new_zeros(len(value), count, *value.shape[2:])
    wide[:, : value.shape[1]] = value
    return wide


# --- several processes --------------------------------------------------------------------------


def _in_pool(
    jobs: Sequence[Sequence[Photo]],
    selector: StimuliSelector,
    task: Task,
    *,
    workers: int,
    on_photos: Callable[[int], None],
) -> Unread:
    context = get_context("spawn")  # a forked process would inherit torch's threads half alive
    counted, stop = context.Value("q", 0), context.Event()
    threads = max(torch.get_num_threads() // workers, 1)
    unread: Unread = {}
    with tempfile.TemporaryDirectory(prefix="vea-") as scratch:
        weights = Path(scratch, "objects.safetensors")
        state = selector.objects.state_dict()
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, weights)
        pool = ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_start,
            initargs=(task, weights, threads, counted, stop),
        )
        try:
            pending = {pool.submit(_work, job) for job in jobs}
            while pending:
                done, pending = wait(pending, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
                for finished in done:
                    unread |= finished.result()
                on_photos(counted.value)
        except BrokenProcessPool:
            raise CacheError(
                "a process that selects stimuli ended (out of memory?): start the same command "
                "again, with fewer workers; what was selected is kept"
            ) from None
        finally:
            stop.set()  # after an error or Ctrl-C the others end with the batch they are at
            pool.shutdown(cancel_futures=True)
    return unread


_worker: dict[str, Any] = {}  # of a process of the pool: what `_start` made


def _start(task: Task, weights: Path, threads: int, counted: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    selector = task.files.build(task.config, face_threads=threads)
    selector.objects.load_state_dict(load_file(weights))
    _worker.update(selector=selector.to(task.device), task=task, counted=counted, stop=stop)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(job: Sequence[Photo]) -> Unread:
    def go_on(photos: int) -> bool:
        with _worker["counted"].get_lock():
            _worker["counted"].value += photos
        return not _worker["stop"].is_set()

    return _select_shard(job, _worker["selector"], _worker["task"], go_on)
