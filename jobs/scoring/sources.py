"""The source of predictions: an archive in the worker's own process, or a running service.

A job knows its `ModelSource`, but not its kind. The driver asks the source for the identity of the
model, and workers open it. A source can be pickled, because workers are other processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from handler.archive.files import read_card
from handler.values.configs import NO_FACES
from handler.values.emotions import Wheel, wheel
from handler.values.errors import VeaError
from handler.values.prediction import ModelIdentity
from handler.values.runtimes import AUTO, choose_runtime
from jobs.scoring.scorer import Scores
from jobs.values.job import EndpointSettings, ScoreJob


class LoadPredictor(Protocol):
    """What `handler.predictor.Predictor.load` offers."""

    def __call__(self, path: Path, *, threads: int) -> Scores[Any]:
        """Read an archive; ``threads`` search for faces."""


@dataclass(frozen=True)
class OnDevice:
    """Reads an archive with `handler.predictor.Predictor`, for networks on one device.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        runtime: Requested runtime of the backbones.
        faces: Whether faces are looked for, if the model does so at all.
    """

    device: str = "cpu"
    runtime: str = AUTO
    faces: bool = True

    def __call__(self, path: Path, *, threads: int) -> Scores[Any]:
        """As `LoadPredictor`."""
        # Imported by workers only: a driver needs no torch.
        from handler.predictor import Predictor

        return Predictor.load(
            path,
            device=self.device,
            threads=threads,
            runtime=self.runtime,
            faces=self.faces,
        )


class ModelSource(Protocol):
    """A model that scores images."""

    def identify(self) -> tuple[ModelIdentity, Wheel]:
        """The model's identity and its emotions, without loading networks.

        Raises:
            VeaError: There is no such model.
        """

    def embedding_size(self) -> int:
        """Length of the model's fused feature.

        Raises:
            VeaError: There is no such model, or it does not give its fused feature.
        """

    def portable(self, model: ModelIdentity) -> ModelSource:
        """The same source for workers, which may run in another folder than the user.

        Args:
            model: Identity that every prediction must carry.
        """

    def open(self, *, threads: int) -> AbstractContextManager[Scores[Any]]:
        """Load the model, or connect to it, for the time of the context.

        Args:
            threads: Threads that compute in this process.

        Raises:
            VeaError: The model cannot be loaded or reached.
        """


@dataclass(frozen=True)
class ArchiveSource:
    """An archive that each worker loads.

    Attributes:
        path: The archive, a ``.mar`` file or a folder.
        load: Function that reads it.
    """

    path: Path
    load: LoadPredictor = OnDevice()

    def identify(self) -> tuple[ModelIdentity, Wheel]:
        """As `ModelSource.identify`; the archive's files are verified."""
        config, _, digest = read_card(self.path)
        on = self.load if isinstance(self.load, OnDevice) else OnDevice()
        runtime = choose_runtime(on.runtime, compiled=config.compiled, device=on.device)
        faces = on.faces and config.selector.faces.backend != NO_FACES
        detects = config.reasons is not None
        model = ModelIdentity(config.name, config.version, digest, runtime, faces, detects)
        return model, wheel(config.network.wheel)

    def embedding_size(self) -> int:
        """As `ModelSource.embedding_size`."""
        return read_card(self.path)[0].network.fused_size

    def portable(self, model: ModelIdentity) -> ArchiveSource:
        """As `ModelSource.portable`: the path is made absolute, and the runtime is chosen."""
        load = self.load
        if isinstance(load, OnDevice):  # a worker without it must not fall back to another
            load = replace(load, runtime=model.runtime)
        return replace(self, path=self.path.absolute(), load=load)

    @contextmanager
    def open(self, *, threads: int) -> Iterator[Scores[Any]]:
        """As `ModelSource.open`."""
        with _torch_threads(threads):
            yield self.load(self.path, threads=threads)


@dataclass(frozen=True)
class EndpointSource:
    """A running service that each worker asks.

    Attributes:
        settings: Address, model and patience.
    """

    settings: EndpointSettings

    def identify(self) -> tuple[ModelIdentity, Wheel]:
        """As `ModelSource.identify`: the service is asked about a tiny picture."""
        from jobs.scoring.endpoint import Endpoint

        return Endpoint(self.settings).identify()

    def embedding_size(self) -> int:
        """As `ModelSource.embedding_size`: services give none."""
        from jobs.scoring.endpoint import no_embeddings

        raise no_embeddings(self.settings.url)

    def portable(self, model: ModelIdentity) -> EndpointSource:
        """As `ModelSource.portable`: answers of any other model end the job."""
        file = self.settings.key_file
        settings = replace(self.settings, expected=model, key_file=file and file.absolute())
        return EndpointSource(settings)

    def open(self, *, threads: int) -> AbstractContextManager[Scores[Any]]:
        """As `ModelSource.open`."""
        from jobs.scoring.endpoint import Endpoint

        return Endpoint(self.settings).connect()


def source_of(job: ScoreJob, load: LoadPredictor | None = None) -> ModelSource:
    """The source that a job names.

    Args:
        job: Settings of the job.
        load: Function that reads an archive; `OnDevice` with the CPU if not given.

    Raises:
        VeaError: The job names neither an archive nor an endpoint, or both.
    """
    if job.endpoint is not None and job.model is None:
        return EndpointSource(job.endpoint)
    if job.model is not None and job.endpoint is None:
        return ArchiveSource(job.model, load or OnDevice())
    raise VeaError("a job needs either an archive or an endpoint to score with")


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Set torch's number of threads, on which the rounding of sums depends."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
