"""Scoring through a running service instead of a model in this process.

`EndpointScores` takes the place of `handler.predictor.Predictor`. A fetched image is sent at once,
while answers to earlier ones are pending, so that the service can always fill its batches. All rows
of a run are of one model: an answer of another model ends the job.

A failure of the service is attributed to an image only if the service failed twice with that image
alone, and has answered another image since. In a batch, the neighbours of such an image fail too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from handler.client import Client, Refused, RetryPolicy, Unavailable
from handler.client.answers import model_of, prediction_of
from handler.values.emotions import Wheel, wheel_of
from handler.values.errors import VeaError
from handler.values.limits import ImageLimits
from handler.values.prediction import EMPTY, ModelIdentity, Prediction, Refusal
from handler.values.probe_image import probe_image
from jobs.values.job import EndpointSettings
from jobs.values.tasks import Failure

_GREETING = 30.0  # seconds that a service may be away before the job
_TRY = 150.0  # longer than the service's own limit, so that the service reports it
_ALONE = 2
_KILLED = Failure(
    "predict", "killed", "the service broke down each time it worked on this image alone"
)


class ModelChanged(VeaError):
    """The endpoint serves another model than the run's; the message is one line for people."""


def no_embeddings(url: str) -> VeaError:
    """The error for a service that is asked for the network's fused feature."""
    return VeaError(
        f"{url} gives no embeddings: score with --model instead of --endpoint, or without "
        "--embeddings"
    )


class Endpoint:
    """A service that is asked for the predictions of a job.

    Args:
        settings: Address, model and patience.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self.url = settings.url

    def identify(self) -> tuple[ModelIdentity, Wheel]:
        """Ask which model answers.

        Raises:
            ModelChanged: The model is not the expected one.
            VeaError: No service answers.
        """
        with self._client(RetryPolicy(deadline=min(_GREETING, self._settings.patience))) as client:
            answer = client.predict(probe_image(), explain=True)  # which tells of a detector, too
        model = model_of(answer)
        self.require(model)
        try:
            return model, wheel_of(tuple(answer["probabilities"]))
        except ValueError as error:
            raise VeaError(f"{self._settings.url}: {error}") from None

    def require(self, model: ModelIdentity) -> None:
        """Raises: ModelChanged: ``model`` is not the expected one."""
        expected = self._settings.expected
        if expected is None:
            return
        if model.digest != expected.digest:
            raise ModelChanged(
                f"{self._settings.url} now answers with {model.name} {model.version} (digest "
                f"{model.digest[:12]}), but this run is of {expected.name} {expected.version} "
                f"({expected.digest[:12]}), and rows of two models are not mixed; finish the run "
                f"with --endpoint-version {expected.version} or with that archive as --model"
            )
        if model.faces != expected.faces:
            now, then = ("with", "off") if model.faces else ("without", "on")
            raise ModelChanged(
                f"{self._settings.url} now answers {now} faces, but this run was begun otherwise, "
                f"and its rows must be alike; start the service with --faces {then}"
            )
        if model.runtime != expected.runtime:
            raise ModelChanged(
                f"{self._settings.url} now answers with the runtime {model.runtime}, but this run "
                f"is of {expected.runtime}, and rows of two runtimes are not mixed; start the "
                f"service with VEA_RUNTIME={expected.runtime}"
            )

    @contextmanager
    def connect(self) -> Iterator[EndpointScores]:
        """Connect for a job; gives the `EndpointScores`."""
        model, wheel = self.identify()
        with (
            self._client(RetryPolicy(deadline=self._settings.patience)) as client,
            self._client(
                RetryPolicy(deadline=self._settings.patience, max_server_errors=_ALONE)
            ) as alone,
        ):
            scores = EndpointScores(
                self, client, alone, model, wheel, concurrency=self._settings.concurrency
            )
            try:
                yield scores
            finally:
                # Once its connections are closed, a request in flight is not sent again.
                client.close()
                scores.close()

    def _client(self, policy: RetryPolicy) -> Client:
        return Client(
            self._settings.url,
            model=self._settings.model,
            version=self._settings.version,
            key=None if self._settings.key_file else self._settings.key,
            key_file=self._settings.key_file,
            timeout=_TRY,
            concurrency=self._settings.concurrency,
            policy=policy,
            traceparent=self._settings.traceparent,
        )


@dataclass(frozen=True)
class PendingAnswer:
    """An encoded image that was sent to the service, and its future answer."""

    data: bytes
    answer: Future[Prediction | Refusal]

    @property
    def nbytes(self) -> int:
        """Size of the encoded image, in bytes."""
        return len(self.data)


class EndpointScores:
    """The `jobs.scoring.scorer.Scores` of a service.

    Args:
        endpoint: Settings of the service, whose model is required in each answer.
        client: Client for many images at a time.
        alone: Client for one image that has to be tested for whether it does harm.
        model: Identity of the model that answers.
        wheel: Emotion wheel of the model.
        concurrency: Images that are sent at a time.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client: Client,
        alone: Client,
        model: ModelIdentity,
        wheel: Wheel,
        *,
        concurrency: int,
    ) -> None:
        self._endpoint = endpoint
        self._client = client
        self._alone = alone
        self.model = model
        self.wheel = wheel
        self.batch_size = concurrency
        self.limits = ImageLimits()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="vea-ask")
        self._under_way = 0
        self._quiet = False
        self._changed = threading.Condition()

    def close(self) -> None:
        """Cancel what is in flight."""
        with self._changed:
            self._quiet = False
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)

    def decode(self, data: bytes) -> PendingAnswer | Refusal:
        """Send an image without waiting for the answer; called in several threads."""
        if not data:  # HTTP does not distinguish an empty body from none: answer as the model would
            return EMPTY
        return PendingAnswer(data, self._pool.submit(self._ask, data))

    def predict_decoded(
        self,
        images: Sequence[PendingAnswer | Refusal],
        *,
        embeddings: bool = False,
        detect: bool = False,
    ) -> list[Prediction | Refusal | Failure]:
        """One answer for each image, in order; it has `Prediction.detected` in any case.

        Raises:
            VeaError: The service is away, its model is not the run's, or embeddings are asked for.
        """
        if embeddings:
            raise no_embeddings(self._endpoint.url)
        return [image if isinstance(image, Refusal) else self._answer(image) for image in images]

    def _answer(self, pending: PendingAnswer) -> Prediction | Refusal | Failure:
        try:
            return pending.answer.result()
        except Unavailable as error:
            if not error.server_error:
                raise
        return self._ask_alone(pending.data)

    def _ask(self, data: bytes) -> Prediction | Refusal:
        with self._changed:
            self._changed.wait_for(lambda: not self._quiet)
            self._under_way += 1
        try:
            return self._read(self._client, data)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _ask_alone(self, data: bytes) -> Prediction | Refusal | Failure:
        """Send one image while this job has no other image at the service."""
        with self._changed:
            self._quiet = True
            self._changed.wait_for(lambda: self._under_way == 0)
        try:
            return self._read(self._alone, data)
        except Unavailable as error:
            if not error.server_error:
                raise
            self._alone.predict(probe_image())  # raises if the service itself is broken
            return _KILLED
        finally:
            with self._changed:
                self._quiet = False
                self._changed.notify_all()

    def _read(self, client: Client, data: bytes) -> Prediction | Refusal:
        try:
            # Rows hold the objects' number and optionally boxes, which come with explanations.
            answer = client.predict(data, explain=True)
        except Refused as refused:
            return Refusal(refused.status, refused.reason)
        self._endpoint.require(model_of(answer))
        return prediction_of(answer)
