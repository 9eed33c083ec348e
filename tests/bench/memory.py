"""Photos that are in memory already: each stage alone, `Predictor`, the naive script, growth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch

from handler.predictor import Predictor
from handler.stimuli.selector import fit_colour
from handler.values.prediction import Refusal
from handler.values.runtimes import AUTO, VARIABLE
from tests.bench.meter import Clock, peak_mib, together
from tests.bench.naive import NaiveScript
from tests.bench.photos import of_megapixels
from tests.bench.plan import NAIVE, PREDICTOR, Archives
from tests.bench.results import Measurement

_CALLS = 8  # photos of a measurement of growth


def measure_stages(archives: Archives, photos: Sequence[bytes], repeat: int) -> list[Measurement]:
    """CPU time of each stage inside `Predictor`, one thread, batches as `Predictor` forms them."""
    predictor = load_predictor(archives.model, threads=1)
    decoded = _decoded(predictor, photos)
    batches = list(_batches(decoded, predictor.batch_size))
    selector = predictor.selector
    with torch.inference_mode():
        stimuli = [selector.select(batch) for batch in batches]

    def each(function: Callable[[Sequence[torch.Tensor]], object]) -> Callable[[], object]:
        return lambda: [function(batch) for batch in batches]

    def resize(batch: Sequence[torch.Tensor]) -> object:
        return [fit_colour(image, selector.config) for image in batch]

    stages: dict[str, Callable[[], object]] = {
        "decode": lambda: [predictor.decode(photo) for photo in photos],
        "resize": each(resize),
        "objects": each(selector.objects.select),
        "faces": each(selector.faces.select),
        "network": lambda: [predictor.network(one) for one in stimuli],
        PREDICTOR: lambda: predictor.predict(photos),
    }
    return _interleaved("stages", stages, threads=1, photos=len(photos), repeat=repeat)


def measure_predictor(
    archives: Archives, photos: Sequence[bytes], repeat: int, threads: int
) -> list[Measurement]:
    """`Predictor` beside the naive script, the same photos in turns."""
    predictor = load_predictor(archives.model, threads=threads)
    naive = NaiveScript(archives.baseline)
    return _interleaved(
        "predictor",
        {
            PREDICTOR: lambda: predictor.predict(photos),
            NAIVE: lambda: [naive.predict(photo) for photo in photos],
        },
        threads=threads,
        photos=len(photos),
        repeat=repeat,
    )


def add_processes(measurement: Measurement, model: Path, photos: Sequence[bytes]) -> None:
    """Measure `Predictor` in processes of one thread each that work at the same time.

    What a photo costs depends on whether the other cores are busy, so ways with several workers are
    compared with this.

    Args:
        measurement: Measurement that receives one repetition; its threads are the processes.
        model: Archive to score with.
        photos: Encoded photos of each process.
    """
    times = together(measurement.threads, _time_predictor, model, photos)
    measurement.cpu.append(sum(cpu for cpu, _ in times))
    measurement.wall.append(max(wall for _, wall in times))


def _time_predictor(model: Path, photos: Sequence[bytes]) -> tuple[float, float]:
    predictor = load_predictor(model, threads=1)
    predictor.predict(photos[: predictor.batch_size])
    with Clock() as clock:
        predictor.predict(photos)
    return clock.cpu, clock.wall


def peak_of_predictor(model: Path, photos: Sequence[bytes]) -> float:
    """Peak memory in MiB of a process that scores photos with `Predictor`; call it alone."""
    load_predictor(model, threads=1).predict(photos)
    return peak_mib()


def peak_of_naive(model: Path, photos: Sequence[bytes]) -> float:
    """Peak memory in MiB of a process that scores photos with the script; call it alone."""
    torch.set_num_threads(1)
    naive = NaiveScript(model)
    for photo in photos:
        naive.predict(photo)
    return peak_mib()


def measure_megapixels(
    archives: Archives, photos: Sequence[bytes], repeat: int, sizes: Iterable[float]
) -> list[Measurement]:
    """How the cost of a photo grows with its size: stages that see all pixels, and the whole."""
    predictor = load_predictor(archives.model, threads=1)
    naive = NaiveScript(archives.baseline)
    selector = predictor.selector
    found = []
    for size in sizes:
        scaled = [of_megapixels(photo, size) for photo in photos[:_CALLS]]
        decoded = _decoded(predictor, scaled)
        stages: dict[str, Callable[[], object]] = {
            "decode": partial(_each, predictor.decode, scaled),
            "faces": partial(selector.faces.select, decoded),
            "objects": partial(selector.objects.select, decoded),
            PREDICTOR: partial(predictor.predict, scaled),
            NAIVE: partial(_each, naive.predict, scaled),
        }
        found += _interleaved(
            "megapixels", stages, threads=1, photos=len(scaled), repeat=repeat, x=size
        )
    return found


def measure_batches(
    archives: Archives, photos: Sequence[bytes], repeat: int, sizes: Iterable[int]
) -> list[Measurement]:
    """How the cost of a photo depends on the number of photos in a forward pass, one thread."""
    found = []
    for size in sizes:
        predictor = load_predictor(archives.model, threads=1, batch_size=size)
        # Whole batches only: a smaller last one would be another measurement.
        some = list(photos) * -(-size // len(photos))
        some = some[: max(len(some) // size, 1) * size]
        stages: dict[str, Callable[[], object]] = {PREDICTOR: partial(predictor.predict, some)}
        found += _interleaved(
            "batch", stages, threads=1, photos=len(some), repeat=repeat, x=float(size)
        )
    return found


def measure_threads(
    archives: Archives, photos: Sequence[bytes], repeat: int, threads: int
) -> list[Measurement]:
    """What a photo costs with so many threads; call it alone."""
    predictor = load_predictor(archives.model, threads=threads)
    stages: dict[str, Callable[[], object]] = {PREDICTOR: partial(predictor.predict, photos)}
    return _interleaved(
        "threads", stages, threads=threads, photos=len(photos), repeat=repeat, x=float(threads)
    )


def _each(call: Callable[[bytes], object], photos: Sequence[bytes]) -> list[object]:
    return [call(photo) for photo in photos]


def _interleaved(
    section: str,
    stages: dict[str, Callable[[], object]],
    *,
    threads: int,
    photos: int,
    repeat: int,
    x: float | None = None,
) -> list[Measurement]:
    """Each stage in turn, ``repeat`` times, after once that does not count."""
    found = {name: Measurement(section, name, threads, photos, x=x) for name in stages}
    with torch.inference_mode():
        for number in range(repeat + 1):
            for name, function in stages.items():
                with Clock() as clock:
                    function()
                if number:
                    found[name].cpu.append(clock.cpu)
                    found[name].wall.append(clock.wall)
    return list(found.values())


def load_predictor(model: Path, *, threads: int, batch_size: int | None = None) -> Predictor:
    """`Predictor` with so many threads, and the runtime that the environment names."""
    torch.set_num_threads(threads)
    runtime = os.environ.get(VARIABLE, AUTO)
    return Predictor.load(model, threads=threads, batch_size=batch_size, runtime=runtime)


def _decoded(predictor: Predictor, photos: Iterable[bytes]) -> list[torch.Tensor]:
    decoded = [predictor.decode(photo) for photo in photos]
    refused = [one.reason for one in decoded if isinstance(one, Refusal)]
    if refused:
        raise SystemExit(f"a photo of the benchmark is refused: {refused[0]}")
    return [one for one in decoded if isinstance(one, torch.Tensor)]


def _batches(images: Sequence[torch.Tensor], size: int) -> Iterable[Sequence[torch.Tensor]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]
