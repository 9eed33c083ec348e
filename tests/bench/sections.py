"""The sections of the benchmark, each measured in processes of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import jobs, memory
from tests.bench.meter import alone
from tests.bench.photos import BUCKET, RESULTS, photos_of, upload
from tests.bench.plan import NAIVE, PREDICTOR, Archives, Plan
from tests.bench.results import Measurement
from tests.bench.serving import measure_serving
from tests.bench.start import measure_starts
from tests.bench.storage import measure_storage
from vea.demo.embedded_s3 import S3Server, embedded_s3

SECTIONS = ("stages", "predictor", "jobs", "serving", "start", "growth")


class Bench:
    """The sections; each method gives the measurements of one.

    Args:
        plan: How much is measured.
        archives: Models that are compared.
        folder: Folder of the photos.
        threads: Numbers of threads, or of workers with one thread each.
    """

    def __init__(
        self, plan: Plan, archives: Archives, folder: Path, threads: Sequence[int]
    ) -> None:
        self._plan = plan
        self._archives = archives
        self._folder = folder
        self._threads = sorted(set(threads))
        self._photos = photos_of(folder, plan.memory)

    def measure(self, section: str) -> list[Measurement]:
        """The measurements of the section with this name."""
        found: list[Measurement] = getattr(self, f"_{section}")()
        return found

    def _stages(self) -> list[Measurement]:
        repeat = self._plan.repeat

        def around(server: S3Server) -> list[Measurement]:
            upload(server, self._photos, lists=())
            places = [f"s3://{BUCKET}/photos/{n:06d}.jpg" for n in range(len(self._photos))]
            model = self._archives.model
            return alone(measure_storage, model, places, repeat, server.environment)

        found = _with_s3(around)
        return found + alone(memory.measure_stages, self._archives, self._photos, repeat)

    def _predictor(self) -> list[Measurement]:
        found: list[Measurement] = []
        for threads in self._threads:
            found += alone(
                memory.measure_predictor, self._archives, self._photos, self._plan.repeat, threads
            )
        archives = self._archives
        peaks = {
            PREDICTOR: alone(memory.peak_of_predictor, archives.model, self._photos),
            NAIVE: alone(memory.peak_of_naive, archives.baseline, self._photos),
        }
        for one in found:
            one.peak_mib = peaks[one.name] if one.threads == 1 else None
        return found

    def _jobs(self) -> list[Measurement]:
        lengths = (self._plan.short, self._plan.loop, self._plan.long)
        photos = photos_of(self._folder, max(lengths))

        def measure(server: S3Server) -> list[Measurement]:
            return jobs.measure_jobs(
                self._plan,
                upload(server, photos, lists=lengths),
                self._archives,
                self._photos,
                workers=self._threads,
                environment=server.environment,
            )

        return _with_s3(measure)

    def _serving(self) -> list[Measurement]:
        photos = photos_of(self._folder, self._plan.memory * 4)
        found: list[Measurement] = []
        for workers in self._threads:
            found += alone(
                measure_serving, self._archives.model, photos, self._plan.repeat, workers
            )
        return found

    def _start(self) -> list[Measurement]:
        with tempfile.TemporaryDirectory(prefix="vea-bench-") as folder:
            photo = Path(folder, "photo.jpg")
            photo.write_bytes(self._photos[0])
            return measure_starts(self._archives.model, photo, self._plan.repeat)

    def _growth(self) -> list[Measurement]:
        plan, repeat = self._plan, self._plan.fewer
        given = (self._archives, self._photos, repeat)
        found = alone(memory.measure_megapixels, *given, plan.megapixels)
        found += alone(memory.measure_batches, *given, plan.batches)
        for threads in range(1, max(os.cpu_count() or 1, *self._threads) + 1):
            found += alone(memory.measure_threads, *given, threads)
        photos = photos_of(self._folder, max(plan.lists))

        def lists(server: S3Server) -> list[Measurement]:
            return jobs.measure_list_lengths(
                upload(server, photos, lists=plan.lists),
                self._archives.model,
                repeat=repeat,
                workers=max(self._threads),
                environment=server.environment,
            )

        return found + _with_s3(lists)


def _with_s3(measure: Callable[[S3Server], list[Measurement]]) -> list[Measurement]:
    with (
        tempfile.TemporaryDirectory(prefix="vea-bench-") as folder,
        embedded_s3(Path(folder), buckets=[BUCKET, RESULTS]) as server,
    ):
        return measure(server)
